//! Rules that want a person asked, with the real binary: the question, the answers, and taking one back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use handshake_tests::binary::{Finished, Project};
use serde_json::{Value, json};

const WRITES: &str = "
name: writes
job: { access_mode: apply_scoped }
mounts:
  out: { path: report, access: write }
steps:
  - { id: write, uses: hostile, with: { behaviour: write-file }, grants: ['fs.write:out'] }
";

/// A project whose policy asks before `hostile` writes anything.
fn asking() -> Project {
    let project = Project::new();
    add_rule(&project, "ask", "fs.write");
    project
}

fn add_rule(project: &Project, section: &str, capability: &str) {
    let text = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    let rule = format!("\n[[{section}]]\ncapability = \"{capability}\"\nplugins = [\"hostile\"]\n");
    project.write("policy.toml", text + &rule);
}

fn begun(project: &Project, workflow: &str) -> String {
    let result = project.run_workflow(workflow, &["--output", "json"]);
    assert_eq!(result.code, 4, "{result:?}");
    result.json()["job"]["job_id"].as_str().unwrap().to_owned()
}

fn run(project: &Project, arguments: &[&str]) -> Finished {
    project.run(&[arguments, &["--output", "json"]].concat())
}

fn written(project: &Project) -> bool {
    project.path("report/file.txt").exists()
}

fn of_job<'e>(events: &'e [Value], job: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["job_id"] == json!(job)).collect()
}

#[test]
fn a_job_waits_with_all_that_a_person_should_know_and_goes_on_with_the_answer() {
    let project = asking();
    let job = begun(&project, WRITES);
    assert!(!written(&project));
    let shown = project.run(&["jobs", "show", &job]).success().stdout;
    for text in
        ["awaiting_user", "hostile@0.1.0", "fs.write:out", "out/file.txt", "tries it", "policy.toml:", "asked 1 times"]
    {
        assert!(shown.contains(text), "`{text}`: {shown}");
    }
    let details = run(&project, &["jobs", "show", &job]).success().json();
    let request = &details["questions"][0]["permission"];
    assert_eq!((&request["attempt"], &request["effects"]), (&json!(1), &Value::Null));
    assert_eq!(details["runs"][0]["nodes"][0]["state"], "interrupted");

    let approved = project.run(&["jobs", "approve", &job, "--reason", "fine"]);
    assert_eq!(approved.code, 0, "{approved:?}");
    assert!(approved.stderr.contains("capabilities revoke"), "{approved:?}");
    assert!(written(&project));
    let grants = run(&project, &["capabilities", "grants"]).success().json();
    let grant = &grants["grants"][0];
    assert_eq!((&grant["terms"]["extent"], &grant["terms"]["job_id"]), (&json!("job"), &json!(job)));

    let decisions = project.events("capability_action");
    let last = of_job(&decisions, &job).into_iter().rfind(|event| event["capability_id"] == "fs.write").unwrap();
    assert_eq!(
        (&last["payload"]["decision_outcome"], &last["payload"]["grant"]),
        (&json!("allow"), &grant["grant_id"])
    );
    let approvals = project.events("approval");
    let said: Vec<_> = of_job(&approvals, &job).iter().map(|event| event["payload"]["decision"].clone()).collect();
    assert_eq!(said, ["requested", "granted", "approved"]);
}

#[test]
fn a_no_denies_the_step_and_nothing_was_done() {
    let project = asking();
    let job = begun(&project, WRITES);
    let rejected = project.run(&["jobs", "reject", &job, "--reason", "not today"]);
    assert_eq!(rejected.code, 3, "{rejected:?}");
    assert!(rejected.stderr.contains("not today") && rejected.stderr.contains("fs.write:out"), "{rejected:?}");
    assert!(!written(&project));
    assert_eq!(run(&project, &["capabilities", "grants", "--all"]).success().json()["grants"], json!([]));
}

