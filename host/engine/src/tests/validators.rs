//! Validators that are plugins: when they run, what they are given, and what their word does.

use handshake_core::document::Proposal;
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{JobState, PlannedOperation};
use handshake_core::node::NodeState;
use handshake_core::run::RunState;
use handshake_core::step::StepFailure;
use handshake_core::testing::SequentialIds;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::content::OneDocument;
use super::doubles::*;
use crate::documents::tests::stored;
use crate::documents::{State, version};
use crate::{EngineError, RunSummary, RunUpdateKind};

fn table() -> (State, Vec<Proposal>) {
    let state = stored(&SequentialIds::default(), "# Title\n\nOne.\n\nTwo.\n");
    let replace = |at: usize, content: &str| Proposal {
        document: state.id().to_string(),
        base_version: version(&state),
        operations: vec![PlannedOperation::ReplaceBlock {
            block_id: state.blocks[at].content.block_id.to_string(),
            content: content.into(),
        }],
    };
    let proposals = vec![replace(1, "First."), replace(2, "Second.")];
    (state, proposals)
}

/// Two items propose one change each; then this validator looks.
const FLOW: &str = "
name: edit
job:
  kind: doc_edit
  access_mode: apply_scoped
  validators: [{ uses: summarize, with: { words: '${inputs.words}', n: '${size(steps.edit.output)}' } }]
inputs: { doc: { type: object }, words: { type: list, default: [bad] } }
steps:
  - { id: edit, uses: propose, for_each: '[0, 1]', grants: [doc.propose] }
";

/// A bench on which each item of `edit` proposes its change, and the validator does this.
fn bench_of(says: impl Fn(&Call) -> Act + Send + Sync + 'static) -> (Bench, Value, Vec<Proposal>) {
    let (state, proposals) = table();
    let (doc, proposed) = (json!(state.id().to_string()), proposals.clone());
    let bench = bench_with(OneDocument(Some(state)), move |call| match call.node.as_str() {
        "edit[0]" => Act::Propose(json!(0), proposed[..1].to_vec()),
        "edit[1]" => Act::Propose(json!(1), proposed[1..].to_vec()),
        _ => says(call),
    });
    (bench, doc, proposals)
}

async fn run(bench: &Bench, doc: Value) -> RunSummary {
    bench.run_with(FLOW, &[("doc", doc)]).await
}

fn says(verdict: &str, reasons: &[&str]) -> Value {
    json!({ "verdict": verdict, "reasons": reasons })
}

#[tokio::test]
async fn a_validator_is_given_all_proposals_in_order_after_all_steps_and_its_word_counts() {
    for (said, state, words) in [
        (says("pass", &["fine"]), JobState::AwaitingUser, "2 proposed changes: a person decides; `handshake"),
        (says("needs_person", &["odd"]), JobState::AwaitingUser, "a person decides; summarize@0.1.0: odd; `handshake"),
        (says("reject", &["bad", "worse"]), JobState::Failed, "refused; summarize@0.1.0: bad; summarize@0.1.0: worse"),
        (says("reject", &[]), JobState::Failed, "summarize@0.1.0: it gave no reason"),
    ] {
        let (bench, doc, proposals) = bench_of(move |_| Act::Give(said.clone()));
        let summary = run(&bench, doc).await;
        assert_eq!((summary.job.state, summary.run.state), (state, RunState::Completed));
        assert!(summary.job.status_reason.contains(words), "{words}: {}", summary.job.status_reason);
        assert_eq!(summary.job.metrics.validators_run_count, 6, "the host's own five and this one");
        let calls = bench.calls();
        assert_eq!(calls.len(), 3);
        let last = calls.last().unwrap();
        assert!(last.checkpointed && last.step == "_validator-1", "{last:?}");
        assert_eq!(last.input, json!({ "proposals": proposals, "with": { "words": ["bad"], "n": 2 } }));
    }
}

