//! What an earlier process of this host left behind: its running runs are marked, so that nobody waits for them.

use handshake_core::RunId;
use handshake_core::event::{Actor, EventBody};
use handshake_core::job::JobEvent;
use handshake_core::node::NodeState;
use handshake_core::run::RunEvent;
use handshake_core::storage::{Payloads, RunChange, StorageError};

use crate::engine::{EngineError, EngineServices};
use crate::run::Envelope;

const REASON: &str = "the host's process ended while the run was executed";

/// Marks interrupted runs and their jobs as stalled and their running attempts as interrupted. One transaction and
/// one `workflow_recovery` event per run.
pub(crate) async fn recover(services: &EngineServices) -> Result<Vec<RunId>, EngineError> {
    let mut recovered = Vec::new();
    for mut run in services.database.interrupted().await? {
        let now = services.clock.now();
        let from_state = run.state;
        run.state = run.state.after(RunEvent::Stall)?;
        run.updated_at = now;
        let envelope = Envelope { services, job: run.job_id, run: run.run_id, trace: run.trace_id };
        let mut events = vec![envelope.admit(
            Actor::system(),
            EventBody::WorkflowRecovery {
                workflow_run_id: run.run_id,
                from_state,
                to_state: run.state,
                reason: REASON.to_owned(),
                last_heartbeat_ts: run.heartbeat_at,
                // The host's own earlier process counts as dead at once.
                threshold_secs: 0,
            },
        )?];
        let mut job = services.database.job(run.job_id).await?;
        // A job that has moved on by itself, for example because somebody cancelled it, stays where it is.
        let job = match job.state.after(JobEvent::Stall) {
            Ok(state) => {
                events.push(envelope.job_transition(Some(job.state), state, REASON, &Actor::system())?);
                job.state = state;
                job.status_reason = REASON.to_owned();
                job.updated_at = now;
                Some(job)
            }
            Err(_) => None,
        };
        let mut nodes = services.database.nodes(run.run_id, Payloads::Read).await?;
        nodes.retain(|node| node.state == NodeState::Running);
        for node in &mut nodes {
            node.state = NodeState::Interrupted;
            node.finished_at = Some(now);
        }
        let (id, fence) = (run.run_id, run.fence);
        match services.database.commit(id, fence, RunChange { job, run: Some(run), nodes, events }).await {
            Ok(()) => recovered.push(id),
            // Somebody claimed it in the meantime, so it is not left behind.
            Err(StorageError::Conflict(_)) => {
                tracing::warn!(run = %id, "a run was claimed while it was being recovered")
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(recovered)
}
