//! What the run did: denials, attempts, calls of models, and every decision.

use std::collections::HashMap;

use handshake_core::Timestamp;
use handshake_core::event::Outcome;
use handshake_recorder::DecisionLine;
use maud::{Markup, html};

use super::{badge, part, shown};
use crate::review::report::{ReportData, ReportedAttempt};

/// Denials that say the same, with the first of them.
fn denied(report: &ReportData) -> Vec<(&DecisionLine, u64)> {
    let mut groups: Vec<(&DecisionLine, u64)> = Vec::new();
    let mut known = HashMap::new();
    for line in report.decisions.iter().filter(|line| line.outcome == Outcome::Deny) {
        let key = (&line.actor, &line.step, &line.capability, &line.resource, &line.reason, &line.layer, &line.rule);
        let at = *known.entry(key).or_insert(groups.len());
        match groups.get_mut(at) {
            Some((_, count)) => *count += 1,
            None => groups.push((line, 1)),
        }
    }
    groups
}

pub(super) fn denials(report: &ReportData) -> Markup {
    /// Kinds of denials that are listed here; all are among the decisions.
    const LISTED: usize = 100;
    let denied = denied(report);
    part(
        "denials",
        "Denials",
        html! {
            @if report.denials.is_empty() { p { "None." } } @else {
                p { @for (reason, count) in &report.denials { (badge("bad", &format!("{reason} {count}"))) " " } }
                div class="wide" { table class="cards" {
                    thead { tr {
                        @for name in ["Who", "Step", "Asked for"] { th scope="col" { (name) } }
                        th scope="col" class="number" { "Times" } th scope="col" { "Denied by" }
                    } }
                    tbody { @for (line, count) in denied.iter().take(LISTED) {
                        tr {
                            th scope="row" { (shown(&line.actor)) }
                            td data-name="Step" { (shown(&line.step)) }
                            td class="resource" { code class="axis" { (shown(&line.capability)) } " " (shown(&line.resource)) }
                            td class="number" data-name="Times" { (count) }
                            td class="what" {
                                a href={ "#d-" (line.event_id.to_string()) } { (shown(line.reason.as_deref().unwrap_or("denied"))) }
                                " by " (shown(&line.layer))
                                @if let Some(rule) = &line.rule { " " code { (shown(rule)) } }
                            }
                        }
                    } }
                } }
                @if denied.len() > LISTED { p { "The first " (LISTED) " of " (denied.len()) ". All are among the decisions." } }
            }
        },
    )
}

/// When which attempt ran.
pub(crate) fn timeline_of(attempts: &[ReportedAttempt], made: Timestamp) -> Markup {
    /// Attempts that are drawn.
    const DRAWN: usize = 500;
    let start = attempts.iter().map(|attempt| attempt.started_at).min().unwrap_or(made);
    let ends = attempts.iter().map(|attempt| attempt.finished_at.unwrap_or(attempt.started_at));
    let whole = ends.max().unwrap_or(start).since(start).as_secs_f64().max(0.001);
    part(
        "timeline",
        "Timeline",
        html! {
            @if attempts.is_empty() { p { "No step has run." } } @else {
                ol class="timeline" {
                    @for attempt in attempts.iter().take(DRAWN) { (drawn(attempt, start, whole)) }
                }
                @if attempts.len() > DRAWN { p { "The first " (DRAWN) " of " (attempts.len()) " attempts." } }
            }
        },
    )
}

/// Bars are drawn by SVG, since a style of their own would need a hole in the page's policy.
fn drawn(attempt: &ReportedAttempt, start: Timestamp, whole: f64) -> Markup {
    let began = attempt.started_at.since(start).as_secs_f64();
    let lasted = attempt.finished_at.map(|end| end.since(attempt.started_at).as_secs_f64());
    let x = (began / whole * 1000.0).min(996.0);
    let width = (lasted.unwrap_or(0.0) / whole * 1000.0).max(4.0).min(1000.0 - x);
    let tone = match (attempt.state.as_str(), &attempt.error) {
        (_, Some(_)) | ("failed", _) => "bad",
        ("completed", _) => "good",
        _ => "odd",
    };
    html! {
        li {
            span class="what" {
                b { (shown(&attempt.step)) }
                @if attempt.attempt > 1 { " attempt " (attempt.attempt) }
                @if let Some(plugin) = &attempt.plugin { " " (shown(plugin)) }
            }
            svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                rect class=(tone) x=(format!("{x:.1}")) width=(format!("{width:.1}")) height="10" {}
            }
            span class="when" {
                @match lasted {
                    Some(lasted) => { (format!("+{began:.2} s, {:.0} ms", lasted * 1e3)) }
                    None => { (format!("+{began:.2} s, {}", shown(&attempt.state))) }
                }
            }
            @if let Some(error) = &attempt.error { span class="warn" { (shown(error)) } }
        }
    }
}

pub(super) fn models(report: &ReportData) -> Markup {
    const NUMBERS: [&str; 5] = ["Calls", "Failed", "Prompt tokens", "Answer tokens", "Time, ms"];
    part(
        "models",
        "Models",
        html! {
            @if report.models.is_empty() { p { "None was called." } } @else {
                div class="wide" { table class="cards" {
                    thead { tr {
                        @for name in ["Model", "Step"] { th scope="col" { (name) } }
                        @for name in NUMBERS { th scope="col" class="number" { (name) } }
                    } }
                    tbody { @for model in &report.models {
                        tr {
                            th scope="row" { (shown(&model.model)) }
                            td data-name="Step" { (shown(&model.step)) }
                            @let numbers = [model.calls, model.failed, model.prompt_tokens, model.completion_tokens, model.latency_ms];
                            @for (name, number) in NUMBERS.iter().zip(numbers) {
                                td class="number" data-name=(name) { (number) }
                            }
                        }
                    } }
                } }
            }
        },
    )
}

pub(super) fn decisions(report: &ReportData) -> Markup {
    let shown = report.decisions.len() as u64;
    part(
        "decisions",
        "Decisions",
        html! {
            @if report.decisions_total > shown {
                p class="warn" { "The first " (shown) " of " (report.decisions_total) " decisions; handshake audit export has all." }
            }
            form id="filters" role="search" {
                label { "Search " input id="words" type="search" autocomplete="off" placeholder="resource, step, plugin, reason"; }
                label { "Decision " select id="outcome" {
                    option value="" { "all" } option value="0" { "allowed" } option value="1" { "denied" } option value="2" { "would be denied" }
                } }
                label { "Capability " select id="capability" { option value="" { "all" } } }
            }
            p id="count" role="status" { noscript { "The list needs JavaScript; everything above does not." } }
            div class="wide" { table id="list" {
                thead { tr {
                    @for name in ["No.", "Time", "Who", "Step", "Capability", "Resource", "Decision", "Rule"] {
                        th scope="col" { (name) }
                    }
                } }
                tbody id="rows" {}
            } }
            nav class="pages" aria-label="Pages of decisions" {
                button type="button" id="earlier" { "Earlier" } span id="page" {} button type="button" id="later" { "Later" }
            }
        },
    )
}
