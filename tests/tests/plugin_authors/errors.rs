//! Mistakes in `plugin.toml` and in components: each is told with its file, its line where it has one, and what to do.

use std::fs;

use handshake_tests::binary::Project;

use super::{component, manifest, put, shown};

/// What `plugin check` says, without where the project is and what is no mistake.
fn check(project: &Project, folder: &str) -> String {
    let result = project.run(&["plugin", "check", folder]);
    assert_eq!(result.code, 2, "{result:?}");
    let root = fs::canonicalize(project.path("")).unwrap();
    let text = format!("{}{}", result.stdout, result.stderr);
    let lines =
        text.lines().filter(|line| ["wrong ", "error:", "why:", "hint:"].iter().any(|word| line.starts_with(word)));
    let text = lines.collect::<Vec<_>>().join("\n").replace(&format!("{}/", shown(&root)), "");
    assert!(!text.contains("panicked"), "{text}");
    // Digests of components change with each compiler.
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let words = text.split_inclusive(|c: char| !is_hex(c));
    words
        .map(|word| {
            if word.trim_end_matches(|c| !is_hex(c)).len() == 64 {
                word.replace(is_hex, "") + "…"
            } else {
                word.to_owned()
            }
        })
        .collect()
}

/// All of these in one text: the mistake, and what is said.
fn told(cases: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (mistake, said) in cases {
        text.push_str(&format!("== {mistake}\n{said}\n"));
    }
    text
}

#[test]
fn mistakes_in_the_manifest_name_file_line_and_remedy() {
    let project = Project::new();
    let good = manifest("bare", "0.1.0", &["fs.read"]);
    let code = component("tests/guests", "bare");
    let mut cases = Vec::new();
    for (mistake, from, to) in [
        ("no TOML", "schema = 1", "schema = "),
        ("another schema", "schema = 1", "schema = 2"),
        ("a key that there is not", "description", "describes"),
        ("no description", "description = \"A test.\"\n", ""),
        ("an empty description", "\"A test.\"", "\"\""),
        ("an id that is none", "id = \"bare\"", "id = \"Bare Step\""),
        ("the id of another folder", "id = \"bare\"", "id = \"other\""),
        ("a version that is none", "0.1.0", "1.0"),
        ("another version than the component's", "0.1.0", "0.2.0"),
        ("an interface that there is not", "handshake:step@0.1", "handshake:step@0.2"),
        ("a component elsewhere", "bare.wasm", "../bare.wasm"),
        ("a component that is not there", "bare.wasm", "bear.wasm"),
        ("a digest that is none", "{sha256}", "abc"),
        ("no digest", "sha256 = \"{sha256}\"\n", ""),
        ("no component", "[component]", "[limits]"),
        ("a limit that there is not", "[component]", "[limits]\nmemory = 64\n[component]"),
        ("a limit of nothing", "[component]", "[limits]\nmemory_mb = 0\n[component]"),
        ("a limit beyond the host's", "[component]", "[limits]\nwall_ms = 86400001\n[component]"),
        ("a limit that is a text", "[component]", "[limits]\noutput_kb = \"64\"\n[component]"),
        ("no fuel at all", "[component]", "[limits]\nfuel = 0\n[component]"),
        ("a capability that there is not", "id = \"fs.read\"", "id = \"fs.rede\""),
        ("a scope that cannot be", "id = \"fs.read\"", "id = \"net.http:ftp://example.com\""),
        ("a capability without a reason", "reason = \"wants fs.read\"\n", ""),
        ("an empty reason", "wants fs.read", " "),
        (
            "a capability twice",
            "\n[[capability]]",
            "\n[[capability]]\nid = \"fs.read\"\nreason = \"r\"\n[[capability]]",
        ),
        ("a capability that nothing can need", "schema = 1", "schema = 1"),
    ] {
        assert!(good.contains(from), "{mistake}");
        put(&project, "bare", &good.replacen(from, to, 1), &code);
        cases.push((mistake, check(&project, "own/bare")));
    }
    put(&project, "bare", &good, &code);
    fs::write(project.path("own/bare/plugin.toml"), [b"schema = 1\nid = \"".as_slice(), &[0xff]].concat()).unwrap();
    cases.push(("no UTF-8", check(&project, "own/bare")));
    fs::remove_file(project.path("own/bare/plugin.toml")).unwrap();
    cases.push(("no manifest", check(&project, "own/bare")));
    insta::assert_snapshot!(told(&cases));
}

#[test]
fn mistakes_in_the_component_name_the_file_and_remedy() {
    let project = Project::new();
    let wat = |name: &str| {
        let file = handshake_tests::root().join("tests/guests/wat").join(name);
        wat::parse_file(file).unwrap()
    };
    let bare = component("tests/guests", "bare");
    let good = manifest("bare", "0.1.0", &[]);
    let mut cases = Vec::new();
    for (mistake, code) in [
        ("no WebAssembly", b"#!/bin/sh\n".to_vec()),
        ("an empty file", Vec::new()),
        ("a module, not a component", wat("core-module.wat")),
        ("exports nothing", wat("no-exports.wat")),
        ("exports something else", wat("wrong-export-name.wat")),
        ("functions of other types", wat("wrong-export-type.wat")),
        ("an import that the host has not", wat("unknown-import.wat")),
        ("a later version of the contract", wat("wrong-version.wat")),
        ("crashes when it describes itself", component("tests/guests", "trap-in-describe")),
    ] {
        put(&project, "bare", &good, &code);
        cases.push((mistake, check(&project, "own/bare")));
    }
    put(&project, "bare", &good, &bare);
    fs::write(project.path("own/bare/bare.wasm"), [&bare[..], &[0]].concat()).unwrap();
    cases.push(("changed after it was built", check(&project, "own/bare")));

    // What it says about itself against what the manifest says.
    let summarize = component("plugins", "summarize");
    put(&project, "summarize", &manifest("summarize", "0.1.0", &["artifact.read"]), &summarize);
    cases.push(("asks for what is not declared", check(&project, "own/summarize")));
    put(&project, "other", &manifest("other", "0.1.0", &["artifact.read", "model.infer"]), &summarize);
    cases.push(("calls itself something else", check(&project, "own/other")));
    let unknown = replaced(&summarize, b"model.infer", b"model.infre");
    put(&project, "summarize", &manifest("summarize", "0.1.0", &["artifact.read", "model.infer"]), &unknown);
    cases.push(("asks for what there is not", check(&project, "own/summarize")));
    let schema = replaced(&bare, b"{\"type\":\"object\"}", b"{\"type\":\"objekt\"}");
    put(&project, "bare", &good, &schema);
    cases.push(("a schema that is none", check(&project, "own/bare")));
    insta::assert_snapshot!(told(&cases));
}

/// The bytes with all of these replaced by others of the same length.
pub(super) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<_> =
        bytes.windows(from.len()).enumerate().filter(|(_, part)| *part == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "nothing to replace");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}
