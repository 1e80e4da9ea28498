//! The DuckDB file: opening it safely, appending to it exactly once, setting it aside when it is damaged.
//! Everything here blocks and runs on the recorder's own thread.

use std::path::{Path, PathBuf};

use duckdb::arrow::array::RecordBatch;
use duckdb::{Config, Connection, params};
use handshake_core::chain::ChainHead;
use handshake_core::recorder::RecorderError;
use handshake_core::storage::StorageError;
use handshake_core::{Digest, EventId, HostId, Timestamp};

use super::batch::Batch;
use super::query::{EventPage, EventQuery, MatrixQuery, MatrixRow, RecordedEvent};
use super::{ProgressSender, ProjectionOptions, columns, query, schema};
use crate::disk::Disk;

/// Beside the host's own work this may not be greedy; larger operations spill into a temporary file.
const MEMORY_LIMIT: &str = "48MB";
/// A checkpoint compresses a whole row group, and what it works with is on top of the limit: with DuckDB's own
/// 122,880 rows that is more than the limit itself. With groups half as large, queries over ten million rows look into
/// more of them than they have time for (`just bench recorder`).
pub(super) const ROW_GROUP: u32 = 8192;

/// Size of what stands before the blocks of a DuckDB file: the main header and two database headers.
const HEADERS: u64 = 3 * 4096;

/// Why the file did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// DuckDB failed; nothing suggests that the file is to blame.
    #[error("{operation}")]
    DuckDb { operation: &'static str, source: duckdb::Error },
    /// The file cannot be what was written.
    #[error("the recorder's file is damaged: {0}")]
    Damaged(String),
    /// A later version wrote it.
    #[error(
        "`{path}` has schema version {version}, which this version of handshake does not know; use the newer one, or move the file away to have it rebuilt"
    )]
    Newer { path: PathBuf, version: i64 },
    /// It could not be moved away.
    #[error("cannot set the damaged file `{path}` aside")]
    SetAside { path: PathBuf, source: std::io::Error },
    /// Another file could not take its place.
    #[error("cannot replace `{path}`")]
    Replace { path: PathBuf, source: std::io::Error },
}

impl From<FileError> for RecorderError {
    fn from(error: FileError) -> Self {
        Self::Sink(StorageError::Database { operation: "use the recorder's DuckDB file", source: Box::new(error) })
    }
}

/// Texts of DuckDB's errors that speak of the surroundings. When one of them keeps the file from being opened, it
/// is left alone; the C interface has no error codes to go by.
const SURROUNDINGS: &[&str] = &[
    "lock on file",
    "Permission denied",
    "Read-only file system",
    "No space left",
    "Out of Memory",
    "failed to allocate",
    "Too many open files",
    "Is a directory",
    "No such file or directory",
    "Cannot open file",
    "Invalid path",
];

/// Texts that speak of damage when they come up while the file is in use.
const DAMAGE: &[&str] = &[
    "Corrupt",
    "corrupt",
    "checksum",
    "Serialization Error",
    "Failed to deserialize",
    "not a valid DuckDB database",
    "Could not read enough bytes",
];

/// The file, open or not; it opens itself when it is needed.
pub(super) struct ProjectionFile {
    pub(super) path: PathBuf,
    pub(super) host: HostId,
    options: ProjectionOptions,
    pub(super) disk: Disk,
    progress: ProgressSender,
    pub(super) open: Option<Open>,
    closed: bool,
    /// Where the last damaged file went.
    pub(super) set_aside: Option<PathBuf>,
}

pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) head: ChainHead,
}

impl ProjectionFile {
    pub(super) fn new(options: ProjectionOptions, disk: Disk, host: HostId, progress: ProgressSender) -> Self {
        let path = options.path.clone();
        Self { path, host, options, disk, progress, open: None, closed: false, set_aside: None }
    }

    /// Where the projection stands. Opens the file if it is not open; a damaged one is set aside first.
    pub(super) fn head(&mut self) -> Result<ChainHead, FileError> {
        Ok(self.opened()?.head)
    }

    /// Appends a batch in one transaction with the cursor. If the file stands elsewhere by now than where the batch
    /// begins, nothing happens.
    pub(super) fn project(&mut self, batch: Batch) -> Result<(), FileError> {
        let open = self.opened()?;
        let Batch { from, to, rows: Some(rows), .. } = batch else { return Ok(()) };
        if open.head != from {
            return Ok(());
        }
        let written = write(&mut open.connection, rows, &to);
        self.noticing("project", written)?;
        if let Some(open) = &mut self.open {
            open.head = to;
        }
        self.publish(to.seq);
        Ok(())
    }

