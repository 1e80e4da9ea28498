//! `handshake db` on the real binary: an older database is shown and migrated, old jobs are shown and deleted.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use handshake_core::HostId;
use handshake_core::job::{AiJob, JobState};
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::storage::{Database, JobStore};
use handshake_core::testing::{FixedClock, SequentialIds};
use handshake_core::{Clock, Ids};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::binary::{Finished, Project};
use handshake_tests::postgres::{Backend, TestDatabase, backends, server};
use handshake_tests::storage::{job, options};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A project with a database of a backend.
struct Place {
    project: Project,
    url: String,
    runtime: Runtime,
    _database: Option<TestDatabase>,
}

impl Place {
    fn new(backend: Backend) -> Self {
        let (project, runtime) = (Project::new(), Runtime::new().unwrap());
        let database = (backend == Backend::Postgres).then(|| runtime.block_on(server().fresh_database()));
        let file = format!("sqlite:{}", project.path("x.db").display());
        let url = database.as_ref().map_or(file, |database| database.url.clone());
        Self { project, url, runtime, _database: database }
    }

    fn url(&self) -> DatabaseUrl {
        self.url.parse().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let output = self.project.command(arguments).env("DATABASE_URL", &self.url).output().unwrap();
        Finished::from(output).success()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[&["--output", "json"], arguments].concat()).json()
    }
}

#[test]
fn an_older_database_is_shown_as_it_is_and_migrated_on_request() {
    for backend in backends() {
        let place = Place::new(backend);
        let newest = SqlDatabase::latest_migration();
        let tried = place.json(&["db", "migrate", "--dry-run"]);
        assert_eq!((&tried["from"], &tried["to"], &tried["dry_run"]), (&Value::Null, &json!(newest), &json!(true)));
        assert!(!place.project.path("x.db").exists(), "a dry run creates nothing");
        assert_eq!(place.json(&["db", "migrate"])["migrations"].as_array().unwrap().len(), newest as usize);
        place.runtime.block_on(SqlDatabase::revert(place.url(), 9)).unwrap();

        for _ in 0..2 {
            let status = place.json(&["db", "status"]);
            assert_eq!((&status["migration_version"], &status["statistics"]), (&json!(9), &Value::Null));
            assert_eq!(status["schema"]["pending"].as_array().unwrap().len(), newest as usize - 9);
            assert_eq!(status["url"], place.url().to_string());
            let shown = place.run(&["db", "status"]).stdout;
            assert!(shown.contains(&format!("9 of {newest}")) && shown.contains("handshake db migrate"), "{shown}");
        }
        let shown = place.run(&["db", "migrate", "--dry-run"]).stdout;
        assert!(shown.contains(&format!("would go from schema 9 to schema {newest}")), "{shown}");
        let migrated = place.json(&["db", "migrate"]);
        assert_eq!(
            (&migrated["from"], &migrated["to"], &migrated["dry_run"]),
            (&json!(9), &json!(newest), &json!(false))
        );
        assert_eq!(migrated["migrations"][0], json!({ "version": 10, "description": "workspaces" }));
        assert!(place.run(&["db", "migrate"]).stdout.contains("is up to date"));
        let status = place.json(&["db", "status"]);
        assert_eq!((&status["migration_version"], &status["schema"]["pending"]), (&json!(newest), &json!([])));
    }
}

#[test]
fn old_jobs_are_shown_before_they_are_deleted() {
    for backend in backends() {
        let place = Place::new(backend);
        place.run(&["db", "status"]);
        // Long before the window of a host that lives today.
        let (clock, ids) = (Arc::new(FixedClock::default()), Arc::new(SequentialIds::default()));
        place.runtime.block_on(async {
            let options = options(&place.url(), HostId::fresh(&*ids), clock.clone());
            let database = SqlDatabase::open(options).await.unwrap();
            for _ in 0..5 {
                let (job, run) = job(&*ids as &dyn Ids, clock.now());
                let (job, run) =
                    (AiJob { state: JobState::Completed, ..job }, WorkflowRun { state: RunState::Completed, ..run });
                database.submit(job, run, None, vec![]).await.unwrap();
            }
            database.close().await.unwrap();
        });
        let tried = place.json(&["db", "prune", "--dry-run"]);
        assert_eq!((tried["candidates"].as_array().unwrap().len(), &tried["pruned"]["jobs"]), (2, &json!(0)));
        assert_eq!(tried["policy"], json!({ "days": 30, "keep": 3, "quota": null }));
        let shown = place.run(&["db", "prune", "--dry-run"]).stdout;
        assert!(shown.contains("would delete 2 jobs") && shown.contains("summarize"), "{shown}");
        let done = place.json(&["db", "prune"]);
        assert_eq!((&done["pruned"], &done["dry_run"]), (&json!({ "jobs": 2, "runs": 2 }), &json!(false)));
        assert!(place.run(&["db", "prune"]).stdout.contains("deleted 0 jobs"));
        assert_eq!(place.json(&["jobs", "list"])["jobs"].as_array().unwrap().len(), 3);
    }
}
