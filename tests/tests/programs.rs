//! Programs for `wasi:cli` run as steps, and do the same there as under wasmtime without a gate.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use handshake_core::capability::DenialLabel;
use handshake_core::event::Outcome;
use handshake_core::step::{StepExecutor, StepFailure};
use handshake_tests::guest_tools::is_installed;
use handshake_tests::runtime::{Rights, TestRuntime};
use handshake_tests::ungated::Ungated;
use serde_json::json;
use tempfile::TempDir;
use wasmtime::component::Component;
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx};

const GRANTS: &[&str] = &["fs.read:in", "fs.read:out", "fs.write:out"];

/// A program under wasmtime's own WASI.
struct Plainly {
    engine: Engine,
    component: Component,
}

impl Plainly {
    fn new(component: &Path) -> Self {
        let engine = Engine::new(&Config::new()).unwrap();
        let component = Component::from_file(&engine, component).unwrap();
        Self { engine, component }
    }

    /// Standard output and exit code.
    async fn run(&self, arguments: &[&str], stdin: &str, folder: &Path) -> (String, i32) {
        let stdout = MemoryOutputPipe::new(1 << 20);
        let mut builder = WasiCtx::builder();
        builder.arg("program").args(arguments).stdin(MemoryInputPipe::new(stdin.to_owned())).stdout(stdout.clone());
        builder.preopened_dir(folder.join("in"), "in", FsPerms::ReadOnly).unwrap();
        builder.preopened_dir(folder.join("out"), "out", FsPerms::ReadWrite).unwrap();
        let mut store = Store::new(&self.engine, Ungated::with(builder.build()));
        let linker = Ungated::linker(&self.engine);
        let command = Command::instantiate_async(&mut store, &self.component, &linker).await.unwrap();
        let code = match command.wasi_cli_run().call_run(&mut store).await {
            Ok(ended) => i32::from(ended.is_err()),
            Err(error) => error.downcast_ref::<I32Exit>().unwrap_or_else(|| panic!("{error:?}")).0,
        };
        (String::from_utf8(stdout.contents().to_vec()).unwrap(), code)
    }
}

/// Runs a program once.
async fn plain(component: &Path, arguments: &[&str], stdin: &str, folder: &Path) -> (String, i32) {
    Plainly::new(component).run(arguments, stdin, folder).await
}

/// Every file below a folder, with its content.
fn content(folder: &Path) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => found.extend(content(&path).into_iter().map(|(inner, text)| (format!("{name}/{inner}"), text))),
            false => found.push((name, Some(std::fs::read_to_string(&path).unwrap()))),
        }
    }
    found.sort();
    found
}

fn fill(folder: &Path) {
    std::fs::write(folder.join("secret.txt"), "secret").unwrap();
    std::fs::write(folder.join("in/a.txt"), "Ein Wort, ein Wört\n").unwrap();
    std::fs::write(folder.join("in/ünï 漢.md"), "# two words\n").unwrap();
    std::fs::create_dir(folder.join("in/sub")).unwrap();
}

/// A runtime, a program's component, and a folder for running it without a gate; both folders hold the same.
fn side_by_side(id: &str) -> (TestRuntime, PathBuf, TempDir) {
    let gated = TestRuntime::new();
    let plugin = gated.runtime.find(id).unwrap();
    let component = plugin.folder.join(&plugin.manifest.component.path);
    let bare = tempfile::tempdir().unwrap();
    for folder in ["in", "out"] {
        std::fs::create_dir(bare.path().join(folder)).unwrap();
    }
    fill(gated.folder.path());
    fill(bare.path());
    (gated, component, bare)
}

#[tokio::test]
async fn a_program_gives_the_same_output_and_files_as_without_a_gate() {
    let (gated, component, bare) = side_by_side("program");
    let calls: [(&[&str], &str); 4] = [
        (&["copy", "in", "out"], ""),
        (&["say", "ä b", "", "--c=\"d\"\n"], "one\ntwo ü\r\nlast"),
        (&["clocks"], ""),
        (&["variables"], ""),
    ];
    for (arguments, stdin) in calls {
        let (stdout, code) = plain(&component, arguments, stdin, bare.path()).await;
        assert_eq!(code, 0, "{arguments:?} {stdout}");
        let input = json!({ "args": arguments, "stdin": stdin });
        let outcome = gated.run("program", input, &Rights::granting(GRANTS)).await.unwrap();
        assert_eq!(outcome.output, json!({ "stdout": stdout }), "{arguments:?}");
    }
    assert_eq!(content(&gated.path("out")), content(&bare.path().join("out")));
    assert!(content(&gated.path("out")).len() > 1);
    assert!(gated.decisions().iter().filter(|decision| decision.decision_outcome == Outcome::Allow).count() > 5);
}