    /// A page of events.
    pub(super) fn events(&mut self, query: &EventQuery) -> Result<EventPage, FileError> {
        let retained = self.retained()?;
        let open = self.opened()?;
        let result = query::events(&open.connection, &open.head, query, retained);
        self.noticing_damage(result)
    }

    /// Some events by their ids.
    pub(super) fn named(&mut self, ids: &[EventId]) -> Result<Vec<RecordedEvent>, FileError> {
        let retained = self.retained()?;
        let result = query::named(&self.opened()?.connection, ids, retained);
        self.noticing_damage(result)
    }

    /// Decisions, counted.
    pub(super) fn matrix(&mut self, query: &MatrixQuery) -> Result<Vec<MatrixRow>, FileError> {
        let retained = self.retained()?;
        let result = query::matrix(&self.opened()?.connection, query, retained);
        self.noticing_damage(result)
    }

    /// From when on records can be queried (R6.4). A clock that is set back reveals nothing, because the time of the
    /// last record counts as well, and that never runs backwards.
    pub(super) fn retained(&mut self) -> Result<Timestamp, FileError> {
        let now = self.opened()?.head.recorded_at.max(self.options.clock.now());
        Ok(now.minus(self.options.retention))
    }

    /// Runs any SQL, for tests that play the attacker.
    #[cfg(test)]
    pub(super) fn execute(&mut self, sql: &str) -> Result<(), String> {
        self.opened()
            .map_err(|error| error.to_string())?
            .connection
            .execute_batch(sql)
            .map_err(|error| error.to_string())
    }

    /// Every row as JSON.
    #[cfg(test)]
    pub(super) fn rows_as_json(&mut self) -> Result<Vec<String>, FileError> {
        let failed = |source| classified("read rows", source);
        let connection = &self.opened()?.connection;
        let sql = "SELECT CAST(to_json(events) AS VARCHAR) FROM events WHERE seq > ? AND seq <= ?";
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let last = "SELECT coalesce(max(seq), 0) FROM events";
        let last: i64 = connection.query_row(last, [], |row| row.get(0)).map_err(failed)?;
        let mut all = Vec::new();
        // A page at a time: as JSON all of them are more than the memory limit.
        for after in (0..last).step_by(1000) {
            let rows = statement.query_map([after, after + 1000], |row| row.get(0)).map_err(failed)?;
            all.extend(rows.collect::<Result<Vec<String>, _>>().map_err(failed)?);
        }
        Ok(all)
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        [self.path.clone(), with_suffix(&self.path, ".wal")]
            .iter()
            .filter_map(|path| std::fs::metadata(path).ok())
            .map(|data| data.len())
            .sum()
    }

    /// Closes for good.
    pub(super) fn close(&mut self) -> Result<(), FileError> {
        self.closed = true;
        self.shut()
    }

