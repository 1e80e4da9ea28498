//! The real binary, killed again and again in the middle of a run that asks a server and writes a file: every run ends,
//! and what may not be done twice is done twice only at a person's word.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handshake_tests::binary::Project;
use serde_json::{Value, json};

const DOCUMENTS: usize = 3;
const FILES: usize = 16;
/// How `init` configures the default model.
const BUILTIN: &str = "provider = \"builtin/extractive\"";

/// A model on loopback that counts what it is asked. It lives as long as the test.
fn model() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            // A client that was killed leaves half a request, which is no reason to end.
            std::thread::spawn(move || drop(answer(&stream, &counted)));
        }
    });
    (address, asked)
}

fn answer(mut stream: &TcpStream, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        asked.fetch_add(1, Ordering::SeqCst);
        // Long enough to be killed in the middle.
        std::thread::sleep(Duration::from_millis(20));
        let text = json!({
            "model": "counted",
            "choices": [{ "message": { "role": "assistant", "content": "It is short." }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        })
        .to_string();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )?;
    }
}

const WORKFLOW: &str = "
name: effects
job: { access_mode: apply_scoped }
mounts:
  in: { path: docs, access: read }
  out: { path: report, access: write }
steps:
  - { id: read, uses: read-folder, with: { mount: in }, grants: ['fs.read:in', artifact.write] }
  - id: ask
    uses: summarize
    for_each: steps.read.output.documents
    max_parallel: 2
    with: { document: '${item}', sentences: 1 }
    grants: [artifact.read, 'model.infer:default']
  - id: write
    needs: [ask]
    uses: hostile
    for_each: '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]'
    max_parallel: 1
    with: { behaviour: write-file, target: '/out/${item}.txt' }
    grants: ['fs.write:out']
  - { id: rest, needs: [write], uses: hostile, with: { behaviour: sleep-forever, count: 0 } }
outputs: { said: '${steps.ask.output}' }
";

/// The job, once it was stored.
fn job(project: &Project) -> Option<Value> {
    let listed = project.run(&["jobs", "list", "--output", "json"]).success().json();
    listed["jobs"].as_array().unwrap().iter().find(|job| job["protocol_id"] == "effects").cloned()
}

/// Whether the record allowed a file to be written in more than one attempt.
fn repeated(project: &Project) -> bool {
    let decisions = project.events("capability_action");
    let mut attempts = BTreeMap::<_, BTreeSet<_>>::new();
    for event in decisions.iter().filter(|event| event["step_id"] == "write" && event["capability_id"] == "fs.write") {
        let payload = &event["payload"];
        if payload["decision_outcome"] == "allow" {
            attempts.entry(payload["index"].as_u64()).or_default().insert(payload["attempt"].as_u64());
        }
    }
    assert_eq!(attempts.len(), FILES);
    attempts.values().any(|attempts| attempts.len() > 1)
}

#[test]
fn runs_that_are_killed_end_and_repeat_no_lasting_effect_without_a_persons_word() {
    let rounds = std::env::var("HANDSHAKE_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let (address, asked) = model();
    let mut in_doubt = 0;
    for round in 0..rounds {
        let project = Project::new();
        let settings = std::fs::read_to_string(project.path("handshake.toml")).unwrap();
        assert!(settings.contains(BUILTIN), "{settings}");
        let model = format!("provider = \"openai\"\nbase_url = \"{address}\"\nmodel = \"counted\"");
        project.write("handshake.toml", settings.replace(BUILTIN, &model));
        for number in 0..DOCUMENTS {
            project.write(&format!("docs/{number}.md"), format!("# {number}\n\nIt is short. It is number {number}.\n"));
        }
        project.write("flow.yaml", WORKFLOW);
        project.write("other.yaml", "name: other\nsteps:\n  - { id: nap, sleep: 1ms }\n");
        let before = asked.load(Ordering::SeqCst);
        // Another place each round, and some rounds lose the next process, too.
        let mut running = project.start(&["run", "flow.yaml"]);
        running.wait_for("read: started");
        std::thread::sleep(Duration::from_millis(17 * (round % 29)));
        running.kill();
        if round % 3 == 2 {
            let mut again = project.start(&["run", "other.yaml"]);
            again.wait_for("nap: started");
            std::thread::sleep(Duration::from_millis(13 * (round % 23)));
            again.kill();
        }
        project.run(&["run", "other.yaml"]).success();
        let found = job(&project).unwrap();
        let id = found["job_id"].as_str().unwrap().to_owned();
        let mut by_person = false;
        if found["state"] == "awaiting_user" {
            let reason = found["status_reason"].as_str().unwrap();
            assert!(
                reason.contains("step `write[") && reason.contains("may have done fs.write"),
                "round {round}: {reason}"
            );
            project.run(&["jobs", "resume", &id]).success();
            by_person = true;
            in_doubt += 1;
        }
        let ended = job(&project).unwrap();
        assert_eq!(ended["state"], "completed", "round {round}: {ended}");
        assert_eq!(ended["job_outputs"]["said"].as_array().unwrap().len(), DOCUMENTS);
        assert_eq!(std::fs::read_dir(project.path("report")).unwrap().count(), FILES);
        assert!(!repeated(&project) || by_person, "round {round}: a file was written twice, and nobody was asked");
        // Completed items are not asked for again: two were under way at most when the host was lost, once or twice.
        let calls = asked.load(Ordering::SeqCst) - before;
        let most = DOCUMENTS + if round % 3 == 2 { 4 } else { 2 };
        assert!((DOCUMENTS..=most).contains(&calls), "round {round}: {calls} calls");
    }
    println!("{rounds} rounds, {in_doubt} put before a person");
}
