//! What a lost host left behind: its running runs are marked, and the record tells which of them may go on.
//!
//! An attempt notes each effect before it has it. So an interrupted attempt without a note, or with none of an effect
//! that outlasts it, did nothing to the world and runs again; one with such notes may have, and unless the workflow
//! says that this does no harm, a person decides.

use std::collections::BTreeMap;
use std::future::ready;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use handshake_core::capability::CapabilityId;
use handshake_core::event::{Actor, AdmittedEvent, EventBody};
use handshake_core::job::{AiJob, JobEvent, JobState};
use handshake_core::node::{NodeExecution, NodeState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{RunEvent, WorkflowRun};
use handshake_core::storage::{JobFilter, Payloads, RunChange, StorageError};
use handshake_core::workflow::{Recovery, Workflow};
use handshake_core::{JobId, RunId};
use serde::{Deserialize, Serialize};

use crate::approvals;
use crate::control;
use crate::engine::{EngineError, EngineServices};
use crate::run::{Envelope, given_up};

/// How often a run may be found interrupted before it is given up as the cause.
pub const MOST_RECOVERIES: u32 = 5;
/// How many effects a reason names; the record has all of them.
const NAMED_EFFECTS: usize = 3;
/// How many runs are looked into at the same time.
const TOGETHER: usize = 32;
/// Expired leases that one look takes up; the next look finds the rest.
const MOST_EXPIRED: u32 = 256;
/// How long whoever submits a job has to begin it; then anybody may.
const ABANDONED: Duration = Duration::from_secs(10);
/// Likewise for runs that are due.
const MOST_DUE: u32 = 256;

/// A run that was found interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The run.
    pub run_id: RunId,
    /// Its job.
    pub job_id: JobId,
    /// The state that its job is in now: stalled if it may go on, awaiting_user if a person has to decide, poisoned if
    /// it was interrupted too often.
    pub state: JobState,
    /// Why.
    pub reason: String,
}

/// Marks the runs that this host's earlier process was executing, and those whose host let its lease expire. One
/// transaction and one `workflow_recovery` event per run.
pub(crate) async fn recover(services: &EngineServices) -> Result<Vec<Recovered>, EngineError> {
    let mut recovered = take_up_all(services, services.database.interrupted().await?, true).await?;
    recovered.extend(expired(services).await?);
    Ok(recovered)
}

/// Marks the runs whose host let its lease expire, and settles what they may have left unsettled.
pub(crate) async fn expired(services: &EngineServices) -> Result<Vec<Recovered>, EngineError> {
    let recovered = take_up_all(services, services.database.expired(MOST_EXPIRED).await?, false).await?;
    // A host that is lost after the end of a run has perhaps not validated what it proposes.
    crate::proposals::settle_all(services).await?;
    Ok(recovered)
}

async fn take_up_all(
    services: &EngineServices,
    runs: Vec<WorkflowRun>,
    own: bool,
) -> Result<Vec<Recovered>, EngineError> {
    // Those that are written at the same time share a commit.
    let taken = stream::iter(runs).map(|run| take_up(services, run, own)).buffered(TOGETHER);
    let recovered: Vec<_> = taken.try_filter_map(|found| ready(Ok(found))).try_collect().await?;
    // Once all of them are marked: what a job has started ends with it.
    for found in recovered.iter().filter(|found| found.state == JobState::Poisoned) {
        control::cancel_parts(services, found.job_id, &Actor::system()).await?;
        approvals::withdraw(services, found.job_id, found.run_id).await?;
    }
    Ok(recovered)
}

/// Runs that were interrupted, have waited long enough, or were submitted by a process that was lost before it could
/// begin, and may go on by themselves, with their jobs. What a job has started goes on with that job.
pub(crate) async fn resumable(services: &EngineServices) -> Result<Vec<(RunId, JobId)>, EngineError> {
    let now = services.clock.now();
    let mut found = Vec::new();
    for (state, rest) in [(JobState::Stalled, Duration::ZERO), (JobState::Queued, ABANDONED)] {
        let mut filter = JobFilter { state: Some(state), limit: 1_000, ..JobFilter::default() };
        loop {
            let jobs = services.database.jobs(&filter).await?;
            let Some(last) = jobs.last() else { break };
            filter.after = Some(last.job_id);
            let own = jobs.iter().filter(|job| job.parent_job_id.is_none() && now.since(job.updated_at) >= rest);
            found.extend(own.filter_map(|job| Some((job.workflow_run_id?, job.job_id))));
        }
    }
    found.extend(due(services).await?);
    Ok(found)
}

