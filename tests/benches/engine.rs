//! What driving workflows costs, as ratios beside floors that are measured in the same run.
//!
//! `just bench engine` runs it in a release build, after building the plugins. It prints a table and exits with 1 when
//! a budget is missed by this run on this machine. SQLite, with the settings of the host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use handshake_core::capability::{Mode, Policy, PolicyInForce, builtin_profiles};
use handshake_core::event::Actor;
use handshake_core::gate::GateServices;
use handshake_core::job::JobState;
use handshake_core::mount::{Mount, MountAccess, MountError, MountResolver};
use handshake_core::node::NodeKey;
use handshake_core::recorder::FlightRecorder;
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::step::{Descriptor, Plugin, PluginError, StepExecutor, StepFailure, StepInvocation, StepOutcome};
use handshake_core::storage::{EventOutbox, OnClaim, Payloads, RunChange, RunStore, StorageError, WorkQueue};
use handshake_core::testing::{self, MemoryRecorder, NoRedaction, SequentialIds};
use handshake_core::{Clock, Digest, HostId, PluginId, RunId, StepId};
use handshake_engine::{Control, Engine, EngineServices, Format, InputValue, Submission, WorkflowSource};
use handshake_recorder::Recorder;
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::backends::{Forgetting, RunningClock};
use handshake_tests::figures::{Figure, report};
use handshake_tests::runtime::TestRuntime;
use handshake_tests::storage::{Calls, Recorded, job, node, open};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio_util::sync::CancellationToken;

/// As in the host's binary; the floors gain by it too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PERIOD: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const CROWD: usize = 64;
/// Commits that three steps may take.
const MOST_COMMITS: f64 = 6.0;

/// Three sandboxed steps, each of which asks for something once; the decision is on record.
const THREE: &str = "
name: three
steps:
  - { id: a, uses: hostile, with: { behaviour: config-read } }
  - { id: b, uses: hostile, needs: [a], with: { behaviour: config-read } }
  - { id: c, uses: hostile, needs: [b], with: { behaviour: config-read } }
";

struct NoMounts;
impl MountResolver for NoMounts {
    fn resolve(&self, _: &Path, name: &str, path: &Path, _: MountAccess) -> Result<Mount, MountError> {
        Err(MountError::NotListed { name: name.into(), path: path.into(), access: "read" })
    }
}

/// Steps that cost nothing, so that what is left is the engine's.
struct Nothing;

#[async_trait]
impl StepExecutor for Nothing {
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        Ok(testing::plugin(PluginId::new(uses).unwrap(), b"component"))
    }
    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        Ok(testing::descriptor(plugin))
    }
    async fn execute(&self, _: StepInvocation) -> Result<StepOutcome, StepFailure> {
        let (measurements, metrics) = Default::default();
        Ok(StepOutcome { output: json!({ "done": true }), measurements, metrics, proposals: Vec::new() })
    }
}

struct Host {
    _folder: tempfile::TempDir,
    database: Arc<SqlDatabase>,
    recorded: Arc<Recorded>,
    engine: Engine,
    ids: Arc<SequentialIds>,
    clock: Arc<dyn Clock>,
}

