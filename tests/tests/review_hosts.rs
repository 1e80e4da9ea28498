//! On a database that several hosts share, each has its own record: a review of what another host executed says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use handshake_tests::binary::{Finished, Project};
use handshake_tests::postgres::{Backend, TestDatabase, backends, server};
use serde_json::{Value, json};

/// A host: its own folder and data directory, and the database that all of them share.
struct Host {
    project: Project,
    url: String,
}

impl Host {
    fn new(database: &TestDatabase) -> Self {
        let project = Project::new();
        project.write("docs/a.md", "Gates decide.\n");
        Self { project, url: database.url.clone() }
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        self.project.command(arguments).env("DATABASE_URL", &self.url).output().unwrap().into()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--output", "json"]].concat()).success().json()
    }

    fn id(&self) -> String {
        std::fs::read_to_string(self.project.path(".handshake/host-id")).unwrap().trim().to_owned()
    }
}

#[test]
fn a_review_says_that_another_host_executed_it() {
    if !backends().contains(&Backend::Postgres) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(server().fresh_database());
    let (one, other) = (Host::new(&database), Host::new(&database));
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
    let ran = one.json(&["run", workflow.to_str().unwrap(), "-i", "folder=docs"]);
    let (job, run) = (ran["job"]["job_id"].as_str().unwrap(), ran["job"]["workflow_run_id"].as_str().unwrap());
    let (here, elsewhere) = (&one, &other);
    let hosts = json!([one.id()]);
    for question in [
        &["audit", "matrix", "--run", run][..],
        &["audit", "matrix", "--job", job],
        &["audit", "decisions", "--run", run],
        &["audit", "events", "--job", job],
    ] {
        assert_eq!(elsewhere.json(question)["elsewhere"], hosts, "{question:?}");
        assert_eq!(here.json(question).get("elsewhere"), None, "{question:?}");
        let told = elsewhere.run(question).success().stderr;
        assert!(told.contains(&one.id()) && told.contains("host-id"), "{question:?}: {told}");
    }
    elsewhere.run(&["audit", "report", run, "-o", "review.html"]).success();
    here.run(&["audit", "report", run, "-o", "review.html"]).success();
    let page = |host: &Host| std::fs::read_to_string(host.project.path("review.html")).unwrap();
    assert!(page(elsewhere).contains("Not all of it is here") && !page(here).contains("Not all of it is here"));

    // Nothing is said of a run, or signed, for which the record is not here.
    let sign = ["audit", "sign-off", run, "--as", "ada", "--verdict", "accept"];
    for refused in [&["audit", "suggest", run, "-o", "enough"][..], &["audit", "diff", run, run], &sign] {
        let finished = elsewhere.run(refused);
        assert_eq!(finished.code, 2, "{refused:?}: {finished:?}");
        assert!(finished.stderr.contains(&one.id()), "{refused:?}: {finished:?}");
        here.run(refused).success();
    }
}
