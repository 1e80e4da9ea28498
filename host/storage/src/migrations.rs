//! Brings the database to this version's schema.

use handshake_core::storage::StorageError;
use sqlx::migrate::Migrator;

use crate::sqlite::Connection;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// The latest applied migration.
pub(crate) const VERSION: &str = "SELECT MAX(version) FROM _sqlx_migrations";

/// Applies what is missing. A database of a later version than this host's is refused.
pub(crate) async fn run(connection: &mut Connection) -> Result<(), StorageError> {
    MIGRATIONS.run(connection).await.map_err(|error| StorageError::Migration(Box::new(error)))
}

#[cfg(test)]
#[path = "migrations_tests.rs"]
mod tests;
