//! Admission: validation, redaction, and the form in which events are stored.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::capability::SourceRef;
use crate::testing::{NoRedaction, SequentialIds, sample_events};
use crate::{EventId, JobId, RunId, SpanId, StepId, Timestamp, TraceId};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn event(body: EventBody) -> Event {
    let ids = SequentialIds::default();
    let mut event = Event::new(EventId::fresh(&ids), TraceId::fresh(&ids), NOW, Actor::system(), body);
    event.step_id = Some(StepId::new("read").unwrap());
    event.wsids = vec!["w1".into()];
    event
}

fn note(detail: &str) -> Event {
    event(EventBody::System { kind: "note".into(), detail: detail.into() })
}

fn sample(kind: EventType) -> Event {
    sample_events().into_iter().find(|event| event.body.kind() == kind).unwrap()
}

fn admitted(event: &Event) -> AdmittedEvent {
    AdmittedEvent::admit(event, &NoRedaction, NOW).unwrap()
}

/// The event as it is stored.
fn stored(event: &Event) -> StoredEvent {
    serde_json::from_str(admitted(event).json()).unwrap()
}

fn refusal(event: &Event) -> String {
    AdmittedEvent::admit(event, &NoRedaction, NOW).unwrap_err().to_string()
}

fn notes(notes: &[FieldNote]) -> Vec<String> {
    notes.iter().map(|note| format!("{} {}", note.field, note.rule)).collect()
}

#[test]
fn every_type_survives_storing() {
    let events = sample_events();
    assert_eq!(events.iter().map(|event| event.body.kind()).collect::<Vec<_>>(), EventType::ALL);
    for event in events {
        let admitted = admitted(&event);
        let back: StoredEvent = serde_json::from_str(admitted.json()).unwrap();
        assert_eq!(back.event, event);
        assert!(back.redactions.is_empty() && back.normalised.is_empty());
        let value: Value = serde_json::from_str(admitted.json()).unwrap();
        assert_eq!(value["event_type"], event.body.event_type());
        assert_eq!(admitted.event_id(), event.event_id);
        assert_eq!(serde_jcs::to_string(&value).unwrap(), admitted.json(), "stored events are canonical JSON");
    }
}

#[test]
fn types_have_the_numbers_that_documents_use() {
    assert_eq!(EventType::TerminalCommand.alias(), "FR-EVT-001");
    assert_eq!(EventType::CapabilityAction.alias(), "FR-EVT-007");
    assert_eq!(EventType::Gap.alias(), "FR-EVT-021");
}

#[test]
fn nil_ids_are_refused_wherever_they_stand() {
    type Spoil = fn(&mut Event);
    let nil = || Uuid::nil();
    let envelope: [(Spoil, &str); 7] = [
        (|event| event.event_id = EventId::from_uuid(Uuid::nil()), "event_id is nil"),
        (|event| event.trace_id = TraceId::from_uuid(Uuid::nil()), "trace_id is nil"),
        (|event| event.job_id = Some(JobId::from_uuid(Uuid::nil())), "job_id is nil"),
        (|event| event.workflow_run_id = Some(RunId::from_uuid(Uuid::nil())), "workflow_run_id is nil"),
        (|event| event.activity_span_id = Some(SpanId::from_uuid(Uuid::nil())), "activity_span_id is nil"),
        (|event| event.policy_decision_id = Some(EventId::from_uuid(Uuid::nil())), "policy_decision_id is nil"),
        (|event| event.wsids.push(Uuid::nil().to_string()), "a workspace id is empty or nil"),
    ];
    for (spoil, problem) in envelope {
        let mut event = note("x");
        spoil(&mut event);
        assert_eq!(refusal(&event), format!("HSK-400-INVALID-EVENT: system: {problem}"));
    }
    // Of each type every id in its payload, one after the other.
    let mut found = 0;
    for event in sample_events() {
        let value = serde_json::to_value(&event).unwrap();
        let names: Vec<String> = value["payload"].as_object().unwrap().keys().cloned().collect();
        for name in names {
            let mut value = value.clone();
            let field = &mut value["payload"][&name];
            // The id of an entity is the name that its store gives it, not one of ours.
            if name == "entity_id" || field.as_str().is_none_or(|text| Uuid::parse_str(text).is_err()) {
                continue;
            }
            *field = json!(nil());
            let spoiled: Event = serde_json::from_value(value).unwrap();
            let said = refusal(&spoiled);
            assert!(said.contains(&name) || said.contains("envelope"), "{name}: {said}");
            found += 1;
        }
    }
    assert!(found >= 12, "{found}");
}

