//! One way to say a statement to either backend.
//!
//! A statement is written once, in SQL that both understand, and says its arguments and asks for its columns through
//! the few types that are stored (see `docs/MIGRATION_GUIDE.md`). sqlx's own `Any` driver would lose the difference
//! between a missing text and a missing number, and could not say what PostgreSQL alone knows.

use std::borrow::Cow;

use futures::TryStreamExt;
use handshake_core::storage::StorageError;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite};

use crate::error::{failed, unreadable};
use crate::local::{Local, LocalRow};

/// A connection, the writer's own or one lent by a pool.
pub(crate) enum Connection {
    /// The writer's, to SQLite.
    Local(Local),
    Sqlite(sqlx::SqliteConnection),
    SqliteReader(PoolConnection<Sqlite>),
    Postgres(sqlx::PgConnection),
    PostgresReader(PoolConnection<Postgres>),
}

/// sqlx's connection behind it.
pub(crate) enum Driver<'c> {
    Sqlite(&'c mut sqlx::SqliteConnection),
    Postgres(&'c mut sqlx::PgConnection),
}

impl Connection {
    /// sqlx's connection, which the writer's to SQLite does not have.
    pub(crate) fn driver(&mut self) -> Result<Driver<'_>, sqlx::Error> {
        Ok(match self {
            Self::Local(_) => return Err(sqlx::Error::Configuration("the writer's connection is not sqlx's".into())),
            Self::Sqlite(connection) => Driver::Sqlite(connection),
            Self::SqliteReader(connection) => Driver::Sqlite(connection),
            Self::Postgres(connection) => Driver::Postgres(connection),
            Self::PostgresReader(connection) => Driver::Postgres(connection),
        })
    }

    /// Closes a connection of its own; one of a pool goes back to it.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Local(connection) => connection.close(),
            Self::Sqlite(connection) => sqlx::Connection::close(connection).await,
            Self::Postgres(connection) => sqlx::Connection::close(connection).await,
            Self::SqliteReader(_) | Self::PostgresReader(_) => Ok(()),
        }
    }
}

/// A value that a statement is given. What may be missing is missing as its own type.
#[derive(Debug, Clone)]
pub(crate) enum Value<'q> {
    Text(Option<Cow<'q, str>>),
    Integer(Option<i64>),
    Real(f64),
    Flag(bool),
}

macro_rules! values {
    ($($from:ty, $value:ident => $made:expr;)*) => {$(
        impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                $made
            }
        }
    )*};
}

values! {
    &'q str, text => Self::Text(Some(Cow::Borrowed(text)));
    Option<&'q str>, text => Self::Text(text.map(Cow::Borrowed));
    String, text => Self::Text(Some(Cow::Owned(text)));
    Option<String>, text => Self::Text(text.map(Cow::Owned));
    i64, number => Self::Integer(Some(number));
    Option<i64>, number => Self::Integer(number);
    f64, number => Self::Real(number);
    bool, flag => Self::Flag(flag);
}

/// Which rows a `SELECT` keeps for itself until its transaction ends. SQLite has one writer, so nobody else is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Rows,
    FreeRows,
}

/// A statement with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Query<'q> {
    sql: Cow<'static, str>,
    values: Vec<Value<'q>>,
    keep: Keep,
}

/// A statement, written for both backends.
pub(crate) fn query<'q>(sql: impl Into<Cow<'static, str>>) -> Query<'q> {
    Query { sql: sql.into(), values: Vec::new(), keep: Keep::Nothing }
}

/// The sqlx query of a backend for a text and its arguments.
macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        // Every statement is a constant of this crate, put together from constants, or a list of `$n`.
        let mut bound = sqlx::query(AssertSqlSafe($sql));
        for value in $values {
            bound = match value {
                Value::Text(Some(Cow::Borrowed(text))) => bound.bind(text),
                Value::Text(text) => bound.bind(text.map(Cow::into_owned)),
                Value::Integer(number) => bound.bind(number),
                Value::Real(number) => bound.bind(number),
                Value::Flag(flag) => bound.bind(flag),
            };
        }
        bound
    }};
}

impl<'q> Query<'q> {
    /// Gives it the next argument.
    pub(crate) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Adds to its text.
    pub(crate) fn push(mut self, sql: &str) -> Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Adds the place of an argument, and gives it the argument.
    pub(crate) fn push_bind(mut self, value: impl Into<Value<'q>>) -> Self {
        use std::fmt::Write as _;
        self.values.push(value.into());
        // Writing into a string cannot fail.
        let _ = write!(self.sql.to_mut(), "${}", self.values.len());
        self
    }

    /// Keeps the rows it finds from changing until the transaction ends; waits for whoever has them now.
    pub(crate) fn keep_rows(mut self) -> Self {
        self.keep = Keep::Rows;
        self
    }

    /// Likewise, and passes over rows that somebody else keeps.
    pub(crate) fn keep_free_rows(mut self) -> Self {
        self.keep = Keep::FreeRows;
        self
    }

