//! Where spans go, and what is shown there as credentials.

use std::fmt;

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

/// A collector that speaks OTLP/HTTP. Its headers are shown nowhere.
#[derive(Clone)]
pub struct Collector {
    traces: Url,
    headers: HeaderMap,
    secrets: Vec<SecretString>,
}

/// Why a collector cannot be used. No message holds a header's value, nor an address, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CollectorError {
    /// The address is not acceptable.
    #[error("{0}")]
    Endpoint(&'static str),
    /// The headers are not acceptable.
    #[error("header {number} {problem}; write `name=value,name=value`, with `%20` for a space")]
    Headers {
        /// Which of them, from 1.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Collector {
    /// Takes an address up to and without `/v1/traces`, and headers as `OTEL_EXPORTER_OTLP_HEADERS` has them:
    /// `name=value,name=value`, values percent-encoded. Nothing is contacted.
    pub fn new(endpoint: &str, headers: Option<&SecretString>) -> Result<Self, CollectorError> {
        let refuse = |problem| Err(CollectorError::Endpoint(problem));
        let Ok(mut traces) = Url::parse(endpoint.trim()) else {
            return refuse("it is not a URL; write for example `http://127.0.0.1:4318`");
        };
        if !matches!(traces.scheme(), "http" | "https") || traces.host_str().is_none() {
            return refuse("it must begin with `http://` or `https://` and name a host");
        }
        if !traces.username().is_empty() || traces.password().is_some() {
            return refuse("it must hold no user or password; give headers instead");
        }
        if traces.query().is_some() || traces.fragment().is_some() {
            return refuse("it must hold no query and no fragment");
        }
        // A URL with a host always has segments.
        if let Ok(mut segments) = traces.path_segments_mut() {
            segments.pop_if_empty().extend(["v1", "traces"]);
        }
        let mut collector = Self { traces, headers: HeaderMap::new(), secrets: Vec::new() };
        if let Some(headers) = headers {
            collector.read_headers(headers.expose_secret())?;
        }
        Ok(collector)
    }

    fn read_headers(&mut self, text: &str) -> Result<(), CollectorError> {
        let pairs = text.split(',').map(str::trim).zip(1..).filter(|(pair, _)| !pair.is_empty());
        for (pair, number) in pairs {
            let refuse = |problem| CollectorError::Headers { number, problem };
            let (name, encoded) = pair.split_once('=').ok_or(refuse("has no `=`"))?;
            let encoded = encoded.trim();
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| refuse("has no valid name"))?;
            let value = percent_decode_str(encoded).decode_utf8().map_err(|_| refuse("is not UTF-8"))?;
            let mut header =
                HeaderValue::from_str(&value).map_err(|_| refuse("holds what no HTTP header can carry"))?;
            header.set_sensitive(true);
            self.headers.append(name, header);
            // The word behind `Bearer` is the secret, with or without it; and so is how the variable spells it.
            let last = value.split_whitespace().last().unwrap_or_default();
            self.secrets.extend([&*value, last, encoded].map(|secret| SecretString::from(secret.to_owned())));
        }
        Ok(())
    }

    /// What must be redacted wherever it turns up.
    pub fn secret_values(&self) -> Vec<String> {
        self.secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect()
    }

    /// Whether credentials would be sent to another machine without encryption.
    pub fn exposes_headers(&self) -> bool {
        !self.headers.is_empty() && self.traces.scheme() == "http" && !self.is_local()
    }

    pub(crate) fn traces(&self) -> &Url {
        &self.traces
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.traces.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traces.as_str())
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("traces", &self.traces.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_to_the_path_for_traces_below_the_endpoint() {
        for (endpoint, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            (" http://127.0.0.1:4318/ ", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example/tenant/7", "https://otel.example/tenant/7/v1/traces"),
        ] {
            assert_eq!(Collector::new(endpoint, None).unwrap().to_string(), traces);
        }
    }

    #[test]
    fn addresses_that_make_no_sense_or_hold_credentials_are_refused_without_being_shown() {
        for endpoint in
            ["", "127.0.0.1:4318", "ftp://h", "http://", "http://u:hunter22@h", "http://h?key=hunter22", "http://h#a"]
        {
            let error = Collector::new(endpoint, None).unwrap_err().to_string();
            assert!(!error.contains("hunter22"), "{endpoint}: {error}");
        }
    }

    #[test]
    fn headers_are_read_as_the_standard_variable_has_them_and_never_shown() {
        let headers = SecretString::from("Authorization=Bearer%20hunter22, x-tenant = seven ,".to_owned());
        let collector = Collector::new("http://otel.example", Some(&headers)).unwrap();
        assert_eq!(collector.headers()["authorization"], "Bearer hunter22");
        assert_eq!(collector.headers()["x-tenant"], "seven");
        assert!(collector.exposes_headers());
        assert!(!Collector::new("http://localhost", Some(&headers)).unwrap().exposes_headers());
        let secrets = collector.secret_values();
        for secret in ["Bearer hunter22", "hunter22", "Bearer%20hunter22", "seven"] {
            assert!(secrets.iter().any(|value| value == secret), "{secret}");
        }
        assert!(!format!("{collector} {collector:?} {:?}", collector.headers()).contains("hunter22"));
        for bad in ["hunter22", "a=b,hun ter22=x", "a=hunter22%0d%0ax: y", "a=hunter22%ff"] {
            let error = Collector::new("http://h", Some(&SecretString::from(bad.to_owned()))).unwrap_err().to_string();
            assert!(error.starts_with("header ") && !error.contains("hunter22"), "{error}");
        }
    }
}
