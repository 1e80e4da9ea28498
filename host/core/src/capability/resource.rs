//! What a call is about, in the one canonical form that rules match and records show.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The resource of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Resource {
    /// A path inside a mount.
    Path {
        /// Mount name.
        mount: String,
        /// Path inside the mount: `/`-separated, no `.` or `..`, empty for the mount itself.
        path: String,
        /// The host folder that the mount stands for.
        host: String,
    },
    /// A path that leads out of every mount, or that is not a path at all; never covered by any grant.
    OutsidePath {
        /// As the guest gave it.
        path: String,
    },
    /// A name: a model, a secret, a document, a setting.
    Name {
        /// The name.
        name: String,
    },
    /// A URL or a network address as text.
    Address {
        /// The text.
        address: String,
    },
    /// Nothing in particular.
    Whole,
}

impl Resource {
    /// Names something.
    pub fn name(name: impl Into<String>) -> Self {
        Self::Name { name: name.into() }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { mount, path, .. } if path.is_empty() => f.write_str(mount),
            Self::Path { mount, path, .. } => write!(f, "{mount}/{path}"),
            Self::OutsidePath { path } => f.write_str(path),
            Self::Name { name } => f.write_str(name),
            Self::Address { address } => f.write_str(address),
            Self::Whole => f.write_str("*"),
        }
    }
}
