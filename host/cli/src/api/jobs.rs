//! Jobs and runs: submitting, following, cancelling, looking.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use handshake_core::approval::Approval;
use handshake_core::capability::Extent;
use handshake_core::event::Actor;
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::NodeExecution;
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::storage::{JobFilter, Payloads};
use handshake_core::token::{Right, Role};
use handshake_core::{JobId, RunId, StepId};
use handshake_engine::{EngineError, InputValue, Proposals, Question, RunUpdate, Submission, SubmittedJob, Voted};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::effects::{self, PermittedEffect};
use super::grants::{self, PermissionHistory};
use super::workflows::WorkflowText;
use super::{Answer, Caller, Document, Host, IdempotencyKey, LINES, Parameters, Refusal, Routes};
use crate::error::{CliError, ErrorDocument};
use crate::executions::Execution;
use crate::host::HostState;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::See, "/jobs", "Jobs, newest first", list)
        .post(
            Right::Submit,
            "/jobs",
            "Submits a job; with `watch=true` the answer is the stream of its run, a JSON document a line",
            submit,
        )
        .get(Right::See, "/jobs/{id}", "A job with its runs, attempts, questions and proposals", show)
        .post(Right::Operate, "/jobs/{id}/cancel", "Gives a job up", cancel)
        .post(Right::Operate, "/jobs/{id}/pause", "Lets a job wait once the steps that run have ended", pause)
        .get(Right::See, "/jobs/{id}/watch", "The stream of the latest run, a JSON document a line", watch)
        .post(Right::Operate, "/jobs/{id}/resume", "Goes on with a job that waits or was interrupted", resume)
        .post(
            Right::Operate,
            "/jobs/{id}/retry",
            "Tries a job again, with what was completed, or from a step on",
            retry,
        )
        .post(Right::Decide, "/jobs/{id}/vote", "Answers a question of a job", vote)
        .get(Right::See, "/runs/{id}/updates", "The stream of a run that is under way, a JSON document a line", updates)
}

/// A job to be run.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmitRequest {
    /// The workflow.
    pub(crate) workflow: WorkflowText,
    /// Inputs as JSON.
    #[serde(default)]
    pub(crate) inputs: BTreeMap<String, Value>,
    /// Inputs as text, converted to the types that the workflow declares.
    #[serde(default)]
    pub(crate) text_inputs: BTreeMap<String, String>,
    /// Folder that relative mount paths start from; absolute. Only the owner of the data directory names one; for others,
    /// and by default, it is the folder of the host's project.
    #[serde(default)]
    pub(crate) base: Option<PathBuf>,
    /// The same key gives the same job.
    #[serde(default)]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SubmitParameters {
    watch: bool,
}

/// Jobs, newest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct JobList {
    /// The jobs.
    pub(crate) jobs: Vec<AiJob>,
    /// What to give as `after` for the next page.
    pub(crate) next: Option<JobId>,
}

/// A job with its runs.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct JobDetails {
    /// The job.
    pub(crate) job: AiJob,
    /// Its runs, oldest first.
    pub(crate) runs: Vec<RunDetails>,
    /// What it and the jobs that it started ask people, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) questions: Vec<Approval>,
    /// For those that ask for a capability, what is known of it and the plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) history: Vec<PermissionHistory>,
    /// What it proposes for documents, with a diff of what would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proposals: Option<Proposals>,
    /// While it waits for people: what its steps were permitted to do so far in the runs that wait, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) effects: Vec<PermittedEffect>,
    /// How many more there are.
    #[serde(default)]
    pub(crate) effects_omitted: usize,
}

/// A run with every attempt of its nodes; their inputs and outputs only when they were asked for.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct RunDetails {
    /// The run.
    pub(crate) run: WorkflowRun,
    /// The attempts, by step, position and attempt.
    pub(crate) nodes: Vec<NodeExecution>,
}

/// Whether there was anything to cancel.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Cancelled {
    /// False when no run of the job is under way.
    pub(crate) cancelled: bool,
}

