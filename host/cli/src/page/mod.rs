//! The report as one page that needs nothing else: no network, no other file.
//!
//! Almost all text in it was chosen by guests. It is escaped twice: what would reorder or hide text becomes visible, as on
//! a terminal, and then maud escapes what HTML would take for markup. The list of decisions travels as JSON in a block
//! that is never executed, and the script puts it into the page as text alone. The page's own policy (CSP) lets no other
//! script run, and loads nothing.

mod data;

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handshake_core::event::{Judgement, Outcome};
use handshake_core::{Digest, Timestamp};
use handshake_recorder::DecisionLine;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::error::CliError;
use crate::review::matrix::MatrixLine;
use crate::review::report::{ReportData, ReportedAttempt};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Text from outside, with what would hide or reorder it made visible.
fn shown(text: &str) -> String {
    handshake_core::terminal::escape(text, false).into_owned()
}

/// Writes the page.
pub(crate) fn render(report: &ReportData) -> Result<String, CliError> {
    let policy = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'",
        STANDARD.encode(Digest::of(STYLE.as_bytes()).as_bytes()),
        STANDARD.encode(Digest::of(SCRIPT.as_bytes()).as_bytes()),
    );
    let data = data::json(report)?;
    let title = format!("{}: {}", shown(&report.run.workflow), report.run.run_id);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#decisions" { "To the decisions" }
                header {
                    p class="kind" { "Review of a run" }
                    h1 { (shown(&report.run.workflow)) }
                    p class="id" { code { (report.run.run_id.to_string()) } }
                    (badges(report))
                    nav aria-label="Parts" {
                        @for (id, name) in PARTS { a href={ "#" (id) } { (name) } }
                    }
                }
                main {
                    (summary(report))
                    (sign_offs(report))
                    (matrix(report))
                    (denials(report))
                    (timeline(report))
                    (models(report))
                    (decisions(report))
                }
                footer {
                    "Made by handshake " (report.version) " at " (moment(report.made_at))
                    ". The page is a copy; the signed record is what counts: "
                    code { "handshake audit verify" }
                }
                script id="data" type="application/json" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

const PARTS: [(&str, &str); 7] = [
    ("summary", "Summary"),
    ("sign-off", "Sign-off"),
    ("matrix", "Matrix"),
    ("denials", "Denials"),
    ("timeline", "Timeline"),
    ("models", "Models"),
    ("decisions", "Decisions"),
];

fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(second, _)| format!("{second}Z")).replace('T', " ")
}

fn badge(tone: &str, text: &str) -> Markup {
    html! { span class={ "badge " (tone) } { (shown(text)) } }
}

fn badges(report: &ReportData) -> Markup {
    let denied: u64 = report.denials.values().sum();
    let state = report.run.state.as_str();
    let tone = match state {
        "completed" => "good",
        "failed" => "bad",
        _ => "odd",
    };
    html! {
        p class="badges" {
            (badge(tone, state))
            @match &report.verification.finding {
                Some(_) => (badge("bad", "record does not verify")),
                None => (badge("good", "record verified")),
            }
            @if denied > 0 { (badge("bad", &format!("{denied} denied"))) } @else { (badge("good", "nothing denied")) }
            @if !report.violations.is_empty() {
                (badge("bad", &format!("{} violations", report.violations.len())))
            }
            @match report.sign_offs.iter().rfind(|line| line.problem.is_none()).map(|line| line.statement.body.verdict) {
                Some(Judgement::Accept) => (badge("good", "accepted")),
                Some(Judgement::Reject) => (badge("bad", "rejected")),
                None => (badge("odd", "not signed")),
            }
        }
    }
}

fn part(id: &str, name: &str, content: Markup) -> Markup {
    html! { section id=(id) aria-labelledby={ (id) "-name" } { h2 id={ (id) "-name" } { (name) } (content) } }
}

