//! `audit sql` on the real binary: what it answers, and what nobody can make it do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use handshake_core::storage::{Database, EventOutbox};
use handshake_core::testing::SequentialIds;
use handshake_core::{Clock, HostId, Timestamp};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::binary::{Finished, Project, Running};
use handshake_tests::storage::{event, options};
use serde_json::{Value, json};

/// A query that never ends.
const ENDLESS: &str = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t";

/// A project in which three documents were summarized.
fn summarized() -> Project {
    let project = Project::new();
    for n in 0..3 {
        project.write(&format!("docs/{n}.md"), format!("# {n}\n\nThe first sentence. The second one. The third.\n"));
    }
    project.summarize(&["--quiet"]).success();
    project
}

fn sql(project: &Project, query: &str) -> Value {
    project.run(&["audit", "sql", query, "--output", "json"]).success().json()
}

fn one(project: &Project, query: &str) -> Value {
    let mut answer = sql(project, query);
    answer["rows"][0].as_object_mut().unwrap().values_mut().next().unwrap().take()
}

/// Copies that are in the data directory.
fn copies(project: &Project) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(project.path(".handshake/recorder/copies")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

/// The process that runs a query for another one, once it has begun with it.
fn child_of(running: &Running) -> PathBuf {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let limits = fs::read_to_string(entry.path().join("limits")).unwrap_or_default();
            let confined =
                limits.lines().any(|line| line.starts_with("Max address space") && line.contains("3221225472"));
            if command.ends_with(b"\0recorder\0query\0")
                && status.contains(&format!("PPid:\t{}\n", running.id()))
                && confined
            {
                return entry.path();
            }
        }
        std::thread::yield_now();
    }
    panic!("no process runs the query");
}

fn wait_until_gone(process: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let alive = || fs::read_to_string(process.join("status")).is_ok_and(|status| !status.contains("State:\tZ"));
    while alive() {
        assert!(Instant::now() < deadline, "{} is still there", process.display());
        std::thread::yield_now();
    }
}

fn refused(finished: &Finished) -> &str {
    assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{finished:?}");
    finished.stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{finished:?}"))
}

#[test]
fn the_views_show_the_same_before_sealing_between_and_after_it() {
    let project = summarized();
    let recorded = project.run(&["audit", "events", "--output", "json", "--limit", "1000"]).success().json();
    let recorded = recorded["events"].as_array().unwrap().clone();
    let of_type = |name: &str| recorded.iter().filter(|event| event["event"]["event_type"] == name).count();
    let queries = [
        "SELECT seq, hash, event_type, event FROM events ORDER BY seq",
        "SELECT * FROM decisions ORDER BY seq",
        "SELECT * FROM model_calls ORDER BY seq",
        "SELECT * FROM spans ORDER BY span_id, kind",
        "SELECT * FROM runs",
    ];
    let ask = || queries.map(|query| sql(&project, query)["rows"].as_array().unwrap().clone());
    let [events, decisions, calls, spans, runs] = ask();
    let shown: Vec<&Value> = recorded.iter().rev().map(|event| &event["event"]).collect();
    assert_eq!(events.iter().map(|row| &row["event"]).collect::<Vec<_>>(), shown);
    assert_eq!(decisions.len(), of_type("capability_action"));
    assert!(decisions.iter().all(|row| row["outcome"] == "allow" && row["result"] == "ok"), "{decisions:?}");
    assert_eq!(calls.len(), of_type("llm_inference"));
    assert!(calls.iter().all(|row| row["total_tokens"].as_u64() > Some(0) && row["error"].is_null()), "{calls:?}");
    assert_eq!(spans.len(), of_type("span_end"));
    assert!(spans.iter().all(|row| row["result"] == "ok" && !row["ended_at"].is_null()), "{spans:?}");
    let run = &runs[0];
    assert_eq!((runs.len(), &run["result"], &run["denied"], &run["steps"]), (1, &json!("ok"), &json!(0), &json!(3)));
    assert_eq!((&run["decisions"], &run["model_calls"]), (&json!(decisions.len()), &json!(calls.len())));
    let before = [events, decisions, calls, spans, runs];

    project.run(&["recorder", "seal"]).success();
    assert_eq!(ask(), before);
    project.summarize(&["--quiet"]).success();
    assert_eq!(one(&project, "SELECT count(*) FROM runs"), 2);
    assert_eq!(one(&project, "SELECT count(*) = max(seq) FROM events"), true);
    assert_eq!(copies(&project), Vec::<PathBuf>::new());
}

