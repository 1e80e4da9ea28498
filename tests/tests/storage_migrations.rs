//! Migrations on both backends: replayed, undone, raced for, and applied to filled databases of every earlier version.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::storage::{Database, FaultKind, StorageError};
use handshake_core::testing::{FixedClock, SequentialIds};
use handshake_core::{Clock, HostId};
use handshake_storage::{DatabaseOptions, Limits, SqlDatabase};
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Place, newest_migration as newest, options};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

/// Rows for every table, and the migration that a row needs. Columns are named, so that later ones do not disturb.
const ROWS: &[(i64, &str)] = &[
    (
        1,
        "INSERT INTO jobs (job_id, trace_id, job_kind, state, protocol_id, profile_id, capability_profile_id, \
         access_mode, safety_mode, entity_refs, planned_operations, metrics, status_reason, created_at, updated_at, \
         job_inputs, is_pinned) VALUES ('j', 't', 'workflow_run', 'queued', 'p', 'p', 'analyst', 'analysis_only', \
         'normal', '[]', '[]', '{}', 'ä''漢', 1, -1, '{}', FALSE)",
    ),
    (1, "INSERT INTO idempotency_keys (idempotency_key, job_id, created_at) VALUES ('k', 'j', 1)"),
    (
        2,
        "INSERT INTO runs (run_id, job_id, trace_id, state, workflow, pinned, inputs, base, fence, created_at, \
         updated_at) VALUES ('r', 'j', 't', 'queued', '{}', '{}', '{}', '/', 0, 1, 9223372036854775807)",
    ),
    (
        3,
        "INSERT INTO node_executions (run_id, step_id, item_index, attempt, state, input, random_seed, started_at) \
         VALUES ('r', 's', -1, 1, 'running', '{}', '', 1)",
    ),
    (
        4,
        "INSERT INTO attempt_effects (run_id, step_id, item_index, attempt, call_number, fence, capability, resource, \
         host, event_seq, noted_at) VALUES ('r', 's', -1, 1, 1, 1, 'fs.write', 'out', 'h', 1, 1)",
    ),
    (
        5,
        "INSERT INTO hosts (host, head_seq, head_hash, head_recorded_at, commit_number, created_at) \
         VALUES ('00000000-0000-0000-0000-000000000001', 0, \
         '0000000000000000000000000000000000000000000000000000000000000000', 0, 7, 1)",
    ),
    (
        6,
        "INSERT INTO outbox (host, seq, event_id, recorded_at, hash, record) \
         VALUES ('00000000-0000-0000-0000-000000000001', 1, 'e', 1, '00', '{}')",
    ),
    (
        7,
        "INSERT INTO run_artifacts (run_id, sha256, size_bytes, media_type, created_at) \
         VALUES ('r', '00', 1, 'text/plain', 1)",
    ),
    (
        10,
        "INSERT INTO workspaces (workspace_id, name, created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id, edit_event_id) \
         VALUES ('w', 'Ä', 1, 2, 'AI', 'p@1', 'j', 'r', 'e')",
    ),
    (
        11,
        "INSERT INTO documents (document_id, workspace_id, title, created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id, edit_event_id) \
         VALUES ('d', 'w', '', 1, 2, 'AI', 'p@1', 'j', 'r', 'e')",
    ),
    (
        11,
        "INSERT INTO blocks (block_id, document_id, kind, sequence, raw_content, display_content, derived_content, sensitivity, exportable, created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id, edit_event_id) \
         VALUES ('b', 'd', 'paragraph', -9223372036854775808, 'x', '', 'null', 'internal', TRUE, 1, 2, 'AI', 'p@1', 'j', 'r', 'e')",
    ),
    (
        12,
        "INSERT INTO canvases (canvas_id, workspace_id, title, created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id, edit_event_id) \
         VALUES ('c', 'w', 't', 1, 2, 'AI', 'p@1', 'j', 'r', 'e')",
    ),
    (
        12,
        "INSERT INTO canvas_nodes (node_id, canvas_id, kind, x, y, width, height, content, block_id, created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id, edit_event_id) \
         VALUES ('n', 'c', 'note', -0.5, 1e300, 0, 1, '', 'b', 1, 2, 'AI', 'p@1', 'j', 'r', 'e')",
    ),
    (
        12,
        "INSERT INTO canvas_edges (edge_id, canvas_id, from_node, to_node, kind, created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id, edit_event_id) \
         VALUES ('e', 'c', 'n', 'n', 'link', 1, 2, 'AI', 'p@1', 'j', 'r', 'e')",
    ),
    (
        13,
        "INSERT INTO approvals (approval_id, job_id, run_id, step_id, item_index, state, prompt, approvers, quorum, \
         votes, created_at) VALUES ('a', 'j', 'r', 's', -1, 'pending', '?', '[]', 1, '[]', 1)",
    ),
    (14, "INSERT INTO prune_reports (report_id, started_at, report) VALUES ('p', 1, '{}')"),
    (14, "INSERT INTO leases (name, host, token, expires_at) VALUES ('prune', 'h', 't', 1)"),
    (
        19,
        "INSERT INTO triggers (trigger_id, name, workflow, file, inputs, base, schedule, missed, next_at, created_by, \
         created_at) VALUES ('t', 'n', 'name: ä', 'f.yaml', '{}', '/', '{}', 'once', -1, '{}', 1)",
    ),
    (
        20,
        "INSERT INTO capability_grants (grant_id, plugin, capability, terms, created_at) \
         VALUES ('g', 'p', 'fs.write:out', '{}', 1)",
    ),
    (
        22,
        "INSERT INTO api_tokens (token_id, name, role, kind, secret_sha256, created_at, created_by) \
         VALUES ('t', 'n', 'operator', 'human', 'h', 1, 'u')",
    ),
];

