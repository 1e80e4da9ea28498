//! Submissions: what is refused, and what is stored.

use serde_json::json;

use handshake_core::EventId;
use handshake_core::testing::SequentialIds;

use super::content::OneDocument;
use super::doubles::*;
use crate::documents::tests::stored;
use crate::{Control, EngineError, InputValue, SubmitError};

#[tokio::test]
async fn the_same_key_twice_gives_the_first_job() {
    let bench = bench(|_| Act::Hang);
    let mut again = submission("name: x\nsteps: [{ id: read, uses: read-folder }]", &[]);
    again.idempotency_key = Some("k".into());
    let first = bench.engine.submit(again.clone()).await.unwrap();
    let second = bench.engine.submit(again).await.unwrap();
    assert!(!first.existing && second.existing);
    assert_eq!((first.job_id, first.run_id), (second.job_id, second.run_id));
    assert_eq!(bench.database.tables().jobs.len(), 1);
}

#[tokio::test]
async fn a_job_that_begins_at_once_takes_a_commit_less_and_ends_like_any_other() {
    let text = "name: x\nsteps: [{ id: a, uses: summarize }]\noutputs: { done: '${steps.a.output}' }";
    let bench = bench(|_| Act::Give(json!(7)));
    let usual = bench.run(text).await;
    let before = bench.database.tables().commits;

    let mut submission = submission(text, &[]);
    submission.idempotency_key = Some("k".into());
    let (control, mut begun) = (Control::default(), None);
    let ran = bench.engine.run(submission.clone(), &control, |told| begun = Some(told.unwrap()));
    let (summary, begun) = (ran.await.unwrap().unwrap(), begun.unwrap());
    assert_eq!(bench.database.tables().commits, 2 * before - 1);
    assert_eq!((begun.job_id, begun.run_id, begun.existing), (summary.job.job_id, summary.run.run_id, false));
    assert_eq!((summary.job.state, &summary.job.job_outputs), (usual.job.state, &usual.job.job_outputs));
    assert_eq!(summary.job.metrics, usual.job.metrics);

    // The key is told from a new job, and what is refused is not stored.
    let mut again = None;
    let ran = bench.engine.run(submission, &control, |told| again = Some(told.unwrap()));
    assert!(ran.await.unwrap().is_none());
    let again = again.unwrap();
    assert!(again.existing && (again.job_id, again.run_id) == (begun.job_id, begun.run_id));
    let commits = bench.database.tables().commits;
    let mut refused = None;
    let unknown = super::doubles::submission("name: x\nsteps: [{ id: a, uses: nobody }]", &[]);
    assert!(bench.engine.run(unknown, &control, |told| refused = told.err()).await.unwrap().is_none());
    assert!(matches!(refused, Some(EngineError::Submit(_))), "{refused:?}");
    assert_eq!(bench.database.tables().commits, commits);
}

