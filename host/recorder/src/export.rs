//! Events as a Parquet file, for whoever has tools for that.
//!
//! DuckDB writes it, in an instance apart from the projection's, which has no access to other files. The rows are
//! gathered in a file of its own first, so that memory stays flat however many there are.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use duckdb::{Config, Connection, ToSql};
use serde_json::Value;

use crate::RecordedEvent;

/// As that of the projection: an export may not crowd the host out.
const MEMORY_LIMIT: &str = "64MB";

/// Why there is no Parquet file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the Parquet file")]
pub struct ExportError {
    operation: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ExportError {
    fn of<E: std::error::Error + Send + Sync + 'static>(operation: &'static str) -> impl Fn(E) -> Self {
        move |source| Self { operation, source: Box::new(source) }
    }
}

/// A Parquet file that is being written.
pub struct ParquetFile {
    connection: Connection,
    scratch: tempfile::TempDir,
}

const COLUMNS: &str = "recorded_at TIMESTAMPTZ, host UUID, seq BIGINT, hash VARCHAR, event_id UUID, event_type VARCHAR, \
     \"timestamp\" TIMESTAMPTZ, actor_kind VARCHAR, actor_id VARCHAR, trace_id UUID, job_id UUID, workflow_run_id UUID, \
     step_id VARCHAR, capability_id VARCHAR, decision_outcome VARCHAR, event VARCHAR";

impl ParquetFile {
    /// Begins one. What it needs on the way is kept in `folder`, in files that only this user can read, and goes with it.
    pub fn begin(folder: &Path) -> Result<Self, ExportError> {
        let scratch = tempfile::Builder::new()
            .prefix(".handshake-export-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(folder)
            .map_err(ExportError::of("begin"))?;
        let connection = open(scratch.path()).map_err(ExportError::of("begin"))?;
        Ok(Self { connection, scratch })
    }

    /// Adds events.
    pub fn add(&mut self, events: &[RecordedEvent]) -> Result<(), ExportError> {
        append(&mut self.connection, events).map_err(ExportError::of("fill"))
    }

    /// Writes all of it to `path`, which lies in the folder that it was begun with; a file that is there is replaced.
    /// Only this user can read it.
    pub fn finish(self, path: &Path) -> Result<(), ExportError> {
        let whole = self.scratch.path().join("whole.parquet");
        let target = quoted(&whole).map_err(ExportError::of("write"))?;
        let sql = format!("COPY (SELECT * FROM events) TO '{target}' (FORMAT parquet, COMPRESSION zstd)");
        self.connection.execute_batch(&sql).map_err(ExportError::of("write"))?;
        self.connection.close().map_err(|(_, source)| ExportError::of("write")(source))?;
        std::fs::set_permissions(&whole, Permissions::from_mode(0o600)).map_err(ExportError::of("protect"))?;
        std::fs::File::open(&whole).and_then(|file| file.sync_all()).map_err(ExportError::of("write"))?;
        std::fs::rename(&whole, path).map_err(ExportError::of("name"))
    }
}

fn open(folder: &Path) -> Result<Connection, duckdb::Error> {
    let config = Config::default()
        .max_memory(MEMORY_LIMIT)?
        .threads(1)?
        .enable_autoload_extension(false)?
        .with("temp_directory", quoted(&folder.join("spill"))?)?;
    let connection = Connection::open_in_memory_with_flags(config)?;
    let scratch = quoted(&folder.join("scratch.duckdb"))?;
    connection.execute_batch(&format!(
        "ATTACH '{scratch}' AS scratch (ROW_GROUP_SIZE 4096); USE scratch; CREATE TABLE events ({COLUMNS}); SET TimeZone = 'UTC'"
    ))?;
    Ok(connection)
}

/// A path within quotes of SQL.
fn quoted(path: &Path) -> Result<String, duckdb::Error> {
    let text = path.to_str().ok_or_else(|| duckdb::Error::InvalidPath(PathBuf::from(path)))?;
    Ok(text.replace('\'', "''"))
}

fn append(connection: &mut Connection, events: &[RecordedEvent]) -> Result<(), duckdb::Error> {
    let transaction = connection.transaction()?;
    {
        let mut appender = transaction.appender("events")?;
        for recorded in events {
            let event = &recorded.event;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let row: [&dyn ToSql; 16] = [
                &recorded.recorded_at.to_string(),
                &recorded.host.to_string(),
                &i64::try_from(recorded.seq).unwrap_or(i64::MAX),
                &recorded.hash.to_string(),
                &text(&event["event_id"]),
                &text(&event["event_type"]),
                &text(&event["timestamp"]),
                &text(&event["actor"]["kind"]),
                &text(&event["actor"]["id"]),
                &text(&event["trace_id"]),
                &text(&event["job_id"]),
                &text(&event["workflow_run_id"]),
                &text(&event["step_id"]),
                &text(&event["capability_id"]),
                &text(&event["payload"]["decision_outcome"]),
                &event.to_string(),
            ];
            appender.append_row(row.as_slice())?;
        }
        appender.flush()?;
    }
    transaction.commit()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::testing::{SequentialIds, sample_events};
    use handshake_core::{Digest, HostId, Timestamp};

    use super::*;

    #[test]
    fn a_parquet_file_holds_every_event_with_typed_columns_and_leaves_nothing_else_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's.parquet");
        let host = HostId::fresh(&SequentialIds::default());
        let events: Vec<RecordedEvent> = (1..)
            .zip(sample_events())
            .map(|(seq, event)| RecordedEvent {
                host,
                seq,
                recorded_at: Timestamp::from_micros(1_767_225_600_000_000),
                hash: Digest::ZERO,
                event: serde_json::to_value(event).unwrap(),
            })
            .collect();
        let mut file = ParquetFile::begin(folder.path()).unwrap();
        for _ in 0..3 {
            file.add(&events).unwrap();
        }
        file.finish(&path).unwrap();
        let found: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(found, std::slice::from_ref(&path));
        let reader = Connection::open_in_memory().unwrap();
        let sql = format!(
            "SELECT count(*), count(DISTINCT event_type), min(epoch_us(recorded_at)), min(epoch_us(\"timestamp\")), any_value(typeof(job_id)) FROM '{}'",
            quoted(&path).unwrap()
        );
        let row: (i64, i64, i64, i64, String) = reader
            .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
            .unwrap();
        assert_eq!(row, (63, 21, 1_767_225_600_000_000, 1_767_225_600_000_001, "UUID".to_owned()));
    }
}
