//! Events as CSV (RFC 4180) for spreadsheets: no cell can become a formula, and no character drives a terminal.

use handshake_core::terminal::escape;
use handshake_recorder::RecordedEvent;
use serde_json::Value;

/// The columns, in order; later versions add some at the end.
const COLUMNS: [&str; 18] = [
    "recorded_at",
    "host",
    "seq",
    "hash",
    "event_id",
    "event_type",
    "timestamp",
    "actor_kind",
    "actor_id",
    "trace_id",
    "job_id",
    "workflow_run_id",
    "step_id",
    "capability_id",
    "decision_outcome",
    "reason",
    "resource",
    "payload",
];

/// The first line.
pub(super) fn header() -> Result<String, csv::Error> {
    line(COLUMNS.map(str::to_owned))
}

/// The line of an event.
pub(super) fn row(recorded: &RecordedEvent) -> Result<String, csv::Error> {
    let event = &recorded.event;
    let payload = &event["payload"];
    line([
        recorded.recorded_at.to_string(),
        recorded.host.to_string(),
        recorded.seq.to_string(),
        recorded.hash.to_string(),
        text(&event["event_id"]),
        text(&event["event_type"]),
        text(&event["timestamp"]),
        text(&event["actor"]["kind"]),
        text(&event["actor"]["id"]),
        text(&event["trace_id"]),
        text(&event["job_id"]),
        text(&event["workflow_run_id"]),
        text(&event["step_id"]),
        text(&event["capability_id"]),
        text(&payload["decision_outcome"]),
        text(&payload["reason"]),
        text(&payload["resource"]),
        payload.to_string(),
    ])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn line(cells: [String; COLUMNS.len()]) -> Result<String, csv::Error> {
    record(cells.iter().map(|cell| harmless(cell)))
}

/// A line of these cells, as they are.
pub(super) fn record(cells: impl Iterator<Item = String>) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Spreadsheets take a cell for a formula that begins with one of these, some also behind spaces.
pub(super) fn harmless(cell: &str) -> String {
    let escaped = escape(cell, false);
    if escaped.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '|', '%']) {
        format!("'{escaped}")
    } else {
        escaped.into_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::testing::sample_events;
    use serde_json::json;

    use super::*;

    fn recorded(event: Value) -> RecordedEvent {
        serde_json::from_value(json!({
            "host": "0198f3a2-7c11-7000-8000-0123456789ab", "seq": 1, "recorded_at": "2026-01-01T10:11:12.345678Z",
            "hash": "0".repeat(64), "event": event
        }))
        .unwrap()
    }

    #[test]
    fn no_cell_is_a_formula_or_holds_a_control_character() {
        for hostile in
            ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " \r=1", "\u{1b}[31m", "a\"b,c\nd", "＝1", "=\"\u{202e}\""]
        {
            let event = json!({ "actor": { "kind": "agent", "id": hostile }, "payload": { "resource": hostile, "reason": hostile } });
            let line = row(&recorded(event)).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
            let cells = reader.records().next().unwrap().unwrap();
            assert_eq!(cells.len(), COLUMNS.len());
            for cell in &cells {
                assert!(!cell.trim_start().starts_with(['=', '+', '-', '@', '＝']), "{cell:?}");
                assert!(!cell.chars().any(char::is_control), "{cell:?}");
            }
        }
    }

    #[test]
    fn every_type_has_as_many_cells_as_there_are_columns() {
        let mut text = header().unwrap();
        for event in sample_events() {
            text.push_str(&row(&recorded(serde_json::to_value(event).unwrap())).unwrap());
        }
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap().len(), 18);
        assert_eq!(reader.records().filter(Result::is_ok).count(), 21);
    }
}
