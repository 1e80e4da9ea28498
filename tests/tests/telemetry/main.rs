//! The real binary exports what it records to a collector, and does not care how that one behaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collector;

use std::collections::BTreeMap;
use std::time::Duration;

use collector::{FakeCollector, Manner, attributes};
use handshake_core::Clock;
use handshake_tests::backends::RunningClock;
use handshake_tests::binary::{Finished, Project};
use opentelemetry_proto::tonic::trace::v1::Span;

/// The credential that must turn up nowhere.
const TOKEN: &str = "tok-3f9a77c1d2e4";

fn project(endpoint: &str) -> Project {
    let project = Project::new();
    project.write("docs/notes.txt", "A note. It has two sentences.\n");
    project.write("docs/more.txt", "Another note. It also has two sentences.\n");
    let config = std::fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write(
        "handshake.toml",
        format!("{config}\n[telemetry]\notlp_endpoint = \"{endpoint}\"\nheaders_env = \"COLLECTOR_HEADERS\"\n"),
    );
    project
}

fn summarize(project: &Project) -> (Finished, Duration) {
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
    let clock = RunningClock::default();
    let output = project
        .command(&["run", workflow.to_str().unwrap(), "-i", "folder=docs", "--output", "json"])
        .env("COLLECTOR_HEADERS", format!("authorization=Bearer%20{TOKEN},x-note={TOKEN}"))
        .output()
        .unwrap();
    (output.into(), clock.monotonic())
}

fn value(span: &Span, name: &str) -> Option<String> {
    attributes(&span.attributes).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

#[test]
fn a_run_is_exported_as_job_run_steps_and_calls_of_models_below_each_other() {
    let collector = FakeCollector::start(Manner::Takes);
    let project = project(&collector.endpoint);
    let (finished, _) = summarize(&project);
    let finished = finished.success();
    assert_eq!(finished.stderr, "");
    let result = finished.json();
    let job = result["job"]["job_id"].as_str().unwrap();

    let spans = collector.spans();
    let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "each has an id of its own");
    let recorded = project.events("span_end").len() + project.events("llm_inference").len();
    assert_eq!(spans.len(), recorded, "all that is on record, once");

    let trace = result["job"]["trace_id"].as_str().unwrap().replace('-', "");
    let parent = |span: &Span| by_id.get(&span.parent_span_id).map(|parent| parent.name.as_str());
    let mut pairs: Vec<_> = spans.iter().map(|span| (span.name.as_str(), parent(span))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let model = spans.iter().find(|span| span.name.starts_with("chat ")).unwrap().name.as_str();
    assert_eq!(
        pairs,
        [
            (model, Some("step summarize")),
            ("job summarize-folder", None),
            ("run summarize-folder", Some("job summarize-folder")),
            ("step read", Some("run summarize-folder")),
            ("step summarize", Some("run summarize-folder")),
            ("step write", Some("run summarize-folder")),
        ]
    );
    for span in &spans {
        assert_eq!(hex(&span.trace_id), trace);
        assert_eq!(value(span, "handshake.job.id").unwrap(), job);
        assert_eq!(value(span, "handshake.workflow").unwrap(), "summarize-folder");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.status.is_none());
        let within = by_id.get(&span.parent_span_id).is_none_or(|parent| {
            // Ends are recorded by one clock; a call's beginning is its end less its duration, in milliseconds.
            span.start_time_unix_nano + 2_000_000 >= parent.start_time_unix_nano
                && span.end_time_unix_nano <= parent.end_time_unix_nano
        });
        assert!(within, "{span:?}");
    }
    let call = spans.iter().find(|span| span.name == model).unwrap();
    for (name, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "builtin/extractive"),
        ("handshake.step.id", "summarize"),
        ("handshake.attempt", "1"),
    ] {
        assert_eq!(value(call, name).as_deref(), Some(expected), "{name}");
    }
    for name in ["gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "handshake.run.id"]
    {
        assert!(value(call, name).is_some(), "{name}");
    }
    assert!(!format!("{spans:?}").contains("sentences"), "no content");

    let host = project.run(&["db", "status", "--output", "json"]).success().json();
    for resource in collector.resources() {
        let resource: BTreeMap<_, _> = resource.into_iter().collect();
        assert_eq!(resource["service.name"], "handshake");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert!(host.to_string().contains(&resource["service.instance.id"]), "{host}");
    }
    for head in collector.heads() {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("authorization: bearer {TOKEN}\r\n")), "{head}");
        assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    }
}

