//! Random edits of content, and what is read of it.

use std::sync::Arc;

use handshake_core::content::*;
use handshake_core::edit::{EditContext, Editor, EditorKind};
use handshake_core::storage::{ContentStore, Page};
use handshake_core::testing::NoRedaction;
use handshake_core::{BlockId, CanvasEdgeId, CanvasId, CanvasNodeId, DocumentId, EventId, TraceId, WorkspaceId};
use handshake_recorder::Recorder;

use crate::{Side, shown};

/// Everything that edits so far have tried to create, and the events of those that were made.
#[derive(Default)]
pub(crate) struct Shelf {
    workspaces: Vec<WorkspaceId>,
    documents: Vec<DocumentId>,
    blocks: Vec<BlockId>,
    canvases: Vec<CanvasId>,
    nodes: Vec<CanvasNodeId>,
    edges: Vec<CanvasEdgeId>,
    seen: Vec<EventId>,
}

/// One of these, or now and then one that does not exist.
macro_rules! one_of {
    ($side:expr, $ids:ident, $id:ident) => {
        match $side.shelf.$ids.len() {
            0 => $id::fresh(&*$side.world.ids),
            _ if $side.dice.one_in(40) => $id::fresh(&*$side.world.ids),
            held => $side.shelf.$ids[$side.dice.below(held)],
        }
    };
}

/// A new one, which is remembered, or now and then one that exists.
macro_rules! new_one {
    ($side:expr, $ids:ident, $id:ident) => {
        if $side.dice.one_in(10) {
            one_of!($side, $ids, $id)
        } else {
            let id = $id::fresh(&*$side.world.ids);
            $side.shelf.$ids.push(id);
            id
        }
    };
}

impl Side {
    fn number(&mut self) -> f64 {
        if self.dice.one_in(40) {
            return f64::NAN;
        }
        self.dice.of(&[0.0, -0.0, 0.1 + 0.2, f64::MAX, -5e-324, 9_007_199_254_740_993.0])
    }

    /// Mostly what can be stored.
    fn written(&mut self) -> String {
        if self.dice.one_in(4) { self.dice.text() } else { self.dice.of(&["a", "ä漢🎉", "%_\"`\r\n"]).to_owned() }
    }

    fn kind(&mut self) -> String {
        if self.dice.one_in(20) { String::new() } else { self.dice.of(&["arrow", "ä漢"]).to_owned() }
    }

    /// Something with this id, or with a new one.
    fn content(&mut self, existing: bool) -> Content {
        macro_rules! id {
            ($ids:ident, $id:ident) => {
                if existing { one_of!(self, $ids, $id) } else { new_one!(self, $ids, $id) }
            };
        }
        match self.dice.below(6) {
            0 => {
                let workspace_id = id!(workspaces, WorkspaceId);
                Workspace { workspace_id, name: self.written() }.into()
            }
            1 => {
                let document_id = id!(documents, DocumentId);
                let workspace_id = one_of!(self, workspaces, WorkspaceId);
                Document { document_id, workspace_id, title: self.written() }.into()
            }
            2 => ContentBlock {
                block_id: id!(blocks, BlockId),
                document_id: one_of!(self, documents, DocumentId),
                kind: self.kind(),
                sequence: self.dice.of(&[i64::MIN, -1, 0, 7, i64::MAX]),
                raw_content: self.written(),
                display_content: self.written(),
                derived_content: self.dice.json(),
                sensitivity: self.dice.of(Sensitivity::ALL),
                exportable: self.dice.one_in(2),
            }
            .into(),
            3 => {
                let canvas_id = id!(canvases, CanvasId);
                let workspace_id = one_of!(self, workspaces, WorkspaceId);
                Canvas { canvas_id, workspace_id, title: self.written() }.into()
            }
            4 => CanvasNode {
                node_id: id!(nodes, CanvasNodeId),
                canvas_id: one_of!(self, canvases, CanvasId),
                kind: self.kind(),
                content: self.written(),
                x: self.number(),
                y: self.number(),
                width: self.number(),
                height: 1.0,
                block_id: self.dice.one_in(3).then(|| one_of!(self, blocks, BlockId)),
            }
            .into(),
            _ => CanvasEdge {
                edge_id: id!(edges, CanvasEdgeId),
                canvas_id: one_of!(self, canvases, CanvasId),
                from_node: one_of!(self, nodes, CanvasNodeId),
                to_node: one_of!(self, nodes, CanvasNodeId),
                kind: self.kind(),
            }
            .into(),
        }
    }

