//! What reviewers are told: how things were decided, what was used of what was allowed, and what would have happened
//! otherwise. Everything is put together from the record, the stored runs, and the kept texts of what decided.

pub(crate) mod diff;
pub(crate) mod evidence;
pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod matrix;
pub(crate) mod replay;
pub(crate) mod report;
mod rights;
mod scopes;
pub(crate) mod sign_off;
pub(crate) mod simulate;
pub(crate) mod suggest;
pub(crate) mod summary;

use serde::{Deserialize, Serialize};

/// A place in a text that decided, with what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Source {
    /// The file, as records name it.
    pub(crate) file: String,
    /// Line, from 1.
    pub(crate) line: u32,
    /// The lines that belong together around it; none when the text was not kept.
    pub(crate) text: Option<String>,
}

/// The paragraph of a text that a line, counted from 1, stands in.
fn paragraph(text: &str, line: u32) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = usize::try_from(line).ok()?.checked_sub(1).filter(|at| *at < lines.len())?;
    let blank = |line: &&str| line.trim().is_empty();
    let start = lines[..at].iter().rposition(blank).map_or(0, |before| before + 1);
    let end = lines[at..].iter().position(blank).map_or(lines.len(), |after| at + after);
    // A paragraph of a file that nobody has divided is cut to what can be looked at.
    let (start, end) = (start.max(at.saturating_sub(MOST_LINES)), end.min(at + MOST_LINES));
    Some(lines.get(start..end)?.join("\n"))
}

/// Lines on each side of a rule that are shown with it.
const MOST_LINES: usize = 8;

#[cfg(test)]
mod tests {
    use super::paragraph;

    #[test]
    fn a_rule_is_shown_with_the_lines_that_belong_to_it() {
        let text = "schema = 1\n\n# Reads.\n[[allow]]\ncapability = \"fs.read\"\n\n[[deny]]\n";
        assert_eq!(paragraph(text, 5).as_deref(), Some("# Reads.\n[[allow]]\ncapability = \"fs.read\""));
        assert_eq!(paragraph(text, 1).as_deref(), Some("schema = 1"));
        assert_eq!(paragraph(text, 7).as_deref(), Some("[[deny]]"));
        assert_eq!((paragraph(text, 0), paragraph(text, 8)), (None, None));
    }
}