#[tokio::test]
async fn refused_submissions_say_what_to_do_and_store_nothing() {
    let bench = bench(|_| Act::Hang);
    let refuse = async |text: &str, inputs: &[(&str, serde_json::Value)]| {
        let error = bench.engine.submit(submission(text, inputs)).await.unwrap_err();
        format!("{error}; {}", error.hint())
    };
    let kind = "name: x\njob: { kind: doc_ingest }\nsteps: [{ id: read, uses: read-folder }]";
    assert!(matches!(bench.engine.submit(submission(kind, &[])).await, Err(SubmitError::Workflow(_))));
    insta::assert_snapshot!(refuse(kind, &[]).await, @"flow.yaml:2:14: job.kind: this version has no executor for jobs of kind `doc_ingest`; write one of `doc_edit`, `doc_rewrite`, `doc_summarize`, `workflow_run` as `kind` in the workflow file");
    let mount = "name: x\ninputs: { folder: { type: string } }\nmounts: { in: { path: '${inputs.folder}', access: read } }\nsteps: [{ id: read, uses: read-folder }]";
    insta::assert_snapshot!(refuse(mount, &[("folder", json!("secret/keys"))]).await, @r##"mount `in`: the policy does not list `secret/keys` for read access; the operator can list it in policy.toml: [[mount]] path = "secret/keys", access = "read""##);
    insta::assert_snapshot!(refuse(mount, &[("folder", json!(""))]).await, @"flow.yaml:3:23: mounts.in.path: the path is empty; correct the path or the input that it is made of");
    insta::assert_snapshot!(refuse(mount, &[("folder", json!(7))]).await, @"input `folder`: it must be of type string, and integer was given; its inputs are `folder` (string, required)");
    assert_eq!(bench.database.tables().commits, 0);
}

#[tokio::test]
async fn an_input_that_looks_like_a_secret_is_refused_or_warned_about_without_its_value() {
    let text = |mode: &str| {
        format!(
            "name: x\njob: {{ safety_mode: {mode} }}\ninputs: {{ key: {{ type: string }} }}\nsteps: [{{ id: a, uses: summarize }}]"
        )
    };
    let inputs = [("key", json!("sk-very-secret"))];
    let bench = bench(|_| Act::Give(json!(1)));
    let error = bench.engine.submit(submission(&text("strict"), &inputs)).await.unwrap_err();
    insta::assert_snapshot!(format!("{error}; {}", error.hint()), @"input `key` looks like a secret (`secret_api_key`); the job's safety mode is `strict`, so nothing was stored; name the secret in [secrets] of handshake.toml and grant `secrets.use:NAME`: the step gets a placeholder then; if it is none, write `safety_mode: normal` under `job`");
    assert_eq!(bench.database.tables().commits, 0);
    for mode in ["normal", "experimental"] {
        let submitted = bench.engine.submit(submission(&text(mode), &inputs)).await.unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(submitted.warnings.join("\n"), @"input `key` looks like a secret (`secret_api_key`), and is stored with the job; name the secret in [secrets] of handshake.toml and grant `secrets.use:NAME`: the step gets a placeholder then");
        }
    }
    let harmless = bench.engine.submit(submission(&text("strict"), &[("key", json!("docs"))])).await.unwrap();
    assert_eq!(harmless.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_strict_job_gives_to_a_workflow_that_it_runs_is_looked_through_too() {
    let text = "name: x\njob: { safety_mode: strict }\nworkflows:\n  part:\n    inputs: { key: { type: string } }\n    steps: [{ id: a, uses: summarize }]\nsteps:\n  - { id: make, uses: read-folder }\n  - { id: give, workflow: part, with: { key: '${steps.make.output}' } }";
    let bench = bench(|_| Act::Give(json!("sk-made-by-a-step")));
    let job = bench.run(text).await.job;
    let why = job.error_message.unwrap();
    assert!(why.starts_with("step `give`: input `key` looks like a secret"), "{why}");
    assert!(!why.contains("sk-made"), "{why}");
    assert_eq!(bench.database.tables().jobs.len(), 1);
}

const REWRITE: &str = "
name: rewrite
job: { kind: doc_rewrite }
inputs: { doc: { type: object } }
steps: [{ id: read, uses: read-folder, with: { id: '${inputs.doc.doc_id}' } }]
";

#[tokio::test]
async fn a_job_about_a_document_knows_which_and_the_document_exists() {
    let ids = SequentialIds::default();
    let state = stored(&ids, "# Title\n\ntext\n\nmore\n");
    let (id, block) = (state.id().to_string(), |at: usize| state.blocks[at].content.block_id.to_string());
    let (first, last, other) = (block(0), block(2), EventId::fresh(&ids).to_string());
    let bench = bench_with(OneDocument(Some(state)), |_| Act::Hang);
    let submit = async |doc: InputValue| {
        let mut submission = submission(REWRITE, &[]);
        submission.inputs.insert("doc".into(), doc);
        match bench.engine.submit(submission).await {
            Ok(submitted) => Ok(bench.database.tables().jobs[&submitted.job_id].clone()),
            Err(error) => Err(format!("{error}; {}", error.hint())),
        }
    };
    for whole in [
        InputValue::Text(id.clone()),
        InputValue::Json(json!(id)),
        InputValue::Text(json!({ "doc_id": id, "layer_scope": "document" }).to_string()),
        InputValue::Text(id.to_uppercase()),
        InputValue::Json(json!({ "doc_id": id.replace('-', ""), "layer_scope": "document" })),
    ] {
        let job = submit(whole).await.unwrap();
        assert_eq!(job.job_inputs["doc"], json!({ "doc_id": id, "layer_scope": "document" }));
        let [entity] = &job.entity_refs[..] else { panic!("{:?}", job.entity_refs) };
        assert_eq!((entity.artefact_type.as_str(), &entity.artefact_id, &entity.selector), ("document", &id, &None));
    }
    let selection = |start: &str, end: &str| {
        InputValue::Json(
            json!({ "doc_id": id, "layer_scope": "block", "selection": { "start_block": start, "end_block": end } }),
        )
    };
    let job = submit(selection(&first, &last)).await.unwrap();
    assert!(job.entity_refs[0].selector.as_ref().unwrap().contains(&first));
    let before = bench.database.tables().commits;
    for (wrong, expected) in [
        (InputValue::Json(json!({ "doc_id": other, "layer_scope": "document" })), "does not exist"),
        (InputValue::Text(other.clone()), "does not exist"),
        (selection(&last, &first), "has no blocks from"),
        (selection(&first, &other), "has no blocks from"),
        (InputValue::Json(json!({ "doc_id": id, "layer_scope": "section" })), "needs a `selection`"),
        (InputValue::Json(json!({ "doc_id": id })), "missing field `layer_scope`"),
        (InputValue::Json(json!({ "doc_id": id, "layer_scope": "document", "x": 1 })), "unknown field `x`"),
        (InputValue::Text("README.md".into()), "is not a JSON object"),
    ] {
        let refused = submit(wrong).await.unwrap_err();
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    assert_eq!(bench.database.tables().commits, before);
}
