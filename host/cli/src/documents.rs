//! Documents of the workspace: this version has none, because importing them comes later.

use async_trait::async_trait;
use handshake_core::JobId;
use handshake_core::capability::Axis;
use handshake_core::document::{Document, DocumentReader, DocumentSummary};
use handshake_core::gate::Permit;
use handshake_core::storage::StorageError;

/// A workspace without documents. Steps that ask still pass the gate; they find an empty list.
#[derive(Debug)]
pub(crate) struct NoDocuments;

#[async_trait]
impl DocumentReader for NoDocuments {
    async fn list(&self, _: Option<JobId>) -> Result<Vec<DocumentSummary>, StorageError> {
        Ok(Vec::new())
    }

    async fn read(&self, permit: &Permit, id: &str) -> Result<Document, StorageError> {
        permit.require(Axis::DocRead)?;
        Err(StorageError::NotFound { what: "document", id: id.to_owned() })
    }
}
