//! `handshake policy reload`, and the file that is watched.

use std::time::{Duration, Instant};

use handshake_tests::binary::{Project, Running};
use serde_json::{Value, json};

const ASKING: &str = "
name: ask
steps:
  - { id: ask, approval: { prompt: 'go on?' } }
  - { id: work, needs: [ask], uses: hostile, with: { behaviour: clock } }
";

fn serving(project: &Project) -> Running {
    let mut serve = project.start(&["serve"]);
    serve.wait_for("serves");
    serve
}

/// The rule that the built-in model needs, denied.
fn deny_models(project: &Project) {
    let text = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    project.write("policy.toml", format!("{text}\n[[deny]]\ncapability = \"model.infer\"\n"));
}

fn waits_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_reload_is_in_force_when_it_is_answered_and_on_record_with_who_did_it() {
    let project = Project::new();
    let before = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    let serve = serving(&project);
    project.run(&["models", "test", "default"]).success();
    deny_models(&project);
    let answer = project.run(&["policy", "reload", "--output", "json"]).success().json();
    let denied = project.run(&["models", "test", "default"]);
    assert_eq!(denied.code, 3, "{denied:?}");
    assert!(denied.stderr.contains("operator-denied") && denied.stderr.contains("policy.toml:"), "{denied:?}");
    let again = project.run(&["policy", "reload"]).success();
    assert!(again.stdout.starts_with("unchanged: "), "{again:?}");
    project.write("policy.toml", before);
    project.run(&["policy", "reload"]).success();
    project.run(&["models", "test", "default"]).success();
    serve.signal(rustix::process::Signal::INT);
    serve.finish().success();

    let changes = project.events("policy_change");
    let digests: Vec<_> =
        changes.iter().map(|event| (&event["payload"]["old_sha256"], &event["payload"]["new_sha256"])).collect();
    let (first, second) = (digests[0].1, &answer["new_sha256"]);
    assert_eq!(digests, [(&Value::Null, first), (first, second), (second, first)], "{changes:?}");
    let kinds: Vec<_> = changes.iter().map(|event| event["actor"]["kind"].clone()).collect();
    assert_eq!(kinds, [json!("system"), json!("human"), json!("human")]);
    let decisions = project.events("capability_action");
    let by: Vec<_> = decisions.iter().map(|event| &event["payload"]["policy_sha256"]).collect();
    assert_eq!(by, [first, second, first], "each decision names the policy that made it");
}

#[test]
fn a_changed_file_is_noticed_and_one_that_is_wrong_keeps_the_policy_of_before() {
    let project = Project::new();
    let mut serve = serving(&project);
    let before = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    project.write("policy.toml", format!("{before}\n[[allow]]\ncapability = \"fs.peek\"\n"));
    let said = serve.wait_for("fs.peek");
    assert!(said.contains("the policy of before stays in force") && said.contains("policy.toml:"), "{said}");
    let line = before.lines().count() + 3;
    let refused = project.run(&["policy", "reload"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains(&format!("policy.toml:{line}:14: HSK-4001")), "{refused:?}");
    project.run(&["models", "test", "default"]).success();

    project.write("policy.toml", &before);
    deny_models(&project);
    waits_until("the changed file is in force", || project.run(&["models", "test", "default"]).code == 3);
    std::fs::remove_file(project.path("policy.toml")).unwrap();
    let gone = project.run(&["policy", "reload"]);
    assert_eq!(gone.code, 2, "{gone:?}");
    assert!(gone.stderr.contains("policy.toml"), "{gone:?}");
    assert_eq!(project.run(&["models", "test", "default"]).code, 3, "what is gone does not allow");
    serve.signal(rustix::process::Signal::INT);
    serve.finish().success();
}

#[test]
fn the_built_in_policy_has_no_file_to_read_again() {
    let project = Project::bare();
    let refused = project.run(&["policy", "reload"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("built-in policy") && refused.stderr.contains("handshake init"), "{refused:?}");
}

#[test]
fn a_job_that_waited_while_the_policy_changed_goes_on_at_a_persons_word() {
    let project = Project::new();
    let asked = project.run_workflow(ASKING, &["--output", "json"]);
    assert_eq!(asked.code, 4, "{asked:?}");
    let job = asked.json()["job"]["job_id"].clone();
    let job = job.as_str().unwrap();
    deny_models(&project);
    let answered = project.run(&["jobs", "approve", job]);
    assert_eq!(answered.code, 4, "{answered:?}");
    let shown = project.run(&["jobs", "show", job]).success().stdout;
    assert!(shown.contains("the policy changed") && shown.contains("jobs resume"), "{shown}");
    project.run(&["jobs", "resume", job]).success();
}
