//! Takes the markup out of one block of prose, in one pass.

use std::collections::BTreeSet;

/// The labels that link references may use.
#[derive(Default)]
pub(crate) struct Labels(BTreeSet<String>);

impl Labels {
    pub(crate) fn insert(&mut self, label: &str) {
        self.0.insert(normal(label));
    }

    fn contains(&self, label: &str) -> bool {
        label.len() <= MAX_LABEL && self.0.contains(&normal(label))
    }
}

/// Labels match in any spacing and case, as far as ASCII goes: tables for the rest would cost 20 kB.
fn normal(label: &str) -> String {
    label.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

/// The text without emphasis, links' targets, images, HTML and footnote marks; white space collapsed.
pub(crate) fn text(markdown: &str, labels: &Labels) -> String {
    let mut reader = Reader {
        source: markdown,
        rest: markdown,
        labels,
        out: String::with_capacity(markdown.len()),
        open: Vec::new(),
        closed_below: 0,
        emphasis: Default::default(),
        removed: Vec::new(),
        lonely_runs: Vec::new(),
        lonely_comment: false,
    };
    while let Some(character) = reader.rest.chars().next() {
        reader.take(character);
    }
    reader.finish()
}

/// An opening bracket that may turn out to begin a link.
struct Open {
    /// Where it stands in the output.
    position: usize,
    /// Where the text behind it starts in the source.
    start: usize,
    image: bool,
    /// How many brackets were already taken out when it came.
    removed: usize,
}

/// A run of marks that may begin emphasis.
struct Opener {
    /// Where it stands in the output.
    position: usize,
    length: usize,
}

struct Reader<'a> {
    source: &'a str,
    rest: &'a str,
    labels: &'a Labels,
    out: String,
    open: Vec<Open>,
    /// Brackets below this index contain a link, so they cannot be one.
    closed_below: usize,
    /// What may begin emphasis, for `*`, `_` and `~`.
    emphasis: [Vec<Opener>; 3],
    /// Positions of output bytes, brackets of links and marks of emphasis, that are taken out at the end.
    removed: Vec<usize>,
    /// Lengths of backtick runs that have no partner, so that each is looked for once only.
    lonely_runs: Vec<usize>,
    /// The same for comments.
    lonely_comment: bool,
}

/// CommonMark's own bound for brackets in a link's target; it keeps the search short.
const MAX_PARENTHESES: usize = 32;

/// Longer labels are taken for text.
const MAX_LABEL: usize = 200;

/// No HTML tag is longer; it keeps the search for its end short.
const MAX_TAG: usize = 1000;

