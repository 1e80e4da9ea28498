//! What plugins cost their authors and their runs, in three languages.
//!
//! `just bench plugins` runs it in a release build. Each figure stands beside a floor of the same run; a language whose
//! tools are not installed is left out, which is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use handshake_core::step::StepExecutor;
use handshake_tests::binary::Project;
use handshake_tests::figures::{Figure, percentile, report};
use handshake_tests::guest_tools::{is_installed, with_tools};
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::json;

mod raw;
use raw::Raw;

const LANGUAGES: [(&str, &str, Option<&str>); 3] = [
    ("Rust", "stats-rust", None),
    ("Python", "stats-python", Some("componentize-py")),
    ("JavaScript", "stats-javascript", Some("componentize-js")),
];

/// A call that the plugin refuses at once, through the host and on raw wasmtime.
async fn a_call(language: &str, id: &str) -> Figure {
    const ROUNDS: usize = 60;
    let runtime = TestRuntime::new();
    let plugin = runtime.runtime.find(id).unwrap();
    let raw = Raw::of(&plugin.folder.join(&plugin.manifest.component.path));
    let (input, rights) = (json!({}), Rights::granting(&[]));
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 10 {
        let without = raw.refusal("{}").await;
        let start = Instant::now();
        runtime.run_found(&plugin, input.clone(), &rights).await.unwrap_err();
        if round >= 10 {
            ours.push(start.elapsed());
            floor.push(without);
        }
    }
    let (ours, floor) = (percentile(ours, 50), percentile(floor, 50));
    let over = ours.saturating_sub(floor);
    Figure {
        what: format!("a call in {language}, median"),
        value: format!("{ours:?}, {over:?} more"),
        floor: format!("raw wasmtime {floor:?}"),
        budget: "printed",
        met: true,
    }
}

/// What a new process needs before the plugin's first call has ended, when its code was compiled before.
async fn second_start(language: &str, id: &str, budget: Option<Duration>) -> Figure {
    let (input, rights) = (json!({}), Rights::granting(&[]));
    let mut samples = Vec::new();
    let mut megabytes = 0.0;
    for round in 0..11 {
        // Nothing of it is in this runtime's memory yet; the first one may compile.
        let runtime = TestRuntime::new();
        let start = Instant::now();
        let plugin = runtime.runtime.find(id).unwrap();
        runtime.run_found(&plugin, input.clone(), &rights).await.unwrap_err();
        if round > 0 {
            samples.push(start.elapsed());
        }
        let file = plugin.folder.join(&plugin.manifest.component.path);
        megabytes = fs::metadata(file).unwrap().len() as f64 / 1e6;
    }
    let took = percentile(samples, 50);
    Figure {
        what: format!("second start in {language}, median"),
        value: format!("{took:?}"),
        floor: format!("a component of {megabytes:.1} MB"),
        budget: if budget.is_some() { "≤ 100 ms" } else { "printed" },
        met: budget.is_none_or(|budget| took <= budget),
    }
}

/// `plugin run` as a whole process, with everything that it opens.
fn plugin_run() -> Figure {
    let project = Project::new();
    project.write("docs/a.md", "# A\n\nTwo words.\n");
    let arguments =
        ["plugin", "run", "stats-rust", "--input", r#"{"mount":"in"}"#, "--mount", "in=docs", "--grant", "fs.read:in"];
    project.run(&arguments).success();
    let time = |arguments: &[&str]| {
        let samples = (0..15).map(|_| {
            let start = Instant::now();
            project.run(arguments).success();
            start.elapsed()
        });
        percentile(samples.collect(), 50)
    };
    let (took, floor) = (time(&arguments), time(&["--version"]));
    Figure {
        what: "`plugin run` of a Rust step, whole process".into(),
        value: format!("{took:?}"),
        floor: format!("`--version` {floor:?}"),
        budget: "≤ 60 ms",
        met: took <= Duration::from_millis(60),
    }
}

/// `plugin build` of the Rust template after one line of it was changed, checked and hashed.
fn incremental_build() -> Figure {
    let project = Project::bare();
    project.run(&["init"]).success();
    project.run(&["plugin", "new", "first-step", "--lang", "rust", "--dir", "plugins"]).success();
    let build = || {
        let start = Instant::now();
        let built = with_tools(&mut project.command(&["plugin", "build", "plugins/first-step"])).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        start.elapsed()
    };
    build();
    let source = project.path("plugins/first-step/src/lib.rs");
    let mut samples = Vec::new();
    let mut floor = Vec::new();
    for round in 0..5 {
        let text = fs::read_to_string(&source).unwrap();
        fs::write(&source, format!("{text}\n#[allow(dead_code)]\nfn changed_{round}() -> u32 {{ {round} }}\n"))
            .unwrap();
        samples.push(build());
        let text = fs::read_to_string(&source).unwrap();
        fs::write(&source, format!("{text}\n#[allow(dead_code)]\nfn again_{round}() -> u32 {{ {round} }}\n")).unwrap();
        let start = Instant::now();
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--target", "wasm32-wasip2", "--quiet"]);
        cargo.current_dir(project.path("plugins/first-step"));
        // Where this cannot build for WebAssembly by itself there is no floor to tell.
        if with_tools(&mut cargo).output().is_ok_and(|built| built.status.success()) {
            floor.push(start.elapsed());
        }
    }
    let took = percentile(samples, 50);
    let floor = if floor.is_empty() {
        "none: plain cargo has no such target here".to_owned()
    } else {
        format!("plain cargo {:?}", percentile(floor, 50))
    };
    Figure {
        what: "incremental `plugin build`, Rust template".into(),
        value: format!("{took:?}"),
        floor,
        budget: "≤ 5 s",
        met: took <= Duration::from_secs(5),
    }
}

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions) {
        println!("the benchmark runs in a release build: just bench plugins");
        return ExitCode::SUCCESS;
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut figures = Vec::new();
    for (language, id, tool) in LANGUAGES {
        if tool.is_some_and(|tool| !is_installed(tool)) {
            continue;
        }
        let budget = (language == "Python").then(|| Duration::from_millis(100));
        figures.push(tokio.block_on(second_start(language, id, budget)));
        figures.push(tokio.block_on(a_call(language, id)));
    }
    figures.push(plugin_run());
    figures.push(incremental_build());
    report(&figures)
}
