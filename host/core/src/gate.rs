//! The gate in front of everything that a step can ask for.
//!
//! A function that performs an effect takes a [`Permit`], and the only place that makes one is
//! [`AttemptGate`], after the decision is on record. A permit is finished with its outcome; one that is dropped
//! unfinished is recorded as `abandoned`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::budget::{Ask, BudgetMeter, Exceeded, Reservation};
use crate::capability::{
    Asked, Asking, Axis, Denial, DenialLabel, EffectiveRights, InForce, Layer, Observed, Resource, Verdict,
};
use crate::event::{Actor, DecisionRecord, Event, EventBody, Outcome, OutcomeRecord};
use crate::recorder::{EffectNote, FlightRecorder, OutcomeSlot, RecorderError};
use crate::run::FencingToken;
use crate::{Clock, Digest, EventId, Ids, JobId, RunId, SpanId, StepId, Timestamp, TraceId};

/// Which attempt asks. Made by the host; a guest cannot change any of it.
#[derive(Debug, Clone)]
pub struct AttemptIdentity {
    /// Trace.
    pub trace: TraceId,
    /// Who: plugin id and version, or a person.
    pub actor: Actor,
    /// SHA-256 of the component, if one asks.
    pub component_sha256: Option<Digest>,
    /// Span of the attempt.
    pub span: Option<SpanId>,
    /// Where it belongs; none for a person at the command line.
    pub place: Option<AttemptPlace>,
}

impl AttemptIdentity {
    /// What W3C trace context has servers be told: trace and span of the attempt. None outside a span.
    pub fn traceparent(&self) -> Option<String> {
        Some(format!("00-{}-{}-01", self.trace.w3c(), self.span?.w3c()?))
    }
}

/// Where an attempt belongs.
#[derive(Debug, Clone)]
pub struct AttemptPlace {
    /// Job.
    pub job: JobId,
    /// Run.
    pub run: RunId,
    /// Step.
    pub step: StepId,
    /// Position within `for_each`.
    pub index: Option<u32>,
    /// Attempt, from 1.
    pub attempt: u32,
    /// The run's fencing token when the attempt began.
    pub fence: FencingToken,
}

/// One call, as its host function describes it.
#[derive(Debug, Clone)]
pub struct Call {
    /// WIT interface with version.
    pub interface: &'static str,
    /// WIT function.
    pub function: &'static str,
    /// What it needs.
    pub axis: Axis,
    /// What it is about.
    pub resource: Resource,
    /// SHA-256 over its arguments.
    pub arguments: Digest,
}

/// Where everything of a gate comes from.
#[derive(Clone)]
pub struct GateServices {
    /// Takes the records.
    pub recorder: Arc<dyn FlightRecorder>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Event ids.
    pub ids: Arc<dyn Ids>,
}

/// Decides the calls of one attempt, numbers them and records them.
pub struct AttemptGate {
    shared: Arc<Shared>,
    rights: Arc<EffectiveRights>,
    budget: Arc<BudgetMeter>,
    calls: AtomicU64,
    /// Calls that have been decided since it was known that all records are durable.
    unsettled: AtomicU64,
    began: Timestamp,
    asked: OnceLock<Asked>,
}

struct Shared {
    identity: AttemptIdentity,
    services: GateServices,
    /// The first permit that was shown for something else.
    violation: OnceLock<WrongPermit>,
}

impl Shared {
    fn event(&self, body: EventBody, capability: &str) -> Event {
        let services = &self.services;
        let mut event = Event::new(
            EventId::fresh(&*services.ids),
            self.identity.trace,
            services.clock.now(),
            self.identity.actor.clone(),
            body,
        );
        if let Some(place) = &self.identity.place {
            event.job_id = Some(place.job);
            event.workflow_run_id = Some(place.run);
            event.step_id = Some(place.step.clone());
        }
        event.activity_span_id = self.identity.span;
        event.capability_id = Some(capability.to_owned());
        event
    }
}

/// An allowed call whose decision must still be recorded.
struct Decided {
    call_number: u64,
    capability: String,
    resource: String,
    decision: Event,
    started: Duration,
}

