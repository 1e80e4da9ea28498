//! Documents as steps see them: read, and propose changes that somebody else decides on.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::JobId;
use crate::gate::Permit;
use crate::job::PlannedOperation;
use crate::storage::StorageError;

/// A document without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentSummary {
    /// Id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Grows with each accepted change.
    pub version: u64,
}

/// A block, in reading order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Id.
    pub id: String,
    /// For example `paragraph`.
    pub kind: String,
    /// Markdown.
    pub content: String,
}

/// A document with its blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Id, title, version.
    pub summary: DocumentSummary,
    /// In reading order.
    pub blocks: Vec<Block>,
}

/// What a step proposes for one document. It travels with the step's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Proposal {
    /// The document.
    pub document: String,
    /// The version that was read.
    pub base_version: u64,
    /// The changes, in order.
    pub operations: Vec<PlannedOperation>,
}

/// Where documents are read from. The permit must be for `doc.read`.
#[async_trait]
pub trait DocumentReader: Send + Sync {
    /// The ids within the job's scope. What is returned to a guest is decided one by one.
    async fn list(&self, job: Option<JobId>) -> Result<Vec<DocumentSummary>, StorageError>;
    /// One document.
    async fn read(&self, permit: &Permit, id: &str) -> Result<Document, StorageError>;
}
