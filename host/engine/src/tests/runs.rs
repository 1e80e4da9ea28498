//! Runs from submission to their end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use handshake_core::document::Proposal;
use handshake_core::job::{JobState, PlannedOperation};
use handshake_core::run::RunState;
use handshake_core::step::StepFailure;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::doubles::*;
use crate::{EngineError, RunUpdateKind};

const THREE_STEPS: &str = r#"
name: summarize-folder
inputs:
  folder: { type: string, default: docs }
mounts:
  in: { path: "${inputs.folder}", access: read }
  out: { path: report, access: write }
job: { access_mode: apply_scoped }
steps:
  - { id: read, uses: read-folder, grants: ["fs.read:in"] }
  - { id: summarize, uses: summarize, with: { text: "${steps.read.output.text}" }, grants: ["model.infer:default"] }
  - { id: write, uses: write-report, with: { summary: "${steps.summarize.output}" }, grants: ["fs.write:out"] }
outputs:
  report: "${steps.write.output.path}"
"#;

fn three(call: &Call) -> Act {
    Act::Give(match call.step.as_str() {
        "read" => json!({ "text": "hello" }),
        "summarize" => json!({ "summary": call.input["text"] }),
        _ => json!({ "path": "report.md" }),
    })
}

#[tokio::test]
async fn a_workflow_of_three_steps_needs_five_transactions_with_submission_and_claim() {
    let bench = bench(three);
    let summary = bench.run(THREE_STEPS).await;
    assert_eq!(bench.database.tables().commits, 5);
    assert_eq!((summary.job.state, summary.run.state), (JobState::Completed, RunState::Completed));
    assert_eq!(summary.job.job_outputs, Some(json!({ "report": "report.md" })));
    let calls = bench.calls();
    assert_eq!(calls[2].input, json!({ "summary": { "summary": "hello" } }));
    assert!(calls.iter().all(|call| call.checkpointed), "a step ran before its checkpoint was durable");
    // Every step sees every mount; what it may do there is the gate's to decide.
    assert!(calls.iter().all(|call| call.mounts == ["in", "out"]));
    assert_eq!(bench.database.nodes_by_text(), ["read 1 completed", "summarize 1 completed", "write 1 completed"]);
}

