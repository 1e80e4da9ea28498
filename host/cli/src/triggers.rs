//! Fires triggers while this process takes jobs: when the next one is due, and at the start.

use std::sync::Arc;
use std::time::Duration;

use handshake_core::event::Actor;

use crate::host::HostState;

/// The longest pause between two looks: another host that shares the database may have added a trigger.
const LONGEST: Duration = Duration::from_secs(5);
/// The shortest one. Triggers are at least a second apart; half of that keeps a look that comes late from being late
/// for the next time as well.
const SHORTEST: Duration = Duration::from_millis(500);

/// Looks at once, and whenever a trigger is due or was added.
pub(crate) async fn keep_firing(state: Arc<HostState>) {
    loop {
        fire(&state).await;
        let pause = pause(&state).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = state.trigger_added.notified() => {}
        }
    }
}

async fn fire(state: &Arc<HostState>) {
    if state.is_held() {
        return;
    }
    // Keeps the process from ending between the storing of a job and its beginning.
    let Some(_open) = state.executions.admit() else { return };
    match state.engine.fire_due().await {
        Ok(jobs) => {
            for job in jobs {
                state.start_projection();
                state.executions.start(state.engine.clone(), job.run_id, job.job_id, Actor::system());
            }
        }
        // The next look tries again.
        Err(error) => tracing::warn!(%error, "cannot look for triggers that are due"),
    }
}

async fn pause(state: &HostState) -> Duration {
    match state.engine.next_due().await {
        Ok(Some(next)) => next.since(state.gate.clock.now()).clamp(SHORTEST, LONGEST),
        Ok(None) | Err(_) => LONGEST,
    }
}