impl AttemptGate {
    /// A gate for one attempt, which may spend without end.
    pub fn new(identity: AttemptIdentity, rights: Arc<EffectiveRights>, services: GateServices) -> Self {
        let began = services.clock.now();
        let shared = Arc::new(Shared { identity, services, violation: OnceLock::new() });
        let (calls, unsettled) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shared, rights, budget: Arc::default(), calls, unsettled, began, asked: OnceLock::new() }
    }

    /// Bounds what its calls of models use together with all others that share the meter.
    pub fn within(self, budget: Arc<BudgetMeter>) -> Self {
        Self { budget, ..self }
    }

    /// Who asks.
    pub fn identity(&self) -> &AttemptIdentity {
        &self.shared.identity
    }

    /// The first permit that was shown for what it does not allow, if that has happened: whoever runs the attempt ends it.
    pub fn violation(&self) -> Option<&WrongPermit> {
        self.shared.violation.get()
    }

    /// What a person has to be asked for, if a call has come to that: the attempt ends, since the answer may take days.
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.get()
    }

    /// The rights that decide.
    pub fn rights(&self) -> &EffectiveRights {
        &self.rights
    }

    /// Asks for a permit. For effectful axes it returns only when the decision is durable, the fencing token was
    /// found valid and the effect is noted with the attempt.
    pub async fn permit(&self, call: Call) -> Result<Permit, Denial> {
        self.permit_answer(call, None).await
    }

    /// The same for a request that the values of these secrets go along with: the record names them.
    pub async fn permit_with(&self, call: Call, secrets: Vec<String>) -> Result<Permit, Denial> {
        self.pace().await;
        let (axis, resource) = (call.axis, call.resource.clone());
        // Held until the permit is given: whoever replaces the policy waits for what was begun under it.
        let in_force = self.rights.policy.current();
        let mut decided = self.decide(call, &in_force)?;
        if let EventBody::CapabilityAction(record) = &mut decided.decision.body {
            record.secrets = secrets;
        }
        self.record(axis, &resource, decided, None).await
    }

    /// The same for a call that asks a model for an answer of at most so many tokens. What it may really have is
    /// [`Permit::max_tokens`].
    pub async fn permit_answer(&self, call: Call, max_tokens: Option<u32>) -> Result<Permit, Denial> {
        self.pace().await;
        let (axis, resource) = (call.axis, call.resource.clone());
        if !axis.is_effectful() {
            return self.permit_now(call);
        }
        let mut reserved = self.reserve_budget(&call, max_tokens).await;
        // Held until the permit is given: whoever replaces the policy waits for what was begun under it.
        let in_force = self.rights.policy.current();
        let decided = self.decide(call, &in_force)?;
        if reserved.is_none()
            && let Some(ask) = budgeted(axis, max_tokens)
        {
            // What was refused a moment ago is allowed by a policy that has come into force since.
            reserved = Some(self.budget.reserve(ask).await);
        }
        let reservation = match reserved.transpose() {
            Ok(reservation) => reservation,
            Err(exceeded) => {
                let (reason, layer) = (DenialLabel::BudgetExceeded, Layer::Budget);
                let remedy = format!("{exceeded}; {}", exceeded.remedy());
                return Err(self.refuse(axis, &resource, decided, (reason, layer), &remedy));
            }
        };
        self.record(axis, &resource, decided, reservation).await
    }

    /// Makes an allowed decision durable, and gives the permit.
    async fn record(
        &self,
        axis: Axis,
        resource: &Resource,
        decided: Decided,
        reservation: Option<Reservation>,
    ) -> Result<Permit, Denial> {
        let (slot, decided) = self.reserve(axis, resource, decided)?;
        let recorder = &self.shared.services.recorder;
        let recorded = match &self.shared.identity.place {
            Some(place) => {
                let note = EffectNote {
                    run: place.run,
                    step: place.step.clone(),
                    index: place.index,
                    attempt: place.attempt,
                    fence: place.fence,
                    call: decided.call_number,
                    capability: decided.capability.clone(),
                    resource: decided.resource.clone(),
                };
                recorder.record_effect(note, &decided.decision).await
            }
            None => recorder.record_event(&decided.decision).await,
        };
        match recorded {
            Ok(()) => {
                // What came before it is durable, too.
                self.unsettled.store(0, Ordering::Relaxed);
                let mut permit = self.grant(axis, decided, slot);
                permit.reservation = reservation;
                permit.reservation.iter_mut().for_each(Reservation::make);
                Ok(permit)
            }
            // Nothing was written, so the refusal goes on record under the same event id.
            Err(error @ RecorderError::Fenced) => {
                let refusal = (label_of(&error), Layer::Recorder);
                Err(self.refuse(axis, resource, decided, refusal, &remedy_of(&error)))
            }
            Err(error) => Err(self.unrecorded(axis, resource, &error)),
        }
    }

    /// Gives a permit for a reading axis, whose records may be batched.
    fn permit_now(&self, call: Call) -> Result<Permit, Denial> {
        let (axis, resource) = (call.axis, call.resource.clone());
        let in_force = self.rights.policy.current();
        let decided = self.decide(call, &in_force)?;
        let (slot, decided) = self.reserve(axis, &resource, decided)?;
        let recorded = self.shared.services.recorder.enqueue(&decided.decision);
        recorded.map_err(|error| self.unrecorded(axis, &resource, &error))?;
        Ok(self.grant(axis, decided, slot))
    }

    /// Waits, after so many calls since the last durable one, until what they left is durable. A guest that asks faster
    /// than the disk writes waits for its own records here. Otherwise they would fill the recorder's queue, which denies
    /// its neighbours, and be in the commits that these wait for.
    async fn pace(&self) {
        if self.unsettled.load(Ordering::Relaxed) >= UNSETTLED_CALLS {
            // What cannot be recorded is denied when it is.
            let _ = self.shared.services.recorder.flush().await;
            self.unsettled.store(0, Ordering::Relaxed);
        }
    }

    /// Refuses a call whatever the rights say of it, because of something that they do not know, and records that: one
    /// decision, as for every call. When the rights refuse it too, theirs is the reason.
    pub async fn refuse_call(&self, call: Call, reason: DenialLabel, layer: Layer, remedy: &str) -> Denial {
        self.pace().await;
        let (axis, resource) = (call.axis, call.resource.clone());
        match self.decide(call, &self.rights.policy.current()) {
            Ok(decided) => self.refuse(axis, &resource, decided, (reason, layer), remedy),
            Err(denial) => denial,
        }
    }

    /// Counts a call of a model; nothing when the rights refuse it anyway, or when it is none.
    ///
    /// It comes before the decision that is recorded, because it can wait, and the record is to bear the time at which
    /// the call was really let through.
    async fn reserve_budget(&self, call: &Call, max_tokens: Option<u32>) -> Option<Result<Reservation, Exceeded>> {
        let ask = budgeted(call.axis, max_tokens)?;
        match self.verdict(&self.rights.policy.current(), call.axis, &call.resource) {
            Verdict::Allowed { .. } => Some(self.budget.reserve(ask).await),
            Verdict::Denied { .. } | Verdict::Asks { .. } => None,
        }
    }

    /// Whether such a call would be let through now, or once a person has said yes. Decides nothing.
    pub fn may_allow(&self, axis: Axis, resource: &Resource) -> bool {
        !matches!(self.verdict(&self.rights.policy.current(), axis, resource), Verdict::Denied { .. })
    }

    fn verdict(&self, in_force: &InForce, axis: Axis, resource: &Resource) -> Verdict {
        let asking = Asking {
            place: self.shared.identity.place.as_ref(),
            workspace: None,
            began: self.began,
            now: self.shared.services.clock.now(),
        };
        self.rights.decide_under(in_force, axis, resource, &asking)
    }

    fn decide(&self, call: Call, in_force: &InForce) -> Result<Decided, Denial> {
        let clock = &self.shared.services.clock;
        let started = clock.monotonic();
        let verdict = self.verdict(in_force, call.axis, &call.resource);
        let evaluation_ns = u64::try_from((clock.monotonic().saturating_sub(started)).as_nanos()).unwrap_or(u64::MAX);

        let place = self.shared.identity.place.as_ref();
        let resource = bounded(call.resource.to_string());
        let (outcome, layer, reason, rule, would_deny, grant) = match &verdict {
            Verdict::Allowed { rule, observed, grant } => {
                (Outcome::Allow, Layer::Policy, None, rule.clone(), *observed == Observed::WouldDeny, *grant)
            }
            Verdict::Denied { denial, rule } => {
                (Outcome::Deny, denial.layer, Some(denial.reason), rule.clone(), false, None)
            }
            Verdict::Asks { denial, asked } => {
                (Outcome::Deny, denial.layer, Some(denial.reason), Some(asked.rule.clone()), false, None)
            }
        };
        let call_number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        let capability = call.axis.name().to_owned();
        let record = DecisionRecord {
            capability_id: capability.clone(),
            actor_id: self.shared.identity.actor.id.clone(),
            job_id: place.map(|place| place.job),
            decision_outcome: outcome,
            index: place.and_then(|place| place.index),
            attempt: place.map_or(0, |place| place.attempt),
            call: call_number,
            component_sha256: self.shared.identity.component_sha256,
            interface: call.interface.to_owned(),
            function: call.function.to_owned(),
            resource: resource.clone(),
            host_path: match call.resource {
                Resource::Path { host, .. } => Some(host),
                _ => None,
            },
            secrets: Vec::new(),
            reason,
            layer,
            rule,
            mode: in_force.policy().mode,
            would_deny,
            grant,
            policy_sha256: in_force.policy().digest,
            manifest_sha256: self.rights.manifest_sha256,
            arguments_sha256: call.arguments,
            evaluation_ns,
        };
        let decision = self.shared.event(EventBody::CapabilityAction(Box::new(record)), &capability);
        if let (Verdict::Asks { asked, .. }, Some(_)) = (&verdict, place) {
            self.asked.get_or_init(|| (**asked).clone());
        }
        match verdict {
            Verdict::Allowed { .. } => Ok(Decided { call_number, capability, resource, decision, started }),
            Verdict::Denied { denial, .. } | Verdict::Asks { denial, .. } => {
                // A denial that cannot be recorded is still a denial; the guest learns that the record is missing.
                match self.shared.services.recorder.enqueue(&decision) {
                    Ok(()) => Err(denial),
                    Err(error) => Err(Denial {
                        remedy: remedy_of(&error),
                        reason: label_of(&error),
                        layer: Layer::Recorder,
                        ..denial
                    }),
                }
            }
        }
    }

    fn reserve(
        &self,
        axis: Axis,
        resource: &Resource,
        decided: Decided,
    ) -> Result<(Box<dyn OutcomeSlot>, Decided), Denial> {
        match self.shared.services.recorder.reserve() {
            Ok(slot) => Ok((slot, decided)),
            Err(error) => {
                let refusal = (label_of(&error), Layer::Recorder);
                Err(self.refuse(axis, resource, decided, refusal, &remedy_of(&error)))
            }
        }
    }

    /// Denies after all what the rights allow, and records that instead: every check is one decision (R6.6).
    fn refuse(
        &self,
        axis: Axis,
        resource: &Resource,
        mut decided: Decided,
        (reason, layer): (DenialLabel, Layer),
        remedy: &str,
    ) -> Denial {
        if let EventBody::CapabilityAction(record) = &mut decided.decision.body {
            record.decision_outcome = Outcome::Deny;
            record.reason = Some(reason);
            record.layer = layer;
            record.would_deny = false;
            record.grant = None;
            record.secrets.clear();
        }
        match self.shared.services.recorder.enqueue(&decided.decision) {
            Ok(()) => Denial::outside_rights(axis, resource, reason, layer, remedy),
            Err(error) => self.unrecorded(axis, resource, &error),
        }
    }

    fn unrecorded(&self, axis: Axis, resource: &Resource, error: &RecorderError) -> Denial {
        Denial::outside_rights(axis, resource, label_of(error), Layer::Recorder, &remedy_of(error))
    }

    fn grant(&self, axis: Axis, decided: Decided, slot: Box<dyn OutcomeSlot>) -> Permit {
        Permit {
            axis,
            decision: decided.decision.event_id,
            capability: decided.capability,
            call: decided.call_number,
            started: decided.started,
            shared: Arc::clone(&self.shared),
            slot: Some(slot),
            reservation: None,
        }
    }
}