#[test]
fn each_type_has_the_actors_that_can_cause_it() {
    let kinds = [ActorKind::Human, ActorKind::Agent, ActorKind::System];
    let allowed = |kind: EventType| {
        let admits = |actor: &ActorKind| {
            let mut event = sample(kind);
            event.actor.kind = *actor;
            AdmittedEvent::admit(&event, &NoRedaction, NOW).is_ok()
        };
        kinds.into_iter().filter(admits).map(ActorKind::as_str).collect::<Vec<_>>().join(" ")
    };
    for kind in EventType::ALL {
        let expected = match kind {
            EventType::CapabilityAction
            | EventType::CapabilityOutcome
            | EventType::LlmInference
            | EventType::TerminalCommand
            | EventType::EditorEdit => "human agent",
            EventType::GcSummary | EventType::PolicyChange => "human system",
            EventType::WorkflowRecovery | EventType::Gap => "system",
            EventType::SignOff => "human",
            _ => "human agent system",
        };
        assert_eq!(allowed(*kind), expected, "{kind}");
    }
    let mut nameless = note("x");
    nameless.actor.id.clear();
    assert_eq!(refusal(&nameless), "HSK-400-INVALID-EVENT: system: actor id is empty");
}

#[test]
fn what_is_said_twice_must_be_the_same() {
    type Spoil = fn(&mut Event);
    let cases: [(EventType, Spoil, &str); 11] = [
        (EventType::CapabilityAction, |event| event.capability_id = None, "capability_id is not the envelope's"),
        (EventType::CapabilityAction, |event| event.actor.id.push('x'), "actor_id is not the envelope's"),
        (EventType::CapabilityAction, |event| event.job_id = None, "job_id is not the envelope's"),
        (EventType::CapabilityOutcome, |event| event.capability_id = None, "capability_id is not the envelope's"),
        (EventType::CapabilityOutcome, |event| event.policy_decision_id = None, "decision is not the envelope's"),
        (
            EventType::LlmInference,
            |event| event.trace_id = TraceId::from_uuid(Uuid::max()),
            "trace_id is not the envelope's",
        ),
        (EventType::LlmInference, |event| event.model_id = None, "model_id is not the envelope's"),
        (EventType::WorkflowRecovery, |event| event.workflow_run_id = None, "workflow_run_id is not the envelope's"),
        (
            EventType::ContentMutation,
            |event| event.event_id = EventId::from_uuid(Uuid::max()),
            "edit_event_id is not the envelope's event_id",
        ),
        (EventType::ContentMutation, |event| event.actor.id.push('x'), "last_actor_id is not the envelope's"),
        (EventType::ContentMutation, |event| event.job_id = None, "last_job_id is not the envelope's"),
    ];
    for (kind, spoil, problem) in cases {
        let mut event = sample(kind);
        spoil(&mut event);
        assert_eq!(refusal(&event), format!("HSK-400-INVALID-EVENT: {kind}: {problem}"));
    }
}

#[test]
fn a_denial_has_a_reason_and_a_gap_is_not_empty() {
    let mut event = sample(EventType::CapabilityAction);
    let EventBody::CapabilityAction(record) = &mut event.body else { panic!() };
    record.decision_outcome = Outcome::Allow;
    assert!(refusal(&event).contains("a denial has a reason, and only a denial has"));
    for (first, last) in [(0, 5), (6, 5)] {
        let mut event = sample(EventType::Gap);
        let EventBody::Gap(gap) = &mut event.body else { panic!() };
        (gap.first_seq, gap.last_seq) = (first, last);
        assert!(refusal(&event).contains("a gap begins at 1"), "{first}..{last}");
    }
}

#[test]
fn long_strings_are_cut_visibly_and_never_refused() {
    let mut event = sample(EventType::CapabilityAction);
    let EventBody::CapabilityAction(record) = &mut event.body else { panic!() };
    record.resource = "ä".repeat(1 << 19);
    let stored = stored(&event);
    let EventBody::CapabilityAction(record) = &stored.event.body else { panic!() };
    let expected = format!("{}…[truncated {} bytes]", "ä".repeat(32 << 10), (1 << 20) - (64 << 10));
    assert!(record.resource == expected, "{} bytes", record.resource.len());
    assert_eq!(notes(&stored.normalised), ["payload.resource truncated"]);

    let just = "x".repeat(64 << 10);
    assert_eq!(self::stored(&note(&just)).normalised, []);
}

