//! Steps that come upon a rule which wants a person asked.

use std::time::Duration;

use handshake_core::approval::ApprovalState;
use handshake_core::capability::{Asked, Extent, SourceRef};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::JobState;
use handshake_core::node::NodeState;
use handshake_core::step::StepFailure;
use handshake_core::storage::{GrantStore, JobStore, Payloads, RunStore};
use handshake_core::{JobId, RunId, StepId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::doubles::*;
use crate::Answer;

const WRITES: &str = "
name: w
steps:
  - { id: read, uses: read-folder }
  - { id: write, uses: write-report, retry: { attempts: 1 } }
  - { id: sum, uses: summarize, needs: [write] }
";

fn needs(capability: &str) -> Act {
    let rule = SourceRef { file: "policy.toml".into(), line: 7 };
    let (capability, resource) = (capability.parse().unwrap(), "out/x".to_owned());
    Act::Fail(StepFailure::NeedsApproval(Box::new(Asked { capability, resource, rule })))
}

/// `write` asks in its first so many attempts.
fn asking(attempts: u32) -> Bench {
    bench(move |call| match call.step.as_str() {
        "write" if call.attempt <= attempts => needs("fs.write:out"),
        _ => Act::Give(json!({ "node": call.node })),
    })
}

fn ann() -> Actor {
    Actor { kind: ActorKind::Human, id: "ann".into() }
}

async fn begun(bench: &Bench, text: &str) -> (JobId, RunId) {
    let submitted = bench.engine.submit(submission(text, &[])).await.unwrap();
    assert_eq!(drive(bench, submitted.run_id).await, JobState::AwaitingUser);
    // Nobody answers in the moment in which they are asked.
    bench.clock.advance(Duration::from_secs(1));
    (submitted.job_id, submitted.run_id)
}

async fn drive(bench: &Bench, run: RunId) -> JobState {
    bench.engine.execute(run, CancellationToken::new()).await.unwrap().job.state
}

fn calls_of(bench: &Bench, step: &str) -> Vec<u32> {
    bench.calls().iter().filter(|call| call.step == step).map(|call| call.attempt).collect()
}

#[tokio::test]
async fn after_a_yes_the_step_runs_again_as_another_attempt_and_the_rest_has_not_waited() {
    let bench = asking(1);
    let (job, run) = begun(&bench, WRITES).await;
    assert_eq!((calls_of(&bench, "read"), calls_of(&bench, "sum")), (vec![1], vec![]));
    let questions = bench.engine.questions(job).await.unwrap();
    let request = questions[0].permission.as_ref().unwrap();
    assert_eq!((questions.len(), request.attempt, request.asked.capability.as_str()), (1, 1, "fs.write:out"));
    let told = bench.database.job(job).await.unwrap().status_reason;
    assert!(told.contains("fs.write:out"), "{told}");

    let voted = bench.engine.vote(job, None, Answer::of(true), &ann()).await.unwrap();
    assert_eq!(voted.goes_on, Some((run, job)));
    let grant = voted.grant.unwrap();
    assert_eq!((grant.terms.extent, grant.terms.job_id, grant.terms.attempt), (Extent::Job, job, 1));
    assert_eq!(drive(&bench, run).await, JobState::Completed);
    // An attempt that asked does not count as a try: there was only one.
    assert_eq!((calls_of(&bench, "write"), calls_of(&bench, "sum")), (vec![1, 2], vec![1]));
}

#[tokio::test]
async fn after_a_no_the_step_has_failed_as_denied() {
    let bench = asking(1);
    let (job, run) = begun(&bench, WRITES).await;
    let answer = Answer { reason: Some("not today".into()), ..Answer::of(false) };
    assert_eq!(bench.engine.vote(job, None, answer, &ann()).await.unwrap().grant, None);
    assert_eq!(drive(&bench, run).await, JobState::Failed);
    let nodes = bench.database.nodes(run, Payloads::Read).await.unwrap();
    let write = nodes.iter().find(|node| node.node.step.as_str() == "write").unwrap();
    let error = write.error.as_ref().unwrap();
    assert_eq!((write.state, error.kind.as_str()), (NodeState::Failed, "denied"));
    assert!(error.message.contains("not today"), "{}", error.message);
    assert_eq!(calls_of(&bench, "write"), [1]);
    assert!(bench.database.grants(&Default::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn each_attempt_that_asks_has_a_question_of_its_own() {
    let bench = asking(2);
    let (job, run) = begun(&bench, WRITES).await;
    bench.engine.vote(job, None, Answer::of(true), &ann()).await.unwrap();
    assert_eq!(drive(&bench, run).await, JobState::AwaitingUser);
    let questions = bench.engine.questions(job).await.unwrap();
    assert_eq!(questions[0].permission.as_ref().unwrap().attempt, 2);
    bench.engine.vote(job, None, Answer::of(true), &ann()).await.unwrap();
    assert_eq!(drive(&bench, run).await, JobState::Completed);
    assert_eq!(calls_of(&bench, "write"), [1, 2, 3]);
}

#[tokio::test]
async fn a_host_that_is_lost_before_it_could_ask_lets_the_next_attempt_ask() {
    let bench = asking(2);
    let (job, run) = begun(&bench, WRITES).await;
    bench.database.tables().approvals.clear();
    assert_eq!(drive(&bench, run).await, JobState::AwaitingUser);
    let questions = bench.engine.questions(job).await.unwrap();
    assert_eq!(questions[0].permission.as_ref().unwrap().attempt, 2);
}

#[tokio::test]
async fn going_on_without_an_answer_asks_nobody_twice_and_cancelling_withdraws_the_question() {
    let bench = asking(1);
    let (job, run) = begun(&bench, WRITES).await;
    assert_eq!(drive(&bench, run).await, JobState::AwaitingUser);
    assert_eq!((bench.engine.questions(job).await.unwrap().len(), calls_of(&bench, "write")), (1, vec![1]));
    bench.engine.cancel(job, &ann()).await.unwrap();
    let tables = bench.database.tables();
    let states: Vec<_> = tables.approvals.values().map(|approval| approval.state).collect();
    assert_eq!(states, [ApprovalState::Cancelled]);
}

#[tokio::test]
async fn a_yes_for_the_job_answers_the_other_items_too() {
    let text = "name: w\nsteps: [{ id: write, uses: write-report, for_each: '[1, 2, 3]', max_parallel: 3 }]";
    let bench = asking(1);
    let (job, run) = begun(&bench, text).await;
    assert_eq!(bench.engine.questions(job).await.unwrap().len(), 3);
    let which = crate::Question { step: StepId::new("write").unwrap(), index: Some(1) };
    bench.engine.vote(job, Some(&which), Answer::of(true), &ann()).await.unwrap();
    assert_eq!(drive(&bench, run).await, JobState::Completed);
    assert_eq!(calls_of(&bench, "write").len(), 6);
}
