//! A new plugin, in each language, builds, passes its check and its tests, and runs; with the binary alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::path::Path;
use std::process::Command;

use handshake_tests::binary::{Finished, Project};
use handshake_tests::guest_tools::{is_installed, with_tools};

fn run(project: &Project, arguments: &[&str]) -> Finished {
    with_tools(&mut project.command(arguments)).output().unwrap().into()
}

/// A project with its own configuration and no plugins yet.
fn project() -> Project {
    let project = Project::bare();
    project.run(&["init"]).success();
    project
}

fn works(language: &str) {
    let project = project();
    let made = run(&project, &["plugin", "new", "first-step", "--lang", language, "--dir", "plugins"]).success();
    assert!(made.stdout.contains("next: handshake plugin build plugins/first-step"), "{made:?}");
    // Builds, and checks what came out.
    let built = run(&project, &["plugin", "build", "plugins/first-step"]).success();
    assert!(built.stdout.contains("manifest and component agree"), "{built:?}");
    let checked = run(&project, &["plugin", "check", "first-step", "--output", "json"]).success().json();
    assert_eq!(checked["problems"], serde_json::json!([]));
    assert_eq!(checked["descriptor"]["input_schema"]["required"], serde_json::json!(["text"]));
    let tested = run(&project, &["plugin", "test", "plugins/first-step", "--output", "json"]).success().json();
    let cases = tested["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2, "{tested}");
    let input = r#"{"text": "Gates decide. Records remember what gates decide."}"#;
    let granted = ["plugin", "run", "first-step", "--input", input, "--grant", "model.infer:default"];
    let ran = run(&project, &[&granted[..], &["--output", "json"]].concat()).success().json();
    assert!(ran["output"]["words"].as_u64().unwrap() > 0, "{ran}");
    assert_eq!(run(&project, &granted[..5]).code, 3);
    // What it does not take, it says.
    let refused = run(&project, &["plugin", "run", "first-step", "--input", r#"{"txt": 1}"#]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("`t"), "{refused:?}");
}

#[test]
fn a_new_plugin_in_rust_works() {
    works("rust");
}

#[test]
fn a_new_plugin_in_python_works() {
    if is_installed("componentize-py") {
        works("python");
    }
}

#[test]
fn a_new_plugin_in_javascript_works() {
    if is_installed("componentize-js") {
        works("javascript");
    }
}

#[test]
fn nothing_is_overwritten_and_bad_names_are_refused() {
    let project = project();
    let new = |name: &str, language: &str| project.run(&["plugin", "new", name, "--lang", language]);
    project.write("mine/notes.txt", "mine");
    let refused = new("mine", "rust");
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("choose another name"), "{refused:?}");
    assert_eq!(std::fs::read_dir(project.path("mine")).unwrap().count(), 1);
    for (name, language) in [("Upper", "python"), ("a/b", "python"), ("..", "javascript"), ("2nd", "rust")] {
        let refused = new(name, language);
        assert_eq!(refused.code, 2, "{name}");
        assert!(refused.stderr.contains(&format!("`{name}` cannot be")), "{refused:?}");
    }
    let refused = new("mine", "cobol");
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("javascript"), "{refused:?}");
}

#[test]
fn what_is_missing_is_said_with_how_to_install_it() {
    let project = project();
    // A path with nothing on it.
    let empty = project.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let run =
        |arguments: &[&str]| -> Finished { project.command(arguments).env("PATH", &empty).output().unwrap().into() };
    for (language, install) in [("python", "pip install componentize-py=="), ("javascript", "npm install --save-dev")] {
        let made = run(&["plugin", "new", language, "--lang", language]).success();
        assert!(made.stdout.contains("first: ") && made.stdout.contains(install), "{made:?}");
    }
    let failed = run(&["plugin", "build", "python"]);
    assert_eq!(failed.code, 2);
    assert!(failed.stderr.contains("cannot start componentize-py"), "{failed:?}");
    assert!(failed.stderr.contains("pip install componentize-py=="), "{failed:?}");
    let failed = run(&["plugin", "build", "javascript"]);
    assert!(failed.stderr.contains("cannot start node") && failed.stderr.contains("nodejs.org"), "{failed:?}");
    std::fs::create_dir(project.path("nothing")).unwrap();
    std::fs::copy(project.path("python/plugin.toml"), project.path("nothing/plugin.toml")).unwrap();
    let text = std::fs::read_to_string(project.path("nothing/plugin.toml")).unwrap().replace("python", "nothing");
    project.write("nothing/plugin.toml", text);
    let failed = run(&["plugin", "build", "nothing"]);
    assert_eq!(failed.code, 2);
    assert!(failed.stderr.contains("Cargo.toml, step.py or step.js"), "{failed:?}");
}

/// A new plugin whose main file is another.
fn broken(project: &Project, language: &str, file: &str, text: &str) -> Finished {
    let _ = std::fs::remove_dir_all(project.path("broken"));
    project.run(&["plugin", "new", "broken", "--lang", language]).success();
    project.write(&format!("broken/{file}"), text);
    let failed = run(project, &["plugin", "build", "broken"]);
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(!Path::new(&project.path("broken/dist/plugin.toml")).exists());
    failed
}

#[test]
fn errors_of_the_compilers_come_through_readable() {
    let project = project();
    let failed = broken(&project, "rust", "src/lib.rs", "fn run() { 1 + }\n");
    assert!(failed.stderr.contains("src/lib.rs:1:16"), "{failed:?}");
    if is_installed("componentize-py") {
        let failed = broken(&project, "python", "step.py", "import handshake_step\n\ndef run(:\n");
        assert!(
            failed.stderr.contains("File \"step.py\", line 3") && failed.stderr.contains("SyntaxError"),
            "{failed:?}"
        );
        assert!(!failed.stderr.contains("anyhow") && !failed.stderr.contains("_PyEval"), "{failed:?}");
        let failed = broken(&project, "python", "step.py", "import nothere\n");
        assert!(failed.stderr.contains("No module named 'nothere'"), "{failed:?}");
    }
    if is_installed("componentize-js") {
        let failed =
            broken(&project, "javascript", "step.js", "export const handler = {\n  run() { return 1 +; },\n};\n");
        assert!(failed.stderr.contains("step.js:2") && failed.stderr.contains("SyntaxError"), "{failed:?}");
        let failed = broken(&project, "javascript", "step.js", "export const handlr = {};\n");
        assert!(failed.stderr.contains("step.js does not export a \"handler\" interface"), "{failed:?}");
        assert!(!failed.stderr.contains("node_modules"), "{failed:?}");
    }
}

#[test]
fn a_changed_source_is_built_again_while_it_is_watched() {
    let project = project();
    project.run(&["plugin", "new", "watched", "--lang", "rust"]).success();
    let mut command: Command = project.command(&["plugin", "build", "watched", "--watch", "--no-check"]);
    let mut child = with_tools(&mut command)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let manifest = project.path("watched/dist/plugin.toml");
    let wait = |is_done: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !is_done() {
            assert!(started.elapsed().as_secs() < 300, "nothing was built");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let sha256 = || {
        std::fs::read_to_string(&manifest)
            .unwrap_or_default()
            .lines()
            .find(|line| line.starts_with("sha256"))
            .map(str::to_owned)
    };
    wait(&|| sha256().is_some());
    let first = sha256();
    let source = std::fs::read_to_string(project.path("watched/src/lib.rs")).unwrap();
    project.write("watched/src/lib.rs", source.replace("split_whitespace()", "split('x')"));
    wait(&|| sha256().is_some() && sha256() != first);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
