//! The engine's front: what it is given, and what can be asked of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::approval::{Approval, ApprovalError};
use handshake_core::capability::{Grant, PolicyInForce, Profile};
use handshake_core::event::Actor;
use handshake_core::job::{AiJob, IllegalTransition, JobState};
use handshake_core::mount::MountResolver;
use handshake_core::recorder::{FlightRecorder, RecorderError};
use handshake_core::run::{IllegalRunTransition, RunState};
use handshake_core::step::{PluginError, StepExecutor};
use handshake_core::storage::{ContentStore, StorageError, Workflows};
use handshake_core::{Clock, GrantId, Ids, JobId, PluginId, RunId, StepId};
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::approvals::{Answer, Question, Voted};
use crate::control::Control;
use crate::recovery::Recovered;
use crate::run::RunSummary;
use crate::safeguards::Safeguards;
use crate::submission::{Submission, SubmitError, SubmittedJob};
use crate::updates::{RunUpdate, Updates};
use crate::workflow::{self, CheckedWorkflow, InvalidWorkflow, WorkflowSource};

/// How often a run shows that its host is alive.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Everything that the engine works through.
pub struct EngineServices {
    /// Jobs, runs, nodes.
    pub database: Arc<dyn Workflows>,
    /// Documents, in the same database.
    pub content: Arc<dyn ContentStore>,
    /// Admits events.
    pub recorder: Arc<dyn FlightRecorder>,
    /// Runs steps.
    pub executor: Arc<dyn StepExecutor>,
    /// Resolves folders.
    pub mounts: Arc<dyn MountResolver>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and seeds.
    pub ids: Arc<dyn Ids>,
    /// The operator's policy, whichever is in force.
    pub policy: PolicyInForce,
    /// Profiles that jobs can name.
    pub profiles: Vec<Arc<Profile>>,
    /// How long a run is a host's without a sign of life.
    pub lease: Duration,
    /// Settings that the operator gave to plugins.
    pub settings: Arc<BTreeMap<PluginId, Arc<BTreeMap<String, Value>>>>,
    /// How many nodes of one run execute at the same time at most.
    pub max_parallel: usize,
    /// What the operator's configuration says of jobs before they begin.
    pub safeguards: Safeguards,
}

/// Runs workflows. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) services: EngineServices,
    pub(crate) updates: Updates,
    pub(crate) heartbeat: Duration,
    /// Counts answers to questions, for the runs that wait for them.
    pub(crate) decided: watch::Sender<u64>,
}

