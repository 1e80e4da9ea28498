//! Splits a document into its blocks of prose, line by line.

use crate::inline;

/// A heading, a paragraph, or what a list item says. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Whether it is a heading, of any level.
    pub heading: bool,
    /// The text without markup, white space collapsed.
    pub text: String,
}

/// The blocks of prose, in reading order.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let markdown = without_front_matter(markdown);
    let mut scanner = Scanner::default();
    // A definition may stand behind its use.
    for line in markdown.lines() {
        if let Some(Definition::Link(label)) = definition(without_quotes(line).1.trim_start()) {
            scanner.labels.insert(label);
        }
    }
    for line in markdown.lines() {
        scanner.line(line);
    }
    scanner.end_block(false);
    scanner.blocks
}

/// What the lines that follow belong to.
#[derive(Default, Clone, Copy)]
enum Inside {
    #[default]
    Prose,
    /// A code fence: its mark, its length, the depth of quotes around it.
    Fence { mark: char, length: usize, quotes: usize },
    /// Rows, until an empty line or another block.
    Table,
    /// HTML, until an empty line.
    Html,
    /// HTML, until a line with this text.
    HtmlUntil(&'static str),
}

#[derive(Default)]
struct Scanner {
    blocks: Vec<Block>,
    labels: inline::Labels,
    /// The lines of the block that is being read.
    lines: Vec<String>,
    inside: Inside,
    /// Where the text of the innermost list item starts; 0 outside of lists.
    list_indent: usize,
    after_empty: bool,
}

impl Scanner {
    fn line(&mut self, line: &str) {
        let (quotes, line) = without_quotes(line);
        if let Inside::Fence { mark, length, quotes: around } = self.inside {
            if quotes >= around {
                if fence(line.trim_start()).is_some_and(|(m, l, info)| m == mark && l >= length && info.is_empty()) {
                    self.inside = Inside::Prose;
                }
                return;
            }
            self.inside = Inside::Prose;
        }
        let text = line.trim();
        if let Inside::HtmlUntil(end) = self.inside {
            if contains_ignoring_case(text, end) {
                self.inside = Inside::Prose;
            }
            return;
        }
        if text.is_empty() {
            self.end_block(false);
            self.inside = Inside::Prose;
            self.after_empty = true;
            return;
        }
        let after_empty = std::mem::take(&mut self.after_empty);
        if matches!(self.inside, Inside::Html) {
            return;
        }
        let indent = indent(line);
        if self.lines.is_empty() && indent >= self.list_indent + 4 {
            return;
        }
        if after_empty && indent < self.list_indent && list_item(text).is_none() {
            self.list_indent = 0;
        }
        self.content(text, indent, quotes);
    }

    /// A line without its quote marks and indentation.
    fn content(&mut self, mut text: &str, mut indent: usize, quotes: usize) {
        while let Some((marker, rest)) = list_item(text) {
            // `***` and `- - -` are rules; `1986. A great year` does not begin a list within a paragraph.
            let goes_on = !self.lines.is_empty() && indent >= self.list_indent;
            let ordered = marker > 1 && !text.starts_with("1.") && !text.starts_with("1)");
            if is_rule(text) || (goes_on && (ordered || rest.is_empty())) {
                break;
            }
            self.end_block(false);
            self.inside = Inside::Prose;
            indent += marker + 1;
            self.list_indent = indent;
            text = ["[ ] ", "[x] ", "[X] "].iter().find_map(|task| rest.strip_prefix(task)).unwrap_or(rest);
            if text.is_empty() {
                return;
            }
        }
        if let Some((mark, length, _)) = fence(text) {
            self.end_block(false);
            self.inside = Inside::Fence { mark, length, quotes };
            return;
        }
        if let Some(heading) = atx(text) {
            self.end_block(false);
            self.inside = Inside::Prose;
            self.lines.push(heading.to_owned());
            self.end_block(true);
            return;
        }
        if !self.lines.is_empty() && ["=", "-"].iter().any(|mark| text.trim_matches(|c| mark.contains(c)).is_empty()) {
            self.end_block(true);
            return;
        }
        if is_rule(text) {
            self.end_block(false);
            self.inside = Inside::Prose;
            return;
        }
        if matches!(self.inside, Inside::Table) {
            return;
        }
        if is_delimiter_row(text) && self.lines.last().is_some_and(|header| header.contains('|')) {
            self.lines.pop();
            self.end_block(false);
            self.inside = Inside::Table;
            return;
        }
        if let Some(inside) = html(text, self.lines.is_empty()) {
            self.end_block(false);
            self.inside = inside;
            return;
        }
        if self.lines.is_empty() {
            match definition(text) {
                Some(Definition::Link(_)) => return,
                Some(Definition::Footnote(note)) => text = note,
                None => {}
            }
        }
        self.lines.push(text.to_owned());
    }

    fn end_block(&mut self, heading: bool) {
        if self.lines.is_empty() {
            return;
        }
        let text = inline::text(&self.lines.join("\n"), &self.labels);
        self.lines.clear();
        if !text.is_empty() {
            self.blocks.push(Block { heading, text });
        }
    }
}

/// The document behind YAML (`---`) or TOML (`+++`) front matter.
fn without_front_matter(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for mark in ["---", "+++"] {
        let Some(rest) = text.strip_prefix(mark) else { continue };
        let Some(rest) = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')) else { continue };
        // With an empty line behind it, it is a rule.
        if rest.lines().next().is_none_or(|first| first.trim().is_empty()) {
            continue;
        }
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            end += line.len();
            if line.trim_end() == mark {
                return rest.get(end..).unwrap_or_default();
            }
        }
    }
    text
}

