//! `/health`: whether the host and its database are there (R4.5).

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::api::Host;

/// How long the database may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It opens its databases and looks for interrupted runs.
    Starting,
    /// It answers.
    Ok,
    /// Its database does not answer.
    Degraded,
}

/// How the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DatabaseHealth {
    /// It is being opened.
    Opening,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// How the host is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Health {
    /// The host.
    pub(crate) status: Status,
    /// `handshake`.
    pub(crate) component: String,
    /// Its version.
    pub(crate) version: String,
    /// Its database.
    pub(crate) db_status: DatabaseHealth,
    /// The latest migration; null when it cannot be read.
    pub(crate) migration_version: Option<i64>,
    /// The process.
    pub(crate) pid: u32,
    /// Whether it takes jobs; a process that only looks something up does not.
    pub(crate) accepts_jobs: bool,
}

impl Health {
    fn of(status: Status, db_status: DatabaseHealth) -> Self {
        Self {
            status,
            component: "handshake".to_owned(),
            version: crate::VERSION.to_owned(),
            db_status,
            migration_version: None,
            pid: std::process::id(),
            accepts_jobs: false,
        }
    }

    /// What is said before the host is there.
    pub(crate) fn starting() -> Self {
        Self::of(Status::Starting, DatabaseHealth::Opening)
    }
}

/// Answers 200 when host and database are there, and 503 otherwise.
pub(crate) async fn health(State(host): Host) -> Response {
    let asked = tokio::time::timeout(PATIENCE, host.database.migration_version()).await;
    let accepts_jobs = host.executions.accepts();
    match asked {
        Ok(Ok(migration_version)) => {
            let health = Health::of(Status::Ok, DatabaseHealth::Up);
            Json(Health { migration_version, accepts_jobs, ..health }).into_response()
        }
        Ok(Err(_)) | Err(_) => {
            let health = Health::of(Status::Degraded, DatabaseHealth::Down);
            (StatusCode::SERVICE_UNAVAILABLE, Json(Health { accepts_jobs, ..health })).into_response()
        }
    }
}
