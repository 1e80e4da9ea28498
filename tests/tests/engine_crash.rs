//! A host that is lost at any of its commits: the run goes on in the next process and ends as if nothing had been.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::capability::{Mode, Policy, builtin_profiles};
use handshake_core::document::Proposal;
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{JobMetrics, JobState, PlannedOperation};
use handshake_core::mount::{Mount, MountAccess, MountError, MountResolver};
use handshake_core::node::NodeState;
use handshake_core::recorder::EffectNote;
use handshake_core::run::RunState;
use handshake_core::step::*;
use handshake_core::storage::*;
use handshake_core::testing::{self, FixedClock, MemoryRecorder, SequentialIds};
use handshake_core::{Clock, Digest, HostId, JobId, PluginId, RunId};
use handshake_engine::{Control, Engine, EngineServices, Format, Submission, WorkflowSource};
use handshake_storage::SqlDatabase;
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Place, Recorded, event, open};
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
        let mut proposals = Vec::new();
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
                proposals.push(Proposal {
                    document: "d".into(),
                    base_version: 1,
                    operations: vec![PlannedOperation::DeleteBlock { block_id: place.step.to_string() }],
                });
                json!({ "sent": invocation.input.value() })
            }
        };
        let metrics = JobMetrics { input_tokens: 3, output_tokens: 2, total_tokens: 5, ..Default::default() };
        Ok(StepOutcome { output, measurements: BTreeMap::new(), metrics, proposals })
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
steps:
  - { id: read, uses: reader, retry: { attempts: 3, initial: 1ms } }
  - { id: each, uses: sender, for_each: steps.read.output.items, max_parallel: 2, idempotent: true, with: { item: '${item}' } }
  - { id: never, uses: sender, when: 'size(steps.each.output) > 100' }
  - { id: send, uses: sender, with: { all: '${steps.each.output}' } }
outputs: { sent: '${steps.send.output}' }
";

struct World {
    _place: Place,
    database: Arc<SqlDatabase>,
    plugins: Arc<Plugins>,
    ids: Arc<SequentialIds>,
    clock: Arc<FixedClock>,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let place = Place::new(backend).await;
        let (ids, clock) = (Arc::new(SequentialIds::default()), Arc::new(FixedClock::default()));
        let database = open(&place.url, HostId::fresh(&*ids), clock.clone()).await;
        let plugins = Arc::new(Plugins {
            database: Arc::clone(&database),
            ids: Arc::clone(&ids),
            served: Mutex::default(),
            failed: Mutex::default(),
        });
        Self { _place: place, database, plugins, ids, clock }
    }

    /// A process: its engine, and the store that dies with it.
    fn engine(&self, dies_at: usize, after: bool) -> (Engine, Arc<Recorded>) {
        let database = Recorded::dying(&self.database, dies_at, after);
        let policy =
            Policy { mode: Mode::Enforce, rules: Vec::new(), mounts: Vec::new(), digest: Digest::of(b"policy") };
        let engine = Engine::new(EngineServices {
            database: Arc::clone(&database) as _,
            recorder: Arc::new(MemoryRecorder::default()),
            executor: Arc::clone(&self.plugins) as _,
            mounts: Arc::new(NoMounts),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            ids: Arc::clone(&self.ids) as _,
            policy: Arc::new(policy),
            profiles: builtin_profiles().into_iter().map(Arc::new).collect(),
            lease: Duration::from_secs(30),
            settings: Arc::default(),
            max_parallel: 8,
            safeguards: Default::default(),
        });
        (engine, database)
    }

    async fn submit(&self, engine: &Engine) -> (JobId, RunId) {
        let source = WorkflowSource { file: "crash.yaml".into(), text: WORKFLOW.into(), format: Format::Yaml };
        let submission = Submission {
            source,
            inputs: BTreeMap::new(),
            base: "/".into(),
            idempotency_key: None,
            actor: Actor::system(),
        };
        let submitted = engine.submit(submission).await.unwrap();
        (submitted.job_id, submitted.run_id)
    }

    /// What is left of a run: the job's end, and which nodes completed or were skipped.
    async fn end(&self, job: JobId, run: RunId) -> (JobState, Option<Value>, Vec<PlannedOperation>, u64, Vec<String>) {
        let job = self.database.job(job).await.unwrap();
        let nodes = self.database.nodes(run, Payloads::Read).await.unwrap();
        assert!(nodes.iter().all(|node| node.state != NodeState::Running), "{nodes:?}");
        let done = nodes.iter().filter(|node| matches!(node.state, NodeState::Completed | NodeState::Skipped));
        let done = done.map(|node| format!("{} {}", node.node, node.state)).collect();
        (job.state, job.job_outputs, job.planned_operations, job.metrics.total_tokens, done)
    }
}

async fn lost_at_every_commit(backend: Backend) {
    if !backends().contains(&backend) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let world = World::new(backend).await;
    let (engine, store) = world.engine(usize::MAX, false);
    let (job, run) = world.submit(&engine).await;
    engine.execute(run, CancellationToken::new()).await.unwrap();
    let undisturbed = world.end(job, run).await;
    assert_eq!(undisturbed.0, JobState::CompletedWithIssues);
    assert_eq!(undisturbed.4.len(), 6, "{:?}", undisturbed.4);
    let commits = store.commits();
    assert!(commits > 5, "{commits}");
    let person = Actor { kind: ActorKind::Human, id: "somebody".into() };

    let mut asked = 0;
    for (dies_at, after) in (1..=commits).flat_map(|at| [(at, false), (at, true)]) {
        world.plugins.served.lock().unwrap().clear();
        let (engine, _) = world.engine(dies_at, after);
        let (job, run) = world.submit(&engine).await;
        let died = engine.execute(run, CancellationToken::new()).await;
        // Retries of items that end together can take one commit less.
        assert!(died.is_err() || dies_at == commits, "commit {dies_at} of {commits}");

        let (engine, _) = world.engine(usize::MAX, false);
        let recovered = engine.recover().await.unwrap();
        let mut by_person = false;
        match recovered.as_slice() {
            // It had not begun, or its last commit is there.
            [] => {
                if world.database.run(run).await.unwrap().state == RunState::Queued {
                    engine.execute(run, CancellationToken::new()).await.unwrap();
                }
            }
            [found] if found.state == JobState::Stalled => {
                assert_eq!(engine.resumable().await.unwrap(), [(run, job)]);
                engine.execute(run, CancellationToken::new()).await.unwrap();
            }
            [found] => {
                assert_eq!((found.run_id, found.state), (run, JobState::AwaitingUser));
                assert!(found.reason.contains("`send` may have done net.http server"), "{}", found.reason);
                assert!(engine.execute(run, CancellationToken::new()).await.is_err(), "nobody has decided");
                engine.resume(run, &person, &Control::default()).await.unwrap();
                by_person = true;
                asked += 1;
            }
            more => panic!("{more:?}"),
        }
        assert_eq!(world.end(job, run).await, undisturbed, "commit {dies_at} of {commits}, after: {after}");
        assert!(engine.recover().await.unwrap().is_empty());
        let served = world.plugins.served.lock().unwrap().clone();
        assert_eq!(served.len(), 4, "one key for each node");
        let nodes = world.database.nodes(run, Payloads::LeftOut).await.unwrap();
        let sends = nodes.iter().filter(|node| node.node.step.as_str() == "send").count();
        let repeated = sends > 1 && effect_of_first_send(&world, run).await;
        assert!(!repeated || by_person, "commit {dies_at}: an effect was repeated without a person's word");
    }
    assert!(asked > 0, "no crash left `send` in doubt");
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
