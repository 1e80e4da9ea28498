//! Triggers: adding, looking for what is due, advancing, removing.

use std::time::Duration;

use handshake_core::event::{Actor, ActorKind};
use handshake_core::storage::{JobStore, Page, TriggerStore};
use handshake_core::trigger::{Missed, Schedule, Trigger, TriggerRef};
use handshake_core::workflow::Period;
use handshake_core::{Clock, JobId, Timestamp, TriggerId, TriggerName};
use handshake_tests::postgres::Backend;
use handshake_tests::storage::World;
use serde_json::json;

use crate::desk::{is_conflict, is_invalid, is_missing};

const ODD: &str = "“Größe” 漢字 🎉 \u{202e} '; DROP TABLE triggers; -- \\u0000 {}";

/// A trigger, not stored yet.
fn trigger(world: &World, name: &str) -> Trigger {
    Trigger {
        trigger_id: TriggerId::fresh(&*world.ids),
        name: TriggerName::new(name).unwrap(),
        workflow: "name: x\nsteps: []\n".into(),
        file: "x.yaml".into(),
        inputs: Default::default(),
        base: "/srv".into(),
        schedule: Schedule::Every(Period(Duration::from_millis(1_500))),
        missed: Missed::Once,
        next_at: world.clock.now().plus(Duration::from_secs(60)),
        last_at: None,
        last_job: None,
        last_error: None,
        created_by: Actor::system(),
        created_at: world.clock.now(),
    }
}

async fn stored(world: &World, id: TriggerId) -> Trigger {
    world.database.trigger(&TriggerRef::Id(id)).await.unwrap()
}

pub(crate) async fn a_trigger_comes_back_as_it_was_added(world: World) {
    let full = Trigger {
        workflow: ODD.repeat(100),
        file: ODD.into(),
        inputs: json!({ "z": ODD, "a": [1.0, 0.1, u64::MAX, i64::MIN, null, true] }).as_object().unwrap().clone(),
        base: "/srv/bücher".into(),
        schedule: Schedule::Cron("*/5 0-6 1,15 * MON".into()),
        missed: Missed::All,
        next_at: Timestamp::from_micros(i64::MAX),
        last_at: Some(Timestamp::from_micros(-1)),
        last_job: Some(JobId::fresh(&*world.ids)),
        last_error: Some(ODD.into()),
        created_by: Actor { kind: ActorKind::Human, id: ODD.into() },
        ..trigger(&world, "full")
    };
    for trigger in [trigger(&world, "plain_1-a"), full] {
        world.database.create_trigger(trigger.clone(), vec![world.event("added")]).await.unwrap();
        assert_eq!(stored(&world, trigger.trigger_id).await, trigger);
        assert_eq!(world.database.trigger(&TriggerRef::Name(trigger.name.clone())).await.unwrap(), trigger);
        let again = world.database.create_trigger(trigger, vec![world.event("again")]).await;
        assert!(is_conflict(&again), "{again:?}");
    }
    assert_eq!(world.recorded().await.len(), 2, "events of refused requests are not on record");
}

pub(crate) async fn a_name_is_taken_once_and_free_again_after_a_removal(world: World) {
    let first = trigger(&world, "daily");
    world.database.create_trigger(first.clone(), vec![]).await.unwrap();
    let second = trigger(&world, "daily");
    // A neighbour in the same transaction is not disturbed.
    let neighbour = trigger(&world, "other");
    let (taken, fine) = tokio::join!(
        world.database.create_trigger(second.clone(), vec![world.event("taken")]),
        world.database.create_trigger(neighbour, vec![world.event("other")]),
    );
    assert!(is_conflict(&taken) && fine.is_ok(), "{taken:?} {fine:?}");
    world.database.remove_trigger(first.trigger_id, vec![world.event("removed")]).await.unwrap();
    assert!(is_missing(&world.database.trigger(&TriggerRef::Id(first.trigger_id)).await, "trigger"));
    assert!(is_missing(&world.database.trigger(&TriggerRef::Name(first.name)).await, "trigger"));
    let again = world.database.remove_trigger(first.trigger_id, vec![world.event("again")]).await;
    assert!(is_missing(&again, "trigger"));
    world.database.create_trigger(second.clone(), vec![]).await.unwrap();
    assert_eq!(stored(&world, second.trigger_id).await, second);
    assert_eq!(world.recorded().await.len(), 2);
}

pub(crate) async fn triggers_page_without_gaps(world: World) {
    let mut all = Vec::new();
    for n in 0..7 {
        if n % 3 == 0 {
            world.clock.advance(Duration::from_secs(1));
        }
        let trigger = trigger(&world, &format!("t{n}"));
        world.database.create_trigger(trigger.clone(), vec![]).await.unwrap();
        all.push(trigger);
    }
    all.sort_by_key(|trigger| std::cmp::Reverse((trigger.created_at, trigger.trigger_id)));
    let mut page = Page { limit: 2, after: None };
    let mut found = Vec::new();
    loop {
        let some = world.database.triggers(&page).await.unwrap();
        let Some(last) = some.last() else { break };
        assert!(some.len() <= 2);
        page.after = Some(last.trigger_id);
        found.extend(some);
    }
    assert_eq!(found, all);
    assert_eq!(world.database.triggers(&Page::default()).await.unwrap(), all);
    let unknown = Page { limit: 0, after: Some(TriggerId::fresh(&*world.ids)) };
    assert!(is_missing(&world.database.triggers(&unknown).await, "trigger"));
}

