//! What can be said about a file from its path and content: whether it is text, its title, its media type.

/// The file's extension as far as it counts: of the last path component, in lower case.
fn extension(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty()).then(|| extension.to_ascii_lowercase())
}

/// Whether the path has one of these extensions. A dot in front of an extension is forgiven.
pub(crate) fn has_extension(path: &str, extensions: &[String]) -> bool {
    extension(path).is_some_and(|found| {
        extensions.iter().any(|wanted| wanted.trim_start_matches('.').eq_ignore_ascii_case(&found))
    })
}

/// The media type, by extension.
pub(crate) fn media_type(path: &str) -> &'static str {
    match extension(path).as_deref() {
        Some("md" | "markdown") => "text/markdown; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}

/// The content as text, or why it is none. A byte order mark is dropped.
pub(crate) fn text(mut content: Vec<u8>) -> Result<String, &'static str> {
    if content.contains(&0) {
        return Err("binary");
    }
    if content.starts_with(b"\xef\xbb\xbf") {
        content.drain(..3);
    }
    String::from_utf8(content).map_err(|_| "not UTF-8")
}

/// The first Markdown heading, or the file's name.
pub(crate) fn title(path: &str, text: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let heading = media_type(path).starts_with("text/markdown").then(|| handshake_markdown::title(text)).flatten();
    heading.map_or_else(|| name.to_owned(), |heading| cut(&heading))
}

/// The longest title; a heading past it is cut at a character.
const MAX_TITLE_BYTES: usize = 200;

fn cut(title: &str) -> String {
    let mut end = title.len().min(MAX_TITLE_BYTES);
    while !title.is_char_boundary(end) {
        end -= 1;
    }
    title[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_is_the_first_heading_or_the_name() {
        for (text, expected) in [("# One\n\ntext", "One"), ("", "a.md"), ("no heading", "a.md")] {
            assert_eq!(title("x/a.md", text), expected, "{text:?}");
        }
    }

    #[test]
    fn plain_text_is_titled_by_its_name() {
        assert_eq!(title("x/notes.txt", "# a comment"), "notes.txt");
    }

    #[test]
    fn a_long_title_is_cut_at_a_character() {
        let title = title("a.md", &format!("# {}", "ö".repeat(300)));
        assert_eq!(title, "ö".repeat(100));
    }

    #[test]
    fn extensions_match_in_any_case_and_hidden_names_have_none() {
        let wanted = ["md".to_owned(), ".TXT".to_owned()];
        assert!(has_extension("a/B.MD", &wanted));
        assert!(has_extension("a.txt", &wanted));
        assert!(!has_extension("a.md/b", &wanted));
        assert!(!has_extension("md", &wanted));
        assert!(!has_extension(".md", &wanted));
    }

    #[test]
    fn only_text_is_text() {
        assert_eq!(text(b"\xef\xbb\xbfhello".to_vec()), Ok("hello".to_owned()));
        assert_eq!(text(b"a\0b".to_vec()), Err("binary"));
        assert_eq!(text(b"\xff\xfe".to_vec()), Err("not UTF-8"));
    }
}
