//! The tables of content: what they have in common, and the statements that are put together from that.

use handshake_core::Timestamp;
use handshake_core::content::ContentKind;
use handshake_core::edit::EditMetadata;
use handshake_core::storage::StorageError;

use crate::error::unreadable;
use crate::sql::{Query, Row, Value, column, query};

/// One table. Its columns are the key, the key of what the content belongs to, the content's own, the times and
/// the last edit.
pub(super) struct Table {
    pub(super) kind: ContentKind,
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    /// What the content belongs to. Its key is also the name of the column here.
    pub(super) parent: Option<&'static Table>,
    /// The content's own columns.
    pub(super) own: &'static [&'static str],
}

pub(super) static WORKSPACES: Table =
    Table { kind: ContentKind::Workspace, name: "workspaces", key: "workspace_id", parent: None, own: &["name"] };
pub(super) static DOCUMENTS: Table = Table {
    kind: ContentKind::Document,
    name: "documents",
    key: "document_id",
    parent: Some(&WORKSPACES),
    own: &["title"],
};
pub(super) static BLOCKS: Table = Table {
    kind: ContentKind::Block,
    name: "blocks",
    key: "block_id",
    parent: Some(&DOCUMENTS),
    own: &["kind", "sequence", "raw_content", "display_content", "derived_content", "sensitivity", "exportable"],
};
pub(super) static CANVASES: Table =
    Table { kind: ContentKind::Canvas, name: "canvases", key: "canvas_id", parent: Some(&WORKSPACES), own: &["title"] };
pub(super) static NODES: Table = Table {
    kind: ContentKind::CanvasNode,
    name: "canvas_nodes",
    key: "node_id",
    parent: Some(&CANVASES),
    own: &["kind", "x", "y", "width", "height", "content", "block_id"],
};
pub(super) static EDGES: Table = Table {
    kind: ContentKind::CanvasEdge,
    name: "canvas_edges",
    key: "edge_id",
    parent: Some(&CANVASES),
    own: &["from_node", "to_node", "kind"],
};

/// Content as a table holds it.
pub(super) trait Entity: Sized {
    const TABLE: &'static Table;

    /// Its id.
    fn id(&self) -> String;

    /// The id of what it belongs to.
    fn parent(&self) -> Option<String>;

    /// Its JSON, which is encoded before it is queued so that the writer does not spend its time on it.
    fn json(&self) -> Result<String, StorageError> {
        Ok(String::new())
    }

    /// The values of its own columns.
    fn own<'v>(&'v self, json: &'v str) -> Vec<Value<'v>>;

    /// Reads it from a row.
    fn decode(row: &Row) -> Result<Self, StorageError>;
}

/// An id of this kind from a row.
pub(super) fn id<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row,
    name: &'static str,
) -> Result<T, StorageError> {
    column::<String>(row, name)?.parse().map_err(unreadable(name))
}

/// The same, if there is one.
pub(super) fn optional_id<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row,
    name: &'static str,
) -> Result<Option<T>, StorageError> {
    column::<Option<String>>(row, name)?.map(|id| id.parse()).transpose().map_err(unreadable(name))
}

impl Table {
    pub(super) fn what(&self) -> &'static str {
        self.kind.as_str()
    }

    pub(super) fn missing(&self, id: String) -> StorageError {
        StorageError::NotFound { what: self.what(), id }
    }

    /// Every row, with everything.
    pub(super) fn select<'q>(&self) -> Query<'q> {
        let mut select = query("SELECT ").push(self.key);
        for column in self.parent.map(|parent| parent.key).iter().chain(self.own) {
            select = select.push(", ").push(column);
        }
        select
            .push(", created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id")
            .push(", edit_event_id FROM ")
            .push(self.name)
    }

    /// What is there under an id: its last edit, what it belongs to, and the workspace.
    pub(super) fn current<'q>(&self, id: &'q str) -> Query<'q> {
        let mut current = query("SELECT edit_event_id, ");
        current = match self.parent {
            None => current.push(self.key),
            // What is asked for in parentheses is not kept from others.
            Some(parent) => current
                .push(parent.key)
                .push(" AS parent, (SELECT parent.workspace_id FROM ")
                .push(parent.name)
                .push(" parent WHERE parent.")
                .push(parent.key)
                .push(" = content.")
                .push(parent.key)
                .push(") AS workspace_id"),
        };
        current.push(" FROM ").push(self.name).push(" content WHERE ").push(self.key).push(" = ").push_bind(id)
    }

    /// The workspace of what has this id.
    pub(super) fn workspace<'q>(&self, id: &'q str) -> Query<'q> {
        let workspace = query("SELECT workspace_id FROM ").push(self.name);
        workspace.push(" WHERE ").push(self.key).push(" = ").push_bind(id)
    }
}

/// A new row.
pub(super) fn insert<'v, E: Entity>(entity: &'v E, json: &'v str, edit: &'v EditMetadata, at: Timestamp) -> Query<'v> {
    let table = E::TABLE;
    let mut insert = query("INSERT INTO ").push(table.name).push(" (").push(table.key);
    for column in table.parent.map(|parent| parent.key).iter().chain(table.own) {
        insert = insert.push(", ").push(column);
    }
    insert = insert
        .push(", created_at, updated_at, last_actor_kind, last_actor_id, last_job_id, last_workflow_id")
        .push(", edit_event_id) VALUES (")
        .push_bind(entity.id());
    let parent = entity.parent().map(Value::from);
    for value in parent.into_iter().chain(entity.own(json)).chain([at.micros().into()]).chain(last_edit(edit, at)) {
        insert = insert.push(", ").push_bind(value);
    }
    insert.push(")")
}

/// A row's new form.
pub(super) fn update<'v, E: Entity>(entity: &'v E, json: &'v str, edit: &'v EditMetadata, at: Timestamp) -> Query<'v> {
    let table = E::TABLE;
    let mut update = query("UPDATE ").push(table.name).push(" SET ");
    let edited = ["updated_at", "last_actor_kind", "last_actor_id", "last_job_id", "last_workflow_id", "edit_event_id"];
    let columns = table.own.iter().chain(&edited);
    for (at, (column, value)) in columns.zip(entity.own(json).into_iter().chain(last_edit(edit, at))).enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        update = update.push(separator).push(column).push(" = ").push_bind(value);
    }
    update.push(" WHERE ").push(table.key).push(" = ").push_bind(entity.id())
}

/// What is stored with every change.
fn last_edit(edit: &EditMetadata, at: Timestamp) -> [Value<'_>; 6] {
    [
        at.micros().into(),
        edit.last_actor_kind.as_str().into(),
        edit.last_actor_id.as_str().into(),
        edit.last_job_id.map(|id| id.to_string()).into(),
        edit.last_workflow_id.map(|id| id.to_string()).into(),
        edit.edit_event_id.to_string().into(),
    ]
}
