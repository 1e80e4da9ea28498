//! Puts text from outside into Markdown so that it stays text: no markup, no links, no control characters.

/// One line of text with its markup escaped; line breaks become spaces.
pub(crate) fn line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    let mut before = None;
    for word in text.split_whitespace() {
        if before.is_some() {
            escaped.push(' ');
            before = Some(' ');
        }
        let mut characters = word.chars().peekable();
        while let Some(character) = characters.next() {
            let within = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
            match character {
                // Within a word it emphasizes nothing, and `snake_case` is common.
                '_' if within(before) && within(characters.peek().copied()) => escaped.push('_'),
                '\\' | '`' | '*' | '_' | '[' | '<' | '~' => {
                    escaped.push('\\');
                    escaped.push(character);
                }
                other if is_unsafe(other) => {
                    escaped.push('\\');
                    escaped.extend(other.escape_unicode());
                }
                other => escaped.push(other),
            }
            before = Some(character);
        }
    }
    guard_line_start(escaped)
}

/// The paragraphs of a text, each as one escaped line.
pub(crate) fn paragraphs(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        while lines.next_if(|line| line.trim().is_empty()).is_some() {}
        let mut paragraph = lines.next()?.to_owned();
        while let Some(next) = lines.next_if(|line| !line.trim().is_empty()) {
            paragraph.push(' ');
            paragraph.push_str(next);
        }
        Some(line(&paragraph))
    })
}

/// Text as a code span. Control characters are escaped; the fence is longer than any run of backticks inside.
pub(crate) fn code(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let (mut run, mut longest) = (0_usize, 0);
    for character in text.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
        if is_unsafe(character) {
            plain.extend(character.escape_unicode());
        } else {
            plain.push(character);
        }
    }
    let fence = "`".repeat(longest + 1);
    let pad = if plain.is_empty() || plain.starts_with('`') || plain.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{plain}{pad}{fence}")
}

/// What could turn a line into a heading, a list, a quote, a rule or an underline of the line before, when it stands first.
fn guard_line_start(mut line: String) -> String {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    match line.as_bytes().get(digits) {
        Some(b'-' | b'+' | b'=' | b'#' | b'>') if digits == 0 => line.insert(0, '\\'),
        Some(b'.' | b')') if digits > 0 => line.insert(digits, '\\'),
        _ => {}
    }
    line
}

/// Control characters, and those that change the direction or the visibility of text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_are_escaped() {
        assert_eq!(
            line("a *b* _c_ d_e <f> [g](h) \u{1b}[0m \u{202e}i"),
            "a \\*b\\* \\_c\\_ d_e \\<f> \\[g](h) \\\\u{1b}\\[0m \\\\u{202e}i"
        );
        assert_eq!(line("- a"), "\\- a");
        assert_eq!(line("12. a"), "12\\. a");
        assert_eq!(line("12 a.b"), "12 a.b");
        assert_eq!(line("==="), "\\===");
        assert_eq!(line("# C#"), "\\# C#");
        assert_eq!(line("> a"), "\\> a");
    }

    #[test]
    fn code_spans_hold_backticks_and_escape_control_characters() {
        assert_eq!(code("a.md"), "`a.md`");
        assert_eq!(code("a``b"), "```a``b```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a\nb\u{1b}"), "`a\\u{a}b\\u{1b}`");
    }

    #[test]
    fn paragraphs_are_kept_apart() {
        let all: Vec<String> = paragraphs("\n one\ntwo\n\n\n- three\n").collect();
        assert_eq!(all, ["one two", "\\- three"]);
    }
}
