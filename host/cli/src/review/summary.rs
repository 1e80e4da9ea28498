//! An event in a few words.

use handshake_core::Timestamp;
use handshake_recorder::RecordedEvent;
use serde_json::Value;

use crate::output::ALERT;

/// When it was recorded, to the second.
pub(crate) fn second(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(second, _)| format!("{second}Z"))
}

/// Time, actor, type, step, and what it says.
pub(crate) fn row(recorded: &RecordedEvent) -> Vec<String> {
    let event = &recorded.event;
    vec![
        second(recorded.recorded_at),
        text(&event["actor"]["id"]),
        text(&event["event_type"]),
        text(&event["step_id"]),
        what(event),
    ]
}

/// The same on one line, for events that come one by one.
pub(crate) fn line(recorded: &RecordedEvent) -> String {
    let cells = row(recorded);
    cells.iter().filter(|cell| !cell.is_empty()).cloned().collect::<Vec<_>>().join("  ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What it says.
pub(crate) fn what(event: &Value) -> String {
    let payload = &event["payload"];
    let of = |name: &str| text(&payload[name]);
    let joined = |names: &[&str]| {
        let parts: Vec<String> = names.iter().map(|name| of(name)).filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    };
    match event["event_type"].as_str().unwrap_or_default() {
        "capability_action" => {
            let asked = format!("{} {}", of("capability_id"), of("resource"));
            match payload["decision_outcome"].as_str() {
                Some("deny") => format!("{ALERT} {} on {asked}", of("reason")),
                _ => format!("allow {asked}"),
            }
        }
        "capability_outcome" => joined(&["capability_id", "result"]),
        "llm_inference" => {
            let tokens = payload["token_usage"]["total_tokens"].as_u64().unwrap_or(0);
            format!("{} {tokens} tokens {}", of("model_id"), payload["error"].as_str().unwrap_or("ok"))
        }
        "security_violation" => format!("{ALERT} {}", joined(&["kind", "detail"])),
        "span_start" => joined(&["span", "name"]),
        "span_end" => joined(&["span", "name", "result"]),
        "job_transition" | "workflow_recovery" => match payload["from_state"].as_str() {
            Some(from) => format!("{from} to {}: {}", of("to_state"), of("reason")),
            None => format!("{}: {}", of("to_state"), of("reason")),
        },
        "content_mutation" => joined(&["action", "entity", "entity_id"]),
        "gc_summary" => format!("{} jobs, {} artifacts", payload["jobs"], payload["artifacts"]),
        "gap" => format!("{} to {}: {}", payload["first_seq"], payload["last_seq"], of("reason")),
        _ => joined(&[
            "kind",
            "severity",
            "code",
            "decision",
            "subject",
            "attempted",
            "editor_surface",
            "command",
            "scope",
            "redaction_mode",
            "capability_id",
            "resource",
            "outcome",
            "reason",
            "detail",
        ]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::testing::sample_events;

    use super::*;

    #[test]
    fn every_type_says_something() {
        for event in sample_events() {
            let kind = event.body.event_type();
            let event = serde_json::to_value(event).unwrap();
            // Hashes alone say nothing to a person.
            assert!(kind == "policy_change" || !what(&event).is_empty(), "{kind}");
        }
    }

    #[test]
    fn a_transition_and_a_denial_read_like_sentences() {
        let said = |kind: &str| {
            let event = sample_events().into_iter().find(|event| event.body.event_type() == kind).unwrap();
            what(&serde_json::to_value(event).unwrap())
        };
        assert_eq!(said("job_transition"), "queued to running: it is executed");
        assert_eq!(said("capability_action"), "✗ operator-denied on fs.read in/a.md");
        assert_eq!(said("llm_inference"), "default 3 tokens HSK-500-LLM");
    }
}
