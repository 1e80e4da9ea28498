//! Scopes of the network axes and of environment variables. What is not matched here is refused when it is read.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::{HostName, HttpTarget, NetHost, Origin, SocketTarget, is_method, plain_escapes};

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// This one.
    Exact(NetHost),
    /// All names below this one, at any depth, without itself: `*.example.com`.
    Below(HostName),
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(name) => match NetHost::parse(name)? {
                NetHost::Name(name) => Some(Self::Below(name)),
                NetHost::Ip(_) => None,
            },
            None => NetHost::parse(text).map(Self::Exact),
        }
    }

    pub(super) fn covers(&self, host: &NetHost) -> bool {
        match (self, host) {
            (Self::Exact(own), host) => own == host,
            (Self::Below(parent), NetHost::Name(name)) => {
                name.as_str().strip_suffix(parent.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
            (Self::Below(_), NetHost::Ip(_)) => false,
        }
    }

    /// Whether some host may be covered by both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(host), pattern) | (pattern, Self::Exact(host)) => pattern.covers(host),
            (Self::Below(one), Self::Below(other)) => {
                let within = |one: &str, other: &str| {
                    one == other || one.strip_suffix(other).is_some_and(|front| front.ends_with('.'))
                };
                let (one, other) = (one.as_str(), other.as_str());
                within(one, other) || within(other, one)
            }
        }
    }
}

/// HTTP requests: `[METHOD[,METHOD] ]scheme://host[:port][/path]`.
#[derive(Debug, Clone)]
pub(super) struct HttpScope {
    /// Empty for all.
    methods: Vec<String>,
    tls: bool,
    host: HostPattern,
    port: u16,
    /// Its segments are those that a path begins with.
    path: Option<String>,
}

impl HttpScope {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (methods, url) = match text.split_once(' ') {
            Some((methods, url)) => (methods.split(',').map(str::to_owned).collect(), url),
            None => (Vec::new(), text),
        };
        if !methods.iter().all(|method| is_method(method) && method != "CONNECT") {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // Neither a query nor a part is matched, and what URLs pass over in silence has no place in a rule.
        if rest.contains(['?', '#', '\\', '@']) || rest.contains(|letter: char| letter.is_control() || letter == ' ') {
            return None;
        }
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"*\"<>^`{|}".contains(&byte));
        if !plain || !matches!(scheme, "https" | "http") || authority.ends_with(':') {
            return None;
        }
        let (below, authority) = match authority.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, authority),
        };
        let HttpTarget { origin, path_and_query, .. } =
            HttpTarget::parse("GET", &format!("{scheme}://{authority}{path}")).ok()?;
        let Origin { tls, host, port } = origin;
        let host = match host {
            NetHost::Name(name) if below => HostPattern::Below(name),
            NetHost::Ip(_) if below => return None,
            host => HostPattern::Exact(host),
        };
        // Dots and escapes that mean something else than they say have no place in a rule.
        let path = if path.is_empty() {
            None
        } else if path_and_query == plain_escapes(path) && !is_ambiguous(&path_and_query) {
            Some(path_and_query)
        } else {
            return None;
        };
        Some(Self { methods, tls, host, port, path })
    }

    /// Whether it is certain that the request is one of these.
    pub(super) fn covers(&self, target: &HttpTarget) -> bool {
        self.admits(target)
            && self
                .path
                .as_ref()
                .is_none_or(|prefix| !is_ambiguous(target.path()) && begins_with(target.path(), prefix))
    }

    /// Whether a server may take the request for one of these: it may decode a path once more, or merge its slashes.
    pub(super) fn may_cover(&self, target: &HttpTarget) -> bool {
        self.admits(target)
            && self.path.as_ref().is_none_or(|prefix| is_ambiguous(target.path()) || begins_with(target.path(), prefix))
    }

    fn admits(&self, target: &HttpTarget) -> bool {
        let Origin { tls, host, port } = &target.origin;
        (self.methods.is_empty() || self.methods.contains(&target.method))
            && (self.tls, self.port) == (*tls, *port)
            && self.host.covers(host)
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.methods.contains(method));
        let paths = match (&self.path, &other.path) {
            (Some(one), Some(other)) => begins_with(one, other) || begins_with(other, one),
            _ => true,
        };
        methods && paths && (self.tls, self.port) == (other.tls, other.port) && self.host.meets(&other.host)
    }

    /// The address, if the scope names one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            HostPattern::Exact(host) => host.ip(),
            HostPattern::Below(_) => None,
        }
    }

    /// Whether what is sent there can be read on the way: not with TLS, and not when it stays on this machine.
    pub(super) fn is_readable_on_the_way(&self) -> bool {
        !self.tls && !self.ip().is_some_and(|ip| ip.is_loopback())
    }
}

