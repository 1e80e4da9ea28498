//! What a reviewer looks at first: how it ended, who has signed, and the matrix.

use handshake_core::event::Judgement;
use maud::{Markup, html};

use super::{badge, moment, part, shown};
use crate::review::matrix::MatrixLine;
use crate::review::report::ReportData;
use crate::review::sign_off::SignOffLine;
use crate::review::told_elsewhere;

pub(super) fn badges(report: &ReportData) -> Markup {
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

pub(super) fn summary(report: &ReportData) -> Markup {
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
            @if let Some(elsewhere) = told_elsewhere(&report.matrix.elsewhere) {
                p class="warn" { "Not all of it is here: " (elsewhere) "." }
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

/// Who has signed.
pub(crate) fn sign_offs_of(signed: &[SignOffLine]) -> Markup {
    part(
        "sign-off",
        "Sign-off",
        html! {
            @if signed.is_empty() { p { "Nobody has signed." } } @else {
                div class="wide" { table class="cards" {
                    thead { tr { @for name in ["Signed", "Who", "Verdict", "Note", "Signature"] { th scope="col" { (name) } } } }
                    tbody {
                        @for line in signed {
                            @let said = &line.statement.body;
                            tr {
                                th scope="row" { (moment(said.signed_at)) }
                                td data-name="Who" { (shown(&said.name)) }
                                td data-name="Verdict" { (badge(if said.verdict == Judgement::Accept { "good" } else { "bad" }, said.verdict.as_str())) }
                                td class="what" { (shown(&said.note)) }
                                td class="what" {
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

/// What was declared, granted, used and denied.
pub(crate) fn matrix_of(rows: &[MatrixLine]) -> Markup {
    // What is only declared is what the plugin's author thought of; it is there for who looks for it.
    let is_quiet = |line: &&MatrixLine| line.granted.is_empty() && line.row.allowed + line.row.denied == 0;
    let quiet: Vec<_> = rows.iter().filter(is_quiet).collect();
    let header = ["Plugin", "Capability", "Declared", "Granted", "Allowed", "Denied", "What stands out"];
    part(
        "matrix",
        "Matrix",
        html! {
            div class="wide" { table class="cards" {
                thead { tr {
                    @for name in header { th scope="col" class=[matches!(name, "Allowed" | "Denied").then_some("number")] { (name) } }
                } }
                tbody { @for line in rows.iter().filter(|line| !is_quiet(line)) { (matrix_row(line)) } }
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
