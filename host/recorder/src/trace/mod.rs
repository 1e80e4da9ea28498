//! A trace as a tree: a job, its runs, their steps, and in each what was asked, decided, and done.

mod builder;

use handshake_core::{EventId, Timestamp, TraceId};
use serde::{Deserialize, Serialize};

pub(crate) use builder::TraceBuilder;

/// The most events that a tree is made of; what comes after them is left out, and the tree says so.
pub(crate) const LARGEST_TRACE: u64 = 20_000;

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceNodeKind {
    /// A job.
    Job,
    /// A run of the job above.
    Run,
    /// One attempt of a step of the run above.
    Step,
    /// One decision, and what became of the call.
    Decision,
    /// One call of a model, by the decision that allowed it.
    ModelCall,
    /// Any other event.
    Event,
}

/// One thing that happened, and what happened within it, in the order in which it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TraceNode {
    /// What it stands for.
    pub kind: TraceNodeKind,
    /// Its name: of the workflow or step, capability and resource, the model, or the type of the event.
    pub name: String,
    /// The event that began it.
    pub event_id: EventId,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, microseconds; none while it lasts, and for what takes no time.
    pub duration_us: Option<u64>,
    /// How it ended: `ok`, `allow`, `deny: not-granted`, a state, an error label; none while it lasts.
    pub result: Option<String>,
    /// More for a person: tokens, the deciding rule, a reason.
    pub detail: Option<String>,
    /// What happened within it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TraceNode>,
}

/// A trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TraceTree {
    /// Its id.
    pub trace_id: TraceId,
    /// Events that it is made of.
    pub events: u64,
    /// Whether there are more events than are shown, which is 20,000.
    pub truncated: bool,
    /// Events that were recorded before this time are not kept any more; the beginning may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_before: Option<Timestamp>,
    /// The job, those that its steps started, and what belongs to none of them.
    pub nodes: Vec<TraceNode>,
}

#[cfg(test)]
mod tests;
