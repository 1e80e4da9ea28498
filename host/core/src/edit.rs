//! The guard in front of content: no silent edits (R3.4).
//!
//! Content is written through [`ContentStore::edit`] alone, which takes a [`GuardedEdit`], and only an [`Editor`] makes
//! one. What a [`GuardedEdit`] gives a store to write beside the content comes together with its event, so there is no
//! metadata without a record.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::content::{ContentChange, ContentId, MAX_CHANGES};
use crate::event::{Actor, ActorKind, AdmittedEvent, Event, EventBody, MutationRecord};
use crate::job::{AiJob, JobState, canonical_enum};
use crate::recorder::{FlightRecorder, RecorderError};
use crate::storage::{ContentStore, StorageError};
use crate::{Clock, EventId, Ids, JobId, RunId, Timestamp, TraceId, WorkspaceId};

/// Longest name of an editor, bytes.
const MAX_ACTOR_BYTES: usize = 256;
/// The kind of the event that says that an edit was refused.
const REFUSED: &str = "silent_edit";

canonical_enum! {
    /// Who edits.
    EditorKind, "kind of editor" {
        /// A person.
        Human = "HUMAN",
        /// A job's step, whatever it is made of.
        Ai = "AI",
        /// The host.
        System = "SYSTEM",
    }
}

impl From<EditorKind> for ActorKind {
    fn from(kind: EditorKind) -> Self {
        match kind {
            EditorKind::Human => Self::Human,
            EditorKind::Ai => Self::Agent,
            EditorKind::System => Self::System,
        }
    }
}

canonical_enum! {
    /// What is done to content.
    EditAction, "edit action" {
        /// It is new.
        Create = "create",
        /// It gets a new form.
        Update = "update",
        /// It goes.
        Delete = "delete",
    }
}

/// Who edits, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditContext {
    /// What kind of editor.
    pub kind: EditorKind,
    /// A person's name, plugin id and version, or the host's component; 1 to 256 bytes.
    pub actor_id: String,
    /// The job.
    pub job: Option<JobId>,
    /// The run of that job.
    pub run: Option<RunId>,
    /// Trace.
    pub trace: TraceId,
}

/// Why an edit is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilentEdit {
    /// An AI does not say on whose behalf it edits.
    #[error("HSK-403-SILENT-EDIT: an AI edits content only within a job and a workflow run; name both")]
    NoContext,
    /// It names a job that does not exist.
    #[error("HSK-403-SILENT-EDIT: job `{0}` does not exist")]
    NoJob(JobId),
    /// It names a run that does not exist.
    #[error("HSK-403-SILENT-EDIT: run `{0}` does not exist")]
    NoRun(RunId),
    /// It names a run of another job.
    #[error("HSK-403-SILENT-EDIT: run `{run}` is not one of job `{job}`")]
    ForeignRun {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
    },
    /// Its job may not change content any more.
    #[error("HSK-403-SILENT-EDIT: job `{job}` is `{state}` and edits nothing")]
    Ended {
        /// The job.
        job: JobId,
        /// Where it stands.
        state: JobState,
    },
}

impl SilentEdit {
    /// How each of them begins.
    pub const CODE: &str = "HSK-403-SILENT-EDIT";
}

impl From<SilentEdit> for StorageError {
    fn from(error: SilentEdit) -> Self {
        Self::Guard(error.to_string())
    }
}

impl EditContext {
    /// Decides whether the edit may be made: a total function of the context and what is stored about it, which is
    /// the state of the job and the job of the run, each none when it does not exist.
    pub fn allow(&self, job: Option<JobState>, run_of: Option<JobId>) -> Result<(), SilentEdit> {
        self.require_provenance()?;
        if let Some(run) = self.run {
            let of = run_of.ok_or(SilentEdit::NoRun(run))?;
            if let Some(job) = self.job.filter(|job| *job != of) {
                return Err(SilentEdit::ForeignRun { run, job });
            }
        }
        let Some(id) = self.job else { return Ok(()) };
        match job.ok_or(SilentEdit::NoJob(id))? {
            // People may tidy up behind such a job (R1.9).
            state @ (JobState::Stalled | JobState::Failed | JobState::Cancelled | JobState::Poisoned)
                if self.kind == EditorKind::Ai =>
            {
                Err(SilentEdit::Ended { job: id, state })
            }
            _ => Ok(()),
        }
    }

