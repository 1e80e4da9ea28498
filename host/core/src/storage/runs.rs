//! The ports for runs: what their holder does with them, and how hosts share them.

use std::sync::Arc;

use async_trait::async_trait;

use super::StorageError;
use crate::artifact::ArtifactHandle;
use crate::event::AdmittedEvent;
use crate::job::AiJob;
use crate::node::{AttemptLog, NodeExecution};
use crate::recorder::EffectNote;
use crate::run::{FencingToken, RunState, WorkflowRun};
use crate::{Digest, HostId, JobId, RunId, StepId};

/// A host's right to execute a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The run, as it is now.
    pub run: WorkflowRun,
    /// Its job.
    pub job: AiJob,
    /// What every later write must show.
    pub fence: FencingToken,
}

/// Everything that changes together when a run moves on: one transaction.
#[derive(Debug, Clone, Default)]
pub struct RunChange {
    /// The job's new form.
    pub job: Option<AiJob>,
    /// The run's new form; its `fence` and `host` are not written.
    pub run: Option<WorkflowRun>,
    /// Attempts, new or changed.
    pub nodes: Vec<NodeExecution>,
    /// Events of it all.
    pub events: Vec<AdmittedEvent>,
}

/// Whether the inputs and outputs of attempts are read with them: those of a large run do not fit into memory twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// They are read.
    Read,
    /// They are left out: every input is null and no attempt has an output.
    LeftOut,
}

/// Which logs of a run to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of this step alone.
    pub step: Option<StepId>,
    /// How many of those attempts that logged anything are passed over: as many as were read before.
    pub skip: u32,
}

/// Some of a run's logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    /// In the order in which the attempts ended.
    pub attempts: Vec<AttemptLog>,
    /// How many to pass over to read on; none when these were the last.
    pub next: Option<u32>,
}

/// Runs and their nodes.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// One run.
    async fn run(&self, id: RunId) -> Result<WorkflowRun, StorageError>;
    /// All runs of a job, oldest first.
    async fn runs_of(&self, job: JobId) -> Result<Vec<WorkflowRun>, StorageError>;
    /// Claims a run for this host: it and its job become running. Raises the fencing token.
    async fn claim(&self, id: RunId, change: RunChange) -> Result<Claim, StorageError>;
    /// Writes a change; `Conflict` when the token is outdated, or the run itself is to change and is not running any
    /// more, and then nothing is written.
    async fn commit(&self, id: RunId, fence: FencingToken, change: RunChange) -> Result<(), StorageError>;
    /// Writes a change of a run that nobody executes; `Conflict` when its state is not `from`, or is running.
    async fn amend(&self, id: RunId, from: RunState, change: RunChange) -> Result<(), StorageError>;
    /// Lets a run read artifacts that another lists; those of `artifacts` that it does not list stay unknown.
    async fn share_artifacts(&self, from: RunId, to: RunId, artifacts: Vec<Digest>) -> Result<(), StorageError>;
    /// The artifacts that a run lists, in the order in which it came to have them.
    async fn artifacts(&self, run: RunId) -> Result<Vec<ArtifactHandle>, StorageError>;
    /// Renews the run's sign of life; `Conflict` when the token is outdated.
    async fn heartbeat(&self, id: RunId, fence: FencingToken) -> Result<(), StorageError>;
    /// Every attempt of every node of a run, by step, index and attempt.
    async fn nodes(&self, run: RunId, payloads: Payloads) -> Result<Vec<NodeExecution>, StorageError>;
    /// What a run's ended attempts logged; about a megabyte at a time, and of one attempt at least.
    async fn logs(&self, run: RunId, query: LogQuery) -> Result<Logs, StorageError>;
    /// The hosts that began attempts of a run: on whose records it is what those asked for.
    async fn hosts(&self, run: RunId) -> Result<Vec<HostId>, StorageError>;
    /// Effects that a run's attempts were permitted, in order.
    async fn effects(&self, run: RunId) -> Result<Vec<EffectNote>, StorageError>;
    /// Runs that are running by the books of this host, although it has just started.
    async fn interrupted(&self) -> Result<Vec<WorkflowRun>, StorageError>;
}

/// Words what claiming a run changes. It is asked inside the transaction that claims, perhaps more than once.
pub trait OnClaim: Send + Sync {
    /// The job's new form and the events, for a run and its job as they are now.
    fn change(&self, run: &WorkflowRun, job: &AiJob) -> Result<RunChange, StorageError>;
}

/// Tells when there may be something to claim.
#[async_trait]
pub trait Arrivals: Send {
    /// Returns when runs have been queued, by whichever host, since the last call. It may miss some while the
    /// database cannot be reached; so hosts look themselves now and then.
    async fn next(&mut self);
}

/// Runs that wait for any host, and runs whose host is gone.
#[async_trait]
pub trait WorkQueue: Send + Sync {
    /// Claims the oldest queued runs, at most `limit`, as [`RunStore::claim`] does one, and passes over those that
    /// another host is claiming at the same moment. Fewer than `limit` means that there are no more.
    async fn claim_queued(&self, limit: u32, on_claim: Arc<dyn OnClaim>) -> Result<Vec<Claim>, StorageError>;
    /// Running runs, of whichever host, whose lease has expired; the longest expired first, at most `limit`.
    async fn expired(&self, limit: u32) -> Result<Vec<WorkflowRun>, StorageError>;
    /// Runs that wait, and whose time to go on by themselves has come; the longest due first, at most `limit`.
    async fn due(&self, limit: u32) -> Result<Vec<WorkflowRun>, StorageError>;
    /// Takes a run away from a host whose lease on it has expired, and writes the change; that host's later writes
    /// are refused. `Conflict` when the lease was renewed, or the run has got another token.
    async fn take_away(&self, id: RunId, fence: FencingToken, change: RunChange) -> Result<(), StorageError>;
    /// Starts listening for queued runs.
    fn arrivals(&self) -> Box<dyn Arrivals>;
}