#[tokio::test]
async fn a_validator_that_fails_or_says_anything_else_fails_the_job_by_its_name() {
    let pass = || says("pass", &[]);
    type Does = Box<dyn Fn() -> Act + Send + Sync>;
    let cases: Vec<(Does, &str)> = vec![
        (Box::new(|| Act::Give(json!("pass"))), "a validator returns"),
        (Box::new(|| Act::Give(json!({ "verdict": "pass" }))), "a validator returns"),
        (Box::new(|| Act::Give(says("perhaps", &[]))), "unknown variant `perhaps`"),
        (Box::new(|| Act::Give(json!({ "verdict": "pass", "reasons": [], "more": 1 }))), "unknown field `more`"),
        (Box::new(|| Act::Give(json!({ "verdict": "pass", "reasons": "none" }))), "a validator returns"),
        (Box::new(|| Act::Fail(StepFailure::Permanent("no list".into()))), "no list"),
        (Box::new(|| Act::Panic), "the host panicked"),
        (Box::new(move || Act::Propose(pass(), table().1)), "a validator looks at proposals, and this one made some"),
    ];
    for (act, why) in cases {
        let (bench, doc, _) = bench_of(move |_| act());
        let summary = run(&bench, doc).await;
        assert_eq!((summary.job.state, summary.run.state), (JobState::Failed, RunState::Failed));
        let told = summary.job.error_message.unwrap();
        let named = told.starts_with("nothing of what is proposed was applied: validator `summarize@0.1.0` failed: ");
        assert!(named && told.contains(why), "{why}: {told}");
        assert!(summary.job.planned_operations.is_empty());
    }
}

#[tokio::test]
async fn nobody_validates_what_is_not_there() {
    let bench = bench(|call| Act::Give(json!(call.step)));
    let text = "name: x\njob: { validators: [{ uses: summarize }, { uses: summarize }] }\nsteps:\n  - { id: work, uses: propose }\n";
    let summary = bench.run(text).await;
    assert_eq!((summary.job.state, summary.job.metrics.validators_run_count), (JobState::Completed, 0));
    assert_eq!(bench.calls().len(), 1);
    assert_eq!(
        bench.database.nodes_by_text(),
        ["_validator-1 1 skipped", "_validator-2 1 skipped", "work 1 completed"]
    );
}

#[tokio::test]
async fn what_a_workflow_of_the_file_proposes_is_looked_at_once_by_the_validators_of_the_whole() {
    let (state, proposals) = table();
    let (doc, proposed) = (json!(state.id().to_string()), proposals.clone());
    let bench = bench_with(OneDocument(Some(state)), move |call| match call.step.as_str() {
        "own" => Act::Propose(json!(0), proposed[..1].to_vec()),
        "inner" => Act::Propose(json!(1), proposed[1..].to_vec()),
        _ => Act::Give(says("reject", &["no"])),
    });
    let text = "
name: x
job: { kind: doc_edit, access_mode: apply_scoped, validators: [{ uses: summarize }] }
inputs: { doc: { type: object } }
workflows:
  part:
    steps: [{ id: inner, uses: propose, grants: [doc.propose] }]
steps:
  - { id: own, uses: propose, grants: [doc.propose] }
  - { id: part, workflow: part, needs: [own] }
";
    let summary = bench.run_with(text, &[("doc", doc)]).await;
    assert_eq!(summary.job.state, JobState::Failed);
    assert!(summary.job.status_reason.contains("summarize@0.1.0: no"), "{}", summary.job.status_reason);
    let validators: Vec<_> = bench.calls().into_iter().filter(|call| call.step.starts_with('_')).collect();
    assert_eq!(validators.len(), 1);
    assert_eq!(validators[0].input["proposals"], json!(proposals));
}

#[tokio::test]
async fn a_host_that_is_lost_while_a_validator_looks_has_it_look_again_and_a_retry_asks_it_anew() {
    let (bench, doc, _) = bench_of(|call| match call.attempt {
        1 => Act::Hang,
        _ => Act::Give(says("reject", &["no"])),
    });
    let submitted = bench.engine.submit(submission(FLOW, &[("doc", doc)])).await.unwrap();
    let mut news = bench.engine.watch();
    let (engine, id) = (bench.engine.clone(), submitted.run_id);
    let host = tokio::spawn(async move { engine.execute(id, CancellationToken::new()).await });
    let looks = |kind: &RunUpdateKind| matches!(kind, RunUpdateKind::NodeStarted { node, .. } if node.step.as_str() == "_validator-1");
    while !looks(&news.recv().await.unwrap().kind) {}
    host.abort();
    assert!(host.await.is_err());
    bench.engine.recover().await.unwrap();
    let summary = bench.engine.execute(submitted.run_id, CancellationToken::new()).await.unwrap();
    assert_eq!(summary.job.state, JobState::Failed);
    assert_eq!(bench.calls().len(), 4, "what proposed is not executed again");
    let states = bench.database.tables().nodes.values().map(|node| node.state).collect::<Vec<_>>();
    assert_eq!(states.iter().filter(|state| **state == NodeState::Completed).count(), 3);

    let person = Actor { kind: ActorKind::Human, id: "tester".into() };
    let again = bench.engine.retry(submitted.job_id, None, &person).await.unwrap();
    // Its first attempt hangs on this bench, so the second one speaks.
    let first = tokio::time::timeout(
        std::time::Duration::from_millis(50),
        bench.engine.execute(again.run_id, CancellationToken::new()),
    );
    assert!(first.await.is_err());
    assert_eq!(bench.calls().last().unwrap().step, "_validator-1");
    assert_eq!(bench.calls().len(), 5, "the validator alone");
}

