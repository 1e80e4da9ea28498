//! A policy that is replaced while 64 tasks ask the gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use handshake_core::capability::{Axis, DenialLabel, Effect, Policy, PolicyInForce};
use handshake_core::event::{AdmittedEvent, DecisionRecord, Event, EventBody, Outcome};
use handshake_core::gate::{AttemptGate, AttemptPlace, GateServices};
use handshake_core::recorder::{EffectNote, FlightRecorder, OutcomeSlot, RecorderError};
use handshake_core::run::FencingToken;
use handshake_core::testing::{MemoryRecorder, SequentialIds};
use handshake_core::{Digest, JobId, RunId, StepId};
use handshake_tests::backends::RunningClock;
use handshake_tests::gates::{self, call};

const TASKS: usize = 64;
const CHANGES: usize = 20;

/// Takes a while to make a decision durable, as a disk does, so that calls are under way whenever the policy changes.
struct SlowRecorder(MemoryRecorder);

#[async_trait]
impl FlightRecorder for SlowRecorder {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError> {
        self.0.admit(event)
    }
    fn enqueue(&self, event: &Event) -> Result<(), RecorderError> {
        self.0.enqueue(event)
    }
    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError> {
        self.0.reserve()
    }
    async fn record_event(&self, event: &Event) -> Result<(), RecorderError> {
        self.0.record_event(event).await
    }
    async fn record_effect(&self, note: EffectNote, event: &Event) -> Result<(), RecorderError> {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        self.0.record_effect(note, event).await
    }
    async fn flush(&self) -> Result<(), RecorderError> {
        self.0.flush().await
    }
}

const AXES: &[Axis] = &[Axis::ModelInfer, Axis::ConfigRead];

fn policy(effect: Effect, name: &str) -> Policy {
    gates::policy(effect, AXES, name)
}

fn gate(in_force: &PolicyInForce, recorder: Arc<SlowRecorder>, ids: &Arc<SequentialIds>) -> AttemptGate {
    let place = AttemptPlace {
        job: JobId::fresh(&**ids),
        run: RunId::fresh(&**ids),
        step: StepId::new("ask").unwrap(),
        index: None,
        attempt: 1,
        fence: FencingToken(1),
    };
    let services = GateServices { recorder, clock: Arc::new(RunningClock::default()), ids: Arc::clone(ids) as _ };
    gates::gate(in_force, AXES, Some(place), services)
}

fn decisions(recorder: &SlowRecorder) -> Vec<DecisionRecord> {
    let records = recorder.0.events().into_iter().filter_map(|event| match event.body {
        EventBody::CapabilityAction(record) => Some(*record),
        _ => None,
    });
    records.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reload_under_load_loses_no_decision_and_lets_nothing_through_after_its_acknowledgement() {
    let in_force = PolicyInForce::new(policy(Effect::Allow, "allowing"));
    let recorder = Arc::new(SlowRecorder(MemoryRecorder::default()));
    let ids = Arc::new(SequentialIds::default());
    // Set while it is acknowledged that everything is denied.
    let revoked = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let gate = gate(&in_force, Arc::clone(&recorder), &ids);
        let (revoked, stop) = (Arc::clone(&revoked), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut calls = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                for axis in [Axis::ModelInfer, Axis::ConfigRead] {
                    let after = revoked.load(Ordering::SeqCst);
                    let answer = gate.permit(call(axis)).await;
                    calls += 1;
                    match answer {
                        Ok(permit) => {
                            // Allowed again before the call was made, or else it began before the revocation.
                            assert!(!(after && revoked.load(Ordering::SeqCst)), "let through after it was revoked");
                            permit.succeeded(0, 0);
                        }
                        Err(denial) => assert_eq!(denial.reason, DenialLabel::OperatorDenied),
                    }
                    tokio::task::yield_now().await;
                }
            }
            calls
        });
    }

    for _ in 0..CHANGES {
        let seen = recorder.0.events().len();
        while recorder.0.events().len() < seen + 2 * TASKS {
            tokio::task::yield_now().await;
        }
        in_force.replace(policy(Effect::Deny, "denying")).is_over().await;
        let acknowledged = decisions(&recorder).len();
        revoked.store(true, Ordering::SeqCst);
        let seen = recorder.0.events().len();
        while recorder.0.events().len() < seen + 2 * TASKS {
            tokio::task::yield_now().await;
        }
        let since: Vec<_> = decisions(&recorder).split_off(acknowledged);
        assert!(!since.is_empty());
        assert!(since.iter().all(|record| record.decision_outcome == Outcome::Deny), "on record after the answer");
        revoked.store(false, Ordering::SeqCst);
        in_force.replace(policy(Effect::Allow, "allowing")).is_over().await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut calls = 0;
    while let Some(made) = tasks.join_next().await {
        calls += made.unwrap();
    }

    let all = decisions(&recorder);
    assert_eq!(all.len() as u64, calls, "every call is one decision");
    for record in &all {
        let by = match record.decision_outcome {
            Outcome::Allow => b"allowing".as_slice(),
            Outcome::Deny => b"denying".as_slice(),
        };
        assert_eq!(record.policy_sha256, Digest::of(by), "the record names the policy that decided");
    }
    let outcomes = recorder.0.events().iter().filter(|event| event.body.event_type() == "capability_outcome").count();
    assert_eq!(outcomes, all.iter().filter(|record| record.decision_outcome == Outcome::Allow).count());
}

#[tokio::test]
async fn whoever_replaces_the_policy_waits_for_the_calls_that_are_under_way() {
    let in_force = PolicyInForce::new(policy(Effect::Allow, "allowing"));
    let held = in_force.current();
    let over = in_force.replace(policy(Effect::Deny, "denying")).is_over();
    tokio::pin!(over);
    assert!(futures::poll!(&mut over).is_pending());
    assert_eq!(in_force.current().policy().digest, Digest::of(b"denying"), "what begins now is under the new one");
    // Nor is it enough that only what came in between is over.
    let later = in_force.replace(policy(Effect::Deny, "denying again")).is_over();
    tokio::pin!(later);
    assert!(futures::poll!(&mut later).is_pending());
    drop(held);
    over.await;
    later.await;
}
