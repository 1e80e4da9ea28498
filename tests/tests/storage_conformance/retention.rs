//! What the janitor may delete, what it leaves, and what it writes down before and after.

use std::sync::Arc;
use std::time::Duration;

use handshake_core::artifact::ArtifactStore;
use handshake_core::capability::Axis;
use handshake_core::job::{AiJob, JobState};
use handshake_core::recorder::FlightRecorder;
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::storage::{
    Candidate, ContentSweeper, Database, EventOutbox, JobStore, MOST_PRUNED, Payloads, PruneReason, PruneReport,
    Pruned, RetentionPolicy, RetentionStore, RunStore, StorageError, Swept,
};
use handshake_core::testing::MemoryRecorder;
use handshake_core::{Clock, Digest, HostId, JobId, ReportId};
use handshake_engine::{EngineError, Janitor, JanitorServices};
use handshake_tests::postgres::Backend;
use handshake_tests::storage::World;

use super::artifacts::Store;

const DAY: Duration = Duration::from_secs(24 * 3600);
const POLICY: RetentionPolicy = RetentionPolicy { days: 30, keep: 3, quota: None };
const WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
/// Keeps nothing for its being new.
const NONE_KEPT: RetentionPolicy = RetentionPolicy { keep: 0, ..POLICY };

/// Stores a job in this state, with a run that is over.
async fn job(world: &World, workflow: &str, state: JobState) -> (JobId, WorkflowRun) {
    let (job, run) = world.job();
    let (job, run) =
        (AiJob { state, protocol_id: workflow.into(), ..job }, WorkflowRun { state: RunState::Completed, ..run });
    world.database.submit(job.clone(), run.clone(), None, vec![]).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    (job.job_id, run)
}

async fn candidates(world: &World, policy: &RetentionPolicy) -> Vec<Candidate> {
    world.database.prunable(policy, world.clock.now(), 1000).await.unwrap()
}

fn ids(candidates: &[Candidate]) -> Vec<JobId> {
    candidates.iter().map(|candidate| candidate.job_id).collect()
}

async fn left(world: &World) -> usize {
    usize::try_from(world.database.statistics().await.unwrap().jobs).unwrap()
}

fn janitor(store: &Store, policy: RetentionPolicy) -> Janitor {
    let world = &store.world;
    Janitor::new(JanitorServices {
        database: world.database.clone(),
        content: store.artifacts.clone(),
        recorder: Arc::new(MemoryRecorder::default()) as Arc<dyn FlightRecorder>,
        clock: world.clock.clone(),
        ids: world.ids.clone(),
        host: world.sql.host(),
        policy,
    })
}

fn report(world: &World, host: HostId, candidates: Vec<Candidate>) -> PruneReport {
    PruneReport {
        report_id: ReportId::fresh(&*world.ids),
        host,
        dry_run: false,
        started_at: world.clock.now(),
        finished_at: None,
        policy: POLICY,
        candidates,
        pruned: Pruned::default(),
        swept: Swept::default(),
    }
}

/// Every `gc_summary` on record.
async fn summaries(world: &World) -> Vec<serde_json::Value> {
    world.database.flush().await.unwrap();
    let (_, records) = handshake_tests::storage::records(&*world.sql).await;
    let events = records.iter().map(|record| serde_json::from_str::<serde_json::Value>(&record.record).unwrap());
    let events = events.map(|mut record| record["event"].take());
    events.filter(|event| event["event_type"] == "gc_summary").map(|mut event| event["payload"].take()).collect()
}

pub(crate) async fn finished_jobs_go_after_the_window_but_for_the_newest_of_each_workflow(world: World) {
    let mut old = Vec::new();
    for _ in 0..5 {
        old.push(job(&world, "a", JobState::Completed).await.0);
    }
    let other = job(&world, "b", JobState::Failed).await.0;
    assert_eq!(candidates(&world, &POLICY).await, []);
    world.clock.advance(WINDOW);
    let found = candidates(&world, &POLICY).await;
    assert_eq!(ids(&found), old[..2]);
    assert!(found.iter().all(|job| job.reason == PruneReason::Window && job.protocol_id == "a"));
    assert_eq!(ids(&candidates(&world, &NONE_KEPT).await), [&old[..], &[other]].concat());
    assert_eq!(world.database.prunable(&NONE_KEPT, world.clock.now(), 2).await.unwrap().len(), 2);

    // The newest count whatever their state: three that were just queued protect nobody else.
    for _ in 0..3 {
        let (job, run) = world.job();
        let job = AiJob { protocol_id: "a".into(), ..job };
        world.database.submit(job, run, None, vec![]).await.unwrap();
    }
    assert_eq!(ids(&candidates(&world, &POLICY).await), old);
}

