//! The form in which strings of an event are stored: without secrets, without U+0000, and bounded.
//!
//! What guests choose ends up here: names, resources, metrics. A record must not be lost because of it, so it is
//! changed instead of refused, and the event says where.

use std::fmt;

use serde_json::{Map, Value};

use super::FieldNote;
use crate::redaction::{ENVELOPE, RedactionScope, Redactor, payload_scope};

/// Longest string, bytes.
const LONGEST_TEXT: usize = 64 << 10;
/// Most items of a list, most members of an object.
const MOST_ITEMS: usize = 256;
/// Largest event as canonical JSON, bytes.
pub(super) const LARGEST_EVENT: usize = 256 << 10;
/// When an event is too large although its parts are not, they are bounded further: bytes and items.
const STRICTER: [(usize, usize); 4] = [(16 << 10, 64), (4 << 10, 64), (1 << 10, 64), (256, 32)];

/// Only so much of a string is looked through for secrets, bytes; the rest could not be stored anyway.
const LONGEST_LOOK: usize = 1 << 20;
/// This much of the end of what was looked at goes with the rest: it may hold the beginning of a secret.
const SEAM: usize = 16 << 10;

/// Most redactions that are listed. One field that a guest made can set off dozens of rules in thousands of places, and
/// the record of that must not be larger than what was said.
const MOST_LISTED: usize = 64;

/// Longest label, bytes.
const LONGEST_LABEL: usize = 64;

/// What was changed on the way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) redactions: Vec<FieldNote>,
    /// How many more there were.
    pub(super) omitted: u64,
    pub(super) normalised: Vec<FieldNote>,
}

impl Changes {
    fn redacted(&mut self, path: &impl fmt::Display, rules: Vec<&'static str>) {
        for rule in rules {
            if self.redactions.len() < MOST_LISTED {
                self.redactions.push(FieldNote { field: path.to_string(), rule: rule.to_owned() });
            } else {
                self.omitted += 1;
            }
        }
    }

    fn normalised(&mut self, path: &impl fmt::Display, rule: &str) {
        let note = FieldNote { field: path.to_string(), rule: rule.to_owned() };
        if !self.normalised.contains(&note) {
            self.normalised.push(note);
        }
    }
}

/// Where a value stands; becomes text only when there is something to say about it.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// Replaces secrets and U+0000, bounds everything, and brings labels into their form.
pub(super) fn clean(event: &mut Map<String, Value>, labels: &[&str], redactor: &dyn Redactor, changes: &mut Changes) {
    for (name, scope) in ENVELOPE {
        if let Some(value) = event.get_mut(name) {
            let path = Path::Root(name);
            clean_value(value, path, (redactor, scope), changes);
            bound_value(value, path, (LONGEST_TEXT, MOST_ITEMS), changes);
        }
    }
    for path in labels {
        let field = path.strip_prefix("payload.").and_then(|name| event.get_mut("payload")?.get_mut(name));
        if let Some(Value::String(text)) = field
            && !is_label(text)
        {
            *text = label_of(text);
            changes.normalised(path, "label");
        }
    }
}

/// Bounds the parts of an event that is too large as a whole, in the given round; `None` after the last.
pub(super) fn shrink(event: &mut Map<String, Value>, round: usize, changes: &mut Changes) -> Option<()> {
    let bounds = STRICTER.get(round)?;
    for (name, _) in ENVELOPE {
        if let Some(value) = event.get_mut(name) {
            bound_value(value, Path::Root(name), *bounds, changes);
        }
    }
    Some(())
}

type Look<'a> = (&'a dyn Redactor, RedactionScope);

