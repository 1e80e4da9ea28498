//! One job and its runs: steps, attempts, logs as they come, inputs and outputs, capabilities, models, questions.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use handshake_core::artifact::ArtifactHandle;
use handshake_core::event::{EventType, Judgement};
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::{NodeExecution, NodeState};
use handshake_core::run::WorkflowRun;
use handshake_core::storage::{LogQuery, Logs, Payloads};
use handshake_core::token::Right;
use handshake_core::{RunId, StepId};
use handshake_recorder::{EventQuery, MatrixQuery, RecordedEvent};
use maud::{Markup, html};
use serde::Deserialize;

use super::drawing::{Drawn, dag};
use super::form::{Filter, Form};
use super::jobs::tone;
use super::{Frame, Trouble, approvals, badge, lines, moment, part, shown};
use crate::api::audit::run_id;
use crate::api::jobs::{self, JobDetails, RetryRequest, RunDetails, job_id};
use crate::api::{Caller, Host, Routes};
use crate::error::CliError;
use crate::host::HostState;
use crate::page;
use crate::review::report::ReportedAttempt;
use crate::review::sign_off::{SignOffLine, SignOffRequest};
use crate::review::{matrix, sign_off, told_elsewhere};

/// Attempts whose inputs and outputs are shown.
const MOST_PAYLOADS: usize = 50;
/// Characters of an input or output that are shown.
const LONGEST_PAYLOAD: usize = 2_000;
/// Lines of logs that are shown; the script keeps as many.
const MOST_LOG_LINES: usize = 2_000;
/// Artifacts that are listed.
const MOST_ARTIFACTS: usize = 100;
/// Calls of models that are listed.
const MOST_CALLS: u32 = 100;

pub(super) fn routes() -> Routes {
    Routes::new().on(Right::See, "/jobs/{id}", get(show)).on(Right::Operate, "/jobs/{id}/{action}", post(control)).on(
        Right::SignOff,
        "/runs/{id}/sign-off",
        post(sign),
    )
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    run: Option<RunId>,
}

async fn show(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Filter(wanted): Filter<Wanted>,
) -> Result<Response, Trouble> {
    let details = jobs::details(&host, job_id(&id)?, Payloads::Read).await?;
    let job = &details.job;
    let run = match wanted.run {
        Some(wanted) => details.runs.iter().find(|run| run.run.run_id == wanted),
        None => details.runs.last(),
    };
    let live = (!job.state.is_final()).then(|| format!("/api/v1/jobs/{}/live", job.job_id));
    let title = format!("{} · {}", job.protocol_id, job.state);
    let frame = Frame { live, ..Frame::of(&caller, &title, "/") };
    let reviewed = match run {
        Some(run) if caller.require(Right::Audit).is_ok() => Some(reviewed(&host, &run.run).await?),
        _ => None,
    };
    // Given out are those of the latest run.
    let artifacts = match run {
        Some(run) if job.workflow_run_id == Some(run.run.run_id) => host.database.artifacts(run.run.run_id).await?,
        _ => Vec::new(),
    };
    let logs = match run {
        Some(run) => host.database.logs(run.run.run_id, LogQuery::default()).await?,
        None => Logs::default(),
    };
    Ok(frame.around(html! {
        (summary(job, &caller))
        @if !details.questions.is_empty() || details.proposals.is_some() { (approvals::of_job(&details, &caller)) }
        @if let Some(run) = run {
            (runs(&details, run))
            (steps(run))
            (logged(job, &logs))
            (payloads(job, run))
            (stored(job, &artifacts))
        }
        @if let (Some(reviewed), Some(run)) = (&reviewed, run) {
            @if let Some(elsewhere) = told_elsewhere(&reviewed.matrix.elsewhere) {
                p class="warn" { "Not all of it is here: " (elsewhere) "." }
            }
            (page::matrix_of(&reviewed.matrix.rows))
            (models(&reviewed.calls))
            (signatures(&reviewed.signatures, run, &caller))
            p { a href={ "/recorder?job_id=" (job.job_id.to_string()) } { "All that is on record about this job" } }
        }
    }))
}