#[test]
fn nothing_but_a_select_over_the_views_is_possible() {
    let project = summarized();
    let secret = project.write("secret.csv", "a\nplanted-in-a-file\n");
    let (secret, target) = (secret.display(), project.path("made"));
    let target = target.display();
    let database = project.path(".handshake/recorder.duckdb");
    for query in [
        format!("ATTACH '{}' AS x", database.display()),
        format!("COPY events TO '{target}'"),
        format!("COPY (SELECT 1) TO '{target}' (FORMAT parquet)"),
        format!("CREATE TABLE x AS FROM read_csv('{secret}')"),
        format!("SELECT * FROM read_csv('{secret}')"),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT (WITH \"{secret}\" AS (SELECT 1) FROM \"{secret}\"), (SELECT a FROM \"{secret}\")"),
        format!("SELECT content FROM read_text('{secret}')"),
        format!("FROM query('FROM read_text(''{secret}'')')"),
        format!("FROM (FROM (FROM read_blob('{secret}')))"),
        "SELECT * FROM read_csv('/etc/passwd')".into(),
        "SELECT * FROM read_text('/proc/self/environ')".into(),
        "SELECT * FROM glob('/*')".into(),
        "SELECT * FROM read_parquet('*.parquet')".into(),
        "SELECT * FROM 'live.parquet'".into(),
        "SELECT * FROM read_csv('http://127.0.0.1:9/x')".into(),
        "SELECT * FROM 'https://example.com/x.parquet'".into(),
        "INSTALL httpfs".into(),
        "LOAD httpfs".into(),
        "PRAGMA database_list".into(),
        "SET enable_external_access = true".into(),
        "SELECT 1; SELECT 2".into(),
        "SELECT 1; COPY events TO 'x'".into(),
        "SELECT getenv('HOME')".into(),
        "SELECT * FROM duckdb_settings()".into(),
        "SELECT * FROM arrow_scan(1, 2, 3)".into(),
        "SELECT nonsense FROM events".into(),
        "SELEC 1".into(),
        "".into(),
    ] {
        let finished = project.run(&["audit", "sql", &query, "--format", "jsonl"]);
        let message = refused(&finished);
        assert_eq!(message.lines().count(), 2, "{query}: {message}");
        assert!(message.lines().nth(1).unwrap().starts_with("hint: "), "{query}: {message}");
        assert!(!message.contains("planted-in-a-file") && !message.contains("root:"), "{query}: {message}");
        let json = project.run(&["audit", "sql", &query, "--output", "json"]);
        assert_eq!((json.code, json.stdout.as_str()), (2, ""), "{json:?}");
        assert!(json.stderr.contains("\"code\":\"invalid_query\""), "{json:?}");
    }
    assert!(!project.path("made").exists());
    assert_eq!(copies(&project), Vec::<PathBuf>::new());
}