fn clean_value(value: &mut Value, path: Path<'_>, look: Look<'_>, changes: &mut Changes) {
    match value {
        Value::String(text) => clean_text(text, path, look, changes),
        Value::Array(items) => {
            cut_items(items, MOST_ITEMS, path, changes);
            for (at, item) in items.iter_mut().enumerate() {
                clean_value(item, Path::Item(&path, at), look, changes);
            }
        }
        Value::Object(fields) => {
            if is_guest_named(path) {
                cut_fields(fields, MOST_ITEMS, path, changes);
                for name in fields.keys().cloned().collect::<Vec<_>>() {
                    let mut clean = name.clone();
                    clean_text(&mut clean, path, look, changes);
                    if clean != name
                        && let Some(value) = fields.remove(&name)
                    {
                        fields.insert(clean, value);
                    }
                }
            }
            for (name, field) in fields.iter_mut() {
                let (redactor, mut scope) = look;
                if matches!(path, Path::Root("payload")) {
                    scope = payload_scope(name, scope);
                }
                clean_value(field, Path::Field(&path, name), (redactor, scope), changes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn clean_text(text: &mut String, path: Path<'_>, (redactor, scope): Look<'_>, changes: &mut Changes) {
    let mut unseen = 0;
    if text.len() > LONGEST_LOOK {
        unseen = cut(text, LONGEST_LOOK);
    }
    // No database stores U+0000, and what a guest tried must be on record all the same.
    if text.contains('\0') {
        *text = text.replace('\0', "\u{2400}");
        changes.normalised(&path, "nul");
    }
    if let Some((clean, rules)) = redactor.redact(scope, text) {
        *text = clean;
        changes.redacted(&path, rules);
    }
    if unseen > 0 {
        let keep = text.len().saturating_sub(SEAM).min(LONGEST_TEXT);
        unseen += cut(text, keep);
        text.push_str(&mark(unseen));
        changes.normalised(&path, "truncated");
    }
}

fn bound_value(value: &mut Value, path: Path<'_>, bounds: (usize, usize), changes: &mut Changes) {
    let (longest, most) = bounds;
    match value {
        // A mark that an earlier round left is cut as well, so the number in the new one would be too small.
        Value::String(text) if text.len() > longest + MARK_BYTES => {
            let earlier = take_mark(text);
            let gone = cut(text, longest) + earlier;
            text.push_str(&mark(gone));
            changes.normalised(&path, "truncated");
        }
        Value::Array(items) => {
            cut_items(items, most, path, changes);
            for (at, item) in items.iter_mut().enumerate() {
                bound_value(item, Path::Item(&path, at), bounds, changes);
            }
        }
        Value::Object(fields) => {
            if is_guest_named(path) {
                cut_fields(fields, most, path, changes);
                let long: Vec<String> =
                    fields.keys().filter(|name| name.len() > LONGEST_LABEL * 2 + MARK_BYTES).cloned().collect();
                for name in long {
                    let mut short = name.clone();
                    let gone = cut(&mut short, LONGEST_LABEL * 2);
                    short.push_str(&mark(gone));
                    if let Some(value) = fields.remove(&name) {
                        fields.insert(short, value);
                    }
                    changes.normalised(&path, "truncated");
                }
            }
            for (name, field) in fields.iter_mut() {
                bound_value(field, Path::Field(&path, name), bounds, changes);
            }
        }
        _ => {}
    }
}

fn is_guest_named(path: Path<'_>) -> bool {
    matches!(path, Path::Field(Path::Root("payload"), "metrics"))
}

fn cut_items(items: &mut Vec<Value>, most: usize, path: Path<'_>, changes: &mut Changes) {
    if items.len() > most {
        items.truncate(most);
        changes.normalised(&path, "truncated");
    }
}

fn cut_fields(fields: &mut Map<String, Value>, most: usize, path: Path<'_>, changes: &mut Changes) {
    if fields.len() > most {
        // The host's own metrics must not go because a guest has many.
        let (own, guests): (Vec<_>, Vec<_>) = fields.keys().cloned().partition(|name| name.starts_with("hsk."));
        for name in own.into_iter().chain(guests).skip(most) {
            fields.remove(&name);
        }
        changes.normalised(&path, "truncated");
    }
}

/// Longest mark that [`mark`] makes, bytes; a text that is longer than its bound by less than that is left alone.
const MARK_BYTES: usize = 48;

fn mark(bytes: usize) -> String {
    format!("…[truncated {bytes} bytes]")
}

/// Removes a mark at the end, and tells its number.
fn take_mark(text: &mut String) -> usize {
    let Some(at) = text.rfind("…[truncated ") else { return 0 };
    let number = text[at..].strip_prefix("…[truncated ").and_then(|rest| rest.strip_suffix(" bytes]"));
    let Some(bytes) = number.and_then(|number| number.parse().ok()) else { return 0 };
    text.truncate(at);
    bytes
}

/// Cuts a text to at most so many bytes, between characters; tells how many went.
fn cut(text: &mut String, most: usize) -> usize {
    let end = text.floor_char_boundary(most);
    let gone = text.len() - end;
    text.truncate(end);
    gone
}

fn is_label(text: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&text.len()) && text.bytes().all(is_label_byte)
}

/// Codes such as `HSK-500-LLM` are labels, too.
fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

fn label_of(text: &str) -> String {
    let label: String = text
        .chars()
        .take(LONGEST_LABEL)
        .map(|c| if u8::try_from(c).is_ok_and(is_label_byte) { c } else { '_' })
        .collect();
    if label.is_empty() { "unnamed".to_owned() } else { label }
}
