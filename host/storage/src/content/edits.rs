//! Edits: every change of content, with its metadata and its event, in one transaction.

use async_trait::async_trait;
use handshake_core::content::{Content, ContentChange, ContentId};
use handshake_core::edit::{EditAction, EditMetadata, GuardedEdit, Mutation};
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::StorageError;
use handshake_core::{EventId, WorkspaceId};

use super::tables::{BLOCKS, CANVASES, DOCUMENTS, EDGES, Entity, NODES, Table, WORKSPACES, id};
use super::{canvases, deletions, guard, tables};
use crate::error::{failed, unreadable};
use crate::jobs::{self, JobRow};
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::column;
use crate::text;

/// An edit that waits to be made.
pub(super) struct Edit {
    edit: GuardedEdit,
    /// The JSON of each change.
    json: Vec<String>,
    /// What the edit's job becomes with it.
    job: Option<JobRow>,
    /// Made with the changes: only there it is known what each of them does.
    events: Vec<AdmittedEvent>,
}

/// An edit that is being made.
pub(super) struct Changes<'e> {
    edit: &'e GuardedEdit,
    events: &'e mut Vec<AdmittedEvent>,
    /// How many things are gone.
    pub(super) deleted: usize,
}

/// Says the same for every kind of content.
macro_rules! each {
    ($content:expr, $entity:ident => $what:expr) => {
        match $content {
            Content::Workspace($entity) => $what,
            Content::Document($entity) => $what,
            Content::Block($entity) => $what,
            Content::Canvas($entity) => $what,
            Content::CanvasNode($entity) => $what,
            Content::CanvasEdge($entity) => $what,
        }
    };
}

/// The table of what has this id.
pub(super) fn table(id: ContentId) -> &'static Table {
    match id {
        ContentId::Workspace(_) => &WORKSPACES,
        ContentId::Document(_) => &DOCUMENTS,
        ContentId::Block(_) => &BLOCKS,
        ContentId::Canvas(_) => &CANVASES,
        ContentId::CanvasNode(_) => &NODES,
        ContentId::CanvasEdge(_) => &EDGES,
    }
}

/// What is stored about something that is to be changed.
pub(super) struct Current {
    parent: Option<String>,
    pub(super) workspace: WorkspaceId,
    pub(super) edit: EventId,
}

/// Reads what is to be changed, and keeps it until the transaction ends. To something that another host deletes
/// meanwhile nothing can be added: the database refuses rows that refer to nothing, and the writer tries again.
pub(super) async fn current(step: &mut Step<'_>, of: ContentId, base: Option<EventId>) -> Result<Current, Refusal> {
    let (table, key) = (table(of), of.to_string());
    let row = table.current(&key).keep_rows().fetch_optional(step.connection).await.map_err(failed("read content"))?;
    let row = row.ok_or_else(|| Refusal::Answer(table.missing(key)))?;
    let parent = table.parent.map(|_| column(&row, "parent")).transpose()?;
    let current = Current { parent, workspace: id(&row, "workspace_id")?, edit: id(&row, "edit_event_id")? };
    match base {
        Some(base) if base != current.edit => {
            let what = table.what();
            let moved = StorageError::Conflict(format!("{what} `{of}` was changed since edit `{base}`"));
            Err(Refusal::Answer(moved))
        }
        _ => Ok(current),
    }
}