pub(crate) async fn pinned_jobs_and_those_that_are_not_over_stay(world: World) {
    for state in JobState::ALL {
        job(&world, "a", *state).await;
    }
    let pinned = job(&world, "a", JobState::Completed).await.0;
    world.database.pin(pinned, true, vec![]).await.unwrap();
    // A job may be over before its run is: the run's host has not noticed yet.
    let (unfinished, run) = world.job();
    let unfinished = AiJob { state: JobState::Cancelled, ..unfinished };
    world.database.submit(unfinished.clone(), run, None, vec![]).await.unwrap();
    world.clock.advance(WINDOW + DAY);
    let found = candidates(&world, &NONE_KEPT).await;
    let over: Vec<_> = JobState::ALL.iter().filter(|state| state.is_final()).collect();
    assert_eq!(found.iter().map(|job| &job.state).collect::<Vec<_>>(), over);

    // Nor does a deletion that asks for them take them.
    let stored = report(&world, world.sql.host(), found.clone());
    world.database.store_report(stored.clone(), vec![]).await.unwrap();
    let before = left(&world).await;
    let refused = world.database.prune(stored.report_id, &[pinned, unfinished.job_id]).await.unwrap();
    assert_eq!((refused, left(&world).await), (Pruned::default(), before));
    let all: Vec<_> = ids(&found).into_iter().chain([pinned]).collect();
    assert_eq!(world.database.prune(stored.report_id, &all).await.unwrap(), Pruned { jobs: 5, runs: 5 });
    assert_eq!(world.database.job(pinned).await.unwrap().job_id, pinned);
}

pub(crate) async fn a_job_goes_with_everything_that_belongs_to_it(world: World) {
    let store = Store::new(world);
    let world = &store.world;
    let (job, run) = world.job();
    world.database.submit(job.clone(), run.clone(), Some("key"), vec![world.event("submitted")]).await.unwrap();
    let claim = world.database.claim(run.run_id, handshake_core::storage::RunChange::default()).await.unwrap();
    let content = store.put(run.run_id, b"content").await.unwrap();
    let over = handshake_core::storage::RunChange {
        job: Some(AiJob { state: JobState::Completed, ..claim.job }),
        run: Some(WorkflowRun { state: RunState::Completed, ..claim.run }),
        nodes: vec![world.node(run.run_id, "read", None, 1)],
        events: vec![world.event("done")],
    };
    world.database.commit(run.run_id, claim.fence, over).await.unwrap();
    let events = world.recorded().await;
    world.clock.advance(WINDOW + DAY);

    let done = janitor(&store, NONE_KEPT).run(false).await.unwrap();
    assert_eq!(done.pruned, Pruned { jobs: 1, runs: 1 });
    assert_eq!(done.swept, Swept { files: 1, bytes: 7 });
    let statistics = world.database.statistics().await.unwrap();
    assert_eq!((statistics.jobs, statistics.runs, statistics.node_executions), (0, 0, 0));
    assert!(matches!(world.database.job(job.job_id).await, Err(StorageError::NotFound { .. })));
    assert!(world.database.nodes(run.run_id, Payloads::Read).await.unwrap().is_empty());
    assert!(matches!(store.get(run.run_id, content).await, Err(StorageError::NotFound { .. })));
    assert_eq!(world.recorded().await[..events.len()], events, "events stay");
    // Its key can be used again.
    let (again, its_run) = world.job();
    world.database.submit(again.clone(), its_run, Some("key"), vec![]).await.unwrap();
    assert_eq!(world.database.job(again.job_id).await.unwrap().job_id, again.job_id);
}

