//! Debug bundles, put together and handed out by the owner of the data directory.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use handshake_core::BundleId;
use handshake_core::event::{BundleScope, DebugBundleExport, Event, EventBody, RedactionMode};
use handshake_core::token::Right;
use serde::{Deserialize, Serialize};

use super::jobs::job_id;
use super::{Caller, Document, Host, Refusal, Routes, response};
use crate::bundle;

pub(super) fn routes() -> Routes {
    Routes::new().post(Right::Audit, "/audit/bundles/{job}", "What is known about a job, in one ZIP file", export)
}

/// How much a bundle shows.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleRequest {
    /// The mode.
    pub(crate) mode: RedactionMode,
}

/// Name of the header with the bundle's id, as the event of its export has it.
pub(crate) const BUNDLE_ID: &str = "handshake-bundle-id";
/// Name of the header with its SHA-256.
pub(crate) const BUNDLE_SHA256: &str = "handshake-bundle-sha256";

/// Answers with the file. That it was given out is on record before its first byte leaves.
async fn export(
    State(host): Host,
    caller: Caller,
    Path(job): Path<String>,
    Document(request): Document<BundleRequest>,
) -> Result<Response, Refusal> {
    let job = host.database.job(job_id(&job)?).await?;
    let finished = bundle::write(&host, job.job_id, request.mode).await?;
    let (clock, ids) = (&host.gate.clock, &*host.gate.ids);
    let bundle_id = BundleId::fresh(ids);
    let body = EventBody::DebugBundleExport(DebugBundleExport {
        bundle_id,
        scope: BundleScope::Job,
        redaction_mode: request.mode,
        bundle_sha256: Some(finished.sha256),
    });
    let event_id = handshake_core::EventId::fresh(ids);
    let mut event = Event::new(event_id, job.trace_id, clock.now(), caller.actor, body);
    event.job_id = Some(job.job_id);
    host.gate.recorder.record_event(&event).await?;

    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/zip".to_owned()),
        (BUNDLE_ID, bundle_id.to_string()),
        (BUNDLE_SHA256, finished.sha256.to_string()),
    ];
    Ok((headers, response::file(finished.file)).into_response())
}
