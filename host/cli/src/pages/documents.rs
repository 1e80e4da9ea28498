//! Documents, and who changed what of them through which job.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use handshake_core::DocumentId;
use handshake_core::edit::EditMetadata;
use handshake_core::storage::Page;
use handshake_core::token::Right;
use handshake_engine::documents::version;
use maud::{Markup, html};
use serde::Deserialize;

use super::form::Filter;
use super::{Frame, Trouble, lines, moment, part, shown};
use crate::api::documents::stored;
use crate::api::{Caller, Host, Routes};

/// Documents on a page, and blocks of one.
const ROWS: u32 = 50;
const MOST_BLOCKS: usize = 500;
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

async fn show(State(host): Host, caller: Caller, Path(id): Path<String>) -> Result<Response, Trouble> {
    let state = stored(&host, &id).await?;
    let document = &state.document;
    let mut edits: BTreeMap<_, (&EditMetadata, usize)> = BTreeMap::new();
    for block in &state.blocks {
        edits.entry((block.updated_at, block.edit.edit_event_id)).or_insert((&block.edit, 0)).1 += 1;
    }
    edits.entry((document.updated_at, document.edit.edit_event_id)).or_insert((&document.edit, 0));
    let title = if document.content.title.is_empty() { "Without a title" } else { &document.content.title };
    Ok(Frame::of(&caller, title, "/documents").around(html! {
        (part("about", "Document", html! {
            dl {
                dt { "Document" } dd { code { (document.content.document_id.to_string()) } }
                dt { "Version" } dd { (version(&state)) }
                dt { "Made" } dd { (moment(document.created_at)) }
            }
        }))
        (part("history", "Who changed what is there", html! {
            div class="wide" { table class="cards" {
                thead { tr { @for name in ["When", "Blocks", "By", "Through"] { th scope="col" { (name) } } } }
                tbody { @for ((at, _), (edit, blocks)) in edits.iter().rev() {
                    tr {
                        th scope="row" { (moment(*at)) }
                        td data-name="Blocks" { (blocks) }
                        (by(edit))
                    }
                } }
            } }
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
