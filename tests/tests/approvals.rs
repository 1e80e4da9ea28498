//! Jobs that ask people and wait, at the command line: what is shown, who may answer, and what lives on without its host.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use handshake_tests::binary::{Finished, Project};
use rustix::process::Signal;
use serde_json::Value;

/// Far longer than anything here takes, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

const GUARDED: &str = "
name: guarded
mounts:
  out: { path: report, access: write }
job: { access_mode: apply_scoped }
workflows:
  part:
    inputs: { n: { type: integer } }
    steps:
      - { id: work, uses: hostile, with: { behaviour: clock } }
      - { id: ask, needs: [work], approval: { prompt: 'part ${string(inputs.n)}?' } }
    outputs: { n: '${inputs.n}' }
steps:
  - { id: parts, workflow: part, for_each: '[1, 2]', with: { n: '${item}' } }
  - { id: sign, needs: [parts], approval: { by: [ann, bob], quorum: 2, prompt: 'write it?' } }
  - { id: write, needs: [sign], uses: hostile, with: { behaviour: write-file }, grants: ['fs.write:out'] }
";

fn job_of(result: &Finished) -> String {
    result.json()["job"]["job_id"].as_str().unwrap().to_owned()
}

fn show(project: &Project, job: &str) -> Value {
    project.run(&["jobs", "show", job, "--output", "json"]).success().json()
}

fn says(result: &Finished, code: i32, texts: &[&str]) {
    assert_eq!(result.code, code, "{result:?}");
    let said = format!("{}{}", result.stdout, result.stderr);
    for text in texts {
        assert!(said.contains(text), "`{text}` is missing: {said}");
    }
}

/// Answers as somebody of this name.
fn answer(project: &Project, who: &str, arguments: &[&str]) -> Finished {
    project.command(&[&["jobs"], arguments].concat()).env("USER", who).output().unwrap().into()
}

#[test]
fn a_job_waits_for_people_in_its_parts_too_and_writes_only_after_they_said_yes() {
    let project = Project::new();
    let waiting = project.run_workflow(GUARDED, &["--output", "json"]);
    assert_eq!(waiting.code, 4, "{waiting:?}");
    let job = job_of(&waiting);
    let questions = show(&project, &job)["questions"].as_array().unwrap().clone();
    let mut prompts: Vec<_> = questions.iter().map(|question| question["prompt"].as_str().unwrap()).collect();
    prompts.sort_unstable();
    assert_eq!(prompts, ["part 1?", "part 2?"]);
    says(&project.run(&["jobs", "show", &job]), 0, &["asks", "part 1?", "0 of 1 by anybody"]);
    says(&answer(&project, "eve", &["approve", &job]), 2, &["has 2 questions", "--step"]);
    says(&answer(&project, "eve", &["approve", &job, "--step", "sing"]), 2, &["has no such question: ask, ask"]);
    says(&answer(&project, "eve", &["approve", "nonsense"]), 2, &["nonsense"]);
    for question in &questions {
        let part = question["job_id"].as_str().unwrap();
        says(&project.run(&["jobs", "resume", part]), 2, &["is part of job", &job]);
        says(&answer(&project, "eve", &["approve", part, "--reason", "fine"]), 4, &[]);
    }
    says(&answer(&project, "eve", &["approve", &job]), 2, &["`eve` is not one of the approvers"]);
    says(&answer(&project, "ann", &["approve", &job, "--step", "sign"]), 4, &["1 of 2"]);
    says(&answer(&project, "ann", &["approve", &job]), 2, &["`ann` has voted already"]);
    assert_eq!(std::fs::read_dir(project.path("report")).unwrap().count(), 0);
    says(&answer(&project, "bob", &["approve", &job]), 0, &["completed"]);
    assert_eq!(std::fs::read_dir(project.path("report")).unwrap().count(), 1);
    says(&answer(&project, "bob", &["approve", &job]), 2, &["is `completed` and has no such question"]);
    let said: Vec<_> = project.events("approval").iter().map(|event| event["payload"]["decision"].clone()).collect();
    assert_eq!(said.iter().filter(|said| *said == "approved").count(), 4, "{said:?}");
    assert_eq!(said.iter().filter(|said| *said == "requested").count(), 3, "{said:?}");
}

