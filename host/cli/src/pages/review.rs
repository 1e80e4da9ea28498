//! Capabilities: what was declared, granted, used and denied, and what another policy would have said.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use handshake_core::token::Right;
use handshake_core::{JobId, RunId};
use handshake_recorder::MatrixQuery;
use maud::{Markup, html};
use serde::Deserialize;

use super::form::{Filter, Form};
use super::{Frame, Trouble, badge, part, shown};
use crate::api::{Caller, Host, Routes};
use crate::page;
use crate::review::matrix::matrix;
use crate::review::replay::{FlipLine, ReplayRequest, Replayed, replay};

pub(super) fn routes() -> Routes {
    Routes::new().on(Right::Audit, "/capabilities", get(show).post(another))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    plugin: Option<String>,
    job_id: Option<JobId>,
    run_id: Option<RunId>,
}

async fn show(State(host): Host, caller: Caller, Filter(wanted): Filter<Wanted>) -> Result<Response, Trouble> {
    let query = MatrixQuery {
        plugin: wanted.plugin.clone(),
        job_id: wanted.job_id,
        run_id: wanted.run_id,
        ..MatrixQuery::default()
    };
    let found = matrix(&host, &query).await?;
    let id = |id: Option<String>| id.unwrap_or_default();
    Ok(Frame::of(&caller, "Capabilities", "/capabilities").around(html! {
        section {
            form class="filters" method="get" action="/capabilities" role="search" {
                label { "Plugin " input name="plugin" value=(id(wanted.plugin.clone())) autocomplete="off"; }
                label { "Job " input name="job_id" value=(id(wanted.job_id.map(|id| id.to_string()))) autocomplete="off"; }
                label { "Run " input name="run_id" value=(id(wanted.run_id.map(|id| id.to_string()))) autocomplete="off"; }
                button { "Filter" }
                a href="/capabilities" { "All" }
            }
            p { "About " (found.runs) @if found.runs == 1 { " run." } @else { " runs." } @if found.more_runs { " There are more, whose declarations and grants are not shown." } }
        }
        (page::matrix_of(&found.rows))
        (ask(""))
        p { "A run is signed off on its own page, when it is over." }
    }))
}

fn ask(text: &str) -> Markup {
    part(
        "replay",
        "What would another policy have said?",
        html! {
            form class="stack" method="post" action="/capabilities" {
                label { "policy.toml" textarea name="policy" rows="10" required spellcheck="false" { (text) } }
                div class="actions" { button { "Replay all decisions" } }
            }
        },
    )
}

#[derive(Debug, Deserialize)]
struct Another {
    #[serde(default)]
    policy: String,
}

async fn another(State(host): Host, caller: Caller, Form(given): Form<Another>) -> Result<Response, Trouble> {
    let request = ReplayRequest { name: "policy.toml".to_owned(), text: given.policy.clone(), since: None };
    let replayed = replay(&host, request).await?;
    Ok(Frame::of(&caller, "Capabilities", "/capabilities").around(html! {
        (result(&replayed))
        (ask(&given.policy))
    }))
}

fn result(replayed: &Replayed) -> Markup {
    part(
        "flips",
        "What would have changed",
        html! {
            p { (replayed.flipped) " of " (replayed.decided) " calls would have ended otherwise; "
                (replayed.unaffected) " were refused by another layer, which no policy changes." }
            @if replayed.undecided > 0 { p { (replayed.undecided) " cannot be told: their record does not show the whole resource." } }
            @if !replayed.flips.is_empty() {
                div class="wide" { table class="cards" {
                    thead { tr { @for name in ["Plugin", "Capability", "Was", "Becomes", "Rule", "Calls", "For example"] { th scope="col" { (name) } } } }
                    tbody { @for flip in &replayed.flips { (row(flip)) } }
                } }
            }
        },
    )
}

fn row(flip: &FlipLine) -> Markup {
    let tone = |fate: &str| if fate == "allow" { "good" } else { "bad" };
    let (was, becomes) = (flip.was.to_string(), flip.becomes.to_string());
    html! {
        tr {
            th scope="row" { (shown(&flip.plugin)) }
            td data-name="Capability" { code { (shown(&flip.capability)) } }
            td data-name="Was" { (badge(tone(&was), &was)) }
            td data-name="Becomes" { (badge(tone(&becomes), &becomes)) }
            td class="what" data-name="Rule" { @if let Some(rule) = &flip.rule { code { (shown(&rule.file)) ":" (rule.line) } } @else { "none" } }
            td data-name="Calls" { (flip.count) }
            td class="what" { @for example in &flip.examples { code { (shown(&example.resource)) } " " } }
        }
    }
}
