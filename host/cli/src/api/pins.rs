//! Pinned jobs, which the janitor spares.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use handshake_core::job::AiJob;
use serde::{Deserialize, Serialize};

use super::jobs::job_id;
use super::{Answer, Host};
use crate::host::{HostState, person};

pub(super) fn routes() -> Router<Arc<HostState>> {
    Router::new().route("/v1/jobs/{id}/pin", post(pin)).route("/v1/jobs/{id}/unpin", post(unpin))
}

/// The job as it is now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pinned {
    /// The job.
    pub(crate) job: AiJob,
}

async fn pin(State(host): Host, Path(id): Path<String>) -> Answer<Pinned> {
    Ok(Json(Pinned { job: host.engine.pin(job_id(&id)?, true, &person()).await? }))
}

async fn unpin(State(host): Host, Path(id): Path<String>) -> Answer<Pinned> {
    Ok(Json(Pinned { job: host.engine.pin(job_id(&id)?, false, &person()).await? }))
}
