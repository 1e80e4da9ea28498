//! When the sources of plugins were changed. Looked at again and again, as the policy is: that works in containers and on
//! network folders, too, and a plugin's folder is small.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use handshake_runtime::manifest::DIST;

/// Folders that builds write to.
const WRITTEN: [&str; 4] = [DIST, "target", "node_modules", "__pycache__"];

/// The state of some folders' files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sources(Vec<(PathBuf, SystemTime, u64)>);

impl Sources {
    /// As they are now. What cannot be looked at counts as absent.
    pub(crate) fn of(folders: &[PathBuf]) -> Self {
        let mut found = Vec::new();
        folders.iter().for_each(|folder| collect(folder, &mut found));
        found.sort();
        Self(found)
    }
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, SystemTime, u64)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') || WRITTEN.iter().any(|written| name == *written) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect(&entry.path(), found);
        } else if let Ok(modified) = metadata.modified() {
            found.push((entry.path(), modified, metadata.len()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_source_is_seen_and_what_a_build_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let before = Sources::of(&folders);
        for written in ["dist", "target", ".venv"] {
            std::fs::create_dir(folder.path().join(written)).unwrap();
            std::fs::write(folder.path().join(written).join("made"), "x").unwrap();
        }
        assert_eq!(Sources::of(&folders), before);
        std::fs::create_dir(folder.path().join("src")).unwrap();
        std::fs::write(folder.path().join("src/lib.rs"), "x").unwrap();
        assert_ne!(Sources::of(&folders), before);
    }
}
