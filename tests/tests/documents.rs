//! Documents at the command line: Markdown in and out again, and a workflow that proposes how to tidy one up.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use handshake_tests::binary::{Finished, Project};
use serde_json::{Value, json};

/// A guide as people write them: with headings of two forms, a paragraph that stands twice, and no summary.
fn guide() -> String {
    fs::read_to_string(handshake_tests::root().join("tests/fixtures/onboarding.md")).unwrap()
}

fn says(result: &Finished, code: i32, text: &str) {
    assert_eq!(result.code, code, "{result:?}");
    assert!(result.stderr.contains(text), "`{text}` is missing: {result:?}");
}

/// Imports a text and returns the document's id.
fn import(project: &Project, text: &str, more: &[&str]) -> String {
    project.write("guide.md", text);
    let arguments = [&["documents", "import", "guide.md", "--output", "json"], more].concat();
    let imported = project.run(&arguments).success().json();
    imported["imported"][0]["document_id"].as_str().unwrap().to_owned()
}

fn export(project: &Project, document: &str) -> String {
    project.run(&["documents", "export", document]).success().stdout
}

/// Everything that is stored of a document.
fn stored(project: &Project, document: &str) -> Value {
    project.run(&["documents", "show", document, "--output", "json"]).success().json()
}

/// Runs the bundled workflow, with another line for the job if that is asked for. Returns the job's id.
fn rewrite(project: &Project, document: &str, job: Option<&str>, code: i32) -> Value {
    let bundled = handshake_tests::root().join("workflows/rewrite-document.yaml");
    let text = fs::read_to_string(bundled).unwrap();
    let line = text.lines().find(|line| line.starts_with("job: ")).unwrap();
    let text = text.replace(line, job.unwrap_or(line));
    let result = project.run_workflow(&text, &["-i", &format!("doc={document}"), "--output", "json"]);
    assert_eq!(result.code, code, "{result:?}");
    if result.stdout.is_empty() { Value::Null } else { result.json() }
}

fn job_of(details: &Value) -> String {
    details["job"]["job_id"].as_str().unwrap().to_owned()
}

