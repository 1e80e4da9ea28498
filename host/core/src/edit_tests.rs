//! Who may edit, and what becomes of those who may not.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use async_trait::async_trait;
use futures::executor::block_on;

use super::*;
use crate::CanvasNodeId;
use crate::content::*;
use crate::storage::Page;
use crate::testing::{Behaviour, FixedClock, MemoryRecorder, SequentialIds};
use crate::{BlockId, CanvasId, DocumentId};

/// A store that takes every edit, or refuses it as its transaction would, and has nothing to read.
#[derive(Default)]
struct Double {
    edits: Mutex<Vec<GuardedEdit>>,
    refuse: Option<fn(&EditContext) -> SilentEdit>,
}

type Answer<T> = Result<T, StorageError>;

#[async_trait]
impl ContentStore for Double {
    async fn edit(&self, edit: GuardedEdit) -> Answer<Vec<EditMetadata>> {
        if let Some(refuse) = self.refuse {
            return Err(refuse(edit.context()).into());
        }
        let workspace = WorkspaceId::fresh(&*edit.ids);
        let mutation = |change: &ContentChange| match change {
            ContentChange::Create { content } => {
                Mutation { action: EditAction::Create, id: content.id(), workspace, previous: None }
            }
            ContentChange::Update { content, base } => {
                Mutation { action: EditAction::Update, id: content.id(), workspace, previous: *base }
            }
            ContentChange::Delete { id, base } => {
                Mutation { action: EditAction::Delete, id: *id, workspace, previous: *base }
            }
        };
        let written = edit.changes().iter().map(|change| Ok(edit.record(mutation(change))?.0)).collect();
        self.edits.lock().unwrap().push(edit);
        written
    }
    async fn workspace(&self, _: WorkspaceId) -> Answer<Stored<Workspace>> {
        unreadable()
    }
    async fn workspaces(&self, _: &Page<WorkspaceId>) -> Answer<Vec<Stored<Workspace>>> {
        unreadable()
    }
    async fn document(&self, _: DocumentId) -> Answer<Stored<Document>> {
        unreadable()
    }
    async fn documents(&self, _: Option<WorkspaceId>, _: &Page<DocumentId>) -> Answer<Vec<Stored<Document>>> {
        unreadable()
    }
    async fn block(&self, _: BlockId) -> Answer<Stored<ContentBlock>> {
        unreadable()
    }
    async fn blocks(&self, _: DocumentId) -> Answer<Vec<Stored<ContentBlock>>> {
        unreadable()
    }
    async fn canvas(&self, _: CanvasId) -> Answer<Stored<Canvas>> {
        unreadable()
    }
    async fn canvases(&self, _: Option<WorkspaceId>, _: &Page<CanvasId>) -> Answer<Vec<Stored<Canvas>>> {
        unreadable()
    }
    async fn canvas_nodes(&self, _: CanvasId) -> Answer<Vec<Stored<CanvasNode>>> {
        unreadable()
    }
    async fn canvas_edges(&self, _: CanvasId) -> Answer<Vec<Stored<CanvasEdge>>> {
        unreadable()
    }
}

fn unreadable<T>() -> Answer<T> {
    Err(StorageError::NotFound { what: "content", id: "in this double".into() })
}

struct Desk {
    store: Arc<Double>,
    recorder: Arc<MemoryRecorder>,
    ids: Arc<SequentialIds>,
    editor: Editor,
}

fn desk_of(store: Double) -> Desk {
    let (store, recorder, ids) =
        (Arc::new(store), Arc::new(MemoryRecorder::default()), Arc::new(SequentialIds::default()));
    let editor = Editor::new(store.clone(), recorder.clone(), Arc::new(FixedClock::default()), ids.clone());
    Desk { store, recorder, ids, editor }
}

impl Desk {
    fn new() -> Self {
        desk_of(Double::default())
    }

    fn context(&self, kind: EditorKind) -> EditContext {
        let ids = &*self.ids;
        let (job, run) = (Some(JobId::fresh(ids)), Some(RunId::fresh(ids)));
        EditContext { kind, actor_id: "somebody".into(), job, run, trace: TraceId::fresh(ids) }
    }

    fn workspace(&self, name: &str) -> ContentChange {
        let workspace_id = WorkspaceId::fresh(&*self.ids);
        ContentChange::Create { content: Workspace { workspace_id, name: name.into() }.into() }
    }

    fn edit(&self, context: EditContext, changes: Vec<ContentChange>) -> Answer<Vec<EditMetadata>> {
        block_on(self.editor.edit(context, changes))
    }
}

