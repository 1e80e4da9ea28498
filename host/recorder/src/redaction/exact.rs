//! Values that the host knows to be secret, in the forms in which they turn up.
//!
//! Looked for are the value itself, in any case of its ASCII letters (hosts and headers are put into lower case on the
//! way); as JSON and JSON within JSON have it; in Base64 of either alphabet, wherever in the encoded text it begins; in
//! hexadecimal digits; percent-encoded, as a whole or only where it must be; and each long line of it alone. Other
//! encodings, and values that were taken apart, are not recognised: that is why steps get placeholders.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::UnicodeNormalization;

use super::{Finding, SHORTEST_EXACT};

/// Longer values are not looked for encoded: they are files, and every form multiplies what the search needs in memory.
const LONGEST_ENCODED: usize = 4 << 10;
/// Lines of this many bytes are looked for alone.
const SHORTEST_LINE: usize = 16;

/// RFC 3986's unreserved characters are never encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What a query must encode in any case.
const QUERY: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'=').add(b'>').add(b'`');

/// The values, ready to be looked for.
#[derive(Default)]
pub(super) struct ExactValues {
    /// The values themselves, without their forms.
    values: Vec<String>,
    search: Option<AhoCorasick>,
    /// Used only if the search cannot be built.
    forms: Vec<String>,
}

impl ExactValues {
    /// These and more; those that are too short are ignored.
    pub(super) fn with(&self, more: Vec<String>) -> Self {
        let mut values = self.values.clone();
        values.extend(more.into_iter().filter(|value| value.len() >= SHORTEST_EXACT));
        values.sort();
        values.dedup();
        let mut forms: Vec<String> = values.iter().flat_map(|value| forms(value)).collect();
        forms.retain(|form| form.len() >= SHORTEST_EXACT);
        forms.sort();
        forms.dedup();
        let build = || {
            let mut builder = AhoCorasick::builder();
            builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard).build(&forms).ok()
        };
        let search = if forms.is_empty() { None } else { build() };
        let forms = if search.is_some() { Vec::new() } else { forms };
        Self { values, search, forms }
    }

    /// How many values are known.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// Every place of every form. Occurrences may overlap each other; every byte of each of them goes.
    pub(super) fn find(&self, text: &str, findings: &mut Vec<Finding>) {
        let mut add = |start: usize, end: usize| {
            // Part of an encoded value can begin and end between any two bytes, but forms are whole characters.
            match findings.last_mut() {
                // A text that repeats a value a million times needs no list of a million.
                Some(last) if last.rank == 0 && start <= last.range.end && start >= last.range.start => {
                    last.range.end = last.range.end.max(end);
                }
                _ => findings.push(Finding { range: start..end, rank: 0 }),
            }
        };
        match &self.search {
            Some(search) => search.find_overlapping_iter(text).for_each(|found| add(found.start(), found.end())),
            None => {
                for form in &self.forms {
                    text.match_indices(form.as_str()).for_each(|(at, _)| add(at, at + form.len()));
                }
            }
        }
    }
}

fn forms(value: &str) -> Vec<String> {
    let normal: String = value.nfc().collect();
    let json = |text: &str| serde_json::to_string(text).map(|json| json[1..json.len() - 1].to_owned()).ok();
    let once = json(&normal);
    let mut forms = vec![value.to_owned()];
    forms.extend(once.as_deref().and_then(json));
    forms.extend(once);
    // Keys in PEM are shown line by line; their first and last line are everybody's.
    let lines = normal.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with("-----"));
    forms.extend(lines.map(str::to_owned));
    if value.len() <= LONGEST_ENCODED {
        for bytes in [value.as_bytes(), normal.as_bytes()] {
            forms.extend((0..3).flat_map(|before| base64_forms(bytes, before)));
            forms.push(hex::encode(bytes));
        }
        for set in [RESERVED, QUERY] {
            let encoded = utf8_percent_encode(&normal, set).to_string();
            forms.push(encoded.replace("%20", "+"));
            forms.push(encoded);
        }
    }
    forms.push(normal);
    forms
}

/// What Base64 makes of a value that stands behind `before` other bytes (modulo three), without the characters at either
/// end that depend on the neighbours.
fn base64_forms(value: &[u8], before: usize) -> [String; 2] {
    let padded = [&[0; 2][..before], value].concat();
    // Each character holds 6 bits; those that hold bits of neighbours only in part are left out.
    let (first, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    [STANDARD, URL_SAFE].map(|engine| engine.encode(&padded).get(first..end).unwrap_or_default().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(values: &ExactValues, text: &str) -> bool {
        let mut findings = Vec::new();
        values.find(text, &mut findings);
        !findings.is_empty()
    }

    #[test]
    fn a_value_is_found_in_every_form_that_is_claimed() {
        let value = "p\"ä>?~s/word +1\\x";
        let values = ExactValues::default().with(vec![value.to_owned()]);
        let json = serde_json::to_string(value).unwrap();
        let mut texts = vec![
            value.to_owned(),
            value.to_ascii_uppercase(),
            serde_json::to_string(&json).unwrap(),
            json,
            hex::encode(value),
            hex::encode_upper(value),
            utf8_percent_encode(value, NON_ALPHANUMERIC).to_string().replace("%2D", "-").replace("%7E", "~"),
            utf8_percent_encode(value, RESERVED).to_string().to_ascii_lowercase(),
            utf8_percent_encode(value, RESERVED).to_string().replace("%20", "+"),
            utf8_percent_encode(value, QUERY).to_string(),
        ];
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                let text = format!("{before}{value}{after}");
                texts.extend([STANDARD.encode(&text), URL_SAFE.encode(&text), STANDARD.encode(&text).replace('=', "")]);
            }
        }
        for text in texts {
            assert!(found(&values, &format!("at {text} end")), "{text}");
        }
        assert!(!found(&values, "p\"ä>?~s/word +2\\x"));
    }

    #[test]
    fn lines_of_a_key_are_found_alone_and_its_first_and_last_line_are_nobodys() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----";
        let values = ExactValues::default().with(vec![pem.to_owned()]);
        assert!(found(&values, "x MIIEvQIBADANBgkqhkiG9w0B"));
        assert!(!found(&values, "-----BEGIN PRIVATE KEY-----"));
    }

    #[test]
    fn values_are_added_to_those_that_are_known_and_short_ones_ignored() {
        let first = ExactValues::default().with(vec!["first-value".into(), "short".into()]);
        let both = first.with(vec!["second-value".into()]);
        assert_eq!((first.count(), both.count()), (1, 2));
        assert!(found(&both, "first-value") && found(&both, "second-value") && !found(&both, "short"));
    }
}
