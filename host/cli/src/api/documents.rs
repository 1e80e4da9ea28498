//! Documents: taking Markdown in as blocks, looking, and giving it out again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use handshake_core::content::{ContentBlock, Document as StoredDocument, Stored, Workspace};
use handshake_core::edit::{EditContext, Editor, EditorKind};
use handshake_core::event::ActorKind;
use handshake_core::storage::Page;
use handshake_core::token::Right;
use handshake_core::{DocumentId, TraceId, WorkspaceId};
use handshake_engine::documents;
use serde::{Deserialize, Serialize};

use super::{Answer, Caller, Document, Host, Parameters, Refusal, Routes};
use crate::error::CliError;
use crate::host::HostState;
use crate::review::history::{DocumentHistory, history};

/// The largest document, bytes.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// The same as JSON, in which a character takes up to six bytes, with the rest of the request.
const MAX_IMPORT_BYTES: usize = 6 * MAX_DOCUMENT_BYTES + (64 << 10);
/// Where documents go when nobody says otherwise.
const DEFAULT_WORKSPACE: &str = "default";
/// Documents on a page when the caller does not say, and at most.
const PAGE: u32 = 50;
const LONGEST_PAGE: u32 = 1_000;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::Audit, "/documents", "Documents, newest first", list)
        .post_of_size(Right::Operate, "/documents", "Takes Markdown in as a document", MAX_IMPORT_BYTES, import)
        .get(Right::Audit, "/documents/{id}", "A document with its blocks", show)
        .get(Right::Audit, "/documents/{id}/history", "Who changed a document and its blocks", edits)
        .get(Right::Audit, "/documents/{id}/export", "A document as Markdown", export)
}

/// A document to be stored.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportRequest {
    /// The Markdown.
    pub(crate) text: String,
    /// Its title; by default that of its first heading, or else the name.
    #[serde(default)]
    pub(crate) title: Option<String>,
    /// The file's name.
    pub(crate) name: String,
    /// The workspace's name; a new one is made.
    #[serde(default)]
    pub(crate) workspace: Option<String>,
}

/// A document that was stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// Its id.
    pub(crate) document_id: DocumentId,
    /// Its title.
    pub(crate) title: String,
    /// Its workspace.
    pub(crate) workspace_id: WorkspaceId,
    /// How many blocks it has.
    pub(crate) blocks: usize,
}

/// Documents, newest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct DocumentList {
    /// The documents, without their blocks.
    pub(crate) documents: Vec<Stored<StoredDocument>>,
    /// What to give as `after` for the next page.
    pub(crate) next: Option<DocumentId>,
}

/// A document with its blocks in reading order.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct DocumentDetails {
    /// The document.
    pub(crate) document: Stored<StoredDocument>,
    /// Grows with each accepted change; proposals name the one that they were made from.
    pub(crate) version: u64,
    /// Its workspace.
    pub(crate) workspace: Workspace,
    /// Its blocks.
    pub(crate) blocks: Vec<Stored<ContentBlock>>,
}

/// A document as Markdown.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Exported {
    /// Its id.
    pub(crate) document_id: DocumentId,
    /// Its title.
    pub(crate) title: String,
    /// The version that this is.
    pub(crate) version: u64,
    /// The Markdown; blocks that are not exportable are left out.
    pub(crate) text: String,
}

fn document_id(text: &str) -> Result<DocumentId, Refusal> {
    text.parse().map_err(|_| {
        Refusal(CliError::usage(format!("`{text}` is not a document id")).hint("handshake documents list shows them"))
    })
}

/// Finds a workspace by its name. Of several with one name the oldest counts.
async fn workspace_named(host: &HostState, name: &str) -> Result<Option<WorkspaceId>, Refusal> {
    let mut page = Page { limit: LONGEST_PAGE, after: None };
    let mut found = None;
    loop {
        let workspaces = host.database.workspaces(&page).await?;
        let Some(last) = workspaces.last() else { return Ok(found) };
        page.after = Some(last.content.workspace_id);
        let named = workspaces.iter().rfind(|workspace| workspace.content.name == name);
        found = named.map(|workspace| workspace.content.workspace_id).or(found);
    }
}

