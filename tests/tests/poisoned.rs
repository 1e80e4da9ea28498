//! Whoever puts something else in the place of what a waiting job is to execute gets nothing executed: the job is
//! poisoned, says why, and stays so.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use handshake_tests::binary::{Finished, Project};
use serde_json::{Value, json};

const FLOW: &str = "name: waits
mounts:
  out: { path: report, access: write }
job: { access_mode: apply_scoped }
steps:
  - { id: ask, approval: { prompt: go on?, expires: 1h } }
  - { id: write, uses: hostile, needs: [ask], with: { behaviour: write-file }, grants: ['fs.write:out'] }
";

/// A project with a copy of the plugin `hostile` of its own, and a job of it that waits for a person. Returns the job.
fn waiting(project: &Project) -> String {
    let built = handshake_tests::root().join("tests/guests/hostile/dist");
    for name in ["plugin.toml", "hostile.wasm"] {
        project.write(&format!("own/hostile/{name}"), fs::read(built.join(name)).unwrap());
    }
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let own = format!("plugins = [{:?}]", project.path("own"));
    let lines = config.lines().map(|line| if line.starts_with("plugins = ") { own.as_str() } else { line });
    project.write("handshake.toml", lines.collect::<Vec<_>>().join("\n"));
    let result = project.run_workflow(FLOW, &["--output", "json"]);
    assert_eq!(result.code, 4, "{result:?}");
    result.json()["job"]["job_id"].as_str().unwrap().to_owned()
}

fn show(project: &Project, job: &str) -> Value {
    project.run(&["jobs", "show", job, "--output", "json"]).success().json()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Says yes, and checks that nothing came of it but the record.
fn is_poisoned(project: &Project, job: &str, kind: &str) -> Finished {
    let result = project.run(&["jobs", "approve", job]);
    assert_eq!(result.code, 1, "{result:?}");
    assert!(result.stderr.contains(&format!("security violation `{kind}`")), "{result:?}");
    let details = show(project, job);
    assert_eq!((&details["job"]["state"], &details["runs"][0]["run"]["state"]), (&json!("poisoned"), &json!("failed")));
    assert_eq!(files_below(&project.path("report")), Vec::<PathBuf>::new(), "nothing was executed");
    let nodes = details["runs"][0]["nodes"].as_array().unwrap().clone();
    assert!(nodes.iter().all(|node| ["failed", "cancelled", "completed"].contains(&node["state"].as_str().unwrap())));
    for command in ["resume", "retry", "approve"] {
        let refused = project.run(&["jobs", command, job]);
        assert_eq!(refused.code, 2, "{command}: {refused:?}");
        assert!(
            refused.stderr.contains("is `poisoned` and does nothing more: security violation"),
            "{command}: {refused:?}"
        );
    }
    let violations = project.events("security_violation");
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!((&violations[0]["payload"]["kind"], &violations[0]["job_id"]), (&json!(kind), &json!(job)));
    assert_eq!(project.events("capability_action").len(), 0, "not one call was made");
    assert!(project.events("job_transition").iter().any(|event| event["payload"]["to_state"] == "poisoned"));
    result
}

#[test]
fn compiled_code_that_was_changed_while_a_job_waited_poisons_it() {
    let project = Project::new();
    let job = waiting(&project);
    let compiled: Vec<_> = files_below(&project.path(".handshake"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .collect();
    assert_eq!(compiled.len(), 1, "{compiled:?}");
    let mut bytes = fs::read(&compiled[0]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&compiled[0], bytes).unwrap();
    fs::set_permissions(&compiled[0], fs::Permissions::from_mode(0o600)).unwrap();
    let result = is_poisoned(&project, &job, "compiled_code_tampered");
    assert!(result.stderr.contains("MAC does not match"), "{result:?}");
}

#[test]
fn a_component_that_was_replaced_while_a_job_waited_poisons_it() {
    let project = Project::new();
    let job = waiting(&project);
    let component = project.path("own/hostile/hostile.wasm");
    let mut bytes = fs::read(&component).unwrap();
    bytes.push(0);
    fs::write(&component, bytes).unwrap();
    let result = is_poisoned(&project, &job, "component_tampered");
    assert!(result.stderr.contains("its SHA-256 is"), "{result:?}");
}

#[test]
fn a_plugin_that_was_upgraded_while_a_job_waited_is_for_a_person_to_decide_about() {
    let project = Project::new();
    let job = waiting(&project);
    let manifest = project.path("own/hostile/plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("# Another build of it.\n{text}")).unwrap();
    let result = project.run(&["jobs", "approve", &job]);
    assert_eq!(result.code, 4, "{result:?}");
    let details = show(&project, &job);
    assert_eq!(details["job"]["state"], "awaiting_user");
    assert!(details["job"]["status_reason"].as_str().unwrap().contains("is not the one that the run was made with"));
    assert_eq!(project.events("security_violation").len(), 0);
    // As it was, it goes on.
    fs::write(&manifest, text).unwrap();
    project.run(&["jobs", "resume", &job]).success();
    assert_eq!(show(&project, &job)["job"]["state"], "completed");
    assert_eq!(files_below(&project.path("report")).len(), 1);
}