/// Posts to the local API of a process that owns the data directory meanwhile.
fn post(project: &Project, path: &str, body: &Value) -> (u16, Value) {
    project.write(
        "sleeps.yaml",
        "name: sleeps\nsteps:\n  - { id: sleep, uses: hostile, with: { behaviour: sleep-forever, count: 600 } }\n",
    );
    let mut owner = project.start(&["run", "sleeps.yaml"]);
    owner.wait_for("sleep: started");
    let mut socket = UnixStream::connect(project.path(".handshake/handshake.sock")).unwrap();
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    owner.signal(rustix::process::Signal::INT);
    assert_eq!(owner.finish().code, 1, "its own job is cancelled");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn this_repositorys_documents_and_odd_ones_come_out_byte_for_byte() {
    let project = Project::new();
    let root = handshake_tests::root();
    let mut texts: Vec<Vec<u8>> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/decisions.md", "plugins/README.md"]
            .map(|name| fs::read(root.join(name)).unwrap())
            .into();
    texts.push(guide().into_bytes());
    texts.push(guide().replace('\n', "\r\n").into_bytes());
    texts.extend(
        ["", "\n\n", "\u{feff}# a", "no line break at the end", "\n\n# a\n\n\n\n"].map(|text| text.as_bytes().to_vec()),
    );
    let names: Vec<String> = (0..texts.len()).map(|number| format!("{number}.md")).collect();
    for (name, text) in names.iter().zip(&texts) {
        project.write(name, text);
    }
    let arguments: Vec<&str> =
        ["documents", "import", "--output", "json"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let imported = project.run(&arguments).success().json();
    let imported = imported["imported"].as_array().unwrap();
    assert_eq!(imported.len(), texts.len());
    for (document, text) in imported.iter().zip(&texts) {
        let id = document["document_id"].as_str().unwrap();
        assert_eq!(export(&project, id).as_bytes(), text);
        project.run(&["documents", "export", id, "-o", "out.md"]).success();
        assert_eq!(&fs::read(project.path("out.md")).unwrap(), text);
    }
    let listed = project.run(&["documents", "list"]).success().stdout;
    assert!(listed.contains("Handshake") && listed.contains("Onboarding at the observatory"), "{listed}");
    let first = imported[0]["document_id"].as_str().unwrap();
    let shown = project.run(&["documents", "show", first, "--blocks"]).success().stdout;
    assert!(shown.contains("# Handshake") && shown.contains("HUMAN") && shown.contains("default"), "{shown}");
    assert_eq!(
        project.run(&["documents", "list", "--limit", "2", "--output", "json"]).json()["documents"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn what_cannot_be_imported_is_refused_and_nothing_is_stored() {
    let project = Project::new();
    project.write("good.md", "# fine\n");
    project.write("latin.md", b"fine\ncaf\xe9\n");
    project.write("nul.md", b"a\nb\0\n");
    project.write("many.md", "a\n\n".repeat(1_000));
    project.write("block.md", "b".repeat(2 << 20));
    let large = project.write("large.md", "");
    fs::File::options().write(true).open(large).unwrap().set_len((16 << 20) + 1).unwrap();
    for (file, why) in [
        ("missing.md", "cannot read `missing.md`"),
        ("docs", "`docs` is not a file"),
        ("latin.md", "latin.md:2: the file is not UTF-8 text"),
        ("nul.md", "nul.md:2: the character U+0000 cannot be stored"),
        ("many.md", "has 1000 blocks; at most 998"),
        ("block.md", "a block has at most 1048576"),
        ("large.md", "at most 16777216 are taken"),
    ] {
        says(&project.run(&["documents", "import", file]), 2, why);
        // What can be known before is known before the first file is stored.
        if file != "block.md" {
            says(&project.run(&["documents", "import", "good.md", file]), 2, why);
        }
    }
    says(
        &project.run(&["documents", "import", "good.md", "good.md", "--title", "x"]),
        2,
        "--title is for a single file",
    );
    assert_eq!(project.run(&["documents", "list", "--output", "json"]).json()["documents"], json!([]));
    let nowhere = "00000000-0000-0000-0000-000000000001";
    says(&project.run(&["documents", "show", nowhere]), 2, "does not exist");
    says(&project.run(&["documents", "export", "x"]), 2, "invalid value 'x'");
    says(&project.run(&["documents", "list", "--workspace", "none"]), 2, "workspace `none` does not exist");
}

#[test]
fn a_workflow_proposes_a_person_sees_the_difference_and_accepts() {
    let project = Project::new();
    let text = guide();
    let document = import(&project, &text, &["--title", "draft", "--workspace", "manuals"]);
    let before = stored(&project, &document);
    let details = rewrite(&project, &document, None, 4);
    let job = job_of(&details);
    assert_eq!(details["job"]["state"], "awaiting_user");
    assert_eq!(details["job"]["entity_refs"][0]["artefact_id"], document);
    assert_eq!(details["job"]["metrics"]["validators_run_count"], 5);
    let proposed = &details["proposals"]["documents"][0];
    let kinds: std::collections::BTreeSet<_> =
        proposed["operations"].as_array().unwrap().iter().map(|operation| operation["op"].as_str().unwrap()).collect();
    let expected = ["delete_block", "insert_block", "replace_block", "update_metadata"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);

    let shown = project.run(&["jobs", "show", &job]).success().stdout;
    for line in [
        "-=============================",
        "+# Onboarding at the observatory",
        "+- Fill the dewar of the infrared camera.",
        "-Never leave the dome open when nobody is on site.",
        "new title    Onboarding at the observatory",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "`{line}`: {shown}");
    }
    assert!(shown.contains("+> **In short:** "), "{shown}");
    assert_eq!(export(&project, &document), text, "nothing is applied before somebody says so");
    assert_eq!(stored(&project, &document), before);

    let (status, answer) = post(&project, &format!("/api/v1/jobs/{job}/accept"), &json!({ "reason": "reads well" }));
    assert_eq!((status, &answer["job"]["state"]), (200, &json!("completed")), "{answer}");
    let after = export(&project, &document);
    assert!(after.starts_with("# Onboarding at the observatory\n\n> **In short:** "), "{after}");
    assert_eq!(
        after.matches("Never leave the dome open when nobody is on site.").count(),
        2,
        "once, and in the summary"
    );
    // What was not touched is as it was.
    let table = &text[text.find("| Star").unwrap()..text.find("### Focus").unwrap()];
    assert!(after.contains(table) && after.ends_with(&text[text.find("***").unwrap()..]), "{after}");
    let now = stored(&project, &document);
    assert_eq!(now["document"]["title"], "Onboarding at the observatory");
    let edit = &now["document"]["edit"];
    assert_eq!((&edit["last_actor_kind"], &edit["last_actor_id"]), (&json!("AI"), &json!("tidy@0.1.0")));
    assert_eq!(edit["last_job_id"], job);
    assert!(now["version"].as_u64() > before["version"].as_u64());
    let shown = project.run(&["jobs", "show", &job]).success().stdout;
    assert!(shown.contains("was applied") && !shown.contains("+++"), "{shown}");

    // Each block that was touched has both of its edits on record: the one that made it, and the job's.
    let history = project.run(&["documents", "history", &document, "--output", "json"]).success().json();
    assert_eq!(history["complete"], true, "{history}");
    let edits = history["edits"].as_array().unwrap();
    let done = |of: &str| -> Vec<(&str, &Value, &Value)> {
        let same = edits.iter().filter(|edit| edit["entity_id"] == of);
        same.map(|edit| {
            (edit["action"].as_str().unwrap(), &edit["edit"]["last_job_id"], &edit["edit"]["last_actor_kind"])
        })
        .collect()
    };
    let (by_job, by_hand) = ((&json!(job), &json!("AI")), (&Value::Null, &json!("HUMAN")));
    let both = vec![("update", by_job.0, by_job.1), ("create", by_hand.0, by_hand.1)];
    let of_document = done(&document);
    assert_eq!((of_document.first(), of_document.last()), (both.first(), both.last()), "{history}");
    let changed = now["blocks"].as_array().unwrap().iter().filter(|block| block["edit"]["last_job_id"] == job);
    let (mut replaced, mut inserted) = (0, 0);
    for block in changed {
        match done(block["block_id"].as_str().unwrap()) {
            edits if edits == both => replaced += 1,
            edits => {
                assert_eq!(edits, [("create", by_job.0, by_job.1)], "{history}");
                inserted += 1;
            }
        }
    }
    assert!(replaced > 0 && inserted > 0, "{history}");
    let table = project.run(&["documents", "history", &document]).success().stdout;
    assert!(table.contains(&job) && table.contains("create document"), "{table}");
    let nobody = project.run(&["documents", "history", &job]);
    says(&nobody, 2, "does not exist");

    // What is tidy is left alone.
    let again = rewrite(&project, &document, None, 0);
    assert_eq!((&again["job"]["state"], &again["proposals"]), (&json!("completed"), &Value::Null));
    let (status, answer) = post(&project, &format!("/api/v1/jobs/{job}/accept"), &json!({}));
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("conflict")), "{answer}");
}

#[test]
fn what_is_declined_or_only_a_preview_leaves_every_byte_as_it_was() {
    let project = Project::new();
    let text = guide().replace('\n', "\r\n");
    let document = import(&project, &text, &[]);
    let before = stored(&project, &document);

    let preview = "job: { kind: doc_rewrite, access_mode: preview_only }";
    let details = rewrite(&project, &document, Some(preview), 0);
    assert_eq!(details["job"]["state"], "completed");
    let diff = details["proposals"]["documents"][0]["diff"].as_str().unwrap();
    assert!(diff.contains("+## The opening sequence"), "{diff}");
    assert_eq!(stored(&project, &document), before);

    let analysis = "job: { kind: doc_summarize, access_mode: analysis_only }";
    // It grants proposing, which such a job can never do: refused before it runs.
    rewrite(&project, &document, Some(analysis), 2);
    assert_eq!(stored(&project, &document), before);

    let job = job_of(&rewrite(&project, &document, None, 4));
    let (status, answer) = post(&project, &format!("/api/v1/jobs/{job}/decline"), &json!({ "reason": "not now" }));
    assert_eq!((status, &answer["job"]["state"]), (200, &json!("completed_with_issues")), "{answer}");
    let details = project.run(&["jobs", "show", &job, "--output", "json"]).success().json();
    assert!(details["job"]["status_reason"].as_str().unwrap().ends_with(": not now"), "{details}");
    assert_eq!(details["proposals"]["status"], "not_applied");
    assert_eq!((stored(&project, &document), export(&project, &document)), (before, text));
}

#[test]
fn a_summary_at_the_end_moves_up_without_a_question_when_the_workflow_says_so() {
    let project = Project::new();
    let text = "# Guide\n\nA first paragraph.\n\n* one\n* two\n\n## Summary\n\nAll of it in a line.\n";
    let document = import(&project, text, &[]);
    let job = "job: { kind: doc_rewrite, access_mode: apply_scoped, review: when_flagged }";
    let details = rewrite(&project, &document, Some(job), 0);
    assert_eq!(details["job"]["state"], "completed");
    let expected = "# Guide\n\n## Summary\n\nAll of it in a line.\n\nA first paragraph.\n\n- one\n- two\n";
    assert_eq!(export(&project, &document), expected);
    // The section is not the one that was asked for: the job fails, and nothing is changed.
    let blocks = stored(&project, &document)["blocks"].as_array().unwrap().clone();
    let last = blocks.last().unwrap()["block_id"].as_str().unwrap();
    let doc =
        json!({ "doc_id": document, "layer_scope": "block", "selection": { "start_block": last, "end_block": last } });
    let input = format!("doc={doc}");
    let propose = "name: x\njob: { kind: doc_edit, access_mode: apply_scoped, review: when_flagged }\ninputs: { doc: { type: object } }\nsteps:\n  - { id: tidy, uses: tidy, with: { document: '${inputs.doc.doc_id}' }, grants: [doc.read, doc.propose, 'model.infer'] }\n";
    let untidy = import(&project, "# Guide\n\nA first paragraph.\n\nLast\n----\n", &[]);
    let result = project.run_workflow(propose, &["-i", &input]);
    assert_eq!(result.code, 0, "there is nothing to tidy up in it: {result:?}");
    let first = stored(&project, &untidy)["blocks"][0]["block_id"].as_str().unwrap().to_owned();
    let doc =
        json!({ "doc_id": untidy, "layer_scope": "block", "selection": { "start_block": first, "end_block": first } });
    let before = stored(&project, &untidy);
    let result = project.run_workflow(propose, &["-i", &format!("doc={doc}")]);
    says(&result, 1, "is not selected");
    says(&result, 1, "`insert_block` reaches further than single blocks");
    assert_eq!(stored(&project, &untidy), before);
}

#[test]
fn steps_see_the_document_of_their_job_and_no_other() {
    let project = Project::new();
    let (own, other) = (import(&project, "# Own\n", &[]), import(&project, "# Other\n", &[]));
    let flow = |kind: &str, read: &str| {
        format!(
            "name: x\njob: {{ kind: {kind}, access_mode: preview_only }}\ninputs: {{ doc: {{ type: object, default: {{}} }} }}\nsteps:\n  - {{ id: tidy, uses: tidy, with: {{ document: '{read}', sentences: 0 }}, grants: [doc.read, doc.propose] }}\n"
        )
    };
    let input = format!("doc={own}");
    project.run_workflow(&flow("doc_edit", &own), &["-i", &input]).success();
    says(&project.run_workflow(&flow("doc_edit", &other), &["-i", &input]), 1, "not found");
    says(&project.run_workflow(&flow("workflow_run", &own), &[]), 1, "not found");
    let nowhere = "doc=00000000-0000-0000-0000-000000000001";
    says(&project.run_workflow(&flow("doc_edit", &own), &["-i", nowhere]), 2, "does not exist");
    says(
        &project.run_workflow(&flow("doc_ingest", &own), &["-i", &input]),
        2,
        "no executor for jobs of kind `doc_ingest`",
    );
}

#[test]
fn nothing_in_a_document_acts_on_a_terminal_that_shows_it() {
    let project = Project::new();
    let document = import(&project, "Title\n=====\n\nRed: \u{1b}[31m\u{202e}.\n", &["--title", "\u{1b}]0;x"]);
    let job = job_of(&rewrite(&project, &document, None, 4));
    for command in [&["jobs", "show", &job][..], &["documents", "show", &document, "--blocks"], &["documents", "list"]]
    {
        let shown = project.run(command).success().stdout;
        assert!(!shown.contains(['\u{1b}', '\u{202e}']) && shown.contains("\\u{1b}"), "{command:?}: {shown}");
    }
    assert!(project.run(&["jobs", "show", &job]).stdout.contains(" Red: \\u{1b}[31m\\u{202e}."));
    assert_eq!(export(&project, &document), "Title\n=====\n\nRed: \u{1b}[31m\u{202e}.\n");
}
