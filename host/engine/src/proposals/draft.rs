//! A document as it would be: operations are made on a draft of it, one after the other.

use handshake_core::BlockId;
use handshake_core::content::MAX_CONTENT_BYTES;
use handshake_core::job::PlannedOperation;

use crate::documents::{Kind, Layout, State, Text, joined, split};

/// The metadata entry that documents have.
const TITLE: &str = "title";
/// Longest title, bytes.
const MAX_TITLE: usize = 1 << 10;

/// A block of a draft.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DraftBlock {
    /// None for a new one.
    pub(crate) id: Option<BlockId>,
    /// Its position in the stored document; none for a new one.
    pub(crate) source: Option<usize>,
    pub(crate) kind: String,
    pub(crate) content: String,
    pub(crate) layout: Option<Layout>,
    pub(crate) replaced: bool,
    pub(crate) moved: bool,
}

/// A document as it would be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) blocks: Vec<DraftBlock>,
    /// Positions in the stored document.
    pub(crate) deleted: Vec<usize>,
}

impl Draft {
    /// The document as it is.
    pub(crate) fn of(state: &State) -> Self {
        let blocks = state.blocks.iter().enumerate().map(|(source, block)| DraftBlock {
            id: Some(block.content.block_id),
            source: Some(source),
            kind: block.content.kind.clone(),
            content: block.content.raw_content.clone(),
            layout: Layout::of(&block.content),
            replaced: false,
            moved: false,
        });
        Self { title: state.document.content.title.clone(), blocks: blocks.collect(), deleted: Vec::new() }
    }

    fn position(&self, id: &str) -> Result<usize, String> {
        let found = block_id(id).and_then(|id| self.blocks.iter().position(|block| block.id == Some(id)));
        found.ok_or_else(|| format!("the document has no block `{}` at that point", short(id)))
    }

    fn behind(&self, after: Option<&str>) -> Result<usize, String> {
        after.map_or(Ok(0), |id| Ok(self.position(id)? + 1))
    }

    /// Makes one operation. The error is why it cannot be made, as a sentence.
    pub(crate) fn apply(&mut self, operation: &PlannedOperation) -> Result<(), String> {
        match operation {
            PlannedOperation::InsertBlock { after, kind, content } => {
                let at = self.behind(after.as_deref())?;
                let (id, source, layout) = (None, None, None);
                let (kind, content) = (kind.clone(), one_block(kind, content)?);
                self.blocks.insert(at, DraftBlock { id, source, kind, content, layout, replaced: false, moved: false });
            }
            PlannedOperation::ReplaceBlock { block_id, content } => {
                let at = self.position(block_id)?;
                if let Some(block) = self.blocks.get_mut(at) {
                    block.content = one_block(&block.kind, content)?;
                    block.replaced = true;
                    if let Some(layout) = &mut block.layout {
                        layout.verbatim = false;
                    }
                }
            }
            PlannedOperation::MoveBlock { block_id, after } => {
                if after.as_deref() == Some(block_id.as_str()) {
                    return Err(format!("block `{}` cannot be moved behind itself", short(block_id)));
                }
                let at = self.position(block_id)?;
                self.behind(after.as_deref())?;
                let mut block = self.blocks.remove(at);
                block.moved = true;
                let to = self.behind(after.as_deref())?;
                self.blocks.insert(to, block);
            }
            PlannedOperation::DeleteBlock { block_id } => {
                let at = self.position(block_id)?;
                self.deleted.extend(self.blocks.remove(at).source);
            }
            PlannedOperation::UpdateMetadata { key, value } => {
                if key != TITLE {
                    return Err(format!("metadata `{}` is not known; documents have `{TITLE}`", short(key)));
                }
                self.title = title(value.as_deref())?;
            }
        }
        Ok(())
    }

    /// What holds for the document as a whole.
    pub(crate) fn check(&self) -> Result<(), String> {
        let matter = |block: &DraftBlock| block.kind == Kind::FrontMatter.as_str();
        if self.blocks.iter().skip(1).any(matter) {
            return Err("front matter stands before everything else, or it is none".to_owned());
        }
        Ok(())
    }

    /// The whole document.
    pub(crate) fn markdown(&self) -> String {
        let texts =
            self.blocks.iter().map(|block| Text { id: block.id, text: &block.content, layout: block.layout.clone() });
        joined(&texts.collect::<Vec<_>>())
    }
}

/// A block's id, in the one form in which steps are given it.
pub(crate) fn block_id(text: &str) -> Option<BlockId> {
    text.parse::<BlockId>().ok().filter(|id| id.to_string() == text)
}

/// What guests name, in a length for people.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn title(value: Option<&str>) -> Result<String, String> {
    let value = value.ok_or("a document keeps its title; it can only get another")?;
    let title: String = serde_json::from_str(value).map_err(|_| "the title is not a JSON string".to_owned())?;
    if title.trim().is_empty() || title.len() > MAX_TITLE || title.contains(['\0', '\n', '\r']) {
        return Err(format!("a title is one line of 1 to {MAX_TITLE} bytes"));
    }
    Ok(title)
}

/// The content of a block without the empty lines around it, if it is one block of this kind.
fn one_block(kind: &str, content: &str) -> Result<String, String> {
    let known = Kind::of(kind).ok_or_else(|| format!("blocks of kind `{}` cannot be written", short(kind)))?;
    if content.contains('\0') {
        return Err(format!("the new {kind} has the character U+0000"));
    }
    if content.len() > MAX_CONTENT_BYTES {
        let bytes = content.len();
        return Err(format!("the new {kind} has {bytes} bytes; a block has at most {MAX_CONTENT_BYTES}"));
    }
    if content.trim().is_empty() {
        return Err(format!("the new {kind} is empty"));
    }
    match split(content).as_slice() {
        [piece] if piece.kind == known => Ok(piece.text.to_owned()),
        [piece] => Err(format!("the new {kind} is a {} as Markdown", piece.kind)),
        pieces => Err(format!("the new {kind} is {} blocks as Markdown", pieces.len())),
    }
}
