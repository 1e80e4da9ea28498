//! Steps that wait: for people, for a moment, for workflows; through pauses, cancellations and lost hosts.

use std::time::Duration;

use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::JobState;
use handshake_core::run::RunState;
use handshake_core::storage::{JobFilter, JobStore};
use handshake_core::{Clock, JobId, RunId, StepId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::doubles::*;
use crate::{Answer, Control, EngineError, Question, Voted};

fn person(name: &str) -> Actor {
    Actor { kind: ActorKind::Human, id: name.into() }
}

fn given() -> Bench {
    bench(|call| Act::Give(json!({ "node": call.node })))
}

impl Bench {
    async fn submitted(&self, text: &str) -> (JobId, RunId) {
        let submitted = self.engine.submit(submission(text, &[])).await.unwrap();
        (submitted.job_id, submitted.run_id)
    }

    async fn drive(&self, run: RunId) -> JobState {
        self.engine.execute(run, CancellationToken::new()).await.unwrap().job.state
    }

    async fn vote(&self, job: JobId, step: &str, who: &str, approve: bool) -> Result<Voted, EngineError> {
        let (step, index) = match step.split_once('[') {
            Some((step, index)) => (step, Some(index.trim_end_matches(']').parse().unwrap())),
            None => (step, None),
        };
        let question = Question { step: StepId::new(step).unwrap(), index };
        self.engine.vote(job, Some(&question), Answer::of(approve), &person(who)).await
    }

    /// Goes on with whatever may go on by itself; the state of the job then.
    async fn wake(&self, job: JobId) -> JobState {
        self.database.tables().now = Some(self.clock.now());
        for (run, _) in self.engine.resumable().await.unwrap() {
            self.drive(run).await;
        }
        self.database.job(job).await.unwrap().state
    }

    fn called(&self) -> Vec<String> {
        self.calls().iter().map(|call| call.node.clone()).collect()
    }

    async fn children(&self, of: JobId) -> Vec<JobState> {
        let filter = JobFilter { parent: Some(of), ..JobFilter::default() };
        self.database.jobs(&filter).await.unwrap().iter().map(|job| job.state).collect()
    }
}

const GATED: &str = "
name: w
steps:
  - { id: read, uses: read-folder }
  - { id: other, uses: summarize }
  - id: ask
    approval: { by: [ann, bob], quorum: 2, prompt: 'publish ${steps.read.output.node}?', expires: 1h }
  - id: write
    uses: write-report
    with: { by: '${steps.ask.output.votes}' }
";

#[tokio::test]
async fn a_gated_step_starts_only_after_enough_people_said_yes() {
    let bench = given();
    let (job, run) = bench.submitted(GATED).await;
    assert_eq!(bench.drive(run).await, JobState::AwaitingUser);
    assert_eq!(bench.called(), ["read", "other"]);
    let questions = bench.engine.questions(job).await.unwrap();
    assert_eq!(questions[0].prompt, "publish read?");

    let first = bench.vote(job, "ask", "ann", true).await.unwrap();
    assert_eq!(first.goes_on, None);
    assert_eq!(bench.wake(job).await, JobState::AwaitingUser);
    for (who, expected) in [("ann", "`ann` has voted already"), ("eve", "`eve` is not one of the approvers")] {
        assert_eq!(bench.vote(job, "ask", who, true).await.unwrap_err().to_string(), expected);
    }
    assert_eq!(bench.called(), ["read", "other"]);

    let second = bench.vote(job, "ask", "bob", true).await.unwrap();
    assert_eq!(second.goes_on, Some((run, job)));
    assert_eq!(bench.wake(job).await, JobState::Completed);
    assert_eq!(bench.calls().last().unwrap().input["by"][1]["who"], "bob");
    let error = bench.vote(job, "ask", "ann", true).await.unwrap_err().to_string();
    assert_eq!(error, format!("job `{job}` is `completed` and has no such question"));
    let tables = bench.database.tables();
    let approvals = tables.events.iter().filter(|event| event["event_type"] == "approval");
    let said = approvals.map(|event| format!("{} {}", event["actor"]["id"], event["payload"]["decision"]));
    let expected = [r#""handshake" "requested""#, r#""ann" "approved""#, r#""bob" "approved""#];
    assert_eq!(said.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn one_no_fails_the_step_with_its_reason() {
    let bench = given();
    let (job, run) = bench.submitted(GATED).await;
    bench.drive(run).await;
    let reason = Some("too early".to_owned());
    let voted = bench.engine.vote(job, None, Answer { reason, ..Answer::of(false) }, &person("bob")).await.unwrap();
    assert_eq!(voted.goes_on, Some((run, job)));
    assert_eq!(bench.wake(job).await, JobState::Failed);
    let job = bench.database.job(job).await.unwrap();
    assert_eq!(job.error_message.unwrap(), "step `ask`: rejected by bob: too early");
    assert_eq!(bench.called(), ["read", "other"]);
}

#[tokio::test]
async fn silence_is_a_no_or_a_yes_as_the_workflow_says() {
    for (on_expiry, state, calls) in [("reject", JobState::Failed, 0), ("approve", JobState::Completed, 1)] {
        let bench = given();
        let text = format!(
            "name: w\nsteps:\n  - id: ask\n    approval: {{ expires: 1h, on_expiry: {on_expiry} }}\n  - {{ id: write, uses: write-report, needs: [ask] }}\n"
        );
        let (job, run) = bench.submitted(&text).await;
        assert_eq!(bench.drive(run).await, JobState::AwaitingUser);
        assert!(bench.engine.look().await.unwrap().is_empty());
        bench.clock.advance(Duration::from_secs(3_600));
        let late = bench.vote(job, "ask", "ann", true).await.unwrap_err();
        assert!(late.to_string().starts_with("the approval expired at"), "{late}");
        assert_eq!(bench.wake(job).await, state, "{on_expiry}");
        assert_eq!(bench.calls().len(), calls);
    }
}

#[tokio::test]
async fn each_item_asks_by_itself_and_all_ask_at_once() {
    let bench = given();
    let text = "
name: w
steps:
  - id: ask
    for_each: '[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]'
    max_parallel: 64
    approval: { prompt: 'item ${item}?' }
  - { id: write, uses: write-report, needs: [ask] }
";
    let (job, run) = bench.submitted(text).await;
    bench.drive(run).await;
    let questions = bench.engine.questions(job).await.unwrap();
    assert_eq!(questions.len(), 10);
    let unclear = bench.engine.vote(job, None, Answer::of(true), &person("ann")).await.unwrap_err().to_string();
    assert!(unclear.contains("has 10 questions: ask[0], ask[1]") && unclear.contains("--step"), "{unclear}");
    for item in 0..10 {
        assert!(bench.calls().is_empty());
        bench.vote(job, &format!("ask[{item}]"), "ann", true).await.unwrap();
    }
    assert_eq!(bench.wake(job).await, JobState::Completed);
    assert_eq!(bench.called(), ["write"]);
}

#[tokio::test]
async fn two_people_who_answer_at_the_same_moment_both_count() {
    let bench = given();
    let (job, run) = bench.submitted(GATED).await;
    bench.drive(run).await;
    let (ann, bob) = tokio::join!(bench.vote(job, "ask", "ann", true), bench.vote(job, "ask", "bob", true));
    let goes_on: Vec<_> = [ann.unwrap(), bob.unwrap()].into_iter().filter_map(|voted| voted.goes_on).collect();
    assert_eq!(goes_on, [(run, job)]);
}

#[tokio::test]
async fn an_answer_reaches_a_run_that_has_other_things_to_do() {
    let bench = given();
    let text = "
name: w
steps:
  - id: ask
    approval: {}
  - { id: write, uses: write-report, needs: [ask] }
  - { id: nap, sleep: 300ms }
";
    let (job, run) = bench.submitted(text).await;
    let engine = bench.engine.clone();
    let mut news = engine.watch();
    let driven = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await.unwrap().job.state });
    while !format!("{:?}", news.recv().await.unwrap().kind).contains("NodeWaits") {}
    loop {
        match bench.vote(job, "ask", "ann", true).await {
            Ok(voted) => break assert_eq!(voted.goes_on, None),
            Err(_) => tokio::task::yield_now().await,
        }
    }
    assert_eq!(driven.await.unwrap(), JobState::Completed);
    assert_eq!(bench.called(), ["write"]);
}

const NESTED: &str = "
name: w
workflows:
  part:
    inputs: { n: { type: integer } }
    steps:
      - { id: work, uses: summarize, with: { n: '${inputs.n}' } }
      - { id: ask, approval: { prompt: 'part ${inputs.n}?' }, needs: [work] }
      - { id: end, uses: write-report, needs: [ask] }
    outputs: { said: '${steps.end.output.node}', n: '${inputs.n}' }
steps:
  - { id: parts, for_each: '[1, 2]', workflow: part, with: { n: '${item}' } }
  - { id: write, uses: write-report, with: { parts: '${steps.parts.output}' } }
";

#[tokio::test]
async fn workflows_run_as_jobs_of_their_own_and_ask_through_their_parent() {
    let bench = given();
    let (job, run) = bench.submitted(NESTED).await;
    assert_eq!(bench.drive(run).await, JobState::AwaitingUser);
    assert_eq!(bench.children(job).await, [JobState::AwaitingUser; 2]);
    assert_eq!(bench.called(), ["work", "work"]);
    let questions = bench.engine.questions(job).await.unwrap();
    let mut asked: Vec<_> = questions.iter().map(|question| question.prompt.as_str()).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["part 1?", "part 2?"]);
    for question in questions {
        let part = bench.engine.cancel(question.job_id, &person("ann")).await.unwrap_err().to_string();
        assert!(part.ends_with(&format!("is part of job `{job}`; say it to that one")), "{part}");
        bench.vote(question.job_id, "ask", "ann", true).await.unwrap();
        bench.wake(job).await;
    }
    let done = bench.database.job(job).await.unwrap();
    assert_eq!(done.state, JobState::Completed, "{done:?}");
    assert_eq!(bench.children(job).await, [JobState::Completed; 2]);
    assert_eq!(bench.called(), ["work", "work", "end", "end", "write"]);
    assert_eq!(bench.calls()[4].input["parts"], json!([{ "said": "end", "n": 1 }, { "said": "end", "n": 2 }]));
    let traces: std::collections::BTreeSet<_> =
        bench.database.tables().events.iter().map(|event| event["trace_id"].to_string()).collect();
    assert_eq!(traces.len(), 1);
}

#[tokio::test]
async fn cancelling_a_job_cancels_its_parts_and_questions() {
    let bench = given();
    let (job, run) = bench.submitted(NESTED).await;
    bench.drive(run).await;
    bench.engine.cancel(job, &person("ann")).await.unwrap();
    assert_eq!(bench.children(job).await, [JobState::Cancelled; 2]);
    assert!(bench.engine.questions(job).await.unwrap().is_empty());
    let states: Vec<_> = bench.database.tables().approvals.values().map(|approval| approval.state.as_str()).collect();
    assert_eq!(states, ["cancelled"; 2]);
    let late = bench.vote(job, "ask", "ann", true).await.unwrap_err().to_string();
    assert_eq!(late, format!("job `{job}` is `cancelled` and has no such question"));
}

#[tokio::test]
async fn a_job_that_is_executed_is_cancelled_with_its_parts() {
    let bench = bench(|_| Act::Hang);
    let (job, run) = bench.submitted(NESTED).await;
    let control = Control::default();
    let cancelling = control.clone();
    let mut news = bench.engine.watch();
    let engine = bench.engine.clone();
    let driven = tokio::spawn(async move { engine.resume(run, &Actor::system(), &control).await.unwrap().job.state });
    let mut started = 0;
    while started < 2 {
        started += usize::from(format!("{:?}", news.recv().await.unwrap().kind).contains("NodeStarted"));
    }
    cancelling.cancel();
    assert_eq!(driven.await.unwrap(), JobState::Cancelled);
    assert_eq!(bench.children(job).await, [JobState::Cancelled; 2]);
    let states: Vec<_> = bench.database.tables().runs.values().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Cancelled; 3]);
}