#[test]
fn an_event_is_bounded_as_a_whole_whatever_its_parts_are() {
    let mut event = sample(EventType::CapabilityAction);
    let EventBody::CapabilityAction(record) = &mut event.body else { panic!() };
    let long = "\u{1}".repeat(60_000);
    (record.resource, record.interface, record.function) = (long.clone(), long.clone(), long.clone());
    record.host_path = Some(long.clone());
    event.wsids = vec![long; 3000];
    let admitted = admitted(&event);
    assert!(admitted.json().len() <= (256 << 10) + 64 * 100, "{}", admitted.json().len());
    let stored: StoredEvent = serde_json::from_str(admitted.json()).unwrap();
    assert!(stored.event.wsids.len() < 3000);
    assert!(notes(&stored.normalised).contains(&"wsids truncated".to_owned()));

    // A text that was cut twice says how much of it is gone altogether.
    let EventBody::CapabilityAction(record) = &stored.event.body else { panic!() };
    let (kept, mark) = record.resource.split_once('…').unwrap();
    assert_eq!(mark, format!("[truncated {} bytes]", 60_000 - kept.len()));
}

#[test]
fn a_secret_that_the_cut_would_split_is_gone_altogether() {
    for at in [(1 << 20) - 3, (64 << 10) - 3, 100] {
        let text = format!("{}hunter2{}", "x".repeat(at), "y".repeat(1 << 20));
        let admitted = AdmittedEvent::admit(&note(&text), &Finder, NOW).unwrap();
        assert!(!admitted.json().contains("xhu"), "{at}");
        assert!(admitted.json().len() < 70 << 10);
    }
}

#[test]
fn guests_cannot_flood_an_event_with_metrics() {
    let mut metrics: BTreeMap<String, f64> = (0..5000).map(|n| (format!("a{n}"), 1.0)).collect();
    metrics.insert("hsk.workflow.step_duration".into(), 2.0);
    metrics.insert("z".repeat(100_000), 3.0);
    let body =
        EventBody::SpanEnd { span: "step".into(), name: "n".into(), result: "ok".into(), duration_us: 1, metrics };
    let stored = stored(&event(body));
    let EventBody::SpanEnd { metrics, .. } = &stored.event.body else { panic!() };
    assert_eq!(metrics.len(), 256);
    assert!(metrics.contains_key("hsk.workflow.step_duration"));
    assert!(metrics.keys().all(|name| name.len() < 200));
    assert_eq!(notes(&stored.normalised), ["payload.metrics truncated"]);
}

#[test]
fn nuls_become_visible() {
    let stored = stored(&note("a\0b"));
    assert!(matches!(&stored.event.body, EventBody::System { detail, .. } if detail == "a\u{2400}b"));
    assert_eq!(notes(&stored.normalised), ["payload.detail nul"]);
}

#[test]
fn labels_have_their_form() {
    for (given, kept) in [
        ("ok", "ok"),
        ("HSK-500-LLM", "HSK-500-LLM"),
        ("not found\n", "not_found_"),
        ("", "unnamed"),
        (&"x".repeat(200), &"x".repeat(64)),
    ] {
        let body = EventBody::SecurityViolation { kind: given.into(), detail: "d".into() };
        let stored = stored(&event(body));
        assert!(matches!(&stored.event.body, EventBody::SecurityViolation { kind, .. } if kind == kept), "{given:?}");
        let expected: &[&str] = if given == kept { &[] } else { &["payload.kind label"] };
        assert_eq!(notes(&stored.normalised), expected, "{given:?}");
    }
}