#[tokio::test]
async fn programs_in_python_and_javascript_do_the_same_as_without_a_gate() {
    for (id, tool) in [("program-python", "componentize-py"), ("program-javascript", "componentize-js")] {
        if !is_installed(tool) {
            continue;
        }
        let (gated, component, bare) = side_by_side(id);
        let calls: [(&[&str], &str); 3] =
            [(&["copy", "in", "out"], ""), (&["say", "ä b", "", "--c=\"d\""], "one\ntwo ü\r\nlast"), (&["fail"], "")];
        let rights = Rights::granting(GRANTS);
        let plain = Plainly::new(&component);
        for (arguments, stdin) in calls {
            let (stdout, code) = plain.run(arguments, stdin, bare.path()).await;
            let outcome = gated.run(id, json!({ "args": arguments, "stdin": stdin }), &rights).await;
            match code {
                0 => assert_eq!(outcome.unwrap().output, json!({ "stdout": stdout }), "{id} {arguments:?}"),
                // Python looks for variables as it starts, and is refused; that is not why it fails later.
                code => {
                    let failed = outcome.unwrap_err();
                    let StepFailure::Permanent(text) = &failed else { panic!("{id} {failed:?}") };
                    assert!(text.contains(&format!("exit code {code}")), "{id} {text}");
                }
            }
        }
        assert_eq!(content(&gated.path("out")), content(&bare.path().join("out")), "{id}");
        assert!(!content(&gated.path("out")).is_empty(), "{id}");
    }
}

#[tokio::test]
async fn how_a_program_ends_is_what_becomes_of_its_step() {
    let gated = TestRuntime::new();
    let plugin = gated.runtime.find("program").unwrap();
    let component = plugin.folder.join(&plugin.manifest.component.path);
    let none = Rights::granting(&[]);
    for (arguments, says) in [
        // WASI 0.2 knows success and failure alone.
        (&["exit", "3", "no", "more", "paper"][..], "the program ended with exit code 1: no more paper"),
        (&["fail"], "the program ended with exit code 1"),
        (&["what"], "the program ended with exit code 1: Error: "),
    ] {
        let failed = gated.run("program", json!({ "args": arguments }), &none).await.unwrap_err();
        let StepFailure::Permanent(text) = &failed else { panic!("{failed:?}") };
        assert!(text.starts_with(says), "{text}");
        let (_, code) = plain(&component, arguments, "", gated.folder.path()).await;
        assert!(text.contains(&format!("exit code {code}")), "{text}");
    }
    let ended = gated.run("program", json!({ "args": ["exit", "0"] }), &none).await.unwrap();
    assert_eq!(ended.output, json!({ "stdout": "" }));
    let failed = gated.run("program", json!({ "args": ["panic"] }), &none).await.unwrap_err();
    assert!(matches!(failed, StepFailure::Trap(_)), "{failed:?}");
    let failed = gated.run("program", json!({ "args": ["bytes"] }), &none).await.unwrap_err();
    assert!(matches!(&failed, StepFailure::Contract(text) if text.contains("not UTF-8")), "{failed:?}");
    for input in [json!({ "arg": [] }), json!({ "args": [1] }), json!([])] {
        let failed = gated.run("program", input, &none).await.unwrap_err();
        assert!(matches!(failed, StepFailure::InvalidInput(_)), "{failed:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_denied_gets_an_error_that_its_standard_library_knows() {
    let gated = TestRuntime::new();
    fill(gated.folder.path());
    let rights = Rights::granting(&["fs.write:out"]);
    let failed = gated.run("program", json!({ "args": ["copy", "in", "out"] }), &rights).await.unwrap_err();
    let StepFailure::Denied(denial) = &failed else { panic!("{failed:?}") };
    assert_eq!((denial.capability.as_str(), denial.reason), ("fs.read:in", DenialLabel::NotGranted));
    assert!(denial.remedy.contains("exit code 1"), "{}", denial.remedy);
}

#[tokio::test]
async fn a_program_describes_itself_by_its_manifest() {
    let gated = TestRuntime::new();
    let plugin = gated.runtime.find("program").unwrap();
    let descriptor = gated.runtime.prepare(&plugin).await.unwrap();
    assert_eq!((descriptor.name.as_str(), descriptor.version.as_str()), ("program", "0.1.0"));
    assert_eq!(descriptor.input_schema["properties"]["stdin"], json!({ "type": "string" }));
    assert_eq!(descriptor.output_schema["required"], json!(["stdout"]));
    // A library in the place of a program is told apart.
    let folder = tempfile::tempdir().unwrap();
    let library = gated.runtime.find("census").unwrap();
    let text = std::fs::read_to_string(library.folder.join("plugin.toml")).unwrap();
    std::fs::create_dir(folder.path().join("census")).unwrap();
    std::fs::copy(library.folder.join("census.wasm"), folder.path().join("census/census.wasm")).unwrap();
    let text = text.replace("handshake:step@0.1", "wasi:cli@0.2");
    std::fs::write(folder.path().join("census/plugin.toml"), text).unwrap();
    let other = TestRuntime::with_folders(vec![folder.path().to_owned()]);
    let refused = other.runtime.prepare(&other.runtime.find("census").unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("does not export `wasi:cli/run`"), "{refused}");
}
