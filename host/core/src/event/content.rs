//! What happens to content.

use serde::{Deserialize, Serialize};

use crate::content::ContentKind;
use crate::edit::{EditAction, EditMetadata};
use crate::{Digest, EventId};

/// Body of `content_mutation`: one change of content, on record in the transaction that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MutationRecord {
    /// What kind of content.
    pub entity: ContentKind,
    /// Which.
    pub entity_id: String,
    /// What was done to it.
    pub action: EditAction,
    /// What is stored with the content, and after a deletion nowhere else. Its `edit_event_id` is this event's id.
    pub edit: EditMetadata,
    /// The `edit_event_id` that it had before; none when it was created.
    pub previous: Option<EventId>,
}

/// Body of `editor_edit`: what somebody did in an editor. The text itself is no part of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EditorEdit {
    /// Stable label of the editor, for example `markdown` or `canvas`.
    pub editor_surface: String,
    /// What was done, in order; more than 256 operations are cut.
    pub ops: Vec<EditorOperation>,
}

/// One operation in an editor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EditorOperation {
    /// What was done.
    pub action: EditAction,
    /// What kind of content.
    pub entity: ContentKind,
    /// Which.
    pub entity_id: String,
    /// SHA-256 of what was there; none when it is new.
    pub before_sha256: Option<Digest>,
    /// SHA-256 of what is there now; none when it is gone.
    pub after_sha256: Option<Digest>,
}
