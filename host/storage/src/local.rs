//! The connection that writes to SQLite. Its statements are executed on the thread that says them.
//!
//! sqlx has a thread for each connection to SQLite, to which it hands every statement and from which every result
//! comes back; that takes several times as long as most statements. So the writer, which has nothing else to do
//! meanwhile, has a thread of its own, and a driver that works on it. Both drivers are linked to the same SQLite.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::storage::StorageError;
use rusqlite::types::{FromSql, ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, ToSql, ffi};
use sqlx::error::{DatabaseError, ErrorKind};

use crate::error::failed;
use crate::sql::Value;

/// The writer's statements; those that record events have one for each number of rows.
const STATEMENTS: usize = 256;

/// A connection, used by one thread at a time.
pub(crate) struct Local(rusqlite::Connection);

/// Carries out the writer on a thread of its own.
pub(crate) fn spawn(writer: impl Future<Output = ()> + Send + 'static) -> Result<(), StorageError> {
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("sqlite writer".into()).spawn(move || runtime.block_on(writer))
    };
    start().map(drop).map_err(|error| failed("start the writer")(error.into()))
}

impl Local {
    /// Opens a file, which must be there.
    pub(crate) fn open(
        path: &Path,
        pragmas: &[(&'static str, String)],
        lock_timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = rusqlite::Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(lock_timeout)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            for (pragma, value) in pragmas {
                connection.pragma_update(None, pragma, value)?;
            }
            Ok(Self(connection))
        };
        open().map_err(Failure::of)
    }

    /// Executes a statement; returns how many rows it changed.
    pub(crate) fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, sqlx::Error> {
        self.rows(sql, values, usize::MAX)?;
        Ok(self.0.changes())
    }

    /// Executes a statement; returns the rows that it finds, at most so many.
    pub(crate) fn rows(&mut self, sql: &str, values: &[Value<'_>], most: usize) -> Result<Vec<LocalRow>, sqlx::Error> {
        let execute = || -> rusqlite::Result<Vec<LocalRow>> {
            // SQLite takes `$1` for a name like any other, and numbers names as they come.
            let mut statement = self.0.prepare_cached(&sql.replace('$', "?"))?;
            let columns: Arc<[String]> = statement.column_names().into_iter().map(str::to_owned).collect();
            let row = |row: &rusqlite::Row<'_>| {
                let values = (0..columns.len()).map(|column| row.get(column)).collect::<Result<_, _>>()?;
                Ok(LocalRow { columns: Arc::clone(&columns), values })
            };
            statement.query_map(rusqlite::params_from_iter(values), row)?.take(most).collect()
        };
        execute().map_err(Failure::of)
    }

    pub(crate) fn close(self) -> Result<(), sqlx::Error> {
        self.0.close().map_err(|(_, error)| Failure::of(error))
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Integer(Some(number)) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Flag(flag) => ValueRef::Integer(i64::from(*flag)),
            Self::Text(None) | Self::Integer(None) => ValueRef::Null,
        }))
    }
}

/// A row that was found.
pub(crate) struct LocalRow {
    columns: Arc<[String]>,
    values: Vec<rusqlite::types::Value>,
}

impl LocalRow {
    pub(crate) fn get<T: FromSql>(&self, column: usize) -> Result<T, sqlx::Error> {
        let value = self.values.get(column);
        let value = value.ok_or(sqlx::Error::ColumnIndexOutOfBounds { index: column, len: self.values.len() })?;
        T::column_result(value.into()).map_err(|error| sqlx::Error::Decode(error.into()))
    }

    pub(crate) fn named<T: FromSql>(&self, name: &str) -> Result<T, sqlx::Error> {
        let column = self.columns.iter().position(|column| column == name);
        self.get(column.ok_or_else(|| sqlx::Error::ColumnNotFound(name.to_owned()))?)
    }
}

/// An error of SQLite, told as sqlx's driver tells it.
#[derive(Debug, thiserror::Error)]
#[error("(code: {code}) {message}")]
struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    fn of(error: rusqlite::Error) -> sqlx::Error {
        match error.sqlite_error() {
            Some(cause) => {
                sqlx::Error::Database(Box::new(Self { code: cause.extended_code, message: error.to_string() }))
            }
            None => sqlx::Error::Decode(error.into()),
        }
    }
}

impl DatabaseError for Failure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn kind(&self) -> ErrorKind {
        match self.code {
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => ErrorKind::UniqueViolation,
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ErrorKind::ForeignKeyViolation,
            ffi::SQLITE_CONSTRAINT_NOTNULL => ErrorKind::NotNullViolation,
            ffi::SQLITE_CONSTRAINT_CHECK => ErrorKind::CheckViolation,
            _ => ErrorKind::Other,
        }
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }
}
