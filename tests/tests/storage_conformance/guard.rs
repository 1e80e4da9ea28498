//! The guard: who may edit, what is stored with every edit, and what becomes of refused ones.

use std::collections::HashMap;

use handshake_core::content::*;
use handshake_core::edit::{EditAction, EditContext, EditMetadata, EditorKind};
use handshake_core::event::{Actor, ActorKind, EventBody};
use handshake_core::job::JobState;
use handshake_core::storage::StorageError;
use handshake_core::{EventId, JobId, RunId};
use handshake_tests::storage::World;

use crate::desk::{Desk, Tree, create, delete, update};

fn is_silent<T: std::fmt::Debug>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Guard(text)) if text.starts_with("HSK-403-SILENT-EDIT: "))
}

/// The same contexts as an AI that keeps something to itself.
fn without_context(whole: &EditContext) -> [EditContext; 3] {
    let context = |job, run| EditContext { job, run, ..whole.clone() };
    [context(None, None), context(whole.job, None), context(None, whole.run)]
}

/// New content of every kind beside a stored tree.
fn fresh(desk: &Desk, tree: &Tree) -> Vec<Content> {
    vec![
        desk.workspace("new").into(),
        desk.document(&tree.workspace, "new").into(),
        desk.block(&tree.document, 2).into(),
        desk.canvas(&tree.workspace, "new").into(),
        desk.node(&tree.canvas).into(),
        desk.edge(&tree.other, &tree.node).into(),
    ]
}

/// New forms of everything in a tree.
fn changed(tree: &Tree) -> Vec<Content> {
    vec![
        Workspace { name: "changed".into(), ..tree.workspace.clone() }.into(),
        Document { title: "changed".into(), ..tree.document.clone() }.into(),
        ContentBlock { raw_content: "changed".into(), ..tree.block.clone() }.into(),
        Canvas { title: "changed".into(), ..tree.canvas.clone() }.into(),
        CanvasNode { content: "changed".into(), ..tree.node.clone() }.into(),
        CanvasEdge { kind: "changed".into(), ..tree.edge.clone() }.into(),
    ]
}

pub(crate) async fn guard_blocks_ai_without_context(world: World) {
    let desk = Desk::new(world);
    let whole = desk.within_job(EditorKind::Ai, JobState::Running).await;
    for context in without_context(&whole) {
        let before = desk.events().await.len();
        let refused = desk.editor.edit(context.clone(), vec![create(desk.workspace("w"))]).await;
        assert!(is_silent(&refused), "{refused:?}");
        let events = desk.events().await.split_off(before);
        assert_eq!(events.len(), 1, "one refusal is one event");
        let EventBody::SecurityViolation { kind, detail } = &events[0].body else { panic!("{events:?}") };
        assert_eq!((kind.as_str(), detail), ("silent_edit", &refused.unwrap_err().to_string()));
        assert_eq!(events[0].actor, Actor { kind: ActorKind::Agent, id: context.actor_id });
        assert_eq!((events[0].job_id, events[0].workflow_run_id), (context.job, context.run));
        assert_eq!(events[0].trace_id, context.trace);
    }
    assert_eq!(desk.everything().await, []);
    desk.editor.edit(whole, vec![create(desk.workspace("w"))]).await.unwrap();
}

pub(crate) async fn ai_writes_without_context_are_rejected_for_every_content_table(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let (before, events) = (desk.everything().await, desk.events().await.len());
    let whole = desk.within_job(EditorKind::Ai, JobState::Running).await;
    let mut refused = 0;
    let deletions = changed(&tree).iter().map(|content| delete(content.id())).collect::<Vec<_>>();
    let changes = fresh(&desk, &tree).into_iter().map(create).chain(changed(&tree).into_iter().map(update));
    for change in changes.chain(deletions) {
        for context in without_context(&whole) {
            let answer = desk.editor.edit(context, vec![change.clone()]).await;
            assert!(is_silent(&answer), "{change:?}: {answer:?}");
            refused += 1;
        }
    }
    assert_eq!(refused, 3 * ContentKind::ALL.len() * EditAction::ALL.len());
    assert_eq!(desk.everything().await, before);
    assert_eq!(desk.events().await.len(), events + refused);
}