pub(crate) fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|_| {
        Refusal(CliError::usage(format!("`{text}` is not a job id")).hint("handshake jobs list shows them"))
    })
}

async fn list(State(host): Host, Parameters(filter): Parameters<JobFilter>) -> Answer<JobList> {
    let jobs = host.database.jobs(&filter).await?;
    let asked = if filter.limit == 0 { 50 } else { filter.limit.min(1000) };
    let full = jobs.len() >= usize::try_from(asked).unwrap_or(usize::MAX);
    let next = jobs.last().filter(|_| full).map(|job| job.job_id);
    Ok(Json(JobList { jobs, next }))
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ShowParameters {
    /// Whether the inputs and outputs of all attempts come along; those of a large run are many.
    payloads: bool,
}

async fn show(
    State(host): Host,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<ShowParameters>,
) -> Answer<JobDetails> {
    let id = job_id(&id)?;
    let payloads = if parameters.payloads { Payloads::Read } else { Payloads::LeftOut };
    Ok(Json(details(&host, id, payloads).await?))
}

/// A job with everything about it.
pub(crate) async fn details(host: &HostState, id: JobId, payloads: Payloads) -> Result<JobDetails, CliError> {
    let job = host.database.job(id).await?;
    let mut runs = Vec::new();
    for run in host.database.runs_of(id).await? {
        let nodes = host.database.nodes(run.run_id, payloads).await?;
        runs.push(RunDetails { run, nodes });
    }
    let questions = if job.state.is_final() { Vec::new() } else { host.engine.questions(id).await? };
    let mut history = Vec::new();
    for question in &questions {
        if let Some(request) = &question.permission {
            match grants::history(host, question.approval_id, request).await {
                Ok(told) => history.push(told),
                // The question can be answered all the same.
                Err(error) => {
                    tracing::warn!(job = %id, error = error.message, "what is known of a capability cannot be shown")
                }
            }
        }
    }
    let proposals = match host.engine.proposals(&job).await {
        Ok(proposals) => proposals,
        Err(EngineError::Storage(error)) => return Err(error.into()),
        // The rest of the job can be shown all the same.
        Err(error) => {
            tracing::warn!(job = %id, %error, "what the job proposes cannot be shown");
            None
        }
    };
    let (effects, effects_omitted) = match job.state {
        JobState::AwaitingUser => {
            let waiting = questions.iter().map(|question| question.run_id).chain(job.workflow_run_id);
            effects::of_runs(host, waiting.collect()).await?
        }
        _ => Default::default(),
    };
    Ok(JobDetails { job, runs, questions, history, proposals, effects, effects_omitted })
}

/// An answer to a question of a job.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VoteRequest {
    /// Which question; may be left out when there is only one.
    #[serde(default)]
    pub(crate) question: Option<Question>,
    /// Yes or no.
    pub(crate) approve: bool,
    /// How far a yes to a question about a capability reaches; left out: the job that asks.
    #[serde(default)]
    pub(crate) extent: Option<Extent>,
    /// Why, at most 4 KiB.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// Counts a vote. When it decides, the job goes on here.
pub(crate) async fn vote(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Document(request): Document<VoteRequest>,
) -> Answer<Voted> {
    let Some(_open) = host.executions.admit() else { return Err(takes_no_jobs()) };
    let VoteRequest { question, approve, extent, reason } = request;
    let answer = handshake_engine::Answer { approve, extent, reason, role: caller.token_role() };
    let voted = host.engine.vote(job_id(&id)?, question.as_ref(), answer, &caller.actor).await?;
    if let Some((run_id, job_id)) = voted.goes_on {
        begin(&host, &SubmittedJob { job_id, run_id, existing: false, warnings: Vec::new() }, Actor::system());
    }
    Ok(Json(voted))
}

pub(crate) async fn cancel(State(host): Host, caller: Caller, Path(id): Path<String>) -> Answer<Cancelled> {
    let id = job_id(&id)?;
    if host.executions.cancel_job(id) {
        return Ok(Json(Cancelled { cancelled: true }));
    }
    if host.database.job(id).await?.state.is_final() {
        return Ok(Json(Cancelled { cancelled: false }));
    }
    host.engine.cancel(id, &caller.actor).await?;
    Ok(Json(Cancelled { cancelled: true }))
}

/// That a job will wait.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Paused {
    /// It begins no more steps, and waits once those that run have ended.
    pub(crate) paused: bool,
}

