//! Documents of the workspace: reading them, and proposing changes that somebody else decides on.
//!
//! ```no_run
//! use handshake_step::prelude::*;
//!
//! fn second_thoughts(id: &str) -> Result<(), StepError> {
//!     let document = documents::read(id)?;
//!     let Some(block) = document.blocks.first() else { return Ok(()) };
//!     let replaced = documents::ReplaceBlock { id: block.id.clone(), content: "On reflection: no.".to_owned() };
//!     let operations = [documents::Operation::ReplaceBlock(replaced)];
//!     Ok(documents::propose(id, document.info.version, &operations)?)
//! }
//! ```

use crate::bindings::handshake::step::documents as raw;
use crate::error::CallError;

pub use raw::{Block, Document, InsertBlock, MoveBlock, NewBlock, Operation, ReplaceBlock, Summary, UpdateMetadata};

/// Lists the documents within the job's scope. Needs `doc.read` for each that is returned.
pub fn list() -> Result<Vec<Summary>, CallError> {
    Ok(raw::list()?)
}

/// Reads one document. Needs `doc.read:<id>`.
pub fn read(id: &str) -> Result<Document, CallError> {
    Ok(raw::read(id)?)
}

/// Proposes changes to one document, based on the version that was read. They travel with the step's result; a
/// failed step proposes nothing. Needs `doc.propose:<id>`.
pub fn propose(id: &str, base_version: u64, operations: &[Operation]) -> Result<(), CallError> {
    Ok(raw::propose(id, base_version, operations)?)
}
