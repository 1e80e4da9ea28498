//! Admission: validation, redaction, and the form in which events are stored.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::Ids;
use crate::edit::EditorKind;
use crate::testing::{NoRedaction, SequentialIds};

fn event(body: EventBody) -> Event {
    let ids = SequentialIds::default();
    let mut event = Event::new(
        EventId::fresh(&ids),
        TraceId::fresh(&ids),
        Timestamp::from_micros(1_767_225_600_000_001),
        Actor::system(),
        body,
    );
    event.step_id = Some(StepId::new("read").unwrap());
    event.wsids = vec!["w1".into()];
    event
}

fn note(detail: &str) -> Event {
    event(EventBody::System { kind: "note".into(), detail: detail.into() })
}

fn every_body() -> Vec<EventBody> {
    let ids = SequentialIds::default();
    let decision = DecisionRecord {
        capability_id: "fs.read".into(),
        actor_id: "read-folder@0.1.0".into(),
        job_id: None,
        decision_outcome: Outcome::Deny,
        index: Some(0),
        attempt: 1,
        call: 7,
        component_sha256: Some(Digest::of(b"c")),
        interface: "wasi:filesystem/types@0.2.6".into(),
        function: "open-at".into(),
        resource: "in/a.md".into(),
        host_path: Some("/srv/in".into()),
        reason: Some(DenialLabel::OperatorDenied),
        layer: Layer::Policy,
        rule: Some(SourceRef { file: "policy.toml".into(), line: 3 }),
        mode: Mode::Enforce,
        would_deny: false,
        policy_sha256: Digest::of(b"p"),
        manifest_sha256: Digest::of(b"m"),
        arguments_sha256: Digest::of(b"a"),
        evaluation_ns: 480,
    };
    vec![
        EventBody::CapabilityAction(Box::new(decision)),
        EventBody::CapabilityOutcome(OutcomeRecord {
            decision: EventId::from_uuid(ids.uuid()),
            capability_id: "fs.read".into(),
            call: 7,
            result: "ok".into(),
            bytes_in: 1 << 40,
            bytes_out: 0,
            duration_us: 12,
        }),
        EventBody::LlmInference {
            trace_id: TraceId::fresh(&ids),
            model_id: "default".into(),
            token_usage: TokenUsage { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
            latency_ms: 5,
            prompt_hash: Digest::of(b"prompt"),
            response_hash: None,
            error: Some("HSK-500-LLM".into()),
        },
        EventBody::WorkflowRecovery {
            workflow_run_id: RunId::from_uuid(ids.uuid()),
            from_state: RunState::Running,
            to_state: RunState::Stalled,
            reason: "the host went away".into(),
            last_heartbeat_ts: Some(Timestamp::from_micros(-1)),
            threshold_secs: 30,
        },
        EventBody::SecurityViolation { kind: "escape".into(), detail: "a path led out".into() },
        EventBody::System { kind: "host_started".into(), detail: "0.1.0".into() },
        EventBody::SpanStart { span: "step".into(), name: "read".into(), attempt: Some(1) },
        EventBody::SpanEnd {
            span: "step".into(),
            name: "read".into(),
            result: "ok".into(),
            duration_us: 9,
            metrics: BTreeMap::from([("documents".into(), 3.0), ("ratio".into(), 0.25)]),
        },
        EventBody::JobTransition { from_state: None, to_state: JobState::Queued, reason: "submitted".into() },
        EventBody::ContentMutation(MutationRecord {
            entity: ContentKind::CanvasNode,
            entity_id: ids.uuid().to_string(),
            action: EditAction::Update,
            edit: EditMetadata {
                last_actor_kind: EditorKind::Ai,
                last_actor_id: "summarize@0.1.0".into(),
                last_job_id: Some(JobId::fresh(&ids)),
                last_workflow_id: Some(RunId::fresh(&ids)),
                edit_event_id: EventId::fresh(&ids),
            },
            previous: Some(EventId::fresh(&ids)),
        }),
    ]
}

#[test]
fn every_kind_of_event_survives_storing() {
    for body in every_body() {
        let event = event(body);
        let admitted = AdmittedEvent::admit(&event, &NoRedaction).unwrap();
        let back: Event = serde_json::from_str(admitted.json()).unwrap();
        assert_eq!(back, event);
        let value: Value = serde_json::from_str(admitted.json()).unwrap();
        assert_eq!(value["event_type"], event.body.event_type());
        assert_eq!(admitted.event_id(), event.event_id);
        assert_eq!(serde_jcs::to_string(&value).unwrap(), admitted.json(), "stored events are canonical JSON");
    }
}

#[test]
fn nil_ids_and_nameless_actors_are_refused() {
    let nil = uuid::Uuid::nil();
    type Spoil = fn(&mut Event, uuid::Uuid);
    let cases: [(Spoil, &str); 3] = [
        (|event, nil| event.event_id = EventId::from_uuid(nil), "event_id is nil"),
        (|event, nil| event.trace_id = TraceId::from_uuid(nil), "trace_id is nil"),
        (|event, _| event.actor.id.clear(), "actor id is empty"),
    ];
    for (spoil, problem) in cases {
        let mut event = note("x");
        spoil(&mut event, nil);
        let error = AdmittedEvent::admit(&event, &NoRedaction).unwrap_err().to_string();
        assert_eq!(error, format!("HSK-400-INVALID-EVENT: system: {problem}"));
    }
}

#[test]
fn a_number_that_json_cannot_hold_is_refused_rather_than_stored_as_something_else() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let event = event(EventBody::SpanEnd {
            span: "step".into(),
            name: "read".into(),
            result: "ok".into(),
            duration_us: 1,
            metrics: BTreeMap::from([("m".into(), bad)]),
        });
        let error = AdmittedEvent::admit(&event, &NoRedaction).unwrap_err().to_string();
        assert!(error.starts_with("HSK-400-INVALID-EVENT: span_end"), "{error}");
    }
}

