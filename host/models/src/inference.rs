//! The record of one model call: exactly one `llm_inference` event, whatever becomes of the call (R6.6).

use std::time::Duration;

use handshake_core::capability::Axis;
use handshake_core::event::{Event, EventBody};
use handshake_core::gate::{GateServices, Permit};
use handshake_core::model::{ModelError, TokenUsage};
use handshake_core::recorder::{OutcomeSlot, RecorderError};
use handshake_core::{Digest, EventId};

/// A model's name comes from a guest; what goes on record is bounded.
const LONGEST_NAME: usize = 128;

/// A call that has begun. Dropped unfinished, as when its future is dropped, it is recorded as `cancelled`.
pub(crate) struct Inference<'a> {
    slot: Option<Box<dyn OutcomeSlot>>,
    services: &'a GateServices,
    permit: &'a Permit,
    axis: Axis,
    model: String,
    prompt_hash: Digest,
    started: Duration,
}

impl<'a> Inference<'a> {
    /// Reserves room for the event before the call is made; without it the call must not be made.
    pub(crate) fn begin(
        services: &'a GateServices,
        permit: &'a Permit,
        axis: Axis,
        model: &str,
        prompt_hash: Digest,
    ) -> Result<Self, RecorderError> {
        let slot = services.recorder.reserve()?;
        let model =
            if model.len() <= LONGEST_NAME { model.to_owned() } else { model.chars().take(LONGEST_NAME).collect() };
        // An empty name would leave the event's model empty.
        let model = if model.is_empty() { "(none)".to_owned() } else { model };
        Ok(Self { slot: Some(slot), services, permit, axis, model, prompt_hash, started: services.clock.monotonic() })
    }

    /// Records a success.
    pub(crate) fn succeeded(mut self, usage: TokenUsage, response_hash: Digest) {
        self.record(usage, Some(response_hash), None);
    }

    /// Records a failure.
    pub(crate) fn failed(mut self, error: &ModelError) {
        self.record(TokenUsage::default(), None, Some(error.label()));
    }

    fn record(&mut self, token_usage: TokenUsage, response_hash: Option<Digest>, error: Option<&str>) {
        let Some(slot) = self.slot.take() else { return };
        let GateServices { clock, ids, .. } = self.services;
        let identity = self.permit.identity();
        let latency = clock.monotonic().saturating_sub(self.started);
        let body = EventBody::LlmInference {
            trace_id: identity.trace,
            model_id: self.model.clone(),
            token_usage,
            latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
            prompt_hash: self.prompt_hash,
            response_hash,
            error: error.map(str::to_owned),
        };
        let mut event = Event::new(EventId::fresh(&**ids), identity.trace, clock.now(), identity.actor.clone(), body);
        if let Some(place) = &identity.place {
            event.job_id = Some(place.job);
            event.workflow_run_id = Some(place.run);
            event.step_id = Some(place.step.clone());
        }
        event.model_id = Some(self.model.clone());
        event.activity_span_id = identity.span;
        // Whether it was asked for text or for vectors.
        event.capability_id = Some(self.axis.name().to_owned());
        event.policy_decision_id = Some(self.permit.decision());
        slot.fill(event);
    }
}

impl Drop for Inference<'_> {
    fn drop(&mut self) {
        self.record(TokenUsage::default(), None, Some("cancelled"));
    }
}