impl Reader<'_> {
    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn take(&mut self, character: char) {
        match character {
            '\\' => match self.rest.chars().nth(1) {
                Some(escaped) if escaped.is_ascii_punctuation() => {
                    self.out.push(escaped);
                    self.advance(2);
                }
                Some('\n') => self.advance(1),
                _ => self.keep(character),
            },
            '`' => self.code(),
            '<' => self.angle(),
            '&' => self.entity(),
            '!' if self.rest.starts_with("![") => self.open(true),
            '[' => self.open(false),
            ']' => self.close(),
            '*' | '_' | '~' => self.emphasis(character),
            _ => self.keep(character),
        }
    }

    fn keep(&mut self, character: char) {
        self.out.push(character);
        self.advance(character.len_utf8());
    }

    /// A code span keeps its content. It ends at a run of backticks of the same length.
    fn code(&mut self) {
        let after = self.rest.trim_start_matches('`');
        let length = self.rest.len() - after.len();
        let partner = if self.lonely_runs.contains(&length) { None } else { closing_run(after, length) };
        match partner {
            Some(end) => {
                self.out.push_str(after.get(..end).unwrap_or_default());
                self.advance(length + end + length);
            }
            None => {
                self.lonely_runs.push(length);
                self.out.push_str(self.rest.get(..length).unwrap_or_default());
                self.advance(length);
            }
        }
    }

    /// Comments and tags go, `<https://…>` keeps its address, anything else is a less-than sign.
    fn angle(&mut self) {
        if self.rest.starts_with("<!--") {
            if !self.lonely_comment {
                if let Some(end) = self.rest.find("-->") {
                    return self.advance(end + 3);
                }
                self.lonely_comment = true;
            }
            return self.keep('<');
        }
        let limit = self.rest.len().min(MAX_TAG);
        let end = self.rest.bytes().take(limit).skip(1).take_while(|b| *b != b'<').position(|b| b == b'>');
        let inner = end.and_then(|end| self.rest.get(1..=end));
        match inner {
            Some(inner) if is_address(inner) => {
                self.out.push_str(inner);
                self.advance(inner.len() + 2);
            }
            Some(inner) if is_tag(inner) => self.advance(inner.len() + 2),
            _ => self.keep('<'),
        }
    }

    /// The entities that prose contains; others stay as they are written.
    fn entity(&mut self) {
        let end = self.rest.bytes().take(12).position(|b| b == b';');
        let name = end.and_then(|end| self.rest.get(1..end)).unwrap_or_default();
        let decoded = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" | "ensp" | "emsp" | "thinsp" => Some(' '),
            "times" => Some('×'),
            "middot" => Some('·'),
            "bull" => Some('•'),
            "larr" => Some('←'),
            "rarr" => Some('→'),
            "lsquo" => Some('‘'),
            "rsquo" => Some('’'),
            "ldquo" => Some('“'),
            "rdquo" => Some('”'),
            "ndash" => Some('–'),
            "mdash" => Some('—'),
            "hellip" => Some('…'),
            "copy" => Some('©'),
            _ => numeric(name),
        };
        match decoded {
            Some(character) => {
                self.out.push(character);
                self.advance(name.len() + 2);
            }
            None => self.keep('&'),
        }
    }

    fn open(&mut self, image: bool) {
        if let Some(mark) = footnote_mark(self.rest) {
            return self.advance(mark);
        }
        let start = self.source.len() - self.rest.len() + if image { 2 } else { 1 };
        self.open.push(Open { position: self.out.len(), start, image, removed: self.removed.len() });
        if image {
            self.keep('!');
        }
        self.keep('[');
    }

    /// Decides whether what the bracket closes is a link, an image or just brackets.
    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return self.keep(']') };
        let linked = self.open.len() < self.closed_below;
        self.closed_below = self.closed_below.min(self.open.len());
        let label = self.source.get(open.start..self.source.len() - self.rest.len()).unwrap_or_default();
        match self.target(label) {
            Some(length) if open.image => {
                self.out.truncate(open.position);
                self.removed.truncate(open.removed);
                for openers in &mut self.emphasis {
                    while openers.pop_if(|opener| opener.position >= open.position).is_some() {}
                }
                self.advance(1 + length);
            }
            Some(length) if !linked => {
                self.removed.push(open.position);
                self.closed_below = self.open.len();
                self.advance(1 + length);
            }
            _ => self.keep(']'),
        }
    }

    /// The length of the target behind a closing bracket: `(…)`, `[label]`, `[]`, or nothing when what the brackets
    /// hold is a label itself. None when this is no link.
    fn target(&self, text: &str) -> Option<usize> {
        let behind = self.rest.get(1..)?;
        if let Some(length) = behind.strip_prefix('(').and_then(target_length) {
            return Some(length + 1);
        }
        if let Some(label) = behind.strip_prefix('[') {
            let end = label.bytes().take(MAX_LABEL).position(|b| matches!(b, b'[' | b']'));
            match end.and_then(|end| label.get(..end)) {
                Some("") => return self.labels.contains(text).then_some(2),
                Some(label) => return self.labels.contains(label).then_some(label.len() + 2),
                None => {}
            }
        }
        self.labels.contains(text).then_some(0)
    }

    /// Marks that begin and end emphasis are taken out in pairs; those without a partner stay.
    fn emphasis(&mut self, mark: char) {
        let after = self.rest.trim_start_matches(mark);
        let mut length = self.rest.len() - after.len();
        let before = self.source.get(..self.source.len() - self.rest.len()).and_then(|text| text.chars().next_back());
        let behind = after.chars().next();
        let space = |c: Option<char>| c.is_none_or(char::is_whitespace);
        let punctuation = |c: Option<char>| c.is_some_and(|c| !c.is_alphanumeric() && !c.is_whitespace());
        let left = !space(behind) && (!punctuation(behind) || space(before) || punctuation(before));
        let right = !space(before) && (!punctuation(before) || space(behind) || punctuation(behind));
        let (opens, closes) = match mark {
            // Within a word it emphasizes nothing: `snake_case`.
            '_' => (left && (!right || punctuation(before)), right && (!left || punctuation(behind))),
            _ => (left, right),
        };
        self.advance(length);
        let openers = &mut self.emphasis[match mark {
            '*' => 0,
            '_' => 1,
            _ => 2,
        }];
        while closes && length > 0 {
            let Some(opener) = openers.last_mut() else { break };
            if mark == '~' && opener.length != length {
                break;
            }
            let pairs = length.min(opener.length);
            opener.length -= pairs;
            length -= pairs;
            self.removed.extend((opener.position + opener.length..).take(pairs));
            if opener.length == 0 {
                openers.pop();
            }
        }
        if opens && length > 0 && (mark != '~' || length <= 2) {
            openers.push(Opener { position: self.out.len(), length });
        }
        self.out.extend(std::iter::repeat_n(mark, length));
    }

    fn finish(mut self) -> String {
        self.removed.sort_unstable();
        let mut removed = self.removed.iter().peekable();
        let mut text = String::with_capacity(self.out.len());
        let mut space = false;
        for (position, character) in self.out.char_indices() {
            if removed.next_if(|next| **next == position).is_some() {
                continue;
            }
            if character.is_whitespace() {
                space = true;
                continue;
            }
            if std::mem::take(&mut space) && !text.is_empty() {
                text.push(' ');
            }
            text.push(character);
        }
        text
    }
}

