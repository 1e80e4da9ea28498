//! The real binary on real documents: what it makes, what it records, and what survives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use handshake_tests::binary::{Finished, Project};
use serde_json::Value;

/// This repository's own documents.
fn with_documents() -> Project {
    let project = Project::new();
    let root = handshake_tests::root();
    for name in ["CONTRIBUTING.md", "CHANGELOG.md", "plugins/README.md", "docs/decisions.md"] {
        project.write(&format!("docs/{name}"), fs::read(root.join(name)).unwrap());
    }
    project.write("docs/notes.txt", "A note. It has two sentences.\n");
    project.write("docs/binary.md", b"\0\x01\x02binary");
    project.write("docs/latin1.txt", b"caf\xe9 and more text");
    project.write("docs/image.png", b"\x89PNG");
    project
}

fn decisions(project: &Project, more: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    let mut before = None::<String>;
    loop {
        let mut arguments = [&["audit", "decisions", "--output", "json", "--limit", "1000"], more].concat();
        if let Some(before) = &before {
            arguments.extend(["--before", before]);
        }
        let page = project.run(&arguments).success().json();
        all.extend(page["events"].as_array().unwrap().iter().map(|event| event["event"].clone()));
        match page["next"].as_str() {
            Some(next) => before = Some(next.to_owned()),
            None => return all,
        }
    }
}