#[test]
fn a_grant_reaches_as_far_as_it_says_and_no_further_once_it_is_taken_back() {
    let project = asking();
    let first = begun(&project, WRITES);
    project.run(&["jobs", "approve", &first]).success();
    // The default is this job.
    let second = begun(&project, WRITES);
    project.run(&["jobs", "approve", &second, "--for", "24h"]).success();
    project.run_workflow(WRITES, &[]).success();
    let grants = run(&project, &["capabilities", "grants"]).success().json();
    let day = grants["grants"].as_array().unwrap().iter().find(|grant| grant["expires_at"].is_string()).unwrap();
    let id = day["grant_id"].as_str().unwrap();
    let said = project.run(&["capabilities", "revoke", id]).success();
    assert!(said.stdout.contains("fs.write:out") && said.stdout.contains("hostile"), "{said:?}");
    let third = begun(&project, WRITES);
    let forever = project.run(&["jobs", "approve", &third, "--until-revoked"]).success();
    assert!(forever.stderr.contains("warning: "), "{forever:?}");
    project.run_workflow(WRITES, &[]).success();

    let live = run(&project, &["capabilities", "grants"]).success().json()["grants"].as_array().unwrap().len();
    let all = project.run(&["capabilities", "grants", "--all"]).success().stdout;
    assert_eq!((live, all.lines().filter(|line| line.contains("hostile")).count()), (2, 3), "{all}");
    assert!(all.contains("taken back"), "{all}");
    let again = project.run(&["capabilities", "revoke", id]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.stderr.contains("was taken back"), "{again:?}");
    let events = project.events("approval");
    let revoked: Vec<_> = events.iter().filter(|event| event["payload"]["decision"] == "revoked").collect();
    assert_eq!(revoked.len(), 1);
    assert_eq!(
        (&revoked[0]["payload"]["grant"]["grant_id"], &revoked[0]["actor"]["kind"]),
        (&json!(id), &json!("human"))
    );
}

#[test]
fn once_is_for_the_next_attempt_alone() {
    let project = asking();
    let twice = WRITES.to_owned()
        + "  - { id: again, needs: [write], uses: hostile, with: { behaviour: write-file, target: /out/b.txt }, grants: ['fs.write:out'] }\n";
    let job = begun(&project, &twice);
    let once = project.run(&["jobs", "approve", &job, "--once"]);
    assert_eq!(once.code, 4, "the second step asks for itself: {once:?}");
    assert!(written(&project) && !project.path("report/b.txt").exists());
    project.run(&["jobs", "approve", &job]).success();
    assert!(project.path("report/b.txt").exists());
}

#[test]
fn one_answer_for_the_job_answers_all_items_that_ask_the_same() {
    let project = asking();
    let each = WRITES.replace("id: write,", "id: write, for_each: '[1, 2, 3]', max_parallel: 3,");
    let each = each.replace("behaviour: write-file", "behaviour: write-file, target: '/out/${string(item)}.txt'");
    let job = begun(&project, &each);
    let asked = run(&project, &["jobs", "show", &job]).success().json();
    assert_eq!(asked["questions"].as_array().unwrap().len(), 3);
    let unclear = project.run(&["jobs", "approve", &job]);
    assert_eq!(unclear.code, 2, "{unclear:?}");
    project.run(&["jobs", "approve", &job, "--step", "write[1]"]).success();
    assert!((1..=3).all(|n| project.path(&format!("report/{n}.txt")).exists()));
}

#[test]
fn what_was_done_before_the_question_is_told_because_it_will_be_done_again() {
    let project = Project::new();
    add_rule(&project, "ask", "fs.write:out/file.txt");
    let job = begun(&project, &WRITES.replace("write-file", "write-denied"));
    assert!(project.path("report/new.txt").exists() && !written(&project));
    let details = run(&project, &["jobs", "show", &job]).success().json();
    let request = &details["questions"][0]["permission"];
    assert_eq!(request["asked"]["capability"], "fs.write:out/file.txt");
    assert_eq!(request["effects"], json!(["fs.write out/new.txt"]));
    let shown = project.run(&["jobs", "show", &job]).success().stdout;
    assert!(shown.contains("after it had done: fs.write out/new.txt"), "{shown}");
    project.run(&["jobs", "approve", &job]).success();
    assert!(project.path("report/new").is_dir(), "it ran to its end");
}

#[test]
fn a_question_about_reading_ends_the_attempt_too() {
    let project = Project::new();
    add_rule(&project, "ask", "config.read");
    let reads = "name: reads\nsteps:\n  - { id: read, uses: hostile, with: { behaviour: config-read }, grants: [config.read] }\n";
    let job = begun(&project, reads);
    let shown = project.run(&["jobs", "show", &job]).success().stdout;
    assert!(shown.contains("config.read:key") && shown.contains("it had done nothing that lasts"), "{shown}");
    project.run(&["jobs", "approve", &job]).success();
}

