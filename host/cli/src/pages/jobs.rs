//! Runs: the list of jobs, and beginning a new one.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use handshake_core::JobId;
use handshake_core::job::{AiJob, JobKind, JobState};
use handshake_core::storage::JobFilter;
use handshake_core::token::Right;
use maud::{Markup, html};
use serde::Deserialize;

use super::form::{Filter, Form};
use super::{Frame, Trouble, badge, moment, part, shown};
use crate::access::with_parameters;
use crate::api::jobs::{SubmitRequest, begin_submission};
use crate::api::workflows::WorkflowText;
use crate::api::{Caller, Host, Routes};
use crate::error::CliError;

/// Jobs on a page.
const ROWS: u32 = 50;
/// Seconds between two looks at a list in which something may move.
const LOOK: &str = "every 3";

pub(super) fn routes() -> Routes {
    Routes::new().on(Right::See, "/", get(list)).on(Right::Submit, "/jobs/new", get(ask).post(submit))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    state: Option<JobState>,
    kind: Option<JobKind>,
    workflow: Option<String>,
    after: Option<JobId>,
}

/// How a state looks.
pub(super) fn tone(state: JobState) -> &'static str {
    match state {
        JobState::Completed => "good",
        JobState::Failed | JobState::Poisoned => "bad",
        _ => "odd",
    }
}

async fn list(State(host): Host, caller: Caller, Filter(wanted): Filter<Wanted>) -> Result<Response, Trouble> {
    let filter = JobFilter {
        state: wanted.state,
        kind: wanted.kind,
        protocol_id: wanted.workflow.clone(),
        after: wanted.after,
        limit: ROWS,
        ..JobFilter::default()
    };
    let jobs = host.database.jobs(&filter).await?;
    let next = jobs.last().filter(|_| jobs.len() == ROWS as usize).map(|job| job.job_id);
    let next = next.map(|after| {
        let text = |text: &str| Some(text.to_owned());
        with_parameters(
            "/",
            [
                ("state", wanted.state.and_then(|state| text(state.as_str()))),
                ("kind", wanted.kind.and_then(|kind| text(kind.as_str()))),
                ("workflow", wanted.workflow.clone()),
                ("after", Some(after.to_string())),
            ],
        )
    });
    let live = wanted.after.is_none().then(|| LOOK.to_owned());
    let frame = Frame { live, ..Frame::of(&caller, "Runs", "/") };
    Ok(frame.around(html! {
        section {
            form class="filters" method="get" action="/" role="search" {
                label { "State " select name="state" {
                    option value="" { "any" }
                    @for state in JobState::ALL {
                        option value=(state.as_str()) selected[wanted.state == Some(*state)] { (state.as_str()) }
                    }
                } }
                label { "Kind " select name="kind" {
                    option value="" { "any" }
                    @for kind in JobKind::ALL {
                        option value=(kind.as_str()) selected[wanted.kind == Some(*kind)] { (kind.as_str()) }
                    }
                } }
                label { "Workflow " input name="workflow" value=(wanted.workflow.as_deref().unwrap_or_default()); }
                button { "Filter" }
            }
            @if jobs.is_empty() { p class="empty" { "No jobs." } } @else {
                div class="wide" { table class="cards" {
                    thead { tr { @for name in ["Job", "Workflow", "State", "Why", "Made", "Took"] { th scope="col" { (name) } } } }
                    tbody { @for job in &jobs { (row(job)) } }
                } }
            }
            @if let Some(next) = next { p class="more" { a href=(next) rel="next" { "Older" } } }
        }
    }))
}

fn row(job: &AiJob) -> Markup {
    let took = job.updated_at.since(job.created_at).as_secs_f64();
    html! {
        tr {
            th scope="row" class="id" { a href={ "/jobs/" (job.job_id.to_string()) } { code { (job.job_id.to_string()) } } }
            td class="what" data-name="Workflow" { (shown(&job.protocol_id)) }
            td data-name="State" { (badge(tone(job.state), job.state.as_str())) }
            td class="what" { (shown(job.error_message.as_deref().unwrap_or(&job.status_reason))) }
            td data-name="Made" { (moment(job.created_at)) }
            td data-name="Took" { @if job.state.is_final() { (format!("{took:.1} s")) } @else { "–" } }
        }
    }
}

/// The fields of the form for a new run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NewRun {
    file: Option<String>,
    workflow: Option<String>,
    inputs: Option<String>,
}

async fn ask(caller: Caller) -> Response {
    Frame::of(&caller, "New run", "/jobs/new").around(part(
        "new",
        "A workflow to run",
        html! {
            form class="stack" method="post" action="/jobs/new" {
                label { "Name of the file; its ending tells the form: .yaml, .toml or .json"
                    input name="file" value="workflow.yaml" required; }
                label { "Workflow" textarea name="workflow" rows="18" required spellcheck="false" {} }
                label { "Inputs, one a line: name=value" textarea name="inputs" rows="4" spellcheck="false" {} }
                div class="actions" { button class="yes" { "Run" } }
            }
            p class="empty" { "Relative paths of mounts start in the folder of the host's project." }
        },
    ))
}

async fn submit(State(host): Host, caller: Caller, Form(new): Form<NewRun>) -> Result<Response, Trouble> {
    let mut text_inputs = BTreeMap::new();
    for line in new.inputs.as_deref().unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("`{line}` is no input")).hint("write one a line, as name=value"))?;
        text_inputs.insert(name.trim().to_owned(), value.to_owned());
    }
    let workflow = WorkflowText {
        file: new.file.unwrap_or_else(|| "workflow.yaml".to_owned()),
        text: new.workflow.ok_or_else(|| CliError::usage("there is no workflow in the form"))?,
    };
    let request = SubmitRequest { workflow, inputs: BTreeMap::new(), text_inputs, base: None, idempotency_key: None };
    let begun = begin_submission(&host, &caller, request).await?;
    host.start_projection();
    Ok(Redirect::to(&format!("/jobs/{}", begun.started.job_id)).into_response())
}
