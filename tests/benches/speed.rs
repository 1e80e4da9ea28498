//! What the host costs, as ratios beside floors that are measured in the same run.
//!
//! `just bench` runs it in a release build, after building the plugins. It prints a table and exits with 1 when a
//! budget is missed by this run on this machine. Numbers of a machine that is busy with something else say little.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handshake_core::capability::{
    AXES, Axis, CapabilityId, Effect, EffectiveRights, Mode, MountRule, Policy, PolicyInForce, Profile, Resource, Rule,
    SourceRef,
};
use handshake_core::job::AccessMode;
use handshake_core::mount::MountAccess;
use handshake_core::step::StepExecutor;
use handshake_core::{Digest, PluginId, ProfileId};
use handshake_tests::binary::Project;
use handshake_tests::figures::{Figure, percentile, report};
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::json;

mod raw;
use raw::Raw;

/// The same component, call and result on raw wasmtime and through the host: a step that refuses its input at once, so
/// that nothing of its own work hides what the host adds.
async fn attempt_against_raw() -> Figure {
    const ROUNDS: usize = 400;
    let runtime = TestRuntime::new();
    let input = json!({});
    let rights = Rights::granting(&[]);
    let plugin = runtime.runtime.find("summarize").unwrap();
    let raw = Raw::of(&handshake_tests::root().join("plugins/summarize/dist/summarize.wasm"));
    let text = input.to_string();
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 50 {
        let without = raw.refusal(&text).await;
        let start = Instant::now();
        runtime.run_found(&plugin, input.clone(), &rights).await.unwrap_err();
        let host = start.elapsed();
        // The first rounds warm both up.
        if round >= 50 {
            floor.push(without);
            ours.push(host);
        }
    }
    let (ours, floor) = (percentile(ours, 50), percentile(floor, 50));
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    Figure {
        what: "instantiate + call + gate, median".into(),
        value: format!("{ratio:.2}× ({ours:?})"),
        floor: format!("raw wasmtime {floor:?}"),
        budget: "≤ 2×",
        met: ratio <= 2.0,
    }
}

/// One decision in memory, over rights of a usual size.
fn decision() -> Figure {
    let everything: Vec<_> = AXES.iter().copied().map(CapabilityId::bare).collect();
    let source = SourceRef { file: "policy.toml".into(), line: 1 };
    let plugin = PluginId::new("summarize").unwrap();
    let rules = everything.iter().map(|capability| Rule {
        effect: Effect::Allow,
        capability: capability.clone(),
        plugins: Vec::new(),
        addresses: Vec::new(),
        source: source.clone(),
    });
    let grants = ["fs.read:in/reports/**", "fs.write:out", "model.infer:default", "artifact.read"];
    let rights = EffectiveRights {
        plugin: Some(plugin),
        declared: everything.iter().cloned().collect(),
        granted: grants.iter().map(|id| id.parse().unwrap()).collect(),
        profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: everything.iter().cloned().collect() }),
        access_mode: AccessMode::ApplyScoped,
        policy: PolicyInForce::new(Policy {
            mode: Mode::Enforce,
            rules: rules.collect(),
            mounts: vec![MountRule { path: "/".into(), access: MountAccess::Write, source: source.clone() }],
            secrets: Vec::new(),
            digest: Digest::ZERO,
        }),
        manifest_sha256: Digest::ZERO,
        workspace: None,
    };
    let path =
        Resource::Path { mount: "in".into(), path: "reports/2026/november.md".into(), host: "/srv/documents".into() };
    let requests =
        [(Axis::FsRead, path), (Axis::ModelInfer, Resource::name("default")), (Axis::FsWrite, Resource::Whole)];
    let mut samples = Vec::with_capacity(300_000);
    let mut clock = Vec::with_capacity(300_000);
    for _ in 0..100_000 {
        for (axis, resource) in &requests {
            let start = Instant::now();
            std::hint::black_box(rights.decide(*axis, std::hint::black_box(resource)));
            samples.push(start.elapsed());
            let start = Instant::now();
            clock.push(start.elapsed());
        }
    }
    let (p99, floor) = (percentile(samples, 99), percentile(clock, 99));
    Figure {
        what: "in-memory decision, p99".into(),
        value: format!("{p99:?}"),
        floor: format!("reading the clock {floor:?}"),
        budget: "≤ 2 µs",
        met: p99 <= Duration::from_micros(2),
    }
}

/// From the start of the process to the first step, by the record's own times: process start from the kernel, the
/// step's checkpoint from its `span_start`.
fn first_step(project: &Project) -> Figure {
    project.write("docs/a.md", "# A\n\nOne sentence. And another one.\n");
    project.summarize(&[]).success();
    let mut samples = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..15 {
        let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
        let start = std::time::SystemTime::now();
        let begun = Instant::now();
        project.run(&["run", workflow.to_str().unwrap(), "-i", "folder=docs", "-q"]).success();
        whole.push(begun.elapsed());
        let steps = project.events("span_start");
        let last =
            steps.iter().rfind(|event| event["payload"]["span"] == "step" && event["step_id"] == "read").unwrap();
        let at = handshake_core::Timestamp::parse(last["timestamp"].as_str().unwrap()).unwrap();
        let started = start.duration_since(std::time::UNIX_EPOCH).unwrap();
        samples.push(Duration::from_micros(u64::try_from(at.micros()).unwrap()).saturating_sub(started));
    }
    let median = percentile(samples, 50);
    let mut floor = Vec::new();
    for _ in 0..15 {
        let begun = Instant::now();
        project.run(&["--version"]).success();
        floor.push(begun.elapsed());
    }
    Figure {
        what: "`run`, warm cache, to the first step, median".into(),
        value: format!("{median:?} (whole run {:?})", percentile(whole, 50)),
        floor: format!("`--version` {:?}", percentile(floor, 50)),
        budget: "≤ 100 ms",
        met: median <= Duration::from_millis(100),
    }
}

/// Ten thousand documents: time and peak memory of the whole process, as the kernel counts it.
fn ten_thousand_documents(project: &Project) -> Figure {
    for number in 0..10_000 {
        let sentences: String =
            (0..40).map(|n| format!("Sentence {n} of document {number} speaks of gates and records. ")).collect();
        project.write(&format!("docs/{number:05}.md"), format!("# Document {number}\n\n{sentences}\n"));
    }
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
    let mut child = project.command(&["run", workflow.to_str().unwrap(), "-i", "folder=docs", "-q"]).spawn().unwrap();
    let begun = Instant::now();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    let ended = loop {
        if let Ok(text) = fs::read_to_string(&status)
            && let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:"))
        {
            peak = line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(peak);
        }
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    assert!(ended.success());
    let bytes: u64 =
        fs::read_dir(project.path("docs")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    Figure {
        what: "10,000 documents, peak memory".into(),
        value: format!("{} MB in {:.0?}", peak / 1000, begun.elapsed()),
        floor: format!("{} MB of documents", bytes / 1_000_000),
        budget: "≤ 200 MB",
        met: peak <= 200_000,
    }
}

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions) {
        println!("the benchmark runs in a release build: just bench");
        return ExitCode::SUCCESS;
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut figures = vec![tokio.block_on(attempt_against_raw()), decision()];
    let project = Project::new();
    figures.push(first_step(&project));
    figures.push(ten_thousand_documents(&project));
    report(&figures)
}
