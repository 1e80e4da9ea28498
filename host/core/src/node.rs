//! A node: one step, or one item of a `for_each` step, within a run, with its attempts.

use serde::{Deserialize, Serialize};

use crate::document::Proposal;
use crate::job::{JobMetrics, canonical_enum};
use crate::step::LogLevel;
use crate::{Digest, Json, PluginId, RunId, StepId, Timestamp};

canonical_enum! {
    /// Where one attempt of a node stands.
    NodeState, "node state" {
        /// Is executed.
        Running = "running",
        /// Waits for people, for a moment, or for the workflow that it runs. A lost host changes nothing about that.
        Waiting = "waiting",
        /// Done.
        Completed = "completed",
        /// Its `when` was false, or a step that it needs was skipped.
        Skipped = "skipped",
        /// Failed; another attempt may follow.
        Failed = "failed",
        /// Its host went away while it ran.
        Interrupted = "interrupted",
        /// Cancelled.
        Cancelled = "cancelled",
    }
}

/// Which node of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeKey {
    /// The step.
    pub step: StepId,
    /// Position within `for_each`.
    pub index: Option<u32>,
}

impl std::fmt::Display for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.step),
            None => self.step.fmt(f),
        }
    }
}

/// One attempt of one node, with its payloads, exact (R2.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeExecution {
    /// The run.
    pub run_id: RunId,
    /// The node.
    pub node: NodeKey,
    /// Attempt, from 1.
    pub attempt: u32,
    /// State.
    pub state: NodeState,
    /// Who executed it; none for a skipped or built-in step.
    pub plugin: Option<PluginId>,
    /// SHA-256 of the component.
    pub component_sha256: Option<Digest>,
    /// Input.
    pub input: Json,
    /// Output, once completed.
    pub output: Option<Json>,
    /// What it adds to its job.
    #[serde(default, skip_serializing_if = "Contribution::is_empty")]
    pub contribution: Contribution,
    /// Why it failed.
    pub error: Option<NodeError>,
    /// What it logged, stored when it ends. Only [`RunStore::logs`](crate::storage::RunStore::logs) reads it.
    #[serde(skip)]
    pub log: Vec<LogLine>,
    /// Seed of the guest's randomness, so that the attempt can be replayed; 64 hexadecimal digits.
    pub random_seed: String,
    /// Started. The guest's wall clock begins here.
    pub started_at: Timestamp,
    /// Ended.
    pub finished_at: Option<Timestamp>,
}

/// A line that a step logged: bounded, control characters escaped, secrets redacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// How important the step says it is.
    pub level: LogLevel,
    /// What it says.
    pub line: String,
}

/// What one attempt logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptLog {
    /// The node.
    pub node: NodeKey,
    /// Attempt, from 1.
    pub attempt: u32,
    /// In the order in which it said them.
    pub lines: Vec<LogLine>,
}

/// What an attempt adds to its job: stored with it, so that a run that goes on elsewhere has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Contribution {
    /// What it cost.
    pub metrics: JobMetrics,
    /// What it proposes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proposals: Vec<Proposal>,
}

impl Contribution {
    /// Whether there is nothing to it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeError {
    /// Stable label, for example `timeout`.
    pub kind: String,
    /// For a person.
    pub message: String,
}
