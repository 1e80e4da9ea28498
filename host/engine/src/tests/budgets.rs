//! Budgets: what ends a run, how, and what a person or a lost host changes about it.

use std::time::Duration;

use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::NodeState;
use handshake_core::recorder::EffectNote;
use handshake_core::run::FencingToken;
use handshake_core::storage::{JobFilter, JobStore};
use handshake_core::{RunId, StepId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::doubles::*;
use crate::{Control, EngineError};

fn person() -> Actor {
    Actor { kind: ActorKind::Human, id: "tester".into() }
}

/// A step that runs for each of three items, one after the other or at the same time.
fn three(budget: &str, parallel: u32) -> String {
    format!(
        "name: x\nbudget: {{ {budget} }}\nsteps:\n  - {{ id: a, uses: summarize, for_each: '[1, 2, 3]', max_parallel: {parallel} }}\n"
    )
}

impl Bench {
    async fn queued(&self, text: &str) -> RunId {
        self.engine.submit(submission(text, &[])).await.unwrap().run_id
    }

    async fn resumed(&self, run: RunId) -> AiJob {
        self.engine.resume(run, &person(), &Control::default()).await.unwrap().job
    }

    fn counted(&self, state: NodeState) -> usize {
        self.database.tables().nodes.values().filter(|node| node.state == state).count()
    }
}

#[tokio::test]
async fn a_call_beyond_the_budget_ends_the_job_with_what_was_used_and_what_to_change() {
    for (budget, told) in [
        (
            "model_calls: 2",
            "budget `model_calls` is used up: 2 of 2 calls of models; raise `budget.model_calls` in the workflow file, or give it less to do",
        ),
        (
            "tokens: 150",
            "budget `tokens` is used up: 200 of 150 tokens; raise `budget.tokens` in the workflow file, or give it less to do",
        ),
    ] {
        let bench = bench(|_| Act::Spend(100));
        let summary = bench.run(&three(budget, 1)).await;
        assert_eq!(summary.job.state, JobState::Failed);
        assert_eq!(summary.job.error_message.unwrap(), format!("HSK-402-BUDGET-EXCEEDED: {told}"));
        assert_eq!(bench.database.nodes_by_text(), ["a[0] 1 completed", "a[1] 1 completed", "a[2] 1 failed"]);
        let denied = bench.database.tables().nodes.values().filter_map(|node| node.error.clone()).next().unwrap();
        assert_eq!(denied.kind, "denied");
    }
}

#[tokio::test]
async fn steps_that_run_are_stopped_when_the_job_fails_for_its_budget() {
    let bench = bench(|call| if call.step == "hangs" { Act::Hang } else { Act::Spend(1) });
    let text = "name: x\nbudget: { model_calls: 1 }\nsteps:\n  - { id: hangs, uses: read-folder }\n  - { id: a, uses: summarize }\n  - { id: b, uses: summarize, needs: [a] }";
    assert_eq!(bench.run(text).await.job.state, JobState::Failed);
    assert_eq!(bench.database.nodes_by_text(), ["a 1 completed", "b 1 failed", "hangs 1 cancelled"]);
}

#[tokio::test]
async fn a_person_who_resumes_the_job_grants_the_budget_once_more() {
    for (budget, parallel) in
        [("model_calls: 1", 1), ("model_calls: 1", 3), ("tokens: 4", 3), ("steps: 1", 3), ("output_kb: 1", 1)]
    {
        let bench =
            bench(
                move |_| if budget.starts_with("output") { Act::Give(json!("x".repeat(1500))) } else { Act::Spend(5) },
            );
        let run = bench.queued(&three(&format!("{budget}, on_exceeded: ask"), parallel)).await;
        let first = bench.engine.execute(run, CancellationToken::new()).await.unwrap().job;
        assert_eq!(first.state, JobState::AwaitingUser, "{budget}");
        assert!(first.status_reason.starts_with("HSK-402-BUDGET-EXCEEDED: budget `"), "{}", first.status_reason);
        assert!(first.status_reason.contains(&format!("`handshake jobs resume {}` grants it once more", first.job_id)));
        assert_eq!(bench.counted(NodeState::Completed), 1, "{budget} {parallel}");
        let alone = bench.engine.execute(run, CancellationToken::new()).await;
        assert!(matches!(alone, Err(EngineError::NeedsPerson { .. })), "{alone:?}");
        assert_eq!(bench.resumed(run).await.state, JobState::AwaitingUser, "{budget} {parallel}");
        assert_eq!(bench.counted(NodeState::Completed), 2, "{budget} {parallel}");
        let mut last = bench.resumed(run).await;
        if budget.starts_with("output") {
            // The last result used it up, too.
            assert_eq!((last.state, bench.counted(NodeState::Completed)), (JobState::AwaitingUser, 3));
            last = bench.resumed(run).await;
        }
        assert_eq!(last.state, JobState::Completed, "{budget} {parallel}: {}", last.status_reason);
        assert_eq!(bench.counted(NodeState::Failed), 0);
    }
}

#[tokio::test]
async fn no_more_attempts_begin_and_no_more_results_are_kept_than_the_budget_has() {
    let bench = bench(|_| Act::Give(json!("x".repeat(700))));
    let summary = bench.run(&three("steps: 2", 1)).await;
    insta::assert_snapshot!(summary.job.error_message.unwrap(), @"HSK-402-BUDGET-EXCEEDED: budget `steps` is used up: 2 of 2 attempts of steps; raise `budget.steps` in the workflow file, or give it less to do");
    assert_eq!(bench.calls().len(), 2);
    let summary = bench.run(&three("output_kb: 1", 1)).await;
    insta::assert_snapshot!(summary.job.error_message.unwrap(), @"HSK-402-BUDGET-EXCEEDED: budget `output_kb` is used up: 2 of 1 KiB of results; raise `budget.output_kb` in the workflow file, or give it less to do");
    assert_eq!(bench.calls().len(), 4);
}

#[tokio::test]
async fn when_its_time_is_over_what_runs_is_stopped() {
    for (policy, state, node) in
        [("fail", JobState::Failed, "a 1 cancelled"), ("ask", JobState::AwaitingUser, "a 1 interrupted")]
    {
        let bench = bench(|call| if call.attempt == 1 { Act::Hang } else { Act::Give(json!(1)) });
        let run = bench
            .queued(&format!(
                "name: x\nbudget: {{ wall: 30ms, on_exceeded: {policy} }}\nsteps: [{{ id: a, uses: summarize }}]"
            ))
            .await;
        let engine = bench.engine.clone();
        let driven = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await });
        while bench.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        bench.clock.advance(Duration::from_secs(90));
        let job = driven.await.unwrap().unwrap().job;
        assert_eq!(job.state, state, "{}", job.status_reason);
        assert!(job.status_reason.contains("budget `wall` is used up: 1m 30s of 30ms"), "{}", job.status_reason);
        assert_eq!(bench.database.nodes_by_text(), [node]);
        if state == JobState::AwaitingUser {
            assert_eq!(bench.resumed(run).await.state, JobState::Completed);
        }
    }
}

