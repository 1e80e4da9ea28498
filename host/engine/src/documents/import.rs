//! What an import writes: one document and its blocks, in one edit.

use handshake_core::content::{
    ContentBlock, ContentChange, Document, MAX_CHANGES, MAX_CONTENT_BYTES, Sensitivity, Workspace,
};
use handshake_core::{BlockId, DocumentId, Ids, WorkspaceId};

use super::markdown::{Kind, Piece, split};
use super::text::Layout;

/// Most blocks of a document that is imported: one edit has room for the document and a new workspace beside them.
pub const MAX_BLOCKS: usize = MAX_CHANGES - 2;
/// Room between two blocks, in which others can be put.
pub(crate) const PLACE_STEP: i64 = 1 << 16;
/// Longest title, bytes.
const MAX_TITLE: usize = 1 << 10;

/// A document that is ready to be stored.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its id.
    pub document_id: DocumentId,
    /// Its title.
    pub title: String,
    /// Number of blocks.
    pub blocks: usize,
    /// The changes of one edit.
    pub changes: Vec<ContentChange>,
}

/// Why a text cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// An edit has a limit, and half an import would be worse than none.
    #[error("it has {0} blocks; at most {MAX_BLOCKS} can be imported as one document")]
    TooMany(usize),
    /// One block is too long.
    #[error("the block at line {line} has {bytes} bytes; a block has at most {MAX_CONTENT_BYTES}")]
    TooLong {
        /// Where it begins, from 1.
        line: usize,
        /// Its length.
        bytes: usize,
    },
    /// Databases cannot hold it.
    #[error("line {0} has the character U+0000, which cannot be stored")]
    Nul(usize),
    /// The title is too long.
    #[error("the title has {0} bytes; at most {MAX_TITLE} can be stored")]
    Title(usize),
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Takes a text apart and words the changes that store it. Without a title it is that of the first heading, or else
/// the name of the file.
pub fn import(
    ids: &dyn Ids,
    workspace: WorkspaceId,
    new_workspace: Option<&str>,
    title: Option<&str>,
    name: &str,
    markdown: &str,
) -> Result<Imported, ImportError> {
    if let Some(at) = markdown.find('\0') {
        return Err(ImportError::Nul(line_of(markdown, at)));
    }
    let pieces = split(markdown);
    if pieces.len() > MAX_BLOCKS {
        return Err(ImportError::TooMany(pieces.len()));
    }
    let title = title.map_or_else(|| title_of(&pieces, name), str::to_owned);
    if title.len() > MAX_TITLE || title.contains('\0') {
        return Err(ImportError::Title(title.len()));
    }
    let document_id = DocumentId::fresh(ids);
    let mut changes = Vec::with_capacity(pieces.len() + 2);
    if let Some(name) = new_workspace {
        let workspace = Workspace { workspace_id: workspace, name: name.to_owned() };
        changes.push(ContentChange::Create { content: workspace.into() });
    }
    let document = Document { document_id, workspace_id: workspace, title: title.clone() };
    changes.push(ContentChange::Create { content: document.into() });
    let block_ids: Vec<_> = pieces.iter().map(|_| BlockId::fresh(ids)).collect();
    let mut at = 0;
    for (number, (piece, block_id)) in pieces.iter().zip(&block_ids).enumerate() {
        at += piece.before.len();
        let bytes = piece.text.len().max(piece.before.len() * 2).max(piece.after.len() * 2);
        if bytes >= MAX_CONTENT_BYTES {
            return Err(ImportError::TooLong { line: line_of(markdown, at), bytes });
        }
        at += piece.text.len() + piece.after.len();
        let layout = Layout {
            before: piece.before.to_owned(),
            after: piece.after.to_owned(),
            next: block_ids.get(number + 1).copied(),
            verbatim: true,
        };
        let block = ContentBlock {
            block_id: *block_id,
            document_id,
            kind: piece.kind.as_str().to_owned(),
            sequence: i64::try_from(number + 1).unwrap_or(i64::MAX / PLACE_STEP) * PLACE_STEP,
            raw_content: piece.text.to_owned(),
            display_content: piece.text.to_owned(),
            derived_content: layout.derived(),
            sensitivity: Sensitivity::Internal,
            exportable: true,
        };
        changes.push(ContentChange::Create { content: block.into() });
    }
    Ok(Imported { document_id, title, blocks: pieces.len(), changes })
}

fn title_of(pieces: &[Piece<'_>], name: &str) -> String {
    let heading = pieces.iter().find(|piece| piece.kind == Kind::Heading);
    let title = heading.map(|piece| heading_text(piece.text)).filter(|title| !title.is_empty());
    let mut title = title.unwrap_or_else(|| name.to_owned());
    title.truncate(title.floor_char_boundary(MAX_TITLE));
    title
}

/// The text of a heading, as it is written, without its marks.
pub(crate) fn heading_text(heading: &str) -> String {
    let line = heading.trim_start().lines().next().unwrap_or_default();
    let text = line.trim_start_matches('#').trim();
    let closed = text.trim_end_matches('#');
    // A `#` that belongs to a word, such as in `C#`, is not one that closes.
    let text = if closed.is_empty() || closed.ends_with([' ', '\t']) { closed } else { text };
    text.trim().to_owned()
}
