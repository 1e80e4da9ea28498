//! What a report about a run says.

use std::collections::BTreeMap;

use handshake_core::event::EventType;
use handshake_core::job::{AccessMode, JobMetrics, JobState, SafetyMode};
use handshake_core::node::NodeExecution;
use handshake_core::run::{PinnedDigests, RunState};
use handshake_core::storage::Payloads;
use handshake_core::{JobId, RunId, Timestamp, TraceId};
use handshake_recorder::{DecisionLine, EventQuery, MatrixQuery, ModelUse, RecordedEvent, Verification};
use serde::{Deserialize, Serialize};

use super::matrix::{self, Matrix};
use super::sign_off::{self, SignOffLine};
use crate::api::recorder::failed;
use crate::error::CliError;
use crate::host::HostState;

/// The most decisions that are in a report.
const MOST_DECISIONS: u32 = 50_000;

/// Everything that a report shows.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ReportData {
    /// When it was put together.
    pub(crate) made_at: Timestamp,
    /// The program's version.
    pub(crate) version: String,
    /// The run.
    pub(crate) run: ReportedRun,
    /// Its attempts, in the order in which they began.
    pub(crate) attempts: Vec<ReportedAttempt>,
    /// Who asked for what.
    pub(crate) matrix: Matrix,
    /// Calls of models.
    pub(crate) models: Vec<ModelUse>,
    /// Violations of the sandbox.
    pub(crate) violations: Vec<RecordedEvent>,
    /// Decisions, in the order of the record.
    pub(crate) decisions: Vec<DecisionLine>,
    /// How many there are, if not all are shown.
    pub(crate) decisions_total: u64,
    /// Denials by reason.
    pub(crate) denials: BTreeMap<String, u64>,
    /// Who has signed.
    pub(crate) sign_offs: Vec<SignOffLine>,
    /// Whether the record is what was recorded.
    pub(crate) verification: Verification,
    /// A part of the run was recorded before this time, and is not kept any more.
    pub(crate) incomplete_before: Option<Timestamp>,
}

/// The run and its job.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ReportedRun {
    /// The run.
    pub(crate) run_id: RunId,
    /// The job.
    pub(crate) job_id: JobId,
    /// The trace.
    pub(crate) trace_id: TraceId,
    /// The workflow's name.
    pub(crate) workflow: String,
    /// How the run stands.
    pub(crate) state: RunState,
    /// How the job stands.
    pub(crate) job_state: JobState,
    /// Why.
    pub(crate) reason: String,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// The profile.
    pub(crate) profile: String,
    /// The access mode.
    pub(crate) access_mode: AccessMode,
    /// The safety mode.
    pub(crate) safety_mode: SafetyMode,
    /// Numbers.
    pub(crate) metrics: JobMetrics,
    /// Hashes of what it was made with.
    pub(crate) pinned: PinnedDigests,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

/// One attempt of a step.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ReportedAttempt {
    /// The step, with the position within `for_each`.
    pub(crate) step: String,
    /// Attempt, from 1.
    pub(crate) attempt: u32,
    /// The plugin.
    pub(crate) plugin: Option<String>,
    /// How it stands.
    pub(crate) state: String,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// When it began.
    pub(crate) started_at: Timestamp,
    /// When it ended.
    pub(crate) finished_at: Option<Timestamp>,
}

impl ReportedAttempt {
    /// An attempt as it is stored.
    pub(crate) fn of(node: &NodeExecution) -> Self {
        Self {
            step: node.node.to_string(),
            attempt: node.attempt,
            plugin: node.plugin.as_ref().map(ToString::to_string),
            state: node.state.to_string(),
            error: node.error.as_ref().map(|error| format!("{}: {}", error.kind, error.message)),
            started_at: node.started_at,
            finished_at: node.finished_at,
        }
    }
}

/// Gathers everything about a run.
pub(crate) async fn gather(host: &HostState, id: RunId) -> Result<ReportData, CliError> {
    let run = host.database.run(id).await?;
    let job = host.database.job(run.job_id).await?;
    let projection = host.projection().await?;
    let nodes = host.database.nodes(id, Payloads::LeftOut).await?;
    let mut attempts: Vec<_> = nodes.into_iter().map(|node| ReportedAttempt::of(&node)).collect();
    attempts.sort_by_key(|attempt| attempt.started_at);
    let matrix = matrix::matrix(host, &MatrixQuery { run_id: Some(id), ..MatrixQuery::default() }).await?;
    let mut denials = BTreeMap::new();
    for (reason, count) in matrix.rows.iter().flat_map(|line| &line.row.denied_reasons) {
        *denials.entry(reason.clone()).or_default() += count;
    }
    let (decisions, decisions_total) = projection.decisions_of(id, MOST_DECISIONS).await?;
    let violations = EventQuery {
        run_id: Some(id),
        event_type: Some(EventType::SecurityViolation),
        from: Some(run.created_at),
        ..EventQuery::default()
    };
    let violations = projection.events(&violations).await?;
    let verification = host.keeper.verify(projection, None).await.map_err(|error| failed(&error))?;
    Ok(ReportData {
        made_at: host.gate.clock.now(),
        version: crate::VERSION.to_owned(),
        attempts,
        matrix,
        models: projection.models_of(id).await?,
        incomplete_before: violations.incomplete_before,
        violations: violations.events,
        decisions,
        decisions_total,
        denials,
        sign_offs: sign_off::sign_offs(host, id).await?.sign_offs,
        verification,
        run: ReportedRun {
            run_id: id,
            job_id: job.job_id,
            trace_id: run.trace_id,
            workflow: job.protocol_id,
            state: run.state,
            job_state: job.state,
            reason: job.status_reason,
            error: run.error,
            profile: job.capability_profile_id.to_string(),
            access_mode: job.access_mode,
            safety_mode: job.safety_mode,
            metrics: job.metrics,
            pinned: run.pinned,
            created_at: run.created_at,
            updated_at: run.updated_at,
        },
    })
}
