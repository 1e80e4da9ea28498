//! What a person sees who has trouble with the database, on both backends where it applies: a stable code, what
//! failed and why, and what to do. Nothing is applied by half, and no password shows anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use handshake_core::HostId;
use handshake_core::storage::Database;
use handshake_core::testing::{FixedClock, SequentialIds};
use handshake_storage::SqlDatabase;
use handshake_tests::binary::{Finished, Project, handshake};
use handshake_tests::postgres::{Backend, Options, Server, TestDatabase, backends, server};
use handshake_tests::storage::options;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

/// Whether a backend is to be tested; says so if not.
fn is_tested(backend: Backend) -> bool {
    let tested = backends().contains(&backend);
    if !tested {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    tested
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

fn database() -> TestDatabase {
    wait(server().fresh_database())
}

/// Runs a command against a database.
fn with(project: &Project, url: &str, arguments: &[&str]) -> Finished {
    project.command(arguments).env("DATABASE_URL", url).output().unwrap().into()
}

/// Asks for the jobs in both forms of output, and checks what is said.
#[track_caller]
fn refused(run: impl Fn(&[&str]) -> Finished, code: &str, says: &[&str]) {
    let text = run(&["jobs", "list"]);
    assert_eq!(text.code, 2, "{text:#?}");
    for part in says.iter().chain(&["error: ", "hint: "]) {
        assert!(text.stderr.contains(part), "`{part}` is missing: {}", text.stderr);
    }
    assert!(!text.stderr.contains("panicked"), "{text:#?}");
    let json = run(&["--output", "json", "jobs", "list"]);
    let error =
        serde_json::from_str::<serde_json::Value>(&json.stderr).unwrap_or_else(|error| panic!("{error}: {json:?}"));
    assert_eq!(
        (error["error"]["code"].as_str(), error["error"]["exit_code"].as_i64()),
        (Some(code), Some(2)),
        "{error}"
    );
}

fn postgres(url: &str, statements: &[&str]) {
    wait(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await.unwrap();
        }
    });
}

