//! Mounts: host folders that a workflow gives its steps under a name.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What may be done in a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MountAccess {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl MountAccess {
    /// Whether having `self` is enough for `wanted`.
    pub fn includes(self, wanted: Self) -> bool {
        self == Self::Write || wanted == Self::Read
    }
}

/// A mount that the policy allows, with its host folder resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Name in grants; the guest sees the folder as `/<name>`.
    pub name: String,
    /// Host folder: absolute, without symbolic links.
    pub host: PathBuf,
    /// What may be done in it.
    pub access: MountAccess,
    /// The folder that was checked: device and inode. Whatever stands under the path later is not it.
    pub identity: (u64, u64),
}

/// Whether a name is fit for a mount: `[a-z0-9][a-z0-9_-]{0,31}`, so that it is one path component everywhere.
pub fn is_mount_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && !name.starts_with(['-', '_'])
}

/// Why a folder cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// It is not there, or cannot be read.
    #[error("mount `{name}`: cannot open folder `{path}`")]
    Unavailable {
        /// Mount name.
        name: String,
        /// As given.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// It is not a folder.
    #[error("mount `{name}`: `{path}` is not a folder")]
    NotAFolder {
        /// Mount name.
        name: String,
        /// As given.
        path: PathBuf,
    },
    /// It is, contains, or lies in the data directory.
    #[error("mount `{name}`: `{path}` is, contains or lies in the data directory `{data_dir}`, which is never mounted")]
    DataDirectory {
        /// Mount name.
        name: String,
        /// Resolved.
        path: PathBuf,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// It is, contains, or lies in something that the host trusts.
    #[error(
        "mount `{name}`: `{path}` cannot be written to: it is, contains or lies in `{trusted}`, which the host trusts"
    )]
    Trusted {
        /// Mount name.
        name: String,
        /// Resolved.
        path: PathBuf,
        /// What the host trusts: a plugin folder, its configuration, its policy.
        trusted: PathBuf,
    },
    /// The policy does not list it.
    #[error("mount `{name}`: the policy does not list `{path}` for {access} access")]
    NotListed {
        /// Mount name.
        name: String,
        /// Resolved.
        path: PathBuf,
        /// What was asked for.
        access: &'static str,
    },
}

/// Resolves the folders of a workflow against the policy.
pub trait MountResolver: Send + Sync {
    /// Resolves one mount. `base` is the folder that relative paths start from. A folder to be written is
    /// created when its nearest existing parent may be mounted for writing.
    fn resolve(&self, base: &Path, name: &str, path: &Path, access: MountAccess) -> Result<Mount, MountError>;
}
