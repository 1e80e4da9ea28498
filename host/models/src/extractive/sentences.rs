//! Splits plain text and Markdown into sentences.
//!
//! Lines are gathered into paragraphs and list items first; headings, code, tables, images and front matter are
//! no sentences. Within a paragraph a sentence ends at `.`, `!`, `?` or `…` before white space, unless the full
//! stop belongs to an abbreviation, an initial or an ordinal number, or a small letter follows.

/// Abbreviations that do not end a sentence, in lower case without their last full stop.
#[rustfmt::skip]
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "cf", "al", "fig", "figs", "eq", "sec", "no", "nos", "vol", "vols", "ch", "pp",
    "approx", "dept", "est", "inc", "ltd", "co", "corp", "gen", "gov", "sen", "rep", "rev", "hon", "capt", "col", "sgt", "ed", "eds", "ca",
    "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "e.g", "i.e", "a.m", "p.m",
    "bzw", "nr", "abs", "art", "evtl", "ggf", "inkl", "exkl", "vgl", "bspw", "sog", "mio", "mrd", "hrsg", "jh", "str", "tel", "bd", "aufl",
    "u.a", "z.b", "d.h", "o.ä", "u.ä", "i.d.r", "s.o", "s.u", "z.t", "v.a", "zzgl", "max", "min", "ehem", "geb", "gest", "hl", "lt", "mind",
];

/// Words before an ordinal number (`am 3. Oktober`), German.
const BEFORE_ORDINAL: &[&str] =
    &["am", "im", "der", "des", "dem", "den", "die", "das", "vom", "zum", "bis", "ab", "seit", "und"];

/// Words behind one.
#[rustfmt::skip]
const BEHIND_ORDINAL: &[&str] = &[
    "januar", "februar", "märz", "april", "mai", "juni", "juli", "august", "september", "oktober", "november", "dezember", "jahrhundert", "jahrhunderts",
];

/// The sentences of a text, at most `most`, and whether that is all of it. White space within a sentence becomes
/// one space. A text without any gives its lines instead.
pub(super) fn split(text: &str, most: usize) -> (Vec<String>, bool) {
    let mut sentences = Vec::new();
    let mut paragraph = String::new();
    let complete = blocks(text, |block| {
        paragraph.clear();
        for word in block.iter().flat_map(|line| line.split_whitespace()) {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(word);
        }
        for sentence in of_paragraph(&paragraph) {
            if sentences.len() == most {
                return false;
            }
            // Rules, bullets and the like have no word in them.
            if sentence.chars().any(char::is_alphanumeric) {
                sentences.push(sentence.to_owned());
            }
        }
        true
    });
    if !sentences.is_empty() {
        return (sentences, complete);
    }
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| line.chars().any(char::is_alphanumeric));
    let first: Vec<String> = lines.by_ref().take(most).collect();
    let complete = lines.next().is_none();
    (first, complete)
}

/// Calls `take` with the lines of each paragraph or list item, markers removed, until it returns false. Returns
/// whether it took all.
fn blocks<'a>(text: &'a str, mut take: impl FnMut(&[&'a str]) -> bool) -> bool {
    let mut lines: Vec<&str> = Vec::new();
    let mut fence: Option<&str> = None;
    let mut rest = text.lines();
    if text.lines().next().is_some_and(|first| first.trim_end() == "---") {
        // Front matter, if it ends; otherwise the line is a rule and the text begins.
        let mut ahead = text.lines().skip(1);
        if ahead.any(|line| line.trim_end() == "---") {
            rest = text.lines();
            let length = text.lines().skip(1).take_while(|line| line.trim_end() != "---").count() + 2;
            for _ in 0..length {
                rest.next();
            }
        }
    }
    for line in rest {
        let line = line.trim_start_matches(['>', ' ', '\t', '\u{feff}']).trim_end();
        if let Some(mark) = fence {
            if line.starts_with(mark) {
                fence = None;
            }
            continue;
        }
        let opens = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark));
        let underline = !lines.is_empty()
            && line.len() >= 2
            && (line.bytes().all(|byte| byte == b'=') || line.bytes().all(|byte| byte == b'-'));
        if underline {
            // What stood above it is a heading.
            lines.clear();
            continue;
        }
        let item = without_marker(line);
        if opens.is_some() || line.is_empty() || is_apart(line) || item.is_some() {
            if !lines.is_empty() && !take(&lines) {
                return false;
            }
            lines.clear();
            fence = opens;
        }
        match item {
            Some(item) if !item.is_empty() => lines.push(item),
            Some(_) => {}
            None if line.is_empty() || opens.is_some() || is_apart(line) => {}
            None => lines.push(line),
        }
    }
    lines.is_empty() || take(&lines)
}

/// Headings, tables, HTML tags and images stand apart from the text.
fn is_apart(line: &str) -> bool {
    let heading = line.trim_start_matches('#');
    let is_heading = heading.len() < line.len()
        && line.len() - heading.len() <= 6
        && (heading.is_empty() || heading.starts_with([' ', '\t']));
    let mut start = line.chars();
    let tag = start.next() == Some('<')
        && start.next().is_some_and(|c| c == '/' || c == '!' || c.is_ascii_alphabetic())
        && !line.contains("://");
    is_heading || tag || line.starts_with('|') || line.starts_with("![") || line.starts_with("[![")
}

/// The text of a list item, if the line is one: `- `, `* `, `+ `, `• `, `1. `, `1) `.
fn without_marker(line: &str) -> Option<&str> {
    if let Some(item) = line.strip_prefix(['-', '*', '+', '•', '–']) {
        return item.strip_prefix([' ', '\t']).map(str::trim_start);
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=3).contains(&digits) {
        return None;
    }
    line[digits..].strip_prefix(['.', ')'])?.strip_prefix([' ', '\t']).map(str::trim_start)
}