/// A connection of the test's own.
enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Table → column → what the catalogue says of it.
type Schema = BTreeMap<String, BTreeMap<String, String>>;

macro_rules! with {
    ($raw:expr, $connection:ident => $body:expr) => {
        match $raw {
            Raw::Sqlite($connection) => $body,
            Raw::Postgres($connection) => $body,
        }
    };
}

impl Raw {
    async fn open(place: &Place) -> Self {
        match place.backend {
            Backend::Sqlite => {
                let url = format!("{}?mode=rwc", place.secret_url);
                Self::Sqlite(SqliteConnection::connect(&url).await.unwrap())
            }
            Backend::Postgres => Self::Postgres(PgConnection::connect(&place.secret_url).await.unwrap()),
        }
    }

    async fn execute(&mut self, statement: &str) {
        with!(self, connection => drop(sqlx::query(AssertSqlSafe(statement)).execute(connection).await.unwrap()));
    }

    /// Rows as text, in no order that means anything.
    async fn rows(&mut self, statement: &str) -> Vec<Vec<String>> {
        with!(self, connection => {
            let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(connection).await.unwrap();
            rows.iter().map(|row| (0..row.len()).map(|at| row.get::<Option<String>, _>(at).unwrap_or("NULL".into())).collect()).collect()
        })
    }

    /// Applies the migrations up to this one, as a host of that version did.
    async fn migrate_to(&mut self, version: i64) {
        let folder = handshake_tests::root().join("migrations");
        let migrator = Migrator::new(Path::new(&folder)).await.unwrap();
        with!(self, connection => migrator.run_direct(Some(version), connection, false).await.unwrap());
    }

    async fn fill(&mut self, version: i64) {
        for (_, statement) in ROWS.iter().filter(|(needs, _)| *needs <= version) {
            self.execute(statement).await;
        }
    }

    /// Tables and columns: type, whether it may be missing, place in the key; and the indexes with what they index.
    async fn schema(&mut self) -> Schema {
        let columns = match self {
            Self::Sqlite(_) => {
                "SELECT t.name, c.name, upper(c.type), CASE c.\"notnull\" WHEN 1 THEN 'NO' ELSE 'YES' END, \
                 CASE c.pk WHEN 0 THEN '-' ELSE CAST(c.pk AS TEXT) END \
                 FROM pragma_table_list t, pragma_table_info(t.name) c \
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND t.name <> '_sqlx_migrations'"
            }
            Self::Postgres(_) => {
                "SELECT c.table_name::TEXT, c.column_name::TEXT, upper(c.data_type)::TEXT, c.is_nullable::TEXT, \
                 COALESCE((SELECT k.ordinal_position::TEXT FROM information_schema.key_column_usage k \
                 JOIN information_schema.table_constraints s USING (constraint_schema, constraint_name) \
                 WHERE s.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name \
                 AND k.column_name = c.column_name AND k.table_schema = c.table_schema), '-') \
                 FROM information_schema.columns c \
                 WHERE c.table_schema = current_schema() AND c.table_name <> '_sqlx_migrations'"
            }
        };
        let indexes = match self {
            Self::Sqlite(_) => {
                "SELECT i.tbl_name, 'index ' || i.name, (SELECT group_concat(c.name, ', ') FROM \
                 (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno) c), '', '' \
                 FROM sqlite_schema i WHERE i.type = 'index' AND i.sql IS NOT NULL"
            }
            Self::Postgres(_) => {
                "SELECT tablename::TEXT, ('index ' || indexname)::TEXT, \
                 regexp_replace(indexdef, '^[^(]*\\(([^)]*)\\).*$', '\\1')::TEXT, '', '' FROM pg_indexes \
                 WHERE schemaname = current_schema() AND indexname !~ '_(pkey|key)$' AND tablename <> '_sqlx_migrations'"
            }
        };
        let mut schema = Schema::new();
        for statement in [columns, indexes] {
            for row in self.rows(statement).await {
                let [table, column, kind, nullable, key] = <[String; 5]>::try_from(row).unwrap();
                schema
                    .entry(table)
                    .or_default()
                    .insert(column, format!("{kind} {nullable} {key}").trim_end().to_owned());
            }
        }
        schema
    }

