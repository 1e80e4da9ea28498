//! Placeholders of one attempt and what becomes of them: where the policy says so, the host puts the value in the place
//! of a placeholder in a request's header. The value never comes back: responses are looked through for it.

mod scanner;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use handshake_core::capability::{Axis, Policy, Resource};
use handshake_core::gate::Permit;
use handshake_core::secret::{PLACEHOLDER_PREFIX, SecretStore};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use scanner::Scanner;

/// What may stand before a placeholder in a header's value.
const SCHEMES: [&str; 3] = ["Bearer ", "Basic ", "Token "];
/// The security violation that an echo is.
const ECHOED: &str = "secret_echoed";

/// Something that ends the attempt, whatever the guest would make of it.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

/// The first violation of an attempt.
pub(crate) type Violations = Arc<OnceLock<Violation>>;

/// The placeholders of one attempt. Those of others mean nothing here.
pub(crate) struct AttemptSecrets {
    store: Arc<dyn SecretStore>,
    violations: Violations,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Names, by placeholder.
    issued: BTreeMap<String, String>,
    /// Values that were sent, by name.
    sent: BTreeMap<String, SecretString>,
}

/// A placeholder that a value may take the place of.
pub(crate) struct Swap {
    header: HeaderName,
    placeholder: String,
    pub(crate) secret: String,
}

impl AttemptSecrets {
    pub(crate) fn new(store: Arc<dyn SecretStore>, violations: Violations) -> Self {
        Self { store, violations, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a placeholder of this attempt stands for.
    pub(crate) fn issued(&self, placeholder: &str, name: &str) {
        self.state().issued.insert(placeholder.to_owned(), name.to_owned());
    }

    /// Which placeholders of a request are to be swapped, all of them in places where the policy lets their value go;
    /// else what is wrong.
    pub(crate) fn plan(
        &self,
        url: &str,
        headers: &HeaderMap,
        resource: &Resource,
        policy: &Policy,
    ) -> Result<Vec<Swap>, String> {
        if url.contains(PLACEHOLDER_PREFIX) {
            return Err("a placeholder for a secret stands in the URL; it belongs into a header".to_owned());
        }
        let state = self.state();
        let mut swaps = Vec::new();
        for (header, value) in headers {
            if header.as_str().contains(PLACEHOLDER_PREFIX) {
                return Err("a placeholder for a secret is the name of a header; it belongs into its value".to_owned());
            }
            // What is not text holds no placeholder in a place where one could be swapped.
            let text = String::from_utf8_lossy(value.as_bytes());
            if !text.contains(PLACEHOLDER_PREFIX) {
                continue;
            }
            let scheme = SCHEMES
                .iter()
                .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
            let placeholder = text.get(scheme.map_or(0, |scheme| scheme.len())..).unwrap_or_default();
            let Some(secret) = state.issued.get(placeholder) else {
                return Err(format!(
                    "header `{header}` holds a placeholder for a secret that is not of this attempt, or more than the placeholder; it stands alone or after `Bearer `, `Basic ` or `Token `"
                ));
            };
            let rules = || policy.secrets.iter().filter(|rule| rule.name == *secret);
            let approved = rules().any(|rule| {
                rule.headers.iter().any(|name| name == header.as_str())
                    && rule.hosts.iter().any(|host| host.covers(Axis::NetHttp, resource))
            });
            if !approved {
                let places: Vec<_> = rules().map(|rule| rule.source.to_string()).collect();
                let places = if places.is_empty() {
                    "no [[secret]] names it".to_owned()
                } else {
                    format!("see {}", places.join(", "))
                };
                return Err(format!(
                    "the policy does not let secret `{secret}` go to this server in header `{header}` ({places}); the operator can add to policy.toml: [[secret]] name = \"{secret}\" with `hosts` and `headers`"
                ));
            }
            swaps.push(Swap { header: header.clone(), placeholder: placeholder.to_owned(), secret: secret.clone() });
        }
        Ok(swaps)
    }

    /// Puts the values in. From here on responses are looked through for them.
    pub(crate) fn swap(&self, permit: &Permit, headers: &mut HeaderMap, swaps: Vec<Swap>) -> Result<(), String> {
        for Swap { header, placeholder, secret } in swaps {
            let value = self.store.value(permit, &secret).map_err(|error| format!("secret `{secret}`: {error}"))?;
            let http::header::Entry::Occupied(mut entry) = headers.entry(header) else { continue };
            for held in entry.iter_mut() {
                let Some(front) = held.to_str().ok().and_then(|text| text.strip_suffix(placeholder.as_str())) else {
                    continue;
                };
                let mut full = HeaderValue::from_str(&format!("{front}{}", value.expose_secret()))
                    .map_err(|_| format!("secret `{secret}` holds characters that no header can carry"))?;
                full.set_sensitive(true);
                *held = full;
            }
            self.state().sent.insert(secret, value);
        }
        Ok(())
    }

    /// How many values have been sent in this attempt.
    pub(crate) fn sent(&self) -> usize {
        self.state().sent.len()
    }

    /// Looks for what was sent so far; none when there is nothing to look for.
    pub(crate) fn scanner(&self) -> Option<Scanner> {
        let state = self.state();
        if state.sent.is_empty() { None } else { Scanner::new(state.sent.values().map(SecretString::expose_secret)) }
    }

    /// Whether headers or trailers hold a value that was sent.
    pub(crate) fn echo(&self, headers: &HeaderMap) -> bool {
        let Some(scanner) = self.scanner() else { return false };
        headers.iter().any(|(name, value)| scanner.finds(name.as_str().as_bytes()) || scanner.finds(value.as_bytes()))
    }

    /// Notes that a server has sent a value back.
    pub(crate) fn report_echo(&self) {
        let names: Vec<_> = self.state().sent.keys().map(|name| format!("`{name}`")).collect();
        let detail = format!(
            "a server sent back the value of a secret (one of {}); the response was cut off before the step could see it",
            names.join(", ")
        );
        let _ = self.violations.set(Violation { kind: ECHOED, detail });
    }
}
