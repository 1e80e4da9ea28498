//! From a workflow and its inputs to a queued job: everything that can be refused is refused here.

mod docs;
mod inputs;
mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handshake_core::event::{Actor, AdmittedEvent};
use handshake_core::job::{AiJob, EntityRef, JobKind, JobMetrics, JobState};
use handshake_core::mount::{Mount, MountError, MountResolver};
use handshake_core::recorder::RecorderError;
use handshake_core::run::{FencingToken, PinnedDigests, PinnedPlugin, RunState, WorkflowRun};
use handshake_core::step::{Plugin, PluginError};
use handshake_core::storage::{StorageError, Submitted};
use handshake_core::workflow::Workflow;
use handshake_core::{Digest, JobId, ProfileId, RunId, TraceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use docs::check_kind;
pub use inputs::{InputError, InputValue};
pub use secrets::SecretInputs;

use crate::control::latest_run;
use crate::engine::EngineServices;
use crate::run::Envelope;
use crate::workflow::{self, Frame, InvalidWorkflow, ParsedWorkflow, Plan, Problem, WorkflowSource};

/// Profile of behaviour of jobs that workflows make; the only one that there is.
const PROFILE: &str = "default";

/// A workflow to run.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The workflow.
    pub source: WorkflowSource,
    /// Inputs by name.
    pub inputs: BTreeMap<String, InputValue>,
    /// Folder that relative paths of mounts start from.
    pub base: PathBuf,
    /// A second submission with the same key returns the first one's job.
    pub idempotency_key: Option<String>,
    /// Who submits.
    pub actor: Actor,
}

/// What a submission became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedJob {
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Whether an earlier submission with the same key made it.
    pub existing: bool,
    /// What a person should know about its inputs; never their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Why a submission was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The workflow is not right.
    #[error(transparent)]
    Workflow(#[from] InvalidWorkflow),
    /// An input is not right.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Inputs look like secrets, and the job's safety mode is strict.
    #[error(transparent)]
    Secrets(#[from] SecretInputs),
    /// A folder cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A plugin cannot be used.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// There is nothing that could execute such jobs.
    #[error("this version has no executor for jobs of kind `{kind}`")]
    UnsupportedKind {
        /// The kind.
        kind: JobKind,
    },
    /// The job could not be stored.
    #[error("the job could not be stored")]
    Storage(#[from] StorageError),
    /// An event was refused.
    #[error("an event of the job could not be recorded")]
    Recorder(#[from] RecorderError),
}

impl SubmitError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Workflow(error) => {
                error.problems().iter().map(|problem| problem.hint()).collect::<Vec<_>>().join("\n")
            }
            Self::Input(error) => error.hint().to_owned(),
            Self::Secrets(error) => error.hint(),
            Self::Mount(MountError::Unavailable { .. } | MountError::NotAFolder { .. }) => {
                "create the folder, or correct the path in the workflow file or its inputs".into()
            }
            Self::Mount(MountError::Trusted { .. }) => "mount a folder of its own for what steps write".to_owned(),
            Self::Mount(MountError::DataDirectory { .. }) => {
                "mount a folder that has nothing to do with the data directory".into()
            }
            Self::Mount(MountError::NotListed { path, access, .. }) => {
                format!(
                    "the operator can list it in policy.toml: [[mount]] path = \"{}\", access = \"{access}\"",
                    path.display()
                )
            }
            Self::Plugin(error) => workflow::plugin_remedy(error),
            Self::UnsupportedKind { .. } => docs::executable_kinds(),
            Self::Storage(_) | Self::Recorder(_) => {
                "`handshake doctor` looks for what is wrong with the data directory".into()
            }
        }
    }
}

/// What is submitted, when everything about it is right.
pub(crate) struct Accepted {
    parsed: ParsedWorkflow,
    pub(crate) inputs: Arc<Value>,
    pinned: PinnedDigests,
    entities: Vec<EntityRef>,
    warnings: Vec<String>,
}

/// Refuses everything that can be refused, and stores nothing.
pub(crate) async fn accept(
    services: &EngineServices,
    source: &WorkflowSource,
    mut inputs: BTreeMap<String, InputValue>,
    base: &Path,
) -> Result<Accepted, SubmitError> {
    let (parsed, checked) = workflow::check(source, &services.surroundings())?;
    let kind = parsed.workflow.job.kind;
    if !docs::is_executable(kind) {
        return Err(SubmitError::UnsupportedKind { kind });
    }
    docs::expand(kind, &mut inputs);
    let inputs = Arc::new(inputs::resolve(&parsed.workflow.inputs, inputs)?);
    let warnings = secrets::look(services, parsed.workflow.job.safety_mode, &inputs)?;
    let entities = docs::entities(services, kind, &inputs).await?;
    let paths = mount_paths(&parsed.plan, &inputs).map_err(|problem| parsed.locate(problem))?;
    let pinned = pin(services, &parsed, &checked.plugins);
    for plugin in &checked.plugins {
        services.executor.prepare(plugin).await?;
    }

    // Last, because resolving creates folders that are to be written.
    resolve_mounts(&*services.mounts, &parsed.plan, base, &paths)?;
    Ok(Accepted { parsed, inputs, pinned, entities, warnings })
}

