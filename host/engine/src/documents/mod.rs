//! Documents as Markdown: taken apart into blocks, put together again, and as steps see them.

mod import;
mod markdown;
mod text;

pub use import::{ImportError, Imported, MAX_BLOCKS, import};
pub use markdown::{Kind, Piece, split};
pub use text::{State, exported, guest_view, markdown_of, version};

pub(crate) use import::PLACE_STEP;
pub(crate) use text::{Layout, Text, joined, latest};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests;
