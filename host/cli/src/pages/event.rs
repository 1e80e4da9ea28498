//! One event, and if it is a decision, how it came about.

use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use handshake_core::token::Right;
use handshake_recorder::RecordedEvent;
use maud::{Markup, html};

use super::recorder::what;
use super::{Frame, Trouble, badge, lines, moment, part, shown};
use crate::api::audit::event_id;
use crate::api::{Caller, Host, Routes};
use crate::review::Source;
use crate::review::explain::{self, Explanation, LayerLine, Said};

pub(super) fn routes() -> Routes {
    Routes::new().on(Right::Audit, "/recorder/{event}", get(show))
}

async fn show(State(host): Host, caller: Caller, Path(id): Path<String>) -> Result<Response, Trouble> {
    let id = event_id(&id)?;
    let event = explain::found(&host, id).await?;
    let explained = match event.event["event_type"].as_str() {
        Some("capability_action") => Some(explain::explain(&host, id).await?),
        _ => None,
    };
    let title = format!("{} {}", event.event["event_type"].as_str().unwrap_or_default(), event.seq);
    Ok(Frame::of(&caller, &title, "/recorder").around(html! {
        (head(&event))
        @if let Some(explained) = &explained { (explanation(explained)) }
        (part("payload", "As it was recorded", html! { pre { (recorded(&event)) } }))
    }))
}

fn recorded(event: &RecordedEvent) -> String {
    let text = serde_json::to_string_pretty(&event.event).unwrap_or_default();
    lines(&text)
}

fn head(event: &RecordedEvent) -> Markup {
    let of = |name: &str| event.event[name].as_str();
    let links = [("Job", "job_id", "job_id"), ("Run", "workflow_run_id", "run_id"), ("Trace", "trace_id", "trace_id")];
    part(
        "event",
        "Event",
        html! {
            p { (what(event)) }
            dl {
                dt { "Event" } dd { a href={ "/recorder/" (of("event_id").unwrap_or_default()) } { code { (of("event_id").unwrap_or_default()) } } }
                dt { "Recorded" } dd { (event.recorded_at.to_string()) ", number " (event.seq) }
                dt { "Who" } dd { (shown(event.event["actor"]["id"].as_str().unwrap_or_default())) ", "
                    (shown(event.event["actor"]["kind"].as_str().unwrap_or_default())) }
                @for (name, field, filter) in links { @if let Some(id) = of(field) {
                    dt { (name) } dd {
                        a href={ "/recorder?" (filter) "=" (id) } { code { (id) } }
                        @if field == "job_id" { " " a href={ "/jobs/" (id) } { "its page" } }
                    }
                } }
                @if let Some(step) = of("step_id") { dt { "Step" } dd { (shown(step)) } }
                dt { "SHA-256 of its record" } dd { code { (event.hash.to_string()) } }
            }
        },
    )
}

fn source(source: &Source) -> Markup {
    html! {
        p { code { (shown(&source.file)) ":" (source.line) } }
        @if let Some(text) = &source.text { pre { (lines(text)) } }
    }
}

fn layer(line: &LayerLine) -> Markup {
    let (class, tone, says) = match line.says {
        Said::Allows => ("allows", "good", "allows"),
        Said::Refuses => ("refuses", "bad", "refuses"),
        Said::WouldRefuse => ("refuses", "odd", "would refuse"),
        Said::Unknown => ("unknown", "odd", "cannot be told any more"),
    };
    html! {
        li class=(class) {
            strong { (shown(&line.layer)) } " " (badge(tone, says))
            @if line.decided { " " (badge(tone, "decided")) }
            @if !line.asked { " (was not asked any more)" }
            p { (shown(&line.why)) }
            @if let Some(where_written) = &line.source { (source(where_written)) }
            @if let Some(remedy) = &line.remedy { p { "To allow it: " code { (shown(remedy)) } } }
        }
    }
}

fn explanation(explained: &Explanation) -> Markup {
    html! {
        (part("why", "How it was decided", html! {
            ol class="layers" { @for line in &explained.layers { (layer(line)) } }
            @for note in &explained.notes { p { (shown(note)) } }
        }))
        (part("consequences", "What followed", html! {
            @if explained.consequences.is_empty() { p class="empty" { "Nothing is on record." } } @else {
                ul { @for event in &explained.consequences {
                    li { a href={ "/recorder/" (event.event["event_id"].as_str().unwrap_or_default()) } {
                        (moment(event.recorded_at)) " " (event.event["event_type"].as_str().unwrap_or_default()) } " " (what(event)) }
                } }
            }
            p {
                @if let Some(previous) = explained.previous { a href={ "/recorder/" (previous.to_string()) } { "The decision before" } " " }
                @if let Some(next) = explained.next { a href={ "/recorder/" (next.to_string()) } { "The decision behind" } }
            }
        }))
    }
}