#[test]
fn a_failed_step_has_its_label_as_status() {
    let collector = FakeCollector::start(Manner::Takes);
    let project = project(&collector.endpoint);
    let workflow = std::fs::read_to_string(handshake_tests::root().join("workflows/summarize-folder.yaml")).unwrap();
    let workflow =
        workflow.replace(r#"grants: ["artifact.read", "model.infer:default"]"#, r#"grants: ["artifact.read"]"#);
    assert_eq!(project.run_workflow(&workflow, &["-i", "folder=docs"]).code, 3);
    let spans = collector.spans();
    let status = |name: &str| {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        span.status.as_ref().map(|status| (status.code, status.message.clone()))
    };
    assert_eq!(status("step read"), None);
    assert_eq!(status("step summarize"), Some((2, "denied".to_owned())));
    assert_eq!(status("job summarize-folder"), Some((2, "failed".to_owned())));
}

#[test]
fn what_was_recorded_before_a_start_is_not_exported_again() {
    let collector = FakeCollector::start(Manner::Takes);
    let project = project(&collector.endpoint);
    summarize(&project).0.success();
    let first = collector.spans().len();
    summarize(&project).0.success();
    let spans = collector.spans();
    let traces: std::collections::BTreeSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
    assert_eq!((spans.len(), traces.len()), (2 * first, 2));
}

#[test]
fn a_collector_that_is_down_refuses_or_hangs_changes_neither_result_nor_end_and_is_told() {
    let refuses = FakeCollector::start(Manner::Answers("400 Bad Request"));
    let busy = FakeCollector::start(Manner::Answers("503 Service Unavailable"));
    let hangs = FakeCollector::start(Manner::Hangs);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The first run of a project compiles plugins and says nothing about time; the second is compared.
    let good = project(&FakeCollector::start(Manner::Takes).endpoint);
    summarize(&good).0.success();
    let usual = summarize(&good).1;
    for (endpoint, words) in [
        (format!("http://{closed}"), "refused"),
        (refuses.endpoint.clone(), "400 Bad Request"),
        (busy.endpoint.clone(), "503 Service Unavailable"),
        (hangs.endpoint.clone(), "did not answer in time"),
    ] {
        let project = project(&endpoint);
        summarize(&project).0.success();
        let (finished, time) = summarize(&project);
        let finished = finished.success();
        assert_eq!(finished.json()["job"]["state"], "completed");
        let recorded = (project.events("span_end").len() + project.events("llm_inference").len()) / 2;
        let said = format!("{recorded} spans were not exported to `{endpoint}/v1/traces`: ");
        assert!(finished.stderr.contains(&said) && finished.stderr.contains(words), "{}", finished.stderr);
        assert!(!format!("{finished:?}").contains(TOKEN), "{finished:?}");
        // Two seconds, and what a busy machine adds.
        let most = usual + Duration::from_secs(if words.contains("time") { 2 } else { 0 }) + Duration::from_secs(3);
        assert!(time < most, "{words}: {time:?} instead of {usual:?}");
    }
}

#[test]
fn the_environment_wins_and_nothing_is_exported_without_either() {
    let (file, environment) = (FakeCollector::start(Manner::Takes), FakeCollector::start(Manner::Takes));
    let project = project(&file.endpoint);
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
    let run = |endpoint: &str| -> Finished {
        let mut command = project.command(&["run", workflow.to_str().unwrap(), "-i", "folder=docs"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).output().unwrap().into()
    };
    let finished = run(&environment.endpoint).success();
    assert!(finished.stderr.contains("`COLLECTOR_HEADERS` is not set"), "{finished:?}");
    assert!(file.spans().is_empty() && !environment.spans().is_empty());
    let refused = run("http://user:hunter22@127.0.0.1:4318");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && !refused.stderr.contains("hunter22"));
    let doctor = project.run(&["doctor"]);
    assert!(doctor.stdout.contains(&format!("{}/v1/traces, without the headers", file.endpoint)), "{doctor:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
