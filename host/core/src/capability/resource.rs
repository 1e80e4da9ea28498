//! What a call is about, in the one canonical form that rules match and records show.

use std::fmt;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address::{HttpTarget, NetHost, SocketTarget};
use super::axis::{Axis, ScopeForm};

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
    /// Some names at once, each of which must be allowed: environment variables.
    Names {
        /// The names.
        names: Vec<String>,
    },
    /// An HTTP request.
    Request(HttpTarget),
    /// An end of a socket.
    Socket(SocketTarget),
    /// A host whose addresses are looked up.
    Host {
        /// The host.
        host: NetHost,
    },
    /// What should be a URL or a host and is none that could be decided on; never covered by any grant.
    NoTarget {
        /// As the guest gave it, without a password.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing in particular.
    Whole,
}

impl Resource {
    /// Names something.
    pub fn name(name: impl Into<String>) -> Self {
        Self::Name { name: name.into() }
    }

    /// The request for this URL.
    pub fn request(method: &str, url: &str) -> Self {
        match HttpTarget::parse(method, url) {
            Ok(target) => Self::Request(target),
            Err(problem) => {
                // A password is not for the record, and neither is what may be one.
                let text = match url.rfind('@') {
                    Some(at) => format!("{method} …{}", url.get(at..).unwrap_or_default()),
                    None => format!("{method} {url}"),
                };
                Self::NoTarget { text, problem: problem.to_owned() }
            }
        }
    }

    /// The host of this name.
    pub fn host(name: &str) -> Self {
        match NetHost::parse(name) {
            Some(host) => Self::Host { host },
            None => Self::NoTarget { text: name.to_owned(), problem: "it is not the name of a host".to_owned() },
        }
    }

    /// The resource that a record shows as this text, for axes of the network; none for other axes, and for what was
    /// cut or redacted.
    pub fn from_record(axis: Axis, text: &str) -> Option<Self> {
        match axis.scope_form() {
            ScopeForm::Http => {
                let (method, url) = text.split_once(' ')?;
                HttpTarget::parse(method, url).ok().map(Self::Request)
            }
            ScopeForm::Socket => {
                let (address, names) = match text.split_once(" (") {
                    Some((address, names)) => {
                        (address, names.strip_suffix(')')?.split(", ").map(str::to_owned).collect())
                    }
                    None => (text, Vec::new()),
                };
                let address: std::net::SocketAddr = address.parse().ok()?;
                Some(Self::Socket(SocketTarget { names, ..SocketTarget::new(address.ip(), address.port()) }))
            }
            ScopeForm::Host => NetHost::parse(text).map(|host| Self::Host { host }),
            ScopeForm::Variable if text == "*" => Some(Self::Whole),
            ScopeForm::Variable => Some(Self::Names { names: text.split(", ").map(str::to_owned).collect() }),
            ScopeForm::Mount | ScopeForm::Name | ScopeForm::Bare => None,
        }
    }

    /// The address that it names, if it names one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Request(target) => target.origin.host.ip(),
            Self::Socket(target) => Some(target.ip),
            Self::Host { host } => host.ip(),
            _ => None,
        }
    }

    /// Whether no grant covers it, however wide.
    pub fn is_never_covered(&self) -> bool {
        matches!(self, Self::OutsidePath { .. } | Self::NoTarget { .. })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { mount, path, .. } if path.is_empty() => f.write_str(mount),
            Self::Path { mount, path, .. } => write!(f, "{mount}/{path}"),
            Self::OutsidePath { path } => f.write_str(path),
            Self::Name { name } => f.write_str(name),
            Self::Names { names } => f.write_str(&names.join(", ")),
            Self::Request(target) => target.fmt(f),
            Self::Socket(target) => target.fmt(f),
            Self::Host { host } => host.fmt(f),
            Self::NoTarget { text, .. } => f.write_str(text),
            Self::Whole => f.write_str("*"),
        }
    }
}