#[test]
fn a_workflow_summarizes_documents_and_every_decision_is_on_record() {
    let project = with_documents();
    let result = project.summarize(&["--output", "json"]).success().json();
    assert_eq!(result["job"]["state"], "completed");
    assert_eq!(result["job"]["job_outputs"]["report"], "out/report.md");
    let report = fs::read_to_string(project.path("report/report.md")).unwrap();
    for title in ["Contributing", "Changelog", "notes.txt"] {
        assert!(report.contains(title), "{title}: {report}");
    }
    // What is no text is left out and listed.
    for skipped in ["binary.md", "latin1.txt"] {
        assert!(report.contains(skipped), "{skipped}: {report}");
    }
    assert!(!report.contains("image.png"));
    // Metrics are really filled.
    let metrics = &result["job"]["metrics"];
    for name in ["duration_ms", "input_tokens", "output_tokens", "total_tokens", "entities_read", "entities_written"] {
        assert!(metrics[name].as_u64().unwrap() > 0, "{name}: {metrics}");
    }

    let decisions = decisions(&project, &[]);
    let made = |capability: &str| decisions.iter().filter(|event| event["capability_id"] == capability).count();
    assert_eq!((made("model.infer"), made("artifact.write"), made("artifact.read")), (5, 5, 5));
    assert_eq!(made("fs.write"), 1);
    assert!(made("fs.read") >= 8);
    let job = &result["job"]["job_id"];
    let trace = &result["job"]["trace_id"];
    for event in &decisions {
        assert_eq!((&event["job_id"], &event["trace_id"]), (job, trace));
        let record = &event["payload"];
        for field in [
            "call",
            "attempt",
            "component_sha256",
            "interface",
            "function",
            "resource",
            "layer",
            "rule",
            "policy_sha256",
            "manifest_sha256",
            "arguments_sha256",
            "evaluation_ns",
            "decision_outcome",
        ] {
            assert!(!record[field].is_null(), "{field}: {record}");
        }
    }
    let matrix = project.run(&["audit", "matrix", "--output", "json"]).success();
    assert!(matrix.stdout.contains("summarize@0.1.0") && matrix.stdout.contains("model.infer"), "{matrix:?}");
    let calls: u64 = decisions.len() as u64;
    let counted: u64 = matrix.json()["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["allowed"].as_u64().unwrap() + row["denied"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, calls);
}

#[test]
fn every_model_call_is_one_event_and_every_allowed_call_has_one_outcome() {
    let project = with_documents();
    project.summarize(&[]).success();
    assert_eq!(project.events("llm_inference").len(), 5);
    let allowed: BTreeSet<_> =
        decisions(&project, &["--outcome", "allow"]).iter().map(|event| event["event_id"].to_string()).collect();
    let outcomes: Vec<_> =
        project.events("capability_outcome").iter().map(|event| event["payload"]["decision"].to_string()).collect();
    assert_eq!(outcomes.len(), allowed.len());
    assert_eq!(outcomes.into_iter().collect::<BTreeSet<_>>(), allowed);
}

#[test]
fn the_same_documents_give_the_same_bytes() {
    let project = with_documents();
    let first = project.summarize(&["--output", "json"]).success().json();
    let report = fs::read(project.path("report/report.md")).unwrap();
    let second = project.summarize(&["--output", "json"]).success().json();
    assert_eq!(fs::read(project.path("report/report.md")).unwrap(), report);
    assert_eq!(first["job"]["job_outputs"], second["job"]["job_outputs"]);
    assert_ne!(first["job"]["job_id"], second["job"]["job_id"]);
}

#[test]
fn a_missing_grant_denies_names_the_line_to_add_and_ends_with_3() {
    let project = with_documents();
    let root = handshake_tests::root();
    let workflow = fs::read_to_string(root.join("workflows/summarize-folder.yaml")).unwrap();
    let workflow =
        workflow.replace(r#"grants: ["artifact.read", "model.infer:default"]"#, r#"grants: ["artifact.read"]"#);
    let result = project.run_workflow(&workflow, &["-i", "folder=docs"]);
    assert_eq!(result.code, 3, "{result:#?}");
    let said = format!("{}{}", result.stdout, result.stderr);
    assert!(said.contains(r#"grants: ["model.infer:default"]"#), "{said}");
    let denied = decisions(&project, &["--outcome", "deny"]);
    assert!(!denied.is_empty());
    assert!(
        denied.iter().all(|event| event["payload"]["reason"] == "not-granted" && event["payload"]["layer"] == "grant")
    );
    assert_eq!(project.events("llm_inference").len(), 0);
}

#[test]
fn other_commands_work_while_a_run_owns_the_data_directory() {
    let project = with_documents();
    let workflow = "name: slow\nsteps:\n  - id: sleep\n    uses: hostile\n    with: { behaviour: sleep-forever }\n    timeout: 2s\n";
    project.write("slow.yaml", workflow);
    let mut running = project.start(&["run", "slow.yaml"]);
    running.wait_for("sleep");
    let socket = fs::metadata(project.path(".handshake/handshake.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let jobs = project.run(&["jobs", "list", "--output", "json"]).success().json();
    assert_eq!(jobs["jobs"][0]["state"], "running", "{jobs}");
    // A second run goes through the first one's socket.
    let second = project.summarize(&["--output", "json"]).success().json();
    assert_eq!(second["job"]["state"], "completed");
    project.run(&["db", "status"]).success();
    let slow = running.finish();
    assert_eq!(slow.code, 1, "{slow:#?}");
    assert!(format!("{}{}", slow.stdout, slow.stderr).contains("timed out"), "{slow:#?}");
}

#[test]
fn a_killed_host_leaves_everything_openable_and_loses_nothing_acknowledged() {
    let rounds = std::env::var("HANDSHAKE_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2);
    for round in 0..rounds {
        let project = Project::new();
        for number in 0..200 {
            project.write(
                &format!("docs/{number:03}.md"),
                format!("# Document {number}\n\nIt is short. It is number {number}.\n"),
            );
        }
        let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
        let mut running = project.start(&["run", workflow.to_str().unwrap(), "-i", "folder=docs"]);
        // Somewhere in the middle, at another place each round.
        running.wait_for("summarize");
        std::thread::sleep(std::time::Duration::from_millis(50 * (round % 20)));
        running.kill();

        // Whatever artifact exists was written after its decision was durable.
        let artifacts = count_files(&project.path(".handshake/artifacts"));
        let status = project.run(&["db", "status", "--output", "json"]).success();
        // Also checks that the chain of records verifies from its beginning.
        assert!(!project.events("span_start").is_empty());
        let decisions = decisions(&project, &["--capability", "artifact.write", "--outcome", "allow"]);
        assert!(
            artifacts > 0 && decisions.len() >= artifacts,
            "round {round}: {artifacts} artifacts, {} decisions; {status:?}",
            decisions.len()
        );
        // The host takes new jobs, and goes on with the interrupted one: its steps may run twice.
        let jobs = project.summarize(&["--output", "json"]).success().json();
        assert_eq!(jobs["job"]["state"], "completed");
        let listed = project.run(&["jobs", "list", "--output", "json"]).success().json();
        let states: Vec<_> =
            listed["jobs"].as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap().to_owned()).collect();
        assert_eq!(states, ["completed", "completed"], "round {round}");
        let outputs: BTreeSet<_> =
            listed["jobs"].as_array().unwrap().iter().map(|job| job["job_outputs"].to_string()).collect();
        assert_eq!(outputs.len(), 1, "round {round}: {outputs:?}");
    }
}

fn count_files(folder: &std::path::Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() && entry.file_name() != "unfinished" => count_files(&entry.path()),
            Ok(kind) if kind.is_file() => 1,
            _ => 0,
        })
        .sum()
}

#[test]
fn a_run_that_outlives_the_owner_still_gets_its_result() {
    let project = with_documents();
    project.write(
        "slow.yaml",
        "name: slow\nsteps:\n  - { id: sleep, uses: hostile, with: { behaviour: sleep-forever }, timeout: 1s }\n",
    );
    let slower = "name: slower\nsteps:\n  - { id: sleep, uses: hostile, with: { behaviour: sleep-forever, count: 2 }, timeout: 2s }\n";
    project.write("slower.yaml", slower);
    let mut owner = project.start(&["run", "slow.yaml"]);
    owner.wait_for("sleep");
    let second = project.run(&["run", "slower.yaml", "--output", "json"]);
    assert!(second.stdout.contains("\"job_id\""), "{second:#?}");
    assert!(!second.stderr.contains("connection"), "{second:#?}");
    owner.finish();
}

#[test]
fn a_denied_file_is_on_record_and_ends_with_3() {
    let project = with_documents();
    let workflow = fs::read_to_string(handshake_tests::root().join("workflows/summarize-folder.yaml")).unwrap();
    for (given, taken, axis, layer) in [
        (r#"grants: ["fs.read:in", "artifact.write"]"#, r#"grants: ["artifact.write"]"#, "fs.read", "grant"),
        (r#"grants: ["fs.write:out"]"#, "grants: []", "fs.write", "grant"),
    ] {
        let result = project.run_workflow(&workflow.replace(given, taken), &["-i", "folder=docs", "--output", "json"]);
        assert_eq!(result.code, 3, "{result:#?}");
        let job = result.json()["job"]["job_id"].as_str().unwrap().to_owned();
        let denied = decisions(&project, &["--job", &job, "--outcome", "deny"]);
        assert!(
            denied.iter().any(|event| event["capability_id"] == axis && event["payload"]["layer"] == layer),
            "{taken}: {denied:#?}"
        );
    }
}

#[test]
fn an_interrupt_cancels_the_job_cleanly() {
    let project = Project::new();
    project.write("slow.yaml", "name: slow\nsteps:\n  - id: sleep\n    uses: hostile\n    with: { behaviour: sleep-forever }\n    timeout: 30s\n");
    let mut running = project.start(&["run", "slow.yaml"]);
    running.wait_for("sleep");
    running.signal(rustix::process::Signal::INT);
    let ended = running.finish();
    assert_eq!(ended.code, 1, "{ended:#?}");
    let jobs = project.run(&["jobs", "list", "--output", "json"]).success().json();
    assert_eq!(jobs["jobs"][0]["state"], "cancelled");
}

#[test]
fn escape_codes_of_a_guest_do_not_reach_the_terminal() {
    let project = Project::new();
    let workflow =
        "name: escapes\nsteps:\n  - id: one\n    uses: hostile\n    with: { behaviour: terminal-escapes-error }\n";
    let result = project.run_workflow(workflow, &[]);
    assert_eq!(result.code, 1);
    let list = project.run(&["jobs", "list"]).success();
    let id = project.run(&["jobs", "list", "--output", "json"]).success().json()["jobs"][0]["job_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let show = project.run(&["jobs", "show", &id]).success();
    for Finished { stdout, stderr, .. } in [result, list, show] {
        for text in [stdout, stderr] {
            assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\u{9b}'), "{text:?}");
        }
    }
}

#[test]
fn what_is_built_into_the_binary_can_be_looked_at() {
    let project = Project::new();
    for arguments in [
        &["plugin", "list"][..],
        &["plugin", "check", "summarize"],
        &["models", "list"],
        &["models", "test", "default"],
        &["capabilities", "list"],
        &["db", "status"],
        &["doctor"],
        &["schema", "workflow"],
        &["schema", "plugin"],
        &["completions", "bash"],
        &["--help"],
        &["audit", "--help"],
    ] {
        let result = project.run(arguments).success();
        assert!(!result.stdout.trim().is_empty(), "{arguments:?}");
        if !["schema", "completions", "models"].contains(&arguments[0]) {
            let result = Finished::from(project.command(arguments).env("COLUMNS", "80").output().unwrap());
            let wide: Vec<_> =
                result.stdout.lines().filter(|line| line.chars().count() > 80 && !line.contains('/')).collect();
            assert!(wide.is_empty(), "{arguments:?}: {wide:#?}");
        }
    }
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
    for command in ["check", "graph"] {
        project.run(&["workflow", command, workflow.to_str().unwrap()]).success();
    }
    // Each test of a model is a decision and a model call on record.
    assert_eq!(decisions(&project, &["--capability", "model.infer"]).len(), 1);
}
