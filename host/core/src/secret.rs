//! Secrets as steps see them: placeholders, never values.

use crate::gate::Permit;
use crate::storage::StorageError;

/// Which secrets the operator issued.
pub trait SecretStore: Send + Sync {
    /// Gives a placeholder bound to the permit's attempt; `NotFound` when there is no such secret. The permit
    /// must be for `secrets.use`.
    fn placeholder(&self, permit: &Permit, name: &str) -> Result<String, StorageError>;
}
