//! A host that is lost at any of its commits: the run goes on in the next process and ends as if nothing had been.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::capability::{Mode, Policy, PolicyInForce, builtin_profiles};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{JobMetrics, JobState};
use handshake_core::mount::{Mount, MountAccess, MountError, MountResolver};
use handshake_core::node::NodeState;
use handshake_core::recorder::EffectNote;
use handshake_core::step::*;
use handshake_core::storage::*;
use handshake_core::testing::{self, FixedClock, MemoryRecorder, SequentialIds};
use handshake_core::{Clock, Digest, HostId, JobId, PluginId, RunId};
use handshake_engine::{Answer, Control, Engine, EngineError, EngineServices, Format, Submission, WorkflowSource};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::postgres::{Backend, Options, Server, backends};
use handshake_tests::storage::{Place, Recorded, event, open, records};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Plugins whose effects reach a server. It lives on when a host dies.
struct Plugins {
    database: Arc<SqlDatabase>,
    ids: Arc<SequentialIds>,
    /// Idempotency key → how often it came.
    served: Mutex<BTreeMap<String, usize>>,
    /// Keys of steps that have failed once.
    failed: Mutex<std::collections::BTreeSet<String>>,
}

#[async_trait]
impl StepExecutor for Plugins {
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        Ok(testing::plugin(PluginId::new(uses).unwrap(), b"component"))
    }

    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        Ok(testing::descriptor(plugin))
    }

    async fn execute(&self, invocation: StepInvocation) -> Result<StepOutcome, StepFailure> {
        let place = invocation.identity.place.clone().unwrap();
        let key = invocation.idempotency_key.clone();
        let output = match invocation.plugin.manifest.id.as_str() {
            "reader" => {
                if self.failed.lock().unwrap().insert(key) {
                    return Err(StepFailure::Transient("not yet".into()));
                }
                json!({ "items": ["a", "b", "c"] })
            }
            _ => {
                let note = EffectNote {
                    run: place.run,
                    step: place.step.clone(),
                    index: place.index,
                    attempt: place.attempt,
                    fence: place.fence,
                    call: 1,
                    capability: "net.http".into(),
                    resource: "server".into(),
                };
                let noted = self.database.append_effect(note, event(&*self.ids, "sends")).await;
                noted.map_err(|error| StepFailure::Host(error.to_string()))?;
                *self.served.lock().unwrap().entry(key).or_default() += 1;
                json!({ "sent": invocation.input.value() })
            }
        };
        let metrics = JobMetrics { input_tokens: 3, output_tokens: 2, total_tokens: 5, ..Default::default() };
        Ok(StepOutcome { output, measurements: BTreeMap::new(), metrics, proposals: Vec::new() })
    }
}

struct NoMounts;
impl MountResolver for NoMounts {
    fn resolve(&self, _: &Path, name: &str, path: &Path, _: MountAccess) -> Result<Mount, MountError> {
        Err(MountError::NotListed { name: name.into(), path: path.into(), access: "read" })
    }
}

const WORKFLOW: &str = "
name: crash
workflows:
  part:
    inputs: { item: { type: string } }
    steps:
      - { id: send, uses: sender, idempotent: true, with: { item: '${inputs.item}' } }
      - { id: nap, sleep: 2ms, needs: [send] }
    outputs: { sent: '${steps.send.output}' }
steps:
  - { id: read, uses: reader, retry: { attempts: 3, initial: 1ms } }
  - { id: each, workflow: part, for_each: steps.read.output.items, max_parallel: 2, with: { item: '${item}' } }
  - { id: nap, sleep: 2ms }
  - { id: ask, approval: { prompt: 'send?' }, needs: [nap, read] }
  - { id: never, uses: sender, when: 'size(steps.each.output) > 100' }
  - { id: send, uses: sender, needs: [ask], with: { all: '${steps.each.output}' } }
outputs: { sent: '${steps.send.output}' }
";

