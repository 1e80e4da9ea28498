//! Attempts share one recorder. One that asks as fast as it can takes no room from the others.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use handshake_core::HostId;
use handshake_core::capability::{Axis, Effect, PolicyInForce};
use handshake_core::gate::{AttemptGate, GateServices};
use handshake_core::storage::{Database, EventOutbox};
use handshake_core::testing::{NoRedaction, SequentialIds};
use handshake_recorder::Recorder;
use handshake_storage::{DatabaseOptions, SqlDatabase};
use handshake_tests::backends::RunningClock;
use handshake_tests::gates::{call, gate, policy};
use handshake_tests::postgres::backends;
use handshake_tests::storage::{Place, options};

const AXES: &[Axis] = &[Axis::ConfigRead, Axis::ModelInfer];
const FLOODERS: usize = 8;
/// Far more than there is room for.
const FLOOD: usize = 3_000;
const ROOM: usize = 1_024;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_calls_denies_nobody_anything() {
    for backend in backends() {
        let place = Place::new(backend).await;
        let clock = Arc::new(RunningClock::default());
        let ids = Arc::new(SequentialIds::default());
        let options = options(&place.url, HostId::fresh(&*ids), clock.clone());
        let database = SqlDatabase::open(DatabaseOptions { queue: ROOM, ..options }).await.unwrap();
        let outbox = Arc::clone(&database) as Arc<dyn EventOutbox>;
        let recorder = Arc::new(Recorder::new(outbox, Arc::new(NoRedaction), clock.clone()));
        let in_force = PolicyInForce::new(policy(Effect::Allow, AXES, "allowing"));
        let attempt = || {
            gate(
                &in_force,
                AXES,
                None,
                GateServices { recorder: recorder.clone(), clock: clock.clone(), ids: ids.clone() },
            )
        };

        let mut flooders = tokio::task::JoinSet::new();
        for _ in 0..FLOODERS {
            flooders.spawn(asks(attempt(), &[Axis::ConfigRead], FLOOD));
        }
        // A decision and an outcome each; the neighbour's among them.
        let neighbour = asks(attempt(), AXES, 100).await;
        assert_eq!(neighbour, Ok(()), "{backend:?}");
        while let Some(flooded) = flooders.join_next().await {
            assert_eq!(flooded.unwrap(), Ok(()), "{backend:?}");
        }
        let recorded = database.flush().await.unwrap().seq;
        assert!(recorded >= 2 * (FLOODERS * FLOOD + 100) as u64, "{recorded} on record");
        database.close().await.unwrap();
    }
}

/// Asks again and again, and tells the first denial.
async fn asks(gate: AttemptGate, axes: &'static [Axis], times: usize) -> Result<(), String> {
    for axis in axes.iter().cycle().take(times) {
        gate.permit(call(*axis)).await.map_err(|denial| denial.to_string())?.succeeded(0, 0);
    }
    Ok(())
}
