//! The plugin `house-style` as a validator of what `tidy` proposes: its word decides whether a document changes.

#![allow(clippy::unwrap_used, clippy::panic)]

use handshake_tests::binary::{Finished, Project};
use serde_json::{Value, json};

const TEXT: &str =
    "# Guide\n\nThis one stands there twice.\n\nUtilize it\n----------\n\nThis one stands there twice.\n";

fn imported(project: &Project, text: &str) -> String {
    project.write("guide.md", text);
    let imported = project.run(&["documents", "import", "guide.md", "--output", "json"]).success().json();
    imported["imported"][0]["document_id"].as_str().unwrap().to_owned()
}

fn stored(project: &Project, document: &str) -> Value {
    project.run(&["documents", "show", document, "--output", "json"]).success().json()
}

/// Has the document tidied up under this style.
fn tidied(project: &Project, document: &str, validator: &str) -> Finished {
    let workflow = format!(
        "name: x
job:
  kind: doc_edit
  access_mode: apply_scoped
  review: when_flagged
  validators:
    - {validator}
inputs: {{ doc: {{ type: object }} }}
steps:
  - {{ id: tidy, uses: tidy, with: {{ document: '${{inputs.doc.doc_id}}', sentences: 0 }}, grants: [doc.read, doc.propose] }}
"
    );
    project.run_workflow(&workflow, &["-i", &format!("doc={document}"), "--output", "json"])
}

fn latest(project: &Project) -> Value {
    let listed = project.run(&["jobs", "list", "--output", "json"]).success().json();
    listed["jobs"][0].clone()
}

#[test]
fn a_planted_word_is_rejected_and_every_byte_of_the_document_stays() {
    let project = Project::new();
    let document = imported(&project, TEXT);
    let before = (stored(&project, &document), project.run(&["documents", "export", &document]).success().stdout);
    let result = tidied(&project, &document, "{ uses: house-style, with: { words: [utilize] } }");
    assert_eq!(result.code, 1, "{result:?}");
    let job = latest(&project);
    assert_eq!(job["state"], "failed");
    let why = job["error_message"].as_str().unwrap();
    assert!(why.contains("refused; house-style@0.1.0: the word `utilize` is not our style"), "{why}");
    assert_eq!(job["metrics"]["validators_run_count"], 6);
    let after = (stored(&project, &document), project.run(&["documents", "export", &document]).success().stdout);
    assert_eq!(after, before);
    assert_eq!(after.1, TEXT);
    // What the validator was given and what it said is stored with the run.
    let id = job["job_id"].as_str().unwrap();
    let shown = project.run(&["jobs", "show", id, "--payloads", "--output", "json"]).success().json();
    let nodes = shown["runs"][0]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["node"]["step"] == "_validator-1").unwrap();
    assert_eq!((&node["state"], &node["output"]["verdict"]), (&json!("completed"), &json!("reject")));
    assert_eq!(node["input"]["proposals"][0]["document"], json!(document));
    assert!(
        !project
            .events("content_mutation")
            .iter()
            .any(|event| event["payload"]["entity_id"] == json!(document) && event["job_id"] == json!(id))
    );
}

#[test]
fn deletions_ask_a_person_and_what_passes_is_applied_at_once() {
    let project = Project::new();
    let document = imported(&project, TEXT);
    let asks = tidied(&project, &document, "{ uses: house-style, with: { words: [synergy] } }");
    assert_eq!(asks.code, 4, "{asks:?}");
    let job = latest(&project);
    assert_eq!(job["state"], "awaiting_user");
    let why = job["status_reason"].as_str().unwrap();
    assert!(why.contains("house-style@0.1.0: 1 block would be deleted"), "{why}");
    project.run(&["jobs", "approve", job["job_id"].as_str().unwrap()]).success();
    assert_eq!(latest(&project)["state"], "completed_with_issues");
    assert!(!project.run(&["documents", "export", &document]).success().stdout.contains("----"));

    let other = imported(&project, TEXT);
    tidied(&project, &other, "{ uses: house-style, with: { deletions: 1 } }").success();
    assert_eq!(latest(&project)["state"], "completed");
}

#[test]
fn a_validator_that_is_no_validator_fails_the_job_and_an_unknown_one_is_refused_before_anything_runs() {
    let project = Project::new();
    let document = imported(&project, TEXT);
    let before = stored(&project, &document);
    let broken = tidied(&project, &document, "{ uses: hostile, with: {} }");
    assert_eq!(broken.code, 1, "{broken:?}");
    let told = latest(&project)["error_message"].as_str().unwrap().to_owned();
    assert!(told.starts_with("nothing of what is proposed was applied: validator `hostile@0.1.0` failed"), "{told}");
    let unknown = tidied(&project, &document, "{ uses: house-stlye }");
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(
        unknown.stderr.contains("workflow.yaml:7:15: job.validators[0].uses: plugin `house-stlye` was not found"),
        "{unknown:?}"
    );
    assert!(unknown.stderr.contains("did you mean `house-style`?"), "{unknown:?}");
    assert_eq!(stored(&project, &document), before);
}
