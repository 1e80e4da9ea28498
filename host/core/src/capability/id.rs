//! Capability ids: `axis` or `axis:scope`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use globset::{Glob, GlobBuilder, GlobMatcher};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::axis::{Axis, ScopeForm};
use super::resource::Resource;
use super::scope::{HostPattern, HttpScope, SocketScope, VariableScope};

/// A capability id that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCapability {
    /// The registry does not know the axis.
    #[error("HSK-4001: UnknownCapability `{0}`; `handshake capabilities list` shows the ids there are")]
    Unknown(String),
    /// This version's matcher does not implement the form of the scope.
    #[error("`{id}`: scope `{scope}` is not of a form that `{axis}` understands; {hint}")]
    Scope {
        /// The whole id.
        id: String,
        /// The axis.
        axis: Axis,
        /// The scope.
        scope: String,
        /// What would be understood.
        hint: &'static str,
    },
}

/// What a capability id is limited to.
#[derive(Debug, Clone)]
enum Scope {
    All,
    Mount { mount: String, pattern: Option<GlobMatcher> },
    Name(String),
    Http(Box<HttpScope>),
    Socket(SocketScope),
    Host(HostPattern),
    Variable(VariableScope),
}

/// How an index finds an id.
pub(super) enum Lookup<'a> {
    /// It covers its whole axis.
    Whole,
    /// It covers one mount, or what bears one name.
    Exact(&'a str),
    /// It covers some paths of a mount.
    Pattern(&'a str, &'a Glob),
    /// It has to be asked.
    Other,
}

/// A capability id. A bare axis covers all its scopes, never the reverse (R7).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CapabilityId {
    text: String,
    axis: Axis,
    scope: Scope,
}

impl CapabilityId {
    /// The bare axis.
    pub fn bare(axis: Axis) -> Self {
        Self { text: axis.name().to_owned(), axis, scope: Scope::All }
    }

    /// The axis.
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The mount that the id names, if it names one.
    pub fn mount(&self) -> Option<&str> {
        match &self.scope {
            Scope::Mount { mount, .. } => Some(mount),
            _ => None,
        }
    }

    /// Whether the id covers this resource on its axis. A path outside every mount is covered by nothing, and neither is
    /// a URL that is none.
    pub fn covers(&self, axis: Axis, resource: &Resource) -> bool {
        if self.axis != axis {
            return false;
        }
        match (&self.scope, resource) {
            (_, resource) if resource.is_never_covered() => false,
            (Scope::All, _) => true,
            (Scope::Mount { mount, pattern }, Resource::Path { mount: wanted, path, .. }) => {
                mount == wanted && pattern.as_ref().is_none_or(|pattern| pattern.is_match(path))
            }
            (Scope::Name(name), Resource::Name { name: wanted }) => name == wanted,
            (Scope::Http(scope), Resource::Request(target)) => scope.covers(target),
            (Scope::Socket(scope), Resource::Socket(target)) => scope.covers(target),
            (Scope::Host(pattern), Resource::Host { host }) => pattern.covers(host),
            (Scope::Variable(scope), Resource::Name { name }) => scope.covers(name),
            (Scope::Variable(scope), Resource::Names { names }) => names.iter().all(|name| scope.covers(name)),
            _ => false,
        }
    }