    /// Closes the file. When that succeeds, its log is written back and there is nothing to try out at the next start.
    pub(super) fn shut(&mut self) -> Result<(), FileError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let closed = open.connection.close();
        closed.map_err(|(_, source)| FileError::DuckDb { operation: "close the file", source })?;
        let _ = std::fs::remove_file(self.mark());
        Ok(())
    }

    /// A file that is there while the DuckDB file is open, and after a crash.
    fn mark(&self) -> PathBuf {
        with_suffix(&self.path, ".open")
    }

    /// Has a file that was not closed tried out by another process, and marks it as open.
    /// Says whether it was closed.
    fn try_out(&mut self) -> Result<bool, FileError> {
        let mark = self.mark();
        let was_closed = !mark.exists();
        if !was_closed {
            let probe = self.options.probe.as_ref().filter(|_| self.path.exists());
            if let Some(problem) = probe.and_then(|probe| probe.ask(&self.path, self.host)) {
                self.move_away(&problem)?;
            }
        } else if let Err(error) = std::fs::write(&mark, "").and_then(|()| self.disk.sync_folder(folder(&mark))) {
            // Whether it can be opened is told by opening it.
            tracing::debug!(%error, "that the recorder's file is open could not be noted");
        }
        Ok(was_closed)
    }

    pub(super) fn opened(&mut self) -> Result<&mut Open, FileError> {
        let open = match self.open.take() {
            Some(open) => open,
            None if self.closed => {
                return Err(FileError::DuckDb { operation: "the file is closed", source: duckdb::Error::InvalidQuery });
            }
            None => {
                let was_closed = self.try_out()?;
                let open = match open(&self.path, self.host, was_closed) {
                    Err(FileError::Damaged(problem)) => {
                        self.move_away(&problem)?;
                        open(&self.path, self.host, false)?
                    }
                    other => other?,
                };
                self.publish(open.head.seq);
                open
            }
        };
        Ok(self.open.insert(open))
    }

    /// Any failure closes the connection: DuckDB refuses all work after a fatal error until it is reopened.
    pub(super) fn noticing<T>(
        &mut self,
        operation: &'static str,
        result: Result<T, duckdb::Error>,
    ) -> Result<T, FileError> {
        self.noticing_damage(result.map_err(|source| classified(operation, source)))
    }

    fn noticing_damage<T>(&mut self, result: Result<T, FileError>) -> Result<T, FileError> {
        if let Err(error) = &result {
            self.open = None;
            if let FileError::Damaged(problem) = error {
                let problem = problem.clone();
                self.move_away(&problem)?;
            }
        }
        result
    }

    /// Gives the file and its log other names. The log must go too: DuckDB would replay it into the new file.
    fn move_away(&mut self, problem: &str) -> Result<(), FileError> {
        let target = self.rename("damaged")?;
        tracing::warn!(problem, set_aside = %target.display(), "the recorder's DuckDB file is damaged; it is rebuilt from segments and outbox");
        Ok(())
    }

    /// Begins a new file, which is then filled with the whole record. The old one is kept under another name.
    pub(super) fn start_over(&mut self) -> Result<(), FileError> {
        self.shut()?;
        self.rename("replaced").map(drop)
    }

    fn rename(&mut self, why: &str) -> Result<PathBuf, FileError> {
        self.open = None;
        let stamp = self.options.clock.now().micros();
        let names = (0..).map(|n: u32| match n {
            0 => format!(".{why}-{stamp}"),
            n => format!(".{why}-{stamp}-{n}"),
        });
        let target = names.map(|name| with_suffix(&self.path, &name)).find(|target| !target.exists());
        let target = target.unwrap_or_else(|| with_suffix(&self.path, why));
        for suffix in ["", ".wal"] {
            let from = with_suffix(&self.path, suffix);
            match std::fs::rename(&from, with_suffix(&target, suffix)) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FileError::SetAside { path: from, source });
                }
                _ => {}
            }
        }
        self.set_aside = Some(target.clone());
        // Whoever asks from now on waits until the new file is complete.
        self.publish(0);
        Ok(target)
    }

    pub(super) fn publish(&self, seq: u64) {
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.seq, seq) != seq);
    }
}

pub(super) use crate::disk::beside as with_suffix;

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Whether damage keeps a file from being opened, or something around it.
pub(super) fn damaged_unless_surroundings(source: duckdb::Error) -> FileError {
    let text = source.to_string();
    if SURROUNDINGS.iter().any(|sign| text.contains(sign)) {
        FileError::DuckDb { operation: "open", source }
    } else {
        FileError::Damaged(text)
    }
}

pub(super) fn classified(operation: &'static str, source: duckdb::Error) -> FileError {
    let text = source.to_string();
    if DAMAGE.iter().any(|sign| text.contains(sign)) {
        FileError::Damaged(text)
    } else {
        FileError::DuckDb { operation, source }
    }
}

/// Opens the file, brings its schema up and checks that rows and cursor agree.
fn open(path: &Path, host: HostId, was_closed: bool) -> Result<Open, FileError> {
    let damaged = damaged_unless_surroundings;
    let mut connection = connect(path).map_err(damaged)?;
    if let Err(version) = schema::migrate(&mut connection).map_err(damaged)? {
        return Err(FileError::Newer { path: path.to_owned(), version });
    }
    if was_closed {
        whole(&connection, path)?;
    }
    let head = cursor(&connection, host).map_err(damaged)?;
    let head = head.ok_or_else(|| FileError::Damaged("its cursor does not match its rows".into()))?;
    Ok(Open { connection, head })
}

/// Checks that a file which was closed can hold the blocks that are in use; DuckDB itself notices only when it reads one.
/// After a crash its last blocks may rightly not be there yet.
///
/// Free blocks do not count: a checkpoint first writes the header with their number and only then cuts those at the end
/// off. A file that lost blocks but had as many free ones is found when they are read.
fn whole(connection: &Connection, path: &Path) -> Result<(), FileError> {
    let sql = "SELECT block_size * used_blocks FROM pragma_database_size() WHERE database_name = 'recorder'";
    let blocks: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(damaged_unless_surroundings)?;
    let expected = u64::try_from(blocks).unwrap_or(0).saturating_add(HEADERS);
    match std::fs::metadata(path) {
        // A file that has just been made has no blocks yet.
        Ok(data) if blocks == 0 || data.len() >= expected => Ok(()),
        Ok(data) => Err(FileError::Damaged(format!("it has {} bytes of at least {expected}", data.len()))),
        Err(error) => Err(FileError::Damaged(error.to_string())),
    }
}

