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
    let heading = media_type(path).starts_with("text/markdown").then(|| heading(text)).flatten();
    heading.unwrap_or_else(|| name.to_owned())
}

/// The longest title; a heading past it is cut at a character.
const MAX_TITLE_BYTES: usize = 200;

/// The first heading of either kind with any text, outside code fences and front matter. A line scanner is enough:
/// a wrong guess costs a worse title, nothing else.
fn heading(text: &str) -> Option<String> {
    let mut fence: Option<(char, usize)> = None;
    let mut paragraph = None;
    for line in body(text).lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let content = line.trim();
        if let Some((mark, length)) = fence {
            let run = content.len() - content.trim_start_matches(mark).len();
            if indent < 4 && run >= length && content.trim_start_matches(mark).is_empty() {
                fence = None;
            }
            continue;
        }
        if indent >= 4 || line.starts_with('\t') || content.is_empty() {
            paragraph = None;
            continue;
        }
        if let Some(mark) = content.chars().next().filter(|mark| matches!(mark, '`' | '~')) {
            let rest = content.trim_start_matches(mark);
            let length = content.len() - rest.len();
            if length >= 3 && !(mark == '`' && rest.contains('`')) {
                fence = Some((mark, length));
                paragraph = None;
                continue;
            }
        }
        if let Some(title) = atx(content) {
            if !title.is_empty() {
                return Some(cut(title));
            }
            paragraph = None;
            continue;
        }
        let underline = ['=', '-'].iter().any(|mark| content.chars().all(|character| character == *mark));
        match paragraph {
            Some(title) if underline => return Some(cut(title)),
            _ if underline => paragraph = None,
            // A setext heading may span lines; its first is title enough.
            None if !content.starts_with(['>', '|', '<']) && !is_list_item(content) => paragraph = Some(content),
            _ => {}
        }
    }
    None
}

/// The text of `# Title ##`; none when the line is no such heading.
fn atx(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    if !(1..=6).contains(&level) || !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
        return None;
    }
    let rest = rest.trim();
    let open = rest.trim_end_matches('#');
    Some(if open.is_empty() || open.ends_with([' ', '\t']) { open.trim_end() } else { rest })
}

fn is_list_item(line: &str) -> bool {
    let rest = line.trim_start_matches(|character: char| character.is_ascii_digit());
    rest.strip_prefix(['-', '*', '+', '.', ')']).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The text behind YAML or TOML front matter.
fn body(text: &str) -> &str {
    for mark in ["---", "+++"] {
        let Some(rest) = text.strip_prefix(mark) else { continue };
        let Some(rest) = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')) else { continue };
        let mut offset = 0;
        for line in rest.split_inclusive('\n') {
            offset += line.len();
            if line.trim_end() == mark {
                return &rest[offset..];
            }
        }
    }
    text
}

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
    fn the_title_is_the_first_heading_of_either_kind() {
        for (text, expected) in [
            ("# One\n\ntext", "One"),
            ("text\n\n## Two ##\n", "Two"),
            ("C#\n==\n", "C#"),
            ("# C#\n", "C#"),
            ("Three\n-----\n", "Three"),
            ("---\ntitle: x\n# not this\n---\n\n# Four", "Four"),
            ("```sh\n# not this\n```\n# Five", "Five"),
            ("~~~~\n```\n# not this\n~~~\n~~~~\n# Six", "Six"),
            ("    # not this, it is code\n\n# Seven", "Seven"),
            ("---\n\n# Eight after a rule", "Eight after a rule"),
            ("- item\n---\n# Nine", "Nine"),
            ("#\n# Ten", "Ten"),
            ("#hashtag\n\n# Eleven", "Eleven"),
            ("# Zwölf\r\n", "Zwölf"),
            ("", "a.md"),
            ("no heading", "a.md"),
        ] {
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