#[test]
fn every_context_has_its_answer() {
    use EditorKind::*;
    let ids = SequentialIds::default();
    let (job, other, run) = (JobId::fresh(&ids), JobId::fresh(&ids), RunId::fresh(&ids));
    let running = Some(JobState::Running);
    let no_run = SilentEdit::NoRun(run);
    let foreign = SilentEdit::ForeignRun { run, job };
    // Job and run that are named, state of the job, job of the run; the answers for people and host, and for AIs.
    let table = [
        (None, None, None, None, Ok(()), Err(SilentEdit::NoContext)),
        (Some(job), None, running, None, Ok(()), Err(SilentEdit::NoContext)),
        (None, Some(run), None, Some(job), Ok(()), Err(SilentEdit::NoContext)),
        (Some(job), Some(run), running, Some(job), Ok(()), Ok(())),
        (Some(job), None, None, None, Err(SilentEdit::NoJob(job)), Err(SilentEdit::NoContext)),
        (Some(job), Some(run), None, Some(job), Err(SilentEdit::NoJob(job)), Err(SilentEdit::NoJob(job))),
        (Some(job), Some(run), running, None, Err(no_run.clone()), Err(no_run)),
        (Some(job), Some(run), running, Some(other), Err(foreign.clone()), Err(foreign)),
    ];
    for (job, run, state, run_of, for_others, for_ai) in table {
        for (kind, expected) in [(Human, &for_others), (System, &for_others), (Ai, &for_ai)] {
            let context = EditContext { kind, actor_id: "a".into(), job, run, trace: TraceId::fresh(&ids) };
            assert_eq!(&context.allow(state, run_of), expected, "{kind} {job:?} {run:?} {state:?} {run_of:?}");
        }
    }
    let ended = [JobState::Stalled, JobState::Failed, JobState::Cancelled, JobState::Poisoned];
    for state in JobState::ALL {
        for kind in EditorKind::ALL {
            let context = EditContext {
                kind: *kind,
                actor_id: "a".into(),
                job: Some(job),
                run: Some(run),
                trace: TraceId::fresh(&ids),
            };
            let refused = *kind == Ai && ended.contains(state);
            assert_eq!(context.allow(Some(*state), Some(job)).is_err(), refused, "{kind} {state}");
        }
    }
}

#[test]
fn every_refusal_begins_with_the_code() {
    let ids = SequentialIds::default();
    let (job, run) = (JobId::fresh(&ids), RunId::fresh(&ids));
    for refusal in [
        SilentEdit::NoContext,
        SilentEdit::NoJob(job),
        SilentEdit::NoRun(run),
        SilentEdit::ForeignRun { run, job },
        SilentEdit::Ended { job, state: JobState::Poisoned },
    ] {
        let error = StorageError::from(refusal);
        assert!(matches!(&error, StorageError::Guard(text) if text.starts_with("HSK-403-SILENT-EDIT: ")), "{error}");
    }
}

#[test]
fn an_ai_without_job_or_run_does_not_reach_the_store_and_is_on_record() {
    for (without_job, without_run) in [(true, true), (true, false), (false, true)] {
        let desk = Desk::new();
        let mut context = desk.context(EditorKind::Ai);
        context.job = context.job.filter(|_| !without_job);
        context.run = context.run.filter(|_| !without_run);
        let error = desk.edit(context.clone(), vec![desk.workspace("w")]).unwrap_err();
        assert!(error.to_string().starts_with("HSK-403-SILENT-EDIT"), "{error}");
        assert!(desk.store.edits.lock().unwrap().is_empty());

        let [event] = &desk.recorder.events()[..] else { panic!("one event") };
        let EventBody::SecurityViolation { kind, detail } = &event.body else { panic!("{event:?}") };
        assert_eq!((kind.as_str(), detail), ("silent_edit", &error.to_string()));
        assert_eq!((event.trace_id, event.job_id, event.workflow_run_id), (context.trace, context.job, context.run));
        assert_eq!(event.actor, Actor { kind: ActorKind::Agent, id: "somebody".into() });
    }
}

#[test]
fn what_the_transaction_refuses_is_on_record_too() {
    let refuse = |context: &EditContext| SilentEdit::Ended { job: context.job.unwrap(), state: JobState::Cancelled };
    let desk = desk_of(Double { refuse: Some(refuse), ..Double::default() });
    let error = desk.edit(desk.context(EditorKind::Ai), vec![desk.workspace("w")]).unwrap_err();
    assert!(matches!(&error, StorageError::Guard(text) if text.contains("is `cancelled`")), "{error}");
    assert_eq!(desk.recorder.events().len(), 1);
}

#[test]
fn a_refusal_that_cannot_be_recorded_says_so_and_stays_one() {
    let desk = Desk::new();
    desk.recorder.behave(Behaviour::Full);
    let context = EditContext { job: None, ..desk.context(EditorKind::Ai) };
    let error = desk.edit(context, vec![desk.workspace("w")]).unwrap_err();
    let StorageError::Guard(text) = error else { panic!("{error}") };
    assert!(text.starts_with("HSK-403-SILENT-EDIT") && text.contains("could not be recorded"), "{text}");
}

