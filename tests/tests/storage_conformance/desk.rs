//! What cases about content start from: an editor, and one thing of every kind.

use std::sync::{Arc, LazyLock};

use handshake_core::content::*;
use handshake_core::edit::{EditContext, EditMetadata, Editor, EditorKind};
use handshake_core::event::{Event, EventBody, MutationRecord};
use handshake_core::job::JobState;
use handshake_core::storage::{ContentStore, Database, JobStore, Page, StorageError};
use handshake_core::{BlockId, CanvasEdgeId, CanvasId, CanvasNodeId, DocumentId, TraceId, WorkspaceId};
use handshake_recorder::{Recorder, Redaction};
use handshake_tests::postgres::Backend;
use handshake_tests::storage::{World, records};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

/// A world with an editor.
pub(crate) struct Desk {
    pub(crate) world: World,
    pub(crate) editor: Editor,
}

/// One thing of every kind, and a second node.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) workspace: Workspace,
    pub(crate) document: Document,
    pub(crate) block: ContentBlock,
    pub(crate) canvas: Canvas,
    pub(crate) node: CanvasNode,
    pub(crate) other: CanvasNode,
    pub(crate) edge: CanvasEdge,
}

impl Tree {
    /// In the order in which it can be created.
    pub(crate) fn contents(&self) -> Vec<Content> {
        let tree = self.clone();
        vec![
            tree.workspace.into(),
            tree.document.into(),
            tree.block.into(),
            tree.canvas.into(),
            tree.node.into(),
            tree.other.into(),
            tree.edge.into(),
        ]
    }
}

pub(crate) fn create(content: impl Into<Content>) -> ContentChange {
    ContentChange::Create { content: content.into() }
}

pub(crate) fn update(content: impl Into<Content>) -> ContentChange {
    ContentChange::Update { content: content.into(), base: None }
}

pub(crate) fn delete(id: impl Into<ContentId>) -> ContentChange {
    ContentChange::Delete { id: id.into(), base: None }
}

pub(crate) fn is_conflict<T: std::fmt::Debug>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Conflict(_)))
}

pub(crate) fn is_invalid<T: std::fmt::Debug>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Validation(_)))
}

pub(crate) fn is_missing<T: std::fmt::Debug>(result: &Result<T, StorageError>, thing: &str) -> bool {
    matches!(result, Err(StorageError::NotFound { what, .. }) if *what == thing)
}

/// An editor of this database with the real redaction, which must leave ids alone.
pub(crate) fn editor<D: Database + 'static>(world: &World, database: Arc<D>) -> Editor {
    static REDACTION: LazyLock<Arc<Redaction>> = LazyLock::new(|| Arc::new(Redaction::new(Vec::new())));
    let recorder = Arc::new(Recorder::new(Arc::clone(&database) as _, REDACTION.clone(), world.clock.clone()));
    Editor::new(database, recorder, world.clock.clone(), world.ids.clone())
}

impl Desk {
    pub(crate) fn new(world: World) -> Self {
        let editor = editor(&world, world.database.clone());
        Self { world, editor }
    }

    /// A person who edits.
    pub(crate) fn human(&self) -> EditContext {
        let trace = TraceId::fresh(&*self.world.ids);
        EditContext { kind: EditorKind::Human, actor_id: "Ada".into(), job: None, run: None, trace }
    }

    /// An editor of this kind within a job in this state.
    pub(crate) async fn within_job(&self, kind: EditorKind, state: JobState) -> EditContext {
        let (mut job, run) = self.world.job();
        job.state = state;
        let (trace, job_id, run_id) = (job.trace_id, job.job_id, run.run_id);
        self.world.database.submit(job, run, None, vec![]).await.unwrap();
        EditContext { kind, actor_id: "summarize@0.1.0".into(), job: Some(job_id), run: Some(run_id), trace }
    }

    /// Edits as a person.
    pub(crate) async fn try_edit(&self, changes: Vec<ContentChange>) -> Result<Vec<EditMetadata>, StorageError> {
        self.editor.edit(self.human(), changes).await
    }

    /// Edits as a person who may.
    pub(crate) async fn edit(&self, changes: Vec<ContentChange>) -> Vec<EditMetadata> {
        self.try_edit(changes).await.unwrap()
    }

    pub(crate) fn workspace(&self, name: &str) -> Workspace {
        Workspace { workspace_id: WorkspaceId::fresh(&*self.world.ids), name: name.into() }
    }

    pub(crate) fn document(&self, of: &Workspace, title: &str) -> Document {
        let document_id = DocumentId::fresh(&*self.world.ids);
        Document { document_id, workspace_id: of.workspace_id, title: title.into() }
    }

