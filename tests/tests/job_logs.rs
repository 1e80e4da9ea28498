//! What steps have logged can be read when they have ended: by step, of earlier runs, and of failed attempts.

#![allow(clippy::unwrap_used)]

use handshake_tests::binary::Project;
use serde_json::{Value, json};

const SAYS: &str = "\
name: says
mounts: { in: { path: docs, access: read } }
steps:
  - { id: many, uses: hostile, for_each: \"[1, 2]\", with: { behaviour: log-million, count: 3 } }
  - { id: fails, uses: hostile, needs: [many], with: { behaviour: leak-everywhere, target: /in/odd.txt }, grants: ['fs.read:in'] }
";

fn job(project: &Project) -> String {
    let listed = project.run(&["jobs", "list", "--limit", "1", "--output", "json"]).success().json();
    listed["jobs"][0]["job_id"].as_str().unwrap().to_owned()
}

fn logs(project: &Project, arguments: &[&str]) -> Vec<Value> {
    let printed = project.run(&[&["jobs", "logs", "--output", "json"], arguments].concat()).success();
    printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lines(log: &Value) -> Vec<&str> {
    log["lines"].as_array().unwrap().iter().map(|line| line["line"].as_str().unwrap()).collect()
}

#[test]
fn what_attempts_have_logged_is_kept_with_their_job() {
    let project = Project::new();
    project.write("docs/odd.txt", "odd \u{1b}[31m\n");
    let failed = project.run_workflow(SAYS, &[]);
    assert_eq!(failed.code, 3, "{failed:?}");
    let job = job(&project);
    let all = logs(&project, &[&job]);
    let nodes: Vec<_> = all.iter().map(|log| log["node"].clone()).collect();
    let node = |step: &str, index: Option<u32>| json!({ "step": step, "index": index });
    assert_eq!(nodes.len(), 3, "{all:#?}");
    assert!(nodes[..2].contains(&node("many", Some(0))) && nodes[..2].contains(&node("many", Some(1))), "{nodes:?}");
    assert_eq!(lines(&all[0]), ["line 0", "line 1", "line 2"]);
    assert_eq!((&all[0]["lines"][0]["level"], &all[0]["attempt"]), (&json!("info"), &json!(1)));
    assert_eq!(nodes[2], node("fails", None));
    let said = lines(&all[2]);
    assert!(said[0].starts_with("odd ") && said[1].starts_with("step failed: odd "), "{said:?}");

    assert_eq!(logs(&project, &[&job, "--step", "fails"]), all[2..]);
    let text = project.run(&["jobs", "logs", &job]).success().stdout;
    assert!(
        text.lines().next().unwrap().ends_with("Z many[0]: info: line 0") || text.contains("Z many[1]: info: line 0"),
        "{text}"
    );
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");

    // A retry is another run.
    let earlier = all[2].clone();
    let shown = project.run(&["jobs", "show", &job, "--output", "json"]).success().json();
    let run = shown["runs"][0]["run"]["run_id"].as_str().unwrap().to_owned();
    assert_eq!(project.run(&["jobs", "retry", &job]).code, 3);
    let latest = logs(&project, &[&job]);
    assert_eq!(latest.len(), 1, "what was completed did not run again: {latest:#?}");
    assert_ne!(latest[0]["lines"][0]["at"], earlier["lines"][0]["at"]);
    assert_eq!(logs(&project, &[&job, "--run", &run]), all);
}

#[test]
fn wrong_ids_are_refused_and_silence_is_said() {
    let project = Project::new();
    project.write("docs/a.md", "Gates decide.\n");
    project.summarize(&[]).success();
    let first = job(&project);
    project.summarize(&[]).success();
    let second = job(&project);
    let shown = project.run(&["jobs", "show", &second, "--output", "json"]).success().json();
    let run = shown["runs"][0]["run"]["run_id"].as_str().unwrap();
    let silent = project.run(&["jobs", "logs", &first]).success();
    assert!(silent.stdout.is_empty() && silent.stderr.contains("jobs watch"), "{silent:?}");
    assert_eq!(logs(&project, &[&first, "--step", "nowhere"]), Vec::<Value>::new());
    let nobody = "0192c1d4-0000-7000-8000-000000000001";
    for (arguments, says) in [
        (&[nobody][..], nobody),
        (&["x"], "x"),
        (&[first.as_str(), "--run", run], run),
        (&[&first, "--run", nobody], nobody),
        (&[&first, "--run", "y"], "--run"),
        (&[&first, "--step", "a b"], "--step"),
    ] {
        let refused = project.run(&[&["jobs", "logs"], arguments].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(says), "`{says}`: {refused:?}");
    }
}