/// What a call takes from the budget; none for calls that are not budgeted.
fn budgeted(axis: Axis, max_tokens: Option<u32>) -> Option<Ask> {
    match axis {
        Axis::ModelInfer => Some(Ask::Answer(max_tokens)),
        Axis::ModelEmbed => Some(Ask::Vectors),
        _ => None,
    }
}

/// Calls of an attempt whose records, two each, may be on their way to the disk at the same time: so few that hundreds of
/// attempts find room in the recorder's queue.
const UNSETTLED_CALLS: u64 = 32;

/// Bytes of a resource that a record shows. Guests choose names of any length.
const MAX_RESOURCE_BYTES: usize = 4 << 10;

/// Cuts a long resource and says which one it was by its hash. No database stores U+0000.
fn bounded(resource: String) -> String {
    let resource = if resource.contains('\0') { resource.replace('\0', "\u{2400}") } else { resource };
    if resource.len() <= MAX_RESOURCE_BYTES {
        return resource;
    }
    let digest = Digest::of(resource.as_bytes());
    let shown = resource.get(..resource.floor_char_boundary(MAX_RESOURCE_BYTES)).unwrap_or_default();
    format!("{shown}… ({} bytes, sha256 {digest})", resource.len())
}

fn label_of(error: &RecorderError) -> DenialLabel {
    match error {
        RecorderError::Fenced => DenialLabel::Expired,
        _ => DenialLabel::RecorderUnavailable,
    }
}

