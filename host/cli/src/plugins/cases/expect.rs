//! What a case expects, in the form in which it is compared and written.

use std::path::PathBuf;

use handshake_core::Digest;
use handshake_core::step::{GUEST_BACKTRACE, StepFailure};
use serde_json::Value;

use super::execute::Happened;
use super::file::Case;
use crate::error::CliError;

/// Texts longer than this are written as their digest.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// A content as cases write it: text, or the digest of what is none or is too long.
pub(super) fn shown(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if content.len() <= MAX_TEXT_BYTES && !text.starts_with("sha256:") && !text.contains('\0') => {
            text.to_owned()
        }
        _ => format!("sha256:{}", Digest::of(content)),
    }
}

/// A failure as cases write it.
pub(super) fn failure(failure: &StepFailure) -> String {
    let message = match failure {
        // The remedy is about a policy and a workflow that there are not.
        StepFailure::Denied(denial) => {
            format!("{} on {} ({})", denial.capability, denial.resource, denial.reason)
        }
        StepFailure::InvalidInput(text) | StepFailure::Trap(text) => text.clone(),
        StepFailure::Limit { limit, .. } => (*limit).to_owned(),
        StepFailure::Violation { kind, .. } => kind.clone(),
        other => other.to_string(),
    };
    // One line, without the functions of a crash: those change with each build.
    let message = message.split(GUEST_BACKTRACE).next().unwrap_or_default();
    let message = message.lines().next().unwrap_or_default();
    if message.is_empty() { failure.label().to_owned() } else { format!("{}: {message}", failure.label()) }
}

/// The `[expect]` with which the case would have passed, and the files beside it that go with that. Only what the case
/// asks about is written, of a case that expects nothing yet the result and the decisions.
pub(super) fn written(case: &Case, happened: &Happened) -> Result<(String, Vec<(PathBuf, String)>), CliError> {
    let expect = &case.expect;
    let is_new = case.expect_at.is_none();
    let mut table = toml::Table::new();
    let mut files = Vec::new();
    match &happened.result {
        Ok(output) => {
            let is_asked = is_new || expect.output.is_some() || expect.error.is_some();
            let value = toml_of(output);
            let file = match (&case.output_file, &expect.output_file) {
                (Some((path, _)), Some(named)) => Some((path.clone(), named.get_ref().clone())),
                // TOML has no null.
                _ if is_asked && value.is_none() => {
                    let name = format!("{}.output.json", case.name);
                    Some((case.folder.join(&name), name))
                }
                _ => None,
            };
            if let Some((path, name)) = file {
                let text = serde_json::to_string_pretty(output)
                    .map_err(|error| CliError::internal("the output cannot be written as JSON").because(&error))?;
                files.push((path, text + "\n"));
                table.insert("output_file".into(), name.into());
            } else if is_asked {
                table.extend(value.map(|value| ("output".to_owned(), value)));
            }
        }
        Err(error) => {
            table.insert("error".into(), failure(error).into());
        }
    }
    if is_new || expect.decisions.is_some() {
        table.insert("decisions".into(), happened.decisions.clone().into());
    }
    if expect.files.is_some() {
        let files = happened.files.iter().map(|(path, content)| (path.clone(), toml::Value::String(shown(content))));
        table.insert("files".into(), toml::Value::Table(files.collect()));
    }
    if expect.artifacts.is_some() {
        let artifacts: Vec<_> = happened.artifacts.iter().map(|content| shown(content)).collect();
        table.insert("artifacts".into(), artifacts.into());
    }
    if expect.proposals.is_some() {
        table.extend(toml_of(&proposals(happened)).map(|value| ("proposals".to_owned(), value)));
    }
    let whole = toml::Table::from_iter([("expect".to_owned(), toml::Value::Table(table))]);
    let text = toml::to_string_pretty(&whole)
        .map_err(|error| CliError::internal("the expectations cannot be written as TOML").because(&error))?;
    Ok((text, files))
}

/// Proposals as the API shows them.
pub(super) fn proposals(happened: &Happened) -> Value {
    serde_json::to_value(&happened.proposals).unwrap_or_default()
}

/// JSON as TOML, which has no null and no number beyond 64 signed bits.
fn toml_of(value: &Value) -> Option<toml::Value> {
    toml::Value::try_from(value).ok().filter(|_| !has_null(value))
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}

/// The text of a case with another `[expect]`, which is the last table of the file. Gives the line at fault otherwise.
pub(crate) fn rewrite(text: &str, expect: &str) -> Result<String, usize> {
    let is_table = |line: &str| line.trim_start().starts_with('[') && line.trim_end().ends_with(']');
    let is_expect = |line: &str| {
        let name = line.trim_start().trim_start_matches('[').trim_start();
        is_table(line) && name.strip_prefix("expect").is_some_and(|rest| rest.trim_start().starts_with(['.', ']']))
    };
    let mut offset = 0;
    let mut at = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_expect(line) {
            at.get_or_insert(offset);
        } else if at.is_some() && is_header(line) {
            return Err(number + 1);
        }
        offset += line.len();
    }
    let before = text[..at.unwrap_or(text.len())].trim_end();
    let gap = if before.is_empty() { "" } else { "\n\n" };
    Ok(format!("{before}{gap}{expect}"))
}

/// Whether a line begins a table. Lines of lists begin with brackets, too, and hold more than a name.
fn is_header(line: &str) -> bool {
    let line = line.trim();
    let name = line.trim_start_matches('[').trim_end_matches(']').trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    line.starts_with('[')
        && line.ends_with(']')
        && !name.is_empty()
        && name.chars().all(plain)
        && name.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_expected_is_written_anew() {
        let text = "# a case\ninput = { a = 1 }\n\n[mounts]\ndocs = \"docs\"\n\n[expect]\noutput = { n = 1 }\n\n[expect.files]\n\"out/a\" = \"x\"\n";
        let written = rewrite(text, "[expect]\nerror = \"trap\"\n").unwrap();
        assert_eq!(written, "# a case\ninput = { a = 1 }\n\n[mounts]\ndocs = \"docs\"\n\n[expect]\nerror = \"trap\"\n");
        assert_eq!(rewrite("", "[expect]\n").unwrap(), "[expect]\n");
        assert_eq!(rewrite("input = {}", "[expect]\n").unwrap(), "input = {}\n\n[expect]\n");
    }

    #[test]
    fn a_table_behind_it_is_told_with_its_line() {
        assert_eq!(rewrite("[expect]\ndecisions = [\n    \"a\",\n]\n[mounts]\na = \"b\"\n", "x"), Err(5));
        assert!(rewrite("[expect]\noutput = [\n  [1, 2],\n  [\"a\"]\n]\n", "x").is_ok());
    }

    #[test]
    fn what_is_no_text_is_shown_by_its_digest() {
        assert_eq!(shown(b"text\n"), "text\n");
        assert!(shown(&[0xff]).starts_with("sha256:"));
        assert!(shown(b"sha256:made up").starts_with("sha256:") && shown(b"sha256:made up").len() == 71);
    }
}
