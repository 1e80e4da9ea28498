//! What jobs propose for documents: looking at it, accepting it, declining it.

use axum::Json;
use axum::extract::{Path, State};
use handshake_core::job::AiJob;
use handshake_core::token::Right;
use handshake_engine::Proposals;
use serde::{Deserialize, Serialize};

use super::jobs::job_id;
use super::{Answer, Caller, Document, Host, Routes};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::Audit, "/jobs/{id}/proposals", "What a job proposes for documents", show)
        .post(Right::Decide, "/jobs/{id}/accept", "Applies what a job proposes", accept)
        .post(Right::Decide, "/jobs/{id}/decline", "Applies nothing of what a job proposes", decline)
}

/// What somebody says about a job's proposals.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Verdict {
    /// Why.
    pub(crate) reason: Option<String>,
}

/// What a job proposes.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct JobProposals {
    /// None if it proposes nothing.
    pub(crate) proposals: Option<Proposals>,
}

/// The job as it is now.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Decided {
    /// The job.
    pub(crate) job: AiJob,
}

async fn show(State(host): Host, Path(id): Path<String>) -> Answer<JobProposals> {
    let job = host.database.job(job_id(&id)?).await?;
    Ok(Json(JobProposals { proposals: host.engine.proposals(&job).await? }))
}

async fn accept(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Document(verdict): Document<Verdict>,
) -> Answer<Decided> {
    let job = host.engine.accept(job_id(&id)?, &caller.actor, verdict.reason).await?;
    Ok(Json(Decided { job }))
}

async fn decline(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Document(verdict): Document<Verdict>,
) -> Answer<Decided> {
    let job = host.engine.decline(job_id(&id)?, &caller.actor, verdict.reason).await?;
    Ok(Json(Decided { job }))
}