pub(crate) async fn a_dry_run_deletes_nothing_and_says_so_in_its_report(world: World) {
    let store = Store::new(world);
    let world = &store.world;
    let old = job(world, "a", JobState::Completed).await.0;
    world.clock.advance(WINDOW + DAY);
    let looked = janitor(&store, NONE_KEPT).run(true).await.unwrap();
    assert_eq!((left(world).await, ids(&looked.candidates)), (1, vec![old]));
    assert!(looked.dry_run && looked.finished_at.is_some());
    assert_eq!(world.database.reports(10).await.unwrap(), std::slice::from_ref(&looked));
    let refused = world.database.prune(looked.report_id, &[old]).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
    let said = summaries(world).await;
    assert_eq!((said.len(), &said[0]["dry_run"], &said[0]["jobs"]), (1, &true.into(), &0.into()));
    assert_eq!(said[0]["candidates"], 1);
}

pub(crate) async fn the_report_is_stored_before_anything_is_deleted(world: World) {
    let store = Store::new(world);
    let world = &store.world;
    let old = job(world, "a", JobState::Completed).await.0;
    world.clock.advance(WINDOW + DAY);
    let found = candidates(world, &NONE_KEPT).await;
    let planned = report(world, world.sql.host(), found);
    let refused = world.database.prune(planned.report_id, &[old]).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
    world.database.store_report(planned.clone(), vec![]).await.unwrap();
    // The host is gone between the two. What it was about to do is on record, and its next process does it.
    assert_eq!(world.database.reports(10).await.unwrap(), std::slice::from_ref(&planned));
    assert_eq!((left(world).await, summaries(world).await.len()), (1, 0));
    world.clock.advance(DAY);
    let done = janitor(&store, NONE_KEPT).run(false).await.unwrap();
    assert_eq!((left(world).await, done.pruned.jobs), (0, 1));
    assert_eq!(world.database.reports(10).await.unwrap(), [done.clone(), planned.clone()]);
    // Both rights have ended.
    for report in [done.report_id, planned.report_id] {
        assert!(matches!(world.database.prune(report, &[old]).await, Err(StorageError::Conflict(_))));
    }
    assert!(matches!(world.database.prune(done.report_id, &[]).await, Err(StorageError::Validation(_))));
    assert!(world.database.prune(done.report_id, &[old; MOST_PRUNED + 1]).await.is_err());
}

pub(crate) async fn each_time_there_is_one_summary(world: World) {
    let store = Store::new(world);
    let world = &store.world;
    for _ in 0..250 {
        job(world, "a", JobState::Completed).await;
    }
    world.clock.advance(WINDOW + DAY);
    let janitor = janitor(&store, POLICY);
    let (one, other) = tokio::join!(janitor.run(false), janitor.run(false));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((left(world).await, one.pruned.jobs, other.pruned.jobs), (3, 247, 0));
    let said = summaries(world).await;
    assert_eq!(said.len(), 2);
    assert_eq!((&said[0]["report_id"], &said[0]["jobs"]), (&one.report_id.to_string().into(), &247.into()));
    assert_eq!((&said[1]["report_id"], &said[1]["jobs"]), (&other.report_id.to_string().into(), &0.into()));
}

pub(crate) async fn beyond_the_quota_the_oldest_go_before_their_time(world: World) {
    let store = Store::new(world);
    let world = &store.world;
    let mut jobs = Vec::new();
    for content in [b"aaaa", b"bbbb", b"cccc", b"dddd"] {
        let (id, run) = job(world, "a", JobState::Completed).await;
        store.put(run.run_id, content).await.unwrap();
        // All of them list this one, so it goes with the last alone.
        store.put(run.run_id, b"shared").await.unwrap();
        jobs.push(id);
    }
    let with_quota = |quota| RetentionPolicy { quota: Some(quota), ..NONE_KEPT };
    for (quota, expected) in [(22, 0), (21, 1), (18, 1), (17, 2), (10, 3), (9, 4), (0, 4)] {
        let found = candidates(world, &with_quota(quota)).await;
        assert_eq!(ids(&found), jobs[..expected], "{quota}");
        assert!(found.iter().all(|job| job.reason == PruneReason::Quota));
    }
    let bytes: Vec<_> = candidates(world, &with_quota(0)).await.iter().map(|job| job.artifact_bytes).collect();
    assert_eq!(bytes, [4, 4, 4, 10]);
    // The newest are kept, whatever room they need.
    let kept = RetentionPolicy { quota: Some(0), ..POLICY };
    assert_eq!(ids(&candidates(world, &kept).await), jobs[..1]);
    let done = janitor(&store, with_quota(17)).run(false).await.unwrap();
    assert_eq!((done.pruned.jobs, done.swept), (2, Swept { files: 2, bytes: 8 }));
}

