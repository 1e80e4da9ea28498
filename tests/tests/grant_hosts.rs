//! Grants on a database that several hosts share: what is taken back on one host holds on the others.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stderr)]

use std::time::{Duration, Instant};

use handshake_core::Timestamp;
use handshake_tests::binary::{Finished, Project};
use handshake_tests::postgres::{Backend, TestDatabase, backends, server};
use serde_json::{Value, json};

/// How often a host looks for grants that others have taken back, and what a busy machine adds.
const LOOK: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(4);

/// A host with a data directory of its own, on the database that all of them share.
fn host(database: &TestDatabase) -> Project {
    let project = Project::new().on(database);
    let text = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    let rule = "\n[[ask]]\ncapability = \"config.read\"\nplugins = [\"hostile\"]\n";
    project.write("policy.toml", text + rule);
    project
}

fn run(host: &Project, arguments: &[&str]) -> Finished {
    host.run(&[arguments, &["--output", "json"]].concat())
}

/// Decisions of a job since a time that let something through.
fn allowed(host: &Project, job: &str, from: Timestamp) -> Vec<Value> {
    let from = from.to_string();
    let found = run(host, &["audit", "decisions", "--job", job, "--outcome", "allow", "--from", &from]);
    found.success().json()["events"].as_array().unwrap().clone()
}

fn asks(items: usize, calls: usize) -> String {
    let items = (0..items).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    format!(
        "name: asks\nsteps:\n  - {{ id: ask, uses: hostile, for_each: '[{items}]', max_parallel: 1, \
         with: {{ behaviour: host-calls-million, count: {calls} }}, grants: [config.read] }}\n"
    )
}

#[test]
fn a_grant_that_is_taken_back_on_one_host_stops_calls_on_another() {
    if !backends().contains(&Backend::Postgres) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(server().fresh_database());
    let (one, other) = (host(&database), host(&database));
    one.write("first.yaml", asks(1, 1));
    let first = run(&one, &["run", "first.yaml"]);
    assert_eq!(first.code, 4, "{first:?}");
    let first = first.json()["job"]["job_id"].as_str().unwrap().to_owned();
    run(&one, &["jobs", "approve", &first, "--until-revoked"]).success();
    let grants = run(&other, &["capabilities", "grants"]).success().json();
    let grant = grants["grants"][0]["grant_id"].as_str().unwrap().to_owned();

    one.write("many.yaml", asks(400, 1_000));
    let running = one.start(&["run", "many.yaml", "--quiet"]);
    let (begun, mut job) = (Instant::now(), first.clone());
    while job == first || allowed(&one, &job, Timestamp::from_micros(0)).is_empty() {
        let waited = begun.elapsed() < Duration::from_secs(60);
        assert!(waited, "no call was let through: {:?}", run(&one, &["jobs", "show", &job]));
        let jobs = run(&one, &["jobs", "list", "--limit", "1"]).success().json();
        job = jobs["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    }
    run(&other, &["capabilities", "revoke", &grant]).success();
    let ended = running.finish();
    assert_eq!(ended.code, 4, "the next attempt asks: {ended:?}");

    let shown = run(&other, &["capabilities", "grants", "--all"]).success().json();
    let grants = shown["grants"].as_array().unwrap();
    let revoked = grants.iter().find(|found| found["grant_id"] == json!(grant)).unwrap();
    let revoked = Timestamp::parse(revoked["revoked_at"].as_str().unwrap()).unwrap();
    let late = allowed(&one, &job, revoked.plus(LOOK + SLACK));
    assert_eq!(late, Vec::<Value>::new(), "let through long after it was taken back");
}
