//! What can be wrong with a database, and somebody can mend.

use std::error::Error;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

/// What is wrong with a database. It stands among the sources of a [`StorageError`](super::StorageError), before
/// the driver's own error.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// Cause, if there is more to say.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// No connection could be made, or it was lost.
    #[error("it does not answer")]
    Unreachable,
    /// It is there, and will perhaps do it later.
    #[error("it is busy, or takes no connections now")]
    Busy,
    /// The server and this host do not agree on encryption.
    #[error("no encrypted connection can be made to it")]
    Tls,
    /// The server does not let the user in.
    #[error("it does not accept this user and password")]
    Login,
    /// The server is there, the database is not.
    #[error("the server has no database of this name")]
    UnknownDatabase,
    /// The user lacks a right.
    #[error("its user lacks a permission")]
    Permission,
    /// The file's folder is missing, or the file cannot be read.
    #[error("its file cannot be opened")]
    CannotOpen,
    /// It cannot be written.
    #[error("it is read-only")]
    ReadOnly,
    /// The disk, or a limit on the use of it.
    #[error("its disk is full, or a limit on its size is reached")]
    Full,
    /// It is damaged.
    #[error("its file is damaged, or is no database")]
    Corrupt,
    /// A later version of this program has migrated it.
    #[error("it has schema {found}, and this version of handshake knows no schema after {known}")]
    Newer {
        /// The database's.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// A migration was applied that is not this program's.
    #[error("its migration {version} is not the one that this version of handshake has")]
    Changed {
        /// Which.
        version: i64,
    },
    /// Another host does not come to an end with its migration.
    #[error("another host has been migrating it for too long")]
    Migrating,
}

impl FaultKind {
    /// What is wrong, if an error or one of its sources says so.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(fault.kind);
        }
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => Some(Self::Full),
            Some(ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => Some(Self::ReadOnly),
            _ => error.source().and_then(Self::of),
        }
    }
}

/// How the schema of a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Schema {
    /// The latest applied migration; none for a new database.
    pub version: Option<i64>,
    /// The latest migration of this program.
    pub known: i64,
    /// Migrations of this program that are still to be applied, in order.
    pub pending: Vec<Migration>,
}

impl Schema {
    /// Whether a later version of this program has migrated it.
    pub fn is_newer(&self) -> bool {
        self.version.is_some_and(|version| version > self.known)
    }
}

/// A migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub description: String,
}
