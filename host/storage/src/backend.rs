//! The two backends behind one face; what they do differently is in `sqlite` and `postgres`.

use handshake_core::HostId;
use handshake_core::storage::StorageError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Unreachable, failed, unreachable};
use crate::limits::Limits;
use crate::local;
use crate::postgres::{self, Postgres};
use crate::sql::{Connection, query};
use crate::sqlite::{self, Sqlite};
use crate::url::{DatabaseUrl, Target};

/// Where the database is.
#[derive(Debug)]
pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl Backend {
    pub(crate) async fn open(url: DatabaseUrl, limits: Limits) -> Result<Self, StorageError> {
        Ok(match url.target {
            Target::Sqlite(path) => Self::Sqlite(Sqlite::open(path, limits).await?),
            Target::Postgres(options) => Self::Postgres(Box::new(Postgres::new(*options, limits))),
        })
    }

    /// Opens a connection for looking at a database that nobody may have prepared; none if there is no file.
    pub(crate) async fn look(url: DatabaseUrl, limits: Limits) -> Result<Option<Connection>, StorageError> {
        Ok(match url.target {
            Target::Sqlite(path) => sqlite::look(&path, limits).await?.map(Connection::Sqlite),
            Target::Postgres(options) => Some(Connection::Postgres(Postgres::new(*options, limits).connect().await?)),
        })
    }

    /// Its name in statistics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// The statement that asks for the size of the database in bytes.
    pub(crate) fn size(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite::SIZE,
            Self::Postgres(_) => postgres::SIZE,
        }
    }

    /// Whether several hosts may write to it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Opens the writer's connection.
    pub(crate) async fn writer(&self) -> Result<Connection, StorageError> {
        Ok(match self {
            Self::Sqlite(sqlite) => Connection::Local(sqlite.writer()?),
            Self::Postgres(postgres) => Connection::Postgres(postgres.connect().await?),
        })
    }

    /// Carries out the writer, which ends by itself, where what it waits for keeps nobody else.
    pub(crate) fn spawn(&self, writer: impl Future<Output = ()> + Send + 'static) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(_) => local::spawn(writer),
            Self::Postgres(_) => {
                tokio::spawn(writer);
                Ok(())
            }
        }
    }

    /// Opens a connection that migrates.
    pub(crate) async fn connect(&self) -> Result<Connection, StorageError> {
        Ok(match self {
            Self::Sqlite(sqlite) => Connection::Sqlite(sqlite.connect().await?),
            Self::Postgres(postgres) => Connection::Postgres(postgres.connect().await?),
        })
    }

    /// Makes this connection the only one that writes for the host.
    pub(crate) async fn hold(&self, host: HostId, connection: &mut Connection) -> Result<(), StorageError> {
        match (self, connection) {
            (Self::Postgres(postgres), Connection::Postgres(connection)) => postgres.hold(host, connection).await,
            // The lock file does it.
            _ => Ok(()),
        }
    }

    /// Waits until no other host migrates, and keeps others from doing so.
    pub(crate) async fn lock_migrations(&self, connection: &mut Connection) -> Result<(), StorageError> {
        match (self, connection) {
            (Self::Postgres(postgres), Connection::Postgres(connection)) => postgres.lock_migrations(connection).await,
            _ => Ok(()),
        }
    }

    /// Lets others migrate.
    pub(crate) async fn unlock_migrations(&self, connection: &mut Connection) -> Result<(), StorageError> {
        match (self, connection) {
            (Self::Postgres(postgres), Connection::Postgres(connection)) => {
                postgres.unlock_migrations(connection).await
            }
            _ => Ok(()),
        }
    }

    /// Lets others open the database, now that every connection is closed.
    pub(crate) fn release(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.release(),
            // The lock on the host's id went with the writer's connection.
            Self::Postgres(_) => {}
        }
    }

    /// Connections for reading.
    pub(crate) fn readers(&self) -> Pool {
        match self {
            Self::Sqlite(sqlite) => Pool::Sqlite(sqlite.readers()),
            Self::Postgres(postgres) => Pool::Postgres(postgres.readers()),
        }
    }
}

impl Connection {
    /// Whether other processes may write to the database.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::PostgresReader(_))
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let begin = if self.is_shared() { postgres::BEGIN } else { sqlite::BEGIN };
        query(begin).execute(self).await.map(drop)
    }

    /// Makes it durable.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        query("COMMIT").execute(self).await.map(drop)
    }

    /// Undoes it.
    pub(crate) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        query("ROLLBACK").execute(self).await.map(drop)
    }

    /// Tells other hosts, once the transaction is over, that runs were queued.
    pub(crate) async fn announce(&mut self) -> Result<(), StorageError> {
        if !self.is_shared() {
            return Ok(());
        }
        query(postgres::NOTIFY).execute(self).await.map(drop).map_err(failed("announce a queued run"))
    }

    /// Whether a table of this name has a column of that.
    pub(crate) async fn has_column(&mut self, table: &str, column: &str) -> Result<bool, sqlx::Error> {
        let columns = if self.is_shared() { postgres::COLUMNS } else { sqlite::COLUMNS };
        let rows = query(columns).bind(table).fetch_all(self).await?;
        Ok(rows.iter().any(|row| crate::sql::column::<String>(row, "name").is_ok_and(|name| name == column)))
    }
}

/// Connections for reading.
pub(crate) enum Pool {
    Sqlite(sqlx::SqlitePool),
    Postgres(sqlx::PgPool),
}

impl Pool {
    pub(crate) async fn acquire(&self, operation: &'static str) -> Result<Connection, StorageError> {
        let acquired = match self {
            Self::Sqlite(pool) => pool.acquire().await.map(Connection::SqliteReader),
            Self::Postgres(pool) => pool.acquire().await.map(Connection::PostgresReader),
        };
        acquired.map_err(|error| match error {
            sqlx::Error::PoolClosed => unreachable(operation, Unreachable::Closed),
            error => failed(operation)(error),
        })
    }

    /// Passes on, until the pool is closed, that hosts have queued runs.
    pub(crate) fn listen(&self, queued: watch::Sender<u64>) -> Option<JoinHandle<()>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(pool) => Some(tokio::spawn(Postgres::listen(pool.clone(), queued))),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
