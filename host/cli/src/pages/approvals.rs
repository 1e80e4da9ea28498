//! What waits for people: questions of steps, and what jobs propose for documents.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use handshake_core::StepId;
use handshake_core::approval::Approval;
use handshake_core::capability::Extent;
use handshake_core::job::JobState;
use handshake_core::storage::{JobFilter, Payloads};
use handshake_core::token::Right;
use handshake_core::workflow::Period;
use handshake_engine::{ProposalStatus, Proposals, ProposedDocument, Question};
use maud::{Markup, html};
use serde::Deserialize;

use super::form::Form;
use super::{Frame, Trouble, badge, lines, moment, part, shown};
use crate::api::effects::PermittedEffect;
use crate::api::jobs::{JobDetails, VoteRequest, details, job_id, vote};
use crate::api::{Caller, Document, Host, Routes};
use crate::error::CliError;

/// Jobs that are looked at.
const MOST_JOBS: u32 = 50;
const LOOK: &str = "every 5";

pub(super) fn routes() -> Routes {
    Routes::new()
        .on(Right::Decide, "/approvals", get(inbox))
        .on(Right::Decide, "/approvals/{job}/vote", post(answer))
        .on(Right::Decide, "/approvals/{job}/proposals", post(settle))
}

async fn inbox(State(host): Host, caller: Caller) -> Result<Response, Trouble> {
    let waits = JobFilter { state: Some(JobState::AwaitingUser), limit: MOST_JOBS, ..JobFilter::default() };
    let mut waiting = Vec::new();
    for job in host.database.jobs(&waits).await? {
        // The part of another job asks there.
        if job.parent_job_id.is_none() {
            waiting.push(details(&host, job.job_id, Payloads::LeftOut).await?);
        }
    }
    let frame = Frame { live: Some(LOOK.to_owned()), ..Frame::of(&caller, "Approvals", "/approvals") };
    Ok(frame.around(html! {
        @if waiting.is_empty() { section { p class="empty" { "Nothing waits for an answer." } } }
        @for details in &waiting {
            section {
                h2 { a href={ "/jobs/" (details.job.job_id.to_string()) } { (shown(&details.job.protocol_id)) } }
                p { (shown(&details.job.status_reason)) ", since " (moment(details.job.updated_at)) }
                (asked(details, &caller))
            }
        }
    }))
}

/// What one job asks, on its own page.
pub(super) fn of_job(details: &JobDetails, caller: &Caller) -> Markup {
    part("waits", "Questions and proposals", asked(details, caller))
}

fn asked(details: &JobDetails, caller: &Caller) -> Markup {
    let may = caller.require(Right::Decide).is_ok();
    html! {
        (so_far(details))
        @for question in &details.questions { (one(question, details, may)) }
        @if let Some(proposals) = &details.proposals { (proposed(proposals, details, may)) }
    }
}

/// What its steps did that is not undone by saying no.
fn so_far(details: &JobDetails) -> Markup {
    html! {
        @if !details.effects.is_empty() {
            h3 { "What its steps were permitted to do so far" }
            ul {
                @for PermittedEffect { step_id, capability, resource, count } in &details.effects {
                    li { code { (shown(step_id.as_str())) } ": " code { (shown(capability)) } " " (shown(resource))
                        @if *count > 1 { ", " (count) " times" } }
                }
                @if details.effects_omitted > 0 { li { "and " (details.effects_omitted) " other things" } }
            }
        }
    }
}

fn one(question: &Approval, details: &JobDetails, may: bool) -> Markup {
    let history = details.history.iter().find(|told| told.approval_id == question.approval_id);
    html! {
        h3 { "Step " (shown(question.step_id.as_str())) @if let Some(index) = question.index { "[" (index) "]" } " asks" }
        @if !question.prompt.is_empty() { p { (shown(&question.prompt)) } }
        @if let Some(request) = &question.permission {
            dl {
                dt { "Who" } dd { (shown(request.plugin.as_str())) "@" (shown(&request.version)) }
                dt { "For" } dd { code { (shown(request.asked.capability.as_str())) } " " (shown(&request.asked.resource)) }
                dt { "Reason" } dd { (shown(request.reason.as_deref().unwrap_or("its manifest gives none"))) }
                dt { "Rule" } dd { code { (shown(&request.asked.rule.to_string())) } }
                @if let Some(told) = history {
                    dt { "Before" } dd { "asked " (told.asked) " times, granted " (told.granted) ", used " (told.used) }
                }
            }
            @if !request.effects.is_empty() {
                p class="warn" { "The attempt has done this already, and a yes runs the step from its beginning:" }
                ul { @for effect in &request.effects { li { (shown(effect)) } } }
            }
        }
        @if !question.approvers.is_empty() {
            p { "For " (shown(&question.approvers.iter().cloned().collect::<Vec<_>>().join(", "))) "; " (question.quorum) " must say yes." }
        }
        @for vote in &question.votes {
            p { (badge(if vote.approve { "good" } else { "bad" }, if vote.approve { "yes" } else { "no" })) " "
                (shown(&vote.who)) ", " (moment(vote.at)) @if let Some(reason) = &vote.reason { ": " (shown(reason)) } }
        }
        @if let Some(expires) = question.expires_at { p { "Until " (moment(expires)) } }
        @if may {
            form class="stack" method="post" action={ "/approvals/" (details.job.job_id.to_string()) "/vote" } {
                input type="hidden" name="step" value=(question.step_id.as_str());
                @if let Some(index) = question.index { input type="hidden" name="index" value=(index); }
                label { "Reason" input name="reason" autocomplete="off"; }
                @if question.permission.is_some() {
                    label { "A yes holds for" select name="extent" {
                        option value="job" { "this job" } option value="once" { "the next attempt" }
                        option value="day" { "this workspace, 24 hours" } option value="until_revoked" { "every job, until it is revoked" }
                    } }
                }
                div class="actions" {
                    button class="yes" name="approve" value="true" { "Approve" }
                    button class="no" name="approve" value="false" { "Reject" }
                }
            }
        }
    }
}

