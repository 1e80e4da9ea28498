//! The password of the database is shown nowhere: not by a command, in whatever form of output, not in a log at its
//! finest, not in a file of the host and not in the record.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

use handshake_tests::binary::Project;
use handshake_tests::postgres::{Backend, backends, rows, server};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Stands in every password here, and in nothing else.
const SECRET: &str = "K9zq7WdVx2";

/// Checks that a text does not hold the password.
#[track_caller]
fn is_clean(what: &str, text: &[u8]) {
    let found = text.windows(SECRET.len()).position(|window| window == SECRET.as_bytes());
    if let Some(at) = found {
        let around = &text[at.saturating_sub(200)..(at + 200).min(text.len())];
        panic!("{what} holds the password: …{}…", String::from_utf8_lossy(around));
    }
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn a_password_is_shown_nowhere() {
    if !backends().contains(&Backend::Postgres) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(server().fresh_database());
    let role = format!("secretive_{}", uuid::Uuid::now_v7().simple());
    let name = database.url.rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
    let statements = [
        format!("CREATE ROLE {role} LOGIN PASSWORD '{SECRET}@p%/'"),
        format!("GRANT ALL ON DATABASE {name} TO {role}"),
        format!("GRANT ALL ON SCHEMA public TO {role}"),
    ];
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
    });
    let (_, place) = database.url.split_once('@').unwrap();
    let good = format!("postgres://{role}:{SECRET}%40p%25%2F@{place}");
    let in_parameters = format!("postgres://{place}?user={role}&password={SECRET}%40p%25%2F");
    let wrong = format!("postgres://{role}:{SECRET}-wrong@{place}");
    let unreachable = format!("postgres://{role}:{SECRET}@127.0.0.1:1/x");
    let garbled = [
        format!("postgres://{role}:12/{SECRET}@{place}"),
        format!("postgres://{role}:12?{SECRET}@{place}"),
        format!("postgres://{role}@{place}?pasword={SECRET}"),
        format!("postgres://{role}@{place}?password={SECRET}&sslmode={SECRET}"),
        format!("{SECRET}://{place}"),
        SECRET.to_owned(),
    ];

    let project = Project::new();
    project.write("docs/a.md", "# A\n\nText.\n");
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml").display().to_string();
    let commands: [&[&str]; 10] = [
        &["doctor"],
        &["db", "migrate", "--dry-run"],
        &["db", "migrate"],
        &["run", &workflow, "-i", "folder=docs"],
        &["jobs", "list"],
        &["audit", "decisions"],
        &["db", "status"],
        &["db", "prune", "--dry-run"],
        &["db", "prune"],
        &["schema", "config"],
    ];
    let mut succeeded = 0;
    // Everything that a log can hold goes with the text; programs that read JSON get the usual.
    let mut check = |url: Option<&str>, arguments: &[&str]| {
        for (form, log) in [("text", "trace"), ("json", "warn")] {
            let mut command = project.command(&[&["--output", form], arguments].concat());
            url.map(|url| command.env("DATABASE_URL", url));
            let output = command.env("HANDSHAKE_LOG", log).env("RUST_LOG", log).output().unwrap();
            is_clean(&format!("standard output of {arguments:?}"), &output.stdout);
            is_clean(&format!("standard error of {arguments:?}"), &output.stderr);
            succeeded += u32::from(output.status.success());
        }
    };
    for arguments in commands {
        check(Some(&good), arguments);
    }
    for url in [&in_parameters, &wrong, &unreachable].into_iter().chain(&garbled) {
        check(Some(url), &["db", "status"]);
        check(Some(url), &["doctor"]);
    }
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("secret.url", format!("{good}\n"));
    for (before, after) in [
        ("", format!("[database]\nurl = '{good}'\n")),
        ("", "[database]\nurl_file = 'secret.url'\n".to_owned()),
        ("", format!("[database]\nurl = '{good}\n")),
        ("", format!("[database]\nreaders = '{good}'\n")),
        ("", format!("[database]\nconnect_timeout = '{good}'\n")),
        (&*format!("database = '{good}'\n"), String::new()),
    ] {
        project.write("handshake.toml", format!("{before}{settings}\n{after}"));
        check(None, &["db", "status"]);
        check(None, &["doctor"]);
    }
    // Ten commands, and two for each of three more ways to name the same database; all in both forms.
    assert_eq!(succeeded, 2 * (10 + 2 * 3), "commands that had a database to speak of");

    let mut found = Vec::new();
    files(&project.path(".handshake"), &mut found);
    files(&project.path("report"), &mut found);
    assert!(found.len() > 5);
    for file in found {
        is_clean(&file.display().to_string(), &fs::read(&file).unwrap());
    }
    let content = rows(&database.url);
    assert!(content.iter().any(|(table, _)| table == "outbox"));
    for (table, row) in content {
        is_clean(&format!("table {table}"), row.as_bytes());
    }
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
    });
}
