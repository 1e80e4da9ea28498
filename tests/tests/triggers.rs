//! Triggers on the real binary: they fire while a process serves, survive its loss, and say what became of the times
//! that were missed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use handshake_core::Timestamp;
use handshake_tests::binary::{Finished, Project, Running};
use rustix::process::Signal;
use serde_json::Value;

/// Far longer than anything here takes, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);
const SECOND: i64 = 1_000_000;

/// Each second; `name` also says what happens to missed times.
fn tick(project: &Project, missed: &str) -> String {
    let file = format!("tick-{missed}.yaml");
    let text = format!(
        "name: tick {missed}\ntrigger: {{ every: 1s, missed: {missed} }}\ninputs: {{ scheduled_at: {{ type: string }}, \
         who: {{ type: string, default: all }} }}\nsteps:\n  - {{ id: nap, sleep: 1ms }}\n"
    );
    project.write(&file, text);
    file
}

fn serve(project: &Project) -> Running {
    let mut serving = project.start(&["serve"]);
    serving.wait_for("serves");
    serving
}

/// Asks until the answer is there.
fn wait_for<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The times for which a workflow's jobs ran to their end, microseconds; no order.
fn completed(project: &Project, workflow: &str) -> Vec<i64> {
    let listed = project.run(&["jobs", "list", "--limit", "1000", "--output", "json"]).success().json();
    let jobs = listed["jobs"].as_array().unwrap().iter();
    let jobs = jobs.filter(|job| job["protocol_id"] == workflow && job["state"] == "completed");
    jobs.map(|job| micros(&job["job_inputs"]["scheduled_at"])).collect()
}