/// What is stored comes from guests. DuckDB gets no way to anything else: no other files, no network, no
/// extensions, and no setting can be changed back.
///
/// The file is attached to an empty database, because only attaching takes a size for row groups. Turning external
/// access off after that leaves DuckDB this file, its log and its temporary folder.
pub(super) fn connect(path: &Path) -> Result<Connection, duckdb::Error> {
    let connection = Connection::open_in_memory_with_flags(settings(path)?)?;
    connection.execute_batch(&format!(
        "ATTACH '{}' AS recorder (TYPE duckdb, ROW_GROUP_SIZE {ROW_GROUP}); USE recorder; \
         SET enable_external_access = false; SET lock_configuration = true",
        text(path)?.replace('\'', "''")
    ))?;
    Ok(connection)
}

fn text(path: &Path) -> Result<String, duckdb::Error> {
    path.to_str().map(str::to_owned).ok_or(duckdb::Error::InvalidPath(path.to_owned()))
}

/// How DuckDB works on a file.
pub(super) fn settings(path: &Path) -> Result<Config, duckdb::Error> {
    Config::default()
        .max_memory(MEMORY_LIMIT)?
        // Each thread compresses with buffers of its own.
        .threads(1)?
        .enable_autoload_extension(false)?
        .with("allow_community_extensions", "false")?
        .with("temp_directory", text(&with_suffix(path, ".tmp"))?)?
        .with("max_temp_directory_size", "1GB")
}

/// The cursor of a host, if its rows agree with it. The rows are counted from metadata, so this is cheap.
fn cursor(connection: &Connection, host: HostId) -> Result<Option<ChainHead>, duckdb::Error> {
    let host_text = host.to_string();
    let mut statement =
        connection.prepare(r#"SELECT seq, hash, recorded_at, coalesce(first, 1) FROM "cursor" WHERE host = ?"#)?;
    let cursors: Vec<(i64, String, i64, i64)> = statement
        .query_map([&host_text], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    let (rows, oldest, newest): (i64, i64, i64) = connection.query_row(
        "SELECT count(*), coalesce(min(seq), 0), coalesce(max(seq), 0) FROM events WHERE host = ?",
        [&host_text],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let missing: i64 = connection.query_row(
        "SELECT CAST(coalesce(sum(last - first + 1), 0) AS BIGINT) FROM gaps WHERE host = ?",
        [&host_text],
        |row| row.get(0),
    )?;
    let agrees = |seq: i64, first: i64| {
        let expected = seq.saturating_add(1).saturating_sub(first).saturating_sub(missing);
        rows == expected && (rows == 0 || oldest >= first && newest <= seq)
    };
    Ok(match cursors.as_slice() {
        [] if rows == 0 && missing == 0 => Some(ChainHead::empty(host)),
        [(seq, hash, recorded_at, first)] if agrees(*seq, *first) => {
            match (u64::try_from(*seq), hash.parse::<Digest>()) {
                (Ok(seq), Ok(hash)) => {
                    Some(ChainHead { host, seq, hash, recorded_at: Timestamp::from_micros(*recorded_at) })
                }
                _ => None,
            }
        }
        _ => None,
    })
}

/// Moves the cursor, or makes it.
pub(super) fn set_cursor(connection: &Connection, head: &ChainHead) -> Result<(), duckdb::Error> {
    let host = head.host.to_string();
    let values = params![columns::signed(head.seq), head.hash.to_string(), head.recorded_at.micros(), host];
    if connection.execute(r#"UPDATE "cursor" SET seq = ?, hash = ?, recorded_at = ? WHERE host = ?"#, values)? == 0 {
        connection.execute(r#"INSERT INTO "cursor" (seq, hash, recorded_at, host) VALUES (?, ?, ?, ?)"#, values)?;
    }
    Ok(())
}

/// Rows and cursor in one transaction: each record is projected exactly once.
fn write(connection: &mut Connection, rows: RecordBatch, head: &ChainHead) -> Result<(), duckdb::Error> {
    let transaction = connection.transaction()?;
    {
        let mut appender = transaction.appender("events")?;
        appender.append_record_batch(rows)?;
        appender.flush()?;
    }
    set_cursor(&transaction, head)?;
    transaction.commit()
}