/// A job that is not stored yet.
pub(crate) struct NewJob {
    pub(crate) job: AiJob,
    pub(crate) run: WorkflowRun,
    pub(crate) plan: Arc<Plan>,
    pub(crate) key: Option<String>,
    /// That it was submitted.
    pub(crate) events: Vec<AdmittedEvent>,
    pub(crate) warnings: Vec<String>,
}

/// Refuses everything that can be refused, and makes the job otherwise.
pub(crate) async fn new(services: &EngineServices, submission: Submission) -> Result<NewJob, SubmitError> {
    let accepted = accept(services, &submission.source, submission.inputs, &submission.base).await?;
    let Accepted { parsed, inputs, pinned, entities, warnings } = accepted;
    let origin = Origin {
        trace: TraceId::fresh(&*services.ids),
        base: submission.base,
        pinned,
        parent: None,
        entity_refs: entities,
    };
    let (job, run) = records(services, &parsed.workflow, inputs.as_ref().clone(), origin)?;
    let events = submitted(services, &job, &run, &submission.actor)?;
    Ok(NewJob { job, run, plan: parsed.plan, key: submission.idempotency_key, events, warnings })
}

pub(crate) async fn submit(services: &EngineServices, submission: Submission) -> Result<SubmittedJob, SubmitError> {
    let NewJob { job, run, key, events, warnings, .. } = new(services, submission).await?;
    let stored = store(services, job, run, key.as_deref(), events).await?;
    Ok(SubmittedJob { warnings, ..stored })
}

fn submitted(
    services: &EngineServices,
    job: &AiJob,
    run: &WorkflowRun,
    by: &Actor,
) -> Result<Vec<AdmittedEvent>, RecorderError> {
    let envelope = Envelope { services, job: job.job_id, run: run.run_id, trace: job.trace_id };
    Ok(vec![envelope.job_span_start(job, by)?, envelope.job_transition(None, job.state, &job.status_reason, by)?])
}

async fn store(
    services: &EngineServices,
    job: AiJob,
    run: WorkflowRun,
    key: Option<&str>,
    events: Vec<AdmittedEvent>,
) -> Result<SubmittedJob, SubmitError> {
    let (job_id, run_id) = (job.job_id, run.run_id);
    match services.database.submit(job, run, key, events).await? {
        Submitted::New => Ok(SubmittedJob { job_id, run_id, existing: false, warnings: Vec::new() }),
        Submitted::Existing(job) => {
            let run_id = latest_run(services, &job).await?;
            Ok(SubmittedJob { job_id: job.job_id, run_id, existing: true, warnings: Vec::new() })
        }
    }
}

/// Stores a job for a workflow that a step runs, or finds the one that an earlier process of the same run has stored.
pub(crate) async fn submit_child(
    services: &EngineServices,
    workflow: Workflow,
    inputs: BTreeMap<String, InputValue>,
    parent: &WorkflowRun,
    parent_job: &AiJob,
    key: &str,
) -> Result<SubmittedJob, SubmitError> {
    let inputs = inputs::resolve(&workflow.inputs, inputs)?;
    for warning in secrets::look(services, workflow.job.safety_mode, &inputs)? {
        tracing::warn!(job = %parent_job.job_id, workflow = %workflow.name, "{warning}");
    }
    let origin = Origin {
        trace: parent.trace_id,
        base: parent.base.clone(),
        pinned: parent.pinned.clone(),
        parent: Some(parent_job.job_id),
        entity_refs: parent_job.entity_refs.clone(),
    };
    let (job, run) = records(services, &workflow, inputs, origin)?;
    let events = submitted(services, &job, &run, &Actor::system())?;
    store(services, job, run, Some(key), events).await
}

/// Where a job comes from.
struct Origin {
    trace: TraceId,
    base: PathBuf,
    pinned: PinnedDigests,
    parent: Option<JobId>,
    entity_refs: Vec<EntityRef>,
}

