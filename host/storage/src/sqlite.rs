//! What is different on SQLite.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use handshake_core::storage::{Fault, FaultKind, StorageError};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection};

use crate::error::failed;
use crate::limits::Limits;
use crate::local::Local;

/// Begins a transaction. Takes the write lock at once: a lock that is upgraded later can fail in the middle.
pub(crate) const BEGIN: &str = "BEGIN IMMEDIATE";
/// Size of the database in bytes, the write-ahead log apart.
pub(crate) const SIZE: &str = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
/// Columns of a table by this name: `name`.
pub(crate) const COLUMNS: &str = "SELECT name FROM pragma_table_info($1)";

/// How connections that write are set.
const PRAGMAS: [(&str, &str); 7] = [
    ("journal_mode", "WAL"),
    ("foreign_keys", "ON"),
    // With WAL, FULL is what makes a commit survive a power cut.
    ("synchronous", "FULL"),
    // Apple's fsync does not reach the platter; elsewhere this changes nothing.
    ("fullfsync", "ON"),
    ("checkpoint_fullfsync", "ON"),
    // One long transaction must not leave a huge log behind.
    ("journal_size_limit", "67108864"),
    // Pages. The commit that fills the log also writes the database, and takes several times as long: with SQLite's 1,000
    // that is one in about a hundred.
    ("wal_autocheckpoint", "4000"),
];

/// A database file, and how connections to it are opened.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    pragmas: Vec<(&'static str, String)>,
    limits: Limits,
    owner: Mutex<Option<File>>,
}

impl Sqlite {
    /// Creates the file if it is missing, readable for its owner alone (SQLite gives its side files the same mode),
    /// and makes this process the only one that writes to it.
    pub(crate) async fn open(path: PathBuf, limits: Limits) -> Result<Self, StorageError> {
        let create = {
            let path = path.clone();
            move || create(&path)
        };
        let owner = tokio::task::spawn_blocking(create).await.map_err(std::io::Error::other);
        let owner = match owner {
            Ok(Ok(owner)) => owner,
            Ok(Err(TryLockError::WouldBlock)) => {
                let path = path.display();
                return Err(StorageError::Conflict(format!("another process has the database `{path}` open")));
            }
            Ok(Err(TryLockError::Error(error))) | Err(error) => return Err(not_opened(error)),
        };
        let pragmas = PRAGMAS.map(|(pragma, value)| (pragma, value.to_owned())).to_vec();
        Ok(Self { path, pragmas, limits, owner: Mutex::new(Some(owner)) })
    }

    /// Lets other processes open the file.
    pub(crate) fn release(&self) {
        drop(self.owner.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Bounds the database to so many pages, to see what a full disk does.
    #[cfg(test)]
    pub(crate) fn bound(&mut self, pages: u32) {
        self.pragmas.push(("max_page_count", pages.to_string()));
    }

    /// Opens the writer's connection.
    pub(crate) fn writer(&self) -> Result<Local, StorageError> {
        Local::open(&self.path, &self.pragmas, self.limits.lock_timeout).map_err(failed("open the database"))
    }

    /// Opens a connection that migrates.
    pub(crate) async fn connect(&self) -> Result<sqlx::SqliteConnection, StorageError> {
        let mut options = SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(self.limits.lock_timeout)
            .disable_statement_logging();
        for (pragma, value) in &self.pragmas {
            options = options.pragma(*pragma, value.clone());
        }
        options.connect().await.map_err(failed("open the database"))
    }

    /// Copies the database, as it is at one moment, to a file that is not there yet. Nobody waits for it.
    pub(crate) async fn snapshot(&self, to: &Path) -> Result<(), StorageError> {
        let Some(mut connection) = look(&self.path, self.limits).await? else {
            return Err(StorageError::Conflict("the database file is gone".to_owned()));
        };
        let to = to.to_str().ok_or_else(|| StorageError::Conflict("the copy's path is no text".to_owned()))?;
        sqlx::query("VACUUM INTO $1").bind(to).execute(&mut connection).await.map_err(failed("copy the database"))?;
        connection.close().await.map_err(failed("copy the database"))
    }

    /// Connections for reading; opened when needed.
    pub(crate) fn readers(&self) -> sqlx::SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .busy_timeout(self.limits.lock_timeout)
            .disable_statement_logging();
        SqlitePoolOptions::new()
            .max_connections(self.limits.readers)
            .acquire_timeout(self.limits.connect_timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options)
    }
}

/// Opens a connection for reading to a file that need not be there.
pub(crate) async fn look(path: &Path, limits: Limits) -> Result<Option<sqlx::SqliteConnection>, StorageError> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(not_opened(error)),
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(limits.lock_timeout);
    options.disable_statement_logging().connect().await.map(Some).map_err(failed("open the database"))
}

fn not_opened(error: std::io::Error) -> StorageError {
    let kind = FaultKind::of(&error).unwrap_or(FaultKind::CannotOpen);
    StorageError::Database {
        operation: "open the database file",
        source: Box::new(Fault { kind, source: Some(Box::new(error)) }),
    }
}

/// Creates the file, and locks the one beside it. SQLite locks ranges of the database file itself; and closing any
/// handle of that would release them, so ours is another file.
fn create(path: &Path) -> Result<File, TryLockError> {
    let open = |path: &Path| {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map_err(TryLockError::Error)
    };
    open(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push("-owner");
    let owner = open(Path::new(&beside))?;
    owner.try_lock()?;
    Ok(owner)
}
