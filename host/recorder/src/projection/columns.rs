//! One row per record: what queries filter by, taken out of the canonical JSON, which stays beside it whole.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use duckdb::arrow::array::{
    ArrayRef, BooleanBuilder, FixedSizeBinaryBuilder, Int64Builder, RecordBatch, StringBuilder,
};
use duckdb::arrow::datatypes::{DataType, Field as Described, Schema};
use duckdb::arrow::error::ArrowError;
use duckdb::types::ValueRef;
use duckdb::{Appender, Row};
use handshake_core::Timestamp;
use handshake_core::chain::StampedEvent;
use handshake_core::event::ActorKind;
use serde_json::Value;
use uuid::Uuid;

use super::fields::{Event, Field, Fields, Record};

/// Columns of the table of events.
const COLUMNS: usize = 33;
/// Bytes of an id.
const UUID_BYTES: i32 = 16;

/// What one column holds.
#[derive(Debug)]
enum Cell<'r> {
    Text(Option<Cow<'r, str>>),
    Number(Option<i64>),
    Flag(Option<bool>),
    Id(Option<Uuid>),
}

impl<'r> Cell<'r> {
    fn text(text: Option<&'r str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }

    fn owned(text: impl ToString) -> Self {
        Self::Text(Some(Cow::Owned(text.to_string())))
    }

    /// An id. What is no UUID cannot be in a column of them.
    fn id(field: &'r Field<'_>) -> Self {
        Self::Id(field.text().and_then(|text| Uuid::from_str(text).ok()))
    }

    fn is(&self, found: ValueRef<'_>) -> bool {
        match (self, found) {
            (Self::Text(None) | Self::Number(None) | Self::Flag(None) | Self::Id(None), ValueRef::Null) => true,
            (Self::Text(Some(text)), ValueRef::Text(found)) => text.as_bytes() == found,
            (Self::Number(Some(number)), ValueRef::BigInt(found)) => *number == found,
            (Self::Flag(Some(flag)), ValueRef::Boolean(found)) => *flag == found,
            (Self::Id(Some(id)), ValueRef::Text(found)) => {
                id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes() == found
            }
            _ => false,
        }
    }
}

/// One column of some records.
enum Column {
    Text(StringBuilder),
    Number(Int64Builder),
    Flag(BooleanBuilder),
    Id(FixedSizeBinaryBuilder),
}

impl Column {
    /// An empty one for cells like this.
    fn like(cell: &Cell<'_>) -> Self {
        match cell {
            Cell::Text(_) => Self::Text(StringBuilder::new()),
            Cell::Number(_) => Self::Number(Int64Builder::new()),
            Cell::Flag(_) => Self::Flag(BooleanBuilder::new()),
            Cell::Id(_) => Self::Id(FixedSizeBinaryBuilder::new(UUID_BYTES)),
        }
    }

    fn push(&mut self, cell: &Cell<'_>) -> Result<(), ArrowError> {
        match (self, cell) {
            (Self::Text(column), Cell::Text(text)) => column.append_option(text.as_deref()),
            (Self::Number(column), Cell::Number(number)) => column.append_option(*number),
            (Self::Flag(column), Cell::Flag(flag)) => column.append_option(*flag),
            (Self::Id(column), Cell::Id(Some(id))) => column.append_value(id.as_bytes())?,
            (Self::Id(column), Cell::Id(None)) => column.append_null(),
            _ => return Err(ArrowError::SchemaError("a column has two types".to_owned())),
        }
        Ok(())
    }

