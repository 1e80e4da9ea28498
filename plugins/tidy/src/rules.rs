//! What is untidy in a document, and what to propose about it. No rule changes what a reader learns from it.

use std::collections::BTreeSet;

use handshake_step::documents::{Block, Document, MoveBlock, Operation, ReplaceBlock};

/// How the summary at the top begins, so that it is found again.
const MARK: &str = "> **In short:**";
/// Headings of sections that tell the whole in few words.
const SUMMARIES: [&str; 5] = ["summary", "in short", "tl;dr", "conclusion", "conclusions"];
/// Shorter paragraphs can be meant to stand twice.
const LEAST_DOUBLE: usize = 24;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// In the order in which they are made.
    pub(crate) operations: Vec<Operation>,
    /// The title that the document should have, if it is another one.
    pub(crate) title: Option<String>,
    /// Behind which block a summary is missing; none within that for the start.
    pub(crate) summary_behind: Option<Option<String>>,
}

/// Looks through a document.
pub(crate) fn look(document: &Document) -> Findings {
    let blocks = &document.blocks;
    let mut findings = Findings::default();
    let doubles = doubles(blocks);
    for (at, block) in blocks.iter().enumerate() {
        if doubles.contains(&at) {
            findings.operations.push(Operation::DeleteBlock(block.id.clone()));
            continue;
        }
        let beside_list = [at.checked_sub(1), Some(at + 1)]
            .into_iter()
            .flatten()
            .any(|at| blocks.get(at).is_some_and(|block| block.kind == "list"));
        let tidy = match block.kind.as_str() {
            "heading" => heading(&block.content),
            // Side by side, lists are told apart by their bullets.
            "list" if !beside_list => bullets(&block.content),
            _ => None,
        };
        if let Some(content) = tidy.filter(|content| *content != block.content) {
            findings.operations.push(Operation::ReplaceBlock(ReplaceBlock { id: block.id.clone(), content }));
        }
    }
    let lead = usize::from(blocks.first().is_some_and(|block| block.kind == "front_matter"));
    let title = blocks.get(lead).filter(|block| level(block) == Some(1));
    if let Some(title) = title.and_then(|block| handshake_markdown::title(&block.content)) {
        findings.title = (title != document.info.title).then_some(title);
    }
    let top = if title.is_some() { lead + 1 } else { lead };
    let behind = top.checked_sub(1).and_then(|at| blocks.get(at)).map(|block| block.id.clone());
    match last_summary(blocks) {
        Some(start) if start > top => {
            let mut after = behind;
            for at in (start..blocks.len()).filter(|at| !doubles.contains(at)) {
                let Some(block) = blocks.get(at) else { continue };
                findings.operations.push(Operation::MoveBlock(MoveBlock { id: block.id.clone(), after }));
                after = Some(block.id.clone());
            }
        }
        Some(_) => {}
        None => {
            let has_one = blocks.iter().any(|block| block.content.starts_with(MARK) || is_summary(block));
            findings.summary_behind = (!has_one).then_some(behind);
        }
    }
    findings
}

/// A summary as a block; none when it says nothing.
pub(crate) fn summary_block(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| format!("{MARK} {}", words.join(" ")))
}

/// Paragraphs that stand there already, and those with nothing in them.
fn doubles(blocks: &[Block]) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut doubles = BTreeSet::new();
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.kind == "paragraph") {
        let words = block.content.split_whitespace().collect::<Vec<_>>().join(" ");
        let empty = words.is_empty() || words == "&nbsp;";
        if empty || (words.len() >= LEAST_DOUBLE && !seen.insert(words)) {
            doubles.insert(at);
        }
    }
    doubles
}

/// The level of a heading.
fn level(block: &Block) -> Option<usize> {
    if block.kind != "heading" {
        return None;
    }
    let text = block.content.trim();
    match text.bytes().take_while(|byte| *byte == b'#').count() {
        0 => text.lines().last().map(|line| if line.trim_start().starts_with('=') { 1 } else { 2 }),
        marks => Some(marks),
    }
}

fn is_summary(block: &Block) -> bool {
    let title = if block.kind == "heading" { handshake_markdown::title(&block.content) } else { None };
    title.is_some_and(|title| SUMMARIES.contains(&title.trim_end_matches(':').to_lowercase().as_str()))
}

/// Where the last section begins, if it is one that tells the whole in few words.
fn last_summary(blocks: &[Block]) -> Option<usize> {
    let start = blocks.iter().rposition(|block| block.kind == "heading")?;
    let block = blocks.get(start)?;
    (is_summary(block) && level(block).is_some_and(|level| level > 1)).then_some(start)
}

