//! Secrets as steps see them: placeholders, never values. And what looks like one where none should be.

use serde_json::Value;

use crate::gate::Permit;
use crate::storage::StorageError;

/// Which secrets the operator issued.
pub trait SecretStore: Send + Sync {
    /// Gives a placeholder bound to the permit's attempt; `NotFound` when there is no such secret. The permit
    /// must be for `secrets.use`.
    fn placeholder(&self, permit: &Permit, name: &str) -> Result<String, StorageError>;
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