#[tokio::test]
async fn every_transition_and_span_is_an_event_of_the_jobs_trace() {
    let bench = bench(three);
    let summary = bench.run(THREE_STEPS).await;
    let events = bench.database.tables().events.clone();
    let trace = summary.job.trace_id.to_string();
    assert!(events.iter().all(|event| event["trace_id"] == json!(trace)));
    let shown: Vec<_> = events
        .iter()
        .map(|event| {
            let payload = &event["payload"];
            match event["event_type"].as_str().unwrap() {
                "job_transition" => format!("{} -> {}", payload["from_state"], payload["to_state"]).replace('"', ""),
                kind => format!("{kind} {} {}", payload["span"], payload["name"]).replace('"', ""),
            }
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r##"
    span_start job summarize-folder
    null -> queued
    queued -> running
    span_start run summarize-folder
    span_start step read
    span_end step read
    span_start step summarize
    span_end step summarize
    span_start step write
    span_end step write
    span_end run summarize-folder
    running -> completed
    span_end job summarize-folder
    "##);
    let (starts, ends): (Vec<_>, Vec<_>) = events
        .iter()
        .filter(|event| event["event_type"].as_str().unwrap().starts_with("span"))
        .map(|event| (event["event_type"].clone(), event["activity_span_id"].to_string()))
        .partition(|(kind, _)| kind == "span_start");
    let ids =
        |spans: Vec<(Value, String)>| spans.into_iter().map(|(_, id)| id).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(starts), ids(ends));
}

#[tokio::test]
async fn metrics_are_the_sum_of_the_steps_and_the_duration_is_the_runs() {
    let bench = bench(three);
    let clock = std::sync::Arc::clone(&bench.clock);
    let mut news = bench.engine.watch();
    let moves = tokio::spawn(async move {
        while let Ok(update) = news.recv().await {
            if let RunUpdateKind::NodeStarted { .. } = update.kind {
                clock.advance(Duration::from_millis(20));
            }
        }
    });
    let metrics = bench.run(THREE_STEPS).await.job.metrics;
    moves.abort();
    assert_eq!((metrics.input_tokens, metrics.output_tokens, metrics.total_tokens), (9, 6, 15));
    assert!(metrics.duration_ms > 0 && metrics.duration_ms <= 60, "{}", metrics.duration_ms);
}

const EACH: &str = r#"
name: each
inputs: { items: { type: list } }
steps:
  - { id: work, uses: summarize, for_each: inputs.items, max_parallel: 3, with: { text: "${item.text}", at: "${index}", label: "no ${index + 1}" } }
outputs: { all: "${steps.work.output}" }
"#;

#[tokio::test]
async fn items_run_side_by_side_within_their_limit_and_keep_their_order() {
    let bench = bench(|call| Act::Give(call.input.clone()));
    let items: Vec<_> = (0..20).map(|n| json!({ "text": format!("t{n}") })).collect();
    let summary = bench.run_with(EACH, &[("items", json!(items))]).await;
    let expected: Vec<_> =
        (0..20).map(|n| json!({ "text": format!("t{n}"), "at": n, "label": format!("no {}", n + 1) })).collect();
    assert_eq!(summary.job.job_outputs.unwrap()["all"], json!(expected));
    assert_eq!(bench.executor.most.load(Ordering::SeqCst), 3);
    let seeds: std::collections::BTreeSet<_> = bench.calls().iter().map(|call| call.seed).collect();
    assert_eq!(seeds.len(), 20, "two attempts had the same seed");
}

#[tokio::test]
async fn an_empty_list_completes_with_no_output_items() {
    let bench = bench(|_| panic!("nothing is to be executed"));
    let summary = bench.run_with(EACH, &[("items", json!([]))]).await;
    assert_eq!(summary.job.job_outputs, Some(json!({ "all": [] })));
    assert_eq!(summary.job.state, JobState::Completed);
}

#[tokio::test]
async fn ten_thousand_items_complete() {
    let bench = bench(|call| Act::Give(json!(call.input["at"])));
    let items: Vec<_> = (0..10_000).map(|_| json!({ "text": "x" })).collect();
    let summary = bench.run_with(EACH, &[("items", json!(items))]).await;
    assert_eq!(summary.job.job_outputs.unwrap()["all"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn a_skipped_step_gives_null_and_those_behind_it_run() {
    let bench = bench(|call| Act::Give(call.input.clone()));
    let text = r#"
name: skip
steps:
  - { id: read, uses: read-folder, with: { n: 3 } }
  - { id: sign-off, uses: summarize, when: "steps.read.output.n > 10" }
  - { id: write, uses: write-report, with: { from: "${steps['sign-off'].output}" } }
"#;
    let summary = bench.run(text).await;
    assert_eq!(summary.job.state, JobState::Completed);
    assert_eq!(bench.database.nodes_by_text(), ["read 1 completed", "sign-off 1 skipped", "write 1 completed"]);
    assert_eq!(bench.calls().last().unwrap().input, json!({ "from": null }));
}

const RETRIED: &str = r#"
name: retry
steps:
  - { id: work, uses: summarize, timeout: 2s, retry: { attempts: 3, backoff: constant, initial: 1ms, max: 1ms } }
  - { id: after, uses: write-report, needs: [work] }
"#;

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_same_key_and_another_seed() {
    let bench = bench(|call| match (call.step.as_str(), call.attempt) {
        ("work", 1) => Act::Fail(StepFailure::Transient("busy".into())),
        ("work", 2) => Act::Fail(StepFailure::Timeout(Duration::from_secs(2))),
        _ => Act::Give(json!("done")),
    });
    assert_eq!(bench.run(RETRIED).await.job.state, JobState::Completed);
    assert_eq!(
        bench.database.nodes_by_text(),
        ["after 1 completed", "work 1 failed", "work 2 failed", "work 3 completed"]
    );
    let calls = bench.calls();
    assert!(calls[0].key == calls[1].key && calls[1].key == calls[2].key && calls[2].key != calls[3].key);
    assert!(calls[0].seed != calls[1].seed);
    assert_eq!((calls[0].wall, calls[3].wall), (Duration::from_secs(2), Duration::from_secs(30)));
}

#[tokio::test]
async fn a_step_that_keeps_timing_out_fails_the_run_and_what_needs_it_never_starts() {
    let bench = bench(|_| Act::Fail(StepFailure::Timeout(Duration::from_secs(2))));
    let summary = bench.run(RETRIED).await;
    assert_eq!((summary.job.state, summary.run.state), (JobState::Failed, RunState::Failed));
    insta::assert_snapshot!(summary.job.error_message.unwrap(), @"step `work` failed after 3 attempts: timed out after 2s; raise `timeout` of the step or `limits.wall_ms` in plugin.toml, whichever is smaller");
    assert_eq!(bench.database.nodes_by_text(), ["work 1 failed", "work 2 failed", "work 3 failed"]);
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again_and_a_panic_of_the_host_is_a_failure() {
    let failing = bench(|_| Act::Fail(StepFailure::Permanent("no such model".into())));
    insta::assert_snapshot!(failing.run(RETRIED).await.job.error_message.unwrap(), @"step `work` failed: no such model; see what plugin `summarize` says it needs");
    assert_eq!(failing.database.nodes_by_text(), ["work 1 failed"]);
    let panicking = bench(|_| Act::Panic);
    insta::assert_snapshot!(panicking.run(RETRIED).await.job.error_message.unwrap(), @"step `work` failed: host failure: the host panicked while it executed the step; `handshake doctor` looks for what is wrong with the host");
}

#[tokio::test]
async fn long_messages_of_plugins_are_cut_and_keep_their_remedy() {
    let bench = bench(|_| Act::Fail(StepFailure::Permanent("ä".repeat(100_000))));
    let message = bench.run(RETRIED).await.job.error_message.unwrap();
    assert!(message.len() <= 4 << 10 && message.ends_with("says it needs"));
}

#[tokio::test]
async fn after_a_failure_running_items_end_and_no_others_start() {
    let bench = bench(|call| {
        if call.node == "work[1]" { Act::Fail(StepFailure::Permanent("bad".into())) } else { Act::Give(json!(1)) }
    });
    let items: Vec<_> = (0..20).map(|_| json!({ "text": "x" })).collect();
    let summary = bench.run_with(EACH, &[("items", json!(items))]).await;
    assert_eq!(summary.job.state, JobState::Failed);
    let nodes = bench.database.nodes_by_text();
    assert!(nodes.len() < 20 && !nodes.iter().any(|node| node.ends_with("running")), "{nodes:?}");
}

#[tokio::test]
async fn a_failed_run_does_not_sit_out_the_waits_of_other_steps() {
    let bench = bench(|call| {
        Act::Fail(if call.step == "busy" {
            StepFailure::Transient("busy".into())
        } else {
            StepFailure::Permanent("bad".into())
        })
    });
    let text = r#"
name: waits
steps:
  - { id: busy, uses: summarize, retry: { attempts: 3, initial: 1h, max: 1h } }
  - { id: bad, uses: summarize }
"#;
    let ended = tokio::time::timeout(Duration::from_secs(60), bench.run(text)).await;
    assert_eq!(ended.expect("the run waits for the retry").job.state, JobState::Failed);
    assert_eq!(bench.database.nodes_by_text(), ["bad 1 failed", "busy 1 failed"]);
}

#[tokio::test]
async fn cancelling_stops_what_runs_and_is_committed() {
    let bench = bench(|_| Act::Hang);
    let submitted = bench.engine.submit(submission(RETRIED, &[])).await.unwrap();
    let cancel = CancellationToken::new();
    let mut news = bench.engine.watch();
    let token = cancel.clone();
    tokio::spawn(async move {
        while let Ok(update) = news.recv().await {
            if let RunUpdateKind::NodeStarted { .. } = update.kind {
                token.cancel();
            }
        }
    });
    let summary = bench.engine.execute(submitted.run_id, cancel).await.unwrap();
    assert_eq!((summary.job.state, summary.run.state), (JobState::Cancelled, RunState::Cancelled));
    assert_eq!(bench.database.nodes_by_text(), ["work 1 cancelled"]);
    assert_eq!(bench.database.tables().jobs[&submitted.job_id].state, JobState::Cancelled);
}

#[tokio::test]
async fn a_lost_lease_stops_the_run_and_nothing_more_is_written() {
    let bench = bench(|_| Act::Hang);
    let submitted = bench.engine.submit(submission(RETRIED, &[])).await.unwrap();
    let mut news = bench.engine.watch();
    let database = std::sync::Arc::clone(&bench.database);
    let taken = tokio::spawn(async move {
        while let Ok(update) = news.recv().await {
            if let RunUpdateKind::NodeStarted { .. } = update.kind {
                database.take_over(submitted.run_id);
                return database.tables().commits;
            }
        }
        0
    });
    let error = bench.engine.execute(submitted.run_id, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, EngineError::LostLease { .. }), "{error}");
    let commits = taken.await.unwrap();
    assert_eq!(bench.database.tables().commits, commits);
}

#[tokio::test]
async fn a_commit_with_an_outdated_token_ends_the_run_too() {
    let database =
        std::sync::Arc::new(std::sync::OnceLock::<(std::sync::Arc<MemoryDatabase>, handshake_core::RunId)>::new());
    let other = std::sync::Arc::clone(&database);
    let bench = bench(move |_| {
        let (database, run) = other.get().unwrap();
        database.take_over(*run);
        Act::Give(json!(1))
    });
    let submitted = bench.engine.submit(submission(RETRIED, &[])).await.unwrap();
    assert!(database.set((std::sync::Arc::clone(&bench.database), submitted.run_id)).is_ok());
    let error = bench.engine.execute(submitted.run_id, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, EngineError::LostLease { .. }), "{error}");
    assert_eq!(bench.database.tables().commits, 2);
}

#[tokio::test]
async fn proposals_of_a_job_that_is_about_no_document_are_kept_with_it_and_refused() {
    let proposal = || Proposal {
        document: "d1".into(),
        base_version: 1,
        operations: vec![PlannedOperation::DeleteBlock { block_id: "b".into() }],
    };
    let bench = bench(move |_| Act::Propose(json!(1), vec![proposal()]));
    for (mode, state) in [("preview_only", JobState::CompletedWithIssues), ("apply_scoped", JobState::Failed)] {
        let job = bench.run(&format!("{RETRIED}job: {{ access_mode: {mode} }}\n")).await.job;
        assert_eq!(job.state, state);
        assert_eq!((job.planned_operations.len(), job.entity_refs.len()), (2, 0));
        assert_eq!(job.metrics.validators_run_count, 5);
        assert!(
            job.status_reason.contains("scope: document `d1` is not what the job is about"),
            "{}",
            job.status_reason
        );
        assert!(job.status_reason.contains("capability: step `work`"), "{}", job.status_reason);
        let by: Vec<_> = bench.engine.proposals(&job).await.unwrap().unwrap().documents;
        assert_eq!((by.len(), by[0].problem.as_deref()), (1, Some("the document does not exist")));
        bench.database.tables().nodes.clear();
    }
}

#[tokio::test]
async fn what_the_job_of_a_step_proposes_is_left_to_the_job_that_started_it() {
    let operations = vec![PlannedOperation::DeleteBlock { block_id: "b".into() }];
    let proposal = Proposal { document: "d1".into(), base_version: 1, operations };
    let bench = bench(move |_| Act::Propose(json!(1), vec![proposal.clone()]));
    let submitted = bench.engine.submit(submission(RETRIED, &[])).await.unwrap();
    bench.database.tables().jobs.get_mut(&submitted.job_id).unwrap().parent_job_id = Some(submitted.job_id);
    let job = bench.engine.execute(submitted.run_id, CancellationToken::new()).await.unwrap().job;
    assert_eq!((job.state, job.metrics.validators_run_count), (JobState::Completed, 0));
    assert_eq!(bench.engine.proposals(&job).await.unwrap(), None);
}

#[tokio::test]
async fn what_inputs_and_outputs_contain_is_never_evaluated() {
    let evil = "${steps.read.output} $${x} {{ inputs }}";
    let bench = bench(|call| Act::Give(json!({ "text": call.input["text"] })));
    let text = r#"
name: data
inputs: { text: { type: string, default: "${1 + 1}" }, other: { type: string } }
steps:
  - { id: read, uses: read-folder, with: { text: "${inputs.text}", other: "<${inputs.other}>", plain: "$${inputs.text}" } }
  - { id: write, uses: write-report, with: { text: "${steps.read.output.text}!" } }
"#;
    let summary = bench.run_with(text, &[("other", json!(evil))]).await;
    assert_eq!(summary.job.state, JobState::Completed);
    let calls = bench.calls();
    assert_eq!(calls[0].input, json!({ "text": "${1 + 1}", "other": format!("<{evil}>"), "plain": "${inputs.text}" }));
    assert_eq!(calls[1].input, json!({ "text": "${1 + 1}!" }));
}

#[tokio::test]
async fn a_plugin_that_changed_since_submission_fails_the_run() {
    let bench = bench(three);
    let submitted = bench.engine.submit(submission(THREE_STEPS, &[])).await.unwrap();
    *bench.executor.version.lock().unwrap() = "second";
    let summary = bench.engine.execute(submitted.run_id, CancellationToken::new()).await.unwrap();
    assert_eq!(summary.job.state, JobState::Failed);
    insta::assert_snapshot!(summary.job.error_message.unwrap(), @"plugin `read-folder@0.1.0` of step `read` is not the one that the run was made with; submit the workflow again to use the changed plugin");
    assert!(bench.calls().is_empty());
}

#[tokio::test]
async fn expressions_of_the_wrong_type_fail_the_run_with_their_step() {
    let message = async |text: &str| bench(three).run(text).await.job.error_message.unwrap();
    let with = |step: &str| {
        format!("name: x\nsteps:\n  - {{ id: read, uses: read-folder }}\n  - {{ id: work, uses: summarize, {step} }}\n")
    };
    insta::assert_snapshot!(message(&with("when: steps.read.output.text")).await, @"step `work`: `when` must give true or false, and `steps.read.output.text` gave a value of type string; correct the expression in the workflow file");
    insta::assert_snapshot!(message(&with("for_each: size(steps.read.output.text)")).await, @"step `work`: `for_each` must give a list, and `size(steps.read.output.text)` gave a value of type integer; correct the expression in the workflow file");
    insta::assert_snapshot!(message(&with("for_each: steps.read.output.text")).await, @"step `work`: `for_each` must give a list, and `steps.read.output.text` gave a value of type string; correct the expression in the workflow file");
    insta::assert_snapshot!(message(&with("with: { a: '${steps.read.output.txt}' }")).await, @"step `work`: `with` has no value: `steps.read.output.txt`: there is no `txt` in a value of type object; correct the expression in the workflow file");
    insta::assert_snapshot!(message(&with("with: { a: 'x ${steps.read.output}' }")).await, @"step `work`: `with` has no value: `steps.read.output`: a value of type object cannot be put into a text; let the expression be the whole value, or name a part of it; correct the expression in the workflow file");
}

#[tokio::test]
async fn recovery_marks_run_job_and_attempts_once() {
    let bench = bench(|_| Act::Hang);
    let submitted = bench.engine.submit(submission(RETRIED, &[])).await.unwrap();
    let (engine, run) = (bench.engine.clone(), submitted.run_id);
    let mut news = bench.engine.watch();
    let killed = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await });
    while !matches!(news.recv().await.unwrap().kind, RunUpdateKind::NodeStarted { .. }) {}
    killed.abort();
    assert!(killed.await.is_err());

    let recovered = bench.engine.recover().await.unwrap();
    assert_eq!(
        recovered.iter().map(|found| (found.run_id, found.state)).collect::<Vec<_>>(),
        [(run, JobState::Stalled)]
    );
    assert_eq!(bench.engine.recover().await.unwrap(), []);
    let tables = bench.database.tables();
    assert_eq!((tables.runs[&run].state, tables.jobs[&submitted.job_id].state), (RunState::Stalled, JobState::Stalled));
    let recoveries = tables.events.iter().filter(|event| event["event_type"] == "workflow_recovery").count();
    assert_eq!(recoveries, 1);
    drop(tables);
    assert_eq!(bench.database.nodes_by_text(), ["work 1 interrupted"]);
}

#[tokio::test]
async fn a_run_is_executed_once() {
    let bench = bench(three);
    let run = bench.run(THREE_STEPS).await.run.run_id;
    let error = bench.engine.execute(run, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, EngineError::NotWaiting { state: RunState::Completed, .. }), "{error}");
}

#[tokio::test]
async fn the_ends_of_spans_tell_how_long_jobs_and_steps_took_and_what_they_used() {
    let bench = bench(three);
    bench.run(THREE_STEPS).await;
    let tables = bench.database.tables();
    let ends = |span: &'static str| {
        let events = tables.events.iter().map(|event| &event["payload"]);
        events.filter(move |body| body["span"] == span && body["result"] == "ok").map(|body| body["metrics"].clone())
    };
    assert_eq!(ends("job").collect::<Vec<_>>(), [json!({ "hsk.job.latency": 0, "hsk.job.tokens": 15 })]);
    let steps: Vec<_> = ends("step").collect();
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|metrics| metrics["hsk.workflow.step_duration"] == 0 && metrics["n"] == 1));
}
