//! Artifacts: large values, addressed by their hash, readable only within the run that has them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::gate::Permit;
use crate::storage::StorageError;
use crate::{Digest, RunId};

/// The largest artifact, in bytes (16 MiB): it must fit into a guest's memory several times over.
pub const MAX_ARTIFACT_BYTES: usize = 16 << 20;

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactHandle {
    /// SHA-256 of the content.
    pub id: Digest,
    /// Bytes.
    pub size: u64,
    /// Media type.
    pub media_type: String,
}

/// Where artifacts live. Readable is only what the run's own table lists: a hash alone gives nothing.
#[async_trait]
pub trait ArtifactStore: Send + Sync {
    /// Stores a value and lists it with the run. Durable on return. The permit must be for `artifact.write`.
    async fn put(
        &self,
        permit: &Permit,
        run: RunId,
        media_type: &str,
        content: &[u8],
    ) -> Result<ArtifactHandle, StorageError>;
    /// Reads a value that the run lists; `NotFound` for any other. The content is checked against its hash.
    /// The permit must be for `artifact.read`.
    async fn get(&self, permit: &Permit, run: RunId, id: Digest) -> Result<Vec<u8>, StorageError>;
}
