//! On a database that several hosts share, each has its own record: a review of what another host executed says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use handshake_tests::binary::Project;
use handshake_tests::postgres::{Backend, TestDatabase, backends, server};
use serde_json::{Value, json};

/// A host with a data directory of its own, on the database that all of them share.
fn host(database: &TestDatabase) -> Project {
    let project = Project::new().on(database);
    project.write("docs/a.md", "Gates decide.\n");
    project
}

fn json_of(host: &Project, arguments: &[&str]) -> Value {
    host.run(&[arguments, &["--output", "json"]].concat()).success().json()
}

fn id(host: &Project) -> String {
    std::fs::read_to_string(host.path(".handshake/host-id")).unwrap().trim().to_owned()
}

#[test]
fn a_review_says_that_another_host_executed_it() {
    if !backends().contains(&Backend::Postgres) {
        return eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(server().fresh_database());
    let (one, other) = (host(&database), host(&database));
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
    let ran = json_of(&one, &["run", workflow.to_str().unwrap(), "-i", "folder=docs"]);
    let (job, run) = (ran["job"]["job_id"].as_str().unwrap(), ran["job"]["workflow_run_id"].as_str().unwrap());
    let (here, elsewhere) = (&one, &other);
    let hosts = json!([id(&one)]);
    for question in [
        &["audit", "matrix", "--run", run][..],
        &["audit", "matrix", "--job", job],
        &["audit", "decisions", "--run", run],
        &["audit", "events", "--job", job],
    ] {
        assert_eq!(json_of(elsewhere, question)["elsewhere"], hosts, "{question:?}");
        assert_eq!(json_of(here, question).get("elsewhere"), None, "{question:?}");
        let told = elsewhere.run(question).success().stderr;
        assert!(told.contains(&id(&one)) && told.contains("host-id"), "{question:?}: {told}");
    }
    elsewhere.run(&["audit", "report", run, "-o", "review.html"]).success();
    here.run(&["audit", "report", run, "-o", "review.html"]).success();
    let page = |host: &Project| std::fs::read_to_string(host.path("review.html")).unwrap();
    assert!(page(elsewhere).contains("Not all of it is here") && !page(here).contains("Not all of it is here"));

    // Nothing is said of a run, or signed, for which the record is not here.
    let sign = ["audit", "sign-off", run, "--as", "ada", "--verdict", "accept"];
    for refused in [&["audit", "suggest", run, "-o", "enough"][..], &["audit", "diff", run, run], &sign] {
        let finished = elsewhere.run(refused);
        assert_eq!(finished.code, 2, "{refused:?}: {finished:?}");
        assert!(finished.stderr.contains(&id(&one)), "{refused:?}: {finished:?}");
        here.run(refused).success();
    }
}
