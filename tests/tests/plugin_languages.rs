//! The same step in three languages gives the same bytes, and what the plugins share is the same everywhere.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;
use handshake_tests::binary::Project;
use handshake_tests::guest_tools::is_installed;
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::json;

/// Files on which languages differ when they are left to their libraries.
const FILES: [(&str, &[u8]); 8] = [
    (
        "a.md",
        "# Über 😀 [a](https://Example.org/x) b_c It's\n\n[b](y \"t\") ![c](http://e.org:80/)\r\nwort Wort ÄÖ äö İ\n"
            .as_bytes(),
    ),
    ("sub/z.md", b"\xef\xbb\xbfBOM [z](https:// [y]() [open](never"),
    ("sub-/a.md", b"[t](http://E.ORG?q)\x0b\x1cone\x85two"),
    ("bad.md", b"\xff\xfe"),
    ("\u{1f600}.md", b"x"),
    ("\u{ff5e}.md", b"x y"),
    ("empty.md", b""),
    (".hidden.md", b"never"),
];

#[tokio::test]
async fn three_languages_give_the_same_bytes() {
    let runtime = TestRuntime::new();
    for (path, content) in FILES {
        let path = runtime.path("in").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let rights = Rights::granting(&["fs.read:in"]);
    let expected = runtime.run("stats-rust", json!({ "mount": "in" }), &rights).await.unwrap().output;
    assert_eq!(expected["files"].as_array().unwrap().len(), 5, "{expected}");
    assert_eq!(expected["skipped"], json!(["bad.md", "sub-/a.md"]));
    assert_eq!(expected["hosts"], json!([{ "name": "e.org", "count": 1 }, { "name": "example.org", "count": 1 }]));
    let paths: Vec<_> =
        expected["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["a.md", "empty.md", "sub/z.md", "\u{ff5e}.md", "\u{1f600}.md"]);
    for (id, tool) in [("stats-python", "componentize-py"), ("stats-javascript", "componentize-js")] {
        if is_installed(tool) {
            let output = runtime.run(id, json!({ "mount": "in" }), &rights).await.unwrap().output;
            assert_eq!(output.to_string(), expected.to_string(), "{id}");
            // A refusal and a wrong input are what they are in any language.
            let denied = runtime.run(id, json!({ "mount": "in" }), &Rights::granting(&[])).await.unwrap_err();
            assert!(format!("{denied:?}").contains("fs.read"), "{id} {denied:?}");
            let wrong = runtime.run(id, json!({ "mount": "in", "more": 1 }), &rights).await.unwrap_err();
            assert!(
                format!("{wrong:?}").starts_with("InvalidInput") && wrong.to_string().contains("more"),
                "{id} {wrong:?}"
            );
        }
    }
}

#[test]
fn a_workflow_uses_all_three_side_by_side() {
    if !is_installed("componentize-py") || !is_installed("componentize-js") {
        return;
    }
    let project = Project::new();
    for (path, content) in FILES {
        project.write(&format!("docs/{path}"), content);
    }
    let workflow = handshake_tests::root().join("workflows/markdown-stats.yaml");
    let run = project.run(&["run", workflow.to_str().unwrap(), "-i", "folder=docs", "--output", "json"]).success();
    assert!(run.stdout.contains(r#""same": true"#), "{run:?}");
}

fn same(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "copy {} to {}", a.display(), b.display());
}

#[test]
fn the_libraries_in_the_plugins_are_those_that_new_plugins_get() {
    // They are copies, because the interpreters in the components follow no links out of a plugin's folder.
    let plugins = handshake_tests::root().join("plugins");
    same(&plugins.join("sdk-python/handshake_step.py"), &plugins.join("stats-python/handshake_step.py"));
    for name in ["handshake-step.js", "handshake-files.js"] {
        same(&plugins.join("sdk-javascript").join(name), &plugins.join("stats-javascript").join(name));
    }
}

#[test]
fn every_module_of_the_rust_library_shows_how_it_is_used() {
    // `just test` compiles the examples.
    let source = handshake_tests::root().join("plugins/sdk/src");
    let library = fs::read_to_string(source.join("lib.rs")).unwrap();
    let mut seen = 0;
    for (before, line) in library.lines().zip(library.lines().skip(1)) {
        let Some(module) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
        if before.contains("doc(hidden)") {
            continue;
        }
        let text = fs::read_to_string(source.join(module).with_extension("rs")).unwrap();
        assert!(text.contains("//! ```"), "{module} has no example");
        seen += 1;
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn the_wasi_packages_that_plugins_are_built_against_are_the_hosts_own() {
    let metadata = MetadataCommand::new().current_dir(handshake_tests::root()).exec().unwrap();
    let folder = |package: &str, wit: &str| {
        let found = metadata.packages.iter().find(|found| found.name.as_str() == package).unwrap();
        PathBuf::from(found.manifest_path.parent().unwrap()).join(wit)
    };
    let (wasi, http) = (folder("wasmtime-wasi", "src/p2/wit/deps"), folder("wasmtime-wasi-http", "wit/deps"));
    for entry in fs::read_dir(handshake_tests::root().join("wit/wasi-0.2.12")).unwrap() {
        let entry = entry.unwrap();
        let hosts = if entry.file_name() == "http.wit" { &http } else { &wasi };
        same(&hosts.join(entry.file_name()), &entry.path());
    }
}