    pub(super) fn lookup(&self) -> Lookup<'_> {
        match &self.scope {
            Scope::All => Lookup::Whole,
            Scope::Name(name) | Scope::Mount { mount: name, pattern: None } => Lookup::Exact(name),
            Scope::Mount { mount, pattern: Some(pattern) } => Lookup::Pattern(mount, pattern.glob()),
            Scope::Http(_) | Scope::Socket(_) | Scope::Host(_) | Scope::Variable(_) => Lookup::Other,
        }
    }

    /// Whether the resource may be one of those that the id is about, although it is not certain: what denies must
    /// not be got around by a spelling that servers read differently.
    pub fn may_cover(&self, axis: Axis, resource: &Resource) -> bool {
        match (&self.scope, resource) {
            (Scope::Http(scope), Resource::Request(target)) => self.axis == axis && scope.may_cover(target),
            _ => self.covers(axis, resource),
        }
    }

    /// Whether the id itself names this address, alone or within a network.
    pub fn names_address(&self, ip: IpAddr) -> bool {
        match &self.scope {
            Scope::Http(scope) => scope.ip() == Some(ip),
            Scope::Socket(scope) => scope.addresses().is_some_and(|network: IpNet| network.contains(&ip)),
            Scope::Host(HostPattern::Exact(host)) => host.ip() == Some(ip),
            _ => false,
        }
    }

    /// Whether requests that the id covers can be read on their way.
    pub fn is_readable_on_the_way(&self) -> bool {
        match &self.scope {
            Scope::Http(scope) => scope.is_readable_on_the_way(),
            _ => true,
        }
    }

    /// The name that the id is limited to, for axes whose scopes are names.
    pub fn name(&self) -> Option<&str> {
        match &self.scope {
            Scope::Name(name) => Some(name),
            _ => None,
        }
    }

    /// Whether some resource may be covered by both. Patterns within the same mount count as meeting: whether two
    /// patterns have a path in common is not worth finding out for a check that may err on this side.
    pub fn meets(&self, other: &Self) -> bool {
        self.axis == other.axis
            && match (&self.scope, &other.scope) {
                (Scope::All, _) | (_, Scope::All) => true,
                (Scope::Mount { mount, .. }, Scope::Mount { mount: other, .. }) => mount == other,
                (Scope::Name(name), Scope::Name(other)) => name == other,
                (Scope::Http(scope), Scope::Http(other)) => scope.meets(other),
                (Scope::Socket(scope), Scope::Socket(other)) => scope.meets(other),
                (Scope::Host(pattern), Scope::Host(other)) => pattern.meets(other),
                (Scope::Variable(scope), Scope::Variable(other)) => scope.meets(other),
                _ => false,
            }
    }

    fn parse_scope(axis: Axis, id: &str, scope: &str) -> Result<Scope, InvalidCapability> {
        let refuse = |hint| InvalidCapability::Scope { id: id.to_owned(), axis, scope: scope.to_owned(), hint };
        match axis.scope_form() {
            ScopeForm::Bare => Err(refuse("write the axis alone")),
            ScopeForm::Name => {
                // Letters that other forms would use as wildcards or separators are not names here:
                // accepting them would look like a pattern and match nothing.
                let valid = !scope.is_empty()
                    && scope.len() <= 128
                    && scope.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
                if valid { Ok(Scope::Name(scope.to_owned())) } else { Err(refuse("write one exact name")) }
            }
            ScopeForm::Http => HttpScope::parse(scope).map(|scope| Scope::Http(Box::new(scope))).ok_or_else(|| {
                refuse("write scheme and host, and if need be methods, port and the beginning of a path: `https://api.example.com`, `https://*.example.com:8443/v1/`, `GET,HEAD https://api.example.com`")
            }),
            ScopeForm::Socket => SocketScope::parse(scope).map(Scope::Socket).ok_or_else(|| {
                refuse("write a host or a network, and a port: `db.example.com:5432`, `*.example.com:443`, `10.0.0.0/8:5432`, `[fd00::]/8:443`")
            }),
            ScopeForm::Host => HostPattern::parse(scope)
                .map(Scope::Host)
                .ok_or_else(|| refuse("write a name, or all names below one: `example.com`, `*.example.com`")),
            ScopeForm::Variable => VariableScope::parse(scope)
                .map(Scope::Variable)
                .ok_or_else(|| refuse("write the name of a variable, or how names begin: `LANG`, `APP_*`")),
            ScopeForm::Mount => {
                let hint = "write a mount name, or a mount name and a path pattern such as `in/reports/**`";
                let (mount, pattern) = match scope.split_once('/') {
                    Some((mount, pattern)) => (mount, Some(pattern)),
                    None => (scope, None),
                };
                if !crate::mount::is_mount_name(mount) {
                    return Err(refuse(hint));
                }
                let pattern = match pattern {
                    None => None,
                    Some(text) if text.is_empty() || text.split('/').any(|part| matches!(part, "" | "." | "..")) => {
                        return Err(refuse(hint));
                    }
                    Some(text) => Some(
                        GlobBuilder::new(text)
                            .literal_separator(true)
                            .backslash_escape(true)
                            .build()
                            .map_err(|_| refuse(hint))?
                            .compile_matcher(),
                    ),
                };
                Ok(Scope::Mount { mount: mount.to_owned(), pattern })
            }
        }
    }
}

