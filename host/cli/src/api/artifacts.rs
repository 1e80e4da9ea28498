//! Artifacts: the large values that a job's steps stored, for people.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use handshake_core::artifact::ArtifactHandle;
use handshake_core::capability::{Axis, CapabilityId, Resource};
use handshake_core::gate::Call;
use handshake_core::storage::StorageError;
use handshake_core::token::Right;
use handshake_core::{Digest, RunId};
use serde::{Deserialize, Serialize};

use super::jobs::job_id;
use super::{Answer, Caller, Host, Refusal, Routes};
use crate::error::CliError;
use crate::host::HostState;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::See, "/jobs/{id}/artifacts", "What the latest run of a job has stored or was given", list)
        .get(Right::See, "/jobs/{id}/artifacts/{sha256}", "The content of an artifact", read)
}

/// Artifacts of a job's latest run.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ArtifactList {
    /// In the order in which the run came to have them.
    pub(crate) artifacts: Vec<ArtifactHandle>,
}

async fn list(State(host): Host, Path(id): Path<String>) -> Answer<ArtifactList> {
    let artifacts = match latest_run(&host, &id).await? {
        Some(run) => host.database.artifacts(run).await?,
        None => Vec::new(),
    };
    Ok(Json(ArtifactList { artifacts }))
}

async fn latest_run(host: &HostState, id: &str) -> Result<Option<RunId>, Refusal> {
    let job = host.database.job(job_id(id)?).await?;
    Ok(job.workflow_run_id)
}

/// The content, for saving and never for showing: a step wrote it, and pages of this host must not. Reading is decided and on
/// record as it is for steps.
async fn read(
    State(host): Host,
    caller: Caller,
    Path((id, sha256)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let missing = || StorageError::NotFound { what: "artifact", id: sha256.clone() };
    let artifact: Digest = sha256.parse().map_err(|_| missing())?;
    let run = latest_run(&host, &id).await?.ok_or_else(missing)?;
    // The same answer whether it does not exist or belongs to another job.
    let listed = host.database.artifacts(run).await?;
    let handle = listed.into_iter().find(|handle| handle.id == artifact).ok_or_else(missing)?;
    let gate = host.gate_of(caller.actor, &CapabilityId::bare(Axis::ArtifactRead))?;
    let call = Call {
        interface: "handshake:step/artifacts@0.1.0",
        function: "read",
        axis: Axis::ArtifactRead,
        resource: Resource::Whole,
        arguments: Digest::of(sha256.as_bytes()),
    };
    let permit = gate.permit(call).await.map_err(CliError::from)?;
    let content = match host.artifacts.get(&permit, run, artifact).await {
        Ok(content) => content,
        Err(error) => {
            permit.failed("failed");
            return Err(error.into());
        }
    };
    permit.succeeded(content.len() as u64, 0);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION.as_str(), format!("attachment; filename=\"{artifact}\"")),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff".to_owned()),
        (MEDIA_TYPE, handle.media_type.escape_default().to_string()),
    ];
    Ok((headers, content).into_response())
}

/// Name of the header with the media type that the step gave; of no meaning to a browser.
pub(crate) const MEDIA_TYPE: &str = "handshake-media-type";
