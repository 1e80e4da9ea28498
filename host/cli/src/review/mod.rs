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

use std::collections::BTreeSet;

use handshake_core::{HostId, RunId};
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::host::HostState;

/// Other hosts that executed parts of runs: what those asked for is on their records, and not on this one.
pub(crate) async fn elsewhere(host: &HostState, runs: &[RunId]) -> Result<Vec<HostId>, CliError> {
    let mut hosts = BTreeSet::new();
    for run in runs {
        hosts.extend(host.database.hosts(*run).await?);
    }
    hosts.remove(&host.database.host());
    Ok(hosts.into_iter().collect())
}

/// The same, in words.
pub(crate) fn told_elsewhere(hosts: &[HostId]) -> Option<String> {
    let (first, more) = hosts.split_first()?;
    let all = more.iter().fold(format!("`{first}`"), |all, host| format!("{all}, `{host}`"));
    Some(format!(
        "parts were executed by host {all}, and are on its record alone; file host-id of a data directory names it"
    ))
}

/// Refuses what cannot be said of a run without all that is on record about it.
async fn require_whole(host: &HostState, run: RunId) -> Result<(), CliError> {
    match told_elsewhere(&elsewhere(host, &[run]).await?) {
        Some(problem) => Err(CliError::conflict(format!("of run `{run}` {problem}"))),
        None => Ok(()),
    }
}

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