    fn beginning(&mut self) -> Vec<ContentChange> {
        let (ids, name) = (&*self.world.ids, || "first".to_owned());
        let (workspace_id, document_id, canvas_id) =
            (WorkspaceId::fresh(ids), DocumentId::fresh(ids), CanvasId::fresh(ids));
        let node_id = CanvasNodeId::fresh(ids);
        let (x, y, width, height) = (0.5, -0.5, 1.0, 1e300);
        let node =
            CanvasNode { node_id, canvas_id, kind: name(), content: name(), x, y, width, height, block_id: None };
        self.shelf.workspaces.push(workspace_id);
        self.shelf.documents.push(document_id);
        self.shelf.canvases.push(canvas_id);
        self.shelf.nodes.push(node_id);
        let contents: [Content; 4] = [
            Workspace { workspace_id, name: name() }.into(),
            Document { document_id, workspace_id, title: name() }.into(),
            Canvas { canvas_id, workspace_id, title: name() }.into(),
            node.into(),
        ];
        contents.map(|content| ContentChange::Create { content }).into()
    }

    fn content_id(&mut self) -> ContentId {
        match self.dice.below(6) {
            0 => one_of!(self, workspaces, WorkspaceId).into(),
            1 => one_of!(self, documents, DocumentId).into(),
            2 => one_of!(self, blocks, BlockId).into(),
            3 => one_of!(self, canvases, CanvasId).into(),
            4 => one_of!(self, nodes, CanvasNodeId).into(),
            _ => one_of!(self, edges, CanvasEdgeId).into(),
        }
    }

    fn content_change(&mut self) -> ContentChange {
        let seen = self.shelf.seen.len();
        let base = (seen > 0 && self.dice.one_in(4)).then(|| self.shelf.seen[self.dice.below(seen)]);
        match self.dice.below(8) {
            0..=4 => ContentChange::Create { content: self.content(false) },
            5 | 6 => ContentChange::Update { content: self.content(true), base },
            _ => ContentChange::Delete { id: self.content_id(), base },
        }
    }

    /// An edit by anybody, on behalf of a job or not.
    pub(crate) async fn edit(&mut self) -> String {
        let database = self.world.sql.clone();
        let recorder = Recorder::new(database.clone(), Arc::new(NoRedaction), self.world.clock.clone());
        let editor = Editor::new(database, Arc::new(recorder), self.world.clock.clone(), self.world.ids.clone());
        let context = EditContext {
            kind: self.dice.of(EditorKind::ALL),
            actor_id: "Ada".into(),
            job: self.dice.one_in(2).then(|| self.job_id()),
            run: self.dice.one_in(3).then(|| self.run_id()),
            trace: TraceId::fresh(&*self.world.ids),
        };
        // Most edits are by people without a job, so that most of them are made.
        let context = match self.dice.one_in(4) {
            true => context,
            false => EditContext { kind: EditorKind::Human, job: None, run: None, ..context },
        };
        // The first edits lay out what all others need.
        let changes = match self.shelf.nodes.is_empty() {
            true => self.beginning(),
            false => (0..1 + self.dice.below(3)).map(|_| self.content_change()).collect(),
        };
        let edited = editor.edit(context, changes).await;
        self.shelf.seen.extend(edited.iter().flatten().map(|edit| edit.edit_event_id));
        "edit ".to_owned() + &shown(edited)
    }

    /// Something of the content.
    pub(crate) async fn look_at_content(&mut self) -> String {
        let database = self.world.sql.clone();
        match self.dice.below(5) {
            0 => {
                let after = self.dice.one_in(3).then(|| one_of!(self, workspaces, WorkspaceId));
                let page = Page { limit: self.dice.of(&[0, 1, u32::MAX]), after };
                shown(database.workspaces(&page).await)
            }
            1 => {
                let of = self.dice.one_in(2).then(|| one_of!(self, workspaces, WorkspaceId));
                let page = Page { limit: 2, after: self.dice.one_in(3).then(|| one_of!(self, documents, DocumentId)) };
                shown(database.documents(of, &page).await)
            }
            2 => {
                let of = self.dice.one_in(2).then(|| one_of!(self, workspaces, WorkspaceId));
                let page = Page { limit: 2, after: self.dice.one_in(3).then(|| one_of!(self, canvases, CanvasId)) };
                shown(database.canvases(of, &page).await)
            }
            3 => {
                let (document, block) = (one_of!(self, documents, DocumentId), one_of!(self, blocks, BlockId));
                format!(
                    "{} {} {}",
                    shown(database.document(document).await),
                    shown(database.blocks(document).await),
                    shown(database.block(block).await)
                )
            }
            _ => {
                let canvas = one_of!(self, canvases, CanvasId);
                format!(
                    "{} {} {}",
                    shown(database.canvas(canvas).await),
                    shown(database.canvas_nodes(canvas).await),
                    shown(database.canvas_edges(canvas).await)
                )
            }
        }
    }

    /// All content, in one text.
    pub(crate) async fn content_left(&self) -> String {
        let database = &*self.world.sql;
        let mut left = shown(database.workspaces(&Page { limit: 1_000, after: None }).await);
        for document in &self.shelf.documents {
            left += &shown(database.document(*document).await);
            left += &shown(database.blocks(*document).await);
        }
        for canvas in &self.shelf.canvases {
            left += &shown(database.canvas_nodes(*canvas).await);
            left += &shown(database.canvas_edges(*canvas).await);
        }
        left
    }
}
