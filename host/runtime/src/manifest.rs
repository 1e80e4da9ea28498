//! `plugin.toml` on disk: read within bounds, and every problem at its line.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use handshake_core::Digest;
use handshake_core::manifest::PluginManifest;
use handshake_core::step::PluginError;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::stamp::Stamp;

/// Name of a manifest.
pub const MANIFEST: &str = "plugin.toml";
/// Where a plugin's built form lies, within the folder of its source.
pub const DIST: &str = "dist";
/// A manifest larger than this is none.
const MAX_MANIFEST_BYTES: u64 = 256 << 10;

/// A manifest that was read and is in order, with its text.
#[derive(Debug, Clone)]
pub struct ManifestFile {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What it says.
    pub manifest: PluginManifest,
    /// SHA-256 of the text.
    pub sha256: Digest,
    pub(crate) stamp: Stamp,
}

impl ManifestFile {
    /// Reads and checks a manifest.
    pub fn read(path: &Path) -> Result<Self, PluginError> {
        let refuse = |place: String, problem: String| PluginError::Manifest {
            file: format!("{}{place}", path.display()),
            problem,
        };
        let (bytes, stamp) =
            read_bounded(path, MAX_MANIFEST_BYTES).map_err(|problem| refuse(String::new(), problem))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            refuse(format!(":{line}"), "is not UTF-8 text; save it as UTF-8".into())
        })?;
        let manifest: PluginManifest = toml::from_str(&text).map_err(|error| {
            let place = error.span().map(|span| line_and_column(&text, span.start)).unwrap_or_default();
            refuse(place, error.message().trim_end().replace('\n', "; "))
        })?;
        manifest.validate().map_err(|problem| refuse(place_in(&text, &problem.key), problem.to_string()))?;
        let sha256 = Digest::of(text.as_bytes());
        Ok(Self { path: path.to_owned(), text, manifest, sha256, stamp })
    }

    /// The file, with line and column of a key such as `limits.memory_mb` or `capability[1].id`; of what it would be in
    /// when it is not there.
    pub fn place(&self, key: &str) -> String {
        format!("{}{}", self.path.display(), place_in(&self.text, key))
    }
}

/// Reads and checks a manifest; the digest is of its text.
pub fn read_manifest(path: &Path) -> Result<(PluginManifest, Digest), PluginError> {
    ManifestFile::read(path).map(|file| (file.manifest, file.sha256))
}

fn place_in(text: &str, key: &str) -> String {
    let Ok(table) = DeTable::parse(text) else { return String::new() };
    let mut start = table.span().start;
    let mut here: Option<&DeValue<'_>> = None;
    for part in key.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let next: Option<&Spanned<DeValue<'_>>> = match here {
            None => table.get_ref().get(part),
            Some(DeValue::Table(table)) => table.get(part),
            Some(DeValue::Array(items)) => part.parse().ok().and_then(|at: usize| items.get(at)),
            Some(_) => None,
        };
        let Some(next) = next else { break };
        start = next.span().start;
        here = Some(next.get_ref());
    }
    line_and_column(text, start)
}

fn line_and_column(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    format!(":{line}:{column}")
}

/// Reads a file of at most so many bytes, with the stamp that it had before.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<(Vec<u8>, Stamp), String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    // Looked at before it is opened, because opening a pipe waits for whoever writes to it.
    if !fs::metadata(path).map_err(unread)?.is_file() {
        return Err("is not a file".into());
    }
    let file = File::open(path).map_err(unread)?;
    // Of the open file and before it is read: whatever is written from here on changes the stamp.
    let metadata = file.metadata().map_err(unread)?;
    if !metadata.is_file() {
        return Err("is not a file".into());
    }
    if metadata.len() > limit {
        return Err(format!("has {} bytes; at most {limit} are read", metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(limit).read_to_end(&mut bytes).map_err(unread)?;
    Ok((bytes, Stamp::of(&metadata)))
}

#[cfg(test)]
mod tests {
    use super::place_in;

    #[test]
    fn a_key_is_found_at_its_line_or_where_it_would_be() {
        let text = "schema = 1\n[limits]\nfuel = 0\n\n[[capability]]\nid = \"a\"\n[[capability]]\n  id = \"b\"\n";
        assert_eq!(place_in(text, "limits.fuel"), ":3:8");
        assert_eq!(place_in(text, "capability[1].id"), ":8:8");
        assert_eq!(place_in(text, "capability[1].reason"), ":7:1");
        assert_eq!(place_in(text, "nothing"), ":1:1");
    }
}
