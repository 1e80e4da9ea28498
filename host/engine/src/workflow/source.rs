//! The text of a workflow and where it came from. Reading it from a disk is the caller's.

use std::path::Path;

/// How a workflow is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML.
    Toml,
    /// JSON, which YAML's parser reads too.
    Json,
}

impl Format {
    /// Goes by the file's extension; YAML when it says nothing.
    pub fn of_path(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("toml") => Self::Toml,
            Some("json") => Self::Json,
            _ => Self::Yaml,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Yaml => "YAML",
            Self::Toml => "TOML",
            Self::Json => "JSON",
        }
    }
}

/// A workflow's text.
#[derive(Debug, Clone)]
pub struct WorkflowSource {
    /// Name of the file, as messages show it.
    pub file: String,
    /// Its content, at most 1 MiB.
    pub text: String,
    /// How it is written.
    pub format: Format,
}