/// Replaces `hunter2` and, under another rule, `mail`.
struct Finder;

impl Redactor for Finder {
    fn redact(&self, _: RedactionScope, text: &str) -> Option<(String, Vec<&'static str>)> {
        let rules: Vec<_> = [("hunter2", "secret_password"), ("mail", "pii_email")]
            .into_iter()
            .filter(|(word, _)| text.contains(word))
            .collect();
        if rules.is_empty() {
            return None;
        }
        let clean = rules.iter().fold(text.to_owned(), |text, (word, _)| text.replace(word, "[REDACTED]"));
        Some((clean, rules.into_iter().map(|(_, rule)| rule).collect()))
    }
}

fn redacted(event: &Event) -> Value {
    let admitted = AdmittedEvent::admit(event, &Finder).unwrap();
    assert!(!admitted.json().contains("hunter2"), "{}", admitted.json());
    serde_json::from_str(admitted.json()).unwrap()
}

#[test]
fn secrets_are_replaced_wherever_they_stand_and_the_fields_are_listed() {
    let mut event = note("the password is hunter2, send mail");
    event.actor.id = "hunter2".into();
    event.model_id = Some("model-hunter2".into());
    event.wsids = vec!["w1".into(), "hunter2".into()];
    let value = redacted(&event);
    assert_eq!(value["payload"]["detail"], "the password is [REDACTED], send [REDACTED]");
    assert_eq!(value["actor"]["id"], "[REDACTED]");
    assert_eq!(
        value["redactions"],
        json!([
            { "field": "payload.detail", "rule": "secret_password" },
            { "field": "payload.detail", "rule": "pii_email" },
            { "field": "actor.id", "rule": "secret_password" },
            { "field": "model_id", "rule": "secret_password" },
            { "field": "wsids[1]", "rule": "secret_password" },
        ])
    );
}

#[test]
fn nested_payloads_and_the_names_that_guests_choose_are_redacted_too() {
    let rule = SourceRef { file: "hunter2.toml".into(), line: 1 };
    let Some(EventBody::CapabilityAction(mut record)) = every_body().into_iter().next() else { panic!("no decision") };
    record.rule = Some(rule);
    let value = redacted(&event(EventBody::CapabilityAction(record)));
    assert_eq!(value["payload"]["rule"]["file"], "[REDACTED].toml");

    let metrics = BTreeMap::from([("hunter2".into(), 1.0), ("fine".into(), 2.0)]);
    let body =
        EventBody::SpanEnd { span: "step".into(), name: "n".into(), result: "ok".into(), duration_us: 1, metrics };
    let value = redacted(&event(body));
    assert_eq!(value["payload"]["metrics"], json!({ "fine": 2, "[REDACTED]": 1 }));
    assert_eq!(value["redactions"], json!([{ "field": "payload.metrics", "rule": "secret_password" }]));
}

#[test]
fn an_event_without_secrets_carries_no_list_of_redactions() {
    let value = redacted(&note("nothing to see"));
    assert!(value.get("redactions").is_none());
}

#[test]
fn unknown_types_and_missing_or_wrong_fields_are_refused_on_reading() {
    let value: Value = serde_json::from_str(AdmittedEvent::admit(&note("x"), &NoRedaction).unwrap().json()).unwrap();
    let read = |value: &Value| serde_json::from_value::<Event>(value.clone());
    assert!(read(&value).is_ok());

    let spoiled = |pointer: &str, new: Value| {
        let mut value = value.clone();
        *value.pointer_mut(pointer).unwrap() = new;
        value
    };
    assert!(read(&spoiled("/event_type", json!("something_else"))).is_err());
    assert!(read(&spoiled("/payload", json!({ "kind": "note" }))).is_err());
    assert!(read(&spoiled("/payload/detail", json!(7))).is_err());
    assert!(read(&spoiled("/actor/kind", json!("robot"))).is_err());
    assert!(read(&spoiled("/timestamp", json!(0))).is_err());
    let mut without = value.clone();
    without.as_object_mut().unwrap().remove("trace_id");
    assert!(read(&without).is_err());
}
