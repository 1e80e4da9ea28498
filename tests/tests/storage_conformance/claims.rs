//! Sharing runs between hosts: the queue, leases, and who may write.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::event::AdmittedEvent;
use handshake_core::job::{AiJob, JobState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunState, WorkflowRun};
use handshake_core::storage::{
    Claim, Database, EventOutbox, JobStore, OnClaim, Payloads, RunChange, RunStore, StorageError, WorkQueue,
};
use handshake_core::testing::SequentialIds;
use handshake_core::{Clock, JobId, RunId, StepId};
use handshake_storage::SqlDatabase;
use handshake_tests::postgres::Backend;
use handshake_tests::storage::{LEASE, World, event, job, verified};

/// Makes one event of each claim.
struct Events(Arc<SequentialIds>);

impl OnClaim for Events {
    fn change(&self, run: &WorkflowRun, job: &AiJob) -> Result<RunChange, StorageError> {
        assert_eq!((run.job_id, run.state, job.state), (job.job_id, RunState::Queued, JobState::Queued));
        let events = vec![event(&*self.0, &format!("claim {}", run.run_id))];
        Ok(RunChange { events, ..RunChange::default() })
    }
}

/// Claims nothing by itself.
struct Silent;

impl OnClaim for Silent {
    fn change(&self, _: &WorkflowRun, _: &AiJob) -> Result<RunChange, StorageError> {
        Ok(RunChange::default())
    }
}

async fn submit(world: &World) -> (JobId, RunId) {
    let (job, run) = world.job();
    let ids = (job.job_id, run.run_id);
    world.database.submit(job, run, None, vec![]).await.unwrap();
    ids
}

async fn claim_all(database: &dyn WorkQueue, limit: u32) -> Vec<Claim> {
    database.claim_queued(limit, Arc::new(Silent)).await.unwrap()
}

fn is_conflict<T: std::fmt::Debug>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Conflict(_)))
}

/// The host that competes with the world's: another one where there can be one, else the same.
async fn competitor(world: &World) -> Arc<SqlDatabase> {
    match world.place.backend {
        Backend::Sqlite => world.sql.clone(),
        Backend::Postgres => world.another_host().await,
    }
}

pub(crate) async fn queued_runs_are_claimed_oldest_first_with_their_events(world: World) {
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(submit(&world).await.1);
        world.clock.advance(Duration::from_secs(1));
    }
    let on_claim = Arc::new(Events(world.ids.clone()));
    let first = world.database.claim_queued(2, on_claim.clone()).await.unwrap();
    let rest = world.database.claim_queued(1_000, on_claim.clone()).await.unwrap();
    let claimed: Vec<_> = first.iter().chain(&rest).map(|claim| claim.run.run_id).collect();
    assert_eq!((first.len(), claimed), (2, runs));
    for claim in first.iter().chain(&rest) {
        assert_eq!(
            (claim.run.state, claim.job.state, claim.fence),
            (RunState::Running, JobState::Running, FencingToken(1))
        );
        assert_eq!(world.database.run(claim.run.run_id).await.unwrap(), claim.run);
        assert_eq!(world.database.job(claim.job.job_id).await.unwrap(), claim.job);
        assert_eq!(claim.run.host, Some(world.database.host()));
    }
    assert!(world.database.claim_queued(1, on_claim.clone()).await.unwrap().is_empty());
    assert!(world.database.claim_queued(0, on_claim).await.unwrap().is_empty());
    assert_eq!(world.recorded().await.len(), 5, "one event for each claim");
}

