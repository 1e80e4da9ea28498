//! Triggers on real databases: hosts that look at the same time, and hosts that are lost while they fire.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::capability::{Mode, Policy, PolicyInForce, builtin_profiles};
use handshake_core::event::Actor;
use handshake_core::mount::{Mount, MountAccess, MountError, MountResolver};
use handshake_core::step::*;
use handshake_core::storage::*;
use handshake_core::testing::{FixedClock, MemoryRecorder, SequentialIds};
use handshake_core::trigger::{Trigger, TriggerRef};
use handshake_core::{Clock, Digest, HostId};
use handshake_engine::{Engine, EngineServices, Format, Submission, WorkflowSource};
use handshake_storage::SqlDatabase;
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Calls, Place, Recorded, open, records};
use serde_json::Value;

const WORKFLOW: &str = "
name: tick
trigger: { every: 1m }
inputs: { scheduled_at: { type: string } }
steps: [{ id: nap, sleep: 1ms }]
";

/// The workflow needs no plugin and no folder.
struct Nothing;

#[async_trait]
impl StepExecutor for Nothing {
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        Err(PluginError::Unknown { wanted: uses.into(), looked_in: Vec::new(), known: Vec::new() })
    }
    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        panic!("{plugin:?}")
    }
    async fn execute(&self, _: StepInvocation) -> Result<StepOutcome, StepFailure> {
        panic!("nothing is executed")
    }
}

impl MountResolver for Nothing {
    fn resolve(&self, _: &Path, name: &str, path: &Path, _: MountAccess) -> Result<Mount, MountError> {
        Err(MountError::NotListed { name: name.into(), path: path.into(), access: "read" })
    }
}

struct World {
    place: Place,
    database: Arc<SqlDatabase>,
    ids: Arc<SequentialIds>,
    clock: Arc<FixedClock>,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let place = Place::new(backend).await;
        let (ids, clock) = (Arc::new(SequentialIds::default()), Arc::new(FixedClock::default()));
        let database = open(&place.url, HostId::fresh(&*ids), clock.clone()).await;
        Self { place, database, ids, clock }
    }

    /// A process with this store.
    fn engine(&self, store: Arc<Recorded>) -> Engine {
        let policy = Policy::empty(Mode::Enforce, Digest::of(b"policy"));
        Engine::new(EngineServices {
            content: Arc::clone(&store) as _,
            database: store,
            safeguards: Default::default(),
            recorder: Arc::new(MemoryRecorder::default()),
            executor: Arc::new(Nothing),
            mounts: Arc::new(Nothing),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            ids: Arc::clone(&self.ids) as _,
            policy: PolicyInForce::new(policy),
            profiles: builtin_profiles().into_iter().map(Arc::new).collect(),
            lease: Duration::from_secs(30),
            settings: Arc::default(),
            max_parallel: 8,
        })
    }

    async fn add(&self, engine: &Engine) -> Trigger {
        let source = WorkflowSource { file: "tick.yaml".into(), text: WORKFLOW.into(), format: Format::Yaml };
        let submission = Submission {
            source,
            inputs: Default::default(),
            base: "/".into(),
            idempotency_key: None,
            actor: Actor::system(),
        };
        engine.add_trigger(None, submission).await.unwrap()
    }

    /// The times that jobs were told; no order.
    async fn told(&self) -> Vec<Value> {
        let filter = JobFilter { limit: 1_000, ..JobFilter::default() };
        let jobs = self.database.jobs(&filter).await.unwrap();
        jobs.iter().map(|job| job.job_inputs["scheduled_at"].clone()).collect()
    }
}

/// What a host has on record about times that were fired.
async fn fired(database: &SqlDatabase) -> usize {
    database.flush().await.unwrap();
    let (_, records) = records(database).await;
    records.iter().filter(|record| record.record.contains("fired for")).count()
}

async fn looking_at_once(backend: Backend) {
    if !backends().contains(&backend) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let world = World::new(backend).await;
    let mut hosts = vec![Arc::clone(&world.database)];
    if backend == Backend::Postgres {
        hosts.push(open(&world.place.url, HostId::fresh(&*world.ids), world.clock.clone()).await);
    }
    let calls = Calls::default();
    let engines: Vec<_> = hosts.iter().cycle().take(4).map(|host| world.engine(Recorded::new(host, &calls))).collect();
    world.add(&engines[0]).await;
    let rounds = 15;
    for round in 1..=rounds {
        world.clock.advance(Duration::from_secs(60));
        let looks = engines.iter().cloned().map(|engine| tokio::spawn(async move { engine.fire_due().await.unwrap() }));
        let mut new = 0;
        for look in looks.collect::<Vec<_>>() {
            new += look.await.unwrap().iter().filter(|job| !job.existing).count();
        }
        assert_eq!(new, 1, "round {round}: one of them has made the job");
    }
    let told = world.told().await;
    assert_eq!(told.len(), rounds);
    assert_eq!(told.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), rounds);
    let mut on_record = 0;
    for host in &hosts {
        on_record += fired(host).await;
    }
    assert_eq!(on_record, rounds, "each time is on record once");
}

async fn lost_while_firing(backend: Backend) {
    if !backends().contains(&backend) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    for after in [false, true] {
        let world = World::new(backend).await;
        // The first commit stores the job, the second moves the trigger on.
        let lost = world.engine(Recorded::dying(&world.database, 2, after));
        let trigger = world.add(&lost).await;
        world.clock.advance(Duration::from_secs(60));
        let first = lost.fire_due().await.unwrap();
        assert_eq!(first.len(), 1, "the job was stored before");

        world.clock.advance(Duration::from_secs(5));
        let next = world.engine(Recorded::new(&world.database, &Calls::default()));
        let again = next.fire_due().await.unwrap();
        // Whose commit had happened needs nothing more: the queued run is found as that of any lost process.
        let expected = if after { vec![] } else { vec![first[0].run_id] };
        assert_eq!(again.iter().map(|job| job.run_id).collect::<Vec<_>>(), expected);
        assert_eq!(world.told().await.len(), 1);
        let stored = world.database.trigger(&TriggerRef::Id(trigger.trigger_id)).await.unwrap();
        assert_eq!((stored.last_at, stored.last_job), (Some(trigger.next_at), Some(first[0].job_id)));
        assert_eq!(stored.next_at, trigger.next_at.plus(Duration::from_secs(60)));
        assert_eq!(fired(&world.database).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_hosts_that_look_at_once_one_makes_the_job_on_sqlite() {
    looking_at_once(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_hosts_that_look_at_once_one_makes_the_job_on_postgres() {
    looking_at_once(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lost_while_it_fires_leaves_one_job_for_a_time_on_sqlite() {
    lost_while_firing(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lost_while_it_fires_leaves_one_job_for_a_time_on_postgres() {
    lost_while_firing(Backend::Postgres).await;
}
