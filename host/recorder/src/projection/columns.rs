//! One row per record: what queries filter by, taken out of the canonical JSON, which stays beside it whole.

use std::str::FromStr;

use duckdb::{Appender, ToSql};
use handshake_core::chain::StampedEvent;
use handshake_core::event::ActorKind;
use handshake_core::{EventId, Timestamp};
use serde_json::Value;

use super::fields::{Event, Field, Fields, Record};

/// Appends one record. Reads leniently: a field that is missing or of another type leaves its column empty,
/// since a record that is part of the chain must be visible whatever it says.
pub(crate) fn append(appender: &mut Appender<'_>, stamped: &StampedEvent) -> Result<(), duckdb::Error> {
    // The chain was verified before, so this is a JSON object.
    let record: Record<'_> = serde_json::from_str(&stamped.record).unwrap_or_default();
    let Fields(event) = &record.event;
    let (Fields(actor), Fields(payload)) = (&event.actor, &event.payload);

    let plugin = match (actor.kind.text(), actor.id.text()) {
        (Some(kind), Some(id)) if kind == ActorKind::Agent.as_str() => Some(id.split('@').next().unwrap_or(id)),
        _ => None,
    };
    let row: [&dyn ToSql; 33] = [
        &stamped.host.to_string(),
        &signed(stamped.seq),
        &stamped.recorded_at.micros(),
        &stamped.hash.to_string(),
        &stamped.event_id.to_string(),
        &id(&event.trace_id),
        &event.timestamp.text().and_then(Timestamp::parse).map(Timestamp::micros),
        &actor.kind.text(),
        &actor.id.text(),
        &plugin,
        &event.event_type.text(),
        &id(&event.job_id),
        &id(&event.run_id),
        &event.step_id.text(),
        &event.model_id.text(),
        &id(&event.activity_span_id),
        &id(&event.session_span_id),
        &event.capability_id.text(),
        &id(&event.policy_decision_id),
        &payload.decision_outcome.text(),
        &payload.reason.text(),
        &payload.layer.text(),
        &payload.would_deny.flag(),
        &payload.interface.text(),
        &payload.function.text(),
        &payload.resource.text(),
        &payload.attempt.number(),
        &payload.call.number(),
        &payload.result.text().or_else(|| payload.error.text()),
        &payload.duration_us.number(),
        &surface(event),
        &workspaces(&event.wsids),
        &stamped.record,
    ];
    appender.append_row(row.as_slice())
}

/// What is no UUID cannot be in a column of them.
fn id<'f>(field: &'f Field<'_>) -> Option<&'f str> {
    field.text().filter(|text| EventId::from_str(text).is_ok())
}

/// Where an event comes from: the editor of an edit, `terminal`, else `cli` for people, `plugin`, or `host`.
fn surface<'e>(event: &'e Event<'_>) -> Option<&'e str> {
    match (event.event_type.text(), event.actor.0.kind.text()) {
        (Some("editor_edit"), _) => event.payload.0.editor_surface.text(),
        (Some("terminal_command"), _) => Some("terminal"),
        (_, Some("human")) => Some("cli"),
        (_, Some("agent")) => Some("plugin"),
        (_, Some("system")) => Some("host"),
        _ => None,
    }
}

/// Workspaces as one text: each as a JSON string, on a line of its own. A line break within a name is escaped, so
/// that [`workspace`] finds whole names alone.
fn workspaces(ids: &Field<'_>) -> Option<String> {
    let names: Vec<String> = ids.list()?.iter().filter_map(|id| Some(workspace(id.text()?))).collect();
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
