//! What has been done of a run before: by a process that was lost, or by earlier runs of its job.

use std::collections::BTreeMap;
use std::time::Duration;

use handshake_core::node::{Contribution, NodeError, NodeExecution, NodeKey, NodeState};
use handshake_core::step::StepFailure;
use handshake_core::{Json, Timestamp};

/// A node that has been attempted.
pub(super) struct Past {
    /// The latest attempt.
    pub(super) attempt: u32,
    /// How many attempts failed; those that were interrupted do not count as tries.
    pub(super) failures: u32,
    /// How the latest one ended.
    pub(super) state: NodeState,
    pub(super) output: Json,
    pub(super) contribution: Contribution,
    pub(super) error: Option<NodeError>,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    /// The row of an attempt that waits for a person to grant it something.
    pub(super) asks: Option<Box<NodeExecution>>,
}

impl Past {
    /// Whether the way in which the latest attempt failed allows another.
    pub(super) fn is_retryable(&self) -> bool {
        self.error.as_ref().is_some_and(|error| StepFailure::RETRYABLE.contains(&error.kind.as_str()))
    }
}

/// The nodes of a run that have been attempted.
#[derive(Default)]
pub(super) struct History {
    nodes: BTreeMap<NodeKey, Past>,
    /// The rows of those that wait, until somebody goes on with them.
    waiting: BTreeMap<NodeKey, NodeExecution>,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl History {
    /// From all attempts, each node's in order.
    pub(super) fn of(attempts: Vec<NodeExecution>) -> Self {
        let mut history = Self::default();
        for row in attempts {
            history.began = Some(history.began.map_or(row.started_at, |began| began.min(row.started_at)));
            history.ended = history.ended.max(row.finished_at).max(Some(row.started_at));
            if row.state == NodeState::Waiting {
                history.waiting.insert(row.node.clone(), row.clone());
            }
            let asks = (row.state == NodeState::Interrupted
                && row.error.as_ref().is_some_and(|error| error.kind == StepFailure::NEEDS_APPROVAL))
            .then(|| Box::new(row.clone()));
            let failures = history.nodes.get(&row.node).map_or(0, |past| past.failures);
            let past = Past {
                attempt: row.attempt,
                failures: failures + u32::from(row.state == NodeState::Failed),
                state: row.state,
                output: row.output.unwrap_or_default(),
                contribution: row.contribution,
                asks,
                error: row.error,
                started_at: row.started_at,
                finished_at: row.finished_at,
            };
            history.nodes.insert(row.node, past);
        }
        history
    }

    /// Whether an attempt of it waits for a person to grant something.
    pub(super) fn has_asked(&self) -> bool {
        self.nodes.values().any(|past| past.asks.is_some())
    }

    /// What was done of a node; told once.
    pub(super) fn take(&mut self, node: &NodeKey) -> Option<Past> {
        self.waiting.remove(node);
        self.nodes.remove(node)
    }

    /// The rows that wait and that nobody has gone on with.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = NodeExecution> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }

    /// From the beginning of its first attempt to the last thing that is known.
    pub(super) fn lasted(&self) -> Duration {
        self.began.zip(self.ended).map_or(Duration::ZERO, |(began, ended)| ended.since(began))
    }
}