async fn import(
    State(host): Host,
    caller: Caller,
    Document(request): Document<ImportRequest>,
) -> Result<Response, Refusal> {
    let bytes = request.text.len();
    if bytes > MAX_DOCUMENT_BYTES {
        let problem = format!("the document has {bytes} bytes; at most {MAX_DOCUMENT_BYTES} are taken");
        return Err(Refusal(CliError::usage(problem).code("too_large")));
    }
    let ids = &*host.gate.ids;
    let name = request.workspace.as_deref().unwrap_or(DEFAULT_WORKSPACE);
    let existing = workspace_named(&host, name).await?;
    let workspace_id = existing.unwrap_or_else(|| WorkspaceId::fresh(ids));
    let new = existing.is_none().then_some(name);
    let title = request.title.as_deref();
    let imported = documents::import(ids, workspace_id, new, title, &request.name, &request.text)
        .map_err(|error| CliError::bad_input(&error))?;
    let kind = match caller.actor.kind {
        ActorKind::Human => EditorKind::Human,
        // The guard refuses those: what a program edits, it edits in a job.
        ActorKind::Agent => EditorKind::Ai,
        ActorKind::System => EditorKind::System,
    };
    let context = EditContext { kind, actor_id: caller.actor.id, job: None, run: None, trace: TraceId::fresh(ids) };
    let documents::Imported { document_id, title, blocks, changes } = imported;
    editor(&host).edit(context, changes).await?;
    let answer = Imported { document_id, title, workspace_id, blocks };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

fn editor(host: &HostState) -> Editor {
    let gate = &host.gate;
    let content = Arc::clone(&host.database) as _;
    Editor::new(content, Arc::clone(&gate.recorder), Arc::clone(&gate.clock), Arc::clone(&gate.ids))
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ListParameters {
    limit: u32,
    after: Option<DocumentId>,
    workspace: Option<String>,
}

async fn list(State(host): Host, Parameters(parameters): Parameters<ListParameters>) -> Answer<DocumentList> {
    let limit = if parameters.limit == 0 { PAGE } else { parameters.limit.min(LONGEST_PAGE) };
    let workspace = match &parameters.workspace {
        None => None,
        Some(name) => {
            let found = workspace_named(&host, name).await?;
            Some(found.ok_or_else(|| CliError::not_found(format!("workspace `{name}` does not exist")))?)
        }
    };
    let documents = host.database.documents(workspace, &Page { limit, after: parameters.after }).await?;
    let full = documents.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = documents.last().filter(|_| full).map(|document| document.content.document_id);
    Ok(Json(DocumentList { documents, next }))
}

/// A document with its blocks.
pub(crate) async fn stored(host: &HostState, id: &str) -> Result<documents::State, Refusal> {
    let id = document_id(id)?;
    let document = host.database.document(id).await?;
    Ok(documents::State { document, blocks: host.database.blocks(id).await? })
}

async fn show(State(host): Host, Path(id): Path<String>) -> Answer<DocumentDetails> {
    let state = stored(&host, &id).await?;
    let workspace = host.database.workspace(state.document.content.workspace_id).await?.content;
    let version = documents::version(&state);
    Ok(Json(DocumentDetails { document: state.document, version, workspace, blocks: state.blocks }))
}

async fn edits(State(host): Host, Path(id): Path<String>) -> Answer<DocumentHistory> {
    let state = stored(&host, &id).await?;
    Ok(Json(history(&host, &state).await?))
}

async fn export(State(host): Host, Path(id): Path<String>) -> Answer<Exported> {
    let state = stored(&host, &id).await?;
    Ok(Json(Exported {
        document_id: state.id(),
        title: state.document.content.title.clone(),
        version: documents::version(&state),
        text: documents::exported(&state),
    }))
}
