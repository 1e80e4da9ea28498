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

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{061c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn escape_sequences_and_bidirectional_controls_become_visible() {
        assert_eq!(escape("a\u{1b}[31mb\u{202e}c\n", false), "a\\u{1b}[31mb\\u{202e}c\\u{a}");
        assert_eq!(escape("line\n\tnext\u{9b}", true), "line\n\tnext\\u{9b}");
        assert_eq!(escape("plain äöü 漢字", false), "plain äöü 漢字");
    }
}
