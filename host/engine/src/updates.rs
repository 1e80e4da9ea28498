//! What happens in runs, as it happens, for whoever watches. Updates are news, not records: a watcher that falls
//! behind loses some, and the flight recorder has what matters.

use handshake_core::job::JobState;
use handshake_core::node::{LogLine, NodeError, NodeKey, NodeState};
use handshake_core::step::{LogLevel, StepObserver, Usage};
use handshake_core::{Clock, JobId, RunId, StepId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::broadcast;

/// How many updates a slow watcher may be behind before it loses the oldest.
const BACKLOG: usize = 4_096;

/// One piece of news of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunUpdate {
    /// The run.
    pub run_id: RunId,
    /// Its job.
    pub job_id: JobId,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: RunUpdateKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "update", rename_all = "snake_case")]
pub enum RunUpdateKind {
    /// A host claimed the run.
    RunStarted {
        /// Its steps in an order in which each comes after those it needs.
        steps: Vec<StepId>,
    },
    /// A step's expressions were evaluated and it is about to run.
    StepPlanned {
        /// The step.
        step: StepId,
        /// How many items it has; none when it runs once.
        items: Option<u32>,
    },
    /// An attempt began.
    NodeStarted {
        /// The node.
        node: NodeKey,
        /// Attempt, from 1.
        attempt: u32,
    },
    /// A node waits for people, for a moment, or for a workflow.
    NodeWaits {
        /// The node.
        node: NodeKey,
        /// What for, in words; empty for a moment.
        on: String,
        /// How long at most.
        until: Option<Timestamp>,
    },
    /// The step reports how far it is.
    NodeProgress {
        /// The node.
        node: NodeKey,
        /// Done, in the step's own units.
        done: u64,
        /// Of so many.
        total: Option<u64>,
        /// From the plugin.
        message: String,
    },
    /// The step logged a line.
    NodeLog {
        /// The node.
        node: NodeKey,
        /// Level.
        level: LogLevel,
        /// From the plugin.
        line: String,
    },
    /// An attempt ended.
    NodeFinished {
        /// The node.
        node: NodeKey,
        /// Attempt, from 1.
        attempt: u32,
        /// How.
        result: NodeState,
        /// Why it failed.
        error: Option<NodeError>,
        /// Whether another attempt follows.
        will_retry: bool,
    },
    /// The run ended.
    RunFinished {
        /// The job's final state.
        state: JobState,
        /// Why it failed.
        error: Option<String>,
        /// Outputs, if it succeeded.
        outputs: Option<Value>,
    },
}

/// Sends news to all watchers; without any, it costs next to nothing.
#[derive(Clone)]
pub(crate) struct Updates {
    sender: broadcast::Sender<RunUpdate>,
    clock: Arc<dyn Clock>,
}

impl Updates {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, clock }
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<RunUpdate> {
        self.sender.subscribe()
    }

    pub(crate) fn publish(&self, run_id: RunId, job_id: JobId, kind: RunUpdateKind) {
        // The only error is that nobody watches.
        let _ = self.sender.send(RunUpdate { run_id, job_id, at: self.clock.now(), kind });
    }
}

/// Passes on what one attempt logs and reports.
pub(crate) struct NodeObserver {
    pub(crate) updates: Updates,
    pub(crate) run: RunId,
    pub(crate) job: JobId,
    pub(crate) node: NodeKey,
    pub(crate) said: Arc<Said>,
}

/// What an attempt leaves behind besides its result.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Filled once it has ended.
    used: OnceLock<Usage>,
    log: Mutex<Vec<LogLine>>,
}

impl Said {
    pub(crate) fn used(&self) -> Option<Usage> {
        self.used.get().copied()
    }

    /// Gives away what it has logged.
    pub(crate) fn log(&self) -> Vec<LogLine> {
        std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StepObserver for NodeObserver {
    fn log(&self, level: LogLevel, line: &str) {
        let at = self.updates.clock.now();
        let mut log = self.said.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(LogLine { at, level, line: line.to_owned() });
        drop(log);
        let kind = RunUpdateKind::NodeLog { node: self.node.clone(), level, line: line.to_owned() };
        self.updates.publish(self.run, self.job, kind);
    }

    fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        let kind = RunUpdateKind::NodeProgress { node: self.node.clone(), done, total, message: message.to_owned() };
        self.updates.publish(self.run, self.job, kind);
    }

    fn used(&self, usage: Usage) {
        // An attempt ends once.
        let _ = self.said.used.set(usage);
    }
}
