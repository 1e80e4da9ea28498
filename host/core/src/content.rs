//! Content: workspaces with their documents, which are made of blocks, and their canvases, made of nodes and edges.
//!
//! This is content as it is stored. What steps see of it is in [`document`](crate::document).

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::edit::EditMetadata;
use crate::job::canonical_enum;
use crate::storage::StorageError;
use crate::{BlockId, CanvasEdgeId, CanvasId, CanvasNodeId, DocumentId, EventId, Timestamp, WorkspaceId};

/// Most changes in one edit: they are one transaction, for which others wait.
pub const MAX_CHANGES: usize = 1_000;
/// Most that one edit deletes, what goes with a workspace, document or canvas included.
pub const MAX_DELETED: usize = 10_000;
/// Longest content of a block or node, bytes; derived content as JSON.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;

/// Bytes of a name or title, which may be empty.
const NAME: RangeInclusive<usize> = 0..=1 << 10;
/// Bytes of a kind that the writers of content choose.
const KIND: RangeInclusive<usize> = 1..=64;
const CONTENT: RangeInclusive<usize> = 0..=MAX_CONTENT_BYTES;

canonical_enum! {
    /// Who may see a block.
    Sensitivity, "sensitivity" {
        /// Everybody.
        Public = "public",
        /// Everybody who works here.
        Internal = "internal",
        /// Those who need it.
        Confidential = "confidential",
        /// Nobody without being told so.
        Secret = "secret",
    }
}

canonical_enum! {
    /// What kind of content something is.
    ContentKind, "kind of content" {
        /// A workspace.
        Workspace = "workspace",
        /// A document.
        Document = "document",
        /// A block.
        Block = "block",
        /// A canvas.
        Canvas = "canvas",
        /// A node.
        CanvasNode = "canvas_node",
        /// An edge.
        CanvasEdge = "canvas_edge",
    }
}

/// What documents and canvases belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Workspace {
    /// Its id.
    pub workspace_id: WorkspaceId,
    /// Its name, at most 1 KiB.
    pub name: String,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Document {
    /// Its id.
    pub document_id: DocumentId,
    /// Where it belongs; stays.
    pub workspace_id: WorkspaceId,
    /// Its title, at most 1 KiB.
    pub title: String,
}

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ContentBlock {
    /// Its id.
    pub block_id: BlockId,
    /// Where it belongs; stays.
    pub document_id: DocumentId,
    /// For example `paragraph`; 1 to 64 bytes.
    pub kind: String,
    /// Its place: blocks are read in this order, and those that share a place in that of their ids.
    pub sequence: i64,
    /// As it was written, at most 1 MiB.
    pub raw_content: String,
    /// As it is shown, at most 1 MiB.
    pub display_content: String,
    /// What was found out about it, at most 1 MiB of JSON.
    pub derived_content: serde_json::Value,
    /// Who may see it.
    pub sensitivity: Sensitivity,
    /// Whether exports contain it.
    pub exportable: bool,
}

/// A surface on which nodes lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvas {
    /// Its id.
    pub canvas_id: CanvasId,
    /// Where it belongs; stays.
    pub workspace_id: WorkspaceId,
    /// Its title, at most 1 KiB.
    pub title: String,
}

/// Something on a canvas. Its numbers are finite; minus zero is stored as zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanvasNode {
    /// Its id.
    pub node_id: CanvasNodeId,
    /// Where it belongs; stays.
    pub canvas_id: CanvasId,
    /// For example `note`; 1 to 64 bytes.
    pub kind: String,
    /// Its left edge.
    pub x: f64,
    /// Its upper edge.
    pub y: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
    /// What stands in it, at most 1 MiB.
    pub content: String,
    /// The block of the same workspace that it shows. It stays when that block is deleted.
    pub block_id: Option<BlockId>,
}

/// A connection between two nodes of one canvas, perhaps from one to itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanvasEdge {
    /// Its id.
    pub edge_id: CanvasEdgeId,
    /// Where it belongs; stays.
    pub canvas_id: CanvasId,
    /// Where it begins.
    pub from_node: CanvasNodeId,
    /// Where it ends.
    pub to_node: CanvasNodeId,
    /// For example `arrow`; 1 to 64 bytes.
    pub kind: String,
}

/// Something as it is stored: with its times and its last edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stored<T> {
    /// The thing itself.
    #[serde(flatten)]
    pub content: T,
    /// Created.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// Who changed it last.
    pub edit: EditMetadata,
}