pub(crate) async fn pause(State(host): Host, caller: Caller, Path(id): Path<String>) -> Answer<Paused> {
    let id = job_id(&id)?;
    if host.executions.pause_job(id, &caller.actor) {
        return Ok(Json(Paused { paused: true }));
    }
    let job = host.database.job(id).await?;
    host.engine.require_whole(&job).await?;
    Err(refused(&job, "only a job that is executed here can be paused"))
}

async fn watch(State(host): Host, Path(id): Path<String>) -> Result<Response, Refusal> {
    Ok(lines(follow(&host, &id).await?).into_response())
}

/// Follows the latest run of a job, from now on to its end.
pub(super) async fn follow(host: &Arc<HostState>, id: &str) -> Result<Following, Refusal> {
    let job = host.database.job(job_id(id)?).await?;
    let updates = host.engine.watch();
    let Some(run_id) = job.workflow_run_id else {
        return Err(Refusal(CliError::conflict(format!("job `{id}` has no run to watch"))));
    };
    let watched = SubmittedJob { job_id: job.job_id, run_id, existing: false, warnings: Vec::new() };
    following(host, &watched, updates, host.executions.of_run(run_id))
}

/// From which step a job is tried again; none reuses everything that was completed.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetryRequest {
    /// The step.
    pub(crate) from: Option<StepId>,
}

/// A run that began, and how to follow it.
pub(crate) struct Begun {
    /// Which.
    pub(crate) started: SubmittedJob,
    updates: broadcast::Receiver<RunUpdate>,
    execution: Option<Arc<Execution>>,
}

async fn resume(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<SubmitParameters>,
) -> Result<Response, Refusal> {
    let begun = go_on(&host, &caller, &id).await?;
    answer(&host, begun, parameters.watch)
}

/// Goes on with a job that waits or was interrupted.
pub(crate) async fn go_on(host: &Arc<HostState>, caller: &Caller, id: &str) -> Result<Begun, Refusal> {
    let Some(_open) = host.executions.admit() else { return Err(takes_no_jobs()) };
    let job = host.database.job(job_id(id)?).await?;
    host.engine.require_whole(&job).await?;
    host.engine.require_sound(&job)?;
    let updates = host.engine.watch();
    let waits = matches!(job.state, JobState::Queued | JobState::Stalled | JobState::AwaitingUser);
    let run_id = match job.workflow_run_id {
        Some(run) if waits || host.executions.of_run(run).is_some() => run,
        _ => return Err(refused(&job, "only a job that waits or was interrupted goes on")),
    };
    let started = SubmittedJob { job_id: job.job_id, run_id, existing: false, warnings: Vec::new() };
    let execution = Some(begin(host, &started, caller.actor.clone()));
    Ok(Begun { started, updates, execution })
}

async fn retry(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<SubmitParameters>,
    Document(request): Document<RetryRequest>,
) -> Result<Response, Refusal> {
    let begun = try_again(&host, &caller, &id, &request).await?;
    answer(&host, begun, parameters.watch)
}

/// Tries a job again that has failed.
pub(crate) async fn try_again(
    host: &Arc<HostState>,
    caller: &Caller,
    id: &str,
    request: &RetryRequest,
) -> Result<Begun, Refusal> {
    let Some(_open) = host.executions.admit() else { return Err(takes_no_jobs()) };
    let updates = host.engine.watch();
    let started = host.engine.retry(job_id(id)?, request.from.as_ref(), &caller.actor).await?;
    let execution = Some(begin(host, &started, Actor::system()));
    Ok(Begun { started, updates, execution })
}