#[test]
fn a_grant_is_taken_back_under_the_attempts_that_use_it() {
    let project = Project::new();
    add_rule(&project, "ask", "config.read");
    let asks = |items: usize, calls: usize| {
        let items = (0..items).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
        format!(
            "name: asks\nsteps:\n  - {{ id: ask, uses: hostile, for_each: '[{items}]', max_parallel: 1, \
             with: {{ behaviour: host-calls-million, count: {calls} }}, grants: [config.read] }}\n"
        )
    };
    let first = begun(&project, &asks(1, 1));
    project.run(&["jobs", "approve", &first, "--until-revoked"]).success();
    let grants = run(&project, &["capabilities", "grants"]).success().json();
    let grant = grants["grants"][0]["grant_id"].as_str().unwrap().to_owned();

    project.write("workflow.yaml", asks(200, 2_000));
    let running = project.start(&["run", "workflow.yaml", "--quiet"]);
    let (mut job, mut seen) = (String::new(), false);
    let begun = std::time::Instant::now();
    while !seen {
        assert!(begun.elapsed() < std::time::Duration::from_secs(120), "no call was let through");
        let jobs = run(&project, &["jobs", "list", "--limit", "1"]).success().json();
        job = jobs["jobs"][0]["job_id"].as_str().unwrap().to_owned();
        let calls = run(&project, &["audit", "decisions", "--job", &job, "--outcome", "allow", "--limit", "1"]);
        seen = job != first && calls.code == 0 && !calls.json()["events"].as_array().unwrap().is_empty();
    }
    project.run(&["capabilities", "revoke", &grant]).success();
    // A mark on record, after the answer.
    let text = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    project.write("policy.toml", text + "\n# the same rules\n");
    project.run(&["policy", "reload"]).success();
    let ended = running.finish();
    assert_eq!(ended.code, 4, "the next attempt asks: {ended:?}");

    let mark = project.events("policy_change").pop().unwrap()["timestamp"].as_str().unwrap().to_owned();
    let decisions = project.events("capability_action");
    let late: Vec<_> = of_job(&decisions, &job)
        .into_iter()
        .filter(|event| event["timestamp"].as_str().unwrap() > mark.as_str())
        .collect();
    assert!(late.iter().all(|event| event["payload"]["decision_outcome"] == "deny"), "let through after the answer");
    assert!(of_job(&decisions, &job).iter().any(|event| event["payload"]["grant"] == json!(grant)));
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let project = asking();
    let job = begun(&project, WRITES);
    for (arguments, says) in [
        (&["--for", "25h"][..], "until-revoked"),
        (&["--for", "soon"], "not a length of time"),
        (&["--once", "--job"], "cannot be used with"),
    ] {
        let refused = project.run(&[&["jobs", "approve", &job], arguments].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    let gated = "name: gated\nsteps:\n  - { id: ok, approval: { prompt: 'go on?' } }\n";
    let other = begun(&project, gated);
    let refused = project.run(&["jobs", "approve", &other, "--until-revoked"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("not about a capability"), "{refused:?}");
    let unknown = project.run(&["capabilities", "revoke", "00000000-0000-0000-0000-0000000000ff"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert_eq!(project.run(&["capabilities", "revoke", "x"]).code, 2);
    assert!(!written(&project));
}

#[test]
fn denying_beats_asking_and_asking_beats_allowing_and_watching() {
    let project = asking();
    add_rule(&project, "deny", "fs.write:out");
    // The guest takes the refusal as an answer and goes on.
    project.run_workflow(WRITES, &[]).success();
    assert!(!written(&project));
    let last = project.events("capability_action").pop().unwrap();
    assert_eq!(last["payload"]["reason"], "operator-denied");
    let project = asking();
    let text = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    project.write("policy.toml", text.replace("mode = \"enforce\"", "mode = \"observe\""));
    begun(&project, WRITES);
    assert!(!written(&project));
}

#[test]
fn a_question_outlives_its_host_and_a_cancelled_job_asks_nobody() {
    let project = asking();
    let job = begun(&project, WRITES);
    project.run(&["jobs", "cancel", &job]).success();
    let details = run(&project, &["jobs", "show", &job]).success().json();
    assert_eq!((&details["job"]["state"], &details["questions"]), (&json!("cancelled"), &Value::Null));
    let too_late = project.run(&["jobs", "approve", &job]);
    assert_eq!(too_late.code, 2, "{too_late:?}");
    assert!(!written(&project));
}