/// A unified diff, line by line.
fn diff(text: &str) -> Markup {
    html! {
        pre { @for line in text.lines() {
            @let line = lines(line);
            @match line.as_bytes().first() {
                Some(b'+') => ins { (line) "\n" },
                Some(b'-') => del { (line) "\n" },
                Some(b'@') => span class="place" { (line) "\n" },
                _ => { (line) "\n" },
            }
        } }
    }
}

fn document(proposed: &ProposedDocument) -> Markup {
    html! {
        h3 { "Changes to "
            @if proposed.document.parse::<handshake_core::DocumentId>().is_ok() {
                a href={ "/documents/" (proposed.document) } { (shown(proposed.title.as_deref().unwrap_or(&proposed.document))) }
            } @else { (shown(&proposed.document)) }
        }
        p { "By " (shown(&proposed.by.join(", "))) "; " (proposed.operations.len()) " changes"
            @if let Some(title) = &proposed.new_title { "; new title: " (shown(title)) } }
        @if proposed.changed { p class="warn" { "The document was changed since the step read it." } }
        @if let Some(problem) = &proposed.problem { p class="warn" { (shown(problem)) } }
        @if let Some(text) = &proposed.diff { (diff(text)) }
    }
}

fn proposed(proposals: &Proposals, details: &JobDetails, may: bool) -> Markup {
    let waits = proposals.status == ProposalStatus::Pending && details.job.state == JobState::AwaitingUser;
    html! {
        @for one in &proposals.documents { (document(one)) }
        @match proposals.status {
            ProposalStatus::Applied => p { (badge("good", "applied")) },
            ProposalStatus::NotApplied => p { (badge("odd", "not applied")) },
            ProposalStatus::Pending => {},
        }
        // A question of a step comes first; then what it proposes.
        @if may && waits && details.questions.is_empty() {
            form class="stack" method="post" action={ "/approvals/" (details.job.job_id.to_string()) "/proposals" } {
                label { "Reason" input name="reason" autocomplete="off"; }
                div class="actions" {
                    button class="yes" name="accept" value="true" { "Apply the changes" }
                    button class="no" name="accept" value="false" { "Decline them" }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Vote {
    step: StepId,
    index: Option<u32>,
    approve: bool,
    reason: Option<String>,
    extent: Option<String>,
}

async fn answer(
    State(host): Host,
    caller: Caller,
    Path(job): Path<String>,
    Form(given): Form<Vote>,
) -> Result<Response, Trouble> {
    let extent = match given.extent.as_deref().filter(|_| given.approve) {
        None => None,
        Some("job") => Some(Extent::Job),
        Some("once") => Some(Extent::Once),
        Some("day") => Some(Extent::For(Period(std::time::Duration::from_secs(24 * 3600)))),
        Some("until_revoked") => Some(Extent::UntilRevoked),
        Some(other) => return Err(CliError::usage(format!("`{}` is no extent", shown(other))).into()),
    };
    let question = Some(Question { step: given.step, index: given.index });
    let request = VoteRequest { question, approve: given.approve, extent, reason: given.reason };
    let voted = vote(State(host), caller, Path(job), Document(request)).await?;
    Ok(Redirect::to(&format!("/jobs/{}", voted.0.approval.job_id)).into_response())
}

#[derive(Debug, Deserialize)]
struct Verdict {
    accept: bool,
    reason: Option<String>,
}

async fn settle(
    State(host): Host,
    caller: Caller,
    Path(job): Path<String>,
    Form(verdict): Form<Verdict>,
) -> Result<Response, Trouble> {
    let id = job_id(&job)?;
    let job = if verdict.accept {
        host.engine.accept(id, &caller.actor, verdict.reason).await?
    } else {
        host.engine.decline(id, &caller.actor, verdict.reason).await?
    };
    Ok(Redirect::to(&format!("/jobs/{}", job.job_id)).into_response())
}