/// Starts a run, and with it the projection of what it will leave on record.
fn begin(host: &Arc<HostState>, started: &SubmittedJob, by: Actor) -> Arc<Execution> {
    host.start_projection();
    host.executions.start(host.engine.clone(), started.run_id, started.job_id, by)
}

fn refused(job: &AiJob, rule: &str) -> Refusal {
    let (id, state) = (job.job_id, job.state);
    let error = CliError::conflict(format!("job `{id}` is `{state}`; {rule}"));
    Refusal(error.hint(format!("handshake jobs show {id} tells why")))
}

fn takes_no_jobs() -> Refusal {
    Refusal(CliError::busy(format!("process {} takes no jobs", std::process::id())).hint("try again in a moment"))
}

/// Says which run began, and follows it to its end if that was asked for.
pub(super) fn answer(host: &Arc<HostState>, begun: Begun, watch: bool) -> Result<Response, Refusal> {
    if !watch {
        return Ok((StatusCode::CREATED, Json(begun.started)).into_response());
    }
    let Begun { started, updates, execution } = begun;
    Ok((StatusCode::CREATED, lines(following(host, &started, updates, execution)?)).into_response())
}

fn following(
    host: &Arc<HostState>,
    started: &SubmittedJob,
    updates: broadcast::Receiver<RunUpdate>,
    execution: Option<Arc<Execution>>,
) -> Result<Following, Refusal> {
    let ending = Some((Arc::clone(host), started.job_id));
    let mut first = serde_json::to_vec(started)
        .map_err(|error| CliError::internal("the answer cannot be written as JSON").because(&error))?;
    first.push(b'\n');
    Ok(Following { first: Some(first.into()), run: started.run_id, updates, execution, ending })
}

async fn submit(
    State(host): Host,
    caller: Caller,
    Parameters(parameters): Parameters<SubmitParameters>,
    IdempotencyKey(key): IdempotencyKey,
    Document(mut request): Document<SubmitRequest>,
) -> Result<Response, Refusal> {
    request.idempotency_key = match (key, request.idempotency_key) {
        (Some(header), Some(body)) if header != body => {
            let problem = "the header idempotency-key and the body's idempotency_key differ";
            return Err(Refusal(CliError::usage(problem)));
        }
        (header, body) => header.or(body),
    };
    let begun = begin_submission(&host, &caller, request).await?;
    host.start_projection();
    answer(&host, begun, parameters.watch)
}

/// The folder that relative paths of what somebody submits start from.
pub(super) fn base_of(host: &HostState, caller: &Caller, base: Option<PathBuf>) -> Result<PathBuf, CliError> {
    match base {
        None => Ok(host.project.clone()),
        Some(_) if caller.role != Role::Owner => {
            Err(CliError::denied("only the owner of the data directory says where paths start")
                .code("forbidden")
                .hint("leave out `base`; paths start in the folder of the host's project"))
        }
        Some(base) if !base.is_absolute() => {
            Err(CliError::usage(format!("base: `{}` is not an absolute path", base.display())))
        }
        Some(base) => Ok(base),
    }
}

/// Submits a job and has it begin. Its record is complete without a projection; who needs one starts it.
pub(crate) async fn begin_submission(
    host: &Arc<HostState>,
    caller: &Caller,
    request: SubmitRequest,
) -> Result<Begun, Refusal> {
    let Some(_open) = host.executions.admit() else { return Err(takes_no_jobs()) };
    let base = base_of(host, caller, request.base)?;
    let mut inputs: BTreeMap<String, InputValue> =
        request.inputs.into_iter().map(|(name, value)| (name, InputValue::Json(value))).collect();
    for (name, text) in request.text_inputs {
        if inputs.contains_key(&name) {
            return Err(Refusal(CliError::usage(format!("input `{name}` is given twice"))));
        }
        inputs.insert(name, InputValue::Text(text));
    }
    let submission = Submission {
        source: request.workflow.into(),
        inputs,
        base,
        idempotency_key: request.idempotency_key,
        actor: caller.actor.clone(),
    };
    // Before the run can begin, so that no update is missed.
    let updates = host.engine.watch();
    let (started, execution) = host.executions.begin(host.engine.clone(), submission).await?;
    let execution = match execution {
        Some(execution) => Some(execution),
        None => execution_of(host, &started).await?,
    };
    Ok(Begun { started, updates, execution })
}

