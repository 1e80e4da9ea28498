//! Comparing rows of the DuckDB file with the records that they were made of, column by column.

use std::collections::BTreeMap;

use duckdb::params;
use handshake_core::chain::{ChainHead, StampedEvent};

use super::columns::{same, signed};
use super::file::{FileError, ProjectionFile};

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

/// The rows from one number to another, by what was wrong with each: nothing, or that it differs from its record. Rows
/// of a number that no record here has are left out.
fn rows(
    connection: &duckdb::Connection,
    records: &[&StampedEvent],
    (from, to): (u64, u64),
) -> Result<BTreeMap<u64, bool>, duckdb::Error> {
    let records: BTreeMap<u64, &StampedEvent> = records.iter().map(|record| (record.seq, *record)).collect();
    // Of whichever host they say they are: a file holds the rows of one.
    let mut statement = connection.prepare("SELECT seq, events.* FROM events WHERE seq >= ? AND seq <= ?")?;
    let mut found = statement.query(params![signed(from), signed(to)])?;
    let mut rows = BTreeMap::new();
    while let Some(row) = found.next()? {
        let seq = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        if let Some(record) = records.get(&seq) {
            let as_recorded = same(row, 1, record)?;
            rows.entry(seq).and_modify(|single| *single = false).or_insert(as_recorded);
        }
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
        let found = rows(&self.opened()?.connection, &records, (oldest.seq, newest.seq));
        let found = self.noticing("read rows", found)?;
        for record in &records {
            let seq = record.seq;
            let reason = match found.get(&seq) {
                Some(true) => continue,
                Some(false) => "the row does not say what was recorded",
                None => "the row is missing",
            };
            return Ok(Rows::Different { seq, reason: reason.to_owned() });
        }
        Ok(Rows::Same { compared: records.len() as u64 })
    }

    /// The first row that no record up to the head has led to.
    pub(super) fn surplus(&mut self, head: &ChainHead) -> Result<Option<u64>, FileError> {
        let first = self.first()?;
        let projected = self.opened()?.head.seq.max(head.seq);
        let host = self.host.to_string();
        let sql = "SELECT min(seq) FROM events WHERE host <> ? OR seq < ? OR seq > ?";
        let values = params![host, signed(first), signed(projected)];
        let found = self.opened()?.connection.query_row(sql, values, |row| row.get::<_, Option<i64>>(0));
        let found = self.noticing("look for other rows", found)?;
        Ok(found.map(|seq| u64::try_from(seq).unwrap_or(0)))
    }
}