#[test]
fn each_change_has_its_own_event_whose_id_is_that_of_the_edit() {
    let desk = Desk::new();
    for kind in EditorKind::ALL {
        let context = desk.context(*kind);
        let written = desk.edit(context.clone(), vec![desk.workspace("a"), desk.workspace("b")]).unwrap();
        assert_ne!(written[0].edit_event_id, written[1].edit_event_id);
        for edit in &written {
            assert!(!edit.edit_event_id.is_nil());
            assert_eq!((edit.last_actor_kind, edit.last_actor_id.as_str()), (*kind, "somebody"));
            assert_eq!((edit.last_job_id, edit.last_workflow_id), (context.job, context.run));
        }
        let edit = desk.store.edits.lock().unwrap().pop().unwrap();
        let workspace = WorkspaceId::fresh(&*desk.ids);
        let mutation = Mutation { action: EditAction::Delete, id: workspace.into(), workspace, previous: None };
        let (metadata, event) = edit.record(mutation).unwrap();
        let event: Event = serde_json::from_str(event.json()).unwrap();
        assert_eq!(event.event_id, metadata.edit_event_id);
        assert_eq!(event.wsids, [workspace.to_string()]);
        let EventBody::ContentMutation(record) = event.body else { panic!("{event:?}") };
        assert_eq!((record.edit, record.action), (metadata, EditAction::Delete));
        assert_eq!((record.entity, record.entity_id), (ContentKind::Workspace, workspace.to_string()));
    }
    assert!(desk.recorder.events().is_empty(), "events of edits go the store's way");
}

#[test]
fn what_cannot_be_stored_does_not_reach_the_store() {
    let desk = Desk::new();
    let ids = &*desk.ids;
    let block = ContentBlock {
        block_id: BlockId::fresh(ids),
        document_id: DocumentId::fresh(ids),
        kind: "paragraph".into(),
        sequence: 0,
        raw_content: String::new(),
        display_content: String::new(),
        derived_content: serde_json::Value::Null,
        sensitivity: Sensitivity::Internal,
        exportable: true,
    };
    let node = CanvasNode {
        node_id: CanvasNodeId::fresh(ids),
        canvas_id: CanvasId::fresh(ids),
        kind: "note".into(),
        x: 0.0,
        y: 0.0,
        width: 1.0,
        height: 1.0,
        content: String::new(),
        block_id: None,
    };
    let create = |content: Content| vec![ContentChange::Create { content }];
    let long = "x".repeat(MAX_CONTENT_BYTES + 1);
    let refused = [
        vec![],
        vec![desk.workspace("w"); MAX_CHANGES + 1],
        vec![desk.workspace("a\0")],
        vec![desk.workspace(&"x".repeat(1025))],
        vec![desk.workspace("fine"), desk.workspace("\0")],
        create(Workspace { workspace_id: WorkspaceId::from_uuid(uuid::Uuid::nil()), name: "w".into() }.into()),
        create(ContentBlock { kind: String::new(), ..block.clone() }.into()),
        create(ContentBlock { kind: "k".repeat(65), ..block.clone() }.into()),
        create(ContentBlock { raw_content: long.clone(), ..block.clone() }.into()),
        create(ContentBlock { display_content: long.clone(), ..block.clone() }.into()),
        create(ContentBlock { derived_content: long.clone().into(), ..block.clone() }.into()),
        create(CanvasNode { content: long, ..node.clone() }.into()),
        create(CanvasNode { x: f64::NAN, ..node.clone() }.into()),
        create(CanvasNode { height: f64::NEG_INFINITY, ..node.clone() }.into()),
    ];
    for changes in refused {
        let error = desk.edit(desk.context(EditorKind::Human), changes).unwrap_err();
        assert!(matches!(error, StorageError::Validation(_)), "{error}");
    }
    for actor_id in ["", "a\0", &"a".repeat(257)] {
        let context = EditContext { actor_id: actor_id.into(), ..desk.context(EditorKind::Human) };
        assert!(matches!(desk.edit(context, vec![desk.workspace("w")]), Err(StorageError::Validation(_))));
    }
    assert!(desk.store.edits.lock().unwrap().is_empty() && desk.recorder.events().is_empty());
    let full = "x".repeat(MAX_CONTENT_BYTES);
    desk.edit(desk.context(EditorKind::Human), create(ContentBlock { raw_content: full, ..block }.into())).unwrap();
    desk.edit(desk.context(EditorKind::Human), create(CanvasNode { x: -0.0, y: f64::MAX, ..node }.into())).unwrap();
}
