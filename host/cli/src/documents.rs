//! Documents as the steps of a job see them: those that the job is about, and no others.

use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::capability::Axis;
use handshake_core::docs_profile::DOCUMENT;
use handshake_core::document::{Document, DocumentReader, DocumentSummary};
use handshake_core::gate::Permit;
use handshake_core::storage::{ContentStore, JobStore, StorageError};
use handshake_core::{DocumentId, JobId};
use handshake_engine::documents::{State, guest_view};

/// The documents in the database.
pub(crate) struct StoredDocuments {
    content: Arc<dyn ContentStore>,
    jobs: Arc<dyn JobStore>,
}

impl StoredDocuments {
    /// Those of this database, with the jobs that say what they are about.
    pub(crate) fn new(content: Arc<dyn ContentStore>, jobs: Arc<dyn JobStore>) -> Self {
        Self { content, jobs }
    }

    /// What a job is about; nothing for who is none.
    async fn scope(&self, job: Option<JobId>) -> Result<Vec<String>, StorageError> {
        let Some(job) = job else { return Ok(Vec::new()) };
        let entities = self.jobs.job(job).await?.entity_refs.into_iter();
        let documents = entities.filter(|entity| entity.artefact_type == DOCUMENT);
        Ok(documents.map(|entity| entity.artefact_id).collect())
    }

    async fn document(&self, id: &str) -> Result<Document, StorageError> {
        // What is no id, or not in the form that ids are shown in, names nothing.
        let parsed = id.parse::<DocumentId>().ok().filter(|parsed| parsed.to_string() == id);
        let parsed = parsed.ok_or_else(|| missing(id))?;
        let document = self.content.document(parsed).await?;
        Ok(guest_view(&State { document, blocks: self.content.blocks(parsed).await? }))
    }
}

/// The same answer, whether there is such a document or only the job may not know of it.
fn missing(id: &str) -> StorageError {
    StorageError::NotFound { what: "document", id: id.to_owned() }
}

#[async_trait]
impl DocumentReader for StoredDocuments {
    async fn list(&self, job: Option<JobId>) -> Result<Vec<DocumentSummary>, StorageError> {
        let mut listed = Vec::new();
        for id in self.scope(job).await? {
            match self.document(&id).await {
                Ok(document) => listed.push(document.summary),
                // Deleted since the job was submitted.
                Err(StorageError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    async fn read(&self, permit: &Permit, id: &str) -> Result<Document, StorageError> {
        permit.require(Axis::DocRead)?;
        let job = permit.identity().place.as_ref().map(|place| place.job);
        if !self.scope(job).await?.iter().any(|own| own == id) {
            return Err(missing(id));
        }
        self.document(id).await
    }
}