pub(crate) async fn content_that_another_run_lists_stays_and_orphans_go(world: World) {
    let store = Store::new(world);
    let world = &store.world;
    let (_, old) = job(world, "a", JobState::Completed).await;
    store.put(old.run_id, b"shared").await.unwrap();
    store.put(old.run_id, b"alone").await.unwrap();
    world.clock.advance(WINDOW + DAY);
    let (_, new) = job(world, "a", JobState::Completed).await;
    let shared = store.put(new.run_id, b"shared").await.unwrap();
    // What a crash leaves between the file and its row; and what is not the host's.
    let orphan = Digest::of(b"orphan").to_string();
    let folder = world.place.folder().join("artifacts");
    std::fs::create_dir_all(folder.join(&orphan[..2])).unwrap();
    std::fs::write(folder.join(&orphan[..2]).join(&orphan[2..]), b"orphan").unwrap();
    std::fs::write(folder.join("notes.txt"), b"mine").unwrap();

    assert_eq!(store.artifacts.sweep(true).await.unwrap(), Swept { files: 1, bytes: 6 });
    let done = janitor(&store, NONE_KEPT).run(false).await.unwrap();
    assert_eq!((done.pruned.jobs, done.swept), (1, Swept { files: 2, bytes: 11 }));
    assert_eq!(store.get(new.run_id, shared).await.unwrap(), b"shared");
    assert!(folder.join("notes.txt").exists());
    assert_eq!(store.artifacts.sweep(false).await.unwrap(), Swept::default());
}

pub(crate) async fn content_that_is_being_stored_is_not_swept_away(world: World) {
    let store = Store::new(world);
    let run = store.run().await;
    let storing = async {
        for number in 0..40u32 {
            let content = number.to_le_bytes();
            // One that gives up in the middle leaves nothing that the next could trip over.
            let permit = store.permit(run, Axis::ArtifactWrite).await;
            let put = store.artifacts.put(&permit, run, "text/plain", &content);
            let _ = tokio::time::timeout(Duration::from_micros(u64::from(number) * 50), put).await;
            let id = store.put(run, &content).await.unwrap();
            assert_eq!(store.get(run, id).await.unwrap(), content);
        }
    };
    let sweeping = async {
        loop {
            store.artifacts.sweep(false).await.unwrap();
        }
    };
    tokio::select! {
        () = storing => {}
        () = sweeping => {}
    }
    assert_eq!(store.artifacts.sweep(false).await.unwrap(), Swept::default());
}

pub(crate) async fn one_host_at_a_time_deletes(world: World) {
    if world.place.backend == Backend::Sqlite {
        // Has one host.
        return;
    }
    let store = Store::new(world);
    let world = &store.world;
    let old = job(world, "a", JobState::Completed).await.0;
    world.clock.advance(WINDOW + DAY);
    let other = world.another_host().await;
    let theirs = report(world, other.host(), candidates(world, &NONE_KEPT).await);
    other.store_report(theirs.clone(), vec![]).await.unwrap();
    let refused = janitor(&store, NONE_KEPT).run(false).await;
    assert!(matches!(refused, Err(EngineError::Storage(StorageError::Conflict(_)))), "{refused:?}");
    // Looking is free.
    assert_eq!(janitor(&store, NONE_KEPT).run(true).await.unwrap().candidates.len(), 1);
    // A host that went away is waited for ten minutes, and can delete nothing when it comes back.
    world.clock.advance(Duration::from_secs(601));
    let mine = report(world, world.sql.host(), vec![]);
    world.database.store_report(mine.clone(), vec![]).await.unwrap();
    assert!(matches!(other.prune(theirs.report_id, &[old]).await, Err(StorageError::Conflict(_))));
    assert_eq!(world.database.prune(mine.report_id, &[old]).await.unwrap().jobs, 1);
    other.close().await.unwrap();
}
