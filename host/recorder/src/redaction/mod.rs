//! Redaction: no secret reaches a disk (R6.5, R6.7).
//!
//! Every string of an event passes here before its first write. It is brought into NFC, then values that the
//! host knows to be secret are replaced wherever they stand, then whatever has the form of a secret.

mod detectors;
mod scan;

use std::borrow::Cow;
use std::ops::Range;

use handshake_core::event::Redactor;
use regex::RegexSet;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use detectors::{Detector, detectors, without_marks};

/// Shorter values are not replaced by value: they would turn up in innocent text, and a reader could tell the
/// secret from where the marks are.
const SHORTEST_EXACT: usize = 8;

/// Replaces secrets by `[REDACTED:<category>:<detector>]`.
///
/// It recognises forms; a plugin that encodes a secret before it leaks it is not found here. That is why plugins
/// get placeholders instead of values.
pub struct Redaction {
    exact: Vec<String>,
    /// All detectors at once: most strings match none, and then nothing else runs.
    first_pass: Option<RegexSet>,
    detectors: Vec<Detector>,
}

/// A piece of text to be replaced.
struct Finding {
    range: Range<usize>,
    /// Lower wins where findings overlap.
    rank: usize,
}

impl Redaction {
    /// Knows these values by heart; those shorter than 8 bytes are ignored.
    pub fn new(exact_values: Vec<String>) -> Self {
        let mut exact: Vec<String> = exact_values
            .into_iter()
            .flat_map(|value| {
                let normal: String = value.nfc().collect();
                // A value inside JSON inside a string has its quotes and backslashes escaped.
                let escaped = serde_json::to_string(&normal).ok().map(|json| json[1..json.len() - 1].to_owned());
                [Some(value), Some(normal), escaped].into_iter().flatten()
            })
            .filter(|value| value.len() >= SHORTEST_EXACT)
            .collect();
        exact.sort();
        exact.dedup();
        let detectors = detectors();
        // Without the first pass every detector runs on every string: slower, as safe.
        let first_pass = RegexSet::new(detectors.iter().map(|detector| detector.expression)).ok();
        Self { exact, first_pass, detectors }
    }

    fn exact_findings(&self, text: &str, findings: &mut Vec<Finding>) {
        for value in &self.exact {
            let step = value.chars().next().map_or(1, char::len_utf8);
            let mut from = 0;
            // Occurrences may overlap each other; every byte of each of them goes.
            while let Some(at) = text[from..].find(value.as_str()) {
                findings.push(Finding { range: from + at..from + at + value.len(), rank: 0 });
                from += at + step;
            }
        }
    }

    fn detected_findings(&self, original: &str, findings: &mut Vec<Finding>) {
        let masked = without_marks(original);
        let text = &*masked;
        let mut run = |at: usize| {
            let ranges = self.detectors.get(at).into_iter().flat_map(|detector| detector.ranges(text, original));
            findings.extend(ranges.map(|range| Finding { range, rank: at + 1 }));
        };
        match &self.first_pass {
            Some(set) if !set.is_match(text) => {}
            Some(set) => set.matches(text).into_iter().for_each(run),
            None => (0..self.detectors.len()).for_each(&mut run),
        }
    }

    fn label(&self, rank: usize) -> (&'static str, &'static str) {
        match rank.checked_sub(1).and_then(|at| self.detectors.get(at)) {
            Some(detector) => (detector.category, detector.rule),
            None => ("token", "secret_exact"),
        }
    }

    /// Replaces the findings; those that overlap become one.
    fn replace(&self, text: &str, mut findings: Vec<Finding>, rules: &mut Vec<&'static str>) -> String {
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
            let (category, rule) = self.label(rank);
            clean.push_str(&text[done..range.start]);
            clean.push_str("[REDACTED:");
            clean.push_str(category);
            clean.push(':');
            clean.push_str(rule);
            clean.push(']');
            done = range.end;
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        clean.push_str(&text[done..]);
        clean
    }
}

impl Redactor for Redaction {
    fn redact(&self, text: &str) -> Option<(String, Vec<&'static str>)> {
        let mut rules = Vec::new();
        let mut current = Cow::Borrowed(text);
        let mut findings = Vec::new();
        if !text.is_ascii() && !is_nfc(text) {
            // By value before and after: composing can swallow the last letter of a value.
            self.exact_findings(text, &mut findings);
            let replaced = self.replace(text, std::mem::take(&mut findings), &mut rules);
            current = Cow::Owned(replaced.nfc().collect());
        }
        self.exact_findings(&current, &mut findings);
        self.detected_findings(&current, &mut findings);
        if !findings.is_empty() {
            current = Cow::Owned(self.replace(&current, findings, &mut rules));
        }
        match current {
            Cow::Borrowed(_) => None,
            Cow::Owned(clean) => Some((clean, rules)),
        }
    }
}

impl std::fmt::Debug for Redaction {
    /// Shows how many values are known, never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redaction").field("exact", &self.exact.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