/// The length of `[^label]`.
fn footnote_mark(text: &str) -> Option<usize> {
    let label = text.strip_prefix("[^")?;
    let end = label.bytes().take(80).position(|b| b == b']')?;
    let label = label.get(..end)?;
    (!label.is_empty() && !label.contains([' ', '[', '\n'])).then_some(end + 3)
}

/// What stands between `<` and `>` when it is a link by itself: `https://…` or `me@example.com`.
fn is_address(inner: &str) -> bool {
    let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let scheme = inner.split_once(':').is_some_and(|(scheme, _)| {
        (2..=32).contains(&scheme.len())
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-'))
    });
    let mail = inner.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty()
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
    });
    plain(inner) && (scheme || mail)
}

/// Whether what stands between `<` and `>` is a tag, and not `Result<A, B>`.
pub(crate) fn is_tag(inner: &str) -> bool {
    if inner.starts_with(['!', '?']) {
        return true;
    }
    let (closing, name) = match inner.strip_prefix('/') {
        Some(name) => (true, name),
        None => (false, inner.strip_suffix('/').unwrap_or(inner)),
    };
    let length = name.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'-').count();
    let Some((name, attributes)) = name.split_at_checked(length) else { return false };
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return false;
    }
    if closing || attributes.is_empty() {
        return attributes.trim().is_empty();
    }
    if !attributes.starts_with(char::is_whitespace) {
        return false;
    }
    let (mut quote, mut value) = (None, false);
    attributes.chars().all(|c| match c {
        _ if quote == Some(c) => {
            quote = None;
            true
        }
        _ if quote.is_some() => true,
        '"' | '\'' => {
            quote = Some(c);
            std::mem::take(&mut value)
        }
        _ if c.is_whitespace() => {
            value = false;
            true
        }
        '=' => !std::mem::replace(&mut value, true),
        '`' => false,
        _ => value || c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '-'),
    }) && quote.is_none()
}

/// Where a run of exactly `length` backticks begins.
fn closing_run(text: &str, length: usize) -> Option<usize> {
    let mut run = 0;
    for (position, byte) in text.bytes().enumerate() {
        if byte == b'`' {
            run += 1;
        } else {
            if run == length {
                return Some(position - run);
            }
            run = 0;
        }
    }
    (run == length).then(|| text.len() - run)
}

/// The length of a link's target, from behind the opening parenthesis to behind the closing one.
fn target_length(target: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    let mut escaped = false;
    let mut before = b' ';
    let mut address = false;
    for (position, byte) in target.bytes().enumerate() {
        let ends_word = before.is_ascii_whitespace() && position > 0;
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if quote == Some(byte) => quote = None,
            _ if quote.is_some() => {}
            // A title; within an address a quote is a character like others.
            b'"' | b'\'' if before.is_ascii_whitespace() => quote = Some(byte),
            b'(' => depth += 1,
            b')' if depth == 0 => return Some(position + 1),
            b')' => depth -= 1,
            // Two words in parentheses behind brackets are prose.
            _ if ends_word && address && !byte.is_ascii_whitespace() => return None,
            _ => {}
        }
        address |= !byte.is_ascii_whitespace();
        if depth > MAX_PARENTHESES {
            return None;
        }
        before = byte;
    }
    None
}

fn numeric(name: &str) -> Option<char> {
    let digits = name.strip_prefix('#')?;
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    char::from_u32(code.ok()?).filter(|c| *c != '\0')
}
