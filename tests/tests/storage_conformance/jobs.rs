//! Jobs: storing, listing, idempotency keys.

use std::time::Duration;

use handshake_core::event::AdmittedEvent;
use handshake_core::job::{AiJob, JobKind, JobState};
use handshake_core::run::{FencingToken, RunState, WorkflowRun};
use handshake_core::storage::{
    Begun, Database, EventOutbox, JobFilter, JobStore, RunChange, RunStore, StorageError, Submitted,
};
use handshake_core::{HostId, Ids, JobId, TraceId};
use handshake_storage::DatabaseUrl;
use handshake_tests::postgres::Backend;
use handshake_tests::storage::{World, newest_migration, open};

pub(crate) async fn a_job_and_its_run_come_back_as_they_were_submitted(world: World) {
    for (job, run) in [world.job(), world.full_job()] {
        let events = vec![world.event("created")];
        assert_eq!(world.database.submit(job.clone(), run.clone(), None, events).await.unwrap(), Submitted::New);
        assert_eq!(world.database.job(job.job_id).await.unwrap(), job);
        assert_eq!(world.database.run(run.run_id).await.unwrap(), run);
        assert_eq!(world.database.runs_of(job.job_id).await.unwrap(), [run]);
    }
    assert_eq!(world.recorded().await.len(), 2);
    let statistics = world.database.statistics().await.unwrap();
    assert_eq!((statistics.jobs, statistics.runs, statistics.outbox_events), (2, 2, 2));
    assert!(statistics.bytes > 0 && statistics.last_recorded_at.is_some());
    assert_eq!(world.database.migration_version().await.unwrap(), Some(newest_migration()));
    world.database.ping().await.unwrap();
}

pub(crate) async fn a_copy_of_the_database_holds_what_was_stored_until_then(world: World) {
    let copy = world.place.folder().join("copy.db");
    let ((before, run), (after, later)) = (world.job(), world.job());
    world.database.submit(before.clone(), run, None, vec![world.event("before")]).await.unwrap();
    let copied = world.database.snapshot(&copy).await;
    if world.place.backend == Backend::Postgres {
        assert!(matches!(copied, Err(StorageError::Conflict(_))) && !copy.exists(), "{copied:?}");
        return;
    }
    copied.unwrap();
    world.database.submit(after.clone(), later, None, vec![]).await.unwrap();
    assert!(world.database.snapshot(&copy).await.is_err(), "nothing is replaced");
    let copied = open(&DatabaseUrl::sqlite(copy), HostId::fresh(&*world.ids), world.clock.clone()).await;
    assert_eq!(copied.host(), world.database.host());
    assert_eq!(copied.job(before.job_id).await.unwrap(), before);
    assert!(matches!(copied.job(after.job_id).await, Err(StorageError::NotFound { .. })));
    assert_eq!(copied.statistics().await.unwrap().outbox_events, 1);
}

pub(crate) async fn an_unknown_job_is_not_found(world: World) {
    let id = JobId::fresh(&*world.ids);
    assert!(matches!(world.database.job(id).await, Err(StorageError::NotFound { what: "job", .. })));
}

pub(crate) async fn one_idempotency_key_gives_one_job_however_many_submit_at_once(world: World) {
    let submissions = (0..32).map(|_| {
        let (job, run) = world.job();
        let (database, event) = (world.database.clone(), world.event("created"));
        tokio::spawn(async move { (job.job_id, database.submit(job, run, Some("key"), vec![event]).await.unwrap()) })
    });
    let mut new = Vec::new();
    let mut existing = Vec::new();
    for submission in submissions.collect::<Vec<_>>() {
        match submission.await.unwrap() {
            (id, Submitted::New) => new.push(id),
            (_, Submitted::Existing(job)) => existing.push(job.job_id),
        }
    }
    assert_eq!((new.len(), existing.len()), (1, 31));
    assert!(existing.iter().all(|id| *id == new[0]));
    assert_eq!(world.database.jobs(&JobFilter::default()).await.unwrap().len(), 1);
    assert_eq!(world.recorded().await.len(), 1, "events of a submission that was not stored are not on record");
}

