//! What was done to a document, as far back as the record goes: each edit there names the one before it.

use handshake_core::content::{ContentKind, Stored};
use handshake_core::edit::{EditAction, EditMetadata};
use handshake_core::event::MutationRecord;
use handshake_core::{EventId, Timestamp};
use handshake_engine::documents::State;
use handshake_recorder::RecordedEvent;
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::host::HostState;

/// Edits that are told; the record is asked for so many at a time as it answers.
const MOST_EDITS: usize = 5_000;
const AT_A_TIME: usize = 1_000;

/// One edit of a document or of a block that it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct DocumentEdit {
    /// When.
    pub(crate) at: Timestamp,
    /// What kind of content.
    pub(crate) entity: ContentKind,
    /// Which.
    pub(crate) entity_id: String,
    /// What was done to it.
    pub(crate) action: EditAction,
    /// Who did it, through which job, and its event.
    pub(crate) edit: EditMetadata,
}

/// The edits of a document and of the blocks that it has, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct DocumentHistory {
    /// The edits, at most 5,000.
    pub(crate) edits: Vec<DocumentEdit>,
    /// Whether these are all: edits are left out that the record does not keep any more.
    pub(crate) complete: bool,
}

/// What was done to a document.
pub(crate) async fn history(host: &HostState, state: &State) -> Result<DocumentHistory, CliError> {
    let mut edits = vec![latest(&state.document, ContentKind::Document, state.id())];
    edits.extend(state.blocks.iter().map(|block| latest(block, ContentKind::Block, block.content.block_id)));
    let projection = host.projection().await?;
    let mut complete = true;
    // What is asked for is told already when it is the latest edit of something.
    let mut wanted: Vec<EventId> = edits.iter().map(|edit| edit.edit.edit_event_id).collect();
    let mut told = true;
    while !wanted.is_empty() {
        let mut before = Vec::new();
        for ids in wanted.chunks(AT_A_TIME) {
            let found = projection.named(ids.to_vec()).await?;
            complete &= found.len() == ids.len();
            for (at, mutation) in found.iter().filter_map(mutation) {
                before.extend(mutation.previous);
                if !told {
                    let MutationRecord { entity, entity_id, action, edit, .. } = mutation;
                    edits.push(DocumentEdit { at, entity, entity_id, action, edit });
                }
            }
        }
        let room = MOST_EDITS.saturating_sub(edits.len());
        complete &= before.len() <= room;
        before.truncate(room);
        (wanted, told) = (before, false);
    }
    edits.sort_by(|one, other| other.at.cmp(&one.at).then(one.edit.edit_event_id.cmp(&other.edit.edit_event_id)));
    Ok(DocumentHistory { edits, complete })
}

fn latest<T>(stored: &Stored<T>, entity: ContentKind, id: impl std::fmt::Display) -> DocumentEdit {
    let action = if stored.created_at == stored.updated_at { EditAction::Create } else { EditAction::Update };
    DocumentEdit { at: stored.updated_at, entity, entity_id: id.to_string(), action, edit: stored.edit.clone() }
}

fn mutation(recorded: &RecordedEvent) -> Option<(Timestamp, MutationRecord)> {
    let read = |name: &str| recorded.event[name].clone();
    Some((serde_json::from_value(read("timestamp")).ok()?, serde_json::from_value(read("payload")).ok()?))
}