#[tokio::test]
async fn a_stored_verdict_counts_again_when_somebody_accepts_and_its_absence_rejects() {
    let (bench, doc, _) = bench_of(|_| Act::Give(says("pass", &[])));
    let job = run(&bench, doc).await.job;
    assert_eq!(job.state, JobState::AwaitingUser);
    for node in bench.database.tables().nodes.values_mut().filter(|node| node.node.step.as_str() == "_validator-1") {
        node.state = NodeState::Skipped;
    }
    let person = Actor { kind: ActorKind::Human, id: "tester".into() };
    let refused = bench.engine.accept(job.job_id, &person, None).await.unwrap_err();
    let EngineError::ProposalsRefused { why, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(why, "summarize@0.1.0: it gave no verdict on what is proposed");
    assert_eq!(bench.calls().len(), 3, "nobody was asked a second time");
}

fn refused(text: &str) -> String {
    let error = bench(|_| Act::Hang).engine.check(&yaml(text)).expect_err("the workflow is accepted");
    error.problems().iter().map(|problem| format!("{problem}\n{}", problem.hint())).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_wrong_with_a_validator_is_told_with_its_line() {
    let flow = |validators: &str, id: &str| {
        format!(
            "name: x\njob:\n  access_mode: apply_scoped\n  validators:\n{validators}steps:\n  - {{ id: {id}, uses: propose }}\n"
        )
    };
    let three = "    - { uses: sumarize }\n    - uses: propose\n      grants: [doc.read, doc.propose]\n    - { uses: summarize, grants: [fs.write] }\n";
    insta::assert_snapshot!(refused(&flow(three, "a")), @r"
    flow.yaml:5:15: job.validators[0].uses: plugin `sumarize` was not found; looked in plugins
    did you mean `summarize`? known plugins are `read-folder`, `summarize`, `write-report`
    flow.yaml:7:26: job.validators[1].grants[1]: `doc.propose` cannot be granted to a validator: it looks at proposals and makes none
    remove the grant
    flow.yaml:8:35: job.validators[2].grants[0]: `fs.write` is granted, but plugin `summarize@0.1.0` does not declare it
    remove the grant, or declare `fs.write` in plugin.toml; it declares `artifact.read`, `model.infer`, `model.embed`, `secrets.use:mail`
    ");
    let with = "    - { uses: summarize, with: { a: '${steps.b.output}' } }\n    - { uses: 'A b' }\n";
    for (validators, id, told) in [
        (with, "_validator-1", "flow.yaml:8:11: steps[0].id: step id `_validator-1` begins with `_`"),
        (with, "a", "flow.yaml:5:46: job.validators[0].with.a: step `b` is not defined"),
        (with, "a", "flow.yaml:6:15: job.validators[1].uses: `A b` is not a valid plugin id"),
        ("    - { uses: summarize, when: 'true' }\n", "a", "flow.yaml:5:26: unknown key `when`"),
        (&"    - { uses: summarize }\n".repeat(17), "a", "flow.yaml:5:5: job.validators: the job has 17 validators"),
    ] {
        let message = refused(&flow(validators, id));
        assert!(message.contains(told), "{told}\n{message}");
    }
}

#[test]
fn the_graph_has_validators_behind_all_steps() {
    let text = "name: x\njob: { validators: [{ uses: summarize }] }\nsteps:\n  - { id: a, uses: propose }\n  - { id: b, uses: propose }\n";
    let checked = bench(|_| Act::Hang).engine.check(&yaml(text)).unwrap();
    let last = checked.steps.last().unwrap();
    assert_eq!((last.id.as_str(), last.plugin.as_str()), ("_validator-1", "summarize@0.1.0"));
    assert_eq!(last.needs.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(checked.order.last(), Some(&last.id));
}