impl FromStr for CapabilityId {
    type Err = InvalidCapability;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, scope) = match text.split_once(':') {
            Some((name, scope)) => (name, Some(scope)),
            None => (text, None),
        };
        let axis = Axis::from_name(name).ok_or_else(|| InvalidCapability::Unknown(text.to_owned()))?;
        let scope = match scope {
            None => Scope::All,
            Some(scope) => Self::parse_scope(axis, text, scope)?,
        };
        Ok(Self { text: text.to_owned(), axis, scope })
    }
}

impl fmt::Display for CapabilityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for CapabilityId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for CapabilityId {}

impl TryFrom<String> for CapabilityId {
    type Error = InvalidCapability;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
impl From<CapabilityId> for String {
    fn from(id: CapabilityId) -> Self {
        id.text
    }
}

impl schemars::JsonSchema for CapabilityId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CapabilityId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "axis or axis:scope, for example fs.read or fs.read:in/reports/**",
            "pattern": "^[a-z.]+(:.+)?$"
        })
    }
}

/// Some capability ids, looked up by axis.
#[derive(Debug, Clone, Default)]
pub struct CapabilitySet(Vec<CapabilityId>);

impl CapabilitySet {
    /// The id that covers the resource, if one does.
    pub fn covering(&self, axis: Axis, resource: &Resource) -> Option<&CapabilityId> {
        self.0.iter().find(|id| id.covers(axis, resource))
    }

    /// All ids, as written.
    pub fn iter(&self) -> impl Iterator<Item = &CapabilityId> {
        self.0.iter()
    }
}

impl FromIterator<CapabilityId> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = CapabilityId>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(mount: &str, path: &str) -> Resource {
        Resource::Path { mount: mount.into(), path: path.into(), host: "/srv".into() }
    }

    #[test]
    fn a_bare_axis_covers_its_scopes_and_never_the_reverse() {
        let bare: CapabilityId = "fs.read".parse().unwrap();
        let scoped: CapabilityId = "fs.read:in".parse().unwrap();
        assert!(bare.covers(Axis::FsRead, &path("in", "a.md")));
        assert!(scoped.covers(Axis::FsRead, &path("in", "a.md")));
        assert!(!scoped.covers(Axis::FsRead, &path("out", "a.md")));
        assert!(!scoped.covers(Axis::FsRead, &Resource::Whole));
        assert!(!bare.covers(Axis::FsWrite, &path("in", "a.md")));
    }

    #[test]
    fn nothing_covers_a_path_outside_the_mounts() {
        let bare: CapabilityId = "fs.read".parse().unwrap();
        assert!(!bare.covers(Axis::FsRead, &Resource::OutsidePath { path: "../etc/passwd".into() }));
    }

    #[test]
    fn a_star_in_a_path_pattern_stays_within_one_folder() {
        let id: CapabilityId = "fs.read:in/*.md".parse().unwrap();
        assert!(id.covers(Axis::FsRead, &path("in", "a.md")));
        assert!(!id.covers(Axis::FsRead, &path("in", "sub/a.md")));
        let deep: CapabilityId = "fs.read:in/reports/**".parse().unwrap();
        assert!(deep.covers(Axis::FsRead, &path("in", "reports/2026/a.md")));
        assert!(!deep.covers(Axis::FsRead, &path("in", "other/a.md")));
    }

    #[test]
    fn ids_meet_when_some_resource_may_be_covered_by_both() {
        let id = |text: &str| text.parse::<CapabilityId>().unwrap();
        for (one, other, meet) in [
            ("fs.read", "fs.read:in", true),
            ("fs.read:in/a/**", "fs.read:in", true),
            ("fs.read:in/a/**", "fs.read:in/b/**", true),
            ("fs.read:in", "fs.read:out", false),
            ("fs.read", "fs.write", false),
            ("model.infer:a", "model.infer:a", true),
            ("model.infer:a", "model.infer:b", false),
            ("artifact.read", "artifact.read", true),
        ] {
            assert_eq!((id(one).meets(&id(other)), id(other).meets(&id(one))), (meet, meet), "{one} {other}");
        }
    }

    #[test]
    fn unknown_axes_and_unmatched_scope_forms_are_refused() {
        assert!(matches!("fs.readx".parse::<CapabilityId>(), Err(InvalidCapability::Unknown(_))));
        for id in [
            "net.http:https://example.com/*",
            "model.infer:*",
            "fs.read:in/../x",
            "fs.read:",
            "fs.read:In",
            "artifact.read:x",
        ] {
            assert!(matches!(id.parse::<CapabilityId>(), Err(InvalidCapability::Scope { .. })), "{id}");
        }
    }
}