pub(crate) async fn what_is_due_comes_longest_overdue_first(world: World) {
    let now = world.clock.now();
    let at = |seconds: i64| Timestamp::from_micros(now.micros() + seconds * 1_000_000);
    for (n, seconds) in [5, -5, 0, -60, 1, -5].into_iter().enumerate() {
        let trigger = Trigger { next_at: at(seconds), ..trigger(&world, &format!("t{n}")) };
        world.database.create_trigger(trigger, vec![]).await.unwrap();
    }
    let due = async |now, limit| {
        let due = world.database.due_triggers(now, limit).await.unwrap();
        due.iter().map(|trigger| trigger.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(due(now, 10).await, ["t3", "t1", "t5", "t2"]);
    assert_eq!(due(now, 2).await, ["t3", "t1"]);
    assert_eq!(due(now, 0).await, [""; 0]);
    assert_eq!(due(at(-61), 10).await, [""; 0]);
    assert_eq!(due(Timestamp::from_micros(i64::MAX), 10).await.len(), 6);
}

pub(crate) async fn a_trigger_advances_only_from_the_time_that_was_seen_and_keeps_what_it_is(world: World) {
    let added = trigger(&world, "daily");
    world.database.create_trigger(added.clone(), vec![]).await.unwrap();
    // The job need not exist (any more).
    let (job, run) = world.job();
    let fired = Trigger {
        next_at: added.next_at.plus(Duration::from_secs(1)),
        last_at: Some(added.next_at),
        last_job: Some(job.job_id),
        last_error: None,
        ..added.clone()
    };
    let forged = Trigger {
        name: TriggerName::new("forged").unwrap(),
        workflow: "forged".into(),
        missed: Missed::Skip,
        created_at: Timestamp::from_micros(0),
        ..fired.clone()
    };
    world.database.advance_trigger(forged, added.next_at, vec![world.event("fired")]).await.unwrap();
    assert_eq!(stored(&world, added.trigger_id).await, fired);
    world.database.submit(job, run, None, vec![]).await.unwrap();

    let late = world.database.advance_trigger(fired.clone(), added.next_at, vec![world.event("late")]).await;
    assert!(is_conflict(&late), "{late:?}");
    let failed = Trigger { last_error: Some(ODD.into()), next_at: fired.next_at.plus(Duration::from_secs(1)), ..fired };
    let expected = added.next_at.plus(Duration::from_secs(1));
    world.database.advance_trigger(failed.clone(), expected, vec![world.event("failed")]).await.unwrap();
    assert_eq!(stored(&world, added.trigger_id).await, failed);
    let unknown = trigger(&world, "unknown");
    assert!(is_missing(&world.database.advance_trigger(unknown, expected, vec![]).await, "trigger"));
    assert_eq!(world.recorded().await.len(), 2);
}

pub(crate) async fn of_hosts_that_advance_at_the_same_time_one_wins(world: World) {
    let trigger = trigger(&world, "daily");
    world.database.create_trigger(trigger.clone(), vec![]).await.unwrap();
    let other = match world.place.backend {
        Backend::Sqlite => world.sql.clone(),
        Backend::Postgres => world.another_host().await,
    };
    let advances = (0..8).map(|n| {
        let database = if n % 2 == 0 { world.sql.clone() } else { other.clone() };
        let next_at = trigger.next_at.plus(Duration::from_secs(1));
        let (fired, expected) = (Trigger { next_at, ..trigger.clone() }, trigger.next_at);
        tokio::spawn(async move { database.advance_trigger(fired, expected, vec![]).await })
    });
    let mut won = 0;
    for advance in advances.collect::<Vec<_>>() {
        match advance.await.unwrap() {
            Ok(()) => won += 1,
            refused => assert!(is_conflict(&refused), "{refused:?}"),
        }
    }
    assert_eq!(won, 1);
}

pub(crate) async fn triggers_that_cannot_be_stored_are_refused(world: World) {
    let good = trigger(&world, "daily");
    let object = |value: serde_json::Value| value.as_object().unwrap().clone();
    let bad = [
        Trigger { name: TriggerName::new(good.trigger_id.to_string()).unwrap(), ..good.clone() },
        Trigger { workflow: "a\0".into(), ..good.clone() },
        Trigger { workflow: "x".repeat((1 << 20) + 1), ..good.clone() },
        Trigger { file: "a\0".into(), ..good.clone() },
        Trigger { file: String::new(), ..good.clone() },
        Trigger { inputs: object(json!({ "a": "\0" })), ..good.clone() },
        Trigger { inputs: object(json!({ "a\0": 1 })), ..good.clone() },
        Trigger { base: "/a\0".into(), ..good.clone() },
        Trigger { schedule: Schedule::Cron("a\0".into()), ..good.clone() },
        Trigger { last_error: Some("a\0".into()), ..good.clone() },
        Trigger { created_by: Actor { kind: ActorKind::Human, id: "a\0".into() }, ..good.clone() },
    ];
    for trigger in bad {
        let refused = world.database.create_trigger(trigger, vec![world.event("bad")]).await;
        assert!(is_invalid(&refused), "{refused:?}");
    }
    world.database.create_trigger(good.clone(), vec![]).await.unwrap();
    for error in ["a\0".to_owned(), "x".repeat(5_000)] {
        let failed = Trigger { last_error: Some(error), ..good.clone() };
        assert!(is_invalid(&world.database.advance_trigger(failed, good.next_at, vec![]).await));
    }
    assert_eq!(stored(&world, good.trigger_id).await, good);
    assert_eq!(world.recorded().await.len(), 0);
}