fn summary(report: &ReportData) -> Markup {
    let run = &report.run;
    let verification = &report.verification;
    let allowed: u64 = report.matrix.rows.iter().map(|line| line.row.allowed).sum();
    let lasted = run.updated_at.since(run.created_at).as_secs_f64();
    part(
        "summary",
        "Summary",
        html! {
            @if let Some(before) = report.incomplete_before {
                p class="warn" { "What was recorded before " (moment(before)) " is not kept any more." }
            }
            @if let Some(error) = &run.error { p class="warn" { (shown(error)) } }
            @for violation in &report.violations {
                p class="warn" {
                    "Violation: " (shown(violation.event["payload"]["kind"].as_str().unwrap_or_default())) ", "
                    (shown(violation.event["payload"]["detail"].as_str().unwrap_or_default()))
                }
            }
            dl {
                dt { "Job" } dd { code { (run.job_id.to_string()) } " " (run.job_state.as_str()) ": " (shown(&run.reason)) }
                dt { "Trace" } dd { code { (run.trace_id.to_string()) } }
                dt { "Made" } dd { (moment(run.created_at)) ", over after " (format!("{lasted:.1}")) " s" }
                dt { "Rights" } dd {
                    "profile " code { (run.profile) } ", " code { (run.access_mode.as_str()) } ", safety "
                    code { (run.safety_mode.as_str()) }
                }
                dt { "Decisions" } dd { (allowed) " allowed, " (report.denials.values().sum::<u64>()) " denied" }
                dt { "Tokens" } dd {
                    (run.metrics.input_tokens) " in, " (run.metrics.output_tokens) " out"
                }
                dt { "Record" } dd {
                    @match &verification.finding {
                        Some(finding) => {
                            strong class="bad" { "wrong at event " (finding.seq) ": " } (shown(&finding.reason))
                        }
                        None => {
                            "as it was recorded, up to number " (verification.seq)
                            @if verification.self_consistent_only { "; consistent with itself, no outside head was compared" }
                        }
                    }
                }
                dt { "Last hash" } dd { code { (verification.hash.to_string()) } }
                dt { "Policy" } dd { code { (run.pinned.policy.to_string()) } }
                dt { "Workflow" } dd { code { (run.pinned.workflow.to_string()) } }
                @for (label, pinned) in &run.pinned.plugins {
                    dt { (shown(label)) } dd { "component " code { (pinned.component.to_string()) } }
                }
            }
        },
    )
}

fn sign_offs(report: &ReportData) -> Markup {
    part(
        "sign-off",
        "Sign-off",
        html! {
            @if report.sign_offs.is_empty() {
                p {
                    "Nobody has signed. "
                    code { "handshake audit sign-off " (report.run.run_id.to_string()) " --as NAME --verdict accept" }
                }
            } @else {
                div class="wide" { table {
                    thead { tr { th scope="col" { "Signed" } th scope="col" { "Who" } th scope="col" { "Verdict" } th scope="col" { "Note" } th scope="col" { "Signature" } } }
                    tbody {
                        @for line in &report.sign_offs {
                            @let said = &line.statement.body;
                            tr {
                                td { (moment(said.signed_at)) }
                                td { (shown(&said.name)) }
                                td { (badge(if said.verdict == Judgement::Accept { "good" } else { "bad" }, said.verdict.as_str())) }
                                td { (shown(&said.note)) }
                                td {
                                    @match (&line.problem, line.event) {
                                        (Some(problem), _) => (badge("bad", problem)),
                                        (None, Some(_)) => "right, on record",
                                        (None, None) => "right; its event is not kept any more",
                                    }
                                    ", up to record " (said.seq)
                                }
                            }
                        }
                    }
                } }
            }
        },
    )
}

fn ids(axis: &str, ids: &[String]) -> Markup {
    let scope = |id: &str| match id.strip_prefix(axis).and_then(|rest| rest.strip_prefix(':')) {
        Some(scope) => shown(scope),
        None => "all".to_owned(),
    };
    html! { @if ids.is_empty() { "–" } @else { @for id in ids { code { (scope(id)) } " " } } }
}

