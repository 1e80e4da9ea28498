//! Looking after the DuckDB file: passing over what is missing, dropping what is too old, giving space back.

use std::path::{Path, PathBuf};

use duckdb::{Connection, params};
use handshake_core::chain::ChainHead;
use serde::{Deserialize, Serialize};

use super::file::{FileError, ProjectionFile, ROW_GROUP, classified, settings, with_suffix};
use super::{columns, schema};
use crate::disk::Disk;
use crate::log::Jump;

/// Rows that one transaction deletes or copies: their text is some 16 MB, well within the memory limit.
const CHUNK: u64 = 16_384;
/// The file may be so much larger than what is in it, in percent, before it is compacted (R6.4 asks for 130).
const SLACK: u64 = 25;
/// A file up to this size is left as it is; a few blocks of 256 kB that are half empty are no waste.
const SMALL: u64 = 2 << 20;

/// Records that are on record no more: their segment is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gap {
    /// Number of the first missing record.
    pub first: u64,
    /// Number of the last one.
    pub last: u64,
    /// What is known about why.
    pub reason: String,
}

/// What compacting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Compaction {
    /// Size of the file and its log before, bytes.
    pub before: u64,
    /// And after.
    pub after: u64,
}

impl ProjectionFile {
    /// Goes on behind records that are not there. `after` is the number that they were looked for behind; if the file
    /// stands elsewhere by now, nothing happens.
    pub(super) fn jump(&mut self, after: u64, jump: &Jump) -> Result<(), FileError> {
        let open = self.opened()?;
        if open.head.seq != after {
            return Ok(());
        }
        let done = match &jump.missing {
            None => delete_through(&mut open.connection, &jump.to, true),
            Some(reason) => skip(&mut open.connection, after, &jump.to, reason),
        };
        self.noticing("pass over missing records", done)?;
        if let Some(open) = &mut self.open {
            open.head = jump.to;
        }
        self.publish(jump.to.seq);
        Ok(())
    }

    /// Deletes the rows of records that retention has dropped. Rows that are still to come are passed over when they
    /// would be projected.
    pub(super) fn drop_through(&mut self, to: &ChainHead) -> Result<(), FileError> {
        self.step()?;
        let open = self.opened()?;
        let behind = open.head.seq < to.seq;
        let done = if behind { Ok(()) } else { delete_through(&mut open.connection, to, false) };
        self.noticing("drop old records", done)
    }

    fn step(&self) -> Result<(), FileError> {
        self.disk.step().map_err(|source| FileError::Replace { path: self.path.clone(), source })
    }

    /// Number of the first record that retention has left.
    pub(super) fn first(&mut self) -> Result<u64, FileError> {
        let host = self.host.to_string();
        let sql = r#"SELECT coalesce(max(first), 1) FROM "cursor" WHERE host = ?"#;
        let first = self.opened()?.connection.query_row(sql, [host], |row| row.get::<_, i64>(0));
        self.noticing("read the cursor", first).map(|first| u64::try_from(first).unwrap_or(1))
    }