fn remedy_of(error: &RecorderError) -> String {
    format!("{error}; nothing was done")
}

/// Proof that one call was decided and recorded. Cannot be made, copied or kept beyond its outcome.
pub struct Permit {
    axis: Axis,
    decision: EventId,
    capability: String,
    call: u64,
    started: Duration,
    shared: Arc<Shared>,
    slot: Option<Box<dyn OutcomeSlot>>,
    reservation: Option<Reservation>,
}

/// A permit was shown for something that it does not allow: a fault of the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a permit for `{held}` was shown where `{needed}` is needed")]
pub struct WrongPermit {
    held: Axis,
    needed: Axis,
}

impl Permit {
    /// Checks that the permit is for this axis. Whoever performs an effect calls it first. That it is not remains with
    /// the gate, whatever the caller makes of the error.
    pub fn require(&self, needed: Axis) -> Result<(), WrongPermit> {
        if self.axis == needed {
            return Ok(());
        }
        let wrong = WrongPermit { held: self.axis, needed };
        self.shared.violation.get_or_init(|| wrong.clone());
        Err(wrong)
    }

    /// The decision's event.
    pub fn decision(&self) -> EventId {
        self.decision
    }

    /// Which attempt it was given to.
    pub fn identity(&self) -> &AttemptIdentity {
        &self.shared.identity
    }

