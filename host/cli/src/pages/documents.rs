//! Documents, and who changed what of them through which job.

use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use handshake_core::DocumentId;
use handshake_core::content::ContentKind;
use handshake_core::edit::{EditAction, EditMetadata};
use handshake_core::storage::Page;
use handshake_core::token::Right;
use handshake_engine::documents::version;
use maud::{Markup, html};
use serde::Deserialize;

use super::form::Filter;
use super::{Frame, Trouble, lines, moment, part, shown};
use crate::api::documents::stored;
use crate::api::{Caller, Host, Routes};
use crate::review::history::{DocumentEdit, DocumentHistory, history};

/// Documents on a page, and blocks of one.
const ROWS: u32 = 50;
const MOST_BLOCKS: usize = 500;
/// Changes of one that are listed.
const MOST_ROWS: usize = 200;
/// Characters of a block that are shown.
const LONGEST: usize = 4_000;

pub(super) fn routes() -> Routes {
    Routes::new().on(Right::Audit, "/documents", get(list)).on(Right::Audit, "/documents/{id}", get(show))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    after: Option<DocumentId>,
}

async fn list(State(host): Host, caller: Caller, Filter(wanted): Filter<Wanted>) -> Result<Response, Trouble> {
    let documents = host.database.documents(None, &Page { limit: ROWS, after: wanted.after }).await?;
    let next = documents.last().filter(|_| documents.len() == ROWS as usize);
    Ok(Frame::of(&caller, "Documents", "/documents").around(html! {
        section {
            @if documents.is_empty() { p class="empty" { "No documents; " code { "handshake documents import" } " takes Markdown in." } } @else {
                div class="wide" { table class="cards" {
                    thead { tr { @for name in ["Document", "Changed", "By", "Through"] { th scope="col" { (name) } } } }
                    tbody { @for document in &documents {
                        tr {
                            th scope="row" { a href={ "/documents/" (document.content.document_id.to_string()) } {
                                (shown(if document.content.title.is_empty() { "without a title" } else { &document.content.title })) } }
                            td data-name="Changed" { (moment(document.updated_at)) }
                            (by(&document.edit))
                        }
                    } }
                } }
            }
            @if let Some(next) = next { p class="more" { a href={ "/documents?after=" (next.content.document_id.to_string()) } rel="next" { "Older" } } }
        }
    }))
}

fn by(edit: &EditMetadata) -> Markup {
    html! {
        td class="what" data-name="By" { (shown(&edit.last_actor_id)) ", " (edit.last_actor_kind.as_str()) }
        td class="what" data-name="Through" {
            @if let Some(job) = edit.last_job_id { a href={ "/jobs/" (job.to_string()) } { "job" } ", " }
            a href={ "/recorder/" (edit.edit_event_id.to_string()) } { "event" }
        }
    }
}

/// Whether two edits are parts of one.
fn together(one: &DocumentEdit, other: &DocumentEdit) -> bool {
    let by = |edit: &EditMetadata| (edit.last_actor_kind, edit.last_actor_id.clone(), edit.last_job_id);
    one.at == other.at && by(&one.edit) == by(&other.edit)
}

/// For example `3 blocks changed, 1 added`.
fn what(edits: &[DocumentEdit]) -> String {
    let blocks =
        |action| edits.iter().filter(|edit| edit.entity == ContentKind::Block && edit.action == action).count();
    let mut parts = Vec::new();
    for (action, word) in [(EditAction::Update, "changed"), (EditAction::Create, "added")] {
        match (blocks(action), parts.is_empty()) {
            (0, _) => {}
            (count, true) => parts.push(format!("{count} {} {word}", if count == 1 { "block" } else { "blocks" })),
            (count, false) => parts.push(format!("{count} {word}")),
        }
    }
    if parts.is_empty() { "the document itself, or blocks that are gone".to_owned() } else { parts.join(", ") }
}

fn changes(history: &DocumentHistory) -> Markup {
    let changes = history.edits.chunk_by(together);
    let omitted = changes.clone().count() > MOST_ROWS;
    html! {
        div class="wide" { table class="cards" {
            thead { tr { @for name in ["When", "What", "By", "Through"] { th scope="col" { (name) } } } }
            tbody { @for edits in changes.take(MOST_ROWS) {
                @if let Some(first) = edits.first() {
                    tr {
                        th scope="row" { (moment(first.at)) }
                        td data-name="What" { (what(edits)) }
                        (by(&first.edit))
                    }
                }
            } }
        } }
        @if omitted { p { "The last " (MOST_ROWS) " changes." } }
        @else if !history.complete { p { "What was changed before is not on record any more." } }
    }
}

async fn show(State(host): Host, caller: Caller, Path(id): Path<String>) -> Result<Response, Trouble> {
    let state = stored(&host, &id).await?;
    let document = &state.document;
    let history = history(&host, &state).await;
    let title = if document.content.title.is_empty() { "Without a title" } else { &document.content.title };
    Ok(Frame::of(&caller, title, "/documents").around(html! {
        (part("about", "Document", html! {
            dl {
                dt { "Document" } dd { code { (document.content.document_id.to_string()) } }
                dt { "Version" } dd { (version(&state)) }
                dt { "Made" } dd { (moment(document.created_at)) }
            }
        }))
        (part("history", "Who changed it", html! {
            @match &history {
                Ok(history) => (changes(history)),
                // The document can be shown all the same.
                Err(error) => p class="warn" { "It cannot be told: " (shown(&error.message)) },
            }
        }))
        (part("content", "Content", html! {
            @for block in state.blocks.iter().take(MOST_BLOCKS) {
                @let text = lines(&block.content.raw_content);
                pre title={ (shown(&block.content.kind)) ", by " (shown(&block.edit.last_actor_id)) } {
                    @match text.char_indices().nth(LONGEST) { Some((at, _)) => { (text[..at]) "…" }, None => (text) }
                }
            }
            @if state.blocks.len() > MOST_BLOCKS { p { "The first " (MOST_BLOCKS) " of " (state.blocks.len()) " blocks." } }
        }))
    }))
}