    fn finish(self) -> (Described, ArrayRef) {
        let described = |kind| Described::new("", kind, true);
        match self {
            Self::Text(mut column) => (described(DataType::Utf8), Arc::new(column.finish())),
            Self::Number(mut column) => (described(DataType::Int64), Arc::new(column.finish())),
            Self::Flag(mut column) => (described(DataType::Boolean), Arc::new(column.finish())),
            Self::Id(mut column) => {
                let uuid = [("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())];
                let described = described(DataType::FixedSizeBinary(UUID_BYTES)).with_metadata(uuid.into());
                (described, Arc::new(column.finish()))
            }
        }
    }
}

/// Appends records, column by column: value by value DuckDB needs three times as long.
pub(crate) fn append(appender: &mut Appender<'_>, records: &[StampedEvent]) -> Result<(), duckdb::Error> {
    match batch(records)? {
        Some(batch) => appender.append_record_batch(batch),
        None => Ok(()),
    }
}

/// The columns of records; none when there are none.
pub(super) fn batch(records: &[StampedEvent]) -> Result<Option<RecordBatch>, duckdb::Error> {
    arrow(records).map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))
}

fn arrow(records: &[StampedEvent]) -> Result<Option<RecordBatch>, ArrowError> {
    let mut columns: Vec<Column> = Vec::new();
    for record in records {
        with_cells(record, |cells| {
            if columns.is_empty() {
                columns = cells.iter().map(Column::like).collect();
            }
            columns.iter_mut().zip(cells).try_for_each(|(column, cell)| column.push(cell))
        })?;
    }
    if columns.is_empty() {
        return Ok(None);
    }
    let (described, columns): (Vec<_>, Vec<_>) = columns.into_iter().map(Column::finish).unzip();
    RecordBatch::try_new(Arc::new(Schema::new(described)), columns).map(Some)
}

/// Whether a row, which holds all columns behind the first `skipped`, says what the record says.
pub(super) fn same(row: &Row<'_>, skipped: usize, stamped: &StampedEvent) -> Result<bool, duckdb::Error> {
    if row.as_ref().column_count() != skipped + COLUMNS {
        return Ok(false);
    }
    with_cells(stamped, |cells| {
        for (at, cell) in cells.iter().enumerate() {
            if !cell.is(row.get_ref(skipped + at)?) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// The columns of one record. Reads leniently: a field that is missing or of another type leaves its column empty,
/// since a record that is part of the chain must be visible whatever it says.
fn with_cells<T>(stamped: &StampedEvent, work: impl FnOnce(&[Cell<'_>; COLUMNS]) -> T) -> T {
    // The chain was verified before, so this is a JSON object.
    let record: Record<'_> = serde_json::from_str(&stamped.record).unwrap_or_default();
    let Fields(event) = &record.event;
    let (Fields(actor), Fields(payload)) = (&event.actor, &event.payload);

    let plugin = match (actor.kind.text(), actor.id.text()) {
        (Some(kind), Some(id)) if kind == ActorKind::Agent.as_str() => Some(id.split('@').next().unwrap_or(id)),
        _ => None,
    };
    work(&[
        Cell::owned(stamped.host),
        Cell::Number(Some(signed(stamped.seq))),
        Cell::Number(Some(stamped.recorded_at.micros())),
        Cell::owned(stamped.hash),
        Cell::Id(Some(stamped.event_id.uuid())),
        Cell::id(&event.trace_id),
        Cell::Number(event.timestamp.text().and_then(Timestamp::parse).map(Timestamp::micros)),
        Cell::text(actor.kind.text()),
        Cell::text(actor.id.text()),
        Cell::text(plugin),
        Cell::text(event.event_type.text()),
        Cell::id(&event.job_id),
        Cell::id(&event.run_id),
        Cell::text(event.step_id.text()),
        Cell::text(event.model_id.text()),
        Cell::id(&event.activity_span_id),
        Cell::id(&event.session_span_id),
        Cell::text(event.capability_id.text()),
        Cell::id(&event.policy_decision_id),
        Cell::text(payload.decision_outcome.text()),
        Cell::text(payload.reason.text()),
        Cell::text(payload.layer.text()),
        Cell::Flag(payload.would_deny.flag()),
        Cell::text(payload.interface.text()),
        Cell::text(payload.function.text()),
        Cell::text(payload.resource.text()),
        Cell::Number(payload.attempt.number()),
        Cell::Number(payload.call.number()),
        Cell::text(payload.result.text().or_else(|| payload.error.text())),
        Cell::Number(payload.duration_us.number()),
        Cell::text(surface(event)),
        Cell::Text(workspaces(&event.wsids).map(Cow::Owned)),
        Cell::text(Some(&stamped.record)),
    ])
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
