//! Edits: all or nothing, what they conflict with, and what goes with what is deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use handshake_core::content::*;
use handshake_core::edit::{EditAction, EditorKind, JobMove};
use handshake_core::job::{AiJob, JobState};
use handshake_core::storage::{ContentStore, EventOutbox, JobStore};
use handshake_core::{Clock, EventId, Ids, JobId};
use handshake_tests::postgres::Backend;
use handshake_tests::storage::World;

use crate::desk::{Desk, Tree, create, delete, editor, is_conflict, is_invalid, is_missing, update};

pub(crate) async fn an_edit_is_made_as_a_whole_or_not_at_all(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let (before, events) = (desk.everything().await, desk.events().await.len());
    let (one, other) = (desk.workspace("one"), desk.workspace("other"));
    let document = desk.document(&one, "of a new workspace");
    // What comes last spoils the rest; who is written in the same transaction is not concerned.
    let (spoilt, appended, neighbour) = tokio::join!(
        desk.try_edit(vec![
            create(one.clone()),
            create(document.clone()),
            update(Workspace { name: "changed".into(), ..tree.workspace.clone() }),
            delete(tree.canvas.canvas_id),
            create(tree.document.clone()),
        ]),
        desk.world.database.append(desk.world.event("neighbour")),
        desk.try_edit(vec![create(other.clone())]),
    );
    assert!(is_conflict(&spoilt), "{spoilt:?}");
    appended.unwrap();
    neighbour.unwrap();
    assert_eq!(desk.events().await.len(), events + 2);
    let id = Content::from(other.clone()).id();
    let after: Vec<_> = desk.everything().await.into_iter().filter(|(this, _)| *this != id).collect();
    assert_eq!(after, before);

    // Later changes see the earlier ones.
    let renamed = Document { title: "renamed".into(), ..document.clone() };
    let changes = vec![create(one), create(document.clone()), update(renamed.clone()), delete(other.workspace_id)];
    let written = desk.edit(changes).await;
    let ids: BTreeSet<_> = written.iter().map(|edit| edit.edit_event_id).collect();
    assert_eq!(ids.len(), 4);
    let stored = desk.world.database.document(document.document_id).await.unwrap();
    assert_eq!((stored.content, stored.edit), (renamed, written[2].clone()));
}

pub(crate) async fn what_exists_already_is_not_created_again(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let (before, events) = (desk.everything().await, desk.events().await.len());
    for content in tree.contents() {
        let again = desk.try_edit(vec![create(content)]).await;
        assert!(is_conflict(&again), "{again:?}");
    }
    assert_eq!((desk.everything().await, desk.events().await.len()), (before, events));
}

pub(crate) async fn a_change_of_what_moved_on_is_a_conflict(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    for content in tree.contents() {
        let id = content.id();
        let seen = desk.edit(vec![update(content.clone())]).await[0].edit_event_id;
        let now = desk.edit(vec![update(content.clone())]).await[0].edit_event_id;
        let before = desk.everything().await;
        for base in [seen, EventId::from_uuid(desk.world.ids.uuid())] {
            let changed = ContentChange::Update { content: content.clone(), base: Some(base) };
            assert!(is_conflict(&desk.try_edit(vec![changed]).await), "{id:?}");
            let deleted = ContentChange::Delete { id, base: Some(base) };
            assert!(is_conflict(&desk.try_edit(vec![deleted]).await), "{id:?}");
        }
        assert_eq!(desk.everything().await, before);
        let changed = ContentChange::Update { content, base: Some(now) };
        let now = desk.edit(vec![changed]).await[0].edit_event_id;
        assert_eq!(desk.stored(id).await.unwrap()["edit"]["edit_event_id"], now.to_string());
    }
}

pub(crate) async fn of_editors_at_the_same_time_one_wins(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let other = match desk.world.place.backend {
        Backend::Sqlite => desk.editor.clone(),
        Backend::Postgres => editor(&desk.world, desk.world.another_host().await),
    };
    for round in 0..5 {
        let block = desk.world.database.block(tree.block.block_id).await.unwrap();
        let edits = (0..8).map(|n| {
            let (editor, context) = (if n % 2 == 0 { desk.editor.clone() } else { other.clone() }, desk.human());
            let raw_content = format!("{round} {n}");
            let content = ContentBlock { raw_content, ..block.content.clone() }.into();
            let change = ContentChange::Update { content, base: Some(block.edit.edit_event_id) };
            tokio::spawn(async move { editor.edit(context, vec![change]).await })
        });
        let mut won = Vec::new();
        for (n, edit) in edits.collect::<Vec<_>>().into_iter().enumerate() {
            match edit.await.unwrap() {
                Ok(written) => won.push((format!("{round} {n}"), written[0].clone())),
                refused => assert!(is_conflict(&refused), "{refused:?}"),
            }
        }
        let stored = desk.world.database.block(tree.block.block_id).await.unwrap();
        assert_eq!(won, [(stored.content.raw_content, stored.edit)]);
    }
}

