//! Pinned jobs, which the janitor spares.

use axum::Json;
use axum::extract::{Path, State};
use handshake_core::job::AiJob;
use handshake_core::token::Right;
use serde::{Deserialize, Serialize};

use super::jobs::job_id;
use super::{Answer, Caller, Host, Routes};

pub(super) fn routes() -> Routes {
    Routes::new().post(Right::Operate, "/jobs/{id}/pin", "Keeps a job however old it gets", pin).post(
        Right::Operate,
        "/jobs/{id}/unpin",
        "Lets a pinned job go",
        unpin,
    )
}

/// The job as it is now.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Pinned {
    /// The job.
    pub(crate) job: AiJob,
}

async fn pin(State(host): Host, caller: Caller, Path(id): Path<String>) -> Answer<Pinned> {
    Ok(Json(Pinned { job: host.engine.pin(job_id(&id)?, true, &caller.actor).await? }))
}

async fn unpin(State(host): Host, caller: Caller, Path(id): Path<String>) -> Answer<Pinned> {
    Ok(Json(Pinned { job: host.engine.pin(job_id(&id)?, false, &caller.actor).await? }))
}
