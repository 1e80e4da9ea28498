//! What is a word, what is a link.

/// Runs of ASCII letters, ASCII digits and characters beyond ASCII.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| letter.is_ascii() && !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// What stands between `](` and the next space, line end, tab or `)`, unless it is empty or the text ends before that.
pub(crate) fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let end = rest.find([' ', '\t', '\r', '\n', ')'])?;
        (end > 0).then(|| &rest[..end])
    })
}

/// The host of a link to the web, ASCII letters in lower case.
pub(crate) fn host(target: &str) -> Option<String> {
    let rest = target.strip_prefix("https://").or_else(|| target.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#', ':']).next().unwrap_or_default();
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_digits_and_what_is_beyond_ascii() {
        assert_eq!(words("It's 2 wörter—x_y").collect::<Vec<_>>(), ["It", "s", "2", "wörter—x", "y"]);
    }

    #[test]
    fn links_end_at_a_space_or_a_parenthesis() {
        let text = "[a](x) ![b](y \"title\") [c]() [d](https://e.org/f(g) [h](never";
        assert_eq!(links(text).collect::<Vec<_>>(), ["x", "y", "https://e.org/f(g"]);
    }

    #[test]
    fn only_links_to_the_web_have_a_host() {
        assert_eq!(host("https://Example.org:8080/a").as_deref(), Some("example.org"));
        assert_eq!(host("http://"), None);
        assert_eq!(host("mailto:a@example.org"), None);
    }
}