pub(crate) async fn nothing_is_added_to_what_another_host_deletes(world: World) {
    let desk = Desk::new(world);
    let other = match desk.world.place.backend {
        Backend::Sqlite => desk.editor.clone(),
        Backend::Postgres => editor(&desk.world, desk.world.another_host().await),
    };
    for _ in 0..4 {
        let tree = desk.stored_tree().await;
        let (editor, context) = (desk.editor.clone(), desk.human());
        let gone = vec![delete(tree.workspace.workspace_id)];
        let deletion = tokio::spawn(async move { editor.edit(context, gone).await });
        let additions = (0..6).map(|n| {
            let (editor, context) = (other.clone(), desk.human());
            let change = match n % 3 {
                0 => create(desk.block(&tree.document, 1)),
                1 => create(desk.document(&tree.workspace, "d")),
                _ => create(desk.edge(&tree.other, &tree.node)),
            };
            tokio::spawn(async move { editor.edit(context, vec![change]).await })
        });
        for addition in additions.collect::<Vec<_>>() {
            let added = addition.await.unwrap();
            let gone = ["workspace", "document", "canvas"].iter().any(|what| is_missing(&added, what));
            assert!(added.is_ok() || gone, "{added:?}");
        }
        deletion.await.unwrap().unwrap();
        assert_eq!(desk.everything().await, []);
    }
}

/// Which of a tree's contents to delete.
type Choice = fn(&Tree) -> ContentId;

pub(crate) async fn deletions_take_along_what_belongs_and_leave_an_event_for_each(world: World) {
    let desk = Desk::new(world);
    let stays = desk.stored_tree().await;
    let kept = desk.everything().await;
    let cases: [(Choice, &[usize]); 6] = [
        (|tree| tree.edge.edge_id.into(), &[6]),
        (|tree| tree.other.node_id.into(), &[6, 5]),
        (|tree| tree.block.block_id.into(), &[2]),
        (|tree| tree.document.document_id.into(), &[2, 1]),
        (|tree| tree.canvas.canvas_id.into(), &[4, 5, 6, 3]),
        (|tree| tree.workspace.workspace_id.into(), &[1, 2, 3, 4, 5, 6, 0]),
    ];
    for (pick, gone) in cases {
        let tree = desk.stored_tree().await;
        let before = desk.everything().await;
        let edits = desk.mutations().await;
        let context = desk.human();
        let written = desk.editor.edit(context.clone(), vec![delete(pick(&tree))]).await.unwrap();
        let events = desk.mutations().await.split_off(edits.len());

        let contents = tree.contents();
        let expected: BTreeSet<_> = gone.iter().map(|at| contents[*at].id().to_string()).collect();
        let left: Vec<_> = before.into_iter().filter(|(id, _)| !expected.contains(&id.to_string())).collect();
        assert_eq!(desk.everything().await, left);
        assert_eq!(events.iter().map(|(_, record)| record.entity_id.clone()).collect::<BTreeSet<_>>(), expected);
        assert_eq!(events.len(), expected.len(), "one event each");
        for (event, record) in &events {
            assert_eq!((record.action, record.edit.edit_event_id), (EditAction::Delete, event.event_id));
            assert_eq!((record.edit.last_actor_id.as_str(), event.trace_id), ("Ada", context.trace));
            assert_eq!(event.wsids, [tree.workspace.workspace_id.to_string()]);
            let created = edits.iter().rev().find(|(_, earlier)| earlier.entity_id == record.entity_id);
            assert_eq!(record.previous, created.map(|(event, _)| event.event_id));
        }
        // What belongs to something goes before it.
        let last = &events.last().unwrap().1;
        assert_eq!((last.entity_id.clone(), &last.edit), (pick(&tree).to_string(), &written[0]));
        let gone = desk.try_edit(vec![delete(pick(&tree))]).await;
        assert!(is_missing(&gone, pick(&tree).kind().as_str()));
        if desk.stored(tree.workspace.workspace_id.into()).await.is_some() {
            desk.edit(vec![delete(tree.workspace.workspace_id)]).await;
        }
        assert_eq!(desk.everything().await, kept);
    }
    desk.edit(vec![delete(stays.workspace.workspace_id)]).await;
    assert_eq!(desk.everything().await, []);
}

