//! The marks that stand where something was redacted: `[REDACTED:<category>:<rule>]`.

use std::borrow::Cow;
use std::ops::Range;

const MARK: &str = "[REDACTED:";

/// Appends a mark.
pub(super) fn push_mark(text: &mut String, category: &str, rule: &str) {
    for part in [MARK, category, ":", rule, "]"] {
        text.push_str(part);
    }
}

/// A text in which our own marks are masked, byte for byte, so that redacting twice changes nothing: `password:` within a
/// mark would look like the name of a value. What stands before and behind a mark is searched as ever.
pub(super) struct Masked<'a> {
    pub(super) text: Cow<'a, str>,
    marks: Vec<Range<usize>>,
}

impl<'a> Masked<'a> {
    pub(super) fn new(text: &'a str, is_ours: &dyn Fn(&str, &str) -> bool) -> Self {
        let mut marks = Vec::new();
        let mut from = 0;
        while let Some(at) = text[from..].find(MARK).map(|at| from + at) {
            from = at + 1;
            if let Some(length) = mark_length(&text[at..], is_ours) {
                from = at + length;
                marks.push(at..from);
            }
        }
        if marks.is_empty() {
            return Self { text: Cow::Borrowed(text), marks };
        }
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for mark in &marks {
            masked.push_str(&text[done..mark.start]);
            masked.push('[');
            masked.extend(std::iter::repeat_n('x', mark.len() - 2));
            masked.push(']');
            done = mark.end;
        }
        masked.push_str(&text[done..]);
        Self { text: Cow::Owned(masked), marks }
    }

    /// What is to be replaced of a finding: marks go as a whole or not at all, and one that stands alone stays.
    pub(super) fn outside_marks(&self, mut range: Range<usize>) -> Option<Range<usize>> {
        let first = self.marks.partition_point(|mark| mark.end <= range.start);
        for mark in &self.marks[first..] {
            if mark.start >= range.end {
                break;
            }
            if mark.start <= range.start && range.end <= mark.end {
                return None;
            }
            range = range.start.min(mark.start)..range.end.max(mark.end);
        }
        (!range.is_empty()).then_some(range)
    }
}

/// Length of the mark that the text begins with. Only marks that could be ours count: anything else might be a
/// secret dressed up as one.
fn mark_length(text: &str, is_ours: &dyn Fn(&str, &str) -> bool) -> Option<usize> {
    // The longest rule has some 50 letters; a text full of beginnings must not be searched to its end for each.
    let window = text.get(..text.floor_char_boundary(120))?;
    let inside = window.strip_prefix(MARK)?;
    let inside = &inside[..inside.find(']')?];
    let (category, rule) = inside.split_once(':')?;
    is_ours(category, rule).then_some(MARK.len() + inside.len() + 1)
}