struct World {
    _place: Option<Place>,
    database: Arc<SqlDatabase>,
    plugins: Arc<Plugins>,
    ids: Arc<SequentialIds>,
    clock: Arc<FixedClock>,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let place = Place::new(backend).await;
        let url = place.url.clone();
        Self { _place: Some(place), ..Self::at(&url).await }
    }

    async fn at(url: &DatabaseUrl) -> Self {
        let (ids, clock) = (Arc::new(SequentialIds::default()), Arc::new(FixedClock::default()));
        let database = open(url, HostId::fresh(&*ids), clock.clone()).await;
        let plugins = Arc::new(Plugins {
            database: Arc::clone(&database),
            ids: Arc::clone(&ids),
            served: Mutex::default(),
            failed: Mutex::default(),
        });
        Self { _place: None, database, plugins, ids, clock }
    }

    /// A process: its engine, and the store that dies with it.
    fn engine(&self, dies_at: usize, after: bool) -> (Engine, Arc<Recorded>) {
        let database = Recorded::dying(&self.database, dies_at, after);
        let policy = Policy::empty(Mode::Enforce, Digest::of(b"policy"));
        let engine = Engine::new(EngineServices {
            database: Arc::clone(&database) as _,
            content: Arc::clone(&database) as _,
            recorder: Arc::new(MemoryRecorder::default()),
            executor: Arc::clone(&self.plugins) as _,
            mounts: Arc::new(NoMounts),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            ids: Arc::clone(&self.ids) as _,
            policy: PolicyInForce::new(policy),
            profiles: builtin_profiles().into_iter().map(Arc::new).collect(),
            lease: Duration::from_secs(30),
            settings: Arc::default(),
            max_parallel: 8,
            safeguards: Default::default(),
        });
        (engine, database)
    }

    fn submission(key: Option<&str>) -> Submission {
        let source = WorkflowSource { file: "crash.yaml".into(), text: WORKFLOW.into(), format: Format::Yaml };
        let (inputs, idempotency_key) = (BTreeMap::new(), key.map(str::to_owned));
        Submission { source, inputs, base: "/".into(), idempotency_key, actor: Actor::system() }
    }

    async fn submit(&self, engine: &Engine) -> (JobId, RunId) {
        let submitted = engine.submit(Self::submission(None)).await.unwrap();
        (submitted.job_id, submitted.run_id)
    }

    /// What is left of a run: the job's end, and which nodes completed or were skipped.
    async fn end(&self, job: JobId, run: RunId) -> (JobState, Option<Value>, u64, Vec<String>) {
        let filter = JobFilter { parent: Some(job), ..JobFilter::default() };
        let parts = self.database.jobs(&filter).await.unwrap();
        let job = self.database.job(job).await.unwrap();
        let states: Vec<_> = parts.iter().map(|part| part.state).collect();
        assert_eq!(states, [JobState::Completed; 3], "{}", job.status_reason);
        let nodes = self.database.nodes(run, Payloads::Read).await.unwrap();
        let over = |state| !matches!(state, NodeState::Running | NodeState::Waiting);
        assert!(nodes.iter().all(|node| over(node.state)), "{nodes:?}");
        let done = nodes.iter().filter(|node| matches!(node.state, NodeState::Completed | NodeState::Skipped));
        let done = done.map(|node| format!("{} {}", node.node, node.state)).collect();
        (job.state, job.job_outputs, job.metrics.total_tokens, done)
    }

    /// What a process does for a job: it executes what it may, and answers what is asked. A person has a word about
    /// what is in doubt; says whether one was needed.
    async fn live(&self, engine: &Engine, job: JobId, run: RunId) -> Result<bool, EngineError> {
        let person = Actor { kind: ActorKind::Human, id: "somebody".into() };
        let mut by_person = false;
        for _ in 0..20 {
            let state = self.database.job(job).await?.state;
            if state.is_final() {
                return Ok(by_person);
            }
            if state == JobState::AwaitingUser && !engine.questions(job).await?.is_empty() {
                engine.vote(job, None, Answer::of(true), &person).await?;
            } else if state == JobState::AwaitingUser && self.database.run(run).await?.wake_at.is_none() {
                let reason = self.database.job(job).await?.status_reason;
                assert!(reason.contains("`send` may have done net.http server"), "{reason}");
                assert!(engine.execute(run, CancellationToken::new()).await.is_err(), "nobody has decided");
                engine.resume(run, &person, &Control::default()).await?;
                by_person = true;
                continue;
            }
            let driven = engine.execute(run, CancellationToken::new());
            tokio::time::timeout(Duration::from_secs(60), driven).await.expect("the run hangs")?;
        }
        panic!("it comes to no end");
    }
}