/// A heading as `# text`. One that spans lines stays as it is.
fn heading(content: &str) -> Option<String> {
    let text = content.trim();
    let marks = text.bytes().take_while(|byte| *byte == b'#').count();
    if marks == 0 {
        let (line, under) = text.split_once('\n')?;
        let under = under.trim();
        let mark = if under.starts_with('=') { "#" } else { "##" };
        let is_rule = !under.is_empty() && under.bytes().all(|byte| byte == b'=' || byte == b'-');
        return is_rule.then(|| format!("{mark} {}", line.trim()));
    }
    if text.contains('\n') {
        return None;
    }
    let words = text.get(marks..)?.trim();
    let closed = words.trim_end_matches('#');
    // A `#` that belongs to a word, such as in `C#`, is not one that closes.
    let words = if closed.is_empty() || closed.ends_with([' ', '\t']) { closed.trim() } else { words };
    let mark = text.get(..marks)?;
    Some(if words.is_empty() { mark.to_owned() } else { format!("{mark} {words}") })
}

/// A list with `-` for every bullet. What holds code stays as it is: not every star there is a bullet.
fn bullets(content: &str) -> Option<String> {
    if content.contains("```") || content.contains("~~~") || content.contains("\t") {
        return None;
    }
    let lines = content.split('\n').map(|line| {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        let is_rule = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).all(|byte| byte == b'*');
        match text.strip_prefix(['*', '+']) {
            Some(rest) if rest.starts_with(' ') && !is_rule => format!("{}-{rest}", &line[..indent]),
            _ => line.to_owned(),
        }
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use handshake_step::documents::Summary;

    use super::*;

    fn document(title: &str, blocks: &[(&str, &str)]) -> Document {
        let block = |(at, (kind, content)): (usize, &(&str, &str))| Block {
            id: format!("b{at}"),
            kind: (*kind).to_owned(),
            content: (*content).to_owned(),
        };
        Document {
            info: Summary { id: "d".to_owned(), title: title.to_owned(), version: 1 },
            blocks: blocks.iter().enumerate().map(block).collect(),
        }
    }

    fn shown(findings: &Findings) -> Vec<String> {
        let show = |operation: &Operation| match operation {
            Operation::ReplaceBlock(replace) => format!("replace {} {}", replace.id, replace.content),
            Operation::MoveBlock(moved) => format!("move {} {}", moved.id, moved.after.clone().unwrap_or_default()),
            Operation::DeleteBlock(id) => format!("delete {id}"),
            other => panic!("{other:?}"),
        };
        findings.operations.iter().map(show).collect()
    }

    const LONG: &str = "The same paragraph, word by word.";

    #[test]
    fn headings_get_one_form_and_keep_their_words() {
        for (before, after) in [
            ("Title\n=====", Some("# Title")),
            ("Title\n---", Some("## Title")),
            ("##  Title  ##", Some("## Title")),
            ("# C#", Some("# C#")),
            ("#", Some("#")),
            ("two\nlines\n===", None),
        ] {
            assert_eq!(heading(before).as_deref(), after, "{before}");
        }
    }

    #[test]
    fn bullets_become_dashes_but_not_in_code_nor_beside_another_list() {
        assert_eq!(bullets("* a\n  + b\n* *c*\n").unwrap(), "- a\n  - b\n- *c*\n");
        assert_eq!(bullets("* a\n\n  * * *").unwrap(), "- a\n\n  * * *");
        assert_eq!(bullets("* a\n  ```\n  * b\n  ```"), None);
        assert_eq!(shown(&look(&document("", &[("list", "* a"), ("list", "+ b")]))), Vec::<String>::new());
    }

    #[test]
    fn doubles_and_empty_paragraphs_go_and_short_ones_stay() {
        let blocks = [
            ("paragraph", LONG),
            ("paragraph", "Yes."),
            ("paragraph", "&nbsp;"),
            ("paragraph", "Yes."),
            ("paragraph", LONG),
        ];
        assert_eq!(shown(&look(&document("", &blocks))), ["delete b2", "delete b4"]);
    }

    #[test]
    fn a_summary_at_the_end_moves_behind_the_title() {
        let blocks = [
            ("front_matter", "---\na: b\n---"),
            ("heading", "# Guide"),
            ("paragraph", LONG),
            ("heading", "## Summary"),
            ("paragraph", "All of it."),
            ("paragraph", LONG),
            ("list", "- a"),
        ];
        let findings = look(&document("guide.md", &blocks));
        assert_eq!(shown(&findings), ["delete b5", "move b3 b1", "move b4 b3", "move b6 b4"]);
        assert_eq!((findings.title.as_deref(), findings.summary_behind), (Some("Guide"), None));
    }

    #[test]
    fn a_summary_is_missing_until_there_is_one() {
        let plain = [("heading", "# Guide"), ("paragraph", LONG)];
        let findings = look(&document("Guide", &plain));
        assert_eq!((findings.title, findings.summary_behind), (None, Some(Some("b0".to_owned()))));
        let block = summary_block("One.\n\n# Two.\n").unwrap();
        assert_eq!(block, "> **In short:** One. # Two.");
        assert_eq!(look(&document("Guide", &[plain[0], ("quote", &block), plain[1]])).summary_behind, None);
        assert_eq!(look(&document("", &[("paragraph", LONG)])).summary_behind, Some(None));
        assert_eq!(summary_block(" \n"), None);
    }
}
