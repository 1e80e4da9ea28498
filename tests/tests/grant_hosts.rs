//! Grants on a database that several hosts share: what is taken back on one host holds on the others.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stderr)]

use std::time::{Duration, Instant};

use handshake_core::Timestamp;
use handshake_tests::binary::{Finished, Project, Running};
use handshake_tests::postgres::{Backend, TestDatabase, backends, server};
use serde_json::{Value, json};

/// How often a host looks for grants that others have taken back, and what a busy machine adds.
const LOOK: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(4);

/// A host: its own folder, settings and data directory, and the database that all of them share.
struct Host {
    project: Project,
    url: String,
}

impl Host {
    fn new(database: &TestDatabase) -> Self {
        let project = Project::new();
        let text = std::fs::read_to_string(project.path("policy.toml")).unwrap();
        let rule = "\n[[ask]]\ncapability = \"config.read\"\nplugins = [\"hostile\"]\n";
        project.write("policy.toml", text + rule);
        Self { project, url: database.url.clone() }
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let arguments = [arguments, &["--output", "json"]].concat();
        self.project.command(&arguments).env("DATABASE_URL", &self.url).output().unwrap().into()
    }

    fn start(&self, arguments: &[&str]) -> Running {
        Running::of(self.project.command(arguments).env("DATABASE_URL", &self.url).spawn().unwrap())
    }

    /// Decisions of a job since a time that let something through.
    fn allowed(&self, job: &str, from: Timestamp) -> Vec<Value> {
        let from = from.to_string();
        let found = self.run(&["audit", "decisions", "--job", job, "--outcome", "allow", "--from", &from]);
        found.success().json()["events"].as_array().unwrap().clone()
    }
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
    let (one, other) = (Host::new(&database), Host::new(&database));
    one.project.write("first.yaml", asks(1, 1));
    let first = one.run(&["run", "first.yaml"]);
    assert_eq!(first.code, 4, "{first:?}");
    let first = first.json()["job"]["job_id"].as_str().unwrap().to_owned();
    one.run(&["jobs", "approve", &first, "--until-revoked"]).success();
    let grants = other.run(&["capabilities", "grants"]).success().json();
    let grant = grants["grants"][0]["grant_id"].as_str().unwrap().to_owned();

    one.project.write("many.yaml", asks(400, 1_000));
    let running = one.start(&["run", "many.yaml", "--quiet"]);
    let (begun, mut job) = (Instant::now(), first.clone());
    while job == first || one.allowed(&job, Timestamp::from_micros(0)).is_empty() {
        let waited = begun.elapsed() < Duration::from_secs(60);
        assert!(waited, "no call was let through: {:?}", one.run(&["jobs", "show", &job]));
        let jobs = one.run(&["jobs", "list", "--limit", "1"]).success().json();
        job = jobs["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    }
    other.run(&["capabilities", "revoke", &grant]).success();
    let ended = running.finish();
    assert_eq!(ended.code, 4, "the next attempt asks: {ended:?}");

    let shown = other.run(&["capabilities", "grants", "--all"]).success().json();
    let grants = shown["grants"].as_array().unwrap();
    let revoked = grants.iter().find(|found| found["grant_id"] == json!(grant)).unwrap();
    let revoked = Timestamp::parse(revoked["revoked_at"].as_str().unwrap()).unwrap();
    let late = one.allowed(&job, revoked.plus(LOOK + SLACK));
    assert_eq!(late, Vec::<Value>::new(), "let through long after it was taken back");
}
