//! Content: its rows, its edits, and the port.

mod canvases;
mod deletions;
mod documents;
mod edits;
mod guard;
mod reading;
mod tables;

use async_trait::async_trait;
use handshake_core::content::{Canvas, CanvasEdge, CanvasNode, ContentBlock, Document, Stored, Workspace};
use handshake_core::edit::{EditMetadata, GuardedEdit};
use handshake_core::storage::{ContentStore, Page, StorageError};
use handshake_core::{BlockId, CanvasId, DocumentId, WorkspaceId};

use self::edits::Edit;
use crate::database::SqlDatabase;

#[async_trait]
impl ContentStore for SqlDatabase {
    async fn edit(&self, edit: GuardedEdit) -> Result<Vec<EditMetadata>, StorageError> {
        self.queue.perform("edit content", Edit::encode(edit)?, None).await
    }

    async fn workspace(&self, id: WorkspaceId) -> Result<Stored<Workspace>, StorageError> {
        reading::one(self, id.to_string()).await
    }

    async fn workspaces(&self, page: &Page<WorkspaceId>) -> Result<Vec<Stored<Workspace>>, StorageError> {
        reading::page(self, None, page.size(), page.after.map(|id| id.to_string())).await
    }

    async fn document(&self, id: DocumentId) -> Result<Stored<Document>, StorageError> {
        reading::one(self, id.to_string()).await
    }

    async fn documents(
        &self,
        workspace: Option<WorkspaceId>,
        page: &Page<DocumentId>,
    ) -> Result<Vec<Stored<Document>>, StorageError> {
        reading::page(self, workspace.map(|id| id.to_string()), page.size(), page.after.map(|id| id.to_string())).await
    }

    async fn block(&self, id: BlockId) -> Result<Stored<ContentBlock>, StorageError> {
        reading::one(self, id.to_string()).await
    }

    async fn blocks(&self, document: DocumentId) -> Result<Vec<Stored<ContentBlock>>, StorageError> {
        reading::all(self, document.to_string(), " ORDER BY sequence, block_id").await
    }

    async fn canvas(&self, id: CanvasId) -> Result<Stored<Canvas>, StorageError> {
        reading::one(self, id.to_string()).await
    }

    async fn canvases(
        &self,
        workspace: Option<WorkspaceId>,
        page: &Page<CanvasId>,
    ) -> Result<Vec<Stored<Canvas>>, StorageError> {
        reading::page(self, workspace.map(|id| id.to_string()), page.size(), page.after.map(|id| id.to_string())).await
    }

    async fn canvas_nodes(&self, canvas: CanvasId) -> Result<Vec<Stored<CanvasNode>>, StorageError> {
        reading::all(self, canvas.to_string(), " ORDER BY created_at, node_id").await
    }

    async fn canvas_edges(&self, canvas: CanvasId) -> Result<Vec<Stored<CanvasEdge>>, StorageError> {
        reading::all(self, canvas.to_string(), " ORDER BY created_at, edge_id").await
    }
}
