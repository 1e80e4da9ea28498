//! What deciding costs: in memory under a thousand rules, for a call that reads, through the gate and without it, and for
//! one that waits until its permit is durable.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handshake_core::capability::{
    Axis, CapabilityId, Effect, EffectiveRights, Mode, MountRule, Policy, PolicyInForce, Profile, Resource, Rule,
    SourceRef,
};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::gate::{AttemptGate, AttemptIdentity, AttemptPlace, Call, GateServices};
use handshake_core::job::AccessMode;
use handshake_core::mount::MountAccess;
use handshake_core::storage::{Database, EventOutbox, JobStore, RunChange, RunStore};
use handshake_core::testing::{MemoryRecorder, SequentialIds};
use handshake_core::{Digest, HostId, PluginId, ProfileId, StepId};
use handshake_recorder::{Recorder, Redaction};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::backends::RunningClock;
use handshake_tests::figures::{Figure, percentile, report};
use handshake_tests::runtime::{Rights, TestRuntime};
use handshake_tests::storage::{job, options};
use serde_json::json;

const RULES: u32 = 1_000;
const SAMPLES: usize = 200_000;

/// The capability of the n-th rule, and the plugin that it is for.
type Spread = fn(u32) -> (String, Option<u32>);

/// How a policy spreads its rules.
const SPREADS: &[(&str, Spread)] = &[
    ("name", |n| (format!("model.infer:model-{n}"), None)),
    ("mount", |n| (format!("fs.read:mount-{n}"), None)),
    ("folder of one mount", |n| (format!("fs.read:in/d{n}/**"), None)),
    ("plugin", |n| ("fs.read".to_owned(), Some(n))),
];
/// Patterns that begin with a wildcard have nothing to be found by; each has to be tried.
const TRIED: (&str, Spread) = ("wildcard of one mount", |n| (format!("fs.read:in/**/*-{n}.md"), None));

fn rights(spread: Spread) -> EffectiveRights {
    let axes = [Axis::FsRead, Axis::ModelInfer];
    let all = || axes.into_iter().map(CapabilityId::bare).collect();
    let source = |line| SourceRef { file: "policy.toml".into(), line };
    let rules = (1..=RULES).map(|n| {
        let (id, plugin) = spread(n);
        let plugins = plugin.map(|n| PluginId::new(format!("plugin-{n}")).unwrap()).into_iter().collect();
        let effect = if n % 10 == 0 { Effect::Deny } else { Effect::Allow };
        Rule { effect, capability: id.parse().unwrap(), plugins, addresses: Vec::new(), source: source(n) }
    });
    let mounts = vec![MountRule { path: "/srv".into(), access: MountAccess::Read, source: source(1) }];
    EffectiveRights {
        plugin: Some(PluginId::new("plugin-999").unwrap()),
        declared: all(),
        granted: all(),
        profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: all() }),
        access_mode: AccessMode::ApplyScoped,
        policy: PolicyInForce::new(Policy {
            mode: Mode::Enforce,
            rules: rules.collect(),
            mounts,
            secrets: Vec::new(),
            digest: Digest::ZERO,
        }),
        manifest_sha256: Digest::ZERO,
        workspace: None,
    }
}

fn document(path: &str) -> Resource {
    Resource::Path { mount: "in".into(), path: path.into(), host: "/srv/team/documents".into() }
}

/// The time that a decision takes, at its median and its 99th percentile.
fn decision((name, spread): (&str, Spread), budgeted: bool) -> Figure {
    let rights = rights(spread);
    let requests = [
        (Axis::FsRead, document("d999/2026/report-999.md")),
        (Axis::FsRead, document("elsewhere/note.txt")),
        (Axis::ModelInfer, Resource::name("model-999")),
    ];
    let (mut samples, mut clock) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
    for (axis, resource) in requests.iter().cycle().take(SAMPLES) {
        let start = Instant::now();
        black_box(rights.decide(*axis, black_box(resource)));
        samples.push(start.elapsed());
        let start = Instant::now();
        clock.push(start.elapsed());
    }
    let (p50, p99) = middle_and_tail(&samples);
    Figure {
        what: format!("decision, a rule for each {name}"),
        value: format!("p50 {p50:?}, p99 {p99:?}"),
        floor: format!("reading the clock {:?}", percentile(clock, 99)),
        budget: if budgeted { "≤ 2 µs" } else { "-" },
        met: !budgeted || p99 <= Duration::from_micros(2),
    }
}

