//! What becomes of runs whose host was lost, and what people can ask for.

use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::JobState;
use handshake_core::node::{NodeKey, NodeState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunState};
use handshake_core::{JobId, RunId, StepId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::doubles::*;
use crate::recovery::MOST_RECOVERIES;
use crate::{Control, EngineError, Recovered, RunUpdateKind};

fn person() -> Actor {
    Actor { kind: ActorKind::Human, id: "tester".into() }
}

/// Executes a run until its step `write` hangs, and loses the host there.
async fn lose(bench: &Bench, run: RunId) {
    let mut news = bench.engine.watch();
    let engine = bench.engine.clone();
    let host = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await });
    let begun =
        |kind: &RunUpdateKind| matches!(kind, RunUpdateKind::NodeStarted { node, .. } if node.step.as_str() == "write");
    while !begun(&news.recv().await.unwrap().kind) {}
    host.abort();
    assert!(host.await.is_err());
}

/// Two steps; what is said of the second is filled in.
fn flow(top: &str, write: &str) -> String {
    format!(
        "name: x\n{top}steps:\n  - {{ id: read, uses: read-folder }}\n  - {{ id: write, uses: write-report, needs: [read]{write} }}\n"
    )
}

fn hangs_in_write(call: &Call) -> Act {
    if call.step == "write" && call.attempt == 1 { Act::Hang } else { Act::Give(json!(call.step)) }
}

async fn interrupted(text: &str, effect: &str) -> (Bench, JobId, RunId, Recovered) {
    let bench = bench(hangs_in_write);
    let submitted = bench.engine.submit(submission(text, &[])).await.unwrap();
    let run = submitted.run_id;
    lose(&bench, run).await;
    if !effect.is_empty() {
        let note = EffectNote {
            run,
            step: StepId::new("write").unwrap(),
            index: None,
            attempt: 1,
            fence: FencingToken(1),
            call: 1,
            capability: effect.into(),
            resource: "out/report.md".into(),
        };
        bench.database.tables().effects.push(note);
    }
    let recovered = bench.engine.recover().await.unwrap().remove(0);
    (bench, submitted.job_id, run, recovered)
}

#[tokio::test]
async fn the_record_of_effects_and_the_workflow_decide_whether_a_step_runs_again() {
    for (top, write, effect, expected) in [
        ("", "", "", JobState::Stalled),
        ("", "", "fs.write", JobState::AwaitingUser),
        ("", "", "fs.write:out", JobState::AwaitingUser),
        ("", "", "of.a.later.version", JobState::AwaitingUser),
        ("", "", "model.infer", JobState::Stalled),
        ("", ", idempotent: true", "fs.write", JobState::Stalled),
        ("", ", recovery: always", "fs.write", JobState::Stalled),
        ("", ", recovery: manual", "", JobState::AwaitingUser),
        ("recovery: manual\n", "", "", JobState::AwaitingUser),
        ("recovery: manual\n", ", recovery: auto", "", JobState::Stalled),
    ] {
        let (bench, job, run, recovered) = interrupted(&flow(top, write), effect).await;
        assert_eq!(recovered.state, expected, "{top:?} {write:?} {effect}");
        let resumable = bench.engine.resumable().await.unwrap();
        let may_go_on = expected == JobState::Stalled;
        assert_eq!(resumable, if may_go_on { vec![(run, job)] } else { vec![] });
        let alone = bench.engine.execute(run, CancellationToken::new()).await;
        assert_eq!(alone.is_ok(), may_go_on, "{alone:?}");
        if !may_go_on {
            assert!(matches!(alone, Err(EngineError::NeedsPerson { .. })));
            bench.engine.resume(run, &person(), &Control::default()).await.unwrap();
        }
        let nodes = ["read 1 completed", "write 1 interrupted", "write 2 completed"];
        assert_eq!(bench.database.nodes_by_text(), nodes);
        assert_eq!(bench.calls().len(), 3, "what was completed is not executed again");
        assert_eq!(bench.database.tables().jobs[&job].metrics.total_tokens, 10);
        assert_eq!(bench.database.tables().runs[&run].recoveries, 1);
    }
}

