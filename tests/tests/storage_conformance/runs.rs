//! Runs: claims, fencing tokens, attempts and their effects.

use std::time::Duration;

use handshake_core::document::Proposal;
use handshake_core::job::{AiJob, JobMetrics, JobState, PlannedOperation};
use handshake_core::node::{AttemptLog, Contribution, LogLine, NodeError, NodeExecution, NodeState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunState, WorkflowRun};
use handshake_core::step::LogLevel;
use handshake_core::storage::{
    Claim, Database, EventOutbox, JobStore, LogQuery, Logs, Payloads, RunChange, RunStore, StorageError,
};
use handshake_core::{Clock, Digest, Json, PluginId, RunId, StepId};
use handshake_tests::storage::World;
use serde_json::json;

async fn submitted(world: &World) -> (AiJob, WorkflowRun) {
    let (job, run) = world.job();
    world.database.submit(job.clone(), run.clone(), None, vec![]).await.unwrap();
    (job, run)
}

async fn claimed(world: &World) -> Claim {
    let (_, run) = submitted(world).await;
    world.database.claim(run.run_id, RunChange::default()).await.unwrap()
}

fn note(run: RunId, fence: FencingToken, call: u64) -> EffectNote {
    EffectNote {
        run,
        step: StepId::new("write").unwrap(),
        index: Some(3),
        attempt: 2,
        fence,
        call,
        capability: "fs.write".into(),
        resource: "out/ä".into(),
    }
}

fn is_outdated<T: std::fmt::Debug>(result: Result<T, StorageError>) -> bool {
    matches!(&result, Err(StorageError::Conflict(text)) if text.contains("taken over") && text.contains("outdated"))
}

pub(crate) async fn a_claim_makes_run_and_job_running_and_raises_the_token(world: World) {
    let (job, run) = submitted(&world).await;
    world.clock.advance(Duration::from_secs(5));
    let change = RunChange { events: vec![world.event("started")], ..RunChange::default() };
    let claim = world.database.claim(run.run_id, change).await.unwrap();
    assert_eq!(claim.fence, FencingToken(1));
    assert_eq!(claim.run.host, Some(world.database.host()));
    assert_eq!((claim.run.state, claim.job.state), (RunState::Running, JobState::Running));
    assert_eq!(claim.run.heartbeat_at, Some(world.clock.now()));
    assert_eq!(world.database.run(run.run_id).await.unwrap(), claim.run);
    assert_eq!(world.database.job(job.job_id).await.unwrap(), claim.job);
    assert_eq!(world.database.interrupted().await.unwrap(), std::slice::from_ref(&claim.run));
    assert_eq!(world.recorded().await.len(), 1);

    let again = world
        .database
        .claim(run.run_id, RunChange { events: vec![world.event("again")], ..RunChange::default() })
        .await;
    assert!(
        matches!(&again, Err(StorageError::Conflict(text)) if text.contains("`running` cannot `claim`")),
        "{again:?}"
    );
    assert_eq!(world.recorded().await.len(), 1, "a claim that failed leaves no event");
}

pub(crate) async fn one_of_many_claims_wins(world: World) {
    let (_, run) = submitted(&world).await;
    let claims = (0..16).map(|_| {
        let (database, id) = (world.database.clone(), run.run_id);
        tokio::spawn(async move { database.claim(id, RunChange::default()).await.is_ok() })
    });
    let mut won = 0;
    for claim in claims.collect::<Vec<_>>() {
        won += usize::from(claim.await.unwrap());
    }
    assert_eq!(won, 1);
}

