#![allow(clippy::unwrap_used, clippy::panic)]

use handshake_core::event::Actor;
use handshake_core::model::TokenUsage;
use handshake_core::testing::SequentialIds;
use handshake_core::{Digest, EventId, HostId, RunId, StepId, TraceId};
use uuid::Uuid;

use super::*;

/// Ids whose halves differ, so that a wrong half shows.
fn uuid(which: u8) -> Uuid {
    Uuid::from_u128((0x0193_0000_0000_7000 << 64) | (0x8000_0000_0000_0000 | u128::from(which)))
}

fn short(which: u8) -> Vec<u8> {
    vec![0x80, 0, 0, 0, 0, 0, 0, which]
}

const JOB: u8 = 1;
const RUN: u8 = 2;
const STEP: u8 = 3;
const CALL: u8 = 4;
const TRACE: u8 = 9;

/// A record at a number of seconds.
fn record(seconds: i64, span: Option<u8>, body: EventBody, change: impl FnOnce(&mut Event)) -> StampedEvent {
    let at = Timestamp::from_micros(seconds * 1_000_000);
    let trace = TraceId::from_uuid(uuid(TRACE));
    let mut event = Event::new(EventId::from_uuid(uuid(CALL)), trace, at, Actor::system(), body);
    event.job_id = Some(JobId::from_uuid(uuid(JOB)));
    event.workflow_run_id = Some(RunId::from_uuid(uuid(RUN)));
    event.activity_span_id = span.map(|which| SpanId::from_uuid(uuid(which)));
    change(&mut event);
    StampedEvent {
        host: HostId::fresh(&SequentialIds::default()),
        seq: 1,
        recorded_at: at,
        hash: Digest::ZERO,
        event_id: event.event_id,
        record: format!(r#"{{"event":{}}}"#, serde_json::to_string(&event).unwrap()),
    }
}

fn start(span: &str, name: &str, attempt: Option<u32>) -> EventBody {
    EventBody::SpanStart { span: span.into(), name: name.into(), attempt }
}

fn end(span: &str, name: &str, result: &str) -> EventBody {
    let (span, name, result) = (span.to_owned(), name.to_owned(), result.to_owned());
    EventBody::SpanEnd { span, name, result, duration_us: 1_500_000, metrics: [("secret-metric".into(), 7.0)].into() }
}

fn call(model: &str, error: Option<&str>) -> EventBody {
    EventBody::LlmInference {
        trace_id: TraceId::from_uuid(uuid(TRACE)),
        model_id: model.into(),
        token_usage: TokenUsage { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 },
        latency_ms: 250,
        prompt_hash: Digest::of(b"prompt"),
        response_hash: None,
        error: error.map(str::to_owned),
    }
}

fn in_step(event: &mut Event) {
    event.step_id = Some(StepId::new("read").unwrap());
}

fn spans() -> Spans {
    let model = |name: &str, provider: &str, model: &str, endpoint: Option<&str>| ModelInfo {
        name: name.into(),
        provider: provider.into(),
        model: model.into(),
        endpoint: endpoint.map(str::to_owned),
        has_key: false,
    };
    Spans::new(vec![
        model("default", "builtin/extractive", "extractive-1", None),
        model("local", "openai", "llama3.2", Some("http://127.0.0.1:11434/v1")),
    ])
}

/// Kind, status and attributes on one line.
fn shown(span: &Span) -> String {
    let attributes = span.attributes.iter().map(|attribute| {
        let value = match attribute.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        format!(" {}={value}", attribute.key)
    });
    let kind = SpanKind::try_from(span.kind).unwrap().as_str_name().to_lowercase();
    let status = span.status.as_ref().map(|status| format!(" {}:{}", status.code, status.message));
    let text = format!("{}, {kind}{}:{}", span.name, status.unwrap_or_default(), attributes.collect::<String>());
    text.replace(&uuid(JOB).to_string(), "JOB").replace(&uuid(RUN).to_string(), "RUN")
}

#[test]
fn jobs_runs_steps_and_calls_of_models_become_spans_below_each_other() {
    let mut spans = spans();
    let records = [
        record(10, Some(JOB), start("job", "summary", None), |_| {}),
        record(11, Some(RUN), start("run", "summary", None), |_| {}),
        record(12, Some(STEP), start("step", "read[4]", Some(2)), in_step),
        record(13, Some(STEP), call("local", None), in_step),
        record(14, Some(STEP), end("step", "read[4]", "ok"), in_step),
        record(15, Some(RUN), end("run", "summary", "ok"), |_| {}),
        record(16, Some(JOB), end("job", "summary", "ok"), |_| {}),
    ];
    let ending: Vec<_> = records.iter().map(ends_a_span).collect();
    assert_eq!(ending, [false, false, false, true, true, true, true]);
    let made: Vec<Span> = records.iter().filter_map(|record| spans.read(record)).collect();

    let common = "handshake.job.id=JOB handshake.workflow=summary handshake.run.id=RUN";
    let step = format!("{common} handshake.step.id=read");
    let expected = [
        format!(
            "chat llama3.2, span_kind_client: {step} handshake.attempt=2 gen_ai.operation.name=chat \
             gen_ai.request.model=llama3.2 gen_ai.provider.name=openai handshake.model=local \
             gen_ai.usage.input_tokens=11 gen_ai.usage.output_tokens=7"
        ),
        format!("step read, span_kind_internal: {step} handshake.attempt=2 handshake.node=read[4] handshake.result=ok"),
        format!("run summary, span_kind_internal: {common} handshake.result=ok"),
        format!("job summary, span_kind_internal: {common} handshake.result=ok"),
    ];
    assert_eq!(made.iter().map(shown).collect::<Vec<_>>(), expected);

    let ids: Vec<_> = made.iter().map(|span| (span.span_id.clone(), span.parent_span_id.clone())).collect();
    let below = [(CALL, STEP), (STEP, RUN), (RUN, JOB)].map(|(span, parent)| (short(span), short(parent)));
    assert_eq!(ids[..3], below);
    assert_eq!(ids[3], (short(JOB), Vec::new()));
    assert!(made.iter().all(|span| span.trace_id == uuid(TRACE).as_bytes() && span.flags == SAMPLED));

    const SECOND: u64 = 1_000_000_000;
    let times: Vec<_> = made.iter().map(|span| (span.start_time_unix_nano, span.end_time_unix_nano)).collect();
    let call = (13 * SECOND - SECOND / 4, 13 * SECOND);
    assert_eq!(times, [call, (12 * SECOND, 14 * SECOND), (11 * SECOND, 15 * SECOND), (10 * SECOND, 16 * SECOND)]);
    assert!(spans.begun.is_empty() && spans.workflows.is_empty(), "what has ended is forgotten");
}

#[test]
fn span_ids_are_those_that_models_are_told() {
    let made = spans().read(&record(1, Some(STEP), end("step", "read", "ok"), in_step)).unwrap();
    let hex: String = made.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, SpanId::from_uuid(uuid(STEP)).w3c().unwrap());
    let hex: String = made.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, TraceId::from_uuid(uuid(TRACE)).w3c());
}