#[tokio::test]
async fn a_person_is_told_what_may_have_been_done() {
    let (_, job, _, recovered) = interrupted(&flow("", ""), "fs.write").await;
    let told = recovered.reason.replace(&job.to_string(), "JOB");
    insta::assert_snapshot!(told, @"the host's process ended; step `write` may have done fs.write out/report.md. Look what became of it; then `handshake jobs resume JOB` runs it again, and `handshake jobs cancel JOB` gives it up");
}

#[tokio::test]
async fn a_run_that_is_always_interrupted_is_poisoned() {
    let bench = bench(|call| if call.step == "write" { Act::Hang } else { Act::Give(json!(1)) });
    let submitted = bench.engine.submit(submission(&flow("", ", recovery: always"), &[])).await.unwrap();
    let run = submitted.run_id;
    for interruption in 1..=MOST_RECOVERIES + 1 {
        lose(&bench, run).await;
        let recovered = bench.engine.recover().await.unwrap().remove(0);
        let expected = if interruption > MOST_RECOVERIES { JobState::Poisoned } else { JobState::Stalled };
        assert_eq!(recovered.state, expected, "interruption {interruption}");
    }
    assert_eq!(bench.database.tables().runs[&run].state, RunState::Failed);
    let events = bench.database.tables().events.clone();
    assert_eq!(events.iter().filter(|event| event["event_type"] == "security_violation").count(), 1);
    assert!(bench.engine.resume(run, &person(), &Control::default()).await.is_err());
    assert!(bench.engine.retry(submitted.job_id, None, &person()).await.is_err(), "never again");
}

#[tokio::test]
async fn an_interrupted_attempt_is_not_one_of_the_tries() {
    let bench = bench(|call| match (call.step.as_str(), call.attempt) {
        ("write", 1) => Act::Hang,
        ("write", 2 | 3) => Act::Fail(handshake_core::step::StepFailure::Transient("busy".into())),
        _ => Act::Give(json!(1)),
    });
    let text = flow("", ", retry: { attempts: 3, initial: 1ms }");
    let submitted = bench.engine.submit(submission(&text, &[])).await.unwrap();
    lose(&bench, submitted.run_id).await;
    bench.engine.recover().await.unwrap();
    let summary = bench.engine.execute(submitted.run_id, CancellationToken::new()).await.unwrap();
    assert_eq!(summary.job.state, JobState::Completed);
    assert_eq!(bench.database.nodes_by_text().len(), 5);
}

#[tokio::test]
async fn a_run_that_finds_another_plugin_than_it_began_with_waits_for_a_person() {
    let (bench, _, run, _) = interrupted(&flow("", ""), "").await;
    *bench.executor.version.lock().unwrap() = "second";
    let summary = bench.engine.execute(run, CancellationToken::new()).await.unwrap();
    assert_eq!((summary.job.state, summary.run.state), (JobState::AwaitingUser, RunState::Waiting));
    assert!(summary.job.status_reason.contains("is not the one that the run was made with"));
    *bench.executor.version.lock().unwrap() = "first";
    let summary = bench.engine.resume(run, &person(), &Control::default()).await.unwrap();
    assert_eq!(summary.job.state, JobState::Completed);
}

#[tokio::test]
async fn a_job_that_nobody_executes_can_be_cancelled_once() {
    let (bench, job, run, _) = interrupted(&flow("", ""), "fs.write").await;
    let cancelled = bench.engine.cancel(job, &person()).await.unwrap();
    assert_eq!((cancelled.state, cancelled.status_reason.as_str()), (JobState::Cancelled, "cancelled by tester"));
    assert_eq!(bench.database.tables().runs[&run].state, RunState::Cancelled);
    assert!(matches!(bench.engine.cancel(job, &person()).await, Err(EngineError::Job(_))));
    assert!(bench.engine.resume(run, &person(), &Control::default()).await.is_err());
}

