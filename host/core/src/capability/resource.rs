//! What a call is about, in the one canonical form that rules match and records show.

use std::fmt;

use std::net::{IpAddr, SocketAddr};

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

    /// The resource that a record shows as `text`, in a form that every rule answers as it answered the one that was
    /// asked about. `host` is the host folder that the record names: only a path inside a mount has one. None when the
    /// record does not show all of it, because it was long or held a secret; nobody can decide about it again.
    pub fn from_record(axis: Axis, text: &str, host: Option<&str>) -> Option<Self> {
        if is_partial(text) {
            return None;
        }
        Some(match (axis.scope_form(), host) {
            (ScopeForm::Mount, Some(host)) => {
                let (mount, path) = text.split_once('/').unwrap_or((text, ""));
                Self::Path { mount: mount.to_owned(), path: path.to_owned(), host: host.to_owned() }
            }
            (ScopeForm::Mount, None) => Self::OutsidePath { path: text.to_owned() },
            // No scope that a rule can have is a star, so it makes no difference whether it was somebody's name.
            (_, _) if text == "*" => Self::Whole,
            (ScopeForm::Http, _) => {
                let (method, url) = text.split_once(' ').unwrap_or(("", text));
                Self::request(method, url)
            }
            (ScopeForm::Socket, _) => match socket_from_record(text) {
                Some(target) => Self::Socket(target),
                None => Self::NoTarget { text: text.to_owned(), problem: "it is not an address".to_owned() },
            },
            (ScopeForm::Host, _) => Self::host(text),
            (ScopeForm::Variable, _) => Self::Names { names: text.split(", ").map(str::to_owned).collect() },
            (ScopeForm::Name | ScopeForm::Bare, _) => Self::name(text),
        })
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

/// Whether a record shows a part of the resource only: it was cut, and ends in its length and hash, or something in it
/// was redacted.
fn is_partial(text: &str) -> bool {
    (text.ends_with(')') && text.contains("… (") && text.contains(" bytes, sha256 ")) || text.contains("[REDACTED:")
}

fn socket_from_record(text: &str) -> Option<SocketTarget> {
    let (address, names) = match text.split_once(" (") {
        Some((address, names)) => (address, names.strip_suffix(')')?.split(", ").map(str::to_owned).collect()),
        None => (text, Vec::new()),
    };
    let address: SocketAddr = address.parse().ok()?;
    Some(SocketTarget { names, ..SocketTarget::new(address.ip(), address.port()) })
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::axis::AXES;
    use super::super::id::CapabilityId;
    use super::*;

    /// Resources as the host makes them on an axis.
    fn resources(axis: Axis) -> Vec<Resource> {
        let path =
            |mount: &str, path: &str| Resource::Path { mount: mount.into(), path: path.into(), host: "/h".into() };
        match axis.scope_form() {
            ScopeForm::Mount => vec![
                path("in", ""),
                path("in", "a.md"),
                path("in", "reports/2026/a b*.md"),
                path("out", "*"),
                Resource::OutsidePath { path: "../etc/passwd".into() },
                Resource::OutsidePath { path: "in/a.md".into() },
                Resource::OutsidePath { path: String::new() },
            ],
            ScopeForm::Name => ["default", "a/b", "*", "", "0198f3a2-7c11-7000-8000-0123456789ab"]
                .map(Resource::name)
                .into_iter()
                .chain([Resource::Whole])
                .collect(),
            ScopeForm::Http => vec![
                Resource::request("GET", "https://example.com/a?b"),
                Resource::request("POST", "http://[::1]:8080/"),
                Resource::request("GET", "ftp://example.com/"),
            ],
            ScopeForm::Socket => {
                let socket = |ip: &str| SocketTarget::new(ip.parse().unwrap(), 443);
                let names = vec!["a.example.com".into(), "b.example.com".into()];
                vec![
                    Resource::Socket(socket("10.0.0.1")),
                    Resource::Socket(SocketTarget { names, ..socket("2001:db8::1") }),
                ]
            }
            ScopeForm::Host => vec![Resource::host("example.com"), Resource::host("10.0.0.1"), Resource::host("a b")],
            ScopeForm::Variable => {
                vec![Resource::Whole, Resource::Names { names: vec!["LANG".into(), "APP_MODE".into()] }]
            }
            ScopeForm::Bare => vec![Resource::Whole],
        }
    }

    #[test]
    fn what_a_record_shows_is_read_as_what_was_asked_about() {
        for axis in AXES {
            for asked in resources(*axis) {
                let host = match &asked {
                    Resource::Path { host, .. } => Some(host.as_str()),
                    _ => None,
                };
                let read = Resource::from_record(*axis, &asked.to_string(), host).unwrap();
                assert_eq!(read.to_string(), asked.to_string(), "{axis} {asked:?}");
                let ids = [
                    axis.name().to_owned(),
                    format!("{axis}:in"),
                    format!("{axis}:in/*.md"),
                    format!("{axis}:in/reports/**"),
                    format!("{axis}:out/**"),
                    format!("{axis}:default"),
                    format!("{axis}:a/b"),
                ];
                for id in ids.iter().filter_map(|id| id.parse::<CapabilityId>().ok()) {
                    assert_eq!(
                        id.covers(*axis, &read),
                        id.covers(*axis, &asked),
                        "{id} on {asked:?}, read as {read:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_shown_in_part_is_not_read() {
        let digest = "0".repeat(64);
        for text in [format!("in/aaa… (5000 bytes, sha256 {digest})"), "in/[REDACTED:token:secret_token].md".to_owned()]
        {
            assert_eq!(Resource::from_record(Axis::FsRead, &text, Some("/h")), None, "{text}");
        }
        assert!(Resource::from_record(Axis::FsRead, "in/odd… (1 bytes)", Some("/h")).is_some());
    }
}