pub(crate) async fn a_job_begins_with_its_run_claimed_or_is_not_stored(world: World) {
    let (job, run) = world.job();
    let change = |job: &AiJob, run: &WorkflowRun| RunChange {
        job: Some(AiJob { state: JobState::Running, ..job.clone() }),
        run: Some(WorkflowRun { state: RunState::Running, ..run.clone() }),
        nodes: vec![world.node(run.run_id, "first", None, 1)],
        events: vec![world.event("claimed")],
    };
    let begin = async |job: &AiJob, run: &WorkflowRun, key, change: RunChange| {
        let submitted = world.event("submitted");
        let ids = [&submitted].into_iter().chain(&change.events).map(AdmittedEvent::event_id).collect::<Vec<_>>();
        let begun = world.database.begin(job.clone(), run.clone(), key, vec![submitted], change).await;
        begun.map(|begun| (begun, ids))
    };
    let (begun, events) = begin(&job, &run, Some("key"), change(&job, &run)).await.unwrap();
    let Begun::Claimed(claim) = begun else { panic!("{begun:?}") };
    assert_eq!((claim.fence, claim.run.host), (FencingToken(1), Some(world.database.host())));
    assert_eq!((claim.run.state, claim.job.state), (RunState::Running, JobState::Running));
    assert_eq!(world.database.run(run.run_id).await.unwrap(), claim.run);
    assert_eq!(world.database.job(job.job_id).await.unwrap(), claim.job);
    assert_eq!(world.recorded().await, events);
    let again = world.database.claim(run.run_id, RunChange::default()).await;
    assert!(matches!(again, Err(StorageError::Conflict(_))), "{again:?}");
    let done = RunChange { nodes: change(&job, &run).nodes, ..RunChange::default() };
    world.database.commit(run.run_id, claim.fence, done).await.unwrap();

    // Nothing of what follows is stored.
    let (other, its_run) = world.job();
    let (second, _) = begin(&other, &its_run, Some("key"), change(&other, &its_run)).await.unwrap();
    assert_eq!(second, Begun::Existing(claim.job.clone().into()));
    let same = begin(&job, &its_run, None, change(&job, &its_run)).await;
    assert!(matches!(same, Err(StorageError::Validation(_) | StorageError::Conflict(_))), "{same:?}");
    let foreign = begin(&other, &its_run, None, change(&job, &its_run)).await;
    assert!(matches!(foreign, Err(StorageError::Validation(_))), "{foreign:?}");
    let queued = RunChange { run: Some(its_run.clone()), ..RunChange::default() };
    assert!(matches!(begin(&other, &its_run, None, queued).await, Err(StorageError::Validation(_))));
    assert!(matches!(world.database.job(other.job_id).await, Err(StorageError::NotFound { .. })));
    assert_eq!(world.recorded().await, events);
}

pub(crate) async fn a_duplicate_job_fails_alone(world: World) {
    let (job, run) = world.job();
    world.database.submit(job.clone(), run.clone(), None, vec![]).await.unwrap();
    let (good, good_run) = world.job();
    let good_id = good.job_id;
    let (appended, duplicate, submitted) = tokio::join!(
        world.database.append(world.event("before")),
        world.database.submit(job, run, Some("k"), vec![world.event("duplicate")]),
        world.database.submit(good, good_run, None, vec![world.event("good")]),
    );
    appended.unwrap();
    assert!(matches!(duplicate, Err(StorageError::Conflict(_))), "{duplicate:?}");
    assert_eq!(submitted.unwrap(), Submitted::New);
    world.database.job(good_id).await.unwrap();
    assert_eq!(world.recorded().await.len(), 2);
    // The key of the failed submission is free.
    let (job, run) = world.job();
    assert_eq!(world.database.submit(job, run, Some("k"), vec![]).await.unwrap(), Submitted::New);
}