fn begins_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// Whether servers differ in what they take the path for.
fn is_ambiguous(path: &str) -> bool {
    ["//", "%2F", "%5C", "%25"].iter().any(|piece| path.contains(piece))
}

/// Sockets: `host:port`, `*.example.com:443`, `10.0.0.0/8:5432`, `[fd00::]/8:443`.
#[derive(Debug, Clone)]
pub(super) struct SocketScope {
    host: SocketHosts,
    port: u16,
}

#[derive(Debug, Clone)]
enum SocketHosts {
    Named(HostPattern),
    Addresses(IpNet),
}

impl SocketScope {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
        let host = match host.split_once('/') {
            Some((address, length)) => SocketHosts::Addresses(network(address, length)?),
            // Without brackets nobody could tell where an IPv6 address ends.
            None if host.contains(':') && !host.starts_with('[') => return None,
            None => match HostPattern::parse(host)? {
                HostPattern::Exact(NetHost::Ip(ip)) => SocketHosts::Addresses(IpNet::from(ip)),
                pattern => SocketHosts::Named(pattern),
            },
        };
        Some(Self { host, port })
    }

    pub(super) fn covers(&self, target: &SocketTarget) -> bool {
        self.port == target.port
            && match &self.host {
                SocketHosts::Named(pattern) => {
                    target.names.iter().filter_map(|name| NetHost::parse(name)).any(|name| pattern.covers(&name))
                }
                SocketHosts::Addresses(network) => network.contains(&target.ip),
            }
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.port == other.port
            && match (&self.host, &other.host) {
                (SocketHosts::Named(one), SocketHosts::Named(other)) => one.meets(other),
                (SocketHosts::Addresses(one), SocketHosts::Addresses(other)) => {
                    one.contains(other) || other.contains(one)
                }
                // Which addresses a name has is known when it is looked up.
                _ => true,
            }
    }

    /// The addresses, if the scope names any.
    pub(super) fn addresses(&self) -> Option<IpNet> {
        match &self.host {
            SocketHosts::Named(_) => None,
            SocketHosts::Addresses(network) => Some(*network),
        }
    }
}

/// `10.0.0.0` and `8`, or `[fd00::]` and `8`: the network's own address, so that nobody takes `10.1.2.3/8` for one host.
fn network(address: &str, length: &str) -> Option<IpNet> {
    let address: IpAddr = match address.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    addresses(&format!("{address}/{length}"))
}

/// Reads an address or a network as rules name them: `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`. None for what would match
/// nothing or more than it seems to: bits behind the prefix, and IPv4 addresses that are written as IPv6 ones.
pub fn addresses(text: &str) -> Option<IpNet> {
    let network = match text.split_once('/') {
        Some((_, length)) if !length.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        Some(_) => text.parse::<IpNet>().ok()?,
        None => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let mapped = network.addr().to_canonical() != network.addr();
    (network == network.trunc() && !mapped).then_some(network)
}

/// Names of environment variables: one, or all that begin alike: `APP_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VariableScope {
    Exact(String),
    Beginning(String),
}

impl VariableScope {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, exact) = match text.strip_suffix('*') {
            Some(front) => (front, false),
            None => (text, true),
        };
        is_variable(name).then(|| if exact { Self::Exact(name.to_owned()) } else { Self::Beginning(name.to_owned()) })
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Beginning(front) => name.starts_with(front.as_str()),
        }
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), scope) | (scope, Self::Exact(name)) => scope.covers(name),
            (Self::Beginning(one), Self::Beginning(other)) => {
                one.starts_with(other.as_str()) || other.starts_with(one.as_str())
            }
        }
    }
}

/// Whether it is a name that POSIX has for a variable.
pub fn is_variable(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
#[path = "scope_tests.rs"]
mod tests;
