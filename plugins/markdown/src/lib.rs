//! The headings and the prose of a Markdown document.
//!
//! A whole CommonMark parser costs a component 150 kB, more than half of that for the table of HTML entities. Steps
//! only need to know which lines are prose, so this crate reads lines: a construct that it misjudges costs a stray
//! character in a summary, nothing else. Its tests compare it with a whole parser. Time and memory are linear in the
//! text.

mod blocks;
mod inline;

pub use blocks::{Block, blocks};

/// The first heading with any text.
pub fn title(markdown: &str) -> Option<String> {
    blocks(markdown).into_iter().find(|block| block.heading).map(|block| block.text)
}

/// Headings, paragraphs and list items, apart by an empty line. Code blocks, tables, HTML, images, link targets,
/// footnote marks and front matter are left out.
pub fn prose(markdown: &str) -> String {
    let mut prose = String::new();
    for block in blocks(markdown) {
        if !prose.is_empty() {
            prose.push_str("\n\n");
        }
        prose.push_str(&block.text);
    }
    prose
}

#[cfg(test)]
mod tests;
