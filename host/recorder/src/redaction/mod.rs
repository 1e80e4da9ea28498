//! Redaction: no secret reaches a disk (R6.5, R6.7).
//!
//! Text is brought into NFC, then values that the host knows to be secret are replaced wherever they stand, then
//! whatever has the form of a secret by one of the rules: a table of our own and a corpus that others maintain.

mod corpus;
mod exact;
mod forms;
mod marks;
mod rules;
mod scan;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use handshake_core::event::{RedactionScope, Redactor};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use exact::ExactValues;
use marks::{Masked, push_mark};
use rules::Rules;

/// Shorter values, in bytes, are not replaced by value: they would turn up in innocent text, and a reader could tell
/// the secret from where the marks are. Whoever configures one is told.
pub const SHORTEST_EXACT: usize = 8;

/// Name of the rule that replaces values that are known.
const EXACT: &str = "secret_exact";

/// Replaces secrets by `[REDACTED:<category>:<rule>]`. Clones share what they know.
///
/// It recognises forms, and values that it has learnt, also in the encodings that `redaction/exact.rs` lists; a plugin
/// that hides a secret in any other way before it leaks it is not found here. That is why plugins get placeholders
/// instead of values.
#[derive(Clone, Default)]
pub struct Redaction {
    exact: Arc<RwLock<Arc<ExactValues>>>,
}

/// A piece of text to be replaced.
struct Finding {
    range: Range<usize>,
    /// Lower wins where findings overlap: 0 is a known value, then come the rules.
    rank: usize,
}

impl Redaction {
    /// Returns at once and gets the rules ready in the background. Whoever redacts before they are waits for them, so
    /// no text is ever passed on unseen.
    pub fn start() -> Self {
        let ready = || {
            Rules::get();
        };
        // Without a thread to do it, the first text does it.
        let _ = std::thread::Builder::new().name("redaction".into()).spawn(ready);
        Self::default()
    }

    /// Knows these values by heart; those shorter than [`SHORTEST_EXACT`] are ignored.
    pub fn new(exact_values: Vec<String>) -> Self {
        let new = Self::start();
        new.learn(exact_values);
        new
    }

    /// Knows these values, too, from now on, and so do all clones.
    pub fn learn(&self, exact_values: Vec<String>) {
        let mut exact = self.exact.write().unwrap_or_else(PoisonError::into_inner);
        *exact = Arc::new(exact.with(exact_values));
    }

    fn exact(&self) -> Arc<ExactValues> {
        Arc::clone(&self.exact.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What these rules find.
fn detected(rules: &Rules, candidates: &[usize], original: &str, findings: &mut Vec<Finding>) {
    if candidates.is_empty() {
        return;
    }
    let masked = Masked::new(original, &|category, rule| rules.knows(category, rule));
    for &at in candidates {
        let ranges = rules.all[at].ranges(original, &masked);
        findings.extend(ranges.map(|range| Finding { range, rank: at + 1 }));
    }
}

fn label(rules: &'static Rules, rank: usize) -> (&'static str, &'static str) {
    match rank.checked_sub(1).and_then(|at| rules.all.get(at)) {
        Some(rule) => (rule.category(), rule.name()),
        None => ("token", EXACT),
    }
}

/// Replaces the findings; those that overlap become one.
fn replace(rules: &'static Rules, text: &str, mut findings: Vec<Finding>, fired: &mut Vec<&'static str>) -> String {
    findings.sort_by_key(|finding| (finding.range.start, finding.rank));
    let mut merged: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        match merged.last_mut() {
            Some(last) if finding.range.start < last.range.end => {
                last.range.end = last.range.end.max(finding.range.end);
                last.rank = last.rank.min(finding.rank);
            }
            _ => merged.push(finding),
        }
    }
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for Finding { range, rank } in merged {
        let (category, rule) = label(rules, rank);
        clean.push_str(&text[done..range.start]);
        push_mark(&mut clean, category, rule);
        done = range.end;
        if !fired.contains(&rule) {
            fired.push(rule);
        }
    }
    clean.push_str(&text[done..]);
    clean
}

impl Redactor for Redaction {
    fn redact(&self, scope: RedactionScope, text: &str) -> Option<(String, Vec<&'static str>)> {
        let (rules, exact) = (Rules::get(), self.exact());
        let mut fired = Vec::new();
        let mut current = Cow::Borrowed(text);
        let mut findings = Vec::new();
        if !text.is_ascii() && !is_nfc(text) {
            // By value before and after: composing can swallow the last letter of a value.
            exact.find(text, &mut findings);
            let replaced = replace(rules, text, std::mem::take(&mut findings), &mut fired);
            current = Cow::Owned(replaced.nfc().collect());
        }
        exact.find(&current, &mut findings);
        let mut candidates = rules.candidates(scope, &current);
        // Secrets first: what is left of an address or a path around one is looked at again.
        let others = candidates.split_off(candidates.partition_point(|at| rules.all[*at].finds_secrets()));
        for candidates in [candidates, others] {
            detected(rules, &candidates, &current, &mut findings);
            if !findings.is_empty() {
                current = Cow::Owned(replace(rules, &current, std::mem::take(&mut findings), &mut fired));
            }
        }
        match current {
            Cow::Borrowed(_) => None,
            Cow::Owned(clean) => Some((clean, fired)),
        }
    }
}

impl std::fmt::Debug for Redaction {
    /// Shows how many values are known, never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redaction").field("exact", &self.exact().count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "planted_tests.rs"]
mod planted_tests;
