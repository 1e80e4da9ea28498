//! A capability that the registry does not know is refused wherever it is written, before anything runs.

#![allow(clippy::unwrap_used)]

use handshake_tests::binary::{Finished, Project};

/// Exit code 2, the stable code, and where it stands.
fn unknown(result: &Finished, place: &str) {
    assert_eq!(result.code, 2, "{result:?}");
    for text in ["HSK-4001", "fs.peek", place] {
        assert!(result.stderr.contains(text), "`{text}`: {result:?}");
    }
}

fn append(project: &Project, file: &str, text: &str) {
    let before = std::fs::read_to_string(project.path(file)).unwrap();
    project.write(file, format!("{before}\n{text}\n"));
}

#[test]
fn in_a_workflow() {
    let project = Project::new();
    let flow =
        "name: x\nsteps:\n  - id: a\n    uses: hostile\n    with: { behaviour: clock }\n    grants: ['fs.peek:in']\n";
    project.write("flow.yaml", flow);
    unknown(&project.run(&["workflow", "check", "flow.yaml"]), "flow.yaml:6");
    unknown(&project.run(&["run", "flow.yaml"]), "flow.yaml:6");
}

#[test]
fn in_the_policy_whatever_the_rule_says() {
    for section in ["allow", "ask", "deny"] {
        let project = Project::new();
        append(&project, "policy.toml", &format!("[[{section}]]\ncapability = \"fs.peek\""));
        unknown(&project.run(&["models", "test", "default"]), "policy.toml:");
    }
}

#[test]
fn in_a_profile() {
    let project = Project::new();
    append(&project, "handshake.toml", "[profiles.odd]\ncapabilities = [\"fs.peek\"]");
    unknown(&project.run(&["models", "list"]), "handshake.toml:");
}

#[test]
fn in_a_manifest() {
    let project = Project::new();
    let manifest = "schema = 1\nid = \"odd\"\nversion = \"0.1.0\"\napi = \"handshake:step@0.1\"\ndescription = \"x\"\n\
                    [component]\npath = \"odd.wasm\"\n[[capability]]\nid = \"fs.peek\"\nreason = \"x\"\n";
    project.write("odd/plugin.toml", manifest);
    project.write("odd/odd.wasm", b"\0asm");
    unknown(&project.run(&["plugin", "check", "./odd"]), "plugin.toml:");
}

#[test]
fn on_the_command_line() {
    let project = Project::new();
    unknown(&project.run(&["capabilities", "explain", "fs.peek"]), "capabilities list");
}
