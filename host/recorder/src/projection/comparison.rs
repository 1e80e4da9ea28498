//! Comparing rows of the DuckDB file with the records that they were made of.
//!
//! The records are made into rows anew, in a database in memory, and both are compared with all the columns that they
//! have; so a column that is added later is compared as well.

use std::collections::BTreeMap;

use duckdb::types::Value;
use duckdb::{Connection, params};
use handshake_core::chain::{ChainHead, StampedEvent};

use super::file::{FileError, ProjectionFile, classified, settings};
use super::{columns, schema};

/// How rows stand to records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Every record that is projected has its row.
    Same {
        /// How many were compared.
        compared: u64,
    },
    /// One does not.
    Different {
        /// Number of the first.
        seq: u64,
        /// In what.
        reason: String,
    },
}

fn connect(path: &std::path::Path) -> Result<Connection, duckdb::Error> {
    let mut connection = Connection::open_in_memory_with_flags(settings(path)?)?;
    connection.execute_batch("SET enable_external_access = false; SET lock_configuration = true")?;
    schema::migrate(&mut connection)?.ok();
    Ok(connection)
}

/// The values of a row's columns, in the order in which both tables were made.
type Values = Vec<Value>;

/// Rows by number; there may be more than one of a number.
fn rows(connection: &Connection, host: &str, from: u64, to: u64) -> Result<BTreeMap<u64, Vec<Values>>, duckdb::Error> {
    let sql = "SELECT seq, events.* FROM events WHERE host = ? AND seq >= ? AND seq <= ?";
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query(params![host, columns::signed(from), columns::signed(to)])?;
    let mut rows = BTreeMap::<u64, Vec<Values>>::new();
    while let Some(row) = found.next()? {
        let seq = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        let columns = row.as_ref().column_count();
        let values = (1..columns).map(|at| row.get::<_, Value>(at)).collect::<Result<_, _>>()?;
        rows.entry(seq).or_default().push(values);
    }
    Ok(rows)
}

impl ProjectionFile {
    /// Compares records, which follow one another, with their rows. Records that retention has dropped, or that are
    /// still to be projected, have none and need none.
    pub(super) fn compare(&mut self, records: &[StampedEvent]) -> Result<Rows, FileError> {
        let first = self.first()?;
        let projected = self.opened()?.head.seq;
        let skipped = self.gaps(false)?;
        let wanted = |seq: u64| {
            seq >= first && seq <= projected && !skipped.iter().any(|gap| gap.first <= seq && seq <= gap.last)
        };
        let records: Vec<_> = records.iter().filter(|record| wanted(record.seq)).collect();
        let (Some(oldest), Some(newest)) = (records.first(), records.last()) else {
            return Ok(Rows::Same { compared: 0 });
        };
        let host = self.host.to_string();
        let stored = rows(&self.opened()?.connection, &host, oldest.seq, newest.seq);
        let stored = self.noticing("read rows", stored)?;
        if self.scratch.is_none() {
            let scratch = connect(&self.path).map_err(|source| classified("compare rows", source))?;
            self.scratch = Some(scratch);
        }
        let Some(scratch) = &self.scratch else { return Ok(Rows::Same { compared: 0 }) };
        let made = || -> Result<_, duckdb::Error> {
            scratch.execute_batch("DELETE FROM events")?;
            let mut appender = scratch.appender("events")?;
            for record in &records {
                columns::append(&mut appender, record)?;
            }
            appender.flush()?;
            rows(scratch, &host, oldest.seq, newest.seq)
        };
        let expected = made().map_err(|source| classified("compare rows", source))?;
        for record in &records {
            let seq = record.seq;
            let reason = match (stored.get(&seq), expected.get(&seq)) {
                (Some(stored), Some(expected)) if stored == expected => continue,
                (None, _) => "the row is missing",
                _ => "the row does not say what was recorded",
            };
            return Ok(Rows::Different { seq, reason: reason.to_owned() });
        }
        Ok(Rows::Same { compared: records.len() as u64 })
    }

    /// The first row that no record up to the head has led to.
    pub(super) fn surplus(&mut self, head: &ChainHead) -> Result<Option<u64>, FileError> {
        self.scratch = None;
        let first = self.first()?;
        let projected = self.opened()?.head.seq.max(head.seq);
        let host = self.host.to_string();
        let sql = "SELECT min(seq) FROM events WHERE host = ? AND (seq < ? OR seq > ?)";
        let values = params![host, columns::signed(first), columns::signed(projected)];
        let found = self.opened()?.connection.query_row(sql, values, |row| row.get::<_, Option<i64>>(0));
        let found = self.noticing("look for other rows", found)?;
        Ok(found.map(|seq| u64::try_from(seq).unwrap_or(0)))
    }
}
