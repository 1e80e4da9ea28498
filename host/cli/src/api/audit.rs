//! The flight recorder's queries. Each answers only when everything recorded before it can be seen.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use handshake_recorder::{EventPage, EventQuery, MatrixQuery, MatrixRow, TraceTree};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answer, Host, Parameters, Refusal};
use crate::error::CliError;
use crate::host::HostState;

pub(super) fn routes() -> Router<Arc<HostState>> {
    Router::new()
        .route("/v1/audit/events", get(events))
        .route("/v1/audit/matrix", get(matrix))
        .route("/v1/audit/trace/{id}", get(trace))
}

/// Who asked for what, in numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Matrix {
    /// By plugin, then capability.
    pub(crate) rows: Vec<MatrixRow>,
}

async fn events(State(host): Host, Parameters(query): Parameters<EventQuery>) -> Answer<EventPage> {
    Ok(Json(host.projection().await?.events(&query).await?))
}

async fn trace(State(host): Host, Path(id): Path<String>) -> Answer<TraceTree> {
    let hint = "`handshake jobs list` shows jobs";
    let uuid = Uuid::parse_str(&id)
        .map_err(|_| Refusal(CliError::usage(format!("`{id}` is not the id of a trace, a job or a run")).hint(hint)))?;
    let tree = host.projection().await?.trace(uuid).await?;
    let missing = || Refusal(CliError::not_found(format!("nothing is on record about `{uuid}`")).hint(hint));
    Ok(Json(tree.ok_or_else(missing)?))
}

async fn matrix(State(host): Host, Parameters(query): Parameters<MatrixQuery>) -> Answer<Matrix> {
    Ok(Json(Matrix { rows: host.projection().await?.matrix(&query).await? }))
}
