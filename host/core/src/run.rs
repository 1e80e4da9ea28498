//! A run: one execution of a job's workflow by one host at a time.

use serde::{Deserialize, Serialize};

use crate::job::canonical_enum;
use crate::{Digest, HostId, JobId, RunId, Timestamp, TraceId};

canonical_enum! {
    /// Where a run stands (R2.2).
    RunState, "run state" {
        /// Waits for a host.
        Queued = "queued",
        /// A host with a lease executes it.
        Running = "running",
        /// Waits for a person or a timer.
        Waiting = "waiting",
        /// Its host went away; only recovery leads here.
        Stalled = "stalled",
        /// Done.
        Completed = "completed",
        /// Failed.
        Failed = "failed",
        /// Cancelled.
        Cancelled = "cancelled",
    }
}

canonical_enum! {
    /// What can happen to a run.
    RunEvent, "run event" {
        /// A host claims it.
        Claim = "claim",
        /// It needs a person or a timer.
        Wait = "wait",
        /// Recovery found its host gone.
        Stall = "stall",
        /// Every step is done.
        Complete = "complete",
        /// A step failed for good.
        Fail = "fail",
        /// Somebody cancelled the job.
        Cancel = "cancel",
    }
}

/// A transition that the state machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a run that is `{state}` cannot `{event}`")]
pub struct IllegalRunTransition {
    /// Where the run stands.
    pub state: RunState,
    /// What was asked of it.
    pub event: RunEvent,
}

impl RunState {
    /// The state after an event: a total function.
    pub const fn after(self, event: RunEvent) -> Result<Self, IllegalRunTransition> {
        use RunEvent as E;
        use RunState as S;
        Ok(match (self, event) {
            (S::Queued | S::Waiting | S::Stalled, E::Claim) => S::Running,
            (S::Running, E::Wait) => S::Waiting,
            (S::Running, E::Stall) => S::Stalled,
            (S::Running, E::Complete) => S::Completed,
            (S::Queued | S::Running | S::Waiting | S::Stalled, E::Fail) => S::Failed,
            (S::Queued | S::Running | S::Waiting | S::Stalled, E::Cancel) => S::Cancelled,
            (state, event) => return Err(IllegalRunTransition { state, event }),
        })
    }

    /// Whether nothing more happens.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// The number that every write of a claimed run must show; a later claim makes it outdated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct FencingToken(pub i64);

/// One execution of a job's workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WorkflowRun {
    /// Its id.
    pub run_id: RunId,
    /// The job it belongs to.
    pub job_id: JobId,
    /// The job's trace.
    pub trace_id: TraceId,
    /// State.
    pub state: RunState,
    /// The workflow, as it was when the run was made, as JSON.
    pub workflow: serde_json::Value,
    /// Digests of everything the run is pinned to.
    pub pinned: PinnedDigests,
    /// Inputs after defaults.
    pub inputs: serde_json::Value,
    /// Folder that relative mount paths start from.
    pub base: std::path::PathBuf,
    /// The host that holds or last held it.
    pub host: Option<HostId>,
    /// The current fencing token.
    pub fence: FencingToken,
    /// How often recovery has found it interrupted.
    #[serde(default)]
    pub recoveries: u32,
    /// When it goes on by itself, while it waits for people; none when a person has to resume it.
    #[serde(default)]
    pub wake_at: Option<Timestamp>,
    /// Last sign of life of its host.
    pub heartbeat_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// Created.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// What a run must find unchanged when it resumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PinnedDigests {
    /// The workflow file.
    pub workflow: Digest,
    /// The policy.
    pub policy: Digest,
    /// The profile's text; none for a run of an earlier version, which did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Digest>,
    /// Plugin id and version → manifest and component.
    pub plugins: std::collections::BTreeMap<String, PinnedPlugin>,
}

/// One plugin's digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PinnedPlugin {
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// SHA-256 of its component.
    pub component: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns: claim wait stall complete fail cancel.
    const TABLE: [&str; 7] = ["r---fx", "-wscfx", "r---fx", "r---fx", "------", "------", "------"];

    #[test]
    fn every_pair_of_state_and_event_has_the_answer_of_the_table() {
        for (row, state) in TABLE.iter().zip(RunState::ALL) {
            for (cell, event) in row.chars().zip(RunEvent::ALL) {
                let expected = "qrwscfx".find(cell).map(|at| RunState::ALL[at]);
                assert_eq!(state.after(*event).ok(), expected, "{state} {event}");
            }
        }
    }
}
