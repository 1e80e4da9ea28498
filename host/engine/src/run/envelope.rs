//! Events of a run: the envelope that they share, and the ones that the engine itself writes.

use std::collections::BTreeMap;
use std::time::Duration;

use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::job::{AiJob, JobEvent, JobState};
use handshake_core::node::NodeKey;
use handshake_core::recorder::RecorderError;
use handshake_core::step::Usage;
use handshake_core::{ApprovalId, EventId, JobId, RunId, SpanId, StepId, TraceId};

use crate::engine::{EngineError, EngineServices};

/// From a job's creation to its end, milliseconds (R2.6).
const JOB_LATENCY: &str = "hsk.job.latency";
/// Tokens of models that a job has used (R2.6).
const JOB_TOKENS: &str = "hsk.job.tokens";
/// From the beginning of an attempt of a step to its end, milliseconds (R2.6).
const STEP_DURATION: &str = "hsk.workflow.step_duration";
/// What an attempt of a step has used, as [`Usage`] counts it.
const STEP_MEMORY: &str = "hsk.step.memory_bytes";
const STEP_CALLS: &str = "hsk.step.host_calls";
const STEP_FUEL: &str = "hsk.step.fuel";
/// What measurements of the host's own begin with.
const OWN: &str = "hsk.";

/// What all events of a run have in common.
///
/// The span of a job bears the job's own id, and so does that of a run: its end is perhaps written by another
/// process than its start.
pub(crate) struct Envelope<'a> {
    pub(crate) services: &'a EngineServices,
    pub(crate) job: JobId,
    pub(crate) run: RunId,
    pub(crate) trace: TraceId,
}

impl Envelope<'_> {
    fn event(&self, actor: Actor, body: EventBody) -> Event {
        let services = self.services;
        let mut event = Event::new(EventId::fresh(&*services.ids), self.trace, services.clock.now(), actor, body);
        event.job_id = Some(self.job);
        event.workflow_run_id = Some(self.run);
        event
    }

    /// An event of the run.
    pub(crate) fn admit(&self, actor: Actor, body: EventBody) -> Result<AdmittedEvent, RecorderError> {
        self.services.recorder.admit(&self.event(actor, body))
    }

    fn span(&self, span: SpanId, actor: &Actor, body: EventBody) -> Result<AdmittedEvent, RecorderError> {
        let mut event = self.event(actor.clone(), body);
        event.activity_span_id = Some(span);
        self.services.recorder.admit(&event)
    }

    pub(crate) fn job_transition(
        &self,
        from_state: Option<JobState>,
        to_state: JobState,
        reason: &str,
        actor: &Actor,
    ) -> Result<AdmittedEvent, RecorderError> {
        let body = EventBody::JobTransition { from_state, to_state, reason: reason.to_owned() };
        self.span(SpanId::from_uuid(self.job.uuid()), actor, body)
    }

    /// Moves the job on, and returns the event of it.
    pub(crate) fn moves(
        &self,
        job: &mut AiJob,
        event: JobEvent,
        reason: String,
        by: &Actor,
    ) -> Result<AdmittedEvent, EngineError> {
        let before = job.state;
        job.state = before.after(event)?;
        job.status_reason = self.services.words().message(reason);
        job.updated_at = self.services.clock.now();
        Ok(self.job_transition(Some(before), job.state, &job.status_reason, by)?)
    }

    /// A question to people, or its answer.
    pub(crate) fn approval(
        &self,
        id: ApprovalId,
        step: &StepId,
        decision: &str,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<AdmittedEvent, RecorderError> {
        let body = EventBody::Approval { approval_id: Some(id), decision: decision.to_owned(), reason, grant: None };
        let mut event = self.event(actor.clone(), body);
        event.step_id = Some(step.clone());
        self.services.recorder.admit(&event)
    }

    pub(crate) fn job_span_start(&self, job: &AiJob, actor: &Actor) -> Result<AdmittedEvent, RecorderError> {
        let body = EventBody::SpanStart { span: "job".to_owned(), name: job.protocol_id.clone(), attempt: None };
        self.span(SpanId::from_uuid(self.job.uuid()), actor, body)
    }

    pub(crate) fn job_span_end(&self, job: &AiJob, result: &str) -> Result<AdmittedEvent, RecorderError> {
        let lasted = self.services.clock.now().since(job.created_at);
        let metrics = [(JOB_LATENCY, milliseconds(lasted)), (JOB_TOKENS, number(job.metrics.total_tokens))];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        let body = span_end("job", job.protocol_id.clone(), result, lasted, metrics);
        self.span(SpanId::from_uuid(self.job.uuid()), &Actor::system(), body)
    }

    pub(crate) fn run_span_start(&self, job: &AiJob) -> Result<AdmittedEvent, RecorderError> {
        let body = EventBody::SpanStart { span: "run".to_owned(), name: job.protocol_id.clone(), attempt: None };
        self.span(SpanId::from_uuid(self.run.uuid()), &Actor::system(), body)
    }

    pub(crate) fn run_span_end(
        &self,
        job: &AiJob,
        result: &str,
        lasted: Duration,
    ) -> Result<AdmittedEvent, RecorderError> {
        let body = span_end("run", job.protocol_id.clone(), result, lasted, BTreeMap::new());
        self.span(SpanId::from_uuid(self.run.uuid()), &Actor::system(), body)
    }

    pub(crate) fn step_span_start(
        &self,
        span: SpanId,
        node: &NodeKey,
        attempt: u32,
    ) -> Result<AdmittedEvent, RecorderError> {
        let body = EventBody::SpanStart { span: "step".to_owned(), name: node.to_string(), attempt: Some(attempt) };
        self.step_span(span, node, body)
    }

    pub(crate) fn step_span_end(
        &self,
        span: SpanId,
        node: &NodeKey,
        result: &str,
        (lasted, used): (Duration, Option<Usage>),
        mut metrics: BTreeMap<String, f64>,
    ) -> Result<AdmittedEvent, RecorderError> {
        // Whatever a step calls its own measurements, these are the host's.
        metrics.retain(|name, _| !name.starts_with(OWN));
        metrics.insert(STEP_DURATION.to_owned(), milliseconds(lasted));
        if let Some(Usage { memory_bytes, host_calls, fuel }) = used {
            metrics.insert(STEP_MEMORY.to_owned(), number(memory_bytes));
            metrics.insert(STEP_CALLS.to_owned(), number(host_calls));
            metrics.extend(fuel.map(|fuel| (STEP_FUEL.to_owned(), number(fuel))));
        }
        self.step_span(span, node, span_end("step", node.to_string(), result, lasted, metrics))
    }

    fn step_span(&self, span: SpanId, node: &NodeKey, body: EventBody) -> Result<AdmittedEvent, RecorderError> {
        let mut event = self.event(Actor::system(), body);
        event.activity_span_id = Some(span);
        event.step_id = Some(node.step.clone());
        self.services.recorder.admit(&event)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Exact up to 2^53, far beyond any count of tokens.
fn number(count: u64) -> f64 {
    count as f64
}

fn span_end(span: &str, name: String, result: &str, lasted: Duration, mut metrics: BTreeMap<String, f64>) -> EventBody {
    // What has no form in JSON cannot be recorded.
    metrics.retain(|_, value| value.is_finite());
    let duration_us = u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX);
    EventBody::SpanEnd { span: span.to_owned(), name, result: result.to_owned(), duration_us, metrics }
}
