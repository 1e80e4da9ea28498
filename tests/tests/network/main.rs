//! Guests that use the network, the environment and secrets: what is allowed is one decision, one effect and one outcome;
//! what is not is one decision, no effect, and an error that the standard library understands.
//!
//! Servers listen on the loopback device, and names are answered by a list: nothing leaves this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod binary;
mod environment;
mod escapes;
mod requests;
mod secrets;
mod server;
mod sockets;

use handshake_core::event::{DecisionRecord, EventBody, Outcome, OutcomeRecord};
use handshake_core::step::StepFailure;
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::{Value, json};

/// Has the guest make these calls and gives what became of them.
async fn attempt(runtime: &TestRuntime, rights: &Rights, calls: Value) -> Result<Vec<Value>, StepFailure> {
    let outcome = runtime.run("client", json!({ "calls": calls }), rights).await?;
    Ok(outcome.output["done"].as_array().unwrap().clone())
}

/// The same for one call that does not end the step.
async fn call(runtime: &TestRuntime, rights: &Rights, call: Value) -> Value {
    attempt(runtime, rights, json!([call])).await.unwrap().remove(0)
}

fn request(authority: &str, path: &str) -> Value {
    json!({ "do": "request", "scheme": "http", "authority": authority, "path": path })
}

fn on(runtime: &TestRuntime, axis: &str) -> Vec<DecisionRecord> {
    runtime.decisions().into_iter().filter(|decision| decision.capability_id == axis).collect()
}

fn outcomes(runtime: &TestRuntime, axis: &str) -> Vec<OutcomeRecord> {
    let events = runtime.recorder.events();
    let outcomes = events.into_iter().filter_map(|event| match event.body {
        EventBody::CapabilityOutcome(outcome) if outcome.capability_id == axis => Some(outcome),
        _ => None,
    });
    outcomes.collect()
}

/// Exactly one decision on the axis, with this outcome; it says about what it was.
fn only_decision(runtime: &TestRuntime, axis: &str, expected: Outcome) -> DecisionRecord {
    let mut decisions = on(runtime, axis);
    assert_eq!(decisions.len(), 1, "{decisions:#?}");
    assert_eq!(decisions[0].decision_outcome, expected, "{:#?}", decisions[0]);
    decisions.remove(0)
}

/// Exactly one outcome on the axis.
fn only_outcome(runtime: &TestRuntime, axis: &str) -> OutcomeRecord {
    let mut outcomes = outcomes(runtime, axis);
    assert_eq!(outcomes.len(), 1, "{outcomes:#?}");
    outcomes.remove(0)
}