pub(crate) async fn the_hosts_of_a_run_are_those_that_began_its_attempts(world: World) {
    let (_, id) = submit(&world).await;
    let claim = world.database.claim(id, RunChange::default()).await.unwrap();
    assert_eq!(world.database.hosts(id).await.unwrap(), []);
    let waits = RunChange {
        run: Some(WorkflowRun { state: RunState::Waiting, ..claim.run }),
        job: Some(AiJob { state: JobState::AwaitingUser, ..claim.job }),
        nodes: vec![world.node(id, "a", None, 1)],
        ..RunChange::default()
    };
    world.database.commit(id, claim.fence, waits).await.unwrap();
    let other = competitor(&world).await;
    let claim = other.claim(id, RunChange::default()).await.unwrap();
    // That another host ends an attempt does not make it the one that began it.
    let nodes = vec![world.node(id, "a", None, 1)];
    other.commit(id, claim.fence, RunChange { nodes, ..RunChange::default() }).await.unwrap();
    assert_eq!(world.database.hosts(id).await.unwrap(), [world.sql.host()]);
    let nodes = vec![world.node(id, "a", None, 2)];
    other.commit(id, claim.fence, RunChange { nodes, ..RunChange::default() }).await.unwrap();
    let mut expected = vec![world.sql.host(), other.host()];
    expected.sort();
    expected.dedup();
    let mut hosts = world.database.hosts(id).await.unwrap();
    hosts.sort();
    assert_eq!(hosts, expected);
}

pub(crate) async fn a_queued_run_whose_job_has_ended_is_passed_over(world: World) {
    let (cancelled, _) = submit(&world).await;
    world.clock.advance(Duration::from_secs(1));
    let (_, good) = submit(&world).await;
    let job = AiJob { state: JobState::Cancelled, ..world.database.job(cancelled).await.unwrap() };
    world.database.transition(job, JobState::Queued, vec![world.event("cancelled")]).await.unwrap();
    let claims = claim_all(&*world.database, 10).await;
    assert_eq!(claims.iter().map(|claim| claim.run.run_id).collect::<Vec<_>>(), [good]);
}

/// So many hosts' tasks at once on so many jobs; `just soak` makes it 1,000 on 10,000.
fn crowd() -> (usize, usize) {
    if std::env::var_os("HANDSHAKE_SOAK").is_some() { (1_000, 10_000) } else { (100, 1_000) }
}

