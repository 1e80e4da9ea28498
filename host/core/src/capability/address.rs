//! Where a call into the network goes, in the one canonical form that rules match, records show and the host really
//! uses: hosts, HTTP requests, sockets.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use url::Url;

/// The longest text of a URL or a name that is looked at. Servers refuse longer ones, too.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// The longest host name that DNS has.
const MAX_NAME_BYTES: usize = 253;

/// The name of a host, without its final dot.
///
/// It is compared and looked up in lower case and punycode. It is shown in the capitals that it was given in: redaction
/// knows many secrets by them, and what a guest asks for may hold one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostName {
    lower: String,
    shown: String,
}

impl HostName {
    fn new(lower: &str, written: &str) -> Self {
        let written = written.strip_suffix('.').unwrap_or(written);
        let shown = if written.eq_ignore_ascii_case(lower) { written } else { lower };
        Self { lower: lower.to_owned(), shown: shown.to_owned() }
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.lower
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &Self) -> bool {
        self.lower == other.lower
    }
}
impl Eq for HostName {}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A host: a name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetHost {
    /// A name.
    Name(HostName),
    /// An address; an IPv4 address is never written as an IPv6 one.
    Ip(IpAddr),
}

impl NetHost {
    /// Reads a host as browsers do: whatever they would take for an IPv4 address (`0x7f.1`, `2130706433`) is one. An
    /// IPv6 address may stand in brackets or without.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Some(Self::Ip(IpAddr::V6(address).to_canonical()));
        }
        Self::from_url(&url::Host::parse(text).ok()?, text)
    }

    fn from_url<S: AsRef<str>>(host: &url::Host<S>, written: &str) -> Option<Self> {
        match host {
            url::Host::Ipv4(address) => Some(Self::Ip(IpAddr::V4(*address))),
            url::Host::Ipv6(address) => Some(Self::Ip(IpAddr::V6(*address).to_canonical())),
            url::Host::Domain(name) => {
                let name = name.as_ref();
                let name = name.strip_suffix('.').unwrap_or(name);
                let plain = |label: &str| {
                    (1..=63).contains(&label.len())
                        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
                };
                let valid = name.len() <= MAX_NAME_BYTES && name.split('.').all(plain);
                valid.then(|| Self::Name(HostName::new(name, written)))
            }
        }
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(address) => Some(*address),
        }
    }
}

impl fmt::Display for NetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Whether it is `https`, not `http`.
    pub tls: bool,
    /// Host.
    pub host: NetHost,
    /// Port, never left out.
    pub port: u16,
}

impl Origin {
    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }

    /// What a request says in its `Host` header.
    pub fn authority(&self) -> String {
        if self.port == self.default_port() { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme(), self.host, self.port)
    }
}

/// One HTTP request: what is decided on is what is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTarget {
    /// The method, in capitals.
    pub method: String,
    /// Where it goes.
    pub origin: Origin,
    /// Path without `.` and `..`, and the query if there is one. What is percent-encoded needs to be.
    pub path_and_query: String,
}

impl HttpTarget {
    /// Reads a method and a URL; an error says in a few words why it is refused.
    pub fn parse(method: &str, url: &str) -> Result<Self, &'static str> {
        if !is_method(method) {
            return Err("the method is none, or not written in capitals");
        }
        if method == "CONNECT" {
            return Err("tunnels through proxies are not opened");
        }
        if url.len() > MAX_TEXT_BYTES {
            return Err("the URL is too long");
        }
        let authority = authority_of(url);
        if authority.contains('@') {
            return Err("user and password in a URL are refused");
        }
        let parsed = Url::parse(url).map_err(|_| "it is not a URL")?;
        let tls = match parsed.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("the scheme is neither `http` nor `https`"),
        };
        let written = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = parsed.host().and_then(|host| NetHost::from_url(&host, written));
        let host = host.ok_or("the host is no name and no address")?;
        let port = parsed.port_or_known_default().filter(|port| *port != 0).ok_or("there is no such port")?;
        let mut path_and_query = plain_escapes(parsed.path());
        if let Some(query) = parsed.query() {
            path_and_query = format!("{path_and_query}?{query}");
        }
        Ok(Self { method: method.to_owned(), origin: Origin { tls, host, port }, path_and_query })
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.origin, self.path_and_query)
    }
}

/// Whether it is a method as rules can name it. Those of the standard are in capitals, and a server that also takes
/// others must not be a way around a rule.
pub(super) fn is_method(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// What stands between the scheme and the path.
fn authority_of(url: &str) -> &str {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest).trim_start_matches(['/', '\\']);
    rest.split(['/', '\\', '?', '#']).next().unwrap_or_default()
}

/// Takes the escapes from letters that need none, and writes the others in capitals (RFC 3986, 6.2.2): two ways to say
/// the same path must not be two paths for a rule.
pub(super) fn plain_escapes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let byte = escape.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => plain.push(char::from(byte)),
            Some(byte) => plain.push_str(&format!("%{byte:02X}")),
            None => {
                plain.push('%');
                rest = escape.get(1..).unwrap_or_default();
                continue;
            }
        }
        rest = escape.get(3..).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

/// The far end of a socket, or the near one that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketTarget {
    /// The address.
    pub ip: IpAddr,
    /// The port; 0 for any that is free.
    pub port: u16,
    /// The names that the same attempt looked up and that had this address.
    pub names: Vec<String>,
}

impl SocketTarget {
    /// An address that no look-up led to.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip: ip.to_canonical(), port, names: Vec::new() }
    }
}

impl fmt::Display for SocketTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", NetHost::Ip(self.ip), self.port)?;
        if !self.names.is_empty() {
            write!(f, " ({})", self.names.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