    fn require_provenance(&self) -> Result<(), SilentEdit> {
        match self.kind {
            EditorKind::Ai if self.job.is_none() || self.run.is_none() => Err(SilentEdit::NoContext),
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), StorageError> {
        let refused = |problem: &str| Err(StorageError::Validation(format!("the editor's {problem}")));
        if !(1..=MAX_ACTOR_BYTES).contains(&self.actor_id.len()) {
            return refused(&format!("name has 1 to {MAX_ACTOR_BYTES} bytes"));
        }
        if self.actor_id.contains('\0') {
            return refused("name: text with the character U+0000 cannot be stored");
        }
        if self.trace.is_nil() {
            return refused("trace must not be nil");
        }
        Ok(())
    }

    fn event(&self, id: EventId, at: Timestamp, body: EventBody) -> Event {
        let actor = Actor { kind: self.kind.into(), id: self.actor_id.clone() };
        let mut event = Event::new(id, self.trace, at, actor, body);
        event.job_id = self.job;
        event.workflow_run_id = self.run;
        event
    }
}

/// Who changed something last; stored with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EditMetadata {
    /// What kind of editor.
    pub last_actor_kind: EditorKind,
    /// Who.
    pub last_actor_id: String,
    /// On behalf of which job; never none for an AI.
    pub last_job_id: Option<JobId>,
    /// In which run of it; never none for an AI.
    pub last_workflow_id: Option<RunId>,
    /// The event of this edit.
    pub edit_event_id: EventId,
}

/// One change that a store makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutation {
    /// What is done.
    pub action: EditAction,
    /// To what.
    pub id: ContentId,
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// The `edit_event_id` that was stored with it.
    pub previous: Option<EventId>,
}

/// What a job becomes together with an edit: the edit is made only if the job can be moved, and the other way round.
#[derive(Debug, Clone)]
pub struct JobMove {
    /// The job's new form; its edits are committed on entering completed or completed_with_issues only (R1.9).
    pub job: AiJob,
    /// The state that it must still be in.
    pub from: JobState,
    /// The edit's time is not before this, even if the clock was set back: versions of documents grow by it.
    pub not_before: Timestamp,
    /// Events of the move.
    pub events: Vec<AdmittedEvent>,
}

impl JobMove {
    /// Refuses to move another job than the edit's, and to commit an edit with a job that is not done.
    fn check(&self, context: &EditContext) -> Result<(), StorageError> {
        let (id, state) = (self.job.job_id, self.job.state);
        if context.job != Some(id) || context.trace != self.job.trace_id {
            return Err(StorageError::Validation(format!("an edit moves its own job, and not job `{id}`")));
        }
        match state {
            JobState::Completed | JobState::CompletedWithIssues => Ok(()),
            _ => Err(StorageError::Validation(format!("a job that becomes `{state}` commits no edit"))),
        }
    }
}

/// An edit that came through the guard. Only an [`Editor`] makes one.
pub struct GuardedEdit {
    context: EditContext,
    changes: Vec<ContentChange>,
    job_move: Option<JobMove>,
    at: Timestamp,
    recorder: Arc<dyn FlightRecorder>,
    ids: Arc<dyn Ids>,
}

impl fmt::Debug for GuardedEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedEdit").field("context", &self.context).field("changes", &self.changes.len()).finish()
    }
}

impl GuardedEdit {
    /// Who edits. The store asks [`EditContext::allow`] within its transaction.
    pub fn context(&self) -> &EditContext {
        &self.context
    }

    /// The changes, in the order in which they are made.
    pub fn changes(&self) -> &[ContentChange] {
        &self.changes
    }

    /// What the edit's job becomes in the same transaction, if it is moved.
    pub fn job_move(&self) -> Option<&JobMove> {
        self.job_move.as_ref()
    }

