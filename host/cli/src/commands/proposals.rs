//! How `handshake jobs show` shows what a job proposes for documents.

use handshake_engine::{ProposalStatus, Proposals, ProposedDocument};

use crate::error::CliError;
use crate::output::{Output, Tone};

/// Shows each document's part, with the diff of what would change.
pub(super) fn show(output: &Output, proposals: &Proposals) -> Result<(), CliError> {
    for document in &proposals.documents {
        output.line("")?;
        show_document(output, document, proposals.status)?;
    }
    Ok(())
}

fn show_document(output: &Output, document: &ProposedDocument, status: ProposalStatus) -> Result<(), CliError> {
    let title = document.title.as_deref().map_or_else(String::new, |title| format!(" {title}"));
    output.field("document", &format!("{}{title}", document.document))?;
    let count = document.operations.len();
    let noun = if count == 1 { "change" } else { "changes" };
    let (what, tone) = match status {
        ProposalStatus::Pending => ("waits to be decided", Tone::Odd),
        ProposalStatus::Applied => ("was applied", Tone::Good),
        ProposalStatus::NotApplied => ("was not applied", Tone::Faint),
    };
    output.toned_field("proposal", &format!("{count} {noun} by {}, {what}", document.by.join(", ")), tone)?;
    if status != ProposalStatus::Applied && document.changed {
        output.toned_field("changed", "the document is not the version any more that was read", Tone::Bad)?;
    }
    if let Some(title) = &document.new_title {
        output.field("new title", title)?;
    }
    match (&document.diff, &document.problem) {
        (Some(diff), _) if diff.is_empty() => output.field("diff", "the text stays as it is"),
        (Some(diff), _) => diff.lines().try_for_each(|line| output.diff_line(line)),
        // Of what was applied there is nothing left to show.
        (None, Some(_)) if status == ProposalStatus::Applied => Ok(()),
        (None, Some(problem)) => output.field("diff", &format!("none: {problem}")),
        (None, None) => Ok(()),
    }
}