    pub(crate) fn block(&self, of: &Document, sequence: i64) -> ContentBlock {
        ContentBlock {
            block_id: BlockId::fresh(&*self.world.ids),
            document_id: of.document_id,
            kind: "paragraph".into(),
            sequence,
            raw_content: "*raw*".into(),
            display_content: "<em>raw</em>".into(),
            derived_content: json!({ "words": 1 }),
            sensitivity: Sensitivity::Internal,
            exportable: true,
        }
    }

    pub(crate) fn canvas(&self, of: &Workspace, title: &str) -> Canvas {
        let canvas_id = CanvasId::fresh(&*self.world.ids);
        Canvas { canvas_id, workspace_id: of.workspace_id, title: title.into() }
    }

    pub(crate) fn node(&self, of: &Canvas) -> CanvasNode {
        CanvasNode {
            node_id: CanvasNodeId::fresh(&*self.world.ids),
            canvas_id: of.canvas_id,
            kind: "note".into(),
            x: 1.5,
            y: -2.25,
            width: 100.0,
            height: 0.1,
            content: "a note".into(),
            block_id: None,
        }
    }

    pub(crate) fn edge(&self, from: &CanvasNode, to: &CanvasNode) -> CanvasEdge {
        CanvasEdge {
            edge_id: CanvasEdgeId::fresh(&*self.world.ids),
            canvas_id: from.canvas_id,
            from_node: from.node_id,
            to_node: to.node_id,
            kind: "arrow".into(),
        }
    }

    /// One thing of every kind, not stored yet.
    pub(crate) fn tree(&self) -> Tree {
        let workspace = self.workspace("w");
        let (document, canvas) = (self.document(&workspace, "d"), self.canvas(&workspace, "c"));
        let block = self.block(&document, 1);
        let (mut node, other) = (self.node(&canvas), self.node(&canvas));
        node.block_id = Some(block.block_id);
        let edge = self.edge(&node, &other);
        Tree { workspace, document, block, canvas, node, other, edge }
    }

    /// The same, stored.
    pub(crate) async fn stored_tree(&self) -> Tree {
        let tree = self.tree();
        self.edit(tree.contents().into_iter().map(create).collect()).await;
        tree
    }

    /// Every thing that is stored, with everything about it.
    pub(crate) async fn everything(&self) -> Vec<(ContentId, serde_json::Value)> {
        fn all<T: Clone + Into<Content> + serde::Serialize>(
            found: Vec<Stored<T>>,
            into: &mut Vec<(ContentId, serde_json::Value)>,
        ) {
            into.extend(found.into_iter().map(|stored| {
                let content: Content = stored.content.clone().into();
                (content.id(), serde_json::to_value(stored).unwrap())
            }));
        }
        let (store, mut things) = (&self.world.database, Vec::new());
        all(store.workspaces(&Page { limit: 1_000, after: None }).await.unwrap(), &mut things);
        let documents = store.documents(None, &Page { limit: 1_000, after: None }).await.unwrap();
        for document in &documents {
            all(store.blocks(document.content.document_id).await.unwrap(), &mut things);
        }
        all(documents, &mut things);
        let canvases = store.canvases(None, &Page { limit: 1_000, after: None }).await.unwrap();
        for canvas in &canvases {
            all(store.canvas_nodes(canvas.content.canvas_id).await.unwrap(), &mut things);
            all(store.canvas_edges(canvas.content.canvas_id).await.unwrap(), &mut things);
        }
        all(canvases, &mut things);
        things
    }

    /// What is stored of one thing of any kind.
    pub(crate) async fn stored(&self, id: ContentId) -> Option<serde_json::Value> {
        self.everything().await.into_iter().find(|(this, _)| *this == id).map(|(_, stored)| stored)
    }

    /// Every event of this host, in order.
    pub(crate) async fn events(&self) -> Vec<Event> {
        self.world.recorded().await;
        let (_, records) = records(&*self.world.database).await;
        let event = |record: &str| serde_json::from_str::<serde_json::Value>(record).unwrap()["event"].take();
        records.iter().map(|stamped| serde_json::from_value(event(&stamped.record)).unwrap()).collect()
    }

    /// The changes of content among them.
    pub(crate) async fn mutations(&self) -> Vec<(Event, MutationRecord)> {
        let mutation = |event: Event| match &event.body {
            EventBody::ContentMutation(record) => Some((event.clone(), record.clone())),
            _ => None,
        };
        self.events().await.into_iter().filter_map(mutation).collect()
    }

    /// Says a statement to the database directly.
    pub(crate) async fn raw(&self, statement: &str) -> Result<(), sqlx::Error> {
        let (url, statement) = (&self.world.place.secret_url, AssertSqlSafe(statement.to_owned()));
        match self.world.place.backend {
            Backend::Sqlite => {
                let mut connection = SqliteConnection::connect(url).await?;
                sqlx::query(statement).execute(&mut connection).await.map(drop)
            }
            Backend::Postgres => {
                let mut connection = PgConnection::connect(url).await?;
                sqlx::query(statement).execute(&mut connection).await.map(drop)
            }
        }
    }
}