/// Runs whose time to go on by themselves has come, with their jobs.
pub(crate) async fn due(services: &EngineServices) -> Result<Vec<(RunId, JobId)>, EngineError> {
    let mut found = BTreeMap::new();
    for run in services.database.due(MOST_DUE).await? {
        let root = approvals::root(services, services.database.job(run.job_id).await?).await?;
        found.extend(root.workflow_run_id.map(|run| (run, root.job_id)));
    }
    Ok(found.into_iter().collect())
}

/// Marks one run. `own` when the process that executed it was this host's.
async fn take_up(services: &EngineServices, mut run: WorkflowRun, own: bool) -> Result<Option<Recovered>, EngineError> {
    let (id, fence, from_state) = (run.run_id, run.fence, run.state);
    let mut nodes = services.database.nodes(id, Payloads::Read).await?;
    // Those that wait go on waiting, and are no reason to give the run up.
    let waiting: Vec<_> = nodes.extract_if(.., |node| node.state == NodeState::Waiting).collect();
    nodes.retain(|node| node.state == NodeState::Running);
    let now = services.clock.now();
    run.state = run.state.after(RunEvent::Stall)?;
    if waiting.is_empty() || !nodes.is_empty() {
        run.recoveries = run.recoveries.saturating_add(1);
    }
    run.updated_at = now;
    for node in &mut nodes {
        node.state = NodeState::Interrupted;
        node.finished_at = Some(now);
    }
    let envelope = Envelope { services, job: run.job_id, run: id, trace: run.trace_id };
    let why = if own { "the host's process ended" } else { "its host gave no sign of life" };
    // The host's own earlier process counts as dead at once.
    let threshold_secs = if own { 0 } else { services.lease.as_secs() };
    let mut events = vec![envelope.admit(
        Actor::system(),
        EventBody::WorkflowRecovery {
            workflow_run_id: id,
            from_state,
            to_state: run.state,
            reason: format!("{why} while the run was executed"),
            last_heartbeat_ts: run.heartbeat_at,
            threshold_secs,
        },
    )?];
    let mut job = services.database.job(run.job_id).await?;
    // A job that has moved on by itself, for example because somebody cancelled it, stays where it is.
    let moved = job.state.after(JobEvent::Stall).is_ok();
    if moved {
        let effects = services.database.effects(id).await?;
        let doubt = doubt(services, &run, &nodes, &effects);
        let reason = match &doubt {
            None => format!("{why} while step {} was executed; it can go on", steps(&nodes)),
            Some(doubt) => format!("{why}; {doubt}"),
        };
        events.push(envelope.moves(&mut job, JobEvent::Stall, reason.clone(), &Actor::system())?);
        if run.recoveries > MOST_RECOVERIES {
            let reason = format!("it was interrupted {} times, which is as often as it is tried", run.recoveries);
            poison(&envelope, &mut job, &mut run, reason, &mut events)?;
            for row in waiting {
                let (row, event) = given_up(&envelope, row)?;
                nodes.push(row);
                events.push(event);
            }
        } else if doubt.is_some() {
            events.push(envelope.moves(&mut job, JobEvent::AskUser, reason, &Actor::system())?);
        }
    }
    let recovered = Recovered { run_id: id, job_id: job.job_id, state: job.state, reason: job.status_reason.clone() };
    let change = RunChange { job: moved.then_some(job), run: Some(run), nodes, events };
    let written = match own {
        true => services.database.commit(id, fence, change).await,
        false => services.database.take_away(id, fence, change).await,
    };
    match written {
        Ok(()) => Ok(Some(recovered)),
        // Somebody claimed it in the meantime, or its host is back: it is not left behind.
        Err(StorageError::Conflict(_)) => {
            tracing::warn!(run = %id, "a run moved on while it was being recovered");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives the run up for good.
fn poison(
    envelope: &Envelope<'_>,
    job: &mut AiJob,
    run: &mut WorkflowRun,
    reason: String,
    events: &mut Vec<AdmittedEvent>,
) -> Result<(), EngineError> {
    run.state = run.state.after(RunEvent::Fail)?;
    run.error = Some(reason.clone());
    job.error_message = Some(reason.clone());
    events.push(envelope.moves(job, JobEvent::Poison, reason.clone(), &Actor::system())?);
    let body = EventBody::SecurityViolation { kind: "too_many_recoveries".to_owned(), detail: reason };
    events.push(envelope.admit(Actor::system(), body)?);
    events.push(envelope.job_span_end(job, "poisoned")?);
    Ok(())
}

fn steps(nodes: &[NodeExecution]) -> String {
    match nodes {
        [] => "none".to_owned(),
        [node] => format!("`{}`", node.node),
        [node, rest @ ..] => format!("`{}` and {} more", node.node, rest.len()),
    }
}

/// Why a person has to decide whether interrupted attempts run again; none if they may.
fn doubt(
    services: &EngineServices,
    run: &WorkflowRun,
    interrupted: &[NodeExecution],
    effects: &[EffectNote],
) -> Option<String> {
    let workflow: Option<Workflow> = serde_json::from_value(run.workflow.clone()).ok();
    let doubts: Vec<_> = interrupted
        .iter()
        .filter_map(|node| {
            let step =
                workflow.as_ref().and_then(|workflow| workflow.steps.iter().find(|step| step.id == node.node.step));
            let recovery = step.and_then(|step| step.recovery).or(workflow.as_ref().and_then(|flow| flow.recovery));
            match recovery.unwrap_or_default() {
                Recovery::Always => None,
                Recovery::Manual => Some(format!("step `{}` was running, and `recovery` is manual", node.node)),
                Recovery::Auto => {
                    let had = effects_of(node, effects);
                    let repeatable = || {
                        step.is_some_and(|step| {
                            step.idempotent
                                && step.plugin().is_some_and(|uses| {
                                    services.executor.find(uses).is_ok_and(|plugin| plugin.manifest.idempotent)
                                })
                        })
                    };
                    // The plugin is looked for last: that reads its files.
                    (!had.is_empty() && !repeatable()).then(|| format!("step `{}` may have done {had}", node.node))
                }
            }
        })
        .collect();
    let first = doubts.first()?;
    let more = doubts.len() - 1;
    let others = if more == 0 { String::new() } else { format!(", and {more} more steps are in doubt") };
    let job = run.job_id;
    Some(format!(
        "{first}{others}. Look what became of it; then `handshake jobs resume {job}` runs it again, and \
         `handshake jobs cancel {job}` gives it up"
    ))
}

/// What an attempt was permitted to do that outlasts it, each in words.
pub(crate) fn lasting_effects(node: &NodeExecution, effects: &[EffectNote]) -> Vec<String> {
    let own = |effect: &&EffectNote| {
        (&effect.step, effect.index, effect.attempt) == (&node.node.step, node.node.index, node.attempt)
    };
    // What this version does not know may last.
    let lasts = |effect: &&EffectNote| {
        effect.capability.parse::<CapabilityId>().map_or(true, |capability| capability.axis().is_lasting())
    };
    let own = effects.iter().filter(own).filter(lasts);
    own.map(|effect| format!("{} {}", effect.capability, effect.resource)).collect()
}

/// The same on one line; empty if nothing.
fn effects_of(node: &NodeExecution, effects: &[EffectNote]) -> String {
    let own = lasting_effects(node, effects);
    let mut words = own.iter().take(NAMED_EFFECTS).cloned().collect::<Vec<_>>().join(", ");
    if own.len() > NAMED_EFFECTS {
        words.push_str(&format!(" and {} more", own.len() - NAMED_EFFECTS));
    }
    words
}