#[test]
fn a_query_that_takes_too_long_or_too_much_is_ended() {
    let project = Project::new();
    let begun = Instant::now();
    let finished = project.run(&["audit", "sql", ENDLESS, "--timeout", "1"]);
    assert!(refused(&finished).starts_with("the query takes longer than 1 s and was ended\n"), "{finished:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let finished = project.run(&["audit", "sql", "SELECT list(range) FROM range(100000000)"]);
    assert!(refused(&finished).starts_with("the query needs more than 256MB of memory"), "{finished:?}");
    let wide = "SELECT repeat('x', 20000000)";
    let finished = project.run(&["audit", "sql", wide, "--format", "jsonl"]);
    assert!(refused(&finished).starts_with("a row of the answer has more than 16 MB"), "{finished:?}");
    assert_eq!(copies(&project), Vec::<PathBuf>::new());
}

#[test]
fn the_process_that_answers_knows_nothing_and_does_not_outlive_who_asked() {
    let project = Project::new();
    let mut command = project.command(&["audit", "sql", ENDLESS]);
    let child = command.env("PLANTED", "in-the-environment").spawn().unwrap();
    let running = Running::of(child);
    let process = child_of(&running);
    assert_eq!(fs::read(process.join("environ")).unwrap(), b"");
    for entry in fs::read_dir(process.join("fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        assert!(!target.contains(".handshake") || target.contains("/recorder/copies/"), "{target}");
        assert!(!target.contains("lock"), "{target}");
    }
    assert_eq!(copies(&project).len(), 1);
    running.kill();
    wait_until_gone(&process);
    // What the killed one has left is removed by the next one.
    assert_eq!(copies(&project).len(), 1);
    project.run(&["recorder", "status"]).success();
    assert_eq!(copies(&project), Vec::<PathBuf>::new());
}

#[test]
fn an_interrupted_query_leaves_neither_copies_nor_a_process() {
    let project = Project::new();
    let running = project.start(&["audit", "sql", ENDLESS]);
    let process = child_of(&running);
    running.signal(rustix::process::Signal::INT);
    assert_eq!(running.finish().code, 130);
    wait_until_gone(&process);
    assert_eq!(copies(&project), Vec::<PathBuf>::new());
}

#[test]
fn a_host_at_work_is_asked_and_goes_on_while_the_query_runs() {
    let project = summarized();
    let mut serving = project.start(&["serve"]);
    serving.wait_for("serv");
    let slow = project.start(&["audit", "sql", ENDLESS, "--timeout", "600"]);
    let process = child_of(&slow);
    assert_eq!(one(&project, "SELECT count(*) FROM runs"), 1);
    project.summarize(&["--quiet"]).success();
    assert_eq!(one(&project, "SELECT count(*) FROM runs"), 2);
    project.run(&["recorder", "seal"]).success();
    assert_eq!(one(&project, "SELECT count(*) FROM runs"), 2);
    slow.signal(rustix::process::Signal::INT);
    slow.finish();
    wait_until_gone(&process);
    serving.signal(rustix::process::Signal::TERM);
    assert_eq!(serving.finish().code, 0);
}

#[test]
fn rows_stream_up_to_a_limit_which_is_said() {
    let project = Project::new();
    let text = project.run(&["audit", "sql", "SELECT * FROM range(5000)"]).success();
    assert_eq!(text.stdout.lines().count(), 1001, "header and rows");
    assert_eq!(text.stderr, "more rows than 1000; --limit shows more of them, 0 all\n");
    let all =
        project.run(&["audit", "sql", "SELECT * FROM range(5000)", "--limit", "0", "--format", "jsonl"]).success();
    assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (5000, ""));
    assert_eq!(all.stdout.lines().last(), Some("{\"range\":4999}"));
    let few = project.run(&["audit", "sql", "SELECT * FROM range(3)", "--limit", "3", "--output", "json"]).success();
    assert_eq!((&few.json()["more"], few.json()["rows"].as_array().unwrap().len()), (&json!(false), 3));
    let wide = project.run(&["audit", "sql", "SELECT repeat('x', 5000000) AS wide"]).success();
    assert_eq!(wide.stdout, format!("wide\n{}…\n", "x".repeat(4000)));
    // A reader that goes away ends an answer that would never end.
    let endless = "SELECT * FROM range(1000000000000)";
    let mut running =
        project.start(&["audit", "sql", endless, "--limit", "0", "--format", "jsonl", "--timeout", "600"]);
    running.read_lines(10);
    running.close_stdout();
    assert_eq!(running.finish().code, 0);
    assert_eq!(copies(&project), Vec::<PathBuf>::new());
}

#[test]
fn every_form_holds_what_was_selected_and_nothing_that_drives_a_reader() {
    let project = Project::new();
    let query =
        "SELECT '=1+1' AS \"=a\", -1 AS b, E'\\x1b[31m,\"' AS c, NULL AS d, [1, 2] AS e, 1.50::DECIMAL(4, 2) AS f";
    let csv = project.run(&["audit", "sql", query, "--format", "csv"]).success();
    assert_eq!(csv.stdout, "'=a,b,c,d,e,f\n'=1+1,-1,\"\\u{1b}[31m,\"\"\",,\"[1,2]\",1.50\n");
    let row = json!({ "=a": "=1+1", "b": -1, "c": "\u{1b}[31m,\"", "d": null, "e": [1, 2], "f": "1.50" });
    let lines = project.run(&["audit", "sql", query, "--format", "jsonl"]).success();
    assert_eq!(lines.json(), row);
    assert_eq!(sql(&project, query)["rows"], json!([row]));
    let text = project.run(&["audit", "sql", query]).success();
    for shown in [&csv, &lines, &text] {
        assert!(!shown.stdout.contains('\u{1b}'), "{shown:?}");
    }
    let tables = project.run(&["audit", "sql", "--tables"]).success();
    for view in ["events", "decisions", "model_calls", "spans", "runs"] {
        assert!(tables.stdout.contains(&format!("\n{view}: ")) || tables.stdout.starts_with(&format!("{view}: ")));
    }
    let tables = project.run(&["audit", "sql", "--tables", "--output", "json"]).success().json();
    assert_eq!(tables["tables"].as_array().unwrap().len(), 5);
}

struct ClockAt(Timestamp);
impl Clock for ClockAt {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Records events at a time, while no process owns the data directory.
fn record(project: &Project, ids: &SequentialIds, count: usize, at: Timestamp) {
    let url = DatabaseUrl::sqlite(project.path(".handshake/handshake.db"));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let host = HostId::fresh(&SequentialIds::default());
        let database = SqlDatabase::open(options(&url, host, Arc::new(ClockAt(at)))).await.unwrap();
        for n in 0..count {
            database.enqueue(event(ids, &format!("note {n}"))).unwrap();
        }
        database.flush().await.unwrap();
        database.close().await.unwrap();
    });
}

