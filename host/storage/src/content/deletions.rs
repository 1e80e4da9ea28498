//! Deletions: what goes, what goes with it, and the event of each.

use handshake_core::content::{ContentId, ContentKind, MAX_DELETED};
use handshake_core::edit::{EditAction, EditMetadata, Mutation};
use handshake_core::storage::StorageError;
use handshake_core::{EventId, WorkspaceId};

use super::edits::{Changes, current, table};
use super::tables::{BLOCKS, CANVASES, DOCUMENTS, EDGES, NODES, Table, id};
use crate::error::failed;
use crate::operation::{Refusal, Step};
use crate::sql::{Query, query};

/// Which rows go with something: those of a table whose columns, one or the other, name it.
type Dependents = (&'static Table, &'static [&'static str]);

/// What goes with something. Edges come before the nodes that they name.
fn dependents(kind: ContentKind) -> &'static [Dependents] {
    match kind {
        ContentKind::Workspace => const { &[(&CANVASES, &["workspace_id"]), (&DOCUMENTS, &["workspace_id"])] },
        ContentKind::Document => const { &[(&BLOCKS, &["document_id"])] },
        ContentKind::Canvas => const { &[(&EDGES, &["canvas_id"]), (&NODES, &["canvas_id"])] },
        ContentKind::CanvasNode => const { &[(&EDGES, &["from_node", "to_node"])] },
        ContentKind::Block | ContentKind::CanvasEdge => &[],
    }
}

/// The rest of a statement: the rows of a table that name something.
fn naming(statement: Query<'_>, (table, columns): Dependents, of: ContentId) -> Query<'_> {
    let mut statement = statement.push(table.name);
    for (at, column) in columns.iter().enumerate() {
        let separator = if at == 0 { " WHERE " } else { " OR " };
        statement = statement.push(separator).push(column).push(" = ").push_bind(of.to_string());
    }
    statement
}

/// Deletes something with everything that belongs to it. Answers with the last metadata of the thing itself.
pub(super) async fn delete(
    changes: &mut Changes<'_>,
    step: &mut Step<'_>,
    id: ContentId,
    base: Option<EventId>,
) -> Result<EditMetadata, Refusal> {
    let found = current(step, id, base).await?;
    let mut gone = vec![(id, found.edit)];
    // Breadth first, so that what is found later belongs to what was found before.
    let mut holders = vec![id];
    let mut at = 0;
    while let Some(holder) = holders.get(at).copied() {
        for dependents in dependents(holder.kind()) {
            let found = dependents_of(step, *dependents, holder).await?;
            // The edges at the nodes of a canvas are found with the canvas.
            if holder.kind() == ContentKind::Workspace {
                holders.extend(found.iter().map(|(id, _)| *id));
            }
            gone.extend(found);
            if changes.deleted + gone.len() > MAX_DELETED {
                let what = table(id).what();
                return Err(Refusal::Answer(StorageError::Validation(format!(
                    "{what} `{id}`: an edit deletes at most {MAX_DELETED} things; delete what belongs to it first"
                ))));
            }
        }
        at += 1;
    }
    changes.deleted += gone.len();
    let edit = record(changes, &gone, found.workspace)?;
    for holder in holders.into_iter().rev() {
        for dependents in dependents(holder.kind()) {
            let delete = naming(query("DELETE FROM "), *dependents, holder);
            delete.execute(step.connection).await.map_err(failed("delete content"))?;
        }
    }
    let (table, key) = (table(id), id.to_string());
    let delete = query("DELETE FROM ").push(table.name).push(" WHERE ").push(table.key).push(" = ").push_bind(key);
    delete.execute(step.connection).await.map_err(failed("delete content"))?;
    Ok(edit)
}

/// Records each deletion; what belongs to something before that. Answers with the metadata of the first.
fn record(
    changes: &mut Changes<'_>,
    gone: &[(ContentId, EventId)],
    workspace: WorkspaceId,
) -> Result<EditMetadata, StorageError> {
    let mut last = None;
    for (id, previous) in gone.iter().rev() {
        let previous = Some(*previous);
        last = Some(changes.record(Mutation { action: EditAction::Delete, id: *id, workspace, previous })?);
    }
    last.ok_or_else(|| StorageError::Validation("nothing to delete".to_owned()))
}

/// What names something, with its last edits.
async fn dependents_of(
    step: &mut Step<'_>,
    dependents: Dependents,
    holder: ContentId,
) -> Result<Vec<(ContentId, EventId)>, StorageError> {
    let table = dependents.0;
    let select = query("SELECT ").push(table.key).push(", edit_event_id FROM ");
    let rows = naming(select, dependents, holder).keep_rows().fetch_all(step.connection).await;
    let rows = rows.map_err(failed("look for what belongs to content"))?;
    let ids = rows.iter().map(|row| {
        let content = match table.kind {
            ContentKind::Workspace => ContentId::Workspace(id(row, table.key)?),
            ContentKind::Document => ContentId::Document(id(row, table.key)?),
            ContentKind::Block => ContentId::Block(id(row, table.key)?),
            ContentKind::Canvas => ContentId::Canvas(id(row, table.key)?),
            ContentKind::CanvasNode => ContentId::CanvasNode(id(row, table.key)?),
            ContentKind::CanvasEdge => ContentId::CanvasEdge(id(row, table.key)?),
        };
        Ok((content, id(row, "edit_event_id")?))
    });
    ids.collect()
}
