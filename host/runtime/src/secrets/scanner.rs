//! Finds values in a stream: as they are, and in the encodings in which servers repeat what they were sent. It holds
//! back what may be the beginning of one until it is known that it is not.

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What URLs leave as it is (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Shorter pieces turn up in innocent text. Values have at least as many bytes; their encodings are longer.
const SHORTEST: usize = 8;

/// Looks through one stream.
pub(crate) struct Scanner {
    automaton: AhoCorasick,
    patterns: Vec<Vec<u8>>,
    held: BytesMut,
}

impl Scanner {
    /// For these values. None when they cannot be compiled, which does not happen with values of their size.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut patterns: Vec<Vec<u8>> = values.flat_map(forms).filter(|form| form.len() >= SHORTEST).collect();
        patterns.sort();
        patterns.dedup();
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&patterns).ok()?;
        Some(Self { automaton, patterns, held: BytesMut::new() })
    }

    /// Goes on with a stream that another one has begun, which knew fewer values.
    pub(crate) fn going_on(mut self, before: Option<Self>) -> Self {
        if let Some(before) = before {
            self.held = before.held;
        }
        self
    }

    /// Whether a whole text holds one.
    pub(super) fn finds(&self, text: &[u8]) -> bool {
        self.automaton.is_match(text)
    }

    /// Takes the next bytes of the stream and gives those that are certain to hold none; nothing at all when one was
    /// found.
    pub(crate) fn push(&mut self, data: &[u8]) -> Option<Bytes> {
        self.held.extend_from_slice(data);
        if self.automaton.is_match(&self.held) {
            self.held.clear();
            return None;
        }
        let longest = self.patterns.iter().map(Vec::len).max().unwrap_or(0);
        let most = self.held.len().min(longest.saturating_sub(1));
        let is_beginning = |end: &[u8]| {
            self.patterns
                .iter()
                .any(|pattern| pattern.get(..end.len()).is_some_and(|start| start.eq_ignore_ascii_case(end)))
        };
        let keep = (1..=most)
            .rev()
            .find(|length| self.held.get(self.held.len() - length..).is_some_and(is_beginning))
            .unwrap_or(0);
        let clean = self.held.len() - keep;
        Some(self.held.split_to(clean).freeze())
    }

    /// What was held back, at the end of the stream.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

/// The value and its encodings.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let json = serde_json::to_string(value).unwrap_or_default();
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut forms = vec![
        value.to_owned(),
        json.trim_matches('"').to_owned(),
        json.trim_matches('"').replace('/', "\\/"),
        html.replace('"', "&quot;").replace('\'', "&#39;"),
        html.replace('"', "&#34;").replace('\'', "&#39;"),
        utf8_percent_encode(value, RESERVED).to_string(),
        utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
        hex::encode(value),
    ];
    // Within a longer text the value begins at any of three places of a group of letters; the letters at both ends
    // depend on the neighbours.
    for before in 0..3_usize {
        let bytes = [&vec![0; before][..], value.as_bytes()].concat();
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.extend(encoded.get(from..to).map(str::to_owned));
        }
    }
    forms.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const VALUE: &str = "s3cr\"t/value & more-9917";

    fn scanner() -> Scanner {
        Scanner::new([VALUE].into_iter()).unwrap()
    }

    #[test]
    fn a_value_is_found_wherever_a_chunk_ends_and_no_byte_of_it_is_passed_on() {
        for form in forms(VALUE) {
            let text = [b"before ".as_slice(), &form, b" after"].concat();
            for cut in 0..=text.len() {
                let mut scanner = scanner();
                let mut passed = Vec::new();
                let mut found = false;
                for chunk in [&text[..cut], &text[cut..]] {
                    match scanner.push(chunk) {
                        Some(clean) if !found => passed.extend_from_slice(&clean),
                        Some(_) => {}
                        None => found = true,
                    }
                }
                assert!(found, "{cut}");
                assert!(b"before ".starts_with(passed.as_slice()), "{}", String::from_utf8_lossy(&passed));
            }
        }
    }

    #[test]
    fn everything_else_comes_through_unchanged_in_any_pieces() {
        let text = format!("{} {} {VALUE_BUT_ONE}", &VALUE[..10], &VALUE[..VALUE.len() - 1]);
        const VALUE_BUT_ONE: &str = "s3cr\"t/value & more-9918";
        for size in 1..text.len() {
            let mut scanner = scanner();
            let mut passed = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                passed.extend_from_slice(&scanner.push(chunk).unwrap());
            }
            passed.extend_from_slice(&scanner.rest());
            assert_eq!(String::from_utf8(passed).unwrap(), text, "{size}");
        }
    }

    #[test]
    fn a_value_that_is_sent_in_the_meantime_is_looked_for_from_then_on() {
        let mut first = scanner();
        assert_eq!(first.push(&VALUE.as_bytes()[..5]).unwrap(), "");
        let mut second = Scanner::new([VALUE, "another-value"].into_iter()).unwrap().going_on(Some(first));
        assert!(second.push(&VALUE.as_bytes()[5..]).is_none());
        let mut third = Scanner::new([VALUE, "another-value"].into_iter()).unwrap().going_on(None);
        assert!(third.push(b"it is another-value").is_none());
    }

    #[test]
    fn a_value_is_found_within_a_longer_base64_text() {
        for before in ["", "u", "us", "user:"] {
            let text = STANDARD_NO_PAD.encode(format!("{before}{VALUE}:tail"));
            assert!(scanner().finds(text.as_bytes()), "{before}");
        }
    }
}
