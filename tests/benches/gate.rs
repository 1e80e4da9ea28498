//! What deciding costs: in memory under a thousand rules, and for a call that reads, through the gate and without it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use handshake_core::storage::Database;
use handshake_core::testing::{NoRedaction, SequentialIds};
use handshake_core::{Digest, HostId, JobId, PluginId, ProfileId, RunId, StepId, TraceId};
use handshake_recorder::{Recorder, Redaction};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::backends::RunningClock;
use handshake_tests::figures::{Figure, percentile, report};
use handshake_tests::gates;
use handshake_tests::storage::options;

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

/// How long attempts ask, to count what they get done.
const ASKING: Duration = Duration::from_secs(3);

/// What one attempt gets done while another asks as fast as it can, beside what it gets done alone. Its work is like a
/// step's: it computes for half a millisecond, reads ten times and has one effect.
async fn beside_a_flood() -> Figure {
    let folder = tempfile::tempdir().unwrap();
    let url: DatabaseUrl = format!("sqlite://{}", folder.path().join("handshake.db").display()).parse().unwrap();
    let (clock, ids) = (Arc::new(RunningClock::default()), Arc::new(SequentialIds::default()));
    let database = SqlDatabase::open(options(&url, HostId::fresh(&*ids), clock.clone())).await.unwrap();
    let redaction = Arc::new(Redaction::new(Vec::new()));
    let recorder = Arc::new(Recorder::new(Arc::clone(&database) as _, redaction, clock.clone()));
    let axes = [Axis::ConfigRead, Axis::ModelInfer];
    let in_force = PolicyInForce::new(gates::policy(Effect::Allow, &axes, "allowing"));
    let attempt = || {
        let services = GateServices { recorder: recorder.clone(), clock: clock.clone(), ids: ids.clone() };
        gates::gate(&in_force, &axes, None, services)
    };
    let work = || async {
        let gate = attempt();
        let (started, mut done) = (Instant::now(), 0_u32);
        while started.elapsed() < ASKING {
            let computing = Instant::now();
            while computing.elapsed() < Duration::from_micros(500) {
                std::hint::spin_loop();
            }
            for _ in 0..10 {
                gate.permit(gates::call(Axis::ConfigRead)).await.unwrap().succeeded(0, 0);
            }
            gate.permit(gates::call(Axis::ModelInfer)).await.unwrap().succeeded(0, 0);
            done += 1;
        }
        f64::from(done) / started.elapsed().as_secs_f64()
    };
    work().await;
    let alone = work().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (flooder, stopped) = (attempt(), Arc::clone(&stop));
    let flood = tokio::spawn(async move {
        let (started, mut calls) = (Instant::now(), 0_u32);
        while !stopped.load(Ordering::Relaxed) {
            flooder.permit(gates::call(Axis::ConfigRead)).await.unwrap().succeeded(0, 0);
            calls += 1;
        }
        f64::from(calls) / started.elapsed().as_secs_f64()
    });
    let beside = work().await;
    stop.store(true, Ordering::Relaxed);
    let calls = flood.await.unwrap();
    database.close().await.unwrap();
    Figure {
        what: "an attempt beside a flood of calls".into(),
        value: format!("{:.0} % ({beside:.0}/s, flood {calls:.0} calls/s)", 100.0 * beside / alone),
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
