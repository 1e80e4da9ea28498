//! One way to say a statement to either backend.
//!
//! A statement is written once, in SQL that both understand, and says its arguments and asks for its columns through
//! the few types that are stored (see `docs/MIGRATION_GUIDE.md`). sqlx's own `Any` driver would lose the difference
//! between a missing text and a missing number, and could not say what PostgreSQL alone knows.

use std::borrow::Cow;

use futures::TryStreamExt;
use handshake_core::storage::StorageError;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Either, Executor as _, Postgres, Row as _, Sqlite};

use crate::error::{failed, unreadable};

/// A connection, the writer's own or one lent by a pool.
///
/// SQLite's driver runs statements on a thread of its own, and waking that costs more than most statements do. So
/// what begins a transaction goes along with the first statement in it, what ends it with the last one, and what
/// nobody waits for with whatever comes next. sqlx executes several statements at once for SQLite alone, and may give
/// that up one day; then each goes on its own.
pub(crate) enum Connection {
    Sqlite { connection: sqlx::SqliteConnection, ahead: Ahead },
    SqliteReader(PoolConnection<Sqlite>),
    Postgres(sqlx::PgConnection),
    PostgresReader(PoolConnection<Postgres>),
}

/// What goes before the next statement of SQLite's writer.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Begins a transaction; empty when the database knows of it already.
    begin: &'static str,
    sql: String,
    values: Vec<Value<'static>>,
    /// How many statements these are.
    statements: usize,
}

/// Most statements that wait for the next one. Prepared statements are kept by their whole text, so there must not be
/// too many ways to put them together; what one operation says is not put together with what another does.
const MOST_AHEAD: usize = 8;

impl Ahead {
    /// Begins a transaction with the next statement.
    pub(crate) fn begin(&mut self, begin: &'static str) {
        *self = Self { begin, ..Self::default() };
    }

    /// Forgets all of it. Whether the database knows of the transaction.
    pub(crate) fn forget(&mut self) -> bool {
        std::mem::take(self).begin.is_empty()
    }
}