fn records(
    services: &EngineServices,
    workflow: &Workflow,
    inputs: Value,
    origin: Origin,
) -> Result<(AiJob, WorkflowRun), StorageError> {
    let now = services.clock.now();
    let (job_id, run_id) = (JobId::fresh(&*services.ids), RunId::fresh(&*services.ids));
    let trace_id = origin.trace;
    let spec = &workflow.job;
    let protocol_id = workflow.name.clone();
    let workflow = serde_json::to_value(workflow)
        .map_err(|error| StorageError::Serialization { what: "workflow", source: Box::new(error) })?;
    let job = AiJob {
        job_id,
        trace_id,
        workflow_run_id: Some(run_id),
        job_kind: spec.kind,
        state: JobState::Queued,
        protocol_id,
        profile_id: PROFILE.to_owned(),
        capability_profile_id: spec.profile.clone(),
        access_mode: spec.access_mode,
        safety_mode: spec.safety_mode,
        entity_refs: origin.entity_refs,
        planned_operations: Vec::new(),
        metrics: JobMetrics::default(),
        status_reason: "submitted".to_owned(),
        created_at: now,
        updated_at: now,
        error_message: None,
        job_inputs: inputs.clone(),
        job_outputs: None,
        is_pinned: false,
        parent_job_id: origin.parent,
    };
    let run = WorkflowRun {
        run_id,
        job_id,
        trace_id,
        state: RunState::Queued,
        workflow,
        pinned: origin.pinned,
        inputs,
        base: origin.base,
        host: None,
        fence: FencingToken(0),
        recoveries: 0,
        wake_at: None,
        heartbeat_at: None,
        error: None,
        created_at: now,
        updated_at: now,
    };
    Ok((job, run))
}

fn pin(services: &EngineServices, parsed: &ParsedWorkflow, plugins: &[Arc<Plugin>]) -> PinnedDigests {
    let plugins = plugins.iter().map(|plugin| (plugin.label(), pinned(plugin)));
    PinnedDigests {
        workflow: parsed.digest,
        policy: services.policy.current().policy().digest,
        profile: pinned_profile(services, &parsed.workflow.job.profile),
        plugins: plugins.collect(),
    }
}

/// The digest of a profile as it is now.
pub(crate) fn pinned_profile(services: &EngineServices, id: &ProfileId) -> Option<Digest> {
    services.profiles.iter().find(|profile| profile.id == *id).map(|profile| profile.digest())
}

/// What another run of the same workflow is pinned to: plugins and policy as they are now.
pub(crate) fn repin(services: &EngineServices, plan: &Plan, last: &WorkflowRun) -> Result<PinnedDigests, PluginError> {
    let plugins = plan.plugins().map(|uses| services.executor.find(uses));
    let plugins = plugins.map(|plugin| plugin.map(|plugin| (plugin.label(), pinned(&plugin))));
    Ok(PinnedDigests {
        workflow: last.pinned.workflow,
        policy: services.policy.current().policy().digest,
        profile: pinned_profile(services, &plan.workflow.job.profile),
        plugins: plugins.collect::<Result<_, _>>()?,
    })
}

/// What a run remembers of a plugin.
pub(crate) fn pinned(plugin: &Plugin) -> PinnedPlugin {
    PinnedPlugin { manifest: plugin.manifest_sha256, component: plugin.component_sha256 }
}

/// The paths of a workflow's mounts, with inputs filled in.
pub(crate) fn mount_paths(plan: &Plan, inputs: &Arc<Value>) -> Result<Vec<(String, PathBuf)>, Problem> {
    let mut paths = Vec::new();
    for (name, template) in &plan.mounts {
        let problem = |what: String| workflow::mount_problem(name, what);
        let frame = Frame::new(inputs, |_| None, template.expressions());
        match template.render(&frame, None).map_err(|error| problem(error.to_string()))?.value() {
            Value::String(path) if path.is_empty() => return Err(problem("the path is empty".into())),
            Value::String(path) if path.contains('\0') => {
                return Err(problem("the path contains a zero character".into()));
            }
            Value::String(path) => paths.push((name.clone(), PathBuf::from(path))),
            other => {
                return Err(problem(format!(
                    "the path is of type {}, and must be a string",
                    workflow::type_name(&other)
                )));
            }
        }
    }
    Ok(paths)
}

/// Resolves all mounts of a workflow.
pub(crate) fn resolve_mounts(
    resolver: &dyn MountResolver,
    plan: &Plan,
    base: &Path,
    paths: &[(String, PathBuf)],
) -> Result<Vec<Mount>, MountError> {
    let specs = paths.iter().filter_map(|(name, path)| Some((name, path, plan.workflow.mounts.get(name)?)));
    specs.map(|(name, path, spec)| resolver.resolve(base, name, path, spec.access)).collect()
}
