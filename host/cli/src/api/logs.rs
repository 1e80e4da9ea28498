//! What the steps of a job have logged.

use axum::Json;
use axum::extract::{Path, State};
use handshake_core::node::AttemptLog;
use handshake_core::storage::{LogQuery, Logs, StorageError};
use handshake_core::token::Right;
use handshake_core::{RunId, StepId};
use serde::{Deserialize, Serialize};

use super::jobs::job_id;
use super::{Answer, Host, Parameters, Routes};

pub(super) fn routes() -> Routes {
    Routes::new().get(Right::See, "/jobs/{id}/logs", "What the ended attempts of a run have logged", logs)
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LogParameters {
    /// A run of the job; the latest by default.
    run: Option<RunId>,
    /// This step alone.
    step: Option<StepId>,
    /// Continues there: `next` of the page before.
    after: u32,
}

/// Some of the logs of a run.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct LogPage {
    /// In the order in which the attempts ended.
    pub(crate) logs: Vec<AttemptLog>,
    /// What to give as `after` for the next page.
    pub(crate) next: Option<u32>,
}

async fn logs(
    State(host): Host,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<LogParameters>,
) -> Answer<LogPage> {
    let job = host.database.job(job_id(&id)?).await?;
    let run = match parameters.run {
        Some(id) if host.database.run(id).await?.job_id == job.job_id => Some(id),
        Some(id) => return Err(StorageError::NotFound { what: "run of the job", id: id.to_string() }.into()),
        None => job.workflow_run_id,
    };
    let Some(run) = run else { return Ok(Json(LogPage::default())) };
    let query = LogQuery { step: parameters.step, skip: parameters.after };
    let Logs { attempts, next } = host.database.logs(run, query).await?;
    Ok(Json(LogPage { logs: attempts, next }))
}