pub(crate) async fn a_claim_is_refused_for_other_states_and_for_ended_jobs(world: World) {
    let claim = claimed(&world).await;
    let unknown = RunId::from_uuid(claim.job.job_id.uuid());
    assert!(matches!(
        world.database.claim(unknown, RunChange::default()).await,
        Err(StorageError::NotFound { what: "run", .. })
    ));

    let waiting =
        RunChange { run: Some(WorkflowRun { state: RunState::Waiting, ..claim.run.clone() }), ..RunChange::default() };
    let refused = world.database.claim(claim.run.run_id, waiting.clone()).await;
    assert!(matches!(refused, Err(StorageError::Validation(_))));

    // The run waits, but its job has been cancelled meanwhile.
    let job = AiJob { state: JobState::Cancelled, ..claim.job.clone() };
    world.database.commit(claim.run.run_id, claim.fence, RunChange { job: Some(job), ..waiting }).await.unwrap();
    let refused = world.database.claim(claim.run.run_id, RunChange::default()).await;
    assert!(matches!(&refused, Err(StorageError::Conflict(text)) if text.contains("cancelled")), "{refused:?}");
}

pub(crate) async fn a_commit_writes_everything_and_attempts_come_back_in_order(world: World) {
    let claim = claimed(&world).await;
    let id = claim.run.run_id;
    let nodes = vec![
        world.node(id, "b", None, 1),
        world.node(id, "a", Some(10), 1),
        world.node(id, "a", Some(2), 2),
        world.node(id, "a", Some(2), 1),
        world.node(id, "a", None, 1),
    ];
    let change = RunChange { nodes: nodes.clone(), events: vec![world.event("planned")], ..RunChange::default() };
    world.database.commit(id, claim.fence, change).await.unwrap();

    let mut done = nodes[0].clone();
    done.state = NodeState::Completed;
    done.plugin = Some(PluginId::new("summarize").unwrap());
    done.component_sha256 = Some(Digest::of(b"component"));
    done.output = Some(Json::of(&json!({ "ä": [1.5, null] })));
    done.error = Some(NodeError { kind: "timeout".into(), message: "“late”".into() });
    done.finished_at = Some(world.clock.now());
    let run = WorkflowRun {
        state: RunState::Completed,
        error: Some("e".into()),
        fence: FencingToken(99),
        host: None,
        ..claim.run.clone()
    };
    let job = AiJob { state: JobState::Completed, job_outputs: Some(json!({ "r": 1 })), ..claim.job.clone() };
    let change = RunChange {
        job: Some(job.clone()),
        run: Some(run.clone()),
        nodes: vec![done.clone()],
        events: vec![world.event("done")],
    };
    world.database.commit(id, claim.fence, change).await.unwrap();

    let stored = world.database.nodes(id, Payloads::Read).await.unwrap();
    let expected = [&nodes[4], &nodes[3], &nodes[2], &nodes[1], &done];
    assert_eq!(stored.iter().collect::<Vec<_>>(), expected);
    assert_eq!(world.database.job(job.job_id).await.unwrap(), job);
    let kept = WorkflowRun { fence: claim.fence, host: claim.run.host, ..run };
    assert_eq!(world.database.run(id).await.unwrap(), kept, "token and host change only by a claim");
    assert_eq!(world.database.interrupted().await.unwrap(), []);
    assert_eq!(world.recorded().await.len(), 2);
}

pub(crate) async fn an_outdated_token_writes_nothing_and_does_not_disturb_its_neighbours(world: World) {
    let first = claimed(&world).await;
    let id = first.run.run_id;
    let stalled = RunChange {
        run: Some(WorkflowRun { state: RunState::Stalled, ..first.run.clone() }),
        job: Some(AiJob { state: JobState::Stalled, ..first.job.clone() }),
        ..RunChange::default()
    };
    world.database.commit(id, first.fence, stalled).await.unwrap();
    let second = world.database.claim(id, RunChange::default()).await.unwrap();
    assert_eq!(second.fence, FencingToken(2));

    let change = |events| RunChange {
        run: Some(WorkflowRun { state: RunState::Failed, ..first.run.clone() }),
        nodes: vec![world.node(id, "a", None, 1)],
        events,
        ..RunChange::default()
    };
    let (before, stale, beat, effect, fresh) = tokio::join!(
        world.database.append(world.event("neighbour")),
        world.database.commit(id, first.fence, change(vec![world.event("stale")])),
        world.database.heartbeat(id, first.fence),
        world.database.append_effect(note(id, first.fence, 1), world.event("stale effect")),
        world.database.append_effect(note(id, second.fence, 2), world.event("effect")),
    );
    before.unwrap();
    fresh.unwrap();
    assert!(is_outdated(stale) && is_outdated(beat) && is_outdated(effect));
    assert_eq!(world.database.run(id).await.unwrap(), second.run);
    assert_eq!(world.database.nodes(id, Payloads::Read).await.unwrap(), []);
    assert_eq!(world.database.effects(id).await.unwrap(), [note(id, second.fence, 2)]);
    assert_eq!(world.recorded().await.len(), 2);
}