impl Host {
    async fn new(executor: impl FnOnce(GateServices) -> Arc<dyn StepExecutor>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ids, clock) =
            (Arc::new(SequentialIds::default()), Arc::new(RunningClock::of_the_machine()) as Arc<dyn Clock>);
        let url = DatabaseUrl::sqlite(folder.path().join("handshake.db"));
        let database = open(&url, HostId::fresh(&*ids), clock.clone()).await;
        let outbox = Arc::clone(&database) as Arc<dyn EventOutbox>;
        let recorder: Arc<dyn FlightRecorder> = Arc::new(Recorder::new(outbox, Arc::new(NoRedaction), clock.clone()));
        let recorded = Recorded::new(&database, &Calls::default());
        let policy = Policy::empty(Mode::Enforce, Digest::of(b"policy"));
        let engine = Engine::new(EngineServices {
            database: Arc::clone(&recorded) as _,
            content: Arc::clone(&recorded) as _,
            recorder: Arc::clone(&recorder),
            executor: executor(GateServices { recorder, clock: Arc::clone(&clock), ids: Arc::clone(&ids) as _ }),
            mounts: Arc::new(NoMounts),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids) as _,
            policy: PolicyInForce::new(policy),
            profiles: builtin_profiles().into_iter().map(Arc::new).collect(),
            lease: Duration::from_secs(30),
            settings: Arc::default(),
            max_parallel: 8,
            safeguards: Default::default(),
        });
        Self { _folder: folder, database, recorded, engine, ids, clock }
    }

    async fn run(&self, text: &str, inputs: &[(&str, Value)]) -> RunId {
        let submission = Submission {
            source: WorkflowSource { file: "bench.yaml".into(), text: text.into(), format: Format::Yaml },
            inputs: inputs.iter().map(|(name, value)| ((*name).into(), InputValue::Json(value.clone()))).collect(),
            base: "/".into(),
            idempotency_key: None,
            actor: Actor::system(),
        };
        let control = Control::new(CancellationToken::new());
        let done = self.engine.run(submission, &control, |begun| drop(begun.unwrap())).await.unwrap().unwrap();
        assert_eq!(done.job.state, JobState::Completed, "{}", done.job.status_reason);
        done.run.run_id
    }

    /// Workflows per second with so many at a time.
    async fn rate(self: &Arc<Self>, at_once: usize) -> f64 {
        let started = Instant::now();
        let tasks = (0..at_once).map(|_| {
            let host = Arc::clone(self);
            tokio::spawn(async move {
                let mut done = 0;
                while started.elapsed() < PERIOD {
                    host.run(THREE, &[]).await;
                    done += 1;
                }
                done
            })
        });
        let mut done = 0;
        for task in tasks.collect::<Vec<_>>() {
            done += task.await.unwrap();
        }
        f64::from(done) / started.elapsed().as_secs_f64()
    }
}

