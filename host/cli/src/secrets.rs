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
use crate::keyring::KeyringEntry;

/// The largest secret file, in bytes: keys and tokens are far smaller, and a wrong path should not fill memory.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Where a secret's value comes from: an environment variable, a file or the keyring, one of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretSource {
    /// Environment variable.
    pub(crate) env: Option<String>,
    /// File, relative to handshake.toml; a final line break is not part of the value.
    pub(crate) file: Option<PathBuf>,
    /// Entry of the system's keyring.
    pub(crate) keyring: Option<KeyringEntry>,
}

/// Reads an entry of the system's keyring.
pub(crate) type ReadKeyring = dyn Fn(&KeyringEntry) -> Result<String, String>;

/// The secrets whose values were found at start, and why those of others were not.
pub(crate) struct OperatorSecrets {
    values: BTreeMap<String, SecretString>,
    missing: BTreeMap<String, String>,
    ids: Arc<dyn Ids>,
}

impl OperatorSecrets {
    /// Reads every source. A secret whose source is empty or missing is left out, with a warning: only the steps
    /// that ask for it are concerned.
    pub(crate) fn load(
        sources: &BTreeMap<String, SecretSource>,
        base: &Path,
        keyring: &ReadKeyring,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, CliError> {
        let (mut values, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for (name, source) in sources {
            let (value, problem) = match source {
                SecretSource { env: Some(variable), file: None, keyring: None } => {
                    (std::env::var(variable).ok(), format!("environment variable `{variable}` is not set or empty"))
                }
                SecretSource { env: None, file: Some(file), keyring: None } => {
                    (read_secret(&base.join(file)), format!("file `{}` cannot be read or is empty", file.display()))
                }
                SecretSource { env: None, file: None, keyring: Some(entry) } => match keyring(entry) {
                    Ok(value) => (Some(value), format!("{entry} is empty")),
                    Err(problem) => (None, format!("{entry} cannot be read: {problem}")),
                },
                _ => {
                    return Err(CliError::usage(format!("secret `{name}`: give one of `env`, `file` and `keyring`"))
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
                None => {
                    tracing::warn!(secret = %name, problem, "it is missing; steps cannot use it");
                    missing.insert(name.clone(), problem);
                }
            }
        }
        Ok(Self { values, missing, ids })
    }

    /// Every configured secret, with the reason why it cannot be used if its value was not found.
    pub(crate) fn usable(&self) -> BTreeMap<String, Option<Unusable>> {
        let found = self.values.keys().map(|name| (name.clone(), None));
        let missing = self.missing.iter().map(|(name, problem)| {
            let remedy = format!("provide it and start the host again, or correct [secrets.{name}] in handshake.toml");
            (name.clone(), Some(Unusable { what: problem.clone(), remedy }))
        });
        found.chain(missing).collect()
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
        let nothing = SecretSource { env: None, file: None, keyring: None };
        let file = |name: &str| SecretSource { file: Some(name.into()), ..nothing.clone() };
        let entry = |account: &str| SecretSource {
            keyring: Some(KeyringEntry { service: "handshake".into(), account: account.into() }),
            ..nothing.clone()
        };
        let keyring = |entry: &KeyringEntry| match entry.account.as_str() {
            "github" => Ok("hunter33".to_owned()),
            _ => Err("no matching entry".to_owned()),
        };
        let load = |sources: &[(&str, SecretSource)]| {
            let sources = sources.iter().map(|(name, source)| ((*name).to_owned(), source.clone())).collect();
            OperatorSecrets::load(&sources, folder.path(), &keyring, Arc::new(SequentialIds::default()))
        };
        let four = [("a", file("key")), ("b", file("missing")), ("c", entry("github")), ("d", entry("gitlab"))];
        let secrets = load(&four).unwrap();
        assert_eq!(secrets.exact_values(), ["hunter22", "hunter33"]);
        let usable = secrets.usable();
        assert_eq!((&usable["a"], &usable["c"]), (&None, &None));
        assert_eq!(usable["b"].as_ref().unwrap().what, "file `missing` cannot be read or is empty");
        let what = "the keyring's entry `gitlab` of `handshake` cannot be read: no matching entry";
        assert_eq!(usable["d"].as_ref().unwrap().what, what);

        std::fs::write(folder.path().join("short"), "hunter2\n").unwrap();
        let refused = load(&[("pin", file("short"))]).err().unwrap();
        assert!(refused.message.starts_with("secret `pin` has fewer than 8 bytes"), "{}", refused.message);
        assert!(!refused.message.contains("hunter2"));

        let both = SecretSource { env: Some("X".into()), ..file("key") };
        for source in [both, nothing.clone(), SecretSource { file: Some("key".into()), ..entry("github") }] {
            let refused = load(&[("a", source)]).err().unwrap();
            assert_eq!(refused.message, "secret `a`: give one of `env`, `file` and `keyring`");
        }
    }
}
