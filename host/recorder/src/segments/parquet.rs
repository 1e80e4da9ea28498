//! Records to and from Parquet, by DuckDB databases that live in memory and know nothing of the recorder's own file.
//! Everything here blocks.

use std::path::Path;

use duckdb::{Config, Connection};
use handshake_core::chain::StampedEvent;
use handshake_core::{HostId, Timestamp};

use crate::disk::beside;
use crate::projection::{columns, schema};

/// What sealing may hold in memory, for a moment: the rows of a segment, and a group of them on its way into the file.
/// With 48 MB it runs out of it at 60 MB of records.
const MEMORY_LIMIT: &str = "96MB";
/// Rows that are compressed together, and the least that reading decompresses. A group of large records must fit into
/// the limit.
const ROW_GROUP: u32 = 2048;

/// DuckDB did not write or read a file.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub(crate) struct ParquetError {
    operation: &'static str,
    source: duckdb::Error,
}

fn failed(operation: &'static str) -> impl Fn(duckdb::Error) -> ParquetError {
    move |source| ParquetError { operation, source }
}

/// A database that can reach the files of one folder and nothing else.
fn connect(folder: &Path) -> Result<Connection, duckdb::Error> {
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or(duckdb::Error::InvalidPath(path.to_owned()));
    let config = Config::default()
        .max_memory(MEMORY_LIMIT)?
        .threads(1)?
        .enable_autoload_extension(false)?
        .with("allow_community_extensions", "false")?
        .with("temp_directory", text(&folder.join(".tmp"))?)?
        .with("max_temp_directory_size", "1GB")?;
    let connection = Connection::open_in_memory_with_flags(config)?;
    connection.execute_batch(&format!(
        "SET allowed_directories = ['{}']; SET enable_external_access = false; SET lock_configuration = true",
        quoted(&text(folder)?)
    ))?;
    Ok(connection)
}

fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

/// Collects records and writes them as one file, with the columns of the projection's table of events.
pub(crate) struct ParquetWriter {
    connection: Connection,
}

impl ParquetWriter {
    pub(crate) fn new(folder: &Path) -> Result<Self, ParquetError> {
        let failed = failed("prepare a segment");
        let mut connection = connect(folder).map_err(&failed)?;
        // A database in memory is at no version, so this makes the newest schema.
        schema::migrate(&mut connection).map_err(&failed)?.ok();
        Ok(Self { connection })
    }

    pub(crate) fn push(&mut self, records: &[StampedEvent]) -> Result<(), ParquetError> {
        let failed = failed("collect a segment's records");
        let mut appender = self.connection.appender("events").map_err(&failed)?;
        columns::append(&mut appender, records).map_err(&failed)?;
        appender.flush().map_err(failed)
    }

    /// Writes the file; it is not synchronised.
    pub(crate) fn write(self, path: &Path) -> Result<(), ParquetError> {
        let path = path.to_str().ok_or_else(|| duckdb::Error::InvalidPath(path.to_owned()));
        let failed = failed("write a segment");
        let path = quoted(path.map_err(&failed)?);
        // One thread keeps the order in which rows were appended.
        let copy = format!("COPY events TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})");
        self.connection.execute_batch(&copy).map_err(failed)
    }
}

/// Reads one file.
pub(crate) struct ParquetReader {
    connection: Connection,
    path: String,
    host: HostId,
}

impl ParquetReader {
    pub(crate) fn open(path: &Path, host: HostId) -> Result<Self, ParquetError> {
        let failed = failed("open a segment");
        let folder = path.parent().unwrap_or(Path::new("."));
        let connection = connect(folder).map_err(&failed)?;
        let path = path.to_str().ok_or_else(|| duckdb::Error::InvalidPath(path.to_owned())).map_err(&failed)?;
        Ok(Self { connection, path: quoted(path), host })
    }

    /// Records behind `after`, at most `limit`, in the order of the file. What cannot be a record ends the reading with
    /// an error; whether the records are the right ones is for the caller to check.
    pub(crate) fn read_after(&self, after: u64, limit: u32) -> Result<Vec<StampedEvent>, ParquetError> {
        let failed = failed("read a segment");
        let sql = format!(
            "SELECT seq, recorded_at, hash, event_id, record FROM read_parquet('{}') WHERE host = ? AND seq > ? AND seq <= ?",
            self.path
        );
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let up_to = after.saturating_add(u64::from(limit));
        let values = duckdb::params![self.host.to_string(), columns::signed(after), columns::signed(up_to)];
        let mut rows = statement.query(values).map_err(&failed)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let text = |at: usize| row.get::<_, String>(at).map_err(&failed);
            let wrong =
                |at: usize| failed(duckdb::Error::InvalidColumnType(at, "record".into(), duckdb::types::Type::Text));
            records.push(StampedEvent {
                host: self.host,
                seq: row.get::<_, i64>(0).map_err(&failed)?.try_into().map_err(|_| wrong(0))?,
                recorded_at: Timestamp::from_micros(row.get(1).map_err(&failed)?),
                hash: text(2)?.parse().map_err(|_| wrong(2))?,
                event_id: text(3)?.parse().map_err(|_| wrong(3))?,
                record: text(4)?,
            });
        }
        Ok(records)
    }
}

/// Where a file is written before it is complete.
pub(crate) fn unfinished(path: &Path) -> std::path::PathBuf {
    beside(path, ".new")
}