#[tokio::test]
async fn a_failed_part_fails_its_step_and_names_the_job() {
    let bench = bench(|call| match call.node.as_str() {
        "work" => Act::Fail(handshake_core::step::StepFailure::Permanent("broken".into())),
        _ => Act::Give(json!({})),
    });
    let (job, run) = bench.submitted(NESTED).await;
    assert_eq!(bench.drive(run).await, JobState::Failed);
    let error = bench.database.job(job).await.unwrap().error_message.unwrap();
    assert!(
        error.starts_with("step `parts[") && error.contains("of workflow `part` failed: step `work` failed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_sleeping_step_wakes_when_it_should_whoever_goes_on_with_it() {
    let bench = given();
    let text = "
name: w
steps:
  - { id: nap, sleep: 1h }
  - { id: write, uses: write-report, needs: [nap] }
";
    let (job, run) = bench.submitted(text).await;
    let engine = bench.engine.clone();
    let mut news = engine.watch();
    let driven = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await });
    while !format!("{:?}", news.recv().await.unwrap().kind).contains("NodeWaits") {}
    driven.abort();
    assert!(driven.await.is_err());
    for _ in 0..10 {
        // However often its host is lost: it is not the run's doing.
        let recovered = bench.engine.recover().await.unwrap();
        assert_eq!(recovered[0].state, JobState::Stalled);
        bench.clock.advance(Duration::from_secs(300));
        let (engine, mut news) = (bench.engine.clone(), bench.engine.watch());
        let driven = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await });
        while !format!("{:?}", news.recv().await.unwrap().kind).contains("NodeWaits") {}
        driven.abort();
        assert!(driven.await.is_err());
    }
    bench.clock.advance(Duration::from_secs(600));
    bench.engine.recover().await.unwrap();
    assert_eq!(bench.wake(job).await, JobState::Completed);
    let tables = bench.database.tables();
    assert_eq!(tables.runs[&run].recoveries, 0);
    let nap = tables.nodes.values().find(|node| node.node.step.as_str() == "nap").unwrap();
    assert_eq!((nap.attempt, nap.finished_at.unwrap().since(nap.started_at)), (1, Duration::from_secs(3_600)));
}