#[test]
fn whoever_is_asked_sees_what_the_steps_did_until_then() {
    let project = Project::new();
    let text = "
name: late
mounts:
  out: { path: report, access: write }
job: { access_mode: apply_scoped }
steps:
  - { id: write, uses: hostile, with: { behaviour: write-file }, grants: ['fs.write:out'] }
  - { id: ask, needs: [write], approval: { prompt: 'go on?' } }
";
    let waiting = project.run_workflow(text, &["--output", "json"]);
    assert_eq!(waiting.code, 4, "{waiting:?}");
    let job = job_of(&waiting);
    let details = show(&project, &job);
    let effects = details["effects"].as_array().unwrap();
    assert!(!effects.is_empty() && details["effects_omitted"] == 0, "{details}");
    for effect in effects {
        assert_eq!((&effect["step_id"], &effect["capability"]), (&"write".into(), &"fs.write".into()), "{details}");
    }
    let resource = effects[0]["resource"].as_str().unwrap();
    says(&project.run(&["jobs", "show", &job]), 0, &["did so far", &format!("write: fs.write {resource}")]);
    says(&answer(&project, "ann", &["approve", &job]), 0, &["completed"]);
    assert!(!project.run(&["jobs", "show", &job]).success().stdout.contains("did so far"));
}

#[test]
fn a_no_fails_the_job_and_a_cancelled_one_asks_no_more() {
    let project = Project::new();
    let text = "name: ask\nsteps:\n  - { id: ask, approval: { prompt: 'go on?' } }\n  - { id: nap, sleep: 1ms, needs: [ask] }\n";
    let job = job_of(&project.run_workflow(text, &["--output", "json"]));
    says(&answer(&project, "ann", &["reject", &job, "--reason", "not today"]), 1, &["rejected by ann: not today"]);
    let job = job_of(&project.run_workflow(text, &["--output", "json"]));
    project.run(&["jobs", "cancel", &job]).success();
    says(&answer(&project, "ann", &["approve", &job]), 2, &["is `cancelled` and has no such question"]);
    let approvals = project.events("approval");
    assert_eq!(approvals.last().unwrap()["payload"]["decision"], "cancelled");
}

/// Asks until a job is in a state.
fn wait_for(project: &Project, job: &str, state: &str) {
    let start = Instant::now();
    while show(project, job)["job"]["state"] != state {
        assert!(start.elapsed() < PATIENCE, "job {job} does not become {state}: {}", show(project, job));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_process_that_serves_leaves_its_jobs_to_the_next_one_whether_it_is_stopped_or_killed() {
    let project = Project::new();
    project.write(
        "nap.yaml",
        "name: nap\nsteps:\n  - { id: nap, sleep: 4s }\n  - { id: end, sleep: 1ms, needs: [nap] }\n",
    );
    says(&project.run(&["run", "nap.yaml", "--detach"]), 2, &["nobody serves", "handshake serve"]);
    let mut serving = project.start(&["serve"]);
    serving.wait_for("serves");
    says(&project.run(&["serve"]), 2, &["has the data directory", &serving.id().to_string()]);
    let submitted = project.run(&["run", "nap.yaml", "--detach", "--output", "json"]).success().json();
    let job = submitted["job_id"].as_str().unwrap().to_owned();
    wait_for(&project, &job, "running");
    serving.signal(Signal::TERM);
    assert_eq!(serving.finish().code, 0);
    let left = show(&project, &job);
    assert_eq!(left["job"]["state"], "awaiting_user");
    assert!(left["job"]["status_reason"].as_str().unwrap().contains("its host was stopped"), "{left}");

    let mut serving = project.start(&["serve"]);
    serving.wait_for("serves");
    wait_for(&project, &job, "running");
    serving.kill();
    let mut serving = project.start(&["serve"]);
    serving.wait_for("serves");
    wait_for(&project, &job, "completed");
    serving.signal(Signal::TERM);
    assert_eq!(serving.finish().code, 0);
    let nodes = show(&project, &job)["runs"][0]["nodes"].clone();
    let nap = nodes.as_array().unwrap().iter().find(|node| node["node"]["step"] == "nap").unwrap().clone();
    assert_eq!((&nap["attempt"], &nap["state"]), (&Value::from(1), &Value::from("completed")), "it slept once");
}
