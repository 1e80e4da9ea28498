//! The report as one page that needs nothing else: no network, no other file.
//!
//! Almost all text in it was chosen by guests. It is escaped twice: what would reorder or hide text becomes visible, as on
//! a terminal, and then maud escapes what HTML would take for markup. The list of decisions travels as JSON in a block
//! that is never executed, and the script puts it into the page as text alone. The page's own policy (CSP) lets no other
//! script run, and loads nothing.

mod data;
mod lists;
mod overview;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handshake_core::{Digest, Timestamp};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::error::CliError;
use crate::review::report::ReportData;
use lists::{decisions, denials, models};
use overview::{badges, summary};

pub(crate) use lists::timeline_of;
pub(crate) use overview::{matrix_of, sign_offs_of};

/// The style of the report, which pages share.
pub(crate) const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Text from outside, with what would hide or reorder it made visible.
pub(crate) fn shown(text: &str) -> String {
    handshake_core::terminal::escape(text, false).into_owned()
}

/// The same for text of several lines.
pub(crate) fn lines(text: &str) -> String {
    handshake_core::terminal::escape(text, true).into_owned()
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
                    (sign_offs_of(&report.sign_offs))
                    @if report.sign_offs.is_empty() { p class="id" { code { "handshake audit sign-off " (report.run.run_id.to_string()) " --as NAME --verdict accept" } } }
                    (matrix_of(&report.matrix.rows))
                    (denials(report))
                    (timeline_of(&report.attempts, report.run.created_at))
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

/// A moment, to the second.
pub(crate) fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(second, _)| format!("{second}Z")).replace('T', " ")
}

/// A word with a colour.
pub(crate) fn badge(tone: &str, text: &str) -> Markup {
    html! { span class={ "badge " (tone) } { (shown(text)) } }
}

/// A part of a page.
pub(crate) fn part(id: &str, name: &str, content: Markup) -> Markup {
    html! { section id=(id) aria-labelledby={ (id) "-name" } { h2 id={ (id) "-name" } { (name) } (content) } }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
