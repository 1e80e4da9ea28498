//! The docs profile: which document a job is about, and how far its changes may reach (R1.14).

use serde::{Deserialize, Serialize};

use crate::job::{EntityRef, JobKind, canonical_enum};
use crate::{BlockId, DocumentId};

/// The name of the input that carries the profile.
pub const DOCS_INPUT: &str = "doc";
/// What an [`EntityRef`] to a document calls it.
pub const DOCUMENT: &str = "document";

canonical_enum! {
    /// How far from the selection changes may reach.
    LayerScope, "layer scope" {
        /// The selected blocks get other content; no block comes, goes or moves.
        Block = "block",
        /// The section that the selection lies in: from its heading to the next one of the same or a higher level.
        Section = "section",
        /// The whole document, its metadata included.
        Document = "document",
    }
}

/// A stretch of blocks, in reading order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The first block.
    pub start_block: BlockId,
    /// The last one, perhaps the same.
    pub end_block: BlockId,
    /// Where in the first block the person's attention is, bytes from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub focus_offset: Option<u64>,
}

/// What a job of a docs kind is given as its input `doc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocsProfile {
    /// The document.
    pub doc_id: DocumentId,
    /// The part of it that is meant; none for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// How far changes may reach.
    pub layer_scope: LayerScope,
}

/// A docs profile that says nothing that could be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocsProfile {
    /// It is not of the profile's form.
    #[error("{0}")]
    Form(String),
    /// A section is that of something selected.
    #[error("`layer_scope: section` needs a `selection`, whose section is meant")]
    NoSelection,
}

impl JobKind {
    /// Whether jobs of this kind are about a document, which a docs profile names.
    pub const fn has_docs_profile(self) -> bool {
        matches!(self, Self::DocEdit | Self::DocRewrite | Self::DocSummarize)
    }
}

impl DocsProfile {
    /// All of a document.
    pub fn whole(doc_id: DocumentId) -> Self {
        Self { doc_id, selection: None, layer_scope: LayerScope::Document }
    }

    /// Reads it from a job's inputs.
    pub fn of_inputs(inputs: &serde_json::Value) -> Result<Self, InvalidDocsProfile> {
        let value = inputs.get(DOCS_INPUT).cloned().unwrap_or_default();
        let profile: Self =
            serde_json::from_value(value).map_err(|error| InvalidDocsProfile::Form(error.to_string()))?;
        if profile.layer_scope == LayerScope::Section && profile.selection.is_none() {
            return Err(InvalidDocsProfile::NoSelection);
        }
        Ok(profile)
    }

    /// What a job with this profile is about.
    pub fn entity(&self) -> EntityRef {
        EntityRef {
            artefact_type: DOCUMENT.to_owned(),
            artefact_id: self.doc_id.to_string(),
            // Three ids and a number always have a form in JSON.
            selector: self.selection.and_then(|selection| serde_json::to_string(&selection).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn a_profile_is_read_from_the_input_doc_and_nothing_unknown_is_accepted() {
        let block = |scope: &str| json!({ "doc": { "doc_id": ID, "layer_scope": scope, "selection": { "start_block": ID, "end_block": ID } } });
        for scope in LayerScope::ALL {
            let profile = DocsProfile::of_inputs(&block(scope.as_str())).unwrap();
            assert_eq!(profile.layer_scope, *scope);
            let entity = profile.entity();
            assert_eq!((entity.artefact_type.as_str(), entity.artefact_id.as_str()), ("document", ID));
            assert!(entity.selector.unwrap().contains("start_block"));
        }
        let whole = DocsProfile::of_inputs(&json!({ "doc": { "doc_id": ID, "layer_scope": "document" } })).unwrap();
        assert_eq!((whole.entity().selector, whole.clone()), (None, DocsProfile::whole(whole.doc_id)));
        for wrong in [
            json!({}),
            json!({ "doc": {} }),
            json!({ "doc": ID }),
            json!({ "doc": { "doc_id": "x", "layer_scope": "document" } }),
            json!({ "doc": { "doc_id": ID, "layer_scope": "page" } }),
            json!({ "doc": { "doc_id": ID, "layer_scope": "document", "more": 1 } }),
            json!({ "doc": { "doc_id": ID, "layer_scope": "block", "selection": { "start_block": ID } } }),
        ] {
            assert!(matches!(DocsProfile::of_inputs(&wrong), Err(InvalidDocsProfile::Form(_))), "{wrong}");
        }
        let section = json!({ "doc": { "doc_id": ID, "layer_scope": "section" } });
        assert_eq!(DocsProfile::of_inputs(&section), Err(InvalidDocsProfile::NoSelection));
    }
}