    /// Records that could not be rebuilt; only those about which no event was recorded, if that is wanted.
    pub(super) fn gaps(&mut self, unannounced: bool) -> Result<Vec<Gap>, FileError> {
        let host = self.host.to_string();
        let read = |connection: &Connection| {
            let sql = "SELECT first, last, reason FROM gaps WHERE host = ? AND NOT (announced AND ?) ORDER BY first";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map(params![host, unannounced], |row| {
                let number = |at: usize| row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or(0));
                Ok(Gap { first: number(0)?, last: number(1)?, reason: row.get(2)? })
            })?;
            rows.collect()
        };
        let gaps = read(&self.opened()?.connection);
        self.noticing("list missing records", gaps)
    }

    /// Notes that an event about a gap is on record.
    pub(super) fn announced(&mut self, gap: &Gap) -> Result<(), FileError> {
        let sql = "UPDATE gaps SET announced = true WHERE host = ? AND first <= ? AND last = ?";
        let values = params![self.host.to_string(), columns::signed(gap.first), columns::signed(gap.last)];
        let done = self.opened()?.connection.execute(sql, values).map(drop);
        self.noticing("note a gap", done)
    }

    /// Whether the file is much larger than what is in it.
    pub(super) fn is_loose(&mut self) -> Result<bool, FileError> {
        let read = |connection: &Connection| -> Result<(u64, u64, u64), duckdb::Error> {
            // Deleted rows give their blocks back at a checkpoint.
            connection.execute_batch("CHECKPOINT recorder")?;
            let sql = "SELECT block_size, used_blocks, free_blocks FROM pragma_database_size() \
                       WHERE database_name = 'recorder'";
            connection.query_row(sql, [], |row| {
                let number = |at: usize| row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or(0));
                Ok((number(0)?, number(1)?, number(2)?))
            })
        };
        let size = read(&self.opened()?.connection);
        let (block, used, free) = self.noticing("read the file's size", size)?;
        let (rows, kept) = self.rows()?;
        // Blocks that nobody uses, and the share of rows in the others that are deleted but still there.
        let dead = rows.saturating_sub(kept);
        let is_sparse = dead.saturating_mul(100) > kept.saturating_mul(SLACK);
        let is_holey = free.saturating_mul(100) > used.saturating_mul(SLACK);
        Ok(block * (used + free) > SMALL && (is_sparse || is_holey))
    }

    /// Rows in the file with the deleted ones, and without.
    fn rows(&mut self) -> Result<(u64, u64), FileError> {
        let sql = "SELECT (SELECT coalesce(sum(count), 0) FROM pragma_storage_info('events') \
                   WHERE column_name = 'seq' AND segment_type <> 'VALIDITY'), (SELECT count(*) FROM events)";
        let rows = self.opened()?.connection.query_row(sql, [], |row| {
            let number = |at: usize| row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or(0));
            Ok((number(0)?, number(1)?))
        });
        self.noticing("count rows", rows)
    }

    /// Copies what is in the file to a new one that takes its place, so that the space of deleted rows is returned.
    /// A crash leaves the old file or the new one, each whole.
    pub(super) fn compact(&mut self) -> Result<Compaction, FileError> {
        let open = self.opened()?;
        let folded = open.connection.execute_batch("CHECKPOINT recorder");
        self.noticing("write the file's log back", folded)?;
        let before = self.bytes();
        self.shut()?;
        let new = with_suffix(&self.path, ".new");
        let copied = copy(&self.path, &new, &self.disk);
        for leftover in [new.clone(), with_suffix(&new, ".wal")] {
            // On a full disk the attempt itself must not keep what little space there is.
            let _ = std::fs::remove_file(leftover);
        }
        copied?;
        self.opened()?;
        Ok(Compaction { before, after: self.bytes() })
    }
}

/// Deletes rows up to and with a record, in pieces whose transactions move the cursor along.
fn delete_through(connection: &mut Connection, to: &ChainHead, and_cursor: bool) -> Result<(), duckdb::Error> {
    let host = to.host.to_string();
    let last = columns::signed(to.seq);
    loop {
        let sql = "SELECT coalesce(min(seq), 0) FROM events WHERE host = ? AND seq <= ?";
        let oldest: i64 = connection.query_row(sql, params![host, last], |row| row.get(0))?;
        let up_to = match oldest {
            0 => last,
            oldest => last.min(oldest.saturating_add(columns::signed(CHUNK) - 1)),
        };
        let transaction = connection.transaction()?;
        transaction.execute("DELETE FROM events WHERE host = ? AND seq <= ?", params![host, up_to])?;
        transaction.execute("DELETE FROM gaps WHERE host = ? AND last <= ?", params![host, up_to])?;
        transaction.execute(
            "UPDATE gaps SET first = ? WHERE host = ? AND first <= ? AND last > ?",
            params![up_to + 1, host, up_to, up_to],
        )?;
        let sql = r#"UPDATE "cursor" SET first = ? WHERE host = ? AND first <= ?"#;
        transaction.execute(sql, params![up_to + 1, host, up_to])?;
        if up_to == last && and_cursor {
            super::file::set_cursor(&transaction, to)?;
            let sql = r#"UPDATE "cursor" SET first = ? WHERE host = ?"#;
            transaction.execute(sql, params![last + 1, host])?;
        }
        transaction.commit()?;
        if up_to == last {
            return Ok(());
        }
    }
}