/// SQLite without us, with the settings of the host.
async fn raw(folder: &Path) -> SqliteConnection {
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.join("floor.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .unwrap();
    sqlx::query("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)").execute(&mut connection).await.unwrap();
    connection
}

/// Rows per second in transactions of so many single-row statements.
async fn rows(mut connection: SqliteConnection, each: usize) -> (SqliteConnection, f64) {
    let measured = async move {
        let text = "x".repeat(900);
        let (started, mut count) = (Instant::now(), 0_usize);
        while started.elapsed() < PERIOD {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
            for _ in 0..each {
                let insert = sqlx::query("INSERT INTO t (text) VALUES ($1)").bind(&text);
                insert.execute(&mut connection).await.unwrap();
            }
            sqlx::query("COMMIT").execute(&mut connection).await.unwrap();
            count += each;
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        (connection, rate)
    };
    tokio::spawn(measured).await.unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn sandboxed(gate: GateServices) -> Arc<dyn StepExecutor> {
    let folders = vec![handshake_tests::root().join("tests/guests")];
    let runtime = TestRuntime::with_gate(folders, gate, Arc::new(MemoryRecorder::default()));
    Arc::new(runtime.runtime)
}

/// How much longer three steps take because what they ask for is on record.
async fn audit(figures: &mut Vec<Figure>) {
    let audited = Arc::new(Host::new(sandboxed).await);
    let forgetting = |gate| sandboxed(GateServices { recorder: Arc::new(Forgetting), ..gate });
    let unaudited = Arc::new(Host::new(forgetting).await);
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (at_once, costs) in [(1, &mut one), (CROWD, &mut many)] {
            let without = unaudited.rate(at_once).await;
            let with = audited.rate(at_once).await;
            costs.push((100.0 * (without / with - 1.0), without));
        }
    }
    for (how, costs) in [("one at a time", one), ("64 at a time", many)] {
        let (cost, without): (Vec<_>, Vec<_>) = costs.into_iter().unzip();
        let cost = median(cost);
        figures.push(Figure {
            what: format!("3 sandboxed steps, {how}, audit of what they ask for"),
            value: format!("+{cost:.1} %"),
            floor: format!("without it {:.0}/s", median(without)),
            budget: "<= 15 %",
            met: cost <= 15.0,
        });
    }
}

async fn three_steps(figures: &mut Vec<Figure>) {
    let host = Arc::new(Host::new(sandboxed).await);
    host.run(THREE, &[]).await;
    let (commits, events) = (host.recorded.commits(), host.database.flush().await.unwrap().seq);
    let run = host.run(THREE, &[]).await;
    let commits = host.recorded.commits() - commits;
    let events = host.database.flush().await.unwrap().seq - events;
    let nodes = host.database.nodes(run, Payloads::LeftOut).await.unwrap().len();
    assert_eq!(nodes, 3);
    // Each node is written twice; job and run are written when they are made, claimed and ended.
    let rows_each = events as f64 + 2.0 * nodes as f64 + 6.0;
    figures.push(Figure {
        what: "3 sandboxed steps, commits".into(),
        value: format!("{commits} ({rows_each:.0} rows, {events} events)"),
        floor: "-".into(),
        budget: "<= 6",
        met: commits as f64 <= MOST_COMMITS,
    });
    let folder = tempfile::tempdir().unwrap();
    let mut connection = raw(folder.path()).await;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    let (mut ones, mut manys) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (next, floor) = rows(connection, 1).await;
        let ours = host.rate(1).await;
        one.push(100.0 * ours / (floor / MOST_COMMITS));
        ones.push((ours, floor));
        let (next, floor) = rows(next, 100).await;
        let ours = host.rate(CROWD).await;
        many.push(100.0 * ours / (floor / rows_each));
        manys.push((ours, floor));
        connection = next;
    }
    let rate = |pairs: &[(f64, f64)]| {
        (median(pairs.iter().map(|pair| pair.0).collect()), median(pairs.iter().map(|pair| pair.1).collect()))
    };
    let (ours, floor) = rate(&ones);
    let share = median(one);
    figures.push(Figure {
        what: "3 sandboxed steps, one at a time".into(),
        value: format!("{share:.0} % ({ours:.0}/s)"),
        floor: format!("raw one-row commits {floor:.0}/s / 6"),
        budget: ">= 60 %",
        met: share >= 60.0,
    });
    let (ours, floor) = rate(&manys);
    let share = median(many);
    figures.push(Figure {
        what: "3 sandboxed steps, 64 at a time".into(),
        value: format!("{share:.0} % ({ours:.0}/s)"),
        floor: format!("raw rows {floor:.0}/s, 100 a commit / {rows_each:.0}"),
        budget: ">= 25 %",
        met: share >= 25.0,
    });
}

/// How much longer a step of a long sequence takes than its commit.
async fn sequence(figures: &mut Vec<Figure>) {
    const STEPS: usize = 100;
    let host = Host::new(|_| Arc::new(Nothing)).await;
    let mut text = "name: sequence\nsteps:\n  - { id: s0, uses: nothing }\n".to_owned();
    for step in 1..STEPS {
        text.push_str(&format!("  - {{ id: s{step}, uses: nothing, needs: [s{}] }}\n", step - 1));
    }
    host.run(&text, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut connection = raw(folder.path()).await;
    let (mut ours, mut commits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..5 {
            host.run(&text, &[]).await;
        }
        ours.push(started.elapsed().as_secs_f64() * 1e3 / (5 * STEPS) as f64);
        let (next, floor) = rows(connection, 1).await;
        commits.push(1e3 / floor);
        connection = next;
    }
    let (step, commit) = (median(ours), median(commits));
    figures.push(Figure {
        what: "100 steps in sequence, beyond the commit".into(),
        value: format!("{:.3} ms ({step:.3} ms a step)", step - commit),
        floor: format!("raw one-row commit {commit:.3} ms"),
        budget: "<= 0.3 ms",
        met: step - commit <= 0.3,
    });
}

/// A lost host's runs, each in the middle of a step.
struct InTheMiddle(Arc<dyn Clock>);

impl OnClaim for InTheMiddle {
    fn change(&self, run: &WorkflowRun, job: &handshake_core::job::AiJob) -> Result<RunChange, StorageError> {
        let key = NodeKey { step: StepId::new("a").unwrap(), index: None };
        let node = node(run.run_id, key, 1, self.0.now());
        Ok(RunChange {
            job: Some(handshake_core::job::AiJob { state: JobState::Running, ..job.clone() }),
            run: Some(WorkflowRun { state: RunState::Running, ..run.clone() }),
            nodes: vec![node],
            events: Vec::new(),
        })
    }
}

async fn recovery(figures: &mut Vec<Figure>) {
    const RUNS: usize = 10_000;
    let host = Host::new(|_| Arc::new(Nothing)).await;
    for _ in 0..RUNS / 200 {
        let submits = (0..200).map(|_| {
            let (job, run) = job(&*host.ids, host.clock.now());
            let database = Arc::clone(&host.database);
            async move { handshake_core::storage::JobStore::submit(&*database, job, run, None, vec![]).await.unwrap() }
        });
        futures::future::join_all(submits).await;
    }
    let middle = Arc::new(InTheMiddle(Arc::clone(&host.clock)));
    while !host.database.claim_queued(256, Arc::clone(&middle) as _).await.unwrap().is_empty() {}
    let started = Instant::now();
    let found = host.engine.recover().await.unwrap().len();
    let took = started.elapsed();
    assert_eq!(found, RUNS);
    let folder = tempfile::tempdir().unwrap();
    let (_, floor) = rows(raw(folder.path()).await, 1).await;
    figures.push(Figure {
        what: "recovery of 10,000 interrupted runs".into(),
        value: format!("{:.1} s", took.as_secs_f64()),
        floor: format!("10,000 raw one-row commits {:.1} s", RUNS as f64 / floor),
        budget: "<= 10 s",
        met: took <= Duration::from_secs(10),
    });
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn items(figures: &mut Vec<Figure>) {
    let host = Host::new(|_| Arc::new(Nothing)).await;
    let text = "
name: items
inputs: { list: { type: list } }
steps:
  - { id: each, uses: nothing, for_each: inputs.list, max_parallel: 8, with: { item: '${item}' } }
";
    let mut took = BTreeMap::new();
    let mut grown = BTreeMap::new();
    for count in [1_000_usize, 5_000, 10_000] {
        let list = Value::from((0..count).collect::<Vec<_>>());
        let (started, before) = (Instant::now(), resident());
        host.run(text, &[("list", list)]).await;
        took.insert(count, started.elapsed().as_secs_f64());
        grown.insert(count, resident().saturating_sub(before));
    }
    let ratio = took[&10_000] / took[&5_000];
    figures.push(Figure {
        what: "10,000 items beside 5,000, time".into(),
        value: format!("{ratio:.2} x ({:.1} s)", took[&10_000]),
        floor: "linear is 2.00 x".into(),
        budget: "<= 2.4 x",
        met: ratio <= 2.4,
    });
    let growth = grown[&10_000];
    figures.push(Figure {
        what: "10,000 items, memory that stays after 5,000".into(),
        value: format!("+{:.1} MB", growth as f64 / 1e6),
        floor: format!("5,000: +{:.1} MB", grown[&5_000] as f64 / 1e6),
        budget: "<= 16 MB",
        met: growth <= 16_000_000,
    });
}

/// What the real binary does while nobody asks for anything.
fn idle(figures: &mut Vec<Figure>) {
    let Some(binary) = std::env::var_os("HANDSHAKE_BIN") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut served = Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    std::thread::sleep(Duration::from_secs(3));
    figures.push(handshake_tests::figures::idle("idle `serve`, processor and anonymous memory", served.id()));
    served.kill().unwrap();
    served.wait().unwrap();
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions) {
        println!("the benchmark runs in a release build: just bench engine");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut figures = Vec::new();
    runtime.block_on(three_steps(&mut figures));
    runtime.block_on(audit(&mut figures));
    runtime.block_on(sequence(&mut figures));
    runtime.block_on(recovery(&mut figures));
    runtime.block_on(items(&mut figures));
    idle(&mut figures);
    report(&figures)
}