    /// Every row of every table, as text; columns that are younger than `schema` apart.
    async fn content(&mut self, schema: &Schema) -> BTreeMap<String, Vec<Vec<String>>> {
        let mut content = BTreeMap::new();
        for (table, columns) in schema {
            let columns: Vec<_> = columns
                .keys()
                .filter(|column| !column.starts_with("index "))
                .map(|column| format!("CAST({column} AS TEXT)"))
                .collect();
            let mut rows = self.rows(&format!("SELECT {} FROM {table}", columns.join(", "))).await;
            rows.sort();
            content.insert(table.clone(), rows);
        }
        content
    }
}

fn host() -> HostId {
    HostId::fresh(&SequentialIds::default())
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::default())
}

async fn open(place: &Place) -> Result<Arc<SqlDatabase>, StorageError> {
    SqlDatabase::open(options(&place.url, host(), clock())).await
}

/// Opens and closes, which migrates.
async fn migrate(place: &Place) {
    open(place).await.unwrap().close().await.unwrap();
}

/// Runs a test on each backend that was asked for.
macro_rules! on_each_backend {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                super::run(super::Backend::Sqlite, super::cases::$name).await;
            }
            #[tokio::test]
            async fn postgres() {
                super::run(super::Backend::Postgres, super::cases::$name).await;
            }
        }
    )*};
}