pub(crate) async fn effects_come_back_in_order_and_only_a_running_run_may_have_them(world: World) {
    let claim = claimed(&world).await;
    let id = claim.run.run_id;
    for call in [5, 1, 12] {
        world.database.append_effect(note(id, claim.fence, call), world.event("effect")).await.unwrap();
    }
    let calls: Vec<_> = world.database.effects(id).await.unwrap().iter().map(|note| note.call).collect();
    assert_eq!(calls, [5, 1, 12]);

    let ended = WorkflowRun { state: RunState::Cancelled, ..claim.run.clone() };
    world.database.commit(id, claim.fence, RunChange { run: Some(ended), ..RunChange::default() }).await.unwrap();
    let late = world.database.append_effect(note(id, claim.fence, 13), world.event("late")).await;
    assert!(matches!(late, Err(StorageError::Conflict(_))));
    assert_eq!(world.database.effects(id).await.unwrap().len(), 3);
    assert_eq!(world.recorded().await.len(), 3);
}

pub(crate) async fn logs_come_in_the_order_in_which_attempts_ended_and_a_part_at_a_time(world: World) {
    let claim = claimed(&world).await;
    let id = claim.run.run_id;
    let commit = async |nodes: Vec<NodeExecution>| {
        world.database.commit(id, claim.fence, RunChange { nodes, ..RunChange::default() }).await.unwrap();
    };
    let line = |text: &str| LogLine { at: world.clock.now(), level: LogLevel::Warn, line: text.to_owned() };
    let long = "ä".repeat(600_000);
    let mut ended = Vec::new();
    for (step, index, attempt, text) in [("b", Some(1), 1, &*long), ("b", Some(0), 1, &long), ("a", None, 2, "short")] {
        commit(vec![world.node(id, step, index, attempt)]).await;
        world.clock.advance(Duration::from_secs(1));
        let (finished_at, log) = (Some(world.clock.now()), vec![line("first"), line(text)]);
        ended.push(NodeExecution { finished_at, log, ..world.node(id, step, index, attempt) });
    }
    ended.push(world.node(id, "silent", None, 1));
    commit(ended.clone()).await;
    let log =
        |node: &NodeExecution| AttemptLog { node: node.node.clone(), attempt: node.attempt, lines: node.log.clone() };

    let read = async |step: Option<&str>, skip| {
        let step = step.map(|step| StepId::new(step).unwrap());
        world.database.logs(id, LogQuery { step, skip }).await.unwrap()
    };
    assert_eq!(read(None, 0).await, Logs { attempts: vec![log(&ended[0])], next: Some(1) });
    assert_eq!(read(None, 1).await, Logs { attempts: vec![log(&ended[1]), log(&ended[2])], next: None });
    assert_eq!(read(Some("a"), 0).await, Logs { attempts: vec![log(&ended[2])], next: None });
    assert_eq!(read(Some("silent"), 0).await, Logs::default());
    assert_eq!(read(None, 3).await, Logs::default());

    // Whoever reads attempts and writes them back has not read their logs.
    let nodes = world.database.nodes(id, Payloads::Read).await.unwrap();
    assert!(nodes.iter().all(|node| node.log.is_empty()));
    commit(nodes).await;
    assert_eq!(read(None, 1).await.attempts.len(), 2);
    let nul = NodeExecution { log: vec![line("\0")], ..world.node(id, "c", None, 1) };
    let refused = world.database.commit(id, claim.fence, RunChange { nodes: vec![nul], ..RunChange::default() }).await;
    assert!(matches!(refused, Err(StorageError::Validation(_))), "{refused:?}");
}

