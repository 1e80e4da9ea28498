//! From the driver's errors to those of the port. The driver's stay inside, as a boxed source.

use handshake_core::storage::{Fault, FaultKind, StorageError};
use sqlx::migrate::MigrateError;

/// Why a request never reached the database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// It was closed.
    #[error("the database is closed")]
    Closed,
    /// Events that must come first cannot be written.
    #[error("events that come before it cannot be written")]
    Blocked,
    /// Neither the commit nor the look at what became of it succeeded.
    #[error("it is not known whether the commit took effect: {0}")]
    Unknown(String),
    /// The books say that this host's chain stands somewhere else.
    #[error("another writer has moved this host's chain; is the data directory in use twice?")]
    HeadMoved,
}

/// Wraps an error of the driver.
pub(crate) fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StorageError {
    move |error| {
        let unavailable = is_unavailable(&error);
        let source: Box<dyn std::error::Error + Send + Sync> = match fault(&error) {
            Some(kind) => Box::new(Fault { kind, source: Some(Box::new(error)) }),
            None => Box::new(error),
        };
        if unavailable {
            StorageError::Unavailable { operation, source }
        } else {
            StorageError::Database { operation, source }
        }
    }
}

/// Whether the database was out of reach, or too busy: the statement took no effect, and may another time.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        error if is_distrusted(error) => false,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| match error.kind() {
            _ if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() => {
                // Connection exceptions, insufficient resources, operator intervention, locks and deadlocks.
                ["08", "53300", "57014", "57P", "55P03", "40"].iter().any(|class| code.starts_with(class))
            }
            // Busy and locked, with their extended codes.
            _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6)),
        }),
        _ => false,
    }
}

/// Whether TLS failed, as it does for a certificate of somebody else. What rustls finds wrong comes as invalid data.
fn is_distrusted(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// What is wrong with the database, where somebody can mend it.
fn fault(error: &sqlx::Error) -> Option<FaultKind> {
    match error {
        error if is_distrusted(error) => Some(FaultKind::Tls),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Some(FaultKind::Unreachable),
        sqlx::Error::Database(error) => {
            let code = error.code()?;
            match error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
                Some(_) => postgres_fault(&code),
                None => sqlite_fault(code.parse().ok()?),
            }
        }
        _ => None,
    }
}

fn postgres_fault(code: &str) -> Option<FaultKind> {
    Some(match code {
        "28P01" | "28000" => FaultKind::Login,
        "3D000" => FaultKind::UnknownDatabase,
        // insufficient_privilege, and no schema to create something in.
        "42501" | "3F000" => FaultKind::Permission,
        "25006" => FaultKind::ReadOnly,
        "53100" => FaultKind::Full,
        "XX001" | "XX002" => FaultKind::Corrupt,
        // Too many connections, starting or ending, statement and lock timeouts.
        "53300" | "57P03" | "57014" | "55P03" => FaultKind::Busy,
        // Shut down by its administrator, crashed, and connection exceptions.
        code if code.starts_with("57P0") || code.starts_with("08") => FaultKind::Unreachable,
        _ => return None,
    })
}

/// By SQLite's result codes, whose lowest byte is the kind.
fn sqlite_fault(code: u32) -> Option<FaultKind> {
    // A write or the growth of a file failed, which is how limits on file sizes show.
    const IOERR_WRITE: u32 = 778;
    const IOERR_SHMSIZE: u32 = 4874;
    Some(match (code, code & 0xff) {
        (_, 5 | 6) => FaultKind::Busy,
        (_, 3 | 8) => FaultKind::ReadOnly,
        (_, 11 | 26) => FaultKind::Corrupt,
        (IOERR_WRITE | IOERR_SHMSIZE, _) | (_, 13) => FaultKind::Full,
        (_, 14) => FaultKind::CannotOpen,
        _ => return None,
    })
}

/// Wraps a failed migration.
pub(crate) fn migration_failed(error: MigrateError) -> StorageError {
    let kind = match &error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => fault(cause),
        _ => None,
    };
    StorageError::Migration(match kind {
        Some(kind) => Box::new(Fault { kind, source: Some(Box::new(error)) }),
        None => Box::new(error),
    })
}

/// A database whose schema is not for this program, or cannot be made so now.
pub(crate) fn unfit(kind: FaultKind) -> StorageError {
    StorageError::Migration(Box::new(Fault { kind, source: None }))
}

/// Wraps one of ours.
pub(crate) fn unreachable(operation: &'static str, cause: Unreachable) -> StorageError {
    StorageError::Database { operation, source: Box::new(cause) }
}

/// A stored value that cannot be read.
pub(crate) fn unreadable<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl FnOnce(E) -> StorageError {
    move |source| StorageError::Serialization { what, source: Box::new(source) }
}

/// Whether the database refused a second row with the same key.
pub(crate) fn is_duplicate(error: &StorageError) -> bool {
    database_error(error).is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Whether the books stand elsewhere than this writer thought.
pub(crate) fn has_moved(error: &StorageError) -> bool {
    let StorageError::Database { source, .. } = error else { return false };
    matches!(source.downcast_ref(), Some(Unreachable::HeadMoved))
}

/// Whether another host was in the way at the same moment, so that the same write may well succeed now, or find out
/// better why not: a deadlock that was resolved by giving up this transaction, a row with the same key, or a row that
/// refers to one which is gone.
pub(crate) fn is_race(error: &StorageError) -> bool {
    is_duplicate(error)
        || database_error(error).is_some_and(|error| {
            // serialization_failure, deadlock_detected
            error.is_foreign_key_violation() || error.code().is_some_and(|code| matches!(&*code, "40001" | "40P01"))
        })
}

fn database_error(error: &StorageError) -> Option<&dyn sqlx::error::DatabaseError> {
    let (StorageError::Database { source, .. } | StorageError::Unavailable { source, .. }) = error else { return None };
    source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error)
}
