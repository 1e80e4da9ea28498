//! Secrets as steps see them: placeholders, never values. And what looks like one where none should be.

use secrecy::SecretString;
use serde_json::Value;

use crate::gate::Permit;
use crate::storage::StorageError;

/// What every placeholder begins with; 32 hexadecimal digits follow.
pub const PLACEHOLDER_PREFIX: &str = "hsk-secret-";

/// Which secrets the operator issued.
pub trait SecretStore: Send + Sync {
    /// Gives a placeholder bound to the permit's attempt; `NotFound` when there is no such secret. The permit
    /// must be for `secrets.use`.
    fn placeholder(&self, permit: &Permit, name: &str) -> Result<String, StorageError>;

    /// The value, for a request that was allowed and that the policy lets it go with. The permit must be for
    /// `net.http`.
    fn value(&self, permit: &Permit, name: &str) -> Result<SecretString, StorageError>;
}

/// Something that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFinding {
    /// Where, for example `servers[1].url`; fit to be shown.
    pub path: String,
    /// What recognised it, for example `secret_api_key`.
    pub detector: &'static str,
}

/// Recognises secrets by their form.
pub trait SecretScanner: Send + Sync {
    /// What looks like a secret within a value; the first ones when there are many.
    fn secrets(&self, value: &Value) -> Vec<SecretFinding>;
}
