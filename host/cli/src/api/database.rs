//! The databases: how they stand.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use handshake_core::storage::Statistics;
use handshake_recorder::ProjectionStatus;
use serde::{Deserialize, Serialize};

use super::{Answer, Host};
use crate::error::CliError;
use crate::host::HostState;

pub(super) fn routes() -> Router<Arc<HostState>> {
    Router::new().route("/v1/db", get(status))
}

/// How the databases stand.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DatabaseStatus {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// The process that owns it.
    pub(crate) owner_pid: u32,
    /// The latest migration.
    pub(crate) migration_version: Option<i64>,
    /// What is stored.
    pub(crate) statistics: Statistics,
    /// The flight recorder's projection, or why it cannot be opened.
    pub(crate) recorder: RecorderStatus,
}

/// The projection, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecorderStatus {
    /// It is open.
    Open(ProjectionStatus),
    /// It is not.
    Failed(CliError),
}

async fn status(State(host): Host) -> Answer<DatabaseStatus> {
    host.database.ping().await?;
    let recorder = match host.projection().await {
        Ok(projection) => RecorderStatus::Open(projection.status().await),
        Err(error) => RecorderStatus::Failed(error),
    };
    Ok(Json(DatabaseStatus {
        data_dir: host.directory.path().to_owned(),
        owner_pid: std::process::id(),
        migration_version: host.database.migration_version().await?,
        statistics: host.database.statistics().await?,
        recorder,
    }))
}