fn micros(time: &Value) -> i64 {
    Timestamp::parse(time.as_str().unwrap()).unwrap().micros()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn says(result: &Finished, code: i32, texts: &[&str]) {
    assert_eq!(result.code, code, "{result:?}");
    let said = format!("{}{}", result.stdout, result.stderr);
    for text in texts {
        assert!(said.contains(text), "`{text}` is missing: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn triggers_fire_again_after_their_host_was_killed_and_fire_no_time_twice() {
    let project = Project::new();
    let serving = serve(&project);
    for missed in ["once", "all"] {
        let added = project.run(&["triggers", "add", &tick(&project, missed), "-i", "who=me"]);
        let name = format!("tick-{missed}");
        says(
            &added,
            0,
            &[&name, "every 1s", "times at which nobody serves", if missed == "all" { "each" } else { "one run" }],
        );
        assert!(!added.stderr.contains("nobody serves now"), "{added:?}");
    }
    for workflow in ["tick once", "tick all"] {
        wait_for("firing", || (completed(&project, workflow).len() >= 2).then_some(()));
    }
    serving.kill();

    // Commands that only look fire nothing.
    let listed = project.run(&["triggers", "list"]);
    says(&listed, 0, &["tick-once", "tick-all", "every 1s", "fires only while a process serves: `handshake serve`"]);
    let before: Vec<_> = ["tick once", "tick all"].iter().map(|workflow| completed(&project, workflow)).collect();
    let shown = |name: &str| project.run(&["triggers", "show", name, "--output", "json"]).success().json();
    let waits_for = micros(&shown("tick-all")["next_at"]).max(micros(&shown("tick-once")["next_at"]));
    assert!(shown("tick-all")["last_job"].is_string() && shown("tick-all")["last_error"].is_null());
    wait_for("missing some times", || (now() > waits_for + 4 * SECOND).then_some(()));

    let started = now();
    let serving = serve(&project);
    for workflow in ["tick once", "tick all"] {
        let after = || completed(&project, workflow).iter().filter(|time| **time > started).count() >= 2;
        wait_for("firing again", || after().then_some(()));
    }
    let stopped = now();
    serving.signal(Signal::INT);
    says(&serving.finish(), 0, &[]);

    for (workflow, before) in ["tick once", "tick all"].into_iter().zip(before) {
        let times = completed(&project, workflow);
        let distinct: BTreeSet<_> = times.iter().copied().collect();
        assert_eq!(distinct.len(), times.len(), "a time fired twice: {times:?}");
        assert!(before.iter().all(|time| distinct.contains(time)));
        let (first, last) = (*distinct.first().unwrap(), *distinct.last().unwrap());
        assert!(distinct.iter().all(|time| (time - first) % SECOND == 0), "{distinct:?}");
        let all = usize::try_from((last - first) / SECOND).unwrap() + 1;
        let missed = distinct.iter().filter(|time| **time > waits_for && **time <= started).count();
        if workflow == "tick all" {
            assert_eq!(distinct.len(), all, "each has its run: {distinct:?}");
        } else {
            assert!(distinct.len() <= all - 3 && missed <= 1, "{missed} of those that were missed: {distinct:?}");
        }
        assert!(last <= stopped);
    }

    let events = project.events("system");
    let said: Vec<_> = events
        .iter()
        .filter(|event| event["payload"]["kind"] == "trigger")
        .map(|event| event["payload"]["detail"].as_str().unwrap())
        .collect();
    let fired: Vec<_> = said.iter().filter(|said| said.contains(" fired for ")).collect();
    assert_eq!(fired.iter().collect::<BTreeSet<_>>().len(), fired.len(), "{fired:#?}");
    let once = said.iter().filter_map(|said| said.strip_prefix("trigger `tick-once`: ")?.split_once(" due since "));
    let most = once.map(|(many, what)| (many.parse::<u32>().unwrap(), what)).max().unwrap();
    assert!(most.0 >= 4 && most.1.ends_with(", which become one run"), "{most:?}");
}

#[test]
fn a_cron_trigger_is_added_shown_and_removed() {
    let project = Project::new();
    says(&project.run(&["triggers", "list"]), 0, &["no triggers"]);
    let text =
        "name: Daily report\ntrigger: { cron: '0 6 * * *', missed: skip }\nsteps:\n  - { id: nap, sleep: 1ms }\n";
    project.write("daily.yaml", text);
    let added = project.run(&["triggers", "add", "daily.yaml"]);
    says(
        &added,
        0,
        &["daily-report", "0 6 * * * UTC", " 06:00:00Z", "skip: times at which nobody serves are left out"],
    );
    says(&added, 0, &["nobody serves now: a trigger fires only while a process serves: `handshake serve`"]);
    says(&project.run(&["triggers", "add", "daily.yaml"]), 2, &["`daily-report` exists already", "--name"]);
    let named = project.run(&["triggers", "add", "daily.yaml", "--name", "other", "--output", "json"]).success().json();
    assert_eq!((&named["name"], &named["schedule"]["cron"]), (&"other".into(), &"0 6 * * *".into()));
    let next = micros(&named["next_at"]);
    assert!(next > now() && next % (86_400 * SECOND) == 6 * 3_600 * SECOND);

    let page = project.run(&["triggers", "list", "--limit", "1", "--output", "json"]).success().json();
    assert_eq!((&page["triggers"][0], page["triggers"].as_array().unwrap().len()), (&named, 1));
    let rest = project.run(&["triggers", "list", "--after", page["next"].as_str().unwrap()]);
    says(&rest, 0, &["daily-report", "0 6 * * * UTC", "skip"]);
    let id = named["trigger_id"].as_str().unwrap();
    says(&project.run(&["triggers", "show", id]), 0, &["other", "daily.yaml", "inputs       {}"]);
    project.run(&["triggers", "remove", "other"]).success();
    says(&project.run(&["triggers", "show", id]), 2, &["does not exist", "handshake triggers list"]);
    says(&project.run(&["triggers", "remove", "other"]), 2, &["`other` does not exist", "handshake triggers list"]);
}

#[test]
fn typing_errors_in_the_commands_for_triggers() {
    let project = Project::new();
    let file = tick(&project, "once");
    let add = |arguments: &[&str]| project.run(&[&["triggers", "add"], arguments].concat());
    says(&add(&["nowhere.yaml"]), 2, &["nowhere.yaml"]);
    says(&add(&[]), 2, &["FILE"]);
    says(&add(&[&file, "-i", "whom=me"]), 2, &["`whom`", "did you mean `who`?"]);
    says(&add(&[&file, "-i", "who=a", "-i", "who=b"]), 2, &["given twice"]);
    says(&add(&[&file, "-i", "scheduled_at=now"]), 2, &["`scheduled_at` cannot be given"]);
    says(&add(&[&file, "--name", "Tick Tock"]), 2, &["Tick Tock"]);
    says(&add(&[&file, "--name", "01890a5d-ac96-774b-bcce-b302099a8057"]), 2, &["the form of an id"]);
    let wrong = |trigger: &str, texts: &[&str]| {
        project.write("wrong.yaml", format!("name: wrong\nsteps:\n  - {{ id: nap, sleep: 1ms }}\n{trigger}\n"));
        says(&add(&["wrong.yaml"]), 2, texts);
    };
    wrong("", &["no `trigger`", "every: 15m"]);
    wrong("trigger: { cron: '0 6 * *' }", &["wrong.yaml:4:18", "has 4 fields", "in UTC"]);
    wrong("trigger: { every: 10ms }", &["wrong.yaml:4:19", "`10ms`"]);
    wrong("trigger: { evry: 10m }", &["wrong.yaml:4:", "did you mean `every`?"]);
    says(&project.run(&["triggers", "lst"]), 2, &["lst"]);
    says(&project.run(&["triggers", "show", "Tick Tock"]), 2, &["Tick Tock", "handshake triggers list"]);
    says(&project.run(&["triggers", "show", "tock"]), 2, &["`tock` does not exist"]);
    let json = project.run(&["triggers", "remove", "tock", "--output", "json"]);
    let error: Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!((json.code, &error["error"]["code"]), (2, &"not_found".into()));
    says(&project.run(&["triggers", "list"]), 0, &["no triggers"]);
}