pub(crate) async fn one_edit_deletes_no_more_than_it_may(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let blocks = |number: usize| (0..number).map(|_| create(desk.block(&tree.document, 0))).collect::<Vec<_>>();
    // With the document, and the block that it has already, that is one too many.
    for _ in 1..MAX_DELETED / MAX_CHANGES {
        desk.edit(blocks(MAX_CHANGES)).await;
    }
    desk.edit(blocks(MAX_CHANGES - 1)).await;
    let gone = || vec![delete(tree.document.document_id)];
    let refused = desk.try_edit(gone()).await;
    assert!(is_invalid(&refused), "{refused:?}");
    let refused = desk.try_edit(vec![delete(tree.block.block_id), delete(tree.document.document_id)]).await;
    assert!(is_invalid(&refused), "changes count together: {refused:?}");
    assert_eq!(desk.world.database.blocks(tree.document.document_id).await.unwrap().len(), MAX_DELETED);
    desk.edit(vec![delete(tree.block.block_id)]).await;
    desk.edit(gone()).await;
    assert_eq!(desk.world.database.blocks(tree.document.document_id).await.unwrap(), []);
}

/// The edit's job, done, with the event of that.
fn done(desk: &Desk, job: &AiJob) -> JobMove {
    let job = AiJob { state: JobState::Completed, status_reason: "applied".into(), ..job.clone() };
    let not_before = desk.world.clock.now().plus(Duration::from_secs(1));
    JobMove { job, from: JobState::AwaitingUser, not_before, events: vec![desk.world.event("the job moves")] }
}

pub(crate) async fn an_edit_and_its_jobs_move_are_one(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let context = desk.within_job(EditorKind::Ai, JobState::AwaitingUser).await;
    let job = desk.world.database.job(context.job.unwrap()).await.unwrap();
    let changed = || update(Document { title: "changed".into(), ..tree.document.clone() });
    let (before, events) = (desk.everything().await, desk.events().await.len());

    // What comes last spoils the move, and the other way round.
    let spoilt = vec![changed(), create(tree.block.clone())];
    let refused = desk.editor.edit_and_move(context.clone(), spoilt, done(&desk, &job)).await;
    assert!(is_conflict(&refused), "{refused:?}");
    let elsewhere = JobMove { from: JobState::AwaitingValidation, ..done(&desk, &job) };
    let refused = desk.editor.edit_and_move(context.clone(), vec![changed()], elsewhere).await;
    assert!(is_conflict(&refused), "{refused:?}");
    // Another job, and one that would not be done, are refused before anything is asked.
    let (mut other, mut failed) = (done(&desk, &job), done(&desk, &job));
    other.job.job_id = JobId::fresh(&*desk.world.ids);
    failed.job.state = JobState::Failed;
    for wrong in [other, failed] {
        let refused = desk.editor.edit_and_move(context.clone(), vec![changed()], wrong).await;
        assert!(is_invalid(&refused), "{refused:?}");
    }
    assert_eq!((desk.everything().await, desk.events().await.len()), (before, events));
    assert_eq!(desk.world.database.job(job.job_id).await.unwrap(), job);

    // Of two at the same time one moves the job and makes its edit.
    let racing = |title: &'static str| {
        let content = Document { title: title.into(), ..tree.document.clone() };
        let (editor, context, job_move) = (desk.editor.clone(), context.clone(), done(&desk, &job));
        tokio::spawn(async move { editor.edit_and_move(context, vec![update(content)], job_move).await })
    };
    let racers = [("one", racing("one")), ("other", racing("other"))];
    let mut won = Vec::new();
    for (title, racer) in racers {
        match racer.await.unwrap() {
            Ok(_) => won.push(title),
            refused => assert!(is_conflict(&refused), "{refused:?}"),
        }
    }
    let stored = desk.world.database.document(tree.document.document_id).await.unwrap();
    assert_eq!(won, [stored.content.title.as_str()]);
    assert_eq!(stored.edit.last_job_id, Some(job.job_id));
    assert_eq!(stored.updated_at, done(&desk, &job).not_before);
    assert_eq!(desk.world.database.job(job.job_id).await.unwrap(), done(&desk, &job).job);
    assert_eq!(desk.events().await.len(), events + 2, "the mutation and the move");
}