    /// The most tokens that the answer of a model may have: what was asked for, lowered to what the budget has left.
    pub fn max_tokens(&self, asked: Option<u32>) -> Option<u32> {
        self.reservation.as_ref().map_or(asked, |reservation| reservation.max_tokens(asked))
    }

    /// Tells the budget what the call has used.
    pub fn spent(&mut self, tokens: u64) {
        if let Some(reservation) = self.reservation.take() {
            reservation.settle(tokens);
        }
    }

    /// Finishes with success.
    pub fn succeeded(mut self, bytes_in: u64, bytes_out: u64) {
        self.finish("ok", bytes_in, bytes_out);
    }

    /// Finishes with an error; the label is short and stable, for example `not-found`.
    pub fn failed(mut self, label: &str) {
        self.finish(label, 0, 0);
    }

    /// Finishes with an error after bytes have gone one way or the other.
    pub fn broke_off(mut self, label: &str, bytes_in: u64, bytes_out: u64) {
        self.finish(label, bytes_in, bytes_out);
    }

    fn finish(&mut self, result: &str, bytes_in: u64, bytes_out: u64) {
        let Some(slot) = self.slot.take() else { return };
        let elapsed = self.shared.services.clock.monotonic().saturating_sub(self.started);
        let body = EventBody::CapabilityOutcome(OutcomeRecord {
            decision: self.decision,
            capability_id: self.capability.clone(),
            call: self.call,
            result: result.to_owned(),
            bytes_in,
            bytes_out,
            duration_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        });
        let mut event = self.shared.event(body, &self.capability);
        event.policy_decision_id = Some(self.decision);
        slot.fill(event);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.finish("abandoned", 0, 0);
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("axis", &self.axis).field("decision", &self.decision).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