async fn lost_at_every_commit(backend: Backend) {
    if !backends().contains(&backend) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let world = World::new(backend).await;
    let (whole, store) = world.engine(usize::MAX, false);
    let (job, run) = world.submit(&whole).await;
    assert!(!world.live(&whole, job, run).await.unwrap());
    let undisturbed = world.end(job, run).await;
    assert_eq!(undisturbed.0, JobState::Completed);
    assert_eq!(undisturbed.3.len(), 8, "{:?}", undisturbed.3);
    let commits = store.commits();
    assert!(commits > 15, "{commits}");

    // All commits once; then those near the end again, until one of the crashes there has left the last step in doubt.
    let mut asked = lost_from(&world, &whole, &undisturbed, 1).await;
    for _ in 0..MOST_SWEEPS {
        if asked > 0 {
            return;
        }
        asked = lost_from(&world, &whole, &undisturbed, commits.saturating_sub(8)).await;
    }
    assert!(asked > 0, "no crash left `send` in doubt");
}

/// How often the end of a run is looked at: what ends together takes one commit, so the same number is another commit
/// each time.
const MOST_SWEEPS: usize = 20;

/// Loses the host at each commit from this one on, until a run ends before that. Says how often a person was needed.
async fn lost_from(
    world: &World,
    whole: &Engine,
    undisturbed: &(JobState, Option<Value>, u64, Vec<String>),
    first: usize,
) -> usize {
    let mut asked = 0;
    for (dies_at, after) in (first..).flat_map(|at| [(at, false), (at, true)]) {
        world.plugins.served.lock().unwrap().clear();
        let (job, run) = world.submit(whole).await;
        let (engine, _) = world.engine(dies_at, after);
        if world.live(&engine, job, run).await.is_ok() {
            break;
        }
        let (engine, _) = world.engine(usize::MAX, false);
        // What the dead process had handed to the writer, which lives on here, is written or not before anybody looks.
        world.database.flush().await.unwrap();
        engine.recover().await.unwrap();
        let by_person = world.live(&engine, job, run).await.unwrap();
        asked += usize::from(by_person);
        assert_eq!(&world.end(job, run).await, undisturbed, "commit {dies_at}, after: {after}");
        assert!(engine.recover().await.unwrap().is_empty());
        let served = world.plugins.served.lock().unwrap().clone();
        assert_eq!(served.len(), 4, "one key for each node");
        let nodes = world.database.nodes(run, Payloads::LeftOut).await.unwrap();
        let sends = nodes.iter().filter(|node| node.node.step.as_str() == "send").count();
        let repeated = sends > 1 && effect_of_first_send(world, run).await;
        assert!(!repeated || by_person, "commit {dies_at}: an effect was repeated without a person's word");
    }
    asked
}

