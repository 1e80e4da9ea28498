//! What is different on PostgreSQL.

use handshake_core::HostId;
use handshake_core::storage::{FaultKind, StorageError};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;

use crate::error::{failed, unfit};
use crate::limits::Limits;

pub(crate) const BEGIN: &str = "BEGIN";
/// Size of the database in bytes.
pub(crate) const SIZE: &str = "SELECT pg_database_size(current_database())";
/// Columns of a table by this name: `name`.
pub(crate) const COLUMNS: &str = "SELECT column_name::TEXT AS name FROM information_schema.columns \
     WHERE table_schema = current_schema() AND table_name = $1";
/// Tells every host that runs have been queued; heard when the transaction commits.
pub(crate) const NOTIFY: &str = "SELECT pg_notify('handshake_queued', '')";
const CHANNEL: &str = "handshake_queued";

// The lock of a host's id and the lock of migrations: numbers of two parts, the first of which says what for.
const HOST_LOCK: &str = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(hashtextextended('handshake migrations', 0))";
const MIGRATION_UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended('handshake migrations', 0))";
const LOCK_TIMEOUT: &str = "SELECT set_config('lock_timeout', $1, FALSE)";
const NO_STATEMENT_TIMEOUT: &str = "SELECT set_config('statement_timeout', '0', FALSE)";

/// A server, and how connections to it are opened.
#[derive(Debug)]
pub(crate) struct Postgres {
    options: PgConnectOptions,
    limits: Limits,
}

impl Postgres {
    pub(crate) fn new(options: PgConnectOptions, limits: Limits) -> Self {
        let milliseconds = |duration: std::time::Duration| duration.as_millis().to_string();
        let options = options
            .application_name("handshake")
            .options([
                // An answer means durable here, whatever the server's default is.
                ("synchronous_commit", "on".to_owned()),
                ("statement_timeout", milliseconds(limits.statement_timeout)),
                ("lock_timeout", milliseconds(limits.lock_timeout)),
                // A host that hangs in a transaction must not hold its rows for ever.
                ("idle_in_transaction_session_timeout", milliseconds(limits.statement_timeout)),
                // The server should notice soon that a host is gone: until then, nobody can open the host again.
                ("tcp_keepalives_idle", "10".to_owned()),
                ("tcp_keepalives_interval", "5".to_owned()),
                ("tcp_keepalives_count", "3".to_owned()),
            ])
            .disable_statement_logging();
        Self { options, limits }
    }

    /// Opens the writer's connection.
    pub(crate) async fn connect(&self) -> Result<sqlx::PgConnection, StorageError> {
        match tokio::time::timeout(self.limits.connect_timeout, self.options.connect()).await {
            Ok(connected) => connected.map_err(failed("connect to the database")),
            Err(_) => Err(failed("connect to the database")(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Makes this connection the only one that writes for the host. Waits a little: the server may not have noticed
    /// yet that an earlier connection is gone, whose last commit must be over before the books are read.
    pub(crate) async fn hold(&self, host: HostId, connection: &mut sqlx::PgConnection) -> Result<(), StorageError> {
        match sqlx::query(HOST_LOCK).bind(host.to_string()).execute(connection).await {
            Ok(_) => Ok(()),
            Err(error) if is_lock_timeout(&error) => Err(StorageError::Conflict(format!(
                "another process writes to this database as host `{host}`; each needs a data directory of its own"
            ))),
            Err(error) => Err(failed("lock the host's id")(error)),
        }
    }

    /// Takes the lock under which migrations are applied, waiting for whoever has it. From then on statements on
    /// this connection may last: a migration of a large database does.
    pub(crate) async fn lock_migrations(&self, connection: &mut sqlx::PgConnection) -> Result<(), StorageError> {
        let operation = "wait for another host to finish the migration";
        let patience = |limit: std::time::Duration| sqlx::query(LOCK_TIMEOUT).bind(format!("{}ms", limit.as_millis()));
        sqlx::query(NO_STATEMENT_TIMEOUT).execute(&mut *connection).await.map_err(failed(operation))?;
        patience(self.limits.migration_timeout).execute(&mut *connection).await.map_err(failed(operation))?;
        let locked = sqlx::query(MIGRATION_LOCK).execute(&mut *connection).await;
        patience(self.limits.lock_timeout).execute(&mut *connection).await.map_err(failed(operation))?;
        match locked {
            Ok(_) => Ok(()),
            Err(error) if is_lock_timeout(&error) => Err(unfit(FaultKind::Migrating)),
            Err(error) => Err(failed(operation)(error)),
        }
    }

    /// Gives it back.
    pub(crate) async fn unlock_migrations(&self, connection: &mut sqlx::PgConnection) -> Result<(), StorageError> {
        sqlx::query(MIGRATION_UNLOCK).execute(connection).await.map(drop).map_err(failed("unlock the migration"))
    }

    /// Connections for reading; opened when needed.
    pub(crate) fn readers(&self) -> sqlx::PgPool {
        PgPoolOptions::new()
            .max_connections(self.limits.readers)
            .acquire_timeout(self.limits.connect_timeout)
            .connect_lazy_with(self.options.clone().options([("default_transaction_read_only", "on")]))
    }

    /// Listens until the pool is closed, and passes on that runs were queued. While the connection is lost,
    /// waiting hosts are on their own: they look themselves now and then.
    pub(crate) async fn listen(pool: sqlx::PgPool, queued: watch::Sender<u64>) {
        let wake = || queued.send_modify(|count| *count += 1);
        while !pool.is_closed() {
            let mut listener = match listener(&pool).await {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::debug!(%error, "cannot listen for queued runs");
                    tokio::time::sleep(RECONNECT).await;
                    continue;
                }
            };
            // What was queued while nobody listened.
            wake();
            // An error or a lost connection ends the inner loop, and the outer one listens again.
            while let Ok(Some(_)) = listener.try_recv().await {
                wake();
            }
        }
    }
}

async fn listener(pool: &sqlx::PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Time between two attempts to listen.
const RECONNECT: std::time::Duration = std::time::Duration::from_secs(1);

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    // lock_not_available
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}
