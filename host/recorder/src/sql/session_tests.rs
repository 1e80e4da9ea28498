#![allow(clippy::unwrap_used)]

use handshake_core::chain::ChainHead;
use handshake_core::event::AdmittedEvent;
use handshake_core::testing::{SequentialIds, sample_events};
use handshake_core::{HostId, Timestamp};
use serde_json::Value;

use super::*;
use crate::Redaction;
use crate::segments::ParquetWriter;
use crate::sql::copies::LIVE_COPY;

const AT: i64 = 1_767_225_600_000_000;

/// Copies with one event of each type, recorded a second apart.
fn copies(retained: i64, sql: &str) -> (tempfile::TempDir, QueryRequest) {
    let folder = tempfile::tempdir().unwrap();
    let mut head = ChainHead::empty(HostId::fresh(&SequentialIds::default()));
    let redaction = Redaction::default();
    let records: Vec<_> = sample_events()
        .iter()
        .zip(0..)
        .map(|(event, at)| {
            let now = Timestamp::from_micros(AT + at * 1_000_000);
            let admitted = AdmittedEvent::admit(event, &redaction, now).unwrap();
            head.append(&admitted, now)
        })
        .collect();
    let mut writer = ParquetWriter::new(folder.path()).unwrap();
    writer.push(&records).unwrap();
    writer.write(&folder.path().join(LIVE_COPY)).unwrap();
    let request = QueryRequest {
        sql: sql.to_owned(),
        folder: folder.path().to_owned(),
        files: vec![LIVE_COPY.to_owned()],
        retained,
        limit: 0,
        seconds: 10,
    };
    (folder, request)
}

/// The lines that a query gives, without the limits that would bind the whole test program.
fn run(request: &QueryRequest) -> Result<(Vec<Value>, bool), QueryProblem> {
    let connection = open(request).unwrap();
    statement::check(&connection, &request.sql)?;
    let mut output = Vec::new();
    let more = rows(&connection, request, &mut output)?;
    let text = String::from_utf8(output).unwrap();
    Ok((text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), more))
}

#[test]
fn the_views_have_the_columns_that_are_documented() {
    let (_folder, request) = copies(0, "");
    let connection = open(&request).unwrap();
    let documentation = include_str!("../../../../docs/audit-sql.md");
    for view in &VIEWS {
        let found = columns(&connection, view.name).unwrap();
        let found: Vec<_> = found.iter().map(|column| (column.name.as_str(), column.kind.as_str())).collect();
        let documented: Vec<_> = view.columns.iter().map(|column| (column.name, column.kind)).collect();
        assert_eq!(found, documented, "{}", view.name);
        for column in view.columns {
            let row = format!("| `{}` | {} | {} |", column.name, column.kind, column.about);
            assert!(documentation.contains(&row), "docs/audit-sql.md, {}: {row}", view.name);
        }
    }
}

#[test]
fn events_older_than_the_limit_are_in_no_view() {
    let (_folder, request) = copies(0, "SELECT count(*), min(epoch_us(recorded_at)) FROM events");
    let all = run(&request).unwrap().0[1].clone();
    assert_eq!(all, serde_json::json!([21, AT]));
    let request = QueryRequest { retained: AT + 20_000_000, ..request };
    assert_eq!(run(&request).unwrap().0[1], serde_json::json!([1, AT + 20_000_000]));
    let request = QueryRequest { retained: AT + 20_000_001, ..request };
    for view in &VIEWS {
        let request = QueryRequest { sql: format!("SELECT count(*) FROM {}", view.name), ..request.clone() };
        assert_eq!(run(&request).unwrap().0[1], serde_json::json!([0]), "{}", view.name);
    }
}

#[test]
fn values_of_every_kind_become_json_that_every_reader_understands() {
    let sql = "SELECT 'nan'::DOUBLE AS a, 1.5 AS b, 10::HUGEINT AS c, 100000000000000000000000::HUGEINT AS d, \
        TIMESTAMPTZ '2026-01-31 12:00:00+01' AS e, [1, NULL] AS f, {'x': 'y\"\n'} AS g, '\\xAA'::BLOB AS h, NULL AS i, \
        1 AS j, 2 AS j, INTERVAL 1 DAY AS k, '{\"a\": 1}'::JSON AS l, true AS m; -- done";
    let (_folder, request) = copies(0, sql);
    let (lines, more) = run(&request).unwrap();
    let names: Vec<_> =
        lines[0]["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "j_1", "k", "l", "m"]);
    let expected = serde_json::json!([
        "nan", "1.5", 10, "100000000000000000000000", "2026-01-31 11:00:00+00", [1, null], {"x": "y\"\n"}, "\\xAA", null,
        1, 2, "1 day", {"a": 1}, true
    ]);
    assert_eq!((&lines[1], more), (&expected, false));
}

#[test]
fn a_limit_ends_the_rows_and_says_that_there_are_more() {
    let (_folder, request) = copies(0, "SELECT * FROM range(10000000000)");
    let request = QueryRequest { limit: 3, ..request };
    let (lines, more) = run(&request).unwrap();
    assert_eq!((lines.len(), more), (4, true));
    let request = QueryRequest { sql: "SELECT * FROM range(3)".into(), ..request };
    assert_eq!(run(&request).map(|(lines, more)| (lines.len(), more)), Ok((4, false)));
}

#[test]
fn the_database_opens_no_file_but_the_copies_whoever_asks() {
    let (folder, request) = copies(0, "");
    let connection = open(&request).unwrap();
    let live = folder.path().join(LIVE_COPY);
    let other = folder.path().join("other.csv");
    std::fs::write(&other, "a\n1\n").unwrap();
    assert!(connection.execute_batch(&format!("SELECT * FROM read_parquet('{}')", live.display())).is_ok());
    // Past the check of the statement.
    for sql in [
        &format!("SELECT * FROM read_csv('{}')", other.display()),
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "ATTACH '/tmp/x.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "COPY events TO '/tmp/x.csv'",
        &format!("COPY events TO '{}'", other.display()),
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
        "SET memory_limit = '10GB'",
        "RESET ALL",
        "SELECT getenv('PATH')",
    ] {
        assert!(connection.execute_batch(sql).is_err(), "{sql}");
    }
}

#[test]
fn what_is_wrong_with_a_query_is_said_in_one_line() {
    let (_folder, request) = copies(0, "SELECT nonsense FROM events");
    let problem = run(&request).unwrap_err();
    assert!(problem.in_query && problem.message.starts_with("Referenced column \"nonsense\" not found"), "{problem:?}");
    assert!(!problem.message.contains('\n') && !problem.message.contains("LINE"), "{problem:?}");
    let request = QueryRequest { sql: "SELECT error('stop') FROM events".into(), ..request };
    assert_eq!(run(&request).unwrap_err().message, "stop");
}