const WITH_CHILDREN: &str = "
workflows:
  part:
    steps: [{ id: ask, uses: summarize }]
steps:
  - { id: each, workflow: part, for_each: '[1, 2]', max_parallel: 1 }
  - { id: own, uses: summarize, needs: [each] }
";

#[tokio::test]
async fn a_job_and_the_workflows_that_its_steps_run_spend_together() {
    let bench = bench(|_| Act::Spend(1));
    let summary = bench.run(&format!("name: x\nbudget: {{ model_calls: 2 }}{WITH_CHILDREN}")).await;
    assert_eq!(summary.job.state, JobState::Failed);
    assert!(summary.job.error_message.unwrap().contains("2 of 2 calls of models"));
    assert_eq!(bench.calls().iter().map(|call| call.node.as_str()).collect::<Vec<_>>(), ["ask", "ask", "own"]);
}

#[tokio::test]
async fn a_child_without_budget_waits_with_its_parent_and_goes_on_with_it() {
    let own = "name: x\nworkflows:\n  part:\n    budget: { model_calls: 1, on_exceeded: ask }\n    steps:\n      - { id: one, uses: summarize }\n      - { id: two, uses: summarize, needs: [one] }\nsteps:\n  - { id: each, workflow: part }\n";
    let parents = format!("name: x\nbudget: {{ model_calls: 1, on_exceeded: ask }}{WITH_CHILDREN}");
    for (text, grants) in [(own, 1), (parents.as_str(), 2)] {
        let bench = bench(|_| Act::Spend(1));
        let run = bench.queued(text).await;
        let mut job = bench.engine.execute(run, CancellationToken::new()).await.unwrap().job;
        for _ in 0..grants {
            assert_eq!(job.state, JobState::AwaitingUser, "{}", job.status_reason);
            assert!(
                job.status_reason.contains(&format!("`handshake jobs resume {}`", job.job_id)),
                "{}",
                job.status_reason
            );
            job = bench.resumed(run).await;
        }
        assert_eq!(job.state, JobState::Completed, "{}", job.status_reason);
        let filter = JobFilter { parent: Some(job.job_id), ..JobFilter::default() };
        let children = bench.database.jobs(&filter).await.unwrap();
        assert!(children.iter().all(|child| child.state == JobState::Completed));
    }
}