#[test]
fn what_retention_hides_is_in_no_view_and_a_damaged_segment_is_left_out_and_said() {
    let project = Project::new();
    project.run(&["recorder", "status"]).success();
    let ids = SequentialIds::default();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let (hour, day) = (3_600_000_000, 86_400_000_000);
    // One minute too old, and an hour before that.
    record(&project, &ids, 5, Timestamp::from_micros(now - 7 * day - hour / 60));
    record(&project, &ids, 3, Timestamp::from_micros(now - 7 * day + hour));
    let seen = "SELECT count(*) AS n, min(seq) AS first FROM events WHERE seq <= 8";
    assert_eq!(sql(&project, seen)["rows"], json!([{ "n": 3, "first": 6 }]));
    project.run(&["recorder", "seal"]).success();
    assert_eq!(sql(&project, seen)["rows"], json!([{ "n": 3, "first": 6 }]));

    let host = project.run(&["recorder", "status", "--output", "json"]).success().json()["projection"]["host"].take();
    let folder = project.path(".handshake/recorder/segments").join(host.as_str().unwrap());
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|path| path.extension().is_some_and(|kind| kind == "parquet")) {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    let damaged = project.run(&["audit", "sql", seen]).success();
    assert!(damaged.stderr.contains("not part of the answer: events 1 to "), "{damaged:?}");
    assert_eq!(damaged.stdout.lines().last().map(str::trim_end), Some("0"));
}