/// The median and the 99th percentile.
fn middle_and_tail(samples: &[Duration]) -> (Duration, Duration) {
    (percentile(samples.to_vec(), 50), percentile(samples.to_vec(), 99))
}

/// A database, and what a gate needs so that it records there, redaction included.
async fn recording(folder: &Path) -> (Arc<SqlDatabase>, GateServices) {
    let url: DatabaseUrl = format!("sqlite://{}", folder.join("handshake.db").display()).parse().unwrap();
    let (clock, ids) = (Arc::new(RunningClock::default()), Arc::new(SequentialIds::default()));
    let database = SqlDatabase::open(options(&url, HostId::fresh(&*ids), clock.clone())).await.unwrap();
    let redaction = Arc::new(Redaction::new(Vec::new()));
    let recorder = Arc::new(Recorder::new(Arc::clone(&database) as _, redaction, clock.clone()));
    (database, GateServices { recorder, clock, ids })
}

/// The same with a run that this host executes, and a gate in front of an attempt of it.
async fn executing(folder: &Path, spread: Spread) -> (Arc<SqlDatabase>, AttemptGate) {
    let (database, services) = recording(folder).await;
    let (job, run) = job(&*services.ids, services.clock.now());
    let (job_id, run_id, trace) = (job.job_id, run.run_id, run.trace_id);
    database.submit(job, run, None, Vec::new()).await.unwrap();
    let fence = database.claim(run_id, RunChange::default()).await.unwrap().fence;
    let step = StepId::new("ask").unwrap();
    let identity = AttemptIdentity {
        trace,
        actor: Actor { kind: ActorKind::Agent, id: "plugin-999@0.1.0".into() },
        component_sha256: None,
        span: None,
        place: Some(AttemptPlace { job: job_id, run: run_id, step, index: None, attempt: 1, fence }),
    };
    (database, AttemptGate::new(identity, Arc::new(rights(spread)), services))
}

/// A call that reads a small file, through the gate and without it, while what it leaves behind is recorded.
async fn reading() -> Figure {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("note.md");
    std::fs::write(&file, vec![b'x'; 4096]).unwrap();
    let (database, gate) = executing(folder.path(), SPREADS[2].1).await;
    let read = || black_box(std::fs::read(&file).unwrap()).len() as u64;
    let (mut gated, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES / 10 {
        let start = Instant::now();
        let resource = document("d999/note.md");
        let arguments = Digest::of(b"d999/note.md");
        let call = Call {
            interface: "wasi:filesystem/types@0.2.6",
            function: "open-at",
            axis: Axis::FsRead,
            resource,
            arguments,
        };
        let permit = gate.permit(call).await.unwrap();
        permit.succeeded(read(), 0);
        gated.push(start.elapsed());
        let start = Instant::now();
        read();
        bare.push(start.elapsed());
    }
    database.close().await.unwrap();
    let ((p50, p99), (bare50, bare99)) = (middle_and_tail(&gated), middle_and_tail(&bare));
    let more = p50.saturating_sub(bare50);
    let mean = |samples: &[Duration]| samples.iter().sum::<Duration>() / u32::try_from(samples.len()).unwrap();
    let all = mean(&gated).saturating_sub(mean(&bare));
    Figure {
        what: "reading 4 KiB through the gate, median".into(),
        value: format!("+{more:?} ({p50:?}, p99 {p99:?}; in a loop +{all:?} on average)"),
        floor: format!("without it {bare50:?}, p99 {bare99:?}"),
        budget: "≤ 5 µs more",
        met: more <= Duration::from_micros(5),
    }
}

/// Durable permits that are asked for, one after the other; and how many wait at once.
const DURABLE: usize = 1_000;
const WAITING: usize = 64;

/// A permit for an effect, which is durable when it is given, beside what a disk takes for as much; and how many of
/// those that wait at the same time share a commit. A host that has just begun makes its write-ahead log longer with
/// each commit, until the first checkpoint; from then on the log is written over, which is what most commits do. Both
/// are told.
async fn durable() -> [Figure; 2] {
    let folder = tempfile::tempdir().unwrap();
    let (database, gate) = executing(folder.path(), SPREADS[0].1).await;
    let gate = Arc::new(gate);
    let file = std::fs::File::create(folder.path().join("floor")).unwrap();
    let page = vec![b'x'; 4096];
    let (mut permits, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..2 * DURABLE {
        let start = Instant::now();
        asking(&gate).await;
        permits.push(start.elapsed());
        let start = Instant::now();
        (&file).write_all(&page).unwrap();
        file.sync_all().unwrap();
        syncs.push(start.elapsed());
    }
    let (first, permits) = permits.split_at(DURABLE);
    let ((first50, first99), (p50, p99)) = (middle_and_tail(first), middle_and_tail(permits));
    let (sync50, sync99) = middle_and_tail(&syncs[DURABLE..]);

    let start = Instant::now();
    let waiting = (0..WAITING).map(|_| {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            for _ in 0..DURABLE / WAITING {
                asking(&gate).await;
            }
        })
    });
    futures::future::try_join_all(waiting.collect::<Vec<_>>()).await.unwrap();
    let each = start.elapsed() / u32::try_from(DURABLE / WAITING * WAITING).unwrap();
    database.close().await.unwrap();
    [
        Figure {
            what: "durable permit".into(),
            value: format!("p50 {p50:?}, p99 {p99:?} (the host's first {DURABLE}: {first50:?}, {first99:?})"),
            floor: format!("4 KiB and fsync {sync50:?}, {sync99:?}"),
            budget: "p99 ≤ 2 ×",
            met: p99 <= 2 * sync99,
        },
        Figure {
            what: format!("durable permit, {WAITING} waiting at once"),
            value: format!("{each:?} each"),
            floor: format!("alone {p50:?}"),
            budget: "≤ 0.5 ×",
            met: each <= p50 / 2,
        },
    ]
}