/// What ended attempts have logged; the page's script adds what is logged from then on.
fn logged(job: &AiJob, logs: &Logs) -> Markup {
    let lines = || logs.attempts.iter().flat_map(|log| log.lines.iter().map(move |said| (&log.node, said)));
    html! {
        section aria-labelledby="log-name" hidden[logs.attempts.is_empty()] {
            h2 id="log-name" { "Log" }
            pre class="log" id="log" tabindex="0" {
                @for (node, said) in lines().take(MOST_LOG_LINES) {
                    (said.at.to_string().get(11..19).unwrap_or_default()) " " (node.to_string()) ": " (shown(&said.line)) "\n"
                }
            }
            @if logs.next.is_some() || lines().nth(MOST_LOG_LINES).is_some() {
                p { "There is more: " code { "handshake jobs logs " (job.job_id.to_string()) } }
            }
        }
    }
}

/// What only those see who may look at the record.
struct Reviewed {
    matrix: matrix::Matrix,
    calls: Vec<RecordedEvent>,
    signatures: Vec<SignOffLine>,
}

async fn reviewed(host: &HostState, run: &WorkflowRun) -> Result<Reviewed, CliError> {
    let of_run = MatrixQuery { run_id: Some(run.run_id), ..MatrixQuery::default() };
    let calls = EventQuery {
        run_id: Some(run.run_id),
        event_type: Some(EventType::LlmInference),
        // Nothing of it is older, and what is need not be looked through.
        from: Some(run.created_at),
        limit: MOST_CALLS,
        ..EventQuery::default()
    };
    Ok(Reviewed {
        matrix: matrix::matrix(host, &of_run).await?,
        calls: host.projection().await?.events(&calls).await?.events,
        signatures: sign_off::sign_offs(host, run.run_id).await?.sign_offs,
    })
}

fn summary(job: &AiJob, caller: &Caller) -> Markup {
    let metrics = &job.metrics;
    part(
        "summary",
        "Job",
        html! {
            p class="badges" { (badge(tone(job.state), job.state.as_str())) }
            @if let Some(error) = &job.error_message { p class="warn" { (shown(error)) } }
            dl {
                dt { "Job" } dd { code { (job.job_id.to_string()) } }
                dt { "Trace" } dd { code { (job.trace_id.to_string()) } }
                dt { "Why" } dd { (shown(&job.status_reason)) }
                dt { "Kind" } dd { code { (job.job_kind.as_str()) } }
                dt { "Rights" } dd {
                    "profile " code { (job.capability_profile_id.to_string()) } ", " code { (job.access_mode.as_str()) }
                    ", safety " code { (job.safety_mode.as_str()) }
                }
                dt { "Made" } dd { (moment(job.created_at)) ", last changed " (moment(job.updated_at)) }
                dt { "Tokens" } dd { (metrics.input_tokens) " in, " (metrics.output_tokens) " out" }
                @if let Some(parent) = job.parent_job_id {
                    dt { "Part of" } dd { a href={ "/jobs/" (parent.to_string()) } { code { (parent.to_string()) } } }
                }
            }
            @if caller.require(Right::Operate).is_ok() { div class="actions" {
                @for (action, name) in actions(job.state) {
                    form method="post" action={ "/jobs/" (job.job_id.to_string()) "/" (action) } { button { (name) } }
                }
            } }
        },
    )
}

fn actions(state: JobState) -> &'static [(&'static str, &'static str)] {
    match state {
        JobState::Running => &[("pause", "Pause"), ("cancel", "Cancel")],
        JobState::Queued | JobState::Stalled | JobState::AwaitingUser => &[("resume", "Resume"), ("cancel", "Cancel")],
        JobState::Failed | JobState::Cancelled => &[("retry", "Retry")],
        _ => &[],
    }
}

