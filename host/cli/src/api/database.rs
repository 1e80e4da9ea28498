//! The databases: how they stand, and deleting what need not be kept.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use handshake_core::HostId;
use handshake_core::storage::{PruneReport, Schema, Statistics};
use handshake_core::token::Right;
use handshake_recorder::ProjectionStatus;
use handshake_storage::SqlDatabase;
use serde::{Deserialize, Serialize};

use super::{Answer, Document, Host, Routes};
use crate::error::CliError;

pub(super) fn routes() -> Routes {
    Routes::new().get(Right::Own, "/db", "How the databases stand", status).post(
        Right::Own,
        "/db/prune",
        "Deletes what need not be kept, or says what it would delete",
        prune,
    )
}

/// How the databases stand.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct DatabaseStatus {
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// The process that owns it.
    pub(crate) owner_pid: u32,
    /// Where the database is, without password.
    pub(crate) url: String,
    /// The latest migration.
    pub(crate) migration_version: Option<i64>,
    /// The latest migration and what this version of the program has.
    pub(crate) schema: Schema,
    /// The host; none when the database was only looked at, and so for the following two.
    pub(crate) host: Option<HostId>,
    /// What is stored.
    pub(crate) statistics: Option<Statistics>,
    /// The flight recorder's projection, or why it cannot be opened.
    pub(crate) recorder: Option<RecorderStatus>,
}

/// The projection, or why there is none.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecorderStatus {
    /// It is open.
    Open(ProjectionStatus),
    /// It is not.
    Failed(CliError),
}

/// A request to delete what need not be kept.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PruneRequest {
    /// Only report it.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

async fn status(State(host): Host) -> Answer<DatabaseStatus> {
    host.database.ping().await?;
    let recorder = match host.projection().await {
        Ok(projection) => RecorderStatus::Open(projection.status().await),
        Err(error) => RecorderStatus::Failed(error),
    };
    let version = host.database.migration_version().await?;
    Ok(Json(DatabaseStatus {
        data_dir: host.directory.path().to_owned(),
        owner_pid: std::process::id(),
        url: host.url.to_string(),
        migration_version: version,
        // It was brought up to date when it was opened; another host may have taken it further.
        schema: Schema { version, known: SqlDatabase::latest_migration(), pending: Vec::new() },
        host: Some(host.database.host()),
        statistics: Some(host.database.statistics().await?),
        recorder: Some(recorder),
    }))
}

async fn prune(State(host): Host, Document(request): Document<PruneRequest>) -> Answer<PruneReport> {
    Ok(Json(host.janitor.run(request.dry_run).await?))
}