#[test]
fn a_time_that_lies_ahead_or_cannot_be_written_is_that_of_recording() {
    let minute = std::time::Duration::from_secs(60);
    let cases = [
        (NOW.plus(minute * 5), true),
        (NOW.plus(minute * 5 + std::time::Duration::from_micros(1)), false),
        (Timestamp::from_micros(i64::MAX), false),
        (Timestamp::from_micros(i64::MIN), false),
        (Timestamp::from_micros(1), true),
    ];
    for (time, kept) in cases {
        let mut event = note("x");
        event.timestamp = time;
        let stored = stored(&event);
        assert_eq!(stored.event.timestamp, if kept { time } else { NOW }, "{time}");
        assert_eq!(notes(&stored.normalised), if kept { vec![] } else { vec!["timestamp time".to_owned()] }, "{time}");
    }
    let mut event = sample(EventType::WorkflowRecovery);
    let EventBody::WorkflowRecovery { last_heartbeat_ts, .. } = &mut event.body else { panic!() };
    *last_heartbeat_ts = Some(Timestamp::from_micros(i64::MIN));
    assert!(refusal(&event).contains("last_heartbeat_ts has no RFC 3339 form"));
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
        let error = AdmittedEvent::admit(&event, &NoRedaction, NOW).unwrap_err().to_string();
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
    let admitted = AdmittedEvent::admit(event, &Finder, NOW).unwrap();
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
    let mut decision = sample(EventType::CapabilityAction);
    let EventBody::CapabilityAction(record) = &mut decision.body else { panic!("no decision") };
    record.rule = Some(rule);
    let value = redacted(&decision);
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
    let value: Value =
        serde_json::from_str(AdmittedEvent::admit(&note("x"), &NoRedaction, NOW).unwrap().json()).unwrap();
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

#[test]
fn every_type_refuses_to_be_read_without_a_field_that_it_needs() {
    for event in sample_events() {
        let value: Value = serde_json::from_str(admitted(&event).json()).unwrap();
        let schema = serde_json::to_value(events_schema()).unwrap();
        let needed = required_of(&schema, event.body.event_type());
        assert!(!needed.is_empty(), "{}", event.body.event_type());
        for name in needed {
            let mut without = value.clone();
            without["payload"].as_object_mut().unwrap().remove(&name).unwrap();
            let read = serde_json::from_value::<Event>(without);
            assert!(read.is_err(), "{}: {name}", event.body.event_type());
        }
    }
}

/// The fields that the schema says the payload of a type must have.
fn required_of(schema: &Value, event_type: &str) -> Vec<String> {
    let body = schema["oneOf"].as_array().unwrap().iter();
    let body = body.map(|body| &body["properties"]).find(|body| body["event_type"]["const"] == event_type).unwrap();
    let payload = match body["payload"]["$ref"].as_str() {
        Some(path) => schema.pointer(path.trim_start_matches('#')).unwrap(),
        None => &body["payload"],
    };
    serde_json::from_value(payload["required"].clone()).unwrap()
}

#[test]
fn half_a_surrogate_pair_is_no_text() {
    let json = admitted(&note("MARK")).json().to_owned();
    for spoiled in [r"\ud800", r"\udc00x", r"\ud800\u0041"] {
        assert!(serde_json::from_str::<Event>(&json.replace("MARK", spoiled)).is_err(), "{spoiled}");
    }
    let mut bytes = json.replace("MARK", "M").into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'M').unwrap();
    bytes[at] = 0xff;
    assert!(serde_json::from_slice::<Event>(&bytes).is_err());
}

#[test]
fn fields_that_a_later_version_adds_are_passed_over() {
    for event in sample_events() {
        let mut value: Value = serde_json::from_str(admitted(&event).json()).unwrap();
        value["later"] = json!({ "a": [1] });
        value["actor"]["later"] = json!(1);
        value["payload"]["later"] = json!("x");
        assert_eq!(serde_json::from_value::<Event>(value).unwrap(), event);
    }
}

/// Says in which scope it was asked.
struct Scopes;

impl Redactor for Scopes {
    fn redact(&self, scope: RedactionScope, _: &str) -> Option<(String, Vec<&'static str>)> {
        Some((format!("{scope:?}"), vec!["one", "two"]))
    }
}

#[test]
fn each_field_is_looked_at_in_its_scope_and_unknown_ones_in_the_strictest() {
    let mut event = json!({
        "event_id": "kept", "timestamp": "kept",
        "actor": { "id": "plain" }, "model_id": "plain", "wsids": ["plain"],
        "payload": {
            "resource": "plain", "host_path": "plain", "rule": { "file": "plain", "line": 1 }, "actor_id": "plain",
            "detail": "plain", "new": { "resource": "plain", "list": [["plain"]] }
        }
    });
    let mut changes = normal::Changes::default();
    normal::clean(event.as_object_mut().unwrap(), &[], &Scopes, &mut changes);
    assert_eq!(
        event,
        json!({
            "event_id": "kept", "timestamp": "kept",
            "actor": { "id": "Identity" }, "model_id": "Text", "wsids": ["Identity"],
            "payload": {
                "resource": "Text", "host_path": "Identity", "rule": { "file": "Identity", "line": 1 },
                "actor_id": "Identity",
                "detail": "Metadata", "new": { "resource": "Metadata", "list": [["Metadata"]] }
            }
        })
    );
}

#[test]
fn the_list_of_redactions_has_an_end() {
    let mut crowd = note("x");
    crowd.wsids = vec!["x".to_owned(); 100];
    let admitted = AdmittedEvent::admit(&crowd, &Scopes, NOW).unwrap();
    let stored: Value = serde_json::from_str(admitted.json()).unwrap();
    assert_eq!(stored["redactions"].as_array().unwrap().len(), 64);
    // 100 workspaces, the step, the actor, its kind and the two texts of a note, two rules each.
    assert_eq!(stored["redactions_omitted"], 2 * 105 - 64);
}