fn skip(connection: &mut Connection, after: u64, to: &ChainHead, reason: &str) -> Result<(), duckdb::Error> {
    let transaction = connection.transaction()?;
    let values = params![to.host.to_string(), columns::signed(after + 1), columns::signed(to.seq), reason];
    transaction.execute("INSERT INTO gaps (host, first, last, reason) VALUES (?, ?, ?, ?)", values)?;
    super::file::set_cursor(&transaction, to)?;
    transaction.commit()
}

/// Copies a file that is closed, and moves the copy into its place.
fn copy(path: &Path, new: &Path, disk: &Disk) -> Result<(), FileError> {
    let moved = |source| FileError::Replace { path: path.to_owned(), source };
    for leftover in [new.to_owned(), with_suffix(new, ".wal")] {
        disk.remove(&leftover).map_err(moved)?;
    }
    let failed = |source| classified("copy the recorder's file", source);
    disk.step().map_err(moved)?;
    let text = |path: &Path| path.to_str().map(|path| path.replace('\'', "''"));
    let (Some(from), Some(to)) = (text(path), text(new)) else {
        return Err(failed(duckdb::Error::InvalidPath(path.to_owned())));
    };
    let mut connection = settings(new).and_then(Connection::open_in_memory_with_flags).map_err(failed)?;
    let attach = format!(
        "ATTACH '{from}' AS old (TYPE duckdb, READ_ONLY); ATTACH '{to}' AS fresh (TYPE duckdb, ROW_GROUP_SIZE {ROW_GROUP}); \
         USE fresh; SET enable_external_access = false; SET lock_configuration = true"
    );
    connection.execute_batch(&attach).map_err(failed)?;
    if let Err(version) = schema::migrate(&mut connection).map_err(failed)? {
        return Err(FileError::Newer { path: path.to_owned(), version });
    }
    copy_tables(&connection).map_err(failed)?;
    // The first checkpoint writes row groups a second time that were not full, and only the next one returns the room
    // that they had.
    let end = "CHECKPOINT fresh; FORCE CHECKPOINT fresh; USE memory; DETACH fresh; DETACH old";
    connection.execute_batch(end).map_err(failed)?;
    connection.close().map_err(|(_, source)| failed(source))?;
    // A log of either would be replayed into the file that gets this name.
    let logs = [with_suffix(path, ".wal"), with_suffix(new, ".wal")];
    if let Some(log) = logs.iter().find(|log| log.exists()) {
        let problem = format!("`{}` was not written back", log.display());
        return Err(moved(std::io::Error::other(problem)));
    }
    disk.sync_file(new).and_then(|()| disk.rename(new, path)).map_err(moved)
}

fn copy_tables(connection: &Connection) -> Result<(), duckdb::Error> {
    let mut statement = connection.prepare(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'old' AND table_name <> 'recorder_versions'",
    )?;
    let tables: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        let table = table.replace('"', "\"\"");
        // In one statement, whose memory is bounded all the same: full row groups go to the file as they come.
        connection.execute_batch(&format!(r#"INSERT INTO fresh."{table}" BY NAME SELECT * FROM old."{table}""#))?;
    }
    Ok(())
}

/// Files that were set aside, with the time in their names, microseconds since 1970.
pub(super) fn set_aside(path: &Path) -> Vec<(i64, PathBuf)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) else {
        return Vec::new();
    };
    let found = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let rest = path.file_name()?.to_str()?.strip_prefix(name)?;
        let rest = rest.strip_prefix(".damaged-").or_else(|| rest.strip_prefix(".replaced-"))?;
        let digits = rest.split(['-', '.']).next()?;
        Some((digits.parse().ok()?, path))
    });
    found.collect()
}
