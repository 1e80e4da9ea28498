//! The outbox: order, durability, room, and the chain.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use handshake_core::storage::{Database, EventOutbox, StorageError};
use support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_is_contiguous_after_a_mixed_concurrent_load() {
    let world = Arc::new(World::new().await);
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
                    slot.fill(world.event("slot"));
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

#[tokio::test]
async fn events_keep_the_order_in_which_they_were_queued() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for n in 0..300 {
        let event = world.event(&n.to_string());
        expected.push(event.event_id());
        if n % 50 == 49 { world.database.append(event).await.unwrap() } else { world.database.enqueue(event).unwrap() }
    }
    assert_eq!(world.recorded().await, expected);
}

#[tokio::test]
async fn a_durable_write_takes_everything_queued_before_it_along() {
    let world = World::new().await;
    world.database.enqueue(world.event("one")).unwrap();
    let slot = world.database.reserve().unwrap();
    slot.fill(world.event("two"));
    world.database.append(world.event("three")).await.unwrap();
    assert_eq!(world.database.read_after(0, 10).await.unwrap().len(), 3);
    assert_eq!(world.database.read_after(1, 1).await.unwrap()[0].seq, 2);
    assert_eq!(world.database.flush().await.unwrap().seq, 3);
}

#[tokio::test]
async fn events_alone_become_durable_by_themselves() {
    let world = World::new().await;
    world.database.enqueue(world.event("lonely")).unwrap();
    tokio::time::timeout(Duration::from_secs(30), world.database.grown_past(0)).await.unwrap();
    assert_eq!(world.database.read_after(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn waiting_for_growth_returns_at_once_when_it_has_happened() {
    let world = World::new().await;
    world.database.append(world.event("one")).await.unwrap();
    world.database.grown_past(0).await;
    let waiting = tokio::time::timeout(Duration::from_millis(1), world.database.grown_past(1)).await;
    assert!(waiting.is_err(), "the chain has not grown past 1");
}

#[tokio::test]
async fn a_full_queue_refuses_and_has_room_again_when_its_events_are_durable() {
    let world = World::with_queue(4).await;
    let slots: Vec<_> = (0..3).map(|_| world.database.reserve().unwrap()).collect();
    world.database.enqueue(world.event("last room")).unwrap();
    assert!(matches!(world.database.enqueue(world.event("")), Err(StorageError::Overloaded { .. })));
    assert!(matches!(world.database.append(world.event("")).await, Err(StorageError::Overloaded { .. })));
    assert!(matches!(world.database.reserve().map(drop), Err(StorageError::Overloaded { .. })));
    // Writes that carry no event of their own still get through.
    assert_eq!(world.database.flush().await.unwrap().seq, 1);
    drop(slots);
    for _ in 0..4 {
        world.database.enqueue(world.event("")).unwrap();
    }
    assert_eq!(world.recorded().await.len(), 5);
}

#[tokio::test]
async fn an_event_with_a_nul_is_on_record_without_it() {
    let world = World::new().await;
    world.database.enqueue(world.event("a\0")).unwrap();
    world.database.append(world.event("b\0")).await.unwrap();
    let records = world.database.read_after(0, 10).await.unwrap();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.record.contains('\u{2400}') && !record.record.contains("u0000")));
}

#[tokio::test]
async fn closing_writes_what_is_queued_and_later_calls_fail() {
    let world = World::new().await;
    let slot = world.database.reserve().unwrap();
    for _ in 0..10 {
        world.database.enqueue(world.event("queued")).unwrap();
    }
    slot.fill(world.event("slot"));
    world.database.close().await.unwrap();
    assert!(world.database.enqueue(world.event("late")).is_err());
    assert!(world.database.reserve().is_err());
    assert!(world.database.append(world.event("late")).await.is_err());
    assert!(world.database.ping().await.is_err());
    assert!(world.database.close().await.is_err());
    assert!(!world.folder.path().join("handshake.db-wal").exists(), "the log is folded into the database");

    let again = support::open(world.folder.path(), world.clock.clone(), world.ids.clone(), 8).await;
    assert_eq!(again.host(), world.database.host());
    assert_eq!(support::verified(&again).await.len(), 11);
}

#[test]
fn acknowledged_events_survive_a_host_that_vanishes_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, ids) = (
        Arc::new(handshake_core::testing::FixedClock::default()),
        Arc::new(handshake_core::testing::SequentialIds::default()),
    );
    let mut acknowledged = Vec::new();
    let mut hosts = std::collections::HashSet::new();
    for _ in 0..3 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let database = support::open(folder.path(), clock.clone(), ids.clone(), 64).await;
            hosts.insert(database.host());
            for _ in 0..5 {
                let event = support::event(&*ids, "x");
                acknowledged.push(event.event_id());
                database.append(event).await.unwrap();
            }
            database.enqueue(support::event(&*ids, "perhaps lost")).unwrap();
            std::mem::forget(database);
        });
        runtime.shutdown_background();
    }
    assert_eq!(hosts.len(), 1, "the host keeps its id");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = support::open(folder.path(), clock.clone(), ids.clone(), 64).await;
        let recorded = support::verified(&database).await;
        assert!(acknowledged.iter().all(|id| recorded.contains(id)));
    });
}

#[cfg(unix)]
#[tokio::test]
async fn the_database_is_readable_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    world.database.append(world.event("x")).await.unwrap();
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handshake.db");
    std::fs::write(&path, "this is not a database, but long enough to be taken for the header of one").unwrap();
    let (clock, ids) = (
        Arc::new(handshake_core::testing::FixedClock::default()),
        Arc::new(handshake_core::testing::SequentialIds::default()),
    );
    let options = handshake_storage::SqliteOptions { path, clock, ids, queue: 8 };
    let error = handshake_storage::SqliteDatabase::open(options).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("not a database"), "{error:?}");
}
