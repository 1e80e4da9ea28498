//! Finds secrets in values that are stored as they are, so that a person can be told before they are.

use handshake_core::event::{RedactionScope, Redactor};
use handshake_core::secret::{SecretFinding, SecretScanner};
use serde_json::Value;

use super::Redaction;

/// Findings of one value that are told; there may be one in each line of a long list.
const MOST_FINDINGS: usize = 20;
/// A place is cut here, in characters: keys come from whoever made the value.
const LONGEST_PATH: usize = 100;

impl SecretScanner for Redaction {
    fn secrets(&self, value: &Value) -> Vec<SecretFinding> {
        let mut found = Vec::new();
        self.scan(value, "", None, &mut found);
        found
    }
}

impl Redaction {
    fn scan(&self, value: &Value, path: &str, key: Option<&str>, found: &mut Vec<SecretFinding>) {
        match value {
            _ if found.len() >= MOST_FINDINGS => {}
            Value::String(text) => {
                // Some forms show only next to a name: what is a word by itself is a secret behind the name of one.
                let named = key.map(|key| serde_json::json!({ key: text }).to_string());
                let detector = self.detector(text).or_else(|| self.detector(&named?));
                found.extend(detector.map(|detector| SecretFinding { path: self.shown(path), detector }));
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.scan(item, &format!("{path}[{at}]"), key, found);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let detector = self.detector(name);
                    found.extend(detector.map(|detector| SecretFinding { path: self.shown(&path), detector }));
                    self.scan(field, &path, Some(name), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// In the narrowest scope there are rules for secrets alone.
    fn detector(&self, text: &str) -> Option<&'static str> {
        let (_, rules) = self.redact(RedactionScope::Identity, text)?;
        rules.into_iter().next()
    }

    /// A place for a person: a key can hold a secret, too.
    fn shown(&self, path: &str) -> String {
        let clean = self.clean(RedactionScope::Text, path);
        let cut: String = clean.chars().take(LONGEST_PATH).collect();
        let cut = if cut.len() < clean.len() { format!("{cut}…") } else { cut };
        handshake_core::terminal::escape(&cut, false).into_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_with_their_place_and_never_with_their_value() {
        let redaction = Redaction::new(vec!["correct horse battery".into()]);
        let value = json!({
            "folder": "docs",
            "mail": "ann@example.com",
            "count": 3,
            "key": "sk-proj-abcDEF0123456789abcdef",
            "servers": [{ "url": "db" }, { "url": "postgres://app:hunter2@db/x" }],
            "login": { "password": "hunter2" },
            "phrase": "it is correct horse battery",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345": 1,
        });
        let found = redaction.secrets(&value);
        let mut told: Vec<_> = found.iter().map(|found| format!("{} {}", found.path, found.detector)).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "[REDACTED:api_key:secret_api_key] secret_api_key",
                "key secret_api_key",
                "login.password secret_password",
                "phrase secret_exact",
                "servers[1].url secret_db_url",
            ]
        );
        let many = vec!["sk-proj-abcDEF0123456789abcdef"; 100];
        assert_eq!(redaction.secrets(&json!({ "keys": many })).len(), MOST_FINDINGS);
    }
}