/// Finds the run that an idempotency key led to. One that is still queued was stored by a process that went away
/// before it could begin, so it begins now.
async fn execution_of(host: &Arc<HostState>, submitted: &SubmittedJob) -> Result<Option<Arc<Execution>>, Refusal> {
    if let Some(execution) = host.executions.of_run(submitted.run_id) {
        return Ok(Some(execution));
    }
    if host.database.run(submitted.run_id).await?.state != RunState::Queued {
        return Ok(None);
    }
    let engine = host.engine.clone();
    Ok(Some(host.executions.start(engine, submitted.run_id, submitted.job_id, Actor::system())))
}

async fn updates(State(host): Host, Path(id): Path<String>) -> Result<Response, Refusal> {
    let id: RunId = id.parse().map_err(|_| CliError::usage(format!("`{id}` is not a run id")))?;
    let updates = host.engine.watch();
    let execution = host.executions.of_run(id);
    if execution.is_none() {
        // Tells an unknown run from one that is over, whose stream is empty.
        host.database.run(id).await?;
    }
    Ok(lines(Following { first: None, run: id, updates, execution, ending: None }).into_response())
}

/// What a stream of updates says.
pub(super) enum News {
    /// Which run it is.
    Begun(Bytes),
    /// What happened in it.
    Update(Bytes),
    /// How its job stands now that it is over.
    Ended(Bytes),
    /// Why it could not be driven to its end.
    Failed(Bytes),
}

/// Where a stream of updates stands.
pub(super) struct Following {
    first: Option<Bytes>,
    run: RunId,
    updates: broadcast::Receiver<RunUpdate>,
    execution: Option<Arc<Execution>>,
    ending: Option<(Arc<HostState>, JobId)>,
}

/// The last line of a submission's stream: how the job stands now that its run is over. It comes with the stream, because
/// the owner may be gone before a reader could ask.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// What `GET /v1/jobs/{id}` answers.
    pub(crate) ended: JobDetails,
}

/// The stream, a JSON document a line.
fn lines(following: Following) -> impl IntoResponse {
    let lines = futures::stream::unfold(following, |mut following| async move {
        let (News::Begun(line) | News::Update(line) | News::Ended(line) | News::Failed(line)) =
            following.next().await?;
        Some((Ok::<_, Infallible>(line), following))
    });
    ([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines))
}

impl Following {
    /// The next line: what came first, then the run's updates until it is over, then why it failed to end well.
    pub(super) async fn next(&mut self) -> Option<News> {
        if let Some(first) = self.first.take() {
            return Some(News::Begun(first));
        }
        loop {
            let Some(execution) = self.execution.clone() else {
                // Taken only afterwards: whoever waits may have to give up meanwhile and come back.
                let (host, job) = self.ending.clone()?;
                let ended = Ended { ended: details(&host, job, Payloads::LeftOut).await.ok()? };
                self.ending = None;
                return line(&ended).map(News::Ended);
            };
            let update = tokio::select! {
                biased;
                update = self.updates.recv() => update,
                () = execution.finished.cancelled() => match self.updates.try_recv() {
                    Ok(update) => Ok(update),
                    Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => Err(RecvError::Closed),
                },
            };
            match update {
                Ok(update) if update.run_id == self.run => return line(&update).map(News::Update),
                // A reader that is too slow misses some; how the run ended it finds with the job.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => {
                    self.execution = None;
                    if let Some(failure) = execution.failure.get() {
                        self.ending = None;
                        return line(&ErrorDocument { error: failure.clone() }).map(News::Failed);
                    }
                }
            }
        }
    }
}

fn line(value: &impl Serialize) -> Option<Bytes> {
    let mut text = serde_json::to_vec(value).ok()?;
    text.push(b'\n');
    Some(text.into())
}