/// Gets a permit for a call of a model, and makes nothing of it.
async fn asking(gate: &AttemptGate) {
    let call = Call {
        interface: "handshake:step/models@0.1.0",
        function: "generate",
        axis: Axis::ModelInfer,
        resource: Resource::name("model-999"),
        arguments: Digest::of(b"hello"),
    };
    gate.permit(call).await.unwrap().succeeded(0, 0);
}

/// How long attempts are executed, to count them.
const ASKING: Duration = Duration::from_secs(3);

/// How many attempts get done, one after the other, while another calls the host as fast as it can up to its quota, and
/// begins again then; beside how many get done without it.
async fn beside_a_flood() -> Figure {
    let folder = tempfile::tempdir().unwrap();
    let (database, services) = recording(folder.path()).await;
    let folders = vec![handshake_tests::root().join("tests/guests")];
    let runtime = Arc::new(TestRuntime::with_gate(folders, services, Arc::new(MemoryRecorder::default())));
    let rights = Arc::new(Rights::granting(&["config.read"]));
    let attempts = || async {
        let (started, mut done) = (Instant::now(), 0_u32);
        while started.elapsed() < ASKING {
            runtime.run("hostile", json!({ "behaviour": "config-read" }), &rights).await.unwrap();
            done += 1;
        }
        f64::from(done) / started.elapsed().as_secs_f64()
    };
    attempts().await;
    let alone = attempts().await;
    let flood = tokio::spawn({
        let (runtime, rights) = (Arc::clone(&runtime), Arc::clone(&rights));
        async move {
            loop {
                let _ = runtime.run("hostile", json!({ "behaviour": "host-calls-million" }), &rights).await;
            }
        }
    });
    let before = database.flush().await.unwrap().seq;
    let beside = attempts().await;
    flood.abort();
    let events = database.flush().await.unwrap().seq - before;
    database.close().await.unwrap();
    Figure {
        what: "attempts beside a flood of calls".into(),
        value: format!(
            "{:.0} % ({beside:.0}/s, {:.0} events/s)",
            100.0 * beside / alone,
            events as f64 / ASKING.as_secs_f64()
        ),
        floor: format!("alone {alone:.0}/s"),
        budget: "≥ 90 %",
        met: beside >= 0.9 * alone,
    }
}

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions) {
        println!("the benchmark runs in a release build: just bench gate");
        return ExitCode::SUCCESS;
    }
    let mut figures: Vec<_> = SPREADS.iter().map(|spread| decision(*spread, true)).collect();
    figures.push(decision(TRIED, false));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    figures.push(runtime.block_on(reading()));
    figures.extend(runtime.block_on(durable()));
    figures.push(runtime.block_on(beside_a_flood()));
    report(&figures)
}
