//! Content in memory: only what the engine reads, and no edits.

use async_trait::async_trait;
use handshake_core::content::*;
use handshake_core::edit::{EditMetadata, GuardedEdit};
use handshake_core::storage::{ContentStore, Page, StorageError};
use handshake_core::{BlockId, CanvasId, DocumentId, WorkspaceId};

use crate::documents::State;

/// At most one document.
#[derive(Default)]
pub(super) struct OneDocument(pub(super) Option<State>);

type Answer<T> = Result<T, StorageError>;

fn missing<T>() -> Answer<T> {
    Err(StorageError::NotFound { what: "content", id: "in this double".into() })
}

#[async_trait]
impl ContentStore for OneDocument {
    async fn edit(&self, _: GuardedEdit) -> Answer<Vec<EditMetadata>> {
        Err(StorageError::Guard("HSK-403-SILENT-EDIT: nobody edits in this double".into()))
    }
    async fn workspace(&self, _: WorkspaceId) -> Answer<Stored<Workspace>> {
        missing()
    }
    async fn workspaces(&self, _: &Page<WorkspaceId>) -> Answer<Vec<Stored<Workspace>>> {
        Ok(Vec::new())
    }
    async fn document(&self, id: DocumentId) -> Answer<Stored<Document>> {
        self.0.as_ref().filter(|state| state.id() == id).map_or_else(missing, |state| Ok(state.document.clone()))
    }
    async fn documents(&self, _: Option<WorkspaceId>, _: &Page<DocumentId>) -> Answer<Vec<Stored<Document>>> {
        Ok(Vec::new())
    }
    async fn block(&self, _: BlockId) -> Answer<Stored<ContentBlock>> {
        missing()
    }
    async fn blocks(&self, id: DocumentId) -> Answer<Vec<Stored<ContentBlock>>> {
        Ok(self.0.as_ref().filter(|state| state.id() == id).map_or_else(Vec::new, |state| state.blocks.clone()))
    }
    async fn canvas(&self, _: CanvasId) -> Answer<Stored<Canvas>> {
        missing()
    }
    async fn canvases(&self, _: Option<WorkspaceId>, _: &Page<CanvasId>) -> Answer<Vec<Stored<Canvas>>> {
        Ok(Vec::new())
    }
    async fn canvas_nodes(&self, _: CanvasId) -> Answer<Vec<Stored<CanvasNode>>> {
        Ok(Vec::new())
    }
    async fn canvas_edges(&self, _: CanvasId) -> Answer<Vec<Stored<CanvasEdge>>> {
        Ok(Vec::new())
    }
}