fn matrix(report: &ReportData) -> Markup {
    // What is only declared is what the plugin's author thought of; it is there for who looks for it.
    let is_quiet = |line: &&MatrixLine| line.granted.is_empty() && line.row.allowed + line.row.denied == 0;
    let quiet: Vec<_> = report.matrix.rows.iter().filter(is_quiet).collect();
    let header = ["Plugin", "Capability", "Declared", "Granted", "Allowed", "Denied", "What stands out"];
    part(
        "matrix",
        "Matrix",
        html! {
            div class="wide" { table class="cards" {
                thead { tr {
                    @for name in header { th scope="col" class=[matches!(name, "Allowed" | "Denied").then_some("number")] { (name) } }
                } }
                tbody { @for line in report.matrix.rows.iter().filter(|line| !is_quiet(line)) { (matrix_row(line)) } }
            } }
            @if !quiet.is_empty() {
                details {
                    summary { (quiet.len()) " more are declared, and were neither granted nor asked for" }
                    ul { @for line in quiet {
                        li { (shown(&line.row.plugin)) " " code { (shown(&line.row.capability)) } }
                    } }
                }
            }
        },
    )
}

fn matrix_row(line: &MatrixLine) -> Markup {
    let row = &line.row;
    html! {
        tr class=[(row.denied > 0).then_some("alert")] {
            th scope="row" { (shown(&row.plugin)) }
            td data-name="Capability" { code class="axis" { (shown(&row.capability)) } }
            td data-name="Declared" { (ids(&row.capability, &line.declared)) }
            td data-name="Granted" { (ids(&row.capability, &line.granted)) }
            td class="number" data-name="Allowed" { (row.allowed) }
            td class="number" data-name="Denied" { (row.denied) }
            td class="what" {
                @for (reason, count) in &row.denied_reasons { (badge("bad", &format!("denied: {reason} {count}"))) " " }
                @if row.would_deny > 0 { (badge("odd", &format!("would be denied: {}", row.would_deny))) " " }
                @if !line.unused_grants.is_empty() {
                    (badge("odd", "never used")) " " (ids(&row.capability, &line.unused_grants))
                }
                @if line.new_resources_total > 0 {
                    details { summary { "new: " (line.new_resources_total) }
                        ul { @for resource in &line.new_resources { li { code { (shown(resource)) } } } }
                    }
                }
            }
        }
    }
}

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

fn denials(report: &ReportData) -> Markup {
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

fn timeline(report: &ReportData) -> Markup {
    /// Attempts that are drawn.
    const DRAWN: usize = 500;
    let start = report.attempts.iter().map(|attempt| attempt.started_at).min().unwrap_or(report.run.created_at);
    let ends = report.attempts.iter().map(|attempt| attempt.finished_at.unwrap_or(attempt.started_at));
    let whole = ends.max().unwrap_or(start).since(start).as_secs_f64().max(0.001);
    part(
        "timeline",
        "Timeline",
        html! {
            @if report.attempts.is_empty() { p { "No step has run." } } @else {
                ol class="timeline" {
                    @for attempt in report.attempts.iter().take(DRAWN) { (drawn(attempt, start, whole)) }
                }
                @if report.attempts.len() > DRAWN { p { "The first " (DRAWN) " of " (report.attempts.len()) " attempts." } }
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

fn models(report: &ReportData) -> Markup {
    part(
        "models",
        "Models",
        html! {
            @if report.models.is_empty() { p { "None was called." } } @else {
                div class="wide" { table {
                    thead { tr {
                        @for name in ["Model", "Step", "Calls", "Failed", "Prompt tokens", "Answer tokens", "Time"] {
                            th scope="col" { (name) }
                        }
                    } }
                    tbody { @for model in &report.models {
                        tr {
                            th scope="row" { (shown(&model.model)) } td { (shown(&model.step)) }
                            td class="number" { (model.calls) } td class="number" { (model.failed) }
                            td class="number" { (model.prompt_tokens) } td class="number" { (model.completion_tokens) }
                            td class="number" { (model.latency_ms) " ms" }
                        }
                    } }
                } }
            }
        },
    )
}

fn decisions(report: &ReportData) -> Markup {
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
