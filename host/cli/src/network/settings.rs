//! `[serve]` in `handshake.toml`: where `handshake serve` listens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use handshake_core::workflow::Period;
use serde::Deserialize;

use crate::error::CliError;

/// Where `serve` listens when nobody says otherwise: this computer alone.
const DEFAULT_LISTEN: &str = "127.0.0.1:7420";
/// How long running steps may take when the process is asked to end.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// `[serve]` as written.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NetworkFile {
    /// Address and port to listen on, or `off` for the Unix socket alone; default `127.0.0.1:7420`. Addresses that other
    /// computers reach take `tls_certificate` and `tls_key`, or `plain_http = true`.
    listen: Option<String>,
    /// Names by which clients call this host besides `localhost` and addresses, for example `handshake.example.com`.
    /// Requests for other names are refused.
    hosts: Vec<String>,
    /// File with the certificate chain in PEM, relative to this file.
    tls_certificate: Option<PathBuf>,
    /// File with its private key in PEM, relative to this file.
    tls_key: Option<PathBuf>,
    /// Serve other computers without TLS, for example behind a proxy that has it: tokens travel in the clear.
    plain_http: bool,
    /// How long running steps may take to end when the process is asked to; default `30s`. What runs longer is found
    /// interrupted by the next start.
    grace: Option<Period>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Nowhere but on the Unix socket.
    Off,
    /// There.
    On(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let form =
            |_| format!("`{text}` is not an address with a port such as {DEFAULT_LISTEN} or [::1]:7420, nor off");
        text.parse().map(Self::On).map_err(form)
    }
}

/// Where `serve` listens, checked.
#[derive(Debug, Clone)]
pub(crate) struct NetworkSettings {
    /// Where.
    pub(crate) listen: Address,
    /// Names by which clients call it, in lower case.
    pub(crate) hosts: Vec<String>,
    /// Certificate chain and key, absolute.
    pub(crate) tls: Option<TlsFiles>,
    /// Whether other computers are served without TLS.
    pub(crate) plain_http: bool,
    /// How long running steps may take to end.
    pub(crate) grace: Duration,
}

/// Files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The certificate chain.
    pub(crate) certificate: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
}

impl NetworkFile {
    /// Checks everything. `name` is the settings file as the person knows it; paths are relative to `project`.
    pub(crate) fn resolve(self, name: &str, project: &Path) -> Result<NetworkSettings, CliError> {
        let listen = self.listen.as_deref().unwrap_or(DEFAULT_LISTEN).parse();
        let listen = listen.map_err(|error| CliError::usage(format!("{name}: serve.listen: {error}")))?;
        let tls = match (self.tls_certificate, self.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(TlsFiles { certificate: project.join(certificate), key: project.join(key) })
            }
            _ => {
                let problem = format!("{name}: serve.tls_certificate and serve.tls_key belong together");
                return Err(CliError::usage(problem).hint("give both, or neither"));
            }
        };
        for host in &self.hosts {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
            if host.is_empty() || !host.bytes().all(plain) {
                let problem = format!("{name}: serve.hosts: `{host}` is not the name of a host");
                return Err(CliError::usage(problem).hint("write names alone, without scheme and port"));
            }
        }
        Ok(NetworkSettings {
            listen,
            hosts: self.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            tls,
            plain_http: self.plain_http,
            grace: self.grace.map_or(DEFAULT_GRACE, |Period(grace)| grace),
        })
    }
}

impl NetworkSettings {
    /// Files that no guest may write.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.tls.iter().flat_map(|tls| [tls.certificate.as_path(), tls.key.as_path()])
    }

    /// Refuses to serve other computers in the clear, unless somebody said so.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        match self.listen {
            Address::On(address) if !address.ip().is_loopback() && self.tls.is_none() && !self.plain_http => {
                Err(CliError::usage(format!("other computers reach `{address}`, and there is no TLS for it")).hint(
                    "set serve.tls_certificate and serve.tls_key; or serve.plain_http = true behind a proxy that has it",
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<NetworkSettings, CliError> {
        toml::from_str::<NetworkFile>(text).unwrap().resolve("handshake.toml", Path::new("/p"))
    }

    #[test]
    fn without_settings_only_this_computer_is_served() {
        let settings = resolve("").unwrap();
        assert_eq!(settings.listen, Address::On("127.0.0.1:7420".parse().unwrap()));
        assert!(settings.check().is_ok() && settings.tls.is_none());
        assert_eq!(resolve("listen = \"off\"").unwrap().listen, Address::Off);
    }

    #[test]
    fn other_computers_take_tls_or_a_word_that_they_do_not() {
        for open in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"] {
            let plain = resolve(&format!("listen = \"{open}\"")).unwrap();
            assert!(plain.check().unwrap_err().message.contains("there is no TLS"));
            assert!(resolve(&format!("listen = \"{open}\"\nplain_http = true")).unwrap().check().is_ok());
            let tls = format!("listen = \"{open}\"\ntls_certificate = \"c.pem\"\ntls_key = \"/k.pem\"");
            let tls = resolve(&tls).unwrap();
            assert!(tls.check().is_ok());
            assert_eq!(tls.files().collect::<Vec<_>>(), [Path::new("/p/c.pem"), Path::new("/k.pem")]);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (text, expected) in [
            ("listen = \"localhost\"", "handshake.toml: serve.listen: `localhost` is not an address with a port"),
            ("listen = \"127.0.0.1\"", "handshake.toml: serve.listen: `127.0.0.1` is not an address with a port"),
            ("tls_key = \"k\"", "handshake.toml: serve.tls_certificate and serve.tls_key belong together"),
            ("hosts = [\"https://a\"]", "handshake.toml: serve.hosts: `https://a` is not the name of a host"),
        ] {
            let message = resolve(text).unwrap_err().message;
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
