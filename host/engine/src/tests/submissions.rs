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