#[tokio::test]
async fn another_run_reuses_what_was_completed_but_for_the_step_and_what_depends_on_it() {
    let flow = "
name: x
steps:
  - { id: read, uses: read-folder }
  - { id: other, uses: read-folder }
  - { id: middle, uses: summarize, with: { x: '${steps.read.output}' } }
  - { id: write, uses: write-report, with: { x: '${steps.middle.output}' } }
";
    for (from, expected) in [
        (None, vec!["write"]),
        (Some("middle"), vec!["middle", "write"]),
        (Some("read"), vec!["read", "middle", "write"]),
    ] {
        let failed = std::sync::atomic::AtomicBool::new(false);
        let bench = bench(move |call| {
            if call.step == "write" && !failed.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return Act::Fail(handshake_core::step::StepFailure::Permanent("no".into()));
            }
            Act::Give(json!(call.step))
        });
        let first = bench.run(flow).await;
        assert_eq!(first.job.state, JobState::Failed);
        let before = bench.calls().len();
        let from = from.map(|step| StepId::new(step).unwrap());
        let again = bench.engine.retry(first.job.job_id, from.as_ref(), &person()).await.unwrap();
        assert_ne!(again.run_id, first.run.run_id);
        let summary = bench.engine.execute(again.run_id, CancellationToken::new()).await.unwrap();
        assert_eq!(summary.job.state, JobState::Completed, "{from:?}");
        assert_eq!(summary.job.error_message, None);
        assert_eq!(summary.job.metrics.total_tokens, 20, "what is reused has cost its share");
        let executed: Vec<_> = bench.calls()[before..].iter().map(|call| call.step.clone()).collect();
        assert_eq!(executed, expected);
        let nodes =
            bench.database.tables().nodes.values().map(|node| (node.node.clone(), node.state)).collect::<Vec<_>>();
        let all = ["middle", "other", "read", "write"];
        let done = all.map(|step| (NodeKey { step: StepId::new(step).unwrap(), index: None }, NodeState::Completed));
        assert_eq!(nodes, done);
    }
    let bench = bench(|_| Act::Fail(handshake_core::step::StepFailure::Permanent("no".into())));
    let job = bench.run(flow).await.job.job_id;
    let unknown = bench.engine.retry(job, Some(&StepId::new("wirte").unwrap()), &person()).await.unwrap_err();
    insta::assert_snapshot!(unknown.to_string(), @"the workflow has no step `wirte`; it has read, other, middle, write");
}

#[tokio::test]
async fn a_paused_run_lets_what_runs_end_and_goes_on_when_it_is_told_to() {
    let control = Control::default();
    let pauses = control.clone();
    let bench = bench(move |call| {
        if call.node == "work[1]" {
            pauses.pause(person());
        }
        Act::Give(json!(call.node))
    });
    let text = "name: x\nsteps:\n  - { id: work, uses: summarize, for_each: '[1, 2, 3, 4, 5]', max_parallel: 2 }\n";
    let run = bench.engine.submit(submission(text, &[])).await.unwrap().run_id;
    let paused = bench.engine.resume(run, &Actor::system(), &control).await.unwrap();
    assert_eq!((paused.job.state, paused.run.state), (JobState::AwaitingUser, RunState::Waiting));
    assert!(paused.job.status_reason.starts_with("paused by tester"), "{}", paused.job.status_reason);
    let nodes = bench.database.nodes_by_text();
    assert!(nodes.len() < 5 && nodes.iter().all(|node| node.ends_with("completed")), "{nodes:?}");
    assert!(bench.engine.execute(run, CancellationToken::new()).await.is_err(), "nobody has said so");

    let ended = bench.engine.resume(run, &person(), &Control::default()).await.unwrap();
    assert_eq!(ended.job.state, JobState::Completed);
    assert_eq!(ended.job.metrics.total_tokens, 25);
    assert_eq!(bench.calls().len(), 5, "each item once");
}
