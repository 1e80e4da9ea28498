//! Workflows that steps run: jobs of their own, executed within the run that started them.
//!
//! A child belongs to its parent's run: the same node of the same run leads to the same job, whoever goes on with it.
//! It is cancelled, paused and resumed with its parent, and what it cost and proposes becomes its parent's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use handshake_core::event::Actor;
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::{Contribution, NodeError, NodeKey};
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::storage::Payloads;
use handshake_core::workflow::{Map, MountSpec};
use handshake_core::{Digest, Json, RunId, Timestamp};
use serde_json::Value;

use super::RunSummary;
use super::budget::Budget;
use super::prepared::compile;
use super::waiting::named;
use crate::control::Control;
use crate::engine::{EngineError, Inner};
use crate::submission::{InputValue, SubmitError, SubmittedJob, mount_paths, submit_child};

/// How often to look whether a host that is gone has lost its lease on the child.
const LOOK: Duration = Duration::from_secs(2);

/// A run that waits for people and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    pub(super) reason: String,
    /// When it goes on by itself.
    pub(super) wake_at: Timestamp,
}

/// What became of a child for now.
pub(super) enum Returned {
    Done {
        contribution: Contribution,
        outputs: Value,
    },
    Parked(Parked),
    Failed(NodeError),
    /// The child is poisoned.
    Violated(String),
}

/// Everything that is needed to run a child.
pub(super) struct Errand {
    pub(super) inner: Arc<Inner>,
    pub(super) workflow: String,
    pub(super) with: Json,
    pub(super) node: NodeKey,
    pub(super) parent: WorkflowRun,
    pub(super) job: AiJob,
    pub(super) by: Actor,
    pub(super) control: Control,
    /// Of the run whose step it is.
    pub(super) budget: Arc<Budget>,
}

impl Errand {
    /// Starts the child or goes on with it, and follows it to its end. Boxed: the future of a run contains those of its
    /// children, so its type must not.
    ///
    /// What the host fails at is no failure of the step: then the parent's run cannot go on here, either.
    pub(super) fn run(self) -> BoxFuture<'static, Result<Returned, EngineError>> {
        Box::pin(self.bring_back())
    }

    async fn bring_back(self) -> Result<Returned, EngineError> {
        let child = match self.submit().await {
            Ok(child) => child,
            Err(EngineError::Submit(error)) => {
                let error = NodeError { kind: "invalid-input".to_owned(), message: error.to_string() };
                return Ok(Returned::Failed(error));
            }
            Err(error) => return Err(error),
        };
        match self.follow(&child).await {
            Err(EngineError::NeedsPerson { reason, .. }) => {
                Ok(Returned::Parked(Parked { reason, wake_at: Timestamp::NEVER }))
            }
            answer => answer,
        }
    }

    async fn submit(&self) -> Result<SubmittedJob, EngineError> {
        let services = &self.inner.services;
        let plan = compile(&self.parent)?;
        let inputs = Arc::new(self.parent.inputs.clone());
        let problem = |problem: String| EngineError::Workflow { run: self.parent.run_id, problem };
        let paths = mount_paths(&plan, &inputs).map_err(|error| problem(error.to_string()))?;
        let mounts = fixed(&plan.workflow.mounts, paths);
        let workflow = plan.workflow.child(&self.workflow, mounts);
        let workflow = workflow.ok_or_else(|| problem(format!("workflow `{}` is not defined", self.workflow)))?;
        let Value::Object(with) = self.with.value() else {
            return Err(EngineError::Internal("the input of a workflow is not a map".into()));
        };
        let inputs: BTreeMap<_, _> = with.into_iter().map(|(name, value)| (name, InputValue::Json(value))).collect();
        let key = format!("child:{}", named(self.parent.run_id, &self.node, "child"));
        let submitted = submit_child(services, workflow, inputs, &self.parent, &self.job, &key).await;
        submitted.map_err(|error| match error {
            SubmitError::Storage(error) => error.into(),
            error => EngineError::Submit(Box::new(error)),
        })
    }

    /// Lets a run read the artifacts of another that are named in what it is given.
    async fn share(&self, from: RunId, to: RunId, given: &Value) -> Result<(), EngineError> {
        let mut named = BTreeSet::new();
        digests(given, &mut named);
        if !named.is_empty() {
            self.inner.services.database.share_artifacts(from, to, named.into_iter().collect()).await?;
        }
        Ok(())
    }

    async fn execute(&self, child: &SubmittedJob) -> Result<RunSummary, EngineError> {
        super::execute_within(&self.inner, child.run_id, (&self.by, &self.control), Some(&self.budget)).await
    }

    async fn follow(&self, child: &SubmittedJob) -> Result<Returned, EngineError> {
        let database = &self.inner.services.database;
        self.share(self.parent.run_id, child.run_id, &self.with.value()).await?;
        loop {
            let run = database.run(child.run_id).await?;
            match run.state {
                RunState::Completed | RunState::Failed | RunState::Cancelled => break,
                RunState::Queued | RunState::Waiting | RunState::Stalled => {
                    let summary = self.execute(child).await?;
                    if summary.run.state == RunState::Waiting {
                        let wake_at = summary.run.wake_at.unwrap_or(Timestamp::NEVER);
                        return Ok(Returned::Parked(Parked { reason: summary.job.status_reason, wake_at }));
                    }
                }
                // Whoever executed it lost this run with it, and will lose that one.
                RunState::Running => {
                    tokio::time::sleep(LOOK).await;
                    crate::recovery::expired(&self.inner.services).await?;
                }
            }
        }
        let job = database.job(child.job_id).await?;
        match job.state {
            JobState::Completed | JobState::CompletedWithIssues => {
                let nodes = database.nodes(child.run_id, Payloads::Read).await?;
                let proposals = nodes.into_iter().flat_map(|node| node.contribution.proposals).collect();
                let mut metrics = job.metrics;
                metrics.duration_ms = 0;
                let outputs = job.job_outputs.unwrap_or_default();
                self.share(child.run_id, self.parent.run_id, &outputs).await?;
                Ok(Returned::Done { contribution: Contribution { metrics, proposals }, outputs })
            }
            JobState::Poisoned => {
                let why = job.status_reason;
                Ok(Returned::Violated(format!("job {} of workflow `{}` is poisoned: {why}", job.job_id, self.workflow)))
            }
            state => {
                let why = job.error_message.unwrap_or(job.status_reason);
                let message = format!("job {} of workflow `{}` {state}: {why}", job.job_id, self.workflow);
                Ok(Returned::Failed(NodeError { kind: "workflow".to_owned(), message }))
            }
        }
    }
}

/// Whatever has the form of an artifact's id.
fn digests(value: &Value, found: &mut BTreeSet<Digest>) {
    match value {
        Value::String(text) => found.extend(text.parse::<Digest>().ok()),
        Value::Array(items) => items.iter().for_each(|item| digests(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| digests(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The mounts of a run, with the paths that they have in it.
fn fixed(mounts: &Map<MountSpec>, paths: Vec<(String, PathBuf)>) -> Map<MountSpec> {
    let fixed = paths.into_iter().filter_map(|(name, path)| {
        let access = mounts.get(&name)?.access;
        Some((name, MountSpec { path: path.to_str()?.replace("${", "$${"), access }))
    });
    fixed.collect()
}
