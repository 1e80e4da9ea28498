//! Text from outside on its way to a person: nothing in it may drive a terminal or reorder a line.

use std::borrow::Cow;

/// Escapes control characters (C0, DEL, C1), line separators, and bidirectional and invisible formatting
/// characters, as `\u{1b}`. `keep_newlines` leaves `\n` and `\t` alone.
pub fn escape(text: &str, keep_newlines: bool) -> Cow<'_, str> {
    let harmless = |c: char| (keep_newlines && matches!(c, '\n' | '\t')) || !is_unsafe(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmless(c) { escaped.push(c) } else { escaped.extend(c.escape_unicode()) }
    }
    Cow::Owned(escaped)
}

/// The same for a JSON text: what would be unsafe on a terminal becomes `\\u…`, which means the same to a program.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let harmless = |c: char| c == '\n' || !is_unsafe(c);
    if json.chars().all(harmless) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if harmless(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    Cow::Owned(escaped)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{061c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::{escape, escape_json};

    #[test]
    fn json_keeps_its_meaning() {
        let json = serde_json::to_string_pretty(&serde_json::json!({ "a": "x\u{9b}\u{202e}\u{e0001}\u{7f}" }))
            .unwrap_or_default();
        let escaped = escape_json(&json);
        assert!(escaped.contains("\\u009b\\u202e\\udb40\\udc01\\u007f"), "{escaped}");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        assert_eq!(parse(&escaped), parse(&json));
        assert!(parse(&json).is_some());
    }

    #[test]
    fn escape_sequences_and_bidirectional_controls_become_visible() {
        assert_eq!(escape("a\u{1b}[31mb\u{202e}c\n", false), "a\\u{1b}[31mb\\u{202e}c\\u{a}");
        assert_eq!(escape("line\n\tnext\u{9b}", true), "line\n\tnext\\u{9b}");
        assert_eq!(escape("plain äöü 漢字", false), "plain äöü 漢字");
    }
}
