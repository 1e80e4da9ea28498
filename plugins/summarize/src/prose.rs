//! Markdown to the prose in it.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The paragraphs, list items and headings, one block a line, blocks apart by an empty line. Code blocks, tables,
/// HTML, images, link targets, footnote marks and front matter are left out.
pub(crate) fn of(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut prose = Prose::default();
    for event in Parser::new_ext(markdown, options) {
        prose.take(event);
    }
    prose.end_block();
    prose.text
}

#[derive(Default)]
struct Prose {
    text: String,
    block: String,
    /// How many elements without prose we are inside of.
    left_out: usize,
}

impl Prose {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => {
                if starts_block(&tag) {
                    self.end_block();
                }
                if self.left_out > 0 || is_left_out(&tag) {
                    self.left_out += 1;
                }
            }
            Event::End(tag) => {
                if self.left_out > 0 {
                    self.left_out -= 1;
                } else if ends_block(&tag) {
                    self.end_block();
                }
            }
            _ if self.left_out > 0 => {}
            Event::Text(text) | Event::Code(text) => self.block.push_str(&text),
            Event::SoftBreak | Event::HardBreak => self.block.push(' '),
            Event::Rule => self.end_block(),
            Event::Html(_)
            | Event::InlineHtml(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }

    /// Closes the block: runs of white space become one space, what is empty is dropped.
    fn end_block(&mut self) {
        let mut words = self.block.split_whitespace().peekable();
        if words.peek().is_some() && !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        while let Some(word) = words.next() {
            self.text.push_str(word);
            if words.peek().is_some() {
                self.text.push(' ');
            }
        }
        self.block.clear();
    }
}

fn is_left_out(tag: &Tag<'_>) -> bool {
    matches!(tag, Tag::CodeBlock(_) | Tag::Table(_) | Tag::HtmlBlock | Tag::Image { .. } | Tag::MetadataBlock(_))
}

fn starts_block(tag: &Tag<'_>) -> bool {
    !matches!(tag, Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. } | Tag::Image { .. })
}

fn ends_block(tag: &TagEnd) -> bool {
    !matches!(tag, TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_without_sentences_is_left_out() {
        let markdown = "---\ntitle: secret\n---\n\n# Title\n\nOne *two* [three](http://x) `four`.\nFive.\n\n\
                        <!-- hidden -->\n\n```rust\nlet code = 1;\n```\n\n| a | b |\n|---|---|\n| c | d |\n\n\
                        ![picture](x.png) Six<br>.\n\n- [x] Seven\n  - Eight\n\n> Nine[^1]\n\n---\n\nTen <b>eleven</b>\n\n\
                        [^1]: Twelve.\n";
        assert_eq!(
            of(markdown),
            "Title\n\nOne two three four. Five.\n\nSix.\n\nSeven\n\nEight\n\nNine\n\nTen eleven\n\nTwelve."
        );
    }

    #[test]
    fn a_document_of_code_alone_has_no_prose() {
        assert_eq!(of("```\nx\n```\n\n    y\n"), "");
    }

    #[test]
    fn deep_nesting_is_no_problem() {
        assert_eq!(of(&format!("{} deep", "> ".repeat(5_000))), "deep");
    }
}