fn sqlite(project: &Project, file: &str, statement: &'static str) {
    wait(async {
        let mut connection =
            SqliteConnection::connect(&format!("sqlite:{}", project.path(file).display())).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// The same address with another part behind user, password and host.
fn with_part(url: &str, from: &str, to: &str) -> String {
    assert!(url.contains(from));
    url.replacen(from, to, 1)
}

fn password(url: &str) -> &str {
    url.split_once("://").unwrap().1.split_once('@').unwrap().0.split_once(':').unwrap().1
}

#[test]
fn a_url_that_names_no_known_backend() {
    let project = Project::new();
    for url in
        ["mysql://u:hush@h/d", "hush", "sqlite::memory:", "postgres://u@h/d?pasword=hush", "postgres://u:1/hush@h/d"]
    {
        refused(|arguments| with(&project, url, arguments), "database_url", &["DATABASE_URL", "the database URL"]);
        assert!(!with(&project, url, &["doctor"]).stdout.contains("hush"));
    }
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    for (text, says) in [
        ("[database]\nurl = 'mysql://u:hush@h/d'\n", "handshake.toml: database.url"),
        ("[database]\nurl_file = 'none'\n", "`none`"),
        ("[database]\nreaders = 0\n", "database.readers"),
        ("[database]\nconnect_timeout = 'soon'\n", "soon"),
        ("[retention]\ndays = 0\n", "retention.days"),
    ] {
        project.write("handshake.toml", format!("{settings}\n{text}"));
        let result = project.run(&["jobs", "list"]);
        assert_eq!(result.code, 2, "{result:?}");
        assert!(result.stderr.contains(says) && !result.stderr.contains("hush"), "{result:?}");
    }
    // A table is expected here; what stands in its place is not repeated.
    project.write("handshake.toml", format!("database = 'postgres://u:hush@h/d'\n{settings}"));
    let result = project.run(&["jobs", "list"]);
    assert!(result.code == 2 && !result.stderr.contains("hush"), "{result:?}");
    assert!(!project.path(".handshake").exists(), "nothing was created");
}

#[test]
fn a_server_that_is_not_there_or_does_not_let_us_in() {
    if !is_tested(Backend::Postgres) {
        return;
    }
    let project = Project::new();
    let nowhere = "postgres://handshake:hush@127.0.0.1:1/handshake";
    let shown = "postgres://handshake@127.0.0.1:1/handshake: it does not answer";
    refused(|arguments| with(&project, nowhere, arguments), "database_unreachable", &[shown, "why: "]);

    let server = Server::private(Options::default());
    let wrong = with_part(&server.url(), password(&server.url()), "hush");
    refused(|arguments| with(&project, &wrong, arguments), "database_login", &["user and password", "authentication"]);
    let missing = with_part(&server.url(), "/postgres", "/nosuch");
    refused(
        |arguments| with(&project, &missing, arguments),
        "database_unknown",
        &["no database of this name", "nosuch"],
    );
    let plain = format!("{}?sslmode=require", server.url());
    refused(|arguments| with(&project, &plain, arguments), "database_tls", &["no encrypted connection", "sslmode"]);
    let doctor = with(&project, &wrong, &["doctor"]);
    assert!(doctor.code == 2 && doctor.stdout.contains("fail database: "), "{doctor:?}");
}

#[test]
fn a_user_who_may_not_create_tables() {
    if !is_tested(Backend::Postgres) {
        return;
    }
    let (project, database) = (Project::new(), database());
    let role = format!("guest_{}", uuid::Uuid::now_v7().simple());
    postgres(
        &database.url,
        &[&format!("CREATE ROLE {role} LOGIN PASSWORD 'hush'"), "REVOKE CREATE ON SCHEMA public FROM PUBLIC"],
    );
    let (user, rest) = database.url.split_once("://").unwrap().1.split_once('@').unwrap();
    let guest = format!("postgres://{role}:hush@{rest}");
    refused(|arguments| with(&project, &guest, arguments), "database_permission", &["permission", "GRANT"]);
    assert!(!user.is_empty());
    let tables = "DO $$ BEGIN IF EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = 'public') \
                  THEN RAISE EXCEPTION 'something was created'; END IF; END $$";
    postgres(&database.url, &[tables, &format!("DROP ROLE {role}")]);
}

#[test]
fn a_server_that_has_no_room_is_damaged_or_takes_no_writes() {
    if !is_tested(Backend::Postgres) {
        return;
    }
    let database = database();
    with(&Project::new(), &database.url, &["db", "migrate"]).success();
    // The server's own codes for a full disk and a damaged page, raised where a host enters itself in the books.
    postgres(
        &database.url,
        &["CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
              RAISE EXCEPTION 'in the way of a test' USING ERRCODE = TG_ARGV[0]; END $$"],
    );
    for (sqlstate, code, says) in [
        ("53100", "disk_full", "full"),
        ("XX001", "database_corrupt", "restore a backup"),
        ("25006", "read_only", "standby"),
    ] {
        let trigger = format!(
            "CREATE OR REPLACE TRIGGER fails BEFORE INSERT ON hosts FOR EACH ROW EXECUTE FUNCTION fails('{sqlstate}')"
        );
        postgres(&database.url, &[&trigger]);
        let project = Project::new();
        refused(|arguments| with(&project, &database.url, arguments), code, &[says, "in the way of a test"]);
    }
    postgres(&database.url, &["DROP TRIGGER fails ON hosts"]);
    with(&Project::new(), &database.url, &["jobs", "list"]).success();
}

#[test]
fn a_database_of_a_later_version_or_with_another_history() {
    const LATER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                         SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    const OTHER: &str = "DELETE FROM _sqlx_migrations WHERE version = 9999; UPDATE _sqlx_migrations SET checksum = \
                         (SELECT checksum FROM _sqlx_migrations WHERE version = 1) WHERE version = 2";
    for backend in backends() {
        let project = Project::new();
        let database = (backend == Backend::Postgres).then(database);
        let url = database.as_ref().map_or_else(|| "sqlite:x.db".to_owned(), |database| database.url.clone());
        let run = |arguments: &[&str]| with(&project, &url, arguments);
        run(&["jobs", "list"]).success();
        let change = |statement| match backend {
            Backend::Sqlite => sqlite(&project, "x.db", statement),
            Backend::Postgres => postgres(&url, &[statement]),
        };
        change(LATER);
        refused(run, "database_newer", &["schema 9999", "nothing was changed"]);
        assert_eq!(run(&["db", "migrate"]).code, 2);
        assert_eq!(run(&["db", "migrate", "--dry-run"]).code, 2);
        let status = run(&["--output", "json", "db", "status"]).success().json();
        assert_eq!((&status["migration_version"], &status["host"]), (&9999.into(), &serde_json::Value::Null));
        assert!(run(&["db", "status"]).success().stdout.contains("9999, later than"));
        change(OTHER);
        refused(run, "database_changed", &["migration 2", "nothing was changed"]);
    }
}

/// The binary without the right to write whatever it likes, which root has.
fn as_ordinary_user(project: &Project, arguments: &[&str]) -> Finished {
    let mut command = project.command(arguments);
    if rustix::process::geteuid().is_root() {
        let mut limited = Command::new("setpriv");
        limited.args(["--bounding-set=-dac_override,-dac_read_search,-fowner", "--"]).arg(handshake()).args(arguments);
        limited.current_dir(project.path("")).env_remove("HANDSHAKE_DATA_DIR").env_remove("HANDSHAKE_LOG");
        command = limited;
    }
    command.env("DATABASE_URL", "sqlite:data/x.db").output().unwrap().into()
}

#[test]
fn a_file_that_cannot_be_written_read_or_found() {
    if !is_tested(Backend::Sqlite) {
        return;
    }
    let project = Project::new();
    refused(|arguments| with(&project, "sqlite:none/x.db", arguments), "database_file", &["none/x.db", "folder"]);
    assert!(!project.path("none").exists());
    fs::create_dir(project.path("data")).unwrap();
    with(&project, "sqlite:data/x.db", &["jobs", "list"]).success();
    let set = |path: &str, mode| fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).unwrap();
    let says = ["x.db", "read-only", "writable"];
    set("data/x.db", 0o400);
    refused(|arguments| as_ordinary_user(&project, arguments), "read_only", &says);
    set("data/x.db", 0o600);
    set("data", 0o500);
    fs::remove_file(project.path("data/x.db-owner")).unwrap();
    refused(|arguments| as_ordinary_user(&project, arguments), "read_only", &says);
    set("data", 0o700);
    with(&project, "sqlite:data/x.db", &["jobs", "list"]).success();
    let good = fs::read(project.path("data/x.db")).unwrap();
    // No database at all, and one whose pages are damaged.
    let damaged: Vec<u8> = good.iter().enumerate().map(|(at, byte)| if at < 100 { *byte } else { 0x5a }).collect();
    for content in [b"not a database, but long enough to be looked at as one".repeat(100), damaged] {
        fs::write(project.path("data/x.db"), &content).unwrap();
        refused(|arguments| with(&project, "sqlite:data/x.db", arguments), "database_corrupt", &["damaged", "backup"]);
        assert_eq!(fs::read(project.path("data/x.db")).unwrap(), content, "it was left alone");
    }
    fs::write(project.path("data/x.db"), good).unwrap();
    with(&project, "sqlite:data/x.db", &["jobs", "list"]).success();
}

#[test]
fn a_full_disk() {
    if !is_tested(Backend::Sqlite) {
        return;
    }
    let project = Project::new();
    // A limit on the size of files: writes beyond it fail, as they do on a full disk.
    let limited = |arguments: &[&str]| -> Finished {
        let mut command = Command::new("bash");
        command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]).arg(handshake()).args(arguments);
        command.current_dir(project.path("")).env("DATABASE_URL", "sqlite:x.db").output().unwrap().into()
    };
    refused(limited, "disk_full", &["x.db", "full", "free some space"]);
    // With room again, everything goes on.
    with(&project, "sqlite:x.db", &["jobs", "list"]).success();
}

#[test]
fn a_database_that_another_process_has_open() {
    for backend in backends() {
        let project = Project::new();
        let database = (backend == Backend::Postgres).then(database);
        let file = format!("sqlite:{}", project.path("x.db").display());
        let url = database.as_ref().map_or(file, |database| database.url.clone());
        let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
        project.write("handshake.toml", format!("{settings}\n[database]\nlock_timeout = '200ms'\n"));
        let run = |arguments: &[&str]| with(&project, &url, arguments);
        run(&["jobs", "list"]).success();
        let host = match backend {
            Backend::Sqlite => HostId::fresh(&SequentialIds::default()),
            Backend::Postgres => {
                let path = project.path(".handshake/host-id");
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
                fs::read_to_string(path).unwrap().trim().parse().unwrap()
            }
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let clock = Arc::new(FixedClock::default());
        let opened = runtime.block_on(SqlDatabase::open(options(&url.parse().unwrap(), host, clock))).unwrap();
        refused(run, "database_in_use", &["another process"]);
        runtime.block_on(opened.close()).unwrap();
        drop(opened);
        drop(runtime);
        run(&["jobs", "list"]).success();
        // Another data directory is another host, which PostgreSQL lets in beside this one.
        if backend == Backend::Postgres {
            let ids = ["one", "two"].map(|data| {
                let status = run(&["--data-dir", data, "--output", "json", "db", "status"]).success().json();
                status["host"].as_str().unwrap().to_owned()
            });
            assert_ne!(ids[0], ids[1]);
            assert_eq!(run(&["--data-dir", "one", "--output", "json", "db", "status"]).json()["host"], ids[0].as_str());
            project.write("one/host-id", "nonsense");
            let result = run(&["--data-dir", "one", "db", "status"]);
            assert!(result.code == 2 && result.stderr.contains("one/host-id"), "{result:?}");
        }
    }
}