#[tokio::test]
async fn a_paused_job_is_not_woken_by_an_answer() {
    let bench = given();
    let (job, run) = bench.submitted(GATED).await;
    bench.drive(run).await;
    let control = Control::default();
    control.pause(person("ann"));
    let paused = bench.engine.resume(run, &person("ann"), &control).await.unwrap();
    assert_eq!((paused.job.state, paused.run.wake_at), (JobState::AwaitingUser, None));
    for who in ["ann", "bob"] {
        assert_eq!(bench.vote(job, "ask", who, true).await.unwrap().goes_on, None);
        assert_eq!(bench.wake(job).await, JobState::AwaitingUser);
    }
    assert_eq!(bench.called(), ["read", "other"]);
    let gone_on = bench.engine.resume(run, &person("ann"), &Control::default()).await.unwrap();
    assert_eq!(gone_on.job.state, JobState::Completed);
}

#[tokio::test]
async fn a_job_that_fails_cancels_the_parts_that_wait_for_people() {
    let bench = bench(|call| match call.node.as_str() {
        "late" => Act::Fail(handshake_core::step::StepFailure::Permanent("broken".into())),
        _ => Act::Give(json!({})),
    });
    let text = format!("{NESTED}  - {{ id: nap, sleep: 50ms }}\n  - {{ id: late, uses: summarize, needs: [nap] }}\n");
    let (job, run) = bench.submitted(&text).await;
    assert_eq!(bench.drive(run).await, JobState::Failed);
    assert_eq!(bench.children(job).await, [JobState::Cancelled; 2]);
    let states: Vec<_> = bench.database.tables().approvals.values().map(|approval| approval.state.as_str()).collect();
    assert_eq!(states, ["cancelled"; 2]);
}
