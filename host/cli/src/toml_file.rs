//! Configuration files in TOML, with errors that name file, line and column.

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::CliError;

/// The largest configuration file, in bytes; a real one has a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// A file that was read and not yet understood.
#[derive(Debug)]
pub(crate) struct TomlFile {
    /// Name as the person gave it.
    pub(crate) name: String,
    /// Content.
    pub(crate) text: String,
}

impl TomlFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let failed =
            |error: &std::io::Error| CliError::usage(format!("cannot read `{}`", path.display())).because(error);
        let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
        if size > MAX_BYTES {
            return Err(CliError::usage(format!(
                "`{}` has {size} bytes; a configuration file has at most {MAX_BYTES}",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        Ok(Self { name: path.display().to_string(), text })
    }

    /// Understands the text as `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        toml::from_str(&self.text).map_err(|error| self.error_at(error.span().unwrap_or(0..0), error.message()))
    }

    /// An error at a place in the text.
    pub(crate) fn error_at(&self, place: Range<usize>, problem: &str) -> CliError {
        let (line, column) = self.position(place.start);
        let problem = without_url(problem.trim_end()).replace('\n', "; ");
        CliError::usage(format!("{}:{line}:{column}: {problem}", self.name))
    }

    /// The line, from 1, of a place in the text.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.position(offset).0).unwrap_or(u32::MAX)
    }

    /// Line and column, from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}

/// What stands where something else is expected is repeated by the parser. If that is a database's URL, a password
/// may be in it.
fn without_url(problem: &str) -> String {
    match problem.find("://") {
        Some(at) if !problem[..at].ends_with("http") && !problem[..at].ends_with("https") => {
            let end = problem.rfind(['"', '`']).filter(|end| *end > at).unwrap_or(problem.len());
            format!("{}://…{}", &problem[..at], &problem[end..])
        }
        _ => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_url;

    #[test]
    fn a_database_url_in_a_parsers_message_is_cut() {
        assert_eq!(
            without_url(r#"invalid type: string "postgres://u:a\"b c@h/d", expected struct X"#),
            r#"invalid type: string "postgres://…", expected struct X"#
        );
        assert_eq!(without_url("unknown `postgres://u:p"), "unknown `postgres://…");
        let web = r#"string "https://example.com", expected"#;
        assert_eq!(without_url(web), web);
    }
}
