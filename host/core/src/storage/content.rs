//! The port for content.

use async_trait::async_trait;

use super::{Page, StorageError};
use crate::content::{Canvas, CanvasEdge, CanvasNode, ContentBlock, Document, Stored, Workspace};
use crate::edit::{EditMetadata, GuardedEdit};
use crate::{BlockId, CanvasId, DocumentId, WorkspaceId};

/// Content. Everything that is written goes through [`edit`](Self::edit), and so through the guard.
#[async_trait]
pub trait ContentStore: Send + Sync {
    /// Makes the changes of an edit and records their events in one transaction; all of them or none. It asks
    /// [`EditContext::allow`](crate::edit::EditContext::allow) there, and `Guard` means that this refused.
    async fn edit(&self, edit: GuardedEdit) -> Result<Vec<EditMetadata>, StorageError>;
    /// One workspace.
    async fn workspace(&self, id: WorkspaceId) -> Result<Stored<Workspace>, StorageError>;
    /// Workspaces, newest first.
    async fn workspaces(&self, page: &Page<WorkspaceId>) -> Result<Vec<Stored<Workspace>>, StorageError>;
    /// One document, without its blocks.
    async fn document(&self, id: DocumentId) -> Result<Stored<Document>, StorageError>;
    /// Documents, of one workspace or of all, newest first.
    async fn documents(
        &self,
        workspace: Option<WorkspaceId>,
        page: &Page<DocumentId>,
    ) -> Result<Vec<Stored<Document>>, StorageError>;
    /// One block.
    async fn block(&self, id: BlockId) -> Result<Stored<ContentBlock>, StorageError>;
    /// All blocks of a document in reading order: by sequence, then by id.
    async fn blocks(&self, document: DocumentId) -> Result<Vec<Stored<ContentBlock>>, StorageError>;
    /// One canvas, without its nodes and edges.
    async fn canvas(&self, id: CanvasId) -> Result<Stored<Canvas>, StorageError>;
    /// Canvases, of one workspace or of all, newest first.
    async fn canvases(
        &self,
        workspace: Option<WorkspaceId>,
        page: &Page<CanvasId>,
    ) -> Result<Vec<Stored<Canvas>>, StorageError>;
    /// All nodes of a canvas in drawing order: oldest first, then by id.
    async fn canvas_nodes(&self, canvas: CanvasId) -> Result<Vec<Stored<CanvasNode>>, StorageError>;
    /// All edges of a canvas, oldest first, then by id.
    async fn canvas_edges(&self, canvas: CanvasId) -> Result<Vec<Stored<CanvasEdge>>, StorageError>;
}