/// Whether the first attempt of `send` had its effect.
async fn effect_of_first_send(world: &World, run: RunId) -> bool {
    let effects = world.database.effects(run).await.unwrap();
    effects.iter().any(|effect| effect.step.as_str() == "send" && effect.attempt == 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lost_at_any_commit_changes_nothing_about_the_end_on_sqlite() {
    lost_at_every_commit(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lost_at_any_commit_changes_nothing_about_the_end_on_postgres() {
    lost_at_every_commit(Backend::Postgres).await;
}

async fn lost_when_a_job_begins(backend: Backend) {
    if !backends().contains(&backend) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let world = World::new(backend).await;
    let (whole, _) = world.engine(usize::MAX, false);
    let (job, run) = world.submit(&whole).await;
    world.live(&whole, job, run).await.unwrap();
    let undisturbed = world.end(job, run).await;
    for (dies_at, after) in [(1, false), (1, true), (2, false), (2, true)] {
        world.plugins.served.lock().unwrap().clear();
        let key = format!("{dies_at} {after}");
        let (engine, _) = world.engine(dies_at, after);
        let mut begun = None;
        let control = Control::default();
        let ran = engine.run(World::submission(Some(&key)), &control, |told| begun = Some(told.is_ok())).await;
        assert_eq!((begun, ran.is_err()), (Some(dies_at > 1), dies_at > 1));

        // Whoever was told nothing submits again, and finds the job where it was stored.
        let (engine, _) = world.engine(usize::MAX, false);
        world.database.flush().await.unwrap();
        let recovered = engine.recover().await.unwrap();
        let stored = dies_at > 1 || after;
        assert_eq!(recovered.len(), usize::from(stored), "{key}");
        let submitted = engine.submit(World::submission(Some(&key))).await.unwrap();
        assert_eq!(submitted.existing, stored, "{key}");
        world.live(&engine, submitted.job_id, submitted.run_id).await.unwrap();
        assert_eq!(world.end(submitted.job_id, submitted.run_id).await, undisturbed, "{key}");
        assert_eq!(world.plugins.served.lock().unwrap().len(), 4, "{key}: one key for each node");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lost_when_a_job_begins_has_stored_all_of_it_or_nothing_on_sqlite() {
    lost_when_a_job_begins(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lost_when_a_job_begins_has_stored_all_of_it_or_nothing_on_postgres() {
    lost_when_a_job_begins(Backend::Postgres).await;
}

/// Runs that the lost host leaves behind; enough for the server to go away while they are looked at.
const LEFT_BEHIND: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_during_recovery_has_every_run_recovered_once() {
    if !backends().contains(&Backend::Postgres) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let server = tokio::task::spawn_blocking(|| Arc::new(Server::private(Options::default()))).await.unwrap();
    let world = Arc::new(World::at(&server.url().parse().unwrap()).await);
    let (whole, _) = world.engine(usize::MAX, false);
    let (job, run) = world.submit(&whole).await;
    assert!(!world.live(&whole, job, run).await.unwrap());
    let undisturbed = world.end(job, run).await;

    let mut left = Vec::new();
    for at in 0..LEFT_BEHIND {
        let (job, run) = world.submit(&whole).await;
        let (engine, _) = world.engine(2 + at % 8, false);
        assert!(world.live(&engine, job, run).await.is_err());
        left.push((job, run));
    }
    world.database.flush().await.unwrap();
    let interrupted = world.database.interrupted().await.unwrap();
    assert!(interrupted.len() > LEFT_BEHIND / 2, "{}", interrupted.len());

    let (engine, _) = world.engine(usize::MAX, false);
    let recovering = tokio::spawn(async move { engine.recover().await });
    let restarted = tokio::task::spawn_blocking(move || {
        server.kill();
        server.start();
        server
    });
    let _server = restarted.await.unwrap();
    let first = recovering.await.unwrap();
    assert!(first.is_err(), "all of it was over before the server went away: {first:?}");
    let (engine, _) = world.engine(usize::MAX, false);
    let mut attempts = 0;
    while let Err(error) = engine.recover().await {
        attempts += 1;
        assert!(attempts < 100, "the host does not connect again: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let (_, records) = records(&*world.database).await;
    for run in &interrupted {
        let id = run.run_id.to_string();
        let found = records.iter().map(|record| serde_json::from_str::<Value>(&record.record).unwrap()["event"].take());
        let marks = found.filter(|event| {
            event["event_type"] == "workflow_recovery" && event["workflow_run_id"].as_str() == Some(&id)
        });
        let marks: Vec<_> = marks.collect();
        assert_eq!(marks.len(), 1, "{marks:#?}");
    }
    for (job, run) in left {
        world.live(&engine, job, run).await.unwrap();
        assert_eq!(world.end(job, run).await, undisturbed);
    }
}
