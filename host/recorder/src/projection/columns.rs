//! One row per record: what queries filter by, taken out of the canonical JSON, which stays beside it whole.

use std::str::FromStr;

use duckdb::{Appender, ToSql};
use handshake_core::chain::StampedEvent;
use handshake_core::event::ActorKind;
use handshake_core::{EventId, Timestamp};
use serde_json::Value;

/// Appends one record. Reads leniently: a field that is missing or of another type leaves its column empty,
/// since a record that is part of the chain must be visible whatever it says.
pub(crate) fn append(appender: &mut Appender<'_>, stamped: &StampedEvent) -> Result<(), duckdb::Error> {
    // The chain was verified before, so this is a JSON object.
    let record: Value = serde_json::from_str(&stamped.record).unwrap_or_default();
    let event = &record["event"];
    let payload = &event["payload"];
    let text = |from: &Value, name: &str| from[name].as_str().map(str::to_owned);
    // What is no UUID cannot be in a column of them.
    let id = |from: &Value, name: &str| text(from, name).filter(|text| EventId::from_str(text).is_ok());
    let number = |name: &str| payload[name].as_i64();

    let actor_kind = text(&event["actor"], "kind");
    let actor_id = text(&event["actor"], "id");
    let plugin = match (&actor_kind, &actor_id) {
        (Some(kind), Some(id)) if kind == ActorKind::Agent.as_str() => {
            Some(id.split('@').next().unwrap_or(id).to_owned())
        }
        _ => None,
    };
    let row: [&dyn ToSql; 33] = [
        &stamped.host.to_string(),
        &signed(stamped.seq),
        &stamped.recorded_at.micros(),
        &stamped.hash.to_string(),
        &stamped.event_id.to_string(),
        &id(event, "trace_id"),
        &event["timestamp"].as_str().and_then(Timestamp::parse).map(Timestamp::micros),
        &actor_kind,
        &actor_id,
        &plugin,
        &text(event, "event_type"),
        &id(event, "job_id"),
        &id(event, "workflow_run_id"),
        &text(event, "step_id"),
        &text(event, "model_id"),
        &id(event, "activity_span_id"),
        &id(event, "session_span_id"),
        &text(event, "capability_id"),
        &id(event, "policy_decision_id"),
        &text(payload, "decision_outcome"),
        &text(payload, "reason"),
        &text(payload, "layer"),
        &payload["would_deny"].as_bool(),
        &text(payload, "interface"),
        &text(payload, "function"),
        &text(payload, "resource"),
        &number("attempt"),
        &number("call"),
        &text(payload, "result").or_else(|| text(payload, "error")),
        &number("duration_us"),
        &surface(event),
        &workspaces(&event["wsids"]),
        &stamped.record,
    ];
    appender.append_row(row.as_slice())
}

/// Where an event comes from: the editor of an edit, `terminal`, else `cli` for people, `plugin`, or `host`.
fn surface(event: &Value) -> Option<String> {
    let surface = match (event["event_type"].as_str(), event["actor"]["kind"].as_str()) {
        (Some("editor_edit"), _) => event["payload"]["editor_surface"].as_str()?,
        (Some("terminal_command"), _) => "terminal",
        (_, Some("human")) => "cli",
        (_, Some("agent")) => "plugin",
        (_, Some("system")) => "host",
        _ => return None,
    };
    Some(surface.to_owned())
}

/// Workspaces as one text: each as a JSON string, on a line of its own. A line break within a name is escaped, so
/// that [`workspace`] finds whole names alone.
fn workspaces(ids: &Value) -> Option<String> {
    let names: Vec<String> = ids.as_array()?.iter().filter(|id| id.is_string()).map(Value::to_string).collect();
    (!names.is_empty()).then(|| names.join("\n"))
}

/// What [`workspaces`] has for one of them.
pub(super) fn workspace(id: &str) -> String {
    Value::from(id).to_string()
}

/// DuckDB's BIGINT is signed; sequence numbers stay far below its end.
pub(crate) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