pub(crate) async fn lists_are_filtered_before_the_limit_and_page_without_gaps(world: World) {
    let mut expected = Vec::new();
    for n in 0..25 {
        // Several jobs share one time, so that the id has to order them.
        if n % 4 == 0 {
            world.clock.advance(Duration::from_secs(1));
        }
        let (mut job, run) = world.job();
        job.state = if n % 5 == 0 { JobState::Failed } else { JobState::Queued };
        job.job_kind = if n % 2 == 0 { JobKind::DocIngest } else { JobKind::WorkflowRun };
        expected.push((job.created_at, job.job_id, job.state, job.job_kind));
        world.database.submit(job, run, None, vec![]).await.unwrap();
    }
    expected.sort_by_key(|row| std::cmp::Reverse((row.0, row.1)));

    let mut seen = Vec::new();
    let mut filter = JobFilter { limit: 7, ..JobFilter::default() };
    loop {
        let page = world.database.jobs(&filter).await.unwrap();
        filter.after = page.last().map(|job| job.job_id);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|job| job.job_id));
    }
    assert_eq!(seen, expected.iter().map(|row| row.1).collect::<Vec<_>>());

    let failed = world
        .database
        .jobs(&JobFilter { state: Some(JobState::Failed), limit: 3, ..JobFilter::default() })
        .await
        .unwrap();
    let wanted: Vec<_> = expected.iter().filter(|row| row.2 == JobState::Failed).map(|row| row.1).take(3).collect();
    assert_eq!(failed.iter().map(|job| job.job_id).collect::<Vec<_>>(), wanted);

    let both = JobFilter { state: Some(JobState::Failed), kind: Some(JobKind::DocIngest), ..JobFilter::default() };
    let wanted = expected.iter().filter(|row| row.2 == JobState::Failed && row.3 == JobKind::DocIngest).count();
    assert_eq!(world.database.jobs(&both).await.unwrap().len(), wanted);

    let (elsewhere, mut run) = world.job();
    run.base = "/elsewhere/it's % _".into();
    world.database.submit(elsewhere.clone(), run, None, vec![]).await.unwrap();
    for (workspace, found) in [("/elsewhere/it's % _", vec![elsewhere.clone()]), ("/elsewhere/%", vec![])] {
        let filter = JobFilter { workspace: Some(workspace.to_owned()), ..JobFilter::default() };
        assert_eq!(world.database.jobs(&filter).await.unwrap(), found);
    }

    let (mut child, run) = world.job();
    child.parent_job_id = Some(expected[0].1);
    world.database.submit(child.clone(), run, None, vec![]).await.unwrap();
    for (parent, found) in [(expected[0].1, vec![child]), (expected[1].1, vec![])] {
        let filter = JobFilter { parent: Some(parent), ..JobFilter::default() };
        assert_eq!(world.database.jobs(&filter).await.unwrap(), found);
    }

    let unknown = JobFilter { after: Some(JobId::from_uuid(world.ids.uuid())), ..JobFilter::default() };
    assert!(matches!(world.database.jobs(&unknown).await, Err(StorageError::NotFound { .. })));
}

pub(crate) async fn what_cannot_be_stored_is_refused_before_anything_is_written(world: World) {
    let spoil: [fn(&mut AiJob, &mut WorkflowRun); 8] = [
        |job, _| job.status_reason = "a\0b".into(),
        |job, _| job.error_message = Some("\0".into()),
        |job, _| job.job_inputs = serde_json::json!({ "a": ["\0"] }),
        |job, _| job.job_outputs = Some(serde_json::json!({ "\0": 1 })),
        |_, run| run.inputs = serde_json::json!("\\\0"),
        |_, run| run.base = "/a\0".into(),
        |job, run| {
            (job.trace_id, run.trace_id) =
                (TraceId::from_uuid(uuid::Uuid::nil()), TraceId::from_uuid(uuid::Uuid::nil()))
        },
        |job, _| job.trace_id = TraceId::from_uuid(uuid::Uuid::from_u128(u128::MAX)),
    ];
    for spoil in spoil {
        let (mut job, mut run) = world.job();
        spoil(&mut job, &mut run);
        let refused = world.database.submit(job, run, None, vec![]).await;
        assert!(matches!(refused, Err(StorageError::Validation(_))), "{refused:?}");
    }
    for key in ["", "a\0", &"k".repeat(256)] {
        let (job, run) = world.job();
        assert!(matches!(world.database.submit(job, run, Some(key), vec![]).await, Err(StorageError::Validation(_))));
    }
    assert_eq!(world.database.statistics().await.unwrap().jobs, 0);
    assert_eq!(world.recorded().await.len(), 0);
}
