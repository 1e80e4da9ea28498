//! From the driver's errors to those of the port. The driver's stay inside, as a boxed source.

use handshake_core::storage::StorageError;

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
    move |source| StorageError::Database { operation, source: Box::new(source) }
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
    match error {
        StorageError::Database { source, .. } => source
            .downcast_ref::<sqlx::Error>()
            .and_then(sqlx::Error::as_database_error)
            .is_some_and(|error| error.is_unique_violation()),
        _ => false,
    }
}