pub(crate) async fn a_change_reaches_no_other_run_and_no_other_job(world: World) {
    let (mine, other) = (claimed(&world).await, claimed(&world).await);
    let id = mine.run.run_id;
    let changes = [
        RunChange { run: Some(other.run.clone()), ..RunChange::default() },
        RunChange { nodes: vec![world.node(other.run.run_id, "a", None, 1)], ..RunChange::default() },
        RunChange { job: Some(AiJob { state: JobState::Failed, ..other.job.clone() }), ..RunChange::default() },
        RunChange { job: Some(AiJob { trace_id: other.job.trace_id, ..mine.job.clone() }), ..RunChange::default() },
    ];
    for change in changes {
        let refused = world.database.commit(id, mine.fence, change).await;
        assert!(matches!(refused, Err(StorageError::Validation(_))), "{refused:?}");
    }
    assert_eq!(world.database.job(other.job.job_id).await.unwrap(), other.job);
    assert_eq!(world.database.job(mine.job.job_id).await.unwrap(), mine.job);
    assert_eq!(world.recorded().await.len(), 0);
}

pub(crate) async fn a_heartbeat_moves_the_sign_of_life_and_nothing_else(world: World) {
    let claim = claimed(&world).await;
    world.clock.advance(Duration::from_secs(9));
    world.database.heartbeat(claim.run.run_id, claim.fence).await.unwrap();
    let run = world.database.run(claim.run.run_id).await.unwrap();
    assert_eq!(run, WorkflowRun { heartbeat_at: Some(world.clock.now()), ..claim.run });
}

pub(crate) async fn a_run_that_nobody_executes_is_amended_from_the_state_that_was_seen(world: World) {
    let (job, run) = submitted(&world).await;
    let id = run.run_id;
    let change = |state: RunState, recoveries: u32| RunChange {
        job: Some(AiJob { state: JobState::Cancelled, ..job.clone() }),
        run: Some(WorkflowRun { state, recoveries, ..run.clone() }),
        nodes: vec![NodeExecution {
            contribution: Contribution {
                metrics: JobMetrics { total_tokens: u64::from(u32::MAX), ..JobMetrics::default() },
                proposals: vec![Proposal {
                    document: "ä".into(),
                    base_version: 7,
                    operations: vec![PlannedOperation::UpdateMetadata { key: "k".into(), value: None }],
                }],
            },
            ..world.node(id, "a", None, 1)
        }],
        events: vec![world.event("amended")],
    };
    let wrong = world.database.amend(id, RunState::Stalled, change(RunState::Cancelled, 1)).await;
    assert!(
        matches!(&wrong, Err(StorageError::Conflict(text)) if text.contains("`queued`, not `stalled`")),
        "{wrong:?}"
    );
    assert!(world.recorded().await.is_empty());

    let wanted = change(RunState::Stalled, 3);
    world.database.amend(id, RunState::Queued, wanted.clone()).await.unwrap();
    assert_eq!(Some(world.database.run(id).await.unwrap()), wanted.run);
    assert_eq!(Some(world.database.job(job.job_id).await.unwrap()), wanted.job);
    assert_eq!(world.database.nodes(id, Payloads::Read).await.unwrap(), wanted.nodes);
    let left_out = world.database.nodes(id, Payloads::LeftOut).await.unwrap();
    assert!(left_out[0].contribution.is_empty());
    assert_eq!(world.recorded().await.len(), 1);

    let claim = claimed(&world).await;
    let running = RunChange { events: vec![world.event("x")], ..RunChange::default() };
    let refused = world.database.amend(claim.run.run_id, RunState::Running, running).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "only its holder writes to a running run: {refused:?}");
    let unknown = RunId::from_uuid(job.job_id.uuid());
    let missing = world.database.amend(unknown, RunState::Queued, RunChange::default()).await;
    assert!(matches!(missing, Err(StorageError::NotFound { what: "run", .. })), "{missing:?}");
}