impl Changes<'_> {
    /// Makes the metadata of a mutation, and its event.
    pub(super) fn record(&mut self, mutation: Mutation) -> Result<EditMetadata, StorageError> {
        let (metadata, event) = self.edit.record(mutation)?;
        text::check_events(std::slice::from_ref(&event))?;
        self.events.push(event);
        Ok(metadata)
    }

    async fn create(&mut self, step: &mut Step<'_>, content: &Content, json: &str) -> Result<EditMetadata, Refusal> {
        let id = content.id();
        let parent = each!(content, entity => entity.parent());
        let workspace = workspace_of(step, id, parent.clone()).await?;
        if let Err(refused) = check_references(step, content).await {
            // Another host may have deleted what it belongs to since then, and with it what it refers to.
            workspace_of(step, id, parent).await?;
            return Err(refused);
        }
        let edit = self.record(Mutation { action: EditAction::Create, id, workspace, previous: None })?;
        let insert = each!(content, entity => tables::insert(entity, json, &edit, self.edit.at()));
        let inserted = insert.execute(step.connection).await.map_err(failed("store content"));
        inserted.map_err(|error| jobs::exists(error, table(id).what(), id))?;
        Ok(edit)
    }

    async fn update(
        &mut self,
        step: &mut Step<'_>,
        content: &Content,
        json: &str,
        base: Option<EventId>,
    ) -> Result<EditMetadata, Refusal> {
        let id = content.id();
        let current = current(step, id, base).await?;
        if each!(content, entity => entity.parent()) != current.parent {
            let what = table(id).what();
            let moved = StorageError::Validation(format!("{what} `{id}` stays where it belongs"));
            return Err(Refusal::Answer(moved));
        }
        check_references(step, content).await?;
        let (workspace, previous) = (current.workspace, Some(current.edit));
        let edit = self.record(Mutation { action: EditAction::Update, id, workspace, previous })?;
        let update = each!(content, entity => tables::update(entity, json, &edit, self.edit.at()));
        update.execute(step.connection).await.map_err(failed("change content"))?;
        Ok(edit)
    }
}

/// The workspace of something new, by what it belongs to; a workspace is its own.
async fn workspace_of(step: &mut Step<'_>, id: ContentId, parent: Option<String>) -> Result<WorkspaceId, Refusal> {
    let (Some(table), Some(parent)) = (table(id).parent, parent) else {
        return Ok(WorkspaceId::from_uuid(id.uuid()));
    };
    let found = table.workspace(&parent).fetch_value::<String>(step.connection).await;
    let found = found.map_err(failed("look for what content belongs to"))?;
    let found = found.ok_or_else(|| Refusal::Answer(table.missing(parent)))?;
    Ok(found.parse().map_err(unreadable("workspace id"))?)
}

async fn check_references(step: &mut Step<'_>, content: &Content) -> Result<(), Refusal> {
    match content {
        Content::CanvasNode(node) => canvases::check_block(step.connection, node).await,
        Content::CanvasEdge(edge) => canvases::check_ends(step.connection, edge).await,
        _ => Ok(()),
    }
}

impl Edit {
    /// Encodes an edit.
    pub(super) fn encode(edit: GuardedEdit) -> Result<Self, StorageError> {
        let json = |change: &ContentChange| match change {
            ContentChange::Create { content } | ContentChange::Update { content, .. } => {
                each!(content, entity => entity.json())
            }
            ContentChange::Delete { .. } => Ok(String::new()),
        };
        let json = edit.changes().iter().map(json).collect::<Result<_, _>>()?;
        let job = match edit.job_move() {
            Some(job_move) => {
                text::check_events(&job_move.events)?;
                Some(JobRow::encode(job_move.job.clone())?)
            }
            None => None,
        };
        Ok(Self { edit, json, job, events: Vec::new() })
    }
}

#[async_trait]
impl Operation for Edit {
    type Answer = Vec<EditMetadata>;

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<Vec<EditMetadata>>, Refusal> {
        self.events.clear();
        guard::allow(step, self.edit.context()).await?;
        if let (Some(job), Some(job_move)) = (&self.job, self.edit.job_move()) {
            job.require(step, job_move.from).await?;
        }
        let mut changes = Changes { edit: &self.edit, events: &mut self.events, deleted: 0 };
        let mut written = Vec::with_capacity(self.json.len());
        for (change, json) in self.edit.changes().iter().zip(&self.json) {
            let made = match change {
                ContentChange::Create { content } => changes.create(step, content, json).await,
                ContentChange::Update { content, base } => changes.update(step, content, json, *base).await,
                ContentChange::Delete { id, base } => deletions::delete(&mut changes, step, *id, *base).await,
            };
            written.push(made.map_err(|refusal| match refusal {
                // The changes before it are written already.
                Refusal::Answer(error) if !written.is_empty() => Refusal::Failure(error),
                refusal => refusal,
            })?);
        }
        if let (Some(job), Some(job_move)) = (&self.job, self.edit.job_move()) {
            job.update(step).await?;
            self.events.extend(job_move.events.iter().cloned());
        }
        Ok(Applied::Wrote(written))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}