async fn control(
    State(host): Host,
    caller: Caller,
    Path((id, action)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    match action.as_str() {
        "cancel" => drop(jobs::cancel(State(host), caller, Path(id.clone())).await?),
        "pause" => drop(jobs::pause(State(host), caller, Path(id.clone())).await?),
        "resume" => drop(jobs::go_on(&host, &caller, &id).await?),
        "retry" => drop(jobs::try_again(&host, &caller, &id, &RetryRequest::default()).await?),
        _ => return Err(CliError::not_found("there is no such resource").into()),
    }
    Ok(Redirect::to(&format!("/jobs/{}", job_id(&id)?)).into_response())
}

fn runs(details: &JobDetails, shown_run: &RunDetails) -> Markup {
    html! {
        @if details.runs.len() > 1 {
            (part("runs", "Runs", html! {
                ul { @for run in &details.runs {
                    @let id = run.run.run_id;
                    li {
                        @if id == shown_run.run.run_id { strong { code { (id.to_string()) } } }
                        @else { a href={ "/jobs/" (details.job.job_id.to_string()) "?run=" (id.to_string()) } { code { (id.to_string()) } } }
                        " " (run.run.state.as_str()) ", made " (moment(run.run.created_at))
                    }
                } }
            }))
        }
    }
}

/// The attempts that count for how a step stands: of each node the last.
fn state_of(step: &StepId, nodes: &[NodeExecution]) -> (String, &'static str) {
    let own: Vec<_> = nodes.iter().filter(|node| node.node.step == *step).collect();
    let last =
        |node: &&&NodeExecution| own.iter().all(|other| other.node != node.node || other.attempt <= node.attempt);
    let states: Vec<NodeState> = own.iter().filter(last).map(|node| node.state).collect();
    let Some(first) = states.first() else { return ("not begun".to_owned(), "") };
    let done = states.iter().filter(|state| **state == NodeState::Completed).count();
    let worst = states.iter().find(|state| **state != NodeState::Completed).unwrap_or(first);
    let tone = match worst.as_str() {
        "completed" => "good",
        "failed" => "bad",
        _ => "odd",
    };
    let words = if states.len() == 1 { worst.to_string() } else { format!("{done} of {} completed", states.len()) };
    (words, tone)
}

fn steps(run: &RunDetails) -> Markup {
    let mut attempts: Vec<_> = run.nodes.iter().map(ReportedAttempt::of).collect();
    attempts.sort_by_key(|attempt| attempt.started_at);
    let graph = handshake_engine::graph_of(&run.run).unwrap_or_default();
    let drawn: Vec<_> = graph
        .into_iter()
        .map(|(id, needs)| {
            let (state, tone) = state_of(&id, &run.nodes);
            Drawn { id, needs, state, tone }
        })
        .collect();
    html! {
        @if !drawn.is_empty() { (part("steps", "Steps", dag(&drawn))) }
        (page::timeline_of(&attempts, run.run.created_at))
    }
}

/// JSON for people, as far as it is shown.
fn json(text: &str) -> String {
    let pretty = serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok());
    let text = pretty.unwrap_or_else(|| text.to_owned());
    let mut shown = lines(&text);
    if let Some((at, _)) = shown.char_indices().nth(LONGEST_PAYLOAD) {
        shown.truncate(at);
        shown.push_str("\n… (the rest is in `handshake jobs show --output json`)");
    }
    shown
}

fn payloads(job: &AiJob, run: &RunDetails) -> Markup {
    part(
        "payloads",
        "Inputs and outputs",
        html! {
            details id="inputs" { summary { "Inputs of the job" } pre { (json(&job.job_inputs.to_string())) } }
            @if let Some(outputs) = &job.job_outputs {
                details id="outputs" open { summary { "Outputs of the job" } pre { (json(&outputs.to_string())) } }
            }
            @for (number, node) in run.nodes.iter().take(MOST_PAYLOADS).enumerate() {
                details id={ "node-" (number) } {
                    summary { (shown(&node.node.to_string())) @if node.attempt > 1 { ", attempt " (node.attempt) } ", " (node.state.as_str()) }
                    p { "Input" } pre { (json(node.input.as_str())) }
                    @if let Some(output) = &node.output { p { "Output" } pre { (json(output.as_str())) } }
                    @if let Some(error) = &node.error { p class="warn" { (shown(&error.kind)) ": " (shown(&error.message)) } }
                }
            }
            @if run.nodes.len() > MOST_PAYLOADS {
                p { "The first " (MOST_PAYLOADS) " of " (run.nodes.len()) " attempts." }
            }
        },
    )
}

