//! Brings the database to this version's schema.

use handshake_core::storage::{FaultKind, Migration, Schema, StorageError};
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migrator};

use crate::backend::Backend;
use crate::error::{failed, migration_failed, unfit};
use crate::sql::{Connection, Driver};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// The latest applied migration.
pub(crate) const VERSION: &str = "SELECT MAX(version) FROM _sqlx_migrations";
/// The tracking table, as sqlx names it.
const TABLE: &str = "_sqlx_migrations";

/// How the schema stands.
pub(crate) async fn schema(connection: &mut Connection) -> Result<Schema, StorageError> {
    Ok(schema_after(&applied(connection).await?))
}

/// How the schema stands when these migrations have been applied.
pub(crate) fn schema_after(applied: &[AppliedMigration]) -> Schema {
    let pending = ups().filter(|migration| applied.iter().all(|applied| applied.version != migration.version));
    Schema {
        version: applied.iter().map(|migration| migration.version).max(),
        known: known(),
        pending: pending
            .map(|migration| Migration { version: migration.version, description: migration.description.to_string() })
            .collect(),
    }
}

/// The latest migration of this program.
pub(crate) fn known() -> i64 {
    ups().map(|migration| migration.version).max().unwrap_or(0)
}

fn ups() -> impl Iterator<Item = &'static sqlx::migrate::Migration> {
    MIGRATIONS.iter().filter(|migration| !migration.migration_type.is_down_migration())
}

/// Applies what is missing; one host at a time. A database of a later version than this host's is refused. Returns
/// how the schema stood before.
pub(crate) async fn run(backend: &Backend, connection: &mut Connection) -> Result<Schema, StorageError> {
    backend.lock_migrations(connection).await?;
    let migrated = apply(connection).await;
    // The lock goes with its connection, so what went wrong is the more important news.
    match (migrated, backend.unlock_migrations(connection).await) {
        (Ok(before), unlocked) => unlocked.map(|()| before),
        (Err(error), _) => Err(error),
    }
}

async fn apply(connection: &mut Connection) -> Result<Schema, StorageError> {
    let applied = applied(connection).await?;
    let before = schema_after(&applied);
    if let (true, Some(found)) = (before.is_newer(), before.version) {
        return Err(unfit(FaultKind::Newer { found, known: before.known }));
    }
    let is_ours = |applied: &&AppliedMigration| {
        ups().any(|known| (known.version, &known.checksum) == (applied.version, &applied.checksum))
    };
    if let Some(foreign) = applied.iter().find(|applied| !is_ours(applied)) {
        return Err(unfit(FaultKind::Changed { version: foreign.version }));
    }
    if before.pending.is_empty() {
        // Nothing is asked for that a user without the right to create tables may not do.
        return Ok(before);
    }
    recognise(connection, &applied).await.map_err(migration_failed)?;
    match connection.driver().map_err(failed("migrate"))? {
        Driver::Sqlite(driver) => MIGRATIONS.run_direct(None, driver, false).await,
        Driver::Postgres(driver) => MIGRATIONS.run_direct(None, driver, false).await,
    }
    .map_err(migration_failed)?;
    Ok(before)
}

/// Records migrations that add a column which is there already as applied. SQLite cannot say ADD COLUMN IF NOT
/// EXISTS, so this is what makes them safe to replay.
async fn recognise(connection: &mut Connection, applied: &[AppliedMigration]) -> Result<(), MigrateError> {
    for migration in ups() {
        let Some((table, column)) = added_column(migration.sql.as_str()) else { continue };
        let is_applied = applied.iter().any(|applied| applied.version == migration.version);
        if is_applied || !connection.has_column(table, column).await? {
            continue;
        }
        match connection.driver()? {
            Driver::Sqlite(driver) => skip(driver, migration).await?,
            Driver::Postgres(driver) => skip(driver, migration).await?,
        }
    }
    Ok(())
}

async fn skip(driver: &mut impl Migrate, migration: &sqlx::migrate::Migration) -> Result<(), MigrateError> {
    driver.ensure_migrations_table(TABLE).await?;
    driver.skip(TABLE, migration).await
}

/// What has been applied; nothing in a new database, which is not touched.
async fn applied(connection: &mut Connection) -> Result<Vec<AppliedMigration>, StorageError> {
    let is_new = !connection.has_column(TABLE, "version").await.map_err(failed("read the schema's version"))?;
    if is_new {
        return Ok(Vec::new());
    }
    match connection.driver().map_err(failed("migrate"))? {
        Driver::Sqlite(driver) => driver.list_applied_migrations(TABLE).await,
        Driver::Postgres(driver) => driver.list_applied_migrations(TABLE).await,
    }
    .map_err(migration_failed)
}

/// Table and column, if this is a migration that adds one. Such a migration does nothing else.
fn added_column(sql: &str) -> Option<(&str, &str)> {
    let mut words = sql.lines().filter(|line| !line.starts_with("--")).flat_map(str::split_ascii_whitespace);
    match std::array::from_fn(|_| words.next().unwrap_or_default()) {
        ["ALTER", "TABLE", table, "ADD", "COLUMN", column] => Some((table, column)),
        _ => None,
    }
}

/// Reverts every migration above this version. Development and tests alone: releases have no way back.
#[cfg(debug_assertions)]
pub(crate) async fn revert(connection: &mut Connection, version: i64) -> Result<(), StorageError> {
    match connection.driver().map_err(failed("migrate"))? {
        Driver::Sqlite(driver) => MIGRATIONS.undo(driver, version).await,
        Driver::Postgres(driver) => MIGRATIONS.undo(driver, version).await,
    }
    .map_err(migration_failed)
}

/// Tables with a column that refers to one of these and does not go with it by itself.
#[cfg(test)]
pub(crate) fn tables_referring_to(tables: &[&str]) -> std::collections::BTreeSet<&'static str> {
    let statements = ups().flat_map(|migration| migration.sql.as_str().split(';'));
    let creations = statements.filter_map(|sql| sql.split_once("CREATE TABLE IF NOT EXISTS ")).map(|(_, rest)| rest);
    let referring = creations.filter(|sql| {
        tables.iter().any(|table| {
            let reference = format!("REFERENCES {table} (");
            sql.split(&reference)
                .skip(1)
                .any(|rest| !rest.split(',').next().unwrap_or_default().contains("ON DELETE CASCADE"))
        })
    });
    referring.filter_map(|sql| sql.split(' ').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_that_adds_a_column_is_told_from_others() {
        assert_eq!(added_column("-- why\nALTER TABLE runs ADD COLUMN x BIGINT;\n"), Some(("runs", "x")));
        for other in ["", "ALTER TABLE runs DROP COLUMN x;", "CREATE TABLE IF NOT EXISTS t (x TEXT);"] {
            assert_eq!(added_column(other), None, "{other}");
        }
        for migration in MIGRATIONS.iter().filter(|migration| !migration.migration_type.is_down_migration()) {
            let sql = migration.sql.as_str();
            let statements = sql.matches(';').count();
            assert!(!sql.contains("ADD COLUMN") || (added_column(sql).is_some() && statements == 1), "{sql}");
        }
    }
}
