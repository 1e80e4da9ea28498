//! Applying, replaying and reverting the migrations.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::sqlite::Writing;

const TABLES: [&str; 8] =
    ["jobs", "idempotency_keys", "runs", "node_executions", "attempt_effects", "hosts", "outbox", "run_artifacts"];

async fn connection(folder: &tempfile::TempDir) -> Connection {
    let path = folder.path().join("test.db");
    crate::sqlite::create(path.clone()).await.unwrap();
    Writing::new(&path).connect().await.unwrap()
}

async fn schema(connection: &mut Connection) -> Vec<(String, Option<String>)> {
    let query = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND name NOT LIKE 'sqlite%' ORDER BY name";
    sqlx::query_as(query).fetch_all(connection).await.unwrap()
}

async fn fill(connection: &mut Connection) {
    for statement in [
        "INSERT INTO jobs VALUES ('j','t',NULL,'workflow_run','queued','p','p','analyst','analysis_only','normal','[]','[]','{}','',1,1,NULL,'{}',NULL,FALSE,NULL)",
        "INSERT INTO idempotency_keys VALUES ('k','j',1)",
        "INSERT INTO runs VALUES ('r','j','t','queued','{}','{}','{}','/',NULL,0,NULL,NULL,1,1)",
        "INSERT INTO node_executions VALUES ('r','s',-1,1,'running',NULL,NULL,'{}',NULL,NULL,'',1,NULL)",
        "INSERT INTO attempt_effects VALUES ('r','s',-1,1,1,1,'fs.write','out','h',1,1)",
        "INSERT INTO hosts VALUES ('h',1,'00',1,1,1)",
        "INSERT INTO outbox VALUES ('h',1,'e',1,'00','{}')",
        "INSERT INTO run_artifacts VALUES ('r','00',1,'text/plain',1)",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
}

async fn rows(connection: &mut Connection) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push(
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")))
                .fetch_one(&mut *connection)
                .await
                .unwrap(),
        );
    }
    counts
}

#[tokio::test]
async fn migrations_are_replay_safe() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connection(&folder).await;
    run(&mut connection).await.unwrap();
    fill(&mut connection).await;
    let before = (schema(&mut connection).await, rows(&mut connection).await);
    assert_eq!(before.1, vec![1; TABLES.len()]);

    sqlx::query("DROP TABLE _sqlx_migrations").execute(&mut connection).await.unwrap();
    run(&mut connection).await.unwrap();
    assert_eq!((schema(&mut connection).await, rows(&mut connection).await), before);
}

#[tokio::test]
async fn migrations_revert_to_an_empty_database() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connection(&folder).await;
    run(&mut connection).await.unwrap();
    fill(&mut connection).await;
    MIGRATIONS.undo(&mut connection, 0).await.unwrap();
    assert_eq!(schema(&mut connection).await, []);
    let tracked: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations").fetch_one(&mut connection).await.unwrap();
    assert_eq!(tracked, 0);
    run(&mut connection).await.unwrap();
    assert_eq!(rows(&mut connection).await, vec![0; TABLES.len()]);
}

#[test]
fn migrations_are_contiguous_each_has_a_down_and_all_are_portable() {
    let ups: Vec<_> = MIGRATIONS
        .iter()
        .filter(|migration| !migration.migration_type.is_down_migration())
        .map(|migration| migration.version)
        .collect();
    let downs: Vec<_> = MIGRATIONS
        .iter()
        .filter(|migration| migration.migration_type.is_down_migration())
        .map(|migration| migration.version)
        .collect();
    assert_eq!(ups, (1..=ups.len() as i64).collect::<Vec<_>>());
    assert_eq!(ups, downs);
    for migration in MIGRATIONS.iter() {
        let sql = migration.sql.as_str().to_uppercase();
        for word in [
            "PRAGMA",
            "STRFTIME",
            "TRIGGER",
            "?",
            "CURRENT_TIMESTAMP",
            "AUTOINCREMENT",
            "ROWID",
            "INTEGER",
            "REAL",
            "DATETIME",
            "\r",
        ] {
            assert!(!sql.contains(word), "migration {} contains {word:?}", migration.version);
        }
    }
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connection(&folder).await;
    run(&mut connection).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', TRUE, x'00', 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(matches!(run(&mut connection).await, Err(StorageError::Migration(_))));
}
