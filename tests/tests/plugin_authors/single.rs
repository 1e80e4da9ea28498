//! `plugin run`: one step, decided and recorded like any other.

use handshake_tests::binary::Project;
use serde_json::json;

use super::shown;

fn guest(id: &str) -> String {
    shown(&handshake_tests::root().join("tests/guests").join(id)).to_owned()
}

#[test]
fn nothing_is_granted_that_was_not_given_and_what_is_missing_is_named() {
    let project = Project::new();
    project.write("docs/notes.md", "# Hello\n");
    let input = "{\"mount\":\"docs\"}";
    let run = |more: &[&str]| {
        let command = ["plugin", "run", "read-folder", "--input", input, "--mount", "docs=docs"];
        project.run(&[&command[..], more].concat())
    };
    let denied = run(&[]);
    assert_eq!(denied.code, 3, "{denied:?}");
    assert!(denied.stderr.contains("deny    fs.read docs (not-granted)"), "{denied:?}");
    assert!(denied.stderr.contains("--grant fs.read:docs"), "{denied:?}");
    assert!(!denied.stderr.contains("correct `with`"), "{denied:?}");

    let grants = ["--grant", "fs.read:docs", "--grant", "artifact.write"];
    let ran = run(&grants).success();
    assert_eq!(ran.json()["documents"][0]["title"], "Hello");
    for text in ["allow   fs.read docs/notes.md", "MiB of memory", "host calls", " ms"] {
        assert!(ran.stderr.contains(text), "`{text}` is missing: {ran:?}");
    }
    let json = run(&[&grants[..], &["--output", "json"]].concat()).success().json();
    assert_eq!((json["state"].as_str(), json["error"].is_null()), (Some("completed"), true), "{json}");
    assert!(json["metrics"]["hsk.step.memory_bytes"].as_f64().unwrap() > 65_536.0, "{json}");
    // The record has what was printed.
    let job = json["job_id"].as_str().unwrap();
    let of_job = |event: &serde_json::Value| event["job_id"] == job;
    let recorded: Vec<_> = project.events("capability_action").into_iter().filter(of_job).collect();
    assert_eq!(recorded.len(), json["decisions"].as_array().unwrap().len());
    assert!(recorded.len() >= 3, "{recorded:?}");
}

#[test]
fn a_crash_names_the_functions_of_the_guest() {
    let project = Project::new();
    let crashed = project.run(&["plugin", "run", &guest("bare"), "--input", "{\"crash\":true}"]);
    assert_eq!(crashed.code, 1, "{crashed:?}");
    assert!(crashed.stderr.contains("the step failed (trap): the plugin crashed"), "{crashed:?}");
    assert!(crashed.stderr.contains("in bare::crash_on_purpose\n"), "{crashed:?}");
}

#[test]
fn hostile_guests_end_within_their_limits() {
    let project = Project::new();
    for (behaviour, says) in [
        ("endless-loop", "timed out"),
        ("endless-recursion", "limit `stack`"),
        // Whichever comes first.
        ("host-calls-million", "the step failed ("),
        ("trap-in-run", "crashed"),
        ("panic-in-run", "crashed"),
        ("exit-zero", "crashed"),
        ("output-not-json", "is not JSON"),
        ("output-nul", "U+0000"),
    ] {
        let input = json!({ "behaviour": behaviour }).to_string();
        let ended = project.run(&["plugin", "run", &guest("hostile"), "--input", &input]);
        assert_eq!(ended.code, 1, "{behaviour}: {ended:?}");
        assert!(ended.stderr.contains(says), "{behaviour}: {ended:?}");
    }
    for (behaviour, target) in
        [("escape-dotdot", None), ("escape-absolute", Some("/etc/passwd")), ("forge-context", None)]
    {
        let input = json!({ "behaviour": behaviour, "target": target }).to_string();
        let command =
            ["plugin", "run", &guest("hostile"), "--input", &input, "--mount", "in=docs", "--grant", "fs.read:in"];
        let ended = project.run(&command).success().json();
        let attempts = ended["attempts"].as_array().unwrap();
        let got_through = attempts.iter().any(|attempt| attempt["outcome"] == "ok");
        assert!(behaviour == "forge-context" || !got_through, "{behaviour}: {ended}");
    }
    let refused = project.run(&["plugin", "check", &guest("trap-in-describe")]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn what_cannot_be_run_is_told_before_anything_runs() {
    let project = Project::new();
    for (more, code, says) in [
        (&["nothing"][..], 2, "plugin `nothing` was not found"),
        (&["./nothing"], 2, "cannot open folder"),
        (&["read-folder", "--input", "[1]"], 2, "a JSON object"),
        (&["read-folder", "--input", "{\"a\""], 2, "--input:1:4"),
        (&["read-folder", "--input", "@none.json"], 2, "none.json"),
        (&["read-folder", "--mount", "docs"], 2, "NAME=DIR"),
        (&["read-folder", "--mount", "docs=/etc"], 3, "/etc"),
        (&["read-folder", "--mount", "in=.handshake"], 3, "data directory"),
        (&["read-folder", "--grant", "fs.rede"], 2, "HSK-4001"),
        (&["read-folder", "--grant", "net.http:https://a.example"], 2, "does not declare it"),
        (&["read-folder", "--profile", "nobody"], 2, "profile `nobody`"),
        (&["read-folder", "--access-mode", "all"], 2, "analysis_only"),
    ] {
        let refused = project.run(&[&["plugin", "run"], more].concat());
        assert_eq!(refused.code, code, "{more:?}: {refused:?}");
        assert!(refused.stderr.contains(says), "{more:?}: {refused:?}");
    }
}
