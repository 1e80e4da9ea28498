//! The flight recorder's queries. Each answers only when everything recorded before it can be seen.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use handshake_recorder::{EventPage, EventQuery, MatrixQuery, MatrixRow};
use serde::{Deserialize, Serialize};

use super::{Answer, Host, Parameters};
use crate::host::HostState;

pub(super) fn routes() -> Router<Arc<HostState>> {
    Router::new().route("/v1/audit/events", get(events)).route("/v1/audit/matrix", get(matrix))
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

async fn matrix(State(host): Host, Parameters(query): Parameters<MatrixQuery>) -> Answer<Matrix> {
    Ok(Json(Matrix { rows: host.projection().await?.matrix(&query).await? }))
}