/// Splits a paragraph whose words are separated by single spaces.
fn of_paragraph(text: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some((at, mark)) =
            text[from..].char_indices().map(|(at, c)| (from + at, c)).find(|(_, c)| is_terminator(*c))
        {
            let mut end = at + mark.len_utf8();
            // Further marks, closing quotes, brackets and emphasis belong to the sentence.
            let closes = |c: char| {
                is_terminator(c)
                    || matches!(c, '"' | '\'' | ')' | ']' | '}' | '»' | '«' | '”' | '“' | '’' | '*' | '_' | '」' | '』')
            };
            end += text[end..].chars().take_while(|c| closes(*c)).map(char::len_utf8).sum::<usize>();
            from = end;
            let wide = matches!(mark, '。' | '！' | '？');
            let ends = match text[end..].strip_prefix(' ') {
                Some(rest) => wide || is_boundary(&text[start..at], mark, rest),
                None => wide || end == text.len(),
            };
            if ends {
                let sentence = text[start..end].trim();
                start = end;
                return Some(sentence);
            }
        }
        let rest = text[start..].trim();
        start = text.len();
        from = text.len();
        (!rest.is_empty()).then_some(rest)
    })
}

fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？')
}

/// Whether a sentence ends between the text before a mark and what follows behind a space.
fn is_boundary(before: &str, mark: char, rest: &str) -> bool {
    let first = rest.trim_start_matches(['"', '\'', '(', '[', '{', '«', '»', '“', '„', '‘', '*', '_']).chars().next();
    if first.is_some_and(char::is_lowercase) {
        return false;
    }
    if mark != '.' {
        return true;
    }
    let mut words = before.rsplit(' ');
    let last = words.next().unwrap_or_default().trim_start_matches(['(', '[', '"', '\'', '“', '„', '*', '_']);
    let lower = last.to_lowercase();
    if ABBREVIATIONS.contains(&lower.as_str()) {
        return false;
    }
    // Initials (`J. Smith`, `U.S. Senate`, `z. B. Bonn`): letters, each with a full stop. `I` is a word.
    let mut letters = last.split('.');
    if last != "I"
        && !last.is_empty()
        && letters.all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic))
    {
        return false;
    }
    if (1..=2).contains(&last.len()) && last.bytes().all(|byte| byte.is_ascii_digit()) {
        let next =
            rest.split(' ').next().unwrap_or_default().trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let previous = words.next().unwrap_or_default().to_lowercase();
        return !BEHIND_ORDINAL.contains(&next.as_str()) && !BEFORE_ORDINAL.contains(&previous.as_str());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::split;

    fn sentences(text: &str) -> Vec<String> {
        split(text, 100).0
    }

    #[test]
    fn full_stops_that_end_nothing_do_not_split() {
        for sentence in [
            "Dr. Smith met Mr. J. R. Jones in the U.S. Senate at 5 p.m. on Friday.",
            "It costs 3.50 euros, e.g. at https://example.com/a.b?c=d. or so, i.e. v1.2.3 works.",
            "Das gilt z. B. für Bonn, d. h. seit dem 3. Oktober und im 19. Jahrhundert, bzw. für Nr. 5 und ca. 20 Orte.",
            "Is it? she asked.",
            "See Fig. 3 and Smith et al. 2020 for more.",
        ] {
            assert_eq!(sentences(&format!("{sentence} Next one.")), [sentence, "Next one."]);
        }
    }

    #[test]
    fn sentences_end_where_people_see_it() {
        assert_eq!(
            sentences(
                "One two. \"Three four!\" (Five six.) *Seven.* Was it 1999? It was 2020. And I said so. So did I. Well… Yes"
            ),
            [
                "One two.",
                "\"Three four!\"",
                "(Five six.)",
                "*Seven.*",
                "Was it 1999?",
                "It was 2020.",
                "And I said so.",
                "So did I.",
                "Well…",
                "Yes"
            ]
        );
        assert_eq!(sentences("これは一つ。これは二つ！"), ["これは一つ。", "これは二つ！"]);
    }

    #[test]
    fn markdown_is_taken_apart() {
        let text = "---\ntitle: X. Y.\n---\n# Heading. Not a sentence\n\n![image](a.png)\nA paragraph\nover two lines. And more.\n\n- first item\n- second\n  item. With two.\n1. numbered\n\n```rust\nlet x = 1. ;\n```\n> quoted text.\n\nOld heading\n===========\n\n| a | b |\n|---|---|\n\n***\n<br>\nEnd.";
        assert_eq!(
            sentences(text),
            [
                "A paragraph over two lines.",
                "And more.",
                "first item",
                "second item.",
                "With two.",
                "numbered",
                "quoted text.",
                "End."
            ]
        );
    }

    #[test]
    fn a_text_of_headings_gives_its_lines() {
        assert_eq!(sentences("# One\n\n## Two\n"), ["# One", "## Two"]);
        assert!(sentences(" \n\n---\n").is_empty());
    }

    #[test]
    fn the_number_is_bounded_and_said() {
        assert_eq!(split(&"One two. ".repeat(5), 5), (vec!["One two.".to_owned(); 5], true));
        assert_eq!(split(&"One two. ".repeat(6), 5), (vec!["One two.".to_owned(); 5], false));
        assert_eq!(split("One.\n\nTwo.", 1), (vec!["One.".to_owned()], false));
    }
}