macro_rules! contents {
    ($($(#[$doc:meta])* $kind:ident($type:ident, $field:ident: $id:ident),)*) => {
        /// One thing of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "entity", rename_all = "snake_case")]
        pub enum Content { $($(#[$doc])* $kind($type),)* }

        /// The id of one thing of any kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(tag = "entity", content = "id", rename_all = "snake_case")]
        pub enum ContentId { $($(#[$doc])* $kind($id),)* }

        impl Content {
            /// Its id.
            pub fn id(&self) -> ContentId {
                match self { $(Self::$kind(content) => ContentId::$kind(content.$field),)* }
            }
        }

        impl ContentId {
            /// What it is the id of.
            pub const fn kind(&self) -> ContentKind {
                match self { $(Self::$kind(_) => ContentKind::$kind,)* }
            }
            /// The UUID inside.
            pub const fn uuid(&self) -> Uuid {
                match self { $(Self::$kind(id) => id.uuid(),)* }
            }
        }

        $(impl From<$type> for Content {
            fn from(content: $type) -> Self {
                Self::$kind(content)
            }
        }

        impl From<$id> for ContentId {
            fn from(id: $id) -> Self {
                Self::$kind(id)
            }
        })*
    };
}

contents! {
    /// A workspace.
    Workspace(Workspace, workspace_id: WorkspaceId),
    /// A document.
    Document(Document, document_id: DocumentId),
    /// A block.
    Block(ContentBlock, block_id: BlockId),
    /// A canvas.
    Canvas(Canvas, canvas_id: CanvasId),
    /// A node.
    CanvasNode(CanvasNode, node_id: CanvasNodeId),
    /// An edge.
    CanvasEdge(CanvasEdge, edge_id: CanvasEdgeId),
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid().fmt(f)
    }
}

/// One change of content. `base` is the `edit_event_id` that the writer has seen: when the stored one is another, the
/// edit is a conflict. Without it, the change is made to whatever is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum ContentChange {
    /// Something new.
    Create {
        /// The thing.
        content: Content,
    },
    /// Something gets a new form.
    Update {
        /// All of its new form.
        content: Content,
        /// What the writer has seen.
        base: Option<EventId>,
    },
    /// Something goes, with everything that belongs to it: a workspace with its documents and canvases, a document
    /// with its blocks, a canvas with its nodes and edges, a node with the edges at it.
    Delete {
        /// What goes.
        id: ContentId,
        /// What the writer has seen.
        base: Option<EventId>,
    },
}

/// Why content cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContent {
    /// A nil id.
    #[error("{kind}: an id must not be nil")]
    Nil {
        /// Of what.
        kind: ContentKind,
    },
    /// A text of another length.
    #[error("{kind} `{id}`: {field} has {length} bytes; it may have {} to {}", .allowed.start(), .allowed.end())]
    Length {
        /// Of what.
        kind: ContentKind,
        /// Of which.
        id: Uuid,
        /// Of what of it.
        field: &'static str,
        /// What it has.
        length: usize,
        /// What it may have.
        allowed: RangeInclusive<usize>,
    },
    /// A text with U+0000, which PostgreSQL cannot hold.
    #[error("{kind} `{id}`: {field}: text with the character U+0000 cannot be stored")]
    Nul {
        /// Of what.
        kind: ContentKind,
        /// Of which.
        id: Uuid,
        /// Of what of it.
        field: &'static str,
    },
    /// A number that is infinite or none.
    #[error("{kind} `{id}`: position and size must be finite numbers")]
    NotFinite {
        /// Of what.
        kind: ContentKind,
        /// Of which.
        id: Uuid,
    },
}

impl From<InvalidContent> for StorageError {
    fn from(error: InvalidContent) -> Self {
        Self::Validation(error.to_string())
    }
}

impl ContentChange {
    /// Refuses what no backend may store.
    pub(crate) fn check(&self) -> Result<(), InvalidContent> {
        match self {
            Self::Create { content } | Self::Update { content, .. } => content.check(),
            Self::Delete { .. } => Ok(()),
        }
    }
}

impl Content {
    fn check(&self) -> Result<(), InvalidContent> {
        let (kind, id) = (self.id().kind(), self.id().uuid());
        if id.is_nil() {
            return Err(InvalidContent::Nil { kind });
        }
        for (field, text, allowed) in self.texts() {
            if !allowed.contains(&text.len()) {
                return Err(InvalidContent::Length { kind, id, field, length: text.len(), allowed });
            }
            if text.contains('\0') {
                return Err(InvalidContent::Nul { kind, id, field });
            }
        }
        match self {
            Self::CanvasNode(node) if ![node.x, node.y, node.width, node.height].iter().all(|n| n.is_finite()) => {
                Err(InvalidContent::NotFinite { kind, id })
            }
            Self::Block(block) => {
                let length = block.derived_content.to_string().len();
                if length <= MAX_CONTENT_BYTES {
                    return Ok(());
                }
                Err(InvalidContent::Length { kind, id, field: "derived content", length, allowed: CONTENT })
            }
            _ => Ok(()),
        }
    }

    /// Its texts, with the bytes that they may have.
    fn texts(&self) -> Vec<(&'static str, &str, RangeInclusive<usize>)> {
        match self {
            Self::Workspace(workspace) => vec![("name", &workspace.name, NAME)],
            Self::Document(document) => vec![("title", &document.title, NAME)],
            Self::Canvas(canvas) => vec![("title", &canvas.title, NAME)],
            Self::Block(block) => vec![
                ("kind", &block.kind, KIND),
                ("raw content", &block.raw_content, CONTENT),
                ("display content", &block.display_content, CONTENT),
            ],
            Self::CanvasNode(node) => vec![("kind", &node.kind, KIND), ("content", &node.content, CONTENT)],
            Self::CanvasEdge(edge) => vec![("kind", &edge.kind, KIND)],
        }
    }
}
