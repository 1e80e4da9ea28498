//! Canvases, nodes and edges as their tables hold them, and what they refer to.

use handshake_core::content::{Canvas, CanvasEdge, CanvasNode};
use handshake_core::storage::StorageError;

use super::tables::{CANVASES, EDGES, Entity, NODES, Table, id, optional_id};
use crate::error::failed;
use crate::operation::Refusal;
use crate::sql::{Connection, Row, Value, column, query};

// A node goes on showing a block that was deleted meanwhile.
const SHOWABLE: &str = "SELECT block_id FROM canvas_nodes WHERE node_id = $1 AND block_id = $2 UNION ALL \
     SELECT blocks.block_id FROM blocks JOIN documents ON documents.document_id = blocks.document_id \
     JOIN canvases ON canvases.workspace_id = documents.workspace_id \
     WHERE canvases.canvas_id = $3 AND blocks.block_id = $2";
const ENDS: &str = "SELECT COUNT(*) FROM canvas_nodes WHERE canvas_id = $1 AND (node_id = $2 OR node_id = $3)";

impl Entity for Canvas {
    const TABLE: &'static Table = &CANVASES;

    fn id(&self) -> String {
        self.canvas_id.to_string()
    }

    fn parent(&self) -> Option<String> {
        Some(self.workspace_id.to_string())
    }

    fn own<'v>(&'v self, _: &'v str) -> Vec<Value<'v>> {
        vec![self.title.as_str().into()]
    }

    fn decode(row: &Row) -> Result<Self, StorageError> {
        Ok(Self {
            canvas_id: id(row, "canvas_id")?,
            workspace_id: id(row, "workspace_id")?,
            title: column(row, "title")?,
        })
    }
}

impl Entity for CanvasNode {
    const TABLE: &'static Table = &NODES;

    fn id(&self) -> String {
        self.node_id.to_string()
    }

    fn parent(&self) -> Option<String> {
        Some(self.canvas_id.to_string())
    }

    fn own<'v>(&'v self, _: &'v str) -> Vec<Value<'v>> {
        // SQLite stores minus zero as zero; adding zero does the same to it for every backend.
        vec![
            self.kind.as_str().into(),
            (self.x + 0.0).into(),
            (self.y + 0.0).into(),
            (self.width + 0.0).into(),
            (self.height + 0.0).into(),
            self.content.as_str().into(),
            self.block_id.map(|id| id.to_string()).into(),
        ]
    }

    fn decode(row: &Row) -> Result<Self, StorageError> {
        Ok(Self {
            node_id: id(row, "node_id")?,
            canvas_id: id(row, "canvas_id")?,
            kind: column(row, "kind")?,
            x: column(row, "x")?,
            y: column(row, "y")?,
            width: column(row, "width")?,
            height: column(row, "height")?,
            content: column(row, "content")?,
            block_id: optional_id(row, "block_id")?,
        })
    }
}

impl Entity for CanvasEdge {
    const TABLE: &'static Table = &EDGES;

    fn id(&self) -> String {
        self.edge_id.to_string()
    }

    fn parent(&self) -> Option<String> {
        Some(self.canvas_id.to_string())
    }

    fn own<'v>(&'v self, _: &'v str) -> Vec<Value<'v>> {
        vec![self.from_node.to_string().into(), self.to_node.to_string().into(), self.kind.as_str().into()]
    }

    fn decode(row: &Row) -> Result<Self, StorageError> {
        Ok(Self {
            edge_id: id(row, "edge_id")?,
            canvas_id: id(row, "canvas_id")?,
            from_node: id(row, "from_node")?,
            to_node: id(row, "to_node")?,
            kind: column(row, "kind")?,
        })
    }
}

/// A node shows a block of its own workspace.
pub(super) async fn check_block(connection: &mut Connection, node: &CanvasNode) -> Result<(), Refusal> {
    let Some(block) = node.block_id else { return Ok(()) };
    let showable =
        query(SHOWABLE).bind(node.node_id.to_string()).bind(block.to_string()).bind(node.canvas_id.to_string());
    let found = showable.fetch_optional(connection).await.map_err(failed("look for a block"))?;
    if found.is_some() {
        return Ok(());
    }
    let canvas = node.canvas_id;
    let missing = format!("block `{block}` does not exist in the workspace of canvas `{canvas}`");
    Err(Refusal::Answer(StorageError::Validation(missing)))
}

/// An edge connects nodes of its own canvas.
pub(super) async fn check_ends(connection: &mut Connection, edge: &CanvasEdge) -> Result<(), Refusal> {
    let (canvas, from, to) = (edge.canvas_id, edge.from_node, edge.to_node);
    let ends = query(ENDS).bind(canvas.to_string()).bind(from.to_string()).bind(to.to_string());
    let found: Option<i64> = ends.fetch_value(connection).await.map_err(failed("look for nodes"))?;
    if found == Some(if from == to { 1 } else { 2 }) {
        return Ok(());
    }
    let missing = format!("nodes `{from}` and `{to}` do not both exist on canvas `{canvas}`");
    Err(Refusal::Answer(StorageError::Validation(missing)))
}