    /// When.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// What is stored for one mutation: the metadata with the content, the event in the same transaction.
    pub fn record(&self, mutation: Mutation) -> Result<(EditMetadata, AdmittedEvent), StorageError> {
        let edit = EditMetadata {
            last_actor_kind: self.context.kind,
            last_actor_id: self.context.actor_id.clone(),
            last_job_id: self.context.job,
            last_workflow_id: self.context.run,
            edit_event_id: EventId::fresh(&*self.ids),
        };
        let body = EventBody::ContentMutation(MutationRecord {
            entity: mutation.id.kind(),
            entity_id: mutation.id.to_string(),
            action: mutation.action,
            edit: edit.clone(),
            previous: mutation.previous,
        });
        let mut event = self.context.event(edit.edit_event_id, self.at, body);
        event.wsids = vec![mutation.workspace.to_string()];
        match self.recorder.admit(&event) {
            Ok(admitted) => Ok((edit, admitted)),
            Err(RecorderError::Sink(error)) => Err(error),
            Err(error) => Err(StorageError::Validation(error.to_string())),
        }
    }
}

/// Edits content.
#[derive(Clone)]
pub struct Editor {
    content: Arc<dyn ContentStore>,
    recorder: Arc<dyn FlightRecorder>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Editor {
    /// An editor of this store, which records in the same database.
    pub fn new(
        content: Arc<dyn ContentStore>,
        recorder: Arc<dyn FlightRecorder>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        Self { content, recorder, clock, ids }
    }

    /// Makes 1 to 1,000 changes in one transaction, in their order: all of them or none. Answers with what is stored
    /// with each; its `edit_event_id` is the `base` of the next change.
    ///
    /// `Guard` (`HSK-403-SILENT-EDIT`) when the editor may not: nothing is written, and the refusal is on record.
    /// `Conflict` when something was changed since it was seen, or exists already; `NotFound`; `Validation`.
    pub async fn edit(
        &self,
        context: EditContext,
        changes: Vec<ContentChange>,
    ) -> Result<Vec<EditMetadata>, StorageError> {
        self.edit_guarded(context, changes, None).await
    }

    /// The same together with a move of the edit's job, in one transaction. `Conflict` also when the job is not in
    /// the state any more that it is moved from.
    pub async fn edit_and_move(
        &self,
        context: EditContext,
        changes: Vec<ContentChange>,
        job_move: JobMove,
    ) -> Result<Vec<EditMetadata>, StorageError> {
        job_move.check(&context)?;
        self.edit_guarded(context, changes, Some(job_move)).await
    }

    async fn edit_guarded(
        &self,
        context: EditContext,
        changes: Vec<ContentChange>,
        job_move: Option<JobMove>,
    ) -> Result<Vec<EditMetadata>, StorageError> {
        context.check()?;
        let refusable = context.clone();
        match self.guarded(context, changes, job_move).await {
            Err(StorageError::Guard(refusal)) => Err(StorageError::Guard(self.refuse(&refusable, refusal).await)),
            answer => answer,
        }
    }

    async fn guarded(
        &self,
        context: EditContext,
        changes: Vec<ContentChange>,
        job_move: Option<JobMove>,
    ) -> Result<Vec<EditMetadata>, StorageError> {
        // Who must not edit at all hears that first, whatever the changes are.
        context.require_provenance()?;
        if !(1..=MAX_CHANGES).contains(&changes.len()) {
            let number = changes.len();
            return Err(StorageError::Validation(format!("an edit has 1 to {MAX_CHANGES} changes, not {number}")));
        }
        for change in &changes {
            change.check()?;
        }
        let (recorder, ids) = (Arc::clone(&self.recorder), Arc::clone(&self.ids));
        let now = self.clock.now();
        let at = job_move.as_ref().map_or(now, |job_move| now.max(job_move.not_before));
        self.content.edit(GuardedEdit { context, changes, job_move, at, recorder, ids }).await
    }

    /// Puts a refusal on record. Returns its text, which also says when that could not be done.
    async fn refuse(&self, context: &EditContext, refusal: String) -> String {
        let body = EventBody::SecurityViolation { kind: REFUSED.to_owned(), detail: refusal.clone() };
        let event = context.event(EventId::fresh(&*self.ids), self.clock.now(), body);
        match self.recorder.record_event(&event).await {
            Ok(()) => refusal,
            Err(error) => format!("{refusal}; this refusal could not be recorded: {error}"),
        }
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
