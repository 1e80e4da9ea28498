//! A document's blocks as one Markdown text, and as steps see them.
//!
//! What stands between two imported blocks is kept with the first of them, together with the id of the second. It is
//! used again only while the same two are neighbours: between others an empty line belongs, or two blocks that were
//! never meant to touch would become one.

use handshake_core::content::{ContentBlock, Document, Stored};
use handshake_core::document as guest;
use handshake_core::{BlockId, DocumentId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A document with its blocks in reading order, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The document.
    pub document: Stored<Document>,
    /// Its blocks.
    pub blocks: Vec<Stored<ContentBlock>>,
}

impl State {
    /// Its id.
    pub fn id(&self) -> DocumentId {
        self.document.content.document_id
    }
}

/// Grows with each accepted change: the latest time of document and blocks, in microseconds. An accepted change always
/// writes the document too, so that it shows when only blocks are gone.
pub fn version(state: &State) -> u64 {
    u64::try_from(latest(state).micros()).unwrap_or(0)
}

/// When the document or one of its blocks was changed last.
pub(crate) fn latest(state: &State) -> Timestamp {
    state.blocks.iter().map(|block| block.updated_at).fold(state.document.updated_at, Ord::max)
}

/// The document as steps see it.
pub fn guest_view(state: &State) -> guest::Document {
    let document = &state.document.content;
    guest::Document {
        summary: guest::DocumentSummary {
            id: document.document_id.to_string(),
            title: document.title.clone(),
            version: version(state),
        },
        blocks: state
            .blocks
            .iter()
            .map(|block| guest::Block {
                id: block.content.block_id.to_string(),
                kind: block.content.kind.clone(),
                content: block.content.raw_content.clone(),
            })
            .collect(),
    }
}

/// What is kept with a block about its surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Layout {
    /// What stood before the first block.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) before: String,
    /// What stood behind the block.
    pub(crate) after: String,
    /// The block behind that; none when it was the last.
    pub(crate) next: Option<BlockId>,
    /// Whether the block is as it was imported. Another form of it perhaps needs an empty line where it had none.
    pub(crate) verbatim: bool,
}

/// The name under which it is kept in the derived content.
const KEPT: &str = "markdown";

impl Layout {
    /// What is kept with a block, if anything is.
    pub(crate) fn of(block: &ContentBlock) -> Option<Self> {
        serde_json::from_value(block.derived_content.get(KEPT)?.clone()).ok()
    }

    /// The same as derived content.
    pub(crate) fn derived(&self) -> Value {
        json!({ KEPT: self })
    }
}

/// One block on its way into a text.
pub(crate) struct Text<'b> {
    /// None for a new one.
    pub(crate) id: Option<BlockId>,
    pub(crate) text: &'b str,
    pub(crate) layout: Option<Layout>,
}

fn line_breaks(text: &str) -> usize {
    text.matches('\n').count().max(text.matches('\r').count())
}

/// The text of blocks in this order.
pub(crate) fn joined(blocks: &[Text<'_>]) -> String {
    let mut kept = blocks.iter().filter_map(|block| block.layout.as_ref());
    let newline = if kept.any(|layout| layout.after.contains("\r\n")) { "\r\n" } else { "\n" };
    let mut text = String::new();
    if let Some(layout) = blocks.first().and_then(|block| block.layout.as_ref()) {
        text.push_str(&layout.before);
    }
    for (at, block) in blocks.iter().enumerate() {
        text.push_str(block.text);
        let next = blocks.get(at + 1);
        let same = block.layout.as_ref().filter(|layout| match next {
            None => layout.next.is_none(),
            Some(next) => layout.next.is_some() && layout.next == next.id,
        });
        let verbatim = |text: &Text<'_>| text.layout.as_ref().is_some_and(|layout| layout.verbatim);
        let kept = same.filter(|layout| match next {
            Some(next) => line_breaks(&layout.after) > 1 || (verbatim(block) && verbatim(next)),
            None => true,
        });
        match (kept, next) {
            (Some(layout), _) => text.push_str(&layout.after),
            (None, Some(_)) => text.push_str(&newline.repeat(2)),
            (None, None) => text.push_str(newline),
        }
    }
    text
}

fn text_of<'s>(blocks: impl Iterator<Item = &'s Stored<ContentBlock>>) -> String {
    let texts = blocks.map(|block| Text {
        id: Some(block.content.block_id),
        text: &block.content.raw_content,
        layout: Layout::of(&block.content),
    });
    joined(&texts.collect::<Vec<_>>())
}

/// The whole document.
pub fn markdown_of(state: &State) -> String {
    text_of(state.blocks.iter())
}

/// What of it may leave: blocks that are not exportable stay.
pub fn exported(state: &State) -> String {
    text_of(state.blocks.iter().filter(|block| block.content.exportable))
}
