//! What deciding costs: in memory under a thousand rules, and for a call that reads, through the gate and without it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use handshake_core::capability::{
    Axis, CapabilityId, Effect, EffectiveRights, Mode, MountRule, Policy, PolicyInForce, Profile, Resource, Rule,
    SourceRef,
};
use handshake_core::event::{Actor, ActorKind, AdmittedEvent, Event};
use handshake_core::gate::{AttemptGate, AttemptIdentity, AttemptPlace, Call, GateServices};
use handshake_core::job::AccessMode;
use handshake_core::mount::MountAccess;
use handshake_core::recorder::{EffectNote, FlightRecorder, OutcomeSlot, RecorderError};
use handshake_core::run::FencingToken;
use handshake_core::storage::{Database, EventOutbox};
use handshake_core::testing::{MemoryRecorder, NoRedaction, SequentialIds};
use handshake_core::{Digest, HostId, JobId, PluginId, ProfileId, RunId, StepId, TraceId};
use handshake_recorder::{Recorder, Redaction};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::backends::RunningClock;
use handshake_tests::figures::{Figure, percentile, report};
use handshake_tests::runtime::{Rights, TestRuntime};
use handshake_tests::storage::options;
use serde_json::json;

const RULES: u32 = 1_000;
const SAMPLES: usize = 200_000;

/// Admits what it is given and forgets it: what is measured is the gate, not a disk.
struct Forgetting;

struct Nowhere;

impl OutcomeSlot for Nowhere {
    fn fill(self: Box<Self>, event: Event) {
        black_box(event);
    }
}

#[async_trait]
impl FlightRecorder for Forgetting {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError> {
        Ok(AdmittedEvent::admit(event, &NoRedaction, event.timestamp)?)
    }
    fn enqueue(&self, event: &Event) -> Result<(), RecorderError> {
        self.admit(event).map(|admitted| drop(black_box(admitted)))
    }
    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError> {
        Ok(Box::new(Nowhere))
    }
    async fn record_event(&self, event: &Event) -> Result<(), RecorderError> {
        self.enqueue(event)
    }
    async fn record_effect(&self, _: EffectNote, event: &Event) -> Result<(), RecorderError> {
        self.enqueue(event)
    }
    async fn flush(&self) -> Result<(), RecorderError> {
        Ok(())
    }
}

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
    let (p50, p99) = (percentile(samples.clone(), 50), percentile(samples, 99));
    Figure {
        what: format!("decision, a rule for each {name}"),
        value: format!("p50 {p50:?}, p99 {p99:?}"),
        floor: format!("reading the clock {:?}", percentile(clock, 99)),
        budget: if budgeted { "≤ 2 µs" } else { "-" },
        met: !budgeted || p99 <= Duration::from_micros(2),
    }
}

/// A call that reads a small file, through the gate and without it. What the gate adds has no budget of its own: it is
/// part of the 2× of instantiating and calling, which `speed` measures.
fn reading() -> Figure {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("note.md");
    std::fs::write(&file, vec![b'x'; 4096]).unwrap();
    let ids = Arc::new(SequentialIds::default());
    let identity = AttemptIdentity {
        trace: TraceId::fresh(&*ids),
        actor: Actor { kind: ActorKind::Agent, id: "plugin-999@0.1.0".into() },
        component_sha256: None,
        span: None,
        place: Some(AttemptPlace {
            job: JobId::fresh(&*ids),
            run: RunId::fresh(&*ids),
            step: StepId::new("read").unwrap(),
            index: None,
            attempt: 1,
            fence: FencingToken(1),
        }),
    };
    let services = GateServices { recorder: Arc::new(Forgetting), clock: Arc::new(RunningClock::default()), ids };
    let spread = SPREADS[2].1;
    let gate = AttemptGate::new(identity, Arc::new(rights(spread)), services);
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
        let permit = gate.permit(call).now_or_never().unwrap().unwrap();
        permit.succeeded(read(), 0);
        gated.push(start.elapsed());
        let start = Instant::now();
        read();
        bare.push(start.elapsed());
    }
    let both = |samples: &Vec<Duration>| (percentile(samples.clone(), 50), percentile(samples.clone(), 99));
    let ((p50, p99), (bare50, bare99)) = (both(&gated), both(&bare));
    Figure {
        what: "reading 4 KiB through the gate".into(),
        value: format!("p50 {p50:?}, p99 {p99:?}"),
        floor: format!("without it {bare50:?}, {bare99:?}"),
        budget: "-",
        met: true,
    }
}

/// How long attempts are executed, to count them.
const ASKING: Duration = Duration::from_secs(3);

/// How many attempts get done, one after the other, while another calls the host as fast as it can up to its quota, and
/// begins again then; beside how many get done without it.
async fn beside_a_flood() -> Figure {
    let folder = tempfile::tempdir().unwrap();
    let url: DatabaseUrl = format!("sqlite://{}", folder.path().join("handshake.db").display()).parse().unwrap();
    let (clock, ids) = (Arc::new(RunningClock::default()), Arc::new(SequentialIds::default()));
    let database = SqlDatabase::open(options(&url, HostId::fresh(&*ids), clock.clone())).await.unwrap();
    let redaction = Arc::new(Redaction::new(Vec::new()));
    let recorder = Arc::new(Recorder::new(Arc::clone(&database) as _, redaction, clock.clone()));
    let services = GateServices { recorder, clock, ids };
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
    figures.push(reading());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    figures.push(runtime.block_on(beside_a_flood()));
    report(&figures)
}
