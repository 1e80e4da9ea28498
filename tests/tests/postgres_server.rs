//! The PostgreSQL that tests get: apart, durable, with TLS where asked for, and gone when they are.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use handshake_tests::postgres::{Backend, Collation, Options, Server, backends, server};
use rustix::process::{Pid, test_kill_process};
use sqlx::{Connection, PgConnection};

/// Set for the child that a test runs.
const CHILD: &str = "HANDSHAKE_TEST_POSTGRES_CHILD";

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.unwrap();
}

/// Whether PostgreSQL is tested at all.
fn asked_for() -> bool {
    backends().contains(&Backend::Postgres)
}

/// A test of this binary, to be run by itself.
fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    command
}

#[tokio::test]
async fn fresh_databases_are_apart_and_gone_after_drop() {
    if !asked_for() {
        return;
    }
    let (one, other) = (server().fresh_database().await, server().fresh_database().await);
    let mut connection = connect(&one.url).await;
    run(&mut connection, "CREATE TABLE t (a TEXT)").await;
    run(&mut connect(&other.url).await, "CREATE TABLE t (a TEXT)").await;
    let name: String = sqlx::query_scalar("SELECT current_database()::TEXT").fetch_one(&mut connection).await.unwrap();
    assert!(one.url.contains(&name));
    // The first connection is still open.
    drop((one, other));
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_one(&mut connect(&server().url()).await)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn databases_sort_as_they_were_asked_to() {
    if !asked_for() {
        return;
    }
    for (collation, expected) in [(Collation::Bytes, ["B", "a"]), (Collation::English, ["a", "B"])] {
        let database = server().fresh_database_with(collation).await;
        let sorted: Vec<String> = sqlx::query_scalar("SELECT v FROM (VALUES ('a'), ('B')) AS t (v) ORDER BY v")
            .fetch_all(&mut connect(&database.url).await)
            .await
            .unwrap();
        assert_eq!(sorted, expected, "{collation:?}");
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_with_what_was_committed() {
    if !asked_for() {
        return;
    }
    let server = Server::private(Options::default());
    let database = server.fresh_database().await;
    let mut connection = connect(&database.url).await;
    run(&mut connection, "CREATE TABLE t (a BIGINT)").await;
    // One that is killed tells its clients nothing.
    for (end, tells) in [(Server::kill as fn(&_), false), (Server::stop, true)] {
        run(&mut connection, "INSERT INTO t VALUES (1)").await;
        let mut waiting = connect(&database.url).await;
        let waiting = tokio::spawn(async move { sqlx::query("SELECT pg_sleep(600)").execute(&mut waiting).await });
        end(&server);
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(matches!(error, sqlx::Error::Database(_)), tells, "{error}");
        PgConnection::connect(&database.url).await.unwrap_err();
        server.start();
        connection = connect(&database.url).await;
    }
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn a_server_with_tls_refuses_everything_else() {
    if !asked_for() {
        return;
    }
    let tls = Options { tls: true, ..Options::default() };
    let (server, other) = (Server::private(tls), Server::private(tls));
    let url = |parameters: &str| format!("{}?{parameters}", server.url());
    let verify = |ca: &Path, host: &str| {
        url(&format!("sslmode=verify-full&sslrootcert={}", ca.display())).replace("127.0.0.1", host)
    };
    for host in ["127.0.0.1", "localhost"] {
        let mut connection = connect(&verify(&server.ca_file(), host)).await;
        let encrypted: bool = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert!(encrypted);
    }
    let refused = PgConnection::connect(&url("sslmode=disable")).await.unwrap_err();
    assert!(refused.to_string().contains("no encryption"), "{refused}");
    let distrusted = PgConnection::connect(&verify(&other.ca_file(), "127.0.0.1")).await.unwrap_err();
    assert!(distrusted.to_string().contains("certificate"), "{distrusted}");
}

#[test]
fn a_server_goes_with_its_process() {
    if std::env::var_os(CHILD).is_some() {
        let server = Server::private(Options::default());
        println!("server {} {}", server.id(), server.folder().display());
        loop {
            std::thread::park();
        }
    }
    if !asked_for() {
        return;
    }
    let mut child = child("a_server_goes_with_its_process").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find_map(|line| line.split_once("server ").map(|(_, rest)| rest.to_owned())).unwrap();
    let (id, folder) = line.split_once(' ').unwrap();
    let id = Pid::from_raw(id.parse().unwrap()).unwrap();
    test_kill_process(id).unwrap();
    assert!(Path::new(folder).exists());

    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..300 {
        if test_kill_process(id).is_err() && !Path::new(folder).exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the server {id:?} or its folder {folder} outlived its process");
}

#[test]
fn what_cannot_be_tested_is_said_and_never_left_out() {
    if std::env::var_os(CHILD).is_some() {
        if backends().contains(&Backend::Postgres) {
            server();
        }
        return;
    }
    let run = |variables: &[(&str, &str)]| -> Output {
        let mut command = child("what_cannot_be_tested_is_said_and_never_left_out");
        command.env_remove("HANDSHAKE_TEST_BACKEND").env_remove("POSTGRES_TEST_URL");
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let unreachable = ("POSTGRES_TEST_URL", "postgres://127.0.0.1:1/postgres");
    for (variable, expected) in [
        (unreachable, "the server that POSTGRES_TEST_URL names cannot be reached"),
        (("PG_BIN", "/nowhere"), "HANDSHAKE_TEST_BACKEND=sqlite"),
        (("HANDSHAKE_TEST_BACKEND", "oracle"), "it may be `sqlite`, `postgres` or unset"),
    ] {
        let output = run(&[variable]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(expected), "{variable:?}: {message}");
    }
    assert!(run(&[unreachable, ("HANDSHAKE_TEST_BACKEND", "sqlite")]).status.success());
}
