//! Takes Markdown apart into its top-level blocks. Not a byte is lost: the pieces, put together, are the text.

use std::fmt;

use pulldown_cmark::{Event, Options, Parser, Tag};

/// What kind of block a piece is. Stored as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `# A heading`, of either form.
    Heading,
    /// Text.
    Paragraph,
    /// A list, whole.
    List,
    /// Code, fenced or indented.
    Code,
    /// A quotation, whole.
    Quote,
    /// A table.
    Table,
    /// HTML.
    Html,
    /// A line across.
    Rule,
    /// Metadata before everything else.
    FrontMatter,
    /// The text of a footnote.
    Footnote,
    /// Targets of links, which are not shown themselves.
    Reference,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Heading,
        Self::Paragraph,
        Self::List,
        Self::Code,
        Self::Quote,
        Self::Table,
        Self::Html,
        Self::Rule,
        Self::FrontMatter,
        Self::Footnote,
        Self::Reference,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heading => "heading",
            Self::Paragraph => "paragraph",
            Self::List => "list",
            Self::Code => "code",
            Self::Quote => "quote",
            Self::Table => "table",
            Self::Html => "html",
            Self::Rule => "rule",
            Self::FrontMatter => "front_matter",
            Self::Footnote => "footnote",
            Self::Reference => "reference",
        }
    }

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    fn of_tag(tag: &Tag<'_>) -> Self {
        match tag {
            Tag::Heading { .. } => Self::Heading,
            Tag::List(_) => Self::List,
            Tag::CodeBlock(_) => Self::Code,
            Tag::BlockQuote(_) => Self::Quote,
            Tag::Table(_) => Self::Table,
            Tag::HtmlBlock => Self::Html,
            Tag::MetadataBlock(_) => Self::FrontMatter,
            Tag::FootnoteDefinition(_) => Self::Footnote,
            _ => Self::Paragraph,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One block of a text, with what stands around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'t> {
    /// Kind.
    pub kind: Kind,
    /// Level of a heading, 1 to 6; 0 for other kinds.
    pub level: u8,
    /// A byte order mark and empty lines before the first block; empty for the others.
    pub before: &'t str,
    /// The block, without the line break at its end.
    pub text: &'t str,
    /// The line breaks and empty lines behind it.
    pub after: &'t str,
}

const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_FOOTNOTES)
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS)
    .union(Options::ENABLE_YAML_STYLE_METADATA_BLOCKS)
    .union(Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS);

/// Takes a text apart. An empty text has no pieces; one of empty lines alone is one paragraph with nothing in it.
pub fn split(markdown: &str) -> Vec<Piece<'_>> {
    let body = markdown.strip_prefix('\u{feff}').unwrap_or(markdown);
    let offset = markdown.len() - body.len();
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut before = &markdown[..offset];
    let starts = starts(body);
    let ends = starts.iter().skip(1).map(|(at, ..)| *at).chain([body.len()]);
    for ((at, kind, level), end) in starts.iter().zip(ends) {
        let whole = &body[*at..end];
        let text = without_empty_lines(whole);
        let after = &whole[text.len()..];
        if text.is_empty() {
            match pieces.last_mut() {
                // Side by side in one text, so that one slice holds both.
                Some(last) => last.after = joined_slices(markdown, last.after, whole),
                None => before = joined_slices(markdown, before, whole),
            }
            continue;
        }
        pieces.push(Piece { kind: *kind, level: *level, before, text, after });
        before = "";
    }
    if pieces.is_empty() && !before.is_empty() {
        pieces.push(Piece { kind: Kind::Paragraph, level: 0, before, text: "", after: "" });
    }
    pieces
}

/// Two neighbouring slices of a text as one.
fn joined_slices<'t>(text: &'t str, first: &'t str, second: &'t str) -> &'t str {
    let start = first.as_ptr() as usize - text.as_ptr() as usize;
    text.get(start..start + first.len() + second.len()).unwrap_or(first)
}

/// Where each block begins, at the beginning of a line; the first one at 0.
fn starts(body: &str) -> Vec<(usize, Kind, u8)> {
    let mut found: Vec<(usize, Kind, u8)> = Vec::new();
    let mut depth = 0usize;
    let mut covered = 0usize;
    let mut add = |start: usize, end: usize, kind, level| {
        let start = line_start(body, start).max(covered);
        // What no event tells of, between the blocks, is where links lead to.
        if let Some(gap) = body.get(covered..start).filter(|gap| !gap.trim().is_empty()) {
            let blank = gap.len() - gap.trim_start().len();
            found.push((line_start(body, covered + blank).max(covered), Kind::Reference, 0));
        }
        if end > start {
            found.push((start, kind, level));
        }
        covered = covered.max(end);
    };
    for (event, range) in Parser::new_ext(body, OPTIONS).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 0 {
                    let level = if let Tag::Heading { level, .. } = &tag { *level as u8 } else { 0 };
                    add(range.start, range.end, Kind::of_tag(&tag), level);
                }
                depth += 1;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Rule if depth == 0 => add(range.start, range.end, Kind::Rule, 0),
            Event::Html(_) if depth == 0 => add(range.start, range.end, Kind::Html, 0),
            _ => {}
        }
    }
    add(body.len(), body.len(), Kind::Paragraph, 0);
    found.sort_by_key(|(at, ..)| *at);
    found.dedup_by_key(|(at, ..)| *at);
    match found.first_mut() {
        // Empty lines before the first block go with it and are taken off again as what stands before it.
        Some((at, ..)) if *at > 0 => {
            let lead = (0, Kind::Paragraph, 0);
            found.insert(0, lead);
        }
        None if !body.is_empty() => found.push((0, Kind::Paragraph, 0)),
        _ => {}
    }
    found
}

/// The beginning of the line, if nothing but space stands before.
fn line_start(body: &str, at: usize) -> usize {
    let Some(before) = body.get(..at) else { return at };
    let start = before.rfind(['\n', '\r']).map_or(0, |end| end + 1);
    if before[start..].trim().is_empty() { start } else { at }
}

/// A block without the line break at its end and the empty lines behind it. Spaces at the end of its last line stay:
/// they can mean something.
fn without_empty_lines(whole: &str) -> &str {
    let mut text = whole;
    loop {
        let line = text.rfind(['\n', '\r']).map_or(0, |end| end + 1);
        if !text[line..].trim().is_empty() || text.is_empty() {
            return text;
        }
        if line == 0 {
            return &text[..0];
        }
        text = &text[..line - 1];
    }
}