/// Why a run could not be driven. A run whose steps fail is not an error: its summary says so.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database did not do what was asked.
    #[error("the run could not be read or written")]
    Storage(#[from] StorageError),
    /// An event was refused.
    #[error("an event of the run could not be recorded")]
    Recorder(#[from] RecorderError),
    /// It is not waiting to be executed.
    #[error("run `{run}` is `{state}`; only a run that is queued, stalled or waiting can be executed")]
    NotWaiting {
        /// The run.
        run: RunId,
        /// Where it stands.
        state: RunState,
    },
    /// A person has to decide first.
    #[error("run `{run}` waits for a person: {reason}")]
    NeedsPerson {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// Another host has taken the run over. Nothing more was written.
    #[error("run `{run}` was taken over by another host; its steps here were stopped and nothing more was written")]
    LostLease {
        /// The run.
        run: RunId,
    },
    /// The stored workflow cannot be read any more.
    #[error("the workflow of run `{run}` cannot be read: {problem}")]
    Workflow {
        /// The run.
        run: RunId,
        /// What is wrong.
        problem: String,
    },
    /// The workflow has no such step.
    #[error("the workflow has no step `{step}`; it has {}", known.join(", "))]
    UnknownStep {
        /// As it was asked for.
        step: StepId,
        /// Those that it has.
        known: Vec<String>,
    },
    /// What a step runs cannot be run.
    #[error(transparent)]
    Submit(Box<SubmitError>),
    /// A question cannot be answered like that.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// Nobody is asked anything.
    #[error("job `{job}` is `{state}` and has no such question{}", listed(asks))]
    NoQuestion {
        /// The job.
        job: JobId,
        /// Where it stands.
        state: JobState,
        /// The steps that ask something.
        asks: Vec<String>,
    },
    /// Several steps ask something.
    #[error("job `{job}` has {} questions{}; say which with `--step`", asks.len(), listed(asks))]
    WhichQuestion {
        /// The job.
        job: JobId,
        /// The steps that ask something.
        asks: Vec<String>,
    },
    /// It belongs to a job that started it.
    #[error("job `{job}` is part of job `{parent}`; say it to that one")]
    Part {
        /// The job.
        job: JobId,
        /// The one that started it all.
        parent: JobId,
    },
    /// A host that is not this one executes it.
    #[error("run `{run}` is executed by another host; cancel it there")]
    Elsewhere {
        /// The run.
        run: RunId,
    },
    /// There is nothing to decide about.
    #[error("job `{job}` is `{state}` and has no proposals that wait for a person")]
    NoProposals {
        /// The job.
        job: JobId,
        /// Where it stands.
        state: JobState,
    },
    /// Only people decide about proposals.
    #[error("a person decides about the proposals of job `{job}`")]
    NotAPerson {
        /// The job.
        job: JobId,
    },
    /// What was acceptable when it was proposed is not any more. The job waits as before.
    #[error("the proposals of job `{job}` cannot be applied: {why}")]
    ProposalsRefused {
        /// The job.
        job: JobId,
        /// Why.
        why: String,
    },
    /// It is over with the job for good.
    #[error(
        "job `{job}` is `poisoned` and does nothing more: {reason}; submit its workflow again once that is cleared up"
    )]
    Poisoned {
        /// The job.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// A plugin cannot be used.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A job's state does not allow it.
    #[error(transparent)]
    Job(#[from] IllegalTransition),
    /// A run's state does not allow it.
    #[error(transparent)]
    Run(#[from] IllegalRunTransition),
    /// The engine contradicts itself.
    #[error("internal error of the engine: {0}")]
    Internal(String),
}

fn listed(asks: &[String]) -> String {
    if asks.is_empty() { String::new() } else { format!(": {}", asks.join(", ")) }
}

impl Engine {
    /// An engine on these services.
    pub fn new(services: EngineServices) -> Self {
        Self::with_heartbeat(services, HEARTBEAT)
    }

    pub(crate) fn with_heartbeat(services: EngineServices, heartbeat: Duration) -> Self {
        let updates = Updates::new(Arc::clone(&services.clock));
        Self { inner: Arc::new(Inner { services, updates, heartbeat, decided: watch::Sender::new(0) }) }
    }

    /// Checks a workflow: its file, graph and expressions, its plugins, capabilities and profile. Stores nothing.
    pub fn check(&self, source: &WorkflowSource) -> Result<CheckedWorkflow, InvalidWorkflow> {
        let (parsed, checked) = workflow::check(source, &self.inner.services.surroundings())?;
        Ok(checked.describe(&parsed))
    }

    /// Checks a workflow with its inputs, folders and plugins, and stores a queued job with its first run.
    pub async fn submit(&self, submission: Submission) -> Result<SubmittedJob, SubmitError> {
        crate::submission::submit(&self.inner.services, submission).await
    }

    /// Checks like [`Self::submit`], stores the job with its run claimed by this host, and drives the run to its end:
    /// one transaction less than submitting and executing. `begun` is told what became of the submission, once it is
    /// stored or refused. None when there was nothing to drive: a refused one, or one whose key was used before.
    pub async fn run(
        &self,
        submission: Submission,
        control: &Control,
        begun: impl FnOnce(Result<SubmittedJob, EngineError>) + Send,
    ) -> Result<Option<RunSummary>, EngineError> {
        crate::run::run(&self.inner, submission, control, begun).await
    }

    /// Claims a run that is queued or was interrupted, and drives it to its end. When the token fires, running steps
    /// are stopped and the run and its job become cancelled.
    pub async fn execute(&self, run: RunId, cancel: CancellationToken) -> Result<RunSummary, EngineError> {
        crate::run::execute(&self.inner, run, &Actor::system(), &Control::new(cancel)).await
    }

    /// Likewise, at the word of somebody who may decide about a run that waits for a person.
    pub async fn resume(&self, run: RunId, by: &Actor, control: &Control) -> Result<RunSummary, EngineError> {
        crate::run::execute(&self.inner, run, by, control).await
    }

    /// Marks the runs that an earlier process of this host left running, and those of hosts that are gone. To be
    /// called before anything is executed. Returns them.
    pub async fn recover(&self) -> Result<Vec<Recovered>, EngineError> {
        crate::recovery::recover(&self.inner.services).await
    }

    /// Runs that were interrupted and may go on by themselves, with their jobs.
    pub async fn resumable(&self) -> Result<Vec<(RunId, JobId)>, EngineError> {
        crate::recovery::resumable(&self.inner.services).await
    }

    /// Runs of whichever host that may go on now: those whose host let its lease expire, and those that have waited
    /// long enough. To be called now and then by whoever executes runs.
    pub async fn look(&self) -> Result<Vec<(RunId, JobId)>, EngineError> {
        let services = &self.inner.services;
        for found in crate::recovery::expired(services).await? {
            tracing::warn!(job = %found.job_id, state = %found.state, "{}", found.reason);
        }
        crate::recovery::resumable(services).await
    }

    /// What a job and those that it started ask people, oldest first.
    pub async fn questions(&self, job: JobId) -> Result<Vec<Approval>, EngineError> {
        crate::approvals::questions(&self.inner.services, job).await
    }

    /// Answers a question of a job, or of one that it started; `which` may be left out when there is only one. The
    /// run that can go on is the caller's to execute.
    pub async fn vote(
        &self,
        job: JobId,
        which: Option<&Question>,
        answer: Answer,
        by: &Actor,
    ) -> Result<Voted, EngineError> {
        crate::approvals::vote(&self.inner, job, which, answer, by).await
    }

    /// Puts in force what people have granted on other hosts, or before this one began.
    pub async fn refresh_grants(&self) -> Result<(), EngineError> {
        crate::grants::refresh(&self.inner.services).await
    }

    /// Takes a grant back: when this returns, no call is let through any more that only this grant allowed.
    pub async fn revoke(&self, grant: GrantId, reason: Option<String>, by: &Actor) -> Result<Grant, EngineError> {
        crate::grants::revoke(&self.inner.services, grant, reason, by).await
    }

    /// Refuses a job that another one has started: it is paused, resumed, cancelled and tried again with that one.
    pub async fn require_whole(&self, job: &AiJob) -> Result<(), EngineError> {
        crate::control::require_whole(&self.inner.services, job).await
    }

    /// Refuses what is asked of a job that was poisoned, with why it was.
    pub fn require_sound(&self, job: &AiJob) -> Result<(), EngineError> {
        crate::control::require_sound(job)
    }

    /// Cancels a job whose run no host executes.
    pub async fn cancel(&self, job: JobId, by: &Actor) -> Result<AiJob, EngineError> {
        crate::control::cancel(&self.inner.services, job, by).await
    }

    /// Queues another run of a job that has ended without success. What was completed before is not run again, but
    /// for `from` and the steps that depend on it.
    pub async fn retry(&self, job: JobId, from: Option<&StepId>, by: &Actor) -> Result<SubmittedJob, EngineError> {
        crate::control::retry(&self.inner.services, job, from, by).await
    }

    /// Pins a job with all that it started, which keeps the janitor from them, or lets go of them.
    pub async fn pin(&self, job: JobId, pinned: bool, by: &Actor) -> Result<AiJob, EngineError> {
        crate::pins::pin(&self.inner.services, job, pinned, by).await
    }

    /// Accepts what a job proposes that waits for a person with it: validates it once more and applies it, in the
    /// transaction that makes the job done. `ProposalsRefused` when a document changed meanwhile; the job waits then as
    /// before.
    pub async fn accept(&self, job: JobId, by: &Actor, reason: Option<String>) -> Result<AiJob, EngineError> {
        crate::proposals::accept(&self.inner.services, job, by, reason).await
    }

    /// Declines it. Nothing is applied, and the job is done, with issues.
    pub async fn decline(&self, job: JobId, by: &Actor, reason: Option<String>) -> Result<AiJob, EngineError> {
        crate::proposals::decline(&self.inner.services, job, by, reason).await
    }

    /// Whether a job waits for a person to accept or decline what it proposes.
    pub async fn awaits_acceptance(&self, job: &AiJob) -> Result<bool, EngineError> {
        crate::proposals::is_waiting(&self.inner.services, job).await
    }

    /// What a job proposes, with a diff of what would change; none if it proposes nothing.
    pub async fn proposals(&self, job: &AiJob) -> Result<Option<crate::Proposals>, EngineError> {
        crate::proposals::view(&self.inner.services, job).await
    }

    /// News of all runs of this engine, from now on.
    pub fn watch(&self) -> broadcast::Receiver<RunUpdate> {
        self.inner.updates.watch()
    }
}