/// The driver's connection behind it.
pub(crate) enum Driver<'c> {
    Sqlite(&'c mut sqlx::SqliteConnection),
    Postgres(&'c mut sqlx::PgConnection),
}

impl Connection {
    pub(crate) fn driver(&mut self) -> Driver<'_> {
        match self {
            Self::Sqlite { connection, .. } => Driver::Sqlite(connection),
            Self::SqliteReader(connection) => Driver::Sqlite(connection),
            Self::Postgres(connection) => Driver::Postgres(connection),
            Self::PostgresReader(connection) => Driver::Postgres(connection),
        }
    }

    /// Says what waits for the next statement.
    pub(crate) async fn catch_up(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite { ahead, .. } if ahead.statements > 0 => query("").execute(self).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Closes a connection of the writer; one of a pool goes back to it.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite { connection, .. } => sqlx::Connection::close(connection).await,
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

impl Value<'_> {
    fn into_owned(self) -> Value<'static> {
        match self {
            Self::Text(text) => Value::Text(text.map(|text| Cow::Owned(text.into_owned()))),
            Self::Integer(number) => Value::Integer(number),
            Self::Real(number) => Value::Real(number),
            Self::Flag(flag) => Value::Flag(flag),
        }
    }
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
    /// Whether it says nothing yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

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

    /// Its text for a connection that begins a transaction with it or not.
    fn text(&mut self, connection: &mut Connection) -> String {
        let keep = match (self.keep, connection.is_shared()) {
            (Keep::Rows, true) => " FOR UPDATE",
            (Keep::FreeRows, true) => " FOR UPDATE SKIP LOCKED",
            _ => "",
        };
        let sql = std::mem::take(&mut self.sql);
        match connection {
            Connection::Sqlite { ahead, .. } => {
                let Ahead { begin, sql: mut text, values, statements } = std::mem::take(ahead);
                if begin.is_empty() && statements == 0 {
                    return nameless(sql.into_owned());
                }
                text.insert_str(0, begin);
                push_behind(&mut text, &sql, values.len());
                self.values.splice(0..0, values);
                nameless(text)
            }
            _ if keep.is_empty() => sql.into_owned(),
            _ => [&sql, keep].concat(),
        }
    }

    /// Says it at the latest with the next statement, before that one and in the same transaction. For statements that
    /// change something and can fail for no reason that the caller would tell apart.
    pub(crate) async fn execute_later(self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let Connection::Sqlite { ahead, .. } = connection else {
            return self.execute(connection).await.map(drop);
        };
        if ahead.statements == MOST_AHEAD {
            return self.execute(connection).await.map(drop);
        }
        push_behind(&mut ahead.sql, &self.sql, ahead.values.len());
        ahead.sql.push_str("; ");
        ahead.values.extend(self.values.into_iter().map(Value::into_owned));
        ahead.statements += 1;
        Ok(())
    }

    /// Says it like [`Query::execute_later`], or at once.
    pub(crate) async fn execute_soon(self, later: bool, connection: &mut Connection) -> Result<(), sqlx::Error> {
        if later { self.execute_later(connection).await } else { self.execute(connection).await.map(drop) }
    }

    /// Says it; returns how many rows it changed.
    pub(crate) async fn execute(mut self, connection: &mut Connection) -> Result<u64, sqlx::Error> {
        let sql = self.text(connection);
        match connection.driver() {
            Driver::Sqlite(driver) => changed(driver, bound!(sql, self.values)).await,
            Driver::Postgres(driver) => Ok(bound!(sql, self.values).execute(driver).await?.rows_affected()),
        }
    }

    /// The row it finds, if any.
    pub(crate) async fn fetch_optional(mut self, connection: &mut Connection) -> Result<Option<Row>, sqlx::Error> {
        let sql = self.text(connection);
        match connection.driver() {
            Driver::Sqlite(driver) => Ok(bound!(sql, self.values).fetch_optional(driver).await?.map(Row::Sqlite)),
            Driver::Postgres(driver) => Ok(bound!(sql, self.values).fetch_optional(driver).await?.map(Row::Postgres)),
        }
    }

    /// Every row it finds.
    pub(crate) async fn fetch_all(mut self, connection: &mut Connection) -> Result<Vec<Row>, sqlx::Error> {
        let sql = self.text(connection);
        Ok(match connection.driver() {
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
        let mut found = Vec::new();
        match connection.driver() {
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

/// Puts a statement behind others that have so many arguments.
fn push_behind(text: &mut String, sql: &str, arguments: usize) {
    use std::fmt::Write as _;
    if arguments == 0 {
        text.push_str(sql);
        return;
    }
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let number = number.parse::<usize>().unwrap_or(0);
        // Writing into a string cannot fail.
        let _ = write!(text, "${}{rest}", arguments + number);
    }
}

/// Takes the numbers from places of arguments that stand in order, each once; SQLite counts those by itself. With
/// numbers its driver looks up the name of every argument among all that the statement has, which takes longer than to
/// write a row of the outbox.
fn nameless(text: String) -> String {
    let mut parts = text.split('$');
    let mut counted = parts.next().unwrap_or_default().to_owned();
    counted.reserve(text.len());
    for (at, part) in parts.enumerate() {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        if number.parse() != Ok(at + 1) {
            return text;
        }
        counted.push('?');
        counted.push_str(rest);
    }
    counted
}

/// How many rows the last change among several statements changed; statements that change nothing repeat the number.
async fn changed<'q>(
    driver: &mut sqlx::SqliteConnection,
    bound: sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<u64, sqlx::Error> {
    let mut results = driver.fetch_many(bound);
    let mut changed = 0;
    while let Some(result) = results.try_next().await? {
        if let Either::Left(done) = result {
            changed = done.rows_affected();
        }
    }
    Ok(changed)
}

/// A row of either backend.
pub(crate) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

/// What a column can be read as.
pub(crate) trait Column:
    for<'r> sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl<T> Column for T where
    T: for<'r> sqlx::Decode<'r, Sqlite>
        + sqlx::Type<Sqlite>
        + for<'r> sqlx::Decode<'r, Postgres>
        + sqlx::Type<Postgres>
{
}

impl Row {
    fn get<T: Column>(&self, column: usize) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// A column by its name.
pub(crate) fn column<T: Column>(row: &Row, name: &'static str) -> Result<T, StorageError> {
    match row {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lose_their_numbers_only_where_they_stand_in_order_and_once() {
        let counted = |text: &str| nameless(text.to_owned());
        assert_eq!(
            counted("BEGIN; UPDATE t SET a = $1; INSERT INTO t VALUES ($2, $3); COMMIT"),
            "BEGIN; UPDATE t SET a = ?; INSERT INTO t VALUES (?, ?); COMMIT"
        );
        for as_it_is in ["a = $2 AND b = $1", "a = $1 AND b = $1", "a = $1 AND b = '$'", "a = $2", "COMMIT"] {
            assert_eq!(counted(as_it_is), as_it_is);
        }
        let ten: String = (1..=10).map(|n| format!("${n},")).collect();
        assert_eq!(counted(&ten), "?,".repeat(10));
    }
}
