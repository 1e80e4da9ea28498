//! Runs as earlier versions left them, at each of their commits: this version goes on with them to the same end.
//!
//! The folder `histories` has a file for each version that was released: its first line says how the run ended, each
//! other line is what was stored after one commit. `HANDSHAKE_UPDATE=1` writes the file of the version at hand anew;
//! those of earlier versions stay as they are.

use std::path::PathBuf;

use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::{NodeExecution, NodeState};
use handshake_core::run::WorkflowRun;
use handshake_core::step::StepFailure;
use handshake_core::storage::JobStore;
use handshake_core::{JobId, RunId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::doubles::*;
use crate::Answer;

const WORKFLOW: &str = "
name: history
workflows:
  part:
    inputs: { item: { type: string } }
    steps:
      - { id: work, uses: summarize, with: { item: '${inputs.item}' } }
    outputs: { said: '${steps.work.output}' }
steps:
  - { id: read, uses: read-folder, retry: { attempts: 2, initial: 1ms } }
  - { id: each, for_each: '[\"a\", \"b\"]', uses: summarize, with: { item: '${item}', read: '${steps.read.output}' } }
  - { id: never, uses: summarize, when: 'size(steps.each.output) > 2' }
  - { id: part, workflow: part, with: { item: '${steps.each.output[0]}' } }
  - { id: nap, sleep: 1ms }
  - { id: ask, approval: { prompt: 'publish?' }, needs: [part, nap] }
  - { id: write, uses: write-report, needs: [ask], with: { all: '${steps.each.output}', part: '${steps.part.output.said}' } }
outputs: { written: '${steps.write.output}' }
";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/histories")
}

fn executed() -> Bench {
    bench(|call| match (call.step.as_str(), call.attempt) {
        ("read", 1) => Act::Fail(StepFailure::Transient("not yet".into())),
        _ => Act::Give(json!(format!("{} of {}", call.node, call.input))),
    })
}

/// Executes what may be executed and says yes to what is asked, until the job is over.
async fn live(bench: &Bench, job: JobId, run: RunId) -> AiJob {
    let person = Actor { kind: ActorKind::Human, id: "tester".into() };
    for _ in 0..10 {
        let found = bench.database.job(job).await.unwrap();
        match found.state {
            state if state.is_final() => return found,
            JobState::AwaitingUser if !bench.engine.questions(job).await.unwrap().is_empty() => {
                bench.engine.vote(job, None, Answer::of(true), &person).await.unwrap();
            }
            _ => {}
        }
        bench.engine.execute(run, CancellationToken::new()).await.unwrap();
    }
    panic!("it comes to no end");
}

fn parsed<T: serde::de::DeserializeOwned>(line: &Value, key: &str) -> Vec<T> {
    serde_json::from_value(line[key].clone()).unwrap()
}

#[tokio::test]
async fn histories_of_this_and_earlier_versions_end_as_they_did() {
    let own = folder().join(format!("{}.jsonl", env!("CARGO_PKG_VERSION")));
    if std::env::var_os("HANDSHAKE_UPDATE").is_some() {
        let bench = executed();
        bench.database.tables().history = Some(Vec::new());
        let submitted = bench.engine.submit(submission(WORKFLOW, &[])).await.unwrap();
        let done = live(&bench, submitted.job_id, submitted.run_id).await;
        let ended = json!({ "job": submitted.job_id, "run": submitted.run_id, "state": done.state, "outputs": done.job_outputs });
        let lines = std::iter::once(ended).chain(bench.database.tables().history.take().unwrap());
        let text: String = lines.map(|line| line.to_string() + "\n").collect();
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&own, text).unwrap();
    }
    assert!(own.is_file(), "{} is missing", own.display());
    let mut replayed = 0;
    for file in std::fs::read_dir(folder()).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ended = lines.next().unwrap();
        let (job, run) = (parsed_id(&ended["job"]), parsed_id(&ended["run"]));
        for (at, line) in lines.enumerate() {
            let bench = executed();
            let nodes: Vec<NodeExecution> = parsed(&line, "nodes");
            {
                let mut tables = bench.database.tables();
                tables.jobs = parsed::<AiJob>(&line, "jobs").into_iter().map(|job| (job.job_id, job)).collect();
                tables.runs = parsed::<WorkflowRun>(&line, "runs").into_iter().map(|run| (run.run_id, run)).collect();
                let key = |node: &NodeExecution| (node.node.to_string(), node.attempt, node.run_id);
                tables.nodes = nodes.iter().map(|node| (key(node), node.clone())).collect();
                tables.approvals = parsed::<handshake_core::approval::Approval>(&line, "approvals")
                    .into_iter()
                    .map(|approval| (approval.approval_id, approval))
                    .collect();
                tables.keys = serde_json::from_value(line["keys"].clone()).unwrap();
            }
            bench.engine.recover().await.unwrap();
            let done = live(&bench, job, run).await;
            let place = format!("{}, commit {at}", file.display());
            assert_eq!(json!(done.state), ended["state"], "{place}: {}", done.status_reason);
            assert_eq!(json!(done.job_outputs), ended["outputs"], "{place}");
            let completed = nodes.iter().filter(|node| node.state == NodeState::Completed);
            for node in completed.filter(|node| node.plugin.is_some()) {
                let again = bench.calls().iter().any(|call| call.node == node.node.to_string());
                assert!(!again, "{place}: {} was executed again", node.node);
            }
            replayed += 1;
        }
    }
    assert!(replayed > 15, "{replayed}");
}

fn parsed_id<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}