/// How deep the line is quoted, and what is behind the marks.
fn without_quotes(mut line: &str) -> (usize, &str) {
    let mut depth = 0;
    while let Some(rest) = line.trim_start_matches(' ').strip_prefix('>') {
        if indent(line) >= 4 {
            break;
        }
        line = rest.strip_prefix(' ').unwrap_or(rest);
        depth += 1;
    }
    (depth, line)
}

fn indent(line: &str) -> usize {
    let mut columns = 0;
    for byte in line.bytes() {
        match byte {
            b' ' => columns += 1,
            b'\t' => columns += 4 - columns % 4,
            _ => break,
        }
    }
    columns
}

/// The width of a list marker and what is behind it.
fn list_item(text: &str) -> Option<(usize, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let marks: &[char] = if digits == 0 { &['-', '*', '+'] } else { &['.', ')'] };
    let rest = text.get(digits..)?.strip_prefix(marks)?;
    let apart = rest.is_empty() || rest.starts_with([' ', '\t']);
    (digits <= 9 && apart).then(|| (digits + 1, rest.trim_start()))
}

/// Mark, length and info string of a code fence.
fn fence(text: &str) -> Option<(char, usize, &str)> {
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let rest = text.trim_start_matches(mark);
    let length = text.len() - rest.len();
    (length >= 3 && !(mark == '`' && rest.contains('`'))).then(|| (mark, length, rest.trim()))
}

/// The text of `# Heading ##`.
fn atx(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches('#');
    if !(1..=6).contains(&(text.len() - rest.len())) || !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
        return None;
    }
    let rest = rest.trim();
    let open = rest.trim_end_matches('#');
    Some(if open.is_empty() || open.ends_with([' ', '\t']) { open.trim_end() } else { rest })
}

fn is_rule(text: &str) -> bool {
    ['-', '*', '_'].into_iter().any(|mark| {
        text.chars().all(|c| c == mark || c == ' ' || c == '\t') && text.chars().filter(|c| *c == mark).count() >= 3
    })
}

fn is_delimiter_row(text: &str) -> bool {
    text.contains('|') && text.contains('-') && text.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ' | '\t'))
}

enum Definition<'a> {
    Link(&'a str),
    Footnote(&'a str),
}

/// `[label]: target`, or `[^label]: text`.
fn definition(text: &str) -> Option<Definition<'_>> {
    let (label, rest) = text.strip_prefix('[')?.split_once("]:")?;
    if label.is_empty() || label.contains(['[', ']']) {
        return None;
    }
    let rest = rest.trim();
    if label.starts_with('^') {
        return Some(Definition::Footnote(rest));
    }
    // `[one]: two three` is prose.
    let (target, title) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let plain = title.is_empty() || title.trim_start().starts_with(['"', '\'', '(']);
    (plain && !target.is_empty()).then_some(Definition::Link(label))
}

/// Elements that begin a block of HTML wherever they stand (CommonMark, section 4.6, kind 6).
#[rustfmt::skip] // One a line would be three screens.
const HTML_BLOCKS: &[&str] = &[
    "address", "article", "aside", "base", "blockquote", "body", "caption", "center", "col", "colgroup", "dd",
    "details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "frame",
    "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html", "iframe", "legend", "li", "link", "main",
    "menu", "menuitem", "nav", "noframes", "ol", "optgroup", "option", "p", "param", "picture", "search", "section",
    "source", "summary", "table", "tbody", "td", "template", "tfoot", "th", "thead", "title", "tr", "track", "ul",
];

/// What a line of HTML opens; none when the line is no HTML, or HTML within prose.
fn html(text: &str, begins_block: bool) -> Option<Inside> {
    let rest = text.strip_prefix('<')?;
    let until = |end: &'static str| {
        if contains_ignoring_case(rest, end) { Inside::Prose } else { Inside::HtmlUntil(end) }
    };
    if rest.starts_with("!--") {
        return Some(until("-->"));
    }
    if rest.starts_with('?') {
        return Some(until("?>"));
    }
    let name = rest.strip_prefix('/').unwrap_or(rest);
    let length = name.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'-').count();
    let (name, behind) = name.split_at_checked(length)?;
    if name.is_empty() || !(behind.is_empty() || behind.starts_with([' ', '\t', '/', '>'])) {
        return None;
    }
    for (raw, end) in [("script", "</script>"), ("style", "</style>"), ("pre", "</pre>"), ("textarea", "</textarea>")] {
        if name.eq_ignore_ascii_case(raw) && !rest.starts_with('/') {
            return Some(until(end));
        }
    }
    let block = HTML_BLOCKS.iter().any(|known| name.eq_ignore_ascii_case(known));
    let alone = begins_block && rest.strip_suffix('>').is_some_and(|tag| !tag.contains('>') && inline::is_tag(tag));
    (block || alone).then_some(Inside::Html)
}

fn contains_ignoring_case(text: &str, lower: &str) -> bool {
    text.as_bytes().windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower.as_bytes()))
}
