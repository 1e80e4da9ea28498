//! Secrets that the operator issues: steps get placeholders, values stay in the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handshake_core::Ids;
use handshake_core::capability::Axis;
use handshake_core::credential::Unusable;
use handshake_core::gate::Permit;
use handshake_core::secret::{PLACEHOLDER_PREFIX, SecretStore};
use handshake_core::storage::StorageError;
use handshake_recorder::SHORTEST_EXACT;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::error::CliError;

/// The largest secret file, in bytes: keys and tokens are far smaller, and a wrong path should not fill memory.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Where a secret's value comes from: an environment variable or a file, one of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretSource {
    /// Environment variable.
    pub(crate) env: Option<String>,
    /// File, relative to handshake.toml; a final line break is not part of the value.
    pub(crate) file: Option<PathBuf>,
}

/// The secrets whose values were found at start.
pub(crate) struct OperatorSecrets {
    values: BTreeMap<String, SecretString>,
    ids: Arc<dyn Ids>,
}

impl OperatorSecrets {
    /// Reads every source. A secret whose source is empty or missing is left out, with a warning: only the steps
    /// that ask for it are concerned.
    pub(crate) fn load(
        sources: &BTreeMap<String, SecretSource>,
        base: &Path,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, CliError> {
        let mut values = BTreeMap::new();
        for (name, source) in sources {
            let value = match (&source.env, &source.file) {
                (Some(variable), None) => std::env::var(variable).ok(),
                (None, Some(file)) => read_secret(&base.join(file)),
                _ => {
                    return Err(CliError::usage(format!("secret `{name}`: give either `env` or `file`"))
                        .hint(format!("write in handshake.toml: [secrets.{name}] env = \"VARIABLE\"")));
                }
            };
            match value.filter(|value| !value.is_empty()) {
                Some(value) if value.len() < SHORTEST_EXACT => {
                    return Err(CliError::usage(format!(
                        "secret `{name}` has fewer than {SHORTEST_EXACT} bytes, so it could not be kept out of records"
                    ))
                    .hint("a value that short turns up in innocent text, too; issue a longer one"));
                }
                Some(value) => {
                    values.insert(name.clone(), SecretString::from(value));
                }
                None => tracing::warn!(secret = %name, "its source is missing or empty; steps cannot use it"),
            }
        }
        Ok(Self { values, ids })
    }

    /// Every configured secret, with the reason why it cannot be used if its value was not found.
    pub(crate) fn usable(&self, sources: &BTreeMap<String, SecretSource>) -> BTreeMap<String, Option<Unusable>> {
        let usable = sources.iter().map(|(name, source)| {
            let missing = (!self.values.contains_key(name)).then(|| Unusable {
                what: match (&source.env, &source.file) {
                    (Some(variable), _) => format!("environment variable `{variable}` is not set or empty"),
                    (_, file) => {
                        let file = file.as_deref().unwrap_or(Path::new(""));
                        format!("file `{}` cannot be read or is empty", file.display())
                    }
                },
                remedy: format!("provide it and start the host again, or correct [secrets.{name}] in handshake.toml"),
            });
            (name.clone(), missing)
        });
        usable.collect()
    }

    /// The values, so that the recorder can redact them wherever they turn up.
    pub(crate) fn exact_values(&self) -> Vec<String> {
        self.values.values().map(|value| value.expose_secret().to_owned()).collect()
    }
}

/// The content of a secret file without its final line break.
pub(crate) fn read_secret(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > MAX_SECRET_BYTES {
        tracing::warn!(path = %path.display(), "a secret file of {size} bytes is not read");
        return None;
    }
    std::fs::read_to_string(path).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
}

impl SecretStore for OperatorSecrets {
    fn placeholder(&self, permit: &Permit, name: &str) -> Result<String, StorageError> {
        permit.require(Axis::SecretsUse)?;
        if !self.values.contains_key(name) {
            return Err(StorageError::NotFound { what: "secret", id: name.to_owned() });
        }
        // 128 random bits say nothing about the value, and nobody guesses those of another attempt.
        let mut random = [0; 16];
        self.ids.random(&mut random);
        Ok(format!("{PLACEHOLDER_PREFIX}{}", hex::encode(random)))
    }

    fn value(&self, permit: &Permit, name: &str) -> Result<SecretString, StorageError> {
        permit.require(Axis::NetHttp)?;
        self.values.get(name).cloned().ok_or_else(|| StorageError::NotFound { what: "secret", id: name.to_owned() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::testing::SequentialIds;

    use super::*;

    #[test]
    fn a_secret_has_exactly_one_source_and_an_absent_value_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "hunter22\n").unwrap();
        let file = |name: &str| SecretSource { env: None, file: Some(name.into()) };
        let sources = BTreeMap::from([("a".to_owned(), file("key")), ("b".to_owned(), file("missing"))]);
        let secrets = OperatorSecrets::load(&sources, folder.path(), Arc::new(SequentialIds::default())).unwrap();
        assert_eq!(secrets.exact_values(), ["hunter22"]);
        let usable = secrets.usable(&sources);
        assert_eq!(usable["a"], None);
        assert_eq!(usable["b"].as_ref().unwrap().what, "file `missing` cannot be read or is empty");

        std::fs::write(folder.path().join("short"), "hunter2\n").unwrap();
        let short = BTreeMap::from([("pin".to_owned(), file("short"))]);
        let refused = OperatorSecrets::load(&short, folder.path(), Arc::new(SequentialIds::default())).err().unwrap();
        assert!(refused.message.starts_with("secret `pin` has fewer than 8 bytes"), "{}", refused.message);
        assert!(!refused.message.contains("hunter2"));

        let both = BTreeMap::from([("a".to_owned(), SecretSource { env: Some("X".into()), file: Some("key".into()) })]);
        let refused = OperatorSecrets::load(&both, folder.path(), Arc::new(SequentialIds::default()));
        assert_eq!(refused.err().unwrap().message, "secret `a`: give either `env` or `file`");
    }
}
