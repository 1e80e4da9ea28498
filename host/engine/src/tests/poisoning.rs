//! Runs in which the host was attacked: the record first, then the end of everything, and nothing more afterwards.

use handshake_core::approval::ApprovalState;
use handshake_core::document::Proposal;
use handshake_core::edit::{EditContext, EditorKind};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{AiJob, JobState, PlannedOperation};
use handshake_core::run::RunState;
use handshake_core::step::StepFailure;
use handshake_core::testing::SequentialIds;
use handshake_core::{JobId, RunId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::content::OneDocument;
use super::doubles::*;
use crate::documents::tests::stored;
use crate::documents::version;
use crate::{Answer, Control, EngineError, Question};

fn person() -> Actor {
    Actor { kind: ActorKind::Human, id: "tester".into() }
}

fn attack() -> Act {
    let (kind, detail) = ("compiled_code_tampered".into(), "its MAC does not match".into());
    Act::Fail(StepFailure::Violation { kind, detail })
}

impl Bench {
    async fn started(&self, text: &str) -> (JobId, RunId) {
        let submitted = self.engine.submit(submission(text, &[])).await.unwrap();
        (submitted.job_id, submitted.run_id)
    }
    async fn executed(&self, run: RunId) -> AiJob {
        self.engine.execute(run, CancellationToken::new()).await.unwrap().job
    }
    fn violations(&self) -> Vec<Value> {
        let tables = self.database.tables();
        tables.events.iter().filter(|event| event["event_type"] == "security_violation").cloned().collect()
    }
    fn states(&self, root: JobId) -> Vec<JobState> {
        let tables = self.database.tables();
        tables.jobs.values().filter(|job| job.job_id != root).map(|job| job.state).collect()
    }
}

/// Side by side: an attempt that hangs, a question to people, a workflow that hangs and one that asks; and the attack.
const WIDE: &str = "
name: x
workflows:
  hangs: { steps: [{ id: inner, uses: read-folder }] }
  asks: { steps: [{ id: sure, approval: { prompt: sure? } }] }
steps:
  - { id: hang, uses: read-folder }
  - { id: ask, approval: { prompt: well? } }
  - { id: part, workflow: hangs }
  - { id: other, workflow: asks }
  - { id: others, sleep: 50ms }
  - { id: attack, uses: summarize, retry: { attempts: 3 }, needs: [others] }
  - { id: after, uses: write-report, needs: [attack] }
";

#[tokio::test]
async fn the_poisoned_state_is_stored_before_anything_is_stopped() {
    let bench = bench(|call| if call.step == "attack" { attack() } else { Act::Hang });
    let (job, run) = bench.started(WIDE).await;
    let ended = bench.executed(run).await;
    assert_eq!(ended.state, JobState::Poisoned);
    let why = "security violation `compiled_code_tampered`: step `attack`: its MAC does not match";
    assert_eq!((ended.status_reason.as_str(), ended.error_message.as_deref()), (why, Some(why)));
    let order = bench.database.tables().order.clone();
    assert_eq!(order[0], "poisoned", "{order:?}");
    assert!(["stopped hang", "stopped inner"].iter().all(|stop| order.contains(&(*stop).to_owned())), "{order:?}");
    assert_eq!(bench.database.tables().runs[&run].state, RunState::Failed);
    let nodes = bench.database.nodes_by_text();
    for node in ["attack 1 failed", "hang 1 cancelled", "ask 1 cancelled", "part 1 cancelled", "other 1 cancelled"] {
        assert!(nodes.contains(&node.to_owned()), "{node}: {nodes:?}");
    }
    assert!(!bench.calls().iter().any(|call| call.step == "after" || call.attempt > 1), "nothing begins any more");
    assert_eq!(bench.states(job), [JobState::Cancelled; 2], "one that was at work, and one that asked people");
    let approvals = bench.database.tables().approvals.values().map(|approval| approval.state).collect::<Vec<_>>();
    assert_eq!(approvals, [ApprovalState::Cancelled; 2], "nobody is asked any more");
    let [violation] = &bench.violations()[..] else { panic!("one violation: {:?}", bench.violations()) };
    assert_eq!((&violation["actor"]["kind"], &violation["job_id"]), (&json!("system"), &json!(job.to_string())));
    assert_eq!(violation["payload"]["kind"], "compiled_code_tampered");
}

#[tokio::test]
async fn nothing_that_is_asked_of_a_poisoned_job_is_done_and_it_says_why() {
    let bench = bench(|_| attack());
    let (job, run) = bench.started("name: x\nsteps:\n  - { id: a, uses: summarize }\n").await;
    assert_eq!(bench.executed(run).await.state, JobState::Poisoned);
    let which = Question { step: handshake_core::StepId::new("a").unwrap(), index: None };
    let refused = [
        bench.engine.retry(job, None, &person()).await.err(),
        bench.engine.accept(job, &person(), None).await.err(),
        bench.engine.decline(job, &person(), None).await.err(),
        bench.engine.vote(job, Some(&which), Answer::of(true), &person()).await.err(),
        bench.engine.require_sound(&bench.database.tables().jobs[&job]).err(),
    ];
    for error in refused.map(Option::unwrap) {
        assert!(matches!(error, EngineError::Poisoned { .. }), "{error}");
        assert!(error.to_string().contains("does nothing more: security violation"), "{error}");
    }
    for by in [Actor::system(), person()] {
        assert!(matches!(
            bench.engine.resume(run, &by, &Control::default()).await,
            Err(EngineError::NotWaiting { .. })
        ));
    }
    assert_eq!(bench.engine.resumable().await.unwrap(), []);
    let trace = bench.database.tables().jobs[&job].trace_id;
    let context = EditContext { kind: EditorKind::Ai, actor_id: "x".into(), job: Some(job), run: Some(run), trace };
    assert!(context.allow(Some(JobState::Poisoned), Some(job)).is_err(), "it edits nothing any more");
    assert_eq!(bench.calls().len(), 1);
}

#[tokio::test]
async fn a_violation_in_a_workflow_of_the_file_poisons_the_whole() {
    let bench = bench(|call| if call.step == "inner" { attack() } else { Act::Hang });
    let text = "
name: x
workflows: { part: { steps: [{ id: inner, uses: read-folder }] } }
steps:
  - { id: part, workflow: part }
  - { id: hang, uses: summarize }
";
    let (job, run) = bench.started(text).await;
    let ended = bench.executed(run).await;
    assert_eq!((ended.state, bench.states(job)), (JobState::Poisoned, vec![JobState::Poisoned]));
    assert!(ended.status_reason.contains("`poisoned_child`: job ") && ended.status_reason.contains("MAC"), "{ended:?}");
    assert_eq!(bench.violations().len(), 2, "of each of the two jobs");
    assert_eq!(bench.database.tables().order, ["poisoned", "poisoned", "stopped hang"]);
}

#[tokio::test]
async fn a_component_that_does_not_fit_the_pinned_manifest_poisons_and_an_upgrade_asks_a_person() {
    let text = "name: x\nsteps:\n  - { id: ask, approval: { prompt: go? } }\n  - { id: work, uses: summarize, needs: [ask] }\n";
    for (version, state) in [
        ("tampered", JobState::Poisoned),
        ("torn", JobState::AwaitingUser),
        ("second", JobState::AwaitingUser),
        ("first", JobState::Completed),
    ] {
        let bench = bench(|_| Act::Give(json!(1)));
        let (job, run) = bench.started(text).await;
        assert_eq!(bench.executed(run).await.state, JobState::AwaitingUser);
        *bench.executor.version.lock().unwrap() = version;
        bench.engine.vote(job, None, Answer::of(true), &person()).await.unwrap();
        let ended = bench.executed(run).await;
        assert_eq!(ended.state, state, "{version}: {}", ended.status_reason);
        assert_eq!(bench.calls().len(), usize::from(state == JobState::Completed), "{version}");
        let poisoned = state == JobState::Poisoned;
        assert_eq!(bench.violations().len(), usize::from(poisoned), "{version}");
        let nodes = bench.database.nodes_by_text();
        if poisoned {
            assert_eq!(nodes, ["ask 1 cancelled"]);
            assert!(ended.status_reason.contains("`component_tampered`: plugins/x.wasm"), "{}", ended.status_reason);
        }
    }
}

#[tokio::test]
async fn an_edit_of_its_own_that_nobody_can_answer_for_poisons_a_job() {
    let state = stored(&SequentialIds::default(), "# Title\n\nOne.\n");
    let doc = json!(state.id().to_string());
    let block_id = state.blocks[1].content.block_id.to_string();
    let operations = vec![PlannedOperation::ReplaceBlock { block_id, content: "First.".into() }];
    let proposal = Proposal { document: state.id().to_string(), base_version: version(&state), operations };
    for review in ["when_flagged", "always"] {
        let (content, proposal) = (OneDocument(Some(state.clone())), proposal.clone());
        // This content refuses every edit as one that nobody can answer for.
        let bench = bench_with(content, move |_| Act::Propose(json!(1), vec![proposal.clone()]));
        let text = format!(
            "name: x\njob: {{ kind: doc_edit, access_mode: apply_scoped, review: {review} }}\ninputs: {{ doc: {{ type: object }} }}\nsteps:\n  - {{ id: a, uses: propose, grants: [doc.propose] }}\n"
        );
        let mut job = bench.run_with(&text, &[("doc", doc.clone())]).await.job;
        if review == "always" {
            assert_eq!(job.state, JobState::AwaitingUser);
            job = bench.engine.accept(job.job_id, &person(), None).await.unwrap();
        }
        assert_eq!(job.state, JobState::Poisoned);
        assert!(job.status_reason.starts_with("security violation `silent_edit`: HSK-403"), "{}", job.status_reason);
        assert_eq!(bench.violations().len(), 1);
        assert_eq!(job.metrics.entities_written, 0);
    }
}