/// Two steps that spend, and one that hangs when it is executed for the first time.
async fn lost(budget: &str) -> (Bench, RunId) {
    let bench = bench(|call| if call.step == "c" && call.attempt == 1 { Act::Hang } else { Act::Spend(50) });
    let text = format!(
        "name: x\nbudget: {{ {budget} }}\nsteps:\n  - {{ id: a, uses: summarize }}\n  - {{ id: b, uses: summarize, needs: [a] }}\n  - {{ id: c, uses: summarize, needs: [b] }}\n"
    );
    let run = bench.queued(&text).await;
    let engine = bench.engine.clone();
    let host = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await });
    while bench.calls().len() < 3 {
        tokio::task::yield_now().await;
    }
    host.abort();
    assert!(host.await.is_err());
    bench.engine.recover().await.unwrap();
    (bench, run)
}

#[tokio::test]
async fn what_was_spent_before_a_host_was_lost_stays_spent() {
    for (budget, state) in [
        ("tokens: 100", JobState::Failed),
        ("tokens: 101", JobState::Completed),
        ("steps: 3", JobState::Failed),
        ("steps: 4", JobState::Completed),
        ("model_calls: 2", JobState::Failed),
        ("model_calls: 3", JobState::Completed),
    ] {
        let (bench, run) = lost(budget).await;
        for step in ["a", "b"] {
            bench.database.tables().effects.push(EffectNote {
                run,
                step: StepId::new(step).unwrap(),
                index: None,
                attempt: 1,
                fence: FencingToken(1),
                call: 1,
                capability: "model.infer".into(),
                resource: "default".into(),
            });
        }
        let job = bench.engine.execute(run, CancellationToken::new()).await.unwrap().job;
        assert_eq!(job.state, state, "{budget}: {}", job.status_reason);
    }
}

#[tokio::test]
async fn what_a_person_has_granted_a_lost_host_takes_not_away() {
    let bench = bench(|call| if call.node == "a[1]" && call.attempt == 2 { Act::Hang } else { Act::Spend(5) });
    let run = bench.queued(&three("tokens: 4, on_exceeded: ask", 1)).await;
    let job = bench.engine.execute(run, CancellationToken::new()).await.unwrap().job;
    assert_eq!(job.state, JobState::AwaitingUser);
    bench.clock.advance(Duration::from_secs(1));
    let engine = bench.engine.clone();
    let host = tokio::spawn(async move { engine.resume(run, &person(), &Control::default()).await });
    while bench.calls().len() < 3 {
        tokio::task::yield_now().await;
    }
    host.abort();
    assert!(host.await.is_err());
    bench.engine.recover().await.unwrap();
    // By itself it spends what was granted, and no more.
    let job = bench.engine.execute(run, CancellationToken::new()).await.unwrap().job;
    assert_eq!((job.state, bench.counted(NodeState::Completed)), (JobState::AwaitingUser, 2), "{}", job.status_reason);
}

#[tokio::test]
async fn a_denial_that_a_guest_made_up_is_an_ordinary_failure() {
    let bench = bench(|_| Act::Fail(budget_denial()));
    let job = bench.run(&three("model_calls: 9, on_exceeded: ask", 1)).await.job;
    assert_eq!(job.state, JobState::Failed);
}