pub(crate) async fn an_ai_edits_only_under_a_job_that_exists_and_goes_on(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let before = desk.everything().await;
    let running = desk.within_job(EditorKind::Ai, JobState::Running).await;
    let other = desk.within_job(EditorKind::Ai, JobState::Running).await;
    let ids = &*desk.world.ids;
    let mut contexts = vec![
        EditContext { job: Some(JobId::fresh(ids)), ..running.clone() },
        EditContext { run: Some(RunId::fresh(ids)), ..running.clone() },
        EditContext { run: other.run, ..running.clone() },
    ];
    for state in [JobState::Stalled, JobState::Failed, JobState::Cancelled, JobState::Poisoned] {
        contexts.push(desk.within_job(EditorKind::Ai, state).await);
    }
    for context in contexts {
        let events = desk.events().await.len();
        let answer = desk.editor.edit(context.clone(), changed(&tree).into_iter().map(update).collect()).await;
        assert!(is_silent(&answer), "{context:?}: {answer:?}");
        assert_eq!(desk.everything().await, before, "a refused edit leaves everything as it was");
        let events = desk.events().await.split_off(events);
        assert!(matches!(&events[..], [event] if matches!(event.body, EventBody::SecurityViolation { .. })));
    }
    // People may tidy up behind a job that failed, but not behind one that never was.
    let failed = desk.within_job(EditorKind::Human, JobState::Failed).await;
    desk.editor.edit(failed.clone(), changed(&tree).into_iter().map(update).collect()).await.unwrap();
    let nobody = EditContext { job: Some(JobId::fresh(ids)), run: None, ..failed };
    assert!(is_silent(&desk.editor.edit(nobody, vec![delete(tree.workspace.workspace_id)]).await));
}

pub(crate) async fn mutation_metadata_persists_on_writes_to_every_content_table(world: World) {
    let desk = Desk::new(world);
    for kind in EditorKind::ALL {
        let context = desk.within_job(*kind, JobState::Running).await;
        let tree = desk.tree();
        let workspace = tree.workspace.workspace_id.to_string();
        let rounds = [
            (EditAction::Create, tree.contents()),
            (EditAction::Update, changed(&tree)),
            (EditAction::Update, tree.contents()),
        ];
        let mut seen = HashMap::<ContentId, EventId>::new();
        for (action, contents) in rounds {
            let before = desk.events().await.len();
            let change = |content: Content| match action {
                EditAction::Create => create(content),
                _ => update(content),
            };
            let changes = contents.iter().cloned().map(change).collect();
            let written = desk.editor.edit(context.clone(), changes).await.unwrap();
            let events = desk.mutations().await;
            let events = &events[events.len() - contents.len()..];
            assert_eq!(desk.events().await.len(), before + contents.len());
            for ((content, edit), (event, record)) in contents.iter().zip(&written).zip(events) {
                let id = content.id();
                assert!(!edit.edit_event_id.is_nil());
                let expected = EditMetadata {
                    last_actor_kind: *kind,
                    last_actor_id: "summarize@0.1.0".into(),
                    last_job_id: context.job,
                    last_workflow_id: context.run,
                    edit_event_id: event.event_id,
                };
                assert_eq!(edit, &expected);
                let stored = desk.stored(id).await.unwrap();
                assert_eq!(stored["edit"], serde_json::to_value(&expected).unwrap(), "{id:?}");
                assert_eq!((record.entity, record.entity_id.clone()), (id.kind(), id.to_string()));
                assert_eq!((record.action, &record.edit), (action, &expected));
                assert_eq!(record.previous, seen.insert(id, event.event_id));
                assert_eq!((event.job_id, event.workflow_run_id), (context.job, context.run));
                assert_eq!((event.trace_id, &event.wsids), (context.trace, &vec![workspace.clone()]));
            }
        }
    }
}

pub(crate) async fn the_database_itself_refuses_an_ai_without_a_job(world: World) {
    let desk = Desk::new(world);
    desk.stored_tree().await;
    for table in ["workspaces", "documents", "blocks", "canvases", "canvas_nodes", "canvas_edges"] {
        let set = |kind: &str, job: &str, run: &str| {
            format!("UPDATE {table} SET last_actor_kind = '{kind}', last_job_id = {job}, last_workflow_id = {run}")
        };
        for refused in
            [set("AI", "NULL", "NULL"), set("AI", "NULL", "'r'"), set("AI", "'j'", "NULL"), set("ROBOT", "'j'", "'r'")]
        {
            let error = desk.raw(&refused).await.unwrap_err();
            assert!(error.as_database_error().is_some_and(|error| error.is_check_violation()), "{refused}: {error}");
        }
        desk.raw(&set("AI", "'j'", "'r'")).await.unwrap();
    }
    let insert = |id: &str, kind: &str| {
        format!("INSERT INTO workspaces VALUES ('{id}', 'n', 1, 1, '{kind}', 'a', NULL, NULL, 'e')")
    };
    let error = desk.raw(&insert("1", "AI")).await.unwrap_err();
    assert!(error.as_database_error().is_some_and(|error| error.is_check_violation()), "{error}");
    desk.raw(&insert("1", "HUMAN")).await.unwrap();
}
