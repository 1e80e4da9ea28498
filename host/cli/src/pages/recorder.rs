//! The flight recorder: events, filtered.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use handshake_core::event::{EventType, Outcome};
use handshake_core::token::Right;
use handshake_core::{JobId, RunId, Timestamp, TraceId};
use handshake_recorder::{EventQuery, RecordedEvent};
use maud::{Markup, html};
use serde::Deserialize;

use super::form::Filter;
use super::{Frame, Trouble, badge, moment, shown};
use crate::access::with_parameters;
use crate::api::{Caller, Host, Routes};
use crate::error::CliError;
use crate::review::summary;

/// Events on a page.
const ROWS: u32 = 50;
/// Characters of a summary.
const LONGEST: usize = 300;

pub(super) fn routes() -> Routes {
    Routes::new().on(Right::Audit, "/recorder", get(list))
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    job_id: Option<JobId>,
    run_id: Option<RunId>,
    trace_id: Option<TraceId>,
    from: Option<String>,
    to: Option<String>,
    event_type: Option<EventType>,
    capability_id: Option<String>,
    decision_outcome: Option<Outcome>,
    actor: Option<String>,
    before: Option<String>,
}

/// A moment as people write one: RFC 3339, or without seconds or zone, which is then UTC.
fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, CliError> {
    let Some(text) = text.map(str::trim) else { return Ok(None) };
    let forms = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    let found = forms.iter().find_map(|form| Timestamp::parse(form));
    let wrong = || {
        CliError::usage(format!("{name}: `{}` is not a moment", shown(text)))
            .hint("write 2026-01-31, 2026-01-31T08:00 or 2026-01-31T08:00:00Z; the time is UTC")
    };
    found.map(Some).ok_or_else(wrong)
}

impl Wanted {
    fn query(&self) -> Result<EventQuery, CliError> {
        Ok(EventQuery {
            job_id: self.job_id,
            run_id: self.run_id,
            trace_id: self.trace_id,
            from: time("From", self.from.as_deref())?,
            to: time("To", self.to.as_deref())?,
            event_type: self.event_type,
            capability_id: self.capability_id.clone(),
            decision_outcome: self.decision_outcome,
            actor: self.actor.clone(),
            before: self.before.clone(),
            limit: ROWS,
            ..EventQuery::default()
        })
    }

    /// The address of this page, or of the one behind an event.
    fn path(&self, before: Option<String>) -> String {
        with_parameters(
            "/recorder",
            [
                ("job_id", self.job_id.map(|id| id.to_string())),
                ("run_id", self.run_id.map(|id| id.to_string())),
                ("trace_id", self.trace_id.map(|id| id.to_string())),
                ("from", self.from.clone()),
                ("to", self.to.clone()),
                ("event_type", self.event_type.map(|kind| kind.as_str().to_owned())),
                ("capability_id", self.capability_id.clone()),
                ("decision_outcome", self.decision_outcome.map(|outcome| outcome.as_str().to_owned())),
                ("actor", self.actor.clone()),
                ("before", before),
            ],
        )
    }

    /// The stream of what comes behind this page, as far as it can be filtered there.
    fn live(&self) -> Option<String> {
        let plain = self.from.is_none()
            && self.to.is_none()
            && self.capability_id.is_none()
            && self.decision_outcome.is_none()
            && self.actor.is_none()
            && self.before.is_none();
        plain.then(|| {
            let path = with_parameters(
                "/api/v1/recorder/live",
                [
                    ("job_id", self.job_id.map(|id| id.to_string())),
                    ("run_id", self.run_id.map(|id| id.to_string())),
                    ("trace_id", self.trace_id.map(|id| id.to_string())),
                    ("event_type", self.event_type.map(|kind| kind.as_str().to_owned())),
                ],
            );
            format!("count {path}")
        })
    }
}

async fn list(State(host): Host, caller: Caller, Filter(wanted): Filter<Wanted>) -> Result<Response, Trouble> {
    let page = host.projection().await?.events(&wanted.query()?).await?;
    let live = wanted.live();
    let types = EventType::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ");
    let frame = Frame { live, ..Frame::of(&caller, "Flight recorder", "/recorder") };
    Ok(frame.around(html! {
        div class="news" id="news" role="status" data-types=(types) {}
        section {
            (filters(&wanted))
            @if let Some(before) = page.incomplete_before {
                p class="warn" { "What was recorded before " (moment(before)) " is not kept any more." }
            }
            @if page.events.is_empty() { p class="empty" { "No events." } } @else {
                div class="wide" { table class="cards" {
                    thead { tr { @for name in ["Time", "Who", "Type", "Step", "What"] { th scope="col" { (name) } } } }
                    tbody { @for event in &page.events { (row(event)) } }
                } }
            }
            @if let Some(next) = page.next { p class="more" { a href=(wanted.path(Some(next))) rel="next" { "Earlier" } } }
        }
    }))
}

fn filters(wanted: &Wanted) -> Markup {
    let id = |id: Option<String>| id.unwrap_or_default();
    let texts = [
        ("job_id", "Job", id(wanted.job_id.map(|id| id.to_string()))),
        ("trace_id", "Trace", id(wanted.trace_id.map(|id| id.to_string()))),
        ("from", "From (UTC)", id(wanted.from.clone())),
        ("to", "To (UTC)", id(wanted.to.clone())),
        ("actor", "Who", id(wanted.actor.clone())),
        ("capability_id", "Capability", id(wanted.capability_id.clone())),
    ];
    html! {
        form class="filters" method="get" action="/recorder" role="search" {
            @for (name, label, value) in texts { label { (label) " " input name=(name) value=(value) autocomplete="off"; } }
            label { "Type " select name="event_type" {
                option value="" { "any" }
                @for kind in EventType::ALL { option value=(kind.as_str()) selected[wanted.event_type == Some(*kind)] { (kind.as_str()) } }
            } }
            label { "Decision " select name="decision_outcome" {
                option value="" { "any" }
                @for outcome in [Outcome::Allow, Outcome::Deny] {
                    option value=(outcome.as_str()) selected[wanted.decision_outcome == Some(outcome)] { (outcome.as_str()) }
                }
            } }
            @if let Some(run) = wanted.run_id { input type="hidden" name="run_id" value=(run.to_string()); }
            button { "Filter" }
            a href="/recorder" { "All" }
        }
    }
}

fn row(event: &RecordedEvent) -> Markup {
    let of = |name: &str| event.event[name].as_str().unwrap_or_default();
    html! {
        tr class=[(event.event["payload"]["decision_outcome"] == "deny").then_some("alert")] {
            th scope="row" class="id" { a href={ "/recorder/" (of("event_id")) } { (moment(event.recorded_at)) } }
            td class="who" data-name="Who" { (shown(event.event["actor"]["id"].as_str().unwrap_or_default())) }
            td data-name="Type" { code class="axis" { (of("event_type")) } }
            td data-name="Step" { (shown(of("step_id"))) }
            td class="what" { (what(event)) }
        }
    }
}

/// What an event is about, in a line.
pub(super) fn what(event: &RecordedEvent) -> Markup {
    let payload = &event.event["payload"];
    let of = |name: &str| payload[name].as_str().unwrap_or_default();
    if event.event["event_type"] != "capability_action" {
        return html! { (cut(&shown(&summary::what(&event.event)))) };
    }
    let (tone, outcome) = if of("decision_outcome") == "deny" { ("bad", "denied") } else { ("good", "allowed") };
    html! {
        (badge(tone, outcome)) " " code { (shown(of("capability_id"))) } " " (cut(&shown(of("resource")))) " " (shown(of("reason")))
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
