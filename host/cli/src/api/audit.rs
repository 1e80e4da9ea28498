//! The flight recorder's queries. Each answers only when everything recorded before it can be seen.

use axum::Json;
use axum::extract::{Path, State};
use handshake_core::token::Right;
use handshake_core::{EventId, HostId, RunId};
use handshake_recorder::{EventPage, EventQuery, MatrixQuery, TraceTree};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answer, Caller, Document, Host, Parameters, Refusal, Routes};
use crate::error::CliError;
use crate::review;
use crate::review::diff::{Diff, DiffRequest};
use crate::review::explain::Explanation;
use crate::review::matrix::Matrix;
use crate::review::replay::{ReplayRequest, Replayed};
use crate::review::report::ReportData;
use crate::review::sign_off::{SignOffLine, SignOffList, SignOffRequest};
use crate::review::simulate::{SimulateRequest, Simulated};
use crate::review::suggest::{SuggestRequest, Suggested};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::Audit, "/audit/events", "Events, newest first, or oldest first behind `after`", events)
        .get(Right::Audit, "/events", "The same as `/audit/events`", events)
        .get(Right::Audit, "/flight_recorder", "The same as `/audit/events`", events)
        .get(Right::Audit, "/audit/matrix", "Plugins and capabilities: declared, granted, allowed, denied, new", matrix)
        .get(Right::Audit, "/audit/trace/{id}", "Everything about a trace, a job or a run, as a tree", trace)
        .get(Right::Audit, "/audit/explain/{event}", "A decision, layer by layer", explain)
        .post(Right::Audit, "/audit/simulate", "What would be decided; the question is on record", simulate)
        .post(Right::Audit, "/audit/replay", "Every recorded call under another policy", replay)
        .post(
            Right::Audit,
            "/audit/suggest",
            "The smallest manifests, grants and policy that would have been enough",
            suggest,
        )
        .post(Right::Audit, "/audit/diff", "What two runs or versions asked for differently", diff)
        .get(Right::Audit, "/audit/sign-offs/{run}", "What people have said about a run", sign_offs)
        .post(
            Right::SignOff,
            "/audit/sign-offs/{run}",
            "Vouches for a run, or does not, once its record is verified",
            sign_off,
        )
        .get(Right::Audit, "/audit/reports/{run}", "Everything about a run", report)
}

/// Some of the record of this host.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct RecordPage {
    /// What was found.
    #[serde(flatten)]
    pub(crate) page: EventPage,
    /// When it was asked for a run or a job: other hosts that executed parts of it, on whose records more is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) elsewhere: Vec<HostId>,
}

async fn events(State(host): Host, Parameters(query): Parameters<EventQuery>) -> Answer<RecordPage> {
    let page = host.projection().await?.events(&query).await?;
    let runs = match (query.run_id, query.job_id) {
        (Some(run), _) => vec![run],
        (None, Some(job)) => host.database.runs_of(job).await?.iter().map(|run| run.run_id).collect(),
        (None, None) => Vec::new(),
    };
    Ok(Json(RecordPage { page, elsewhere: review::elsewhere(&host, &runs).await? }))
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
    Ok(Json(review::matrix::matrix(&host, &query).await?))
}

async fn explain(State(host): Host, Path(id): Path<String>) -> Answer<Explanation> {
    Ok(Json(review::explain::explain(&host, event_id(&id)?).await?))
}

async fn simulate(
    State(host): Host,
    caller: Caller,
    Document(request): Document<SimulateRequest>,
) -> Answer<Simulated> {
    Ok(Json(review::simulate::simulate(&host, &caller.actor, &request).await?))
}

async fn replay(State(host): Host, Document(request): Document<ReplayRequest>) -> Answer<Replayed> {
    Ok(Json(review::replay::replay(&host, request).await?))
}

async fn suggest(State(host): Host, Document(request): Document<SuggestRequest>) -> Answer<Suggested> {
    Ok(Json(review::suggest::suggest(&host, &request).await?))
}

async fn diff(State(host): Host, Document(request): Document<DiffRequest>) -> Answer<Diff> {
    Ok(Json(review::diff::diff(&host, request).await?))
}

/// The id of an event.
pub(crate) fn event_id(text: &str) -> Result<EventId, Refusal> {
    text.parse().map_err(|_| Refusal(CliError::usage(format!("`{text}` is not the id of an event"))))
}

/// The id of a run.
pub(crate) fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|_| Refusal(CliError::usage(format!("`{text}` is not the id of a run"))))
}

async fn sign_offs(State(host): Host, Path(run): Path<String>) -> Answer<SignOffList> {
    Ok(Json(review::sign_off::sign_offs(&host, run_id(&run)?).await?))
}

async fn sign_off(
    State(host): Host,
    caller: Caller,
    Path(run): Path<String>,
    Document(request): Document<SignOffRequest>,
) -> Answer<SignOffLine> {
    Ok(Json(review::sign_off::sign_off(&host, &caller, run_id(&run)?, request).await?))
}

async fn report(State(host): Host, Path(run): Path<String>) -> Answer<ReportData> {
    Ok(Json(review::report::gather(&host, run_id(&run)?).await?))
}