fn stored(job: &AiJob, artifacts: &[ArtifactHandle]) -> Markup {
    html! { @if !artifacts.is_empty() { (part("artifacts", "Artifacts", html! {
        div class="wide" { table class="cards" {
            thead { tr { @for name in ["SHA-256", "Bytes", "Media type"] { th scope="col" { (name) } } } }
            tbody { @for one in artifacts.iter().take(MOST_ARTIFACTS) { tr {
                th scope="row" class="id" {
                    a href={ "/api/v1/jobs/" (job.job_id.to_string()) "/artifacts/" (one.id.to_string()) } download { (one.id.to_string()) }
                }
                td data-name="Bytes" { (one.size) }
                td class="what" data-name="Media type" { (shown(&one.media_type)) }
            } } }
        } }
        @if artifacts.len() > MOST_ARTIFACTS { p { "The first " (MOST_ARTIFACTS) " of " (artifacts.len()) "." } }
    })) } }
}

fn models(calls: &[RecordedEvent]) -> Markup {
    part(
        "models",
        "Calls of models",
        html! {
            @if calls.is_empty() { p class="empty" { "None." } } @else {
                div class="wide" { table class="cards" {
                    thead { tr { @for name in ["Time", "Model", "Step", "Tokens", "Took"] { th scope="col" { (name) } } } }
                    tbody { @for call in calls {
                        @let payload = &call.event["payload"];
                        @let usage = &payload["token_usage"];
                        tr {
                            th scope="row" class="id" { a href={ "/recorder/" (call.event["event_id"].as_str().unwrap_or_default()) } { (moment(call.recorded_at)) } }
                            td class="what" data-name="Model" { (shown(call.event["model_id"].as_str().unwrap_or_default())) }
                            td data-name="Step" { (shown(call.event["step_id"].as_str().unwrap_or_default())) }
                            td data-name="Tokens" { (usage["prompt_tokens"].as_u64().unwrap_or_default()) " + " (usage["completion_tokens"].as_u64().unwrap_or_default()) }
                            td data-name="Took" { (payload["latency_ms"].as_u64().unwrap_or_default()) " ms" }
                        }
                    } }
                } }
            }
        },
    )
}

fn signatures(signed: &[SignOffLine], run: &RunDetails, caller: &Caller) -> Markup {
    html! {
        (page::sign_offs_of(signed))
        @if run.run.state.is_final() && caller.require(Right::SignOff).is_ok() {
            (part("sign", "Vouch for this run", html! {
                p { "The record is verified first, and what you say is signed and put on record." }
                form class="stack" method="post" action={ "/runs/" (run.run.run_id.to_string()) "/sign-off" } {
                    @if caller.token_role().is_none() { label { "Your name" input name="name" required; } }
                    label { "Note" textarea name="note" rows="3" {} }
                    div class="actions" {
                        button class="yes" name="verdict" value="accept" { "Accept" }
                        button class="no" name="verdict" value="reject" { "Reject" }
                    }
                }
            }))
        }
    }
}

#[derive(Debug, Deserialize)]
struct Signing {
    name: Option<String>,
    verdict: Judgement,
    #[serde(default)]
    note: String,
}

async fn sign(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Form(signing): Form<Signing>,
) -> Result<Response, Trouble> {
    let run = run_id(&id)?;
    let request = SignOffRequest { name: signing.name, verdict: signing.verdict, note: signing.note };
    let signed = sign_off::sign_off(&host, &caller, run, request).await?;
    Ok(Redirect::to(&format!("/jobs/{}?run={run}", signed.statement.body.job)).into_response())
}
