//! Backups: what a data directory holds, as it is at one moment, in one ZIP file; and a data directory made from one.
//!
//! What can be made anew is left out: compiled code, and the recorder's DuckDB file. A data directory from a backup knows
//! nothing of what happened after the backup was made, so nothing of it goes on by itself until a person says so.

mod restore;
mod write;

use std::path::Path;

use handshake_core::{Digest, HostId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::directory::DataDirectory;
use crate::error::CliError;

pub(crate) use restore::restore;
pub(crate) use write::write;

/// The form of the list below.
const SCHEMA: u32 = 1;
/// The archive's last file: the list of the others.
const LIST: &str = "backup.json";
/// The database within the archive, wherever it lies on the host.
const DATABASE: &str = "handshake.db";
/// Stands in a data directory that was made from a backup, until a person lets it go on.
const RESTORED: &str = "restored.json";

/// What a backup holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupList {
    schema: u32,
    /// The version of handshake that made it.
    pub(crate) version: String,
    /// Whose data it is.
    pub(crate) host: HostId,
    /// The moment.
    pub(crate) taken_at: Timestamp,
    /// Every other file, sorted by its path.
    pub(crate) files: Vec<BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupFile {
    /// Within the data directory, with `/`.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: Digest,
}

/// Which backup a data directory was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restored {
    /// When the backup was made.
    pub(crate) taken_at: Timestamp,
}

/// Whether this data directory was made from a backup, and nobody has let it go on yet.
pub(crate) fn restored(directory: &DataDirectory) -> Result<Option<Restored>, CliError> {
    let path = directory.file(RESTORED);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::file("read", &path, &error)),
    };
    let restored = serde_json::from_slice(&text).map_err(|error| {
        CliError::usage(format!("`{}` does not say which backup this is", path.display())).because(&error)
    })?;
    Ok(Some(restored))
}

/// Lets it go on.
pub(crate) fn release(directory: &DataDirectory) -> Result<(), CliError> {
    let path = directory.file(RESTORED);
    std::fs::remove_file(&path).map_err(|error| CliError::file("remove", &path, &error))
}

/// Whether a file or folder of the data directory's top is left out.
fn is_left_out(name: &str) -> bool {
    let made_anew = name == "cache" || name.starts_with("recorder.duckdb");
    // Beginning with a dot: what is only on its way.
    made_anew || name.starts_with('.') || ["owner.lock", "handshake.sock", RESTORED, LIST].contains(&name)
}

/// Whether a path lies below a folder, and means nothing else there.
fn is_plain(path: &str) -> bool {
    use std::path::Component;
    let plain = |component| matches!(component, Component::Normal(_));
    !path.is_empty()
        && !path.contains('\\')
        && !path.ends_with('/')
        && !path.contains("//")
        && Path::new(path).components().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_data_directory_are_plain() {
        for path in ["handshake.db", "keys/recorder.pem", "a/b/c"] {
            assert!(is_plain(path), "{path}");
        }
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\\b"] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn what_can_be_made_anew_or_belongs_to_a_process_is_left_out() {
        for name in ["cache", "recorder.duckdb", "recorder.duckdb.wal", "owner.lock", ".backup-x", RESTORED] {
            assert!(is_left_out(name), "{name}");
        }
        for name in ["artifacts", "evidence", "keys", "plugins", "recorder", "host-id", "policy.sha256"] {
            assert!(!is_left_out(name), "{name}");
        }
    }
}
