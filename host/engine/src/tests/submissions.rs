//! Submissions: what is refused, and what is stored.

use serde_json::json;

use super::doubles::*;
use crate::SubmitError;

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
async fn refused_submissions_say_what_to_do_and_store_nothing() {
    let bench = bench(|_| Act::Hang);
    let refuse = async |text: &str, inputs: &[(&str, serde_json::Value)]| {
        let error = bench.engine.submit(submission(text, inputs)).await.unwrap_err();
        format!("{error}; {}", error.hint())
    };
    let kind = "name: x\njob: { kind: doc_edit }\nsteps: [{ id: read, uses: read-folder }]";
    assert!(matches!(bench.engine.submit(submission(kind, &[])).await, Err(SubmitError::Workflow(_))));
    insta::assert_snapshot!(refuse(kind, &[]).await, @"flow.yaml:2:14: job.kind: this version has no executor for jobs of kind `doc_edit`; write `kind: workflow_run`");
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