    /// Its text for a connection.
    fn text(&mut self, connection: &Connection) -> Cow<'static, str> {
        let sql = std::mem::take(&mut self.sql);
        let keep = match (self.keep, connection.is_shared()) {
            (Keep::Rows, true) => " FOR UPDATE",
            (Keep::FreeRows, true) => " FOR UPDATE SKIP LOCKED",
            _ => return sql,
        };
        Cow::Owned([&sql, keep].concat())
    }

    /// Says it; returns how many rows it changed.
    pub(crate) async fn execute(mut self, connection: &mut Connection) -> Result<u64, sqlx::Error> {
        let sql = self.text(connection);
        if let Connection::Local(local) = connection {
            return local.execute(&sql, &self.values);
        }
        match connection.driver()? {
            Driver::Sqlite(driver) => Ok(bound!(sql, self.values).execute(driver).await?.rows_affected()),
            Driver::Postgres(driver) => Ok(bound!(sql, self.values).execute(driver).await?.rows_affected()),
        }
    }

    /// The row it finds, if any.
    pub(crate) async fn fetch_optional(mut self, connection: &mut Connection) -> Result<Option<Row>, sqlx::Error> {
        let sql = self.text(connection);
        if let Connection::Local(local) = connection {
            return Ok(local.rows(&sql, &self.values, 1)?.pop().map(Row::Local));
        }
        match connection.driver()? {
            Driver::Sqlite(driver) => Ok(bound!(sql, self.values).fetch_optional(driver).await?.map(Row::Sqlite)),
            Driver::Postgres(driver) => Ok(bound!(sql, self.values).fetch_optional(driver).await?.map(Row::Postgres)),
        }
    }

    /// Every row it finds.
    pub(crate) async fn fetch_all(mut self, connection: &mut Connection) -> Result<Vec<Row>, sqlx::Error> {
        let sql = self.text(connection);
        if let Connection::Local(local) = connection {
            return Ok(local.rows(&sql, &self.values, usize::MAX)?.into_iter().map(Row::Local).collect());
        }
        Ok(match connection.driver()? {
            Driver::Sqlite(driver) => {
                bound!(sql, self.values).fetch_all(driver).await?.into_iter().map(Row::Sqlite).collect()
            }
            Driver::Postgres(driver) => {
                bound!(sql, self.values).fetch_all(driver).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Every row it finds, decoded one at a time: the driver's form of a row takes several times the memory of ours.
    pub(crate) async fn fetch_each<T>(
        mut self,
        connection: &mut Connection,
        operation: &'static str,
        mut decode: impl FnMut(&Row) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        let sql = self.text(connection);
        if let Connection::Local(local) = connection {
            let rows = local.rows(&sql, &self.values, usize::MAX).map_err(failed(operation))?;
            return rows.into_iter().map(|row| decode(&Row::Local(row))).collect();
        }
        let mut found = Vec::new();
        match connection.driver().map_err(failed(operation))? {
            Driver::Sqlite(driver) => {
                let bound = bound!(sql, self.values);
                let mut rows = bound.fetch(driver);
                while let Some(row) = rows.try_next().await.map_err(failed(operation))? {
                    found.push(decode(&Row::Sqlite(row))?);
                }
            }
            Driver::Postgres(driver) => {
                let bound = bound!(sql, self.values);
                let mut rows = bound.fetch(driver);
                while let Some(row) = rows.try_next().await.map_err(failed(operation))? {
                    found.push(decode(&Row::Postgres(row))?);
                }
            }
        }
        Ok(found)
    }

    /// The one column of the row it finds, if any.
    pub(crate) async fn fetch_value<T: Column>(self, connection: &mut Connection) -> Result<Option<T>, sqlx::Error> {
        self.fetch_optional(connection).await?.map(|row| row.get(0)).transpose()
    }
}

/// A row of either backend.
pub(crate) enum Row {
    Local(LocalRow),
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

/// What a column can be read as.
pub(crate) trait Column:
    for<'r> sqlx::Decode<'r, Sqlite>
    + sqlx::Type<Sqlite>
    + for<'r> sqlx::Decode<'r, Postgres>
    + sqlx::Type<Postgres>
    + rusqlite::types::FromSql
{
}

impl<T> Column for T where
    T: for<'r> sqlx::Decode<'r, Sqlite>
        + sqlx::Type<Sqlite>
        + for<'r> sqlx::Decode<'r, Postgres>
        + sqlx::Type<Postgres>
        + rusqlite::types::FromSql
{
}

impl Row {
    fn get<T: Column>(&self, column: usize) -> Result<T, sqlx::Error> {
        match self {
            Self::Local(row) => row.get(column),
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// A column by its name.
pub(crate) fn column<T: Column>(row: &Row, name: &'static str) -> Result<T, StorageError> {
    match row {
        Row::Local(row) => row.named(name),
        Row::Sqlite(row) => row.try_get(name),
        Row::Postgres(row) => row.try_get(name),
    }
    .map_err(unreadable(name))
}

/// A column that is never negative.
pub(crate) fn number<T: TryFrom<i64, Error = std::num::TryFromIntError>>(
    row: &Row,
    name: &'static str,
) -> Result<T, StorageError> {
    T::try_from(column::<i64>(row, name)?).map_err(unreadable(name))
}

/// A number as the database holds it.
pub(crate) fn signed(number: u64) -> Result<i64, StorageError> {
    i64::try_from(number).map_err(|_| StorageError::Validation(format!("`{number}` is too large to be stored")))
}