#[test]
fn a_beginning_that_was_not_seen_costs_attributes_and_not_the_span() {
    let made = spans().read(&record(10, Some(STEP), end("step", "read", "ok"), in_step)).unwrap();
    assert_eq!(
        shown(&made),
        "step read, span_kind_internal: handshake.job.id=JOB handshake.run.id=RUN handshake.step.id=read handshake.result=ok"
    );
    assert_eq!((made.start_time_unix_nano, made.end_time_unix_nano), (8_500_000_000, 10_000_000_000));
}

#[test]
fn failures_have_their_label_as_status_and_nothing_else() {
    for (result, expected) in [
        ("ok", None),
        ("cancelled", None),
        ("failed", Some("failed")),
        ("denied", Some("denied")),
        ("interrupted", Some("interrupted")),
    ] {
        let made = spans().read(&record(10, Some(STEP), end("step", "read", result), in_step)).unwrap();
        let status = made.status.as_ref().map(|status| (status.code, status.message.as_str()));
        assert_eq!(status, expected.map(|label| (StatusCode::Error.into(), label)), "{result}");
        assert_eq!(shown(&made).contains(&format!("error.type={result}")), expected.is_some());
    }
}

#[test]
fn calls_of_models_say_what_is_known_of_them() {
    let embeds = |event: &mut Event| event.capability_id = Some("model.embed".into());
    let outside = |event: &mut Event| {
        (event.job_id, event.workflow_run_id, event.activity_span_id) = (None, None, None);
    };
    for (record, expected) in [
        (
            record(1, Some(STEP), call("local", None), embeds),
            "embeddings llama3.2, span_kind_client: handshake.job.id=JOB handshake.run.id=RUN \
             gen_ai.operation.name=embeddings gen_ai.request.model=llama3.2 gen_ai.provider.name=openai \
             handshake.model=local gen_ai.usage.input_tokens=11 gen_ai.usage.output_tokens=7",
        ),
        (
            record(1, None, call("default", None), outside),
            "chat extractive-1, span_kind_internal: gen_ai.operation.name=chat gen_ai.request.model=extractive-1 \
             gen_ai.provider.name=builtin/extractive handshake.model=default gen_ai.usage.input_tokens=11 \
             gen_ai.usage.output_tokens=7",
        ),
        (
            record(1, None, call("other", Some("unknown-model")), outside),
            "chat other, span_kind_internal 2:unknown-model: gen_ai.operation.name=chat gen_ai.request.model=other \
             handshake.model=other error.type=unknown-model",
        ),
    ] {
        assert_eq!(shown(&spans().read(&record).unwrap()), expected);
    }
}

#[test]
fn other_events_and_ids_that_are_not_allowed_make_no_span() {
    let system = EventBody::System { kind: "host_started".into(), detail: r#""event_type":"span_end""#.into() };
    assert!(spans().read(&record(1, None, system, |_| {})).is_none());
    let nil = |event: &mut Event| event.activity_span_id = Some(SpanId::from_uuid(Uuid::nil()));
    assert!(spans().read(&record(1, None, end("step", "read", "ok"), nil)).is_none());
}

#[test]
fn spans_that_never_end_are_forgotten_from_the_oldest_on() {
    let mut map = BTreeMap::new();
    (0..=MOST_REMEMBERED).for_each(|key| remember(&mut map, key, ()));
    assert_eq!((map.len(), map.contains_key(&0), map.contains_key(&1)), (MOST_REMEMBERED, false, true));
}
