//! The outbox: order, durability, room, and the chain.

use std::sync::Arc;
use std::time::Duration;

use handshake_core::event::DueEvent;
use handshake_core::storage::{Database, EventOutbox, StorageError};
use handshake_storage::{DatabaseOptions, SqlDatabase};
use handshake_tests::postgres::Backend;
use handshake_tests::storage::{World, event, options, verified};

pub(crate) async fn the_chain_is_contiguous_after_a_mixed_concurrent_load(world: World) {
    let world = Arc::new(world);
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                for k in 0..20 {
                    world.database.enqueue(world.event("lazy")).unwrap();
                    let slot = world.database.reserve().unwrap();
                    match (n + k) % 3 {
                        0 => world.database.append(world.event("durable")).await.unwrap(),
                        1 => drop(world.database.flush().await.unwrap()),
                        _ => tokio::task::yield_now().await,
                    }
                    slot.fill(DueEvent::Admitted(world.event("slot"))).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let durable = (0..16).flat_map(|n| (0..20).map(move |k| (n + k) % 3)).filter(|kind| *kind == 0).count();
    assert_eq!(world.recorded().await.len(), 16 * 20 * 2 + durable);
}

pub(crate) async fn events_keep_the_order_in_which_they_were_queued(world: World) {
    let mut expected = Vec::new();
    for n in 0..300 {
        let event = world.event(&n.to_string());
        expected.push(event.event_id());
        if n % 50 == 49 { world.database.append(event).await.unwrap() } else { world.database.enqueue(event).unwrap() }
    }
    assert_eq!(world.recorded().await, expected);
}

pub(crate) async fn a_durable_write_takes_everything_queued_before_it_along(world: World) {
    world.database.enqueue(world.event("one")).unwrap();
    let slot = world.database.reserve().unwrap();
    let two = world.event("two");
    let id = two.event_id();
    // Admitted by whoever writes it, and in its place nevertheless.
    slot.fill(DueEvent::Valid(Box::new(|| Ok(two)))).unwrap();
    world.database.append(world.event("three")).await.unwrap();
    assert_eq!(world.database.read_after(0, 10).await.unwrap().len(), 3);
    let second = world.database.read_after(1, 1).await.unwrap();
    assert_eq!((second[0].seq, second[0].event_id), (2, id));
    assert_eq!(world.database.flush().await.unwrap().seq, 3);
}

pub(crate) async fn events_alone_become_durable_by_themselves(world: World) {
    world.database.enqueue(world.event("lonely")).unwrap();
    tokio::time::timeout(Duration::from_secs(30), world.database.grown_past(0)).await.unwrap();
    assert_eq!(world.database.read_after(0, 10).await.unwrap().len(), 1);
}

pub(crate) async fn waiting_for_growth_returns_at_once_when_it_has_happened(world: World) {
    world.database.append(world.event("one")).await.unwrap();
    world.database.grown_past(0).await;
    let waiting = tokio::time::timeout(Duration::from_millis(1), world.database.grown_past(1)).await;
    assert!(waiting.is_err(), "the chain has not grown past 1");
}

pub(crate) async fn a_full_queue_refuses_and_has_room_again_when_its_events_are_durable(world: World) {
    world.database.close().await.unwrap();
    let small = DatabaseOptions { queue: 4, ..options(&world.place.url, world.sql.host(), world.clock.clone()) };
    drop(world.sql);
    drop(world.database);
    let database = SqlDatabase::open(small).await.unwrap();
    let event = || event(&*world.ids, "");
    let slots: Vec<_> = (0..3).map(|_| database.reserve().unwrap()).collect();
    database.enqueue(event()).unwrap();
    assert!(matches!(database.enqueue(event()), Err(StorageError::Overloaded { .. })));
    assert!(matches!(database.append(event()).await, Err(StorageError::Overloaded { .. })));
    assert!(matches!(database.reserve().map(drop), Err(StorageError::Overloaded { .. })));
    // Writes that carry no event of their own still get through.
    assert_eq!(database.flush().await.unwrap().seq, 1);
    drop(slots);
    for _ in 0..4 {
        database.enqueue(event()).unwrap();
    }
    assert_eq!(verified(&*database).await.len(), 5);
}

pub(crate) async fn released_records_are_gone_and_the_chain_goes_on_behind_them(world: World) {
    let database = &world.database;
    assert_eq!(database.release(0).await.unwrap(), 0);
    for n in 0..2500 {
        database.enqueue(world.event(&n.to_string())).unwrap();
    }
    let head = database.flush().await.unwrap();
    let records = database.read_after(0, 3000).await.unwrap();
    // More than one transaction's worth.
    assert_eq!(database.release(2300).await.unwrap(), 2300);
    assert_eq!(database.release(2300).await.unwrap(), 0);
    assert_eq!(database.read_after(0, 3000).await.unwrap(), records[2300..]);
    assert_eq!(database.flush().await.unwrap(), head);
    assert_eq!(database.release(2500).await.unwrap(), 200);
    assert!(database.read_after(0, 1).await.unwrap().is_empty());
    let statistics = database.statistics().await.unwrap();
    assert_eq!((statistics.outbox_events, statistics.last_recorded_at), (0, Some(head.recorded_at)));

    // The head is in the books, so the chain goes on although there is nothing to read it from.
    world.database.close().await.unwrap();
    let again = world.again().await;
    assert_eq!(again.flush().await.unwrap(), head);
    again.append(world.event("next")).await.unwrap();
    let mut chain = head;
    let next = again.read_after(head.seq, 10).await.unwrap();
    chain.verify(&next[0]).unwrap();
    assert_eq!((next.len(), chain.seq), (1, 2501));
}

pub(crate) async fn records_that_are_not_durable_cannot_be_released(world: World) {
    world.database.append(world.event("one")).await.unwrap();
    assert!(matches!(world.database.release(2).await, Err(StorageError::Conflict(_))));
    assert!(matches!(world.database.release(u64::MAX >> 1).await, Err(StorageError::Conflict(_))));
    assert_eq!(world.recorded().await.len(), 1);
}

pub(crate) async fn a_release_concerns_no_other_host(world: World) {
    if world.place.backend == Backend::Sqlite {
        return; // It has one host.
    }
    let other = world.another_host().await;
    other.append(world.event("theirs")).await.unwrap();
    world.database.append(world.event("ours")).await.unwrap();
    assert_eq!(world.database.release(1).await.unwrap(), 1);
    assert_eq!(verified(&*other).await.len(), 1);
}

pub(crate) async fn the_database_does_not_grow_with_what_is_released(world: World) {
    let mut sizes = Vec::new();
    for round in 1..=6 {
        for _ in 0..1000 {
            world.database.enqueue(world.event(&"x".repeat(500))).unwrap();
        }
        world.database.flush().await.unwrap();
        world.database.release(round * 1000).await.unwrap();
        sizes.push(world.database.statistics().await.unwrap().bytes);
    }
    // PostgreSQL frees the space when it vacuums, which it does by itself and not at once.
    if world.place.backend == Backend::Sqlite {
        assert!(sizes[5] <= sizes[1] + sizes[1] / 10, "freed pages are used again: {sizes:?}");
    }
}

pub(crate) async fn an_event_with_a_nul_is_on_record_without_it(world: World) {
    world.database.enqueue(world.event("a\0")).unwrap();
    world.database.append(world.event("b\0")).await.unwrap();
    let records = world.database.read_after(0, 10).await.unwrap();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.record.contains('\u{2400}') && !record.record.contains("u0000")));
}

pub(crate) async fn closing_writes_what_is_queued_and_later_calls_fail(world: World) {
    let (slot, late) = (world.database.reserve().unwrap(), world.database.reserve().unwrap());
    for _ in 0..10 {
        world.database.enqueue(world.event("queued")).unwrap();
    }
    slot.fill(DueEvent::Admitted(world.event("slot"))).unwrap();
    world.database.close().await.unwrap();
    assert!(late.fill(DueEvent::Admitted(world.event("late"))).is_err());
    assert!(world.database.enqueue(world.event("late")).is_err());
    assert!(world.database.reserve().is_err());
    assert!(world.database.append(world.event("late")).await.is_err());
    assert!(world.database.ping().await.is_err());
    assert!(world.database.close().await.is_err());
    if world.place.backend == Backend::Sqlite {
        let log = world.place.folder().join("handshake.db-wal");
        assert!(!log.exists(), "the log is folded into the database");
    }

    let host = world.sql.host();
    let again = world.again().await;
    assert_eq!(again.host(), host);
    assert_eq!(verified(&*again).await.len(), 11);
}