async fn run<F: Future<Output = ()>>(backend: Backend, case: impl FnOnce(Place) -> F) {
    if backends().contains(&backend) {
        case(Place::new(backend).await).await;
    } else {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
}

on_each_backend! {
    migrations_are_replay_safe
    migrations_can_undo_to_baseline
    a_filled_database_of_every_earlier_version_upgrades_without_loss
    the_schema_is_the_one_on_record
    hosts_that_start_at_once_migrate_once
    a_later_version_is_refused_and_left_alone
    a_changed_migration_is_refused
}

mod cases {
    use super::*;

    pub(super) async fn migrations_are_replay_safe(place: Place) {
        migrate(&place).await;
        let mut raw = Raw::open(&place).await;
        // The host that opened the database has entered itself.
        raw.execute("DELETE FROM hosts").await;
        raw.fill(newest()).await;
        let schema = raw.schema().await;
        let content = raw.content(&schema).await;
        for (table, rows) in &content {
            assert!(!rows.is_empty(), "table {table} has no row in ROWS");
        }

        raw.execute("DROP TABLE _sqlx_migrations").await;
        migrate(&place).await;
        assert_eq!(raw.schema().await, schema);
        assert_eq!(raw.content(&schema).await, content);
        let tracked = raw.rows("SELECT CAST(COUNT(*) AS TEXT) FROM _sqlx_migrations").await;
        assert_eq!(tracked, [[newest().to_string()]]);
    }

    pub(super) async fn migrations_can_undo_to_baseline(place: Place) {
        migrate(&place).await;
        let mut raw = Raw::open(&place).await;
        let schema = raw.schema().await;
        raw.execute("DELETE FROM hosts").await;
        raw.fill(newest()).await;
        SqlDatabase::revert(place.url.clone(), 0).await.unwrap();
        assert_eq!(raw.schema().await, Schema::new());
        assert!(raw.rows("SELECT description FROM _sqlx_migrations").await.is_empty());
        migrate(&place).await;
        assert_eq!(raw.schema().await, schema);
    }

    pub(super) async fn a_filled_database_of_every_earlier_version_upgrades_without_loss(place: Place) {
        for version in 1..newest() {
            let place = Place::new(place.backend).await;
            let mut raw = Raw::open(&place).await;
            raw.migrate_to(version).await;
            raw.fill(version).await;
            let schema = raw.schema().await;
            let mut before = raw.content(&schema).await;
            migrate(&place).await;
            let mut after = raw.content(&schema).await;
            if version < 6 {
                // Whoever opens an empty table of hosts enters itself; and with no outbox, the chain stood at 0.
                before.remove("hosts");
                after.remove("hosts");
            }
            assert_eq!(after, before, "from version {version}");
        }
    }

    pub(super) async fn the_schema_is_the_one_on_record(place: Place) {
        migrate(&place).await;
        let schema = Raw::open(&place).await.schema().await;
        let lines: Vec<_> = schema
            .iter()
            .flat_map(|(table, columns)| columns.iter().map(move |(column, kind)| format!("{table}.{column}: {kind}")))
            .collect();
        let shown = lines.join("\n") + "\n";
        // One file for both backends: so they agree column by column.
        let file = handshake_tests::root().join("tests/schema.txt");
        if std::env::var_os("HANDSHAKE_UPDATE").is_some() {
            std::fs::write(&file, &shown).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap();
        assert!(shown == expected, "the schema differs from {}; it is:\n{shown}", file.display());
    }

    pub(super) async fn hosts_that_start_at_once_migrate_once(place: Place) {
        let hosts = SequentialIds::default();
        let opened = (0..4).map(|_| {
            let options = options(&place.url, HostId::fresh(&hosts), clock());
            tokio::spawn(SqlDatabase::open(options))
        });
        let opened: Vec<_> = futures::future::join_all(opened.collect::<Vec<_>>()).await;
        let opened: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
        match place.backend {
            Backend::Postgres => assert!(opened.iter().all(Result::is_ok), "{opened:?}"),
            // An SQLite file is for one process at a time.
            Backend::Sqlite => {
                let refused = opened.iter().filter(|opened| matches!(opened, Err(StorageError::Conflict(_)))).count();
                assert_eq!((opened.iter().flatten().count(), refused), (1, 3), "{opened:?}");
            }
        }
        let tracked = Raw::open(&place).await.rows("SELECT CAST(COUNT(*) AS TEXT) FROM _sqlx_migrations").await;
        assert_eq!(tracked, [[newest().to_string()]]);
    }

    pub(super) async fn a_later_version_is_refused_and_left_alone(place: Place) {
        migrate(&place).await;
        let mut raw = Raw::open(&place).await;
        let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                      SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
        raw.execute(insert).await;
        let schema = raw.schema().await;
        let content = raw.content(&schema).await;
        assert!(matches!(open(&place).await, Err(StorageError::Migration(_))));
        assert_eq!(raw.schema().await, schema);
        assert_eq!(raw.content(&schema).await, content);
    }

    pub(super) async fn a_changed_migration_is_refused(place: Place) {
        migrate(&place).await;
        let mut raw = Raw::open(&place).await;
        let change = "UPDATE _sqlx_migrations SET checksum = \
                      (SELECT checksum FROM _sqlx_migrations WHERE version = 1) WHERE version = 2";
        raw.execute(change).await;
        assert!(matches!(open(&place).await, Err(StorageError::Migration(_))));
    }
}

#[tokio::test]
async fn a_host_does_not_wait_for_ever_for_another_ones_migration() {
    if !backends().contains(&Backend::Postgres) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let place = Place::new(Backend::Postgres).await;
    let mut raw = Raw::open(&place).await;
    raw.execute("SELECT pg_advisory_lock(hashtextextended('handshake migrations', 0))").await;
    let limits = Limits { migration_timeout: Duration::from_millis(200), ..Limits::default() };
    let impatient = DatabaseOptions { limits, ..options(&place.url, host(), clock()) };
    let error = SqlDatabase::open(impatient).await.unwrap_err();
    assert!(matches!(&error, StorageError::Migration(_)), "{error:?}");
    assert_eq!(FaultKind::of(&error), Some(FaultKind::Migrating));
    assert_eq!(raw.schema().await, Schema::new(), "nothing was applied");
    raw.execute("SELECT pg_advisory_unlock(hashtextextended('handshake migrations', 0))").await;
    migrate(&place).await;
}