pub(crate) async fn each_job_is_claimed_exactly_once_by_a_crowd(world: World) {
    let (claimers, jobs) = crowd();
    let submitting = (0..jobs).map(|_| {
        let (job, run) = job(&*world.ids, world.clock.now());
        let database = world.sql.clone();
        tokio::spawn(async move { database.submit(job, run, None, vec![]).await.unwrap() })
    });
    futures::future::join_all(submitting.collect::<Vec<_>>()).await.into_iter().for_each(|done| drop(done.unwrap()));

    let mut hosts = vec![world.sql.clone()];
    for _ in 0..3 {
        hosts.push(competitor(&world).await);
    }
    let claiming: Vec<_> = (0..claimers)
        .map(|n| {
            let (host, on_claim) = (hosts[n % hosts.len()].clone(), Arc::new(Events(world.ids.clone())));
            tokio::spawn(async move {
                let mut claimed = Vec::new();
                loop {
                    let claims = host.claim_queued(1, on_claim.clone()).await.unwrap();
                    if claims.is_empty() {
                        return claimed;
                    }
                    claimed.extend(claims.into_iter().map(|claim| (claim.run.run_id, claim.fence)));
                }
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for task in claiming {
        claimed.extend(task.await.unwrap());
    }
    assert!(claimed.iter().all(|(_, fence)| *fence == FencingToken(1)), "a run was claimed twice");
    let distinct: HashSet<_> = claimed.iter().map(|(run, _)| *run).collect();
    assert_eq!((claimed.len(), distinct.len()), (jobs, jobs));
    // One event each, in the chains of the hosts that claimed.
    let mut recorded = HashSet::new();
    for host in &hosts {
        recorded.extend(verified(&**host).await);
    }
    assert_eq!(recorded.len(), jobs);
}

pub(crate) async fn stalled_workflows_are_detected_by_heartbeat(world: World) {
    let (_, run) = submit(&world).await;
    let claim = claim_all(&*world.database, 1).await.remove(0);
    let other = competitor(&world).await;
    world.clock.advance(LEASE);
    assert!(other.expired(10).await.unwrap().is_empty(), "the lease ends after its last microsecond");
    world.database.heartbeat(run, claim.fence).await.unwrap();
    world.clock.advance(LEASE);
    assert!(other.expired(10).await.unwrap().is_empty(), "it was renewed");
    world.clock.advance(Duration::from_micros(1));
    let expired = other.expired(10).await.unwrap();
    assert_eq!(expired.iter().map(|run| (run.run_id, run.fence)).collect::<Vec<_>>(), [(run, claim.fence)]);
    assert!(other.expired(0).await.unwrap().is_empty());
    assert_eq!(world.database.expired(10).await.unwrap(), expired);
}

pub(crate) async fn after_a_lease_is_taken_away_the_old_holders_writes_are_refused(world: World) {
    let (job_id, run_id) = submit(&world).await;
    let claim = claim_all(&*world.database, 1).await.remove(0);
    let other = competitor(&world).await;
    let stalled = |world: &World| RunChange {
        run: Some(WorkflowRun { state: RunState::Stalled, ..claim.run.clone() }),
        job: Some(AiJob { state: JobState::Stalled, ..claim.job.clone() }),
        nodes: vec![],
        events: vec![world.event("taken away")],
    };

    let early = other.take_away(run_id, claim.fence, stalled(&world)).await;
    assert!(is_conflict(&early), "the lease has not expired: {early:?}");
    world.clock.advance(LEASE + Duration::from_secs(1));
    let wrong = other.take_away(run_id, FencingToken(9), stalled(&world)).await;
    assert!(is_conflict(&wrong), "another token: {wrong:?}");
    world.database.take_away(run_id, claim.fence, stalled(&world)).await.unwrap();
    let twice = other.take_away(run_id, claim.fence, stalled(&world)).await;
    assert!(is_conflict(&twice), "somebody was first: {twice:?}");
    assert_eq!(world.database.run(run_id).await.unwrap().state, RunState::Stalled);
    assert_eq!(world.database.job(job_id).await.unwrap().state, JobState::Stalled);

    // The old holder wakes up.
    let note = EffectNote {
        run: run_id,
        step: StepId::new("write").unwrap(),
        index: None,
        attempt: 1,
        fence: claim.fence,
        call: 1,
        capability: "fs.write".into(),
        resource: "out".into(),
    };
    let before = world.recorded().await.len();
    let late = RunChange { events: vec![world.event("late")], ..RunChange::default() };
    assert!(is_conflict(&world.database.commit(run_id, claim.fence, late).await));
    assert!(is_conflict(&world.database.heartbeat(run_id, claim.fence).await));
    assert!(is_conflict(&world.database.append_effect(note, world.event("late")).await));
    assert_eq!(world.recorded().await.len(), before, "nothing of it is on record");
    assert!(world.database.effects(run_id).await.unwrap().is_empty());

    // The new holder goes on under a token of its own.
    let again = other.claim(run_id, RunChange::default()).await.unwrap();
    assert!(again.fence > claim.fence);
    assert_eq!(again.run.host, Some(other.host()));
    other.heartbeat(run_id, again.fence).await.unwrap();
}

pub(crate) async fn arrivals_tell_of_runs_that_any_host_queues(world: World) {
    let other = competitor(&world).await;
    let mut arrivals = world.database.arrivals();
    // A host that has just begun to listen is told so once.
    while tokio::time::timeout(Duration::from_millis(500), arrivals.next()).await.is_ok() {}
    let (job, run) = world.job();
    other.submit(job.clone(), run, None, vec![]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), arrivals.next()).await.unwrap();
    assert_eq!(claim_all(&*world.database, 5).await.len(), 1);

    while tokio::time::timeout(Duration::from_millis(500), arrivals.next()).await.is_ok() {}
    let again = WorkflowRun { run_id: RunId::fresh(&*world.ids), ..world.job().1 };
    let again = WorkflowRun { job_id: job.job_id, trace_id: job.trace_id, ..again };
    let job = AiJob { state: JobState::Queued, ..job };
    other.rerun(job, JobState::Running, again, vec![], vec![]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), arrivals.next()).await.unwrap();
}

pub(crate) async fn a_job_moves_on_only_from_the_state_that_was_seen(world: World) {
    let (id, run) = submit(&world).await;
    let job = world.database.job(id).await.unwrap();
    let cancelled = AiJob { state: JobState::Cancelled, status_reason: "by hand".into(), ..job.clone() };
    let events = |world: &World| -> Vec<AdmittedEvent> { vec![world.event("moved")] };
    let wrong = world.database.transition(cancelled.clone(), JobState::Running, events(&world)).await;
    assert!(matches!(&wrong, Err(StorageError::Conflict(text)) if text.contains("queued") && text.contains("running")));
    world.database.transition(cancelled.clone(), JobState::Queued, events(&world)).await.unwrap();
    assert_eq!(world.database.job(id).await.unwrap(), cancelled);
    assert!(is_conflict(&world.database.transition(job.clone(), JobState::Queued, events(&world)).await));

    let again = WorkflowRun { run_id: RunId::fresh(&*world.ids), ..world.database.run(run).await.unwrap() };
    let queued = AiJob { state: JobState::Queued, workflow_run_id: Some(again.run_id), ..job };
    let foreign = WorkflowRun { job_id: JobId::fresh(&*world.ids), ..again.clone() };
    let refused = world.database.rerun(queued.clone(), JobState::Cancelled, foreign, vec![], events(&world)).await;
    assert!(matches!(refused, Err(StorageError::Validation(_))), "{refused:?}");
    let foreign = vec![world.node(run, "a", None, 1)];
    let refused =
        world.database.rerun(queued.clone(), JobState::Cancelled, again.clone(), foreign, events(&world)).await;
    assert!(matches!(refused, Err(StorageError::Validation(_))), "{refused:?}");
    let nodes = vec![world.node(again.run_id, "a", None, 2)];
    let rerun = world.database.rerun(queued.clone(), JobState::Cancelled, again.clone(), nodes.clone(), events(&world));
    rerun.await.unwrap();
    assert_eq!(world.database.nodes(again.run_id, Payloads::Read).await.unwrap(), nodes);
    assert_eq!(world.database.job(id).await.unwrap(), queued);
    let runs: Vec<_> = world.database.runs_of(id).await.unwrap().iter().map(|run| run.run_id).collect();
    assert_eq!(runs.len(), 2);
    let twice = world.database.rerun(queued.clone(), JobState::Queued, again, vec![], events(&world)).await;
    assert!(is_conflict(&twice), "the run exists already: {twice:?}");
    let nobody = AiJob { job_id: JobId::fresh(&*world.ids), ..queued };
    let missing = world.database.transition(nobody, JobState::Queued, vec![]).await;
    assert!(matches!(missing, Err(StorageError::NotFound { what: "job", .. })), "{missing:?}");
    assert_eq!(world.recorded().await.len(), 2, "events only of what was done");
}

pub(crate) async fn a_pin_stays_whatever_the_holder_writes(world: World) {
    let (id, run) = submit(&world).await;
    let claim = claim_all(&*world.database, 1).await.remove(0);
    world.database.pin(id, true, vec![world.event("pinned")]).await.unwrap();
    assert!(world.database.job(id).await.unwrap().is_pinned);
    let done = AiJob { state: JobState::Completed, ..claim.job };
    let change = RunChange { job: Some(done), ..RunChange::default() };
    world.database.commit(run, claim.fence, change).await.unwrap();
    let job = world.database.job(id).await.unwrap();
    assert_eq!((job.state, job.is_pinned), (JobState::Completed, true));
    world.database.pin(id, false, vec![]).await.unwrap();
    assert!(!world.database.job(id).await.unwrap().is_pinned);
    let nobody = JobId::fresh(&*world.ids);
    let missing = world.database.pin(nobody, true, vec![]).await;
    assert!(matches!(missing, Err(StorageError::NotFound { what: "job", .. })), "{missing:?}");
}

pub(crate) async fn a_run_that_is_not_running_any_more_does_not_move_on_under_its_old_claim(world: World) {
    let (_, run) = submit(&world).await;
    let claim = world.database.claim(run, RunChange::default()).await.unwrap();
    let stalled = WorkflowRun { state: RunState::Stalled, ..world.database.run(run).await.unwrap() };
    let change =
        |what: &str| RunChange { run: Some(stalled.clone()), events: vec![world.event(what)], ..RunChange::default() };
    // As when a host that recovers its runs begins again while its first attempt is still on its way.
    world.database.commit(run, claim.fence, change("first")).await.unwrap();
    let again = world.database.commit(run, claim.fence, change("again")).await;
    assert!(is_conflict(&again), "{again:?}");
    assert_eq!(world.recorded().await.len(), 1);
}
