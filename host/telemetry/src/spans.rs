//! Events of the flight recorder as spans of OpenTelemetry.
//!
//! Events have been validated and redacted, and hold digests in place of content; so a span holds no more. A span is
//! made when its end is on record. What the end does not say is remembered from the beginning, if this process has
//! seen it; without it an attribute is missing and the span is the same.

use std::collections::BTreeMap;

use handshake_core::capability::Axis;
use handshake_core::chain::StampedEvent;
use handshake_core::event::{Event, EventBody};
use handshake_core::model::ModelInfo;
use handshake_core::{JobId, SpanId, Timestamp};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

/// Begun spans and jobs that are remembered, each: far more than run at a time, at some 100 bytes.
const MOST_REMEMBERED: usize = 16_384;

/// The trace flag "sampled", as in the `traceparent` that models are sent.
const SAMPLED: u32 = 1;

// Names of attributes, as the semantic conventions for generative AI have them. Their crate calls them deprecated
// since they moved to a repository of their own, so they stand here.
const OPERATION: &str = "gen_ai.operation.name";
const PROVIDER: &str = "gen_ai.provider.name";
const REQUEST_MODEL: &str = "gen_ai.request.model";
const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
const ERROR_TYPE: &str = "error.type";

/// Whether a record is one that [`Spans::read`] makes a span of.
pub(crate) fn ends_a_span(record: &StampedEvent) -> bool {
    event(record).is_some_and(|event| matches!(event.body, EventBody::SpanEnd { .. } | EventBody::LlmInference { .. }))
}

/// The event of a record, if it has to do with spans.
fn event(record: &StampedEvent) -> Option<Event> {
    // Records are canonical JSON, so types are spelt one way. Nearly all are decisions and their outcomes, which need
    // not be parsed; a text that looks like a type costs no more than a parse.
    let types = [r#""event_type":"span_"#, r#""event_type":"llm_inference""#];
    types.iter().any(|kind| record.record.contains(kind)).then(|| record.event().ok()).flatten()
}

/// Makes spans of records, in their order.
#[derive(Debug)]
pub(crate) struct Spans {
    models: BTreeMap<String, ModelInfo>,
    begun: BTreeMap<SpanId, Begun>,
    workflows: BTreeMap<JobId, String>,
}

#[derive(Debug)]
struct Begun {
    at: Timestamp,
    attempt: Option<u32>,
}

impl Spans {
    /// Knows these models, which events call by their configured names.
    pub(crate) fn new(models: Vec<ModelInfo>) -> Self {
        let models = models.into_iter().map(|model| (model.name.clone(), model)).collect();
        Self { models, begun: BTreeMap::new(), workflows: BTreeMap::new() }
    }

    /// The span that a record ends, if it does.
    pub(crate) fn read(&mut self, record: &StampedEvent) -> Option<Span> {
        let event = event(record)?;
        match &event.body {
            EventBody::SpanStart { span, name, attempt } => {
                remember(&mut self.begun, event.activity_span_id?, Begun { at: event.timestamp, attempt: *attempt });
                if span != "step" {
                    remember(&mut self.workflows, event.job_id?, name.clone());
                }
                None
            }
            EventBody::SpanEnd { .. } => self.ended(&event),
            EventBody::LlmInference { .. } => self.inference(&event),
            _ => None,
        }
    }

    /// A job, run or step.
    fn ended(&mut self, event: &Event) -> Option<Span> {
        let EventBody::SpanEnd { span, name, result, duration_us, .. } = &event.body else { return None };
        let id = event.activity_span_id?;
        let begun = self.begun.remove(&id);
        let job = event.job_id.map(|job| SpanId::from_uuid(job.uuid()));
        let run = event.workflow_run_id.map(|run| SpanId::from_uuid(run.uuid()));
        let (parent, title) = match span.as_str() {
            "job" => (None, name.clone()),
            "run" => (job, name.clone()),
            // Without the position within `for_each`, so that spans of one step bear one name.
            _ => (run, event.step_id.as_ref().map_or_else(|| name.clone(), ToString::to_string)),
        };
        let mut made = self.span(event, id, parent, *duration_us)?;
        made.name = format!("{span} {title}");
        made.kind = SpanKind::Internal.into();
        if let Some(begun) = &begun {
            // The duration of a run leaves out the time that it has waited.
            made.start_time_unix_nano = nanoseconds(begun.at).min(made.end_time_unix_nano);
        }
        made.attributes.extend(begun.and_then(|begun| begun.attempt).map(|it| number("handshake.attempt", it.into())));
        if span == "step" && *name != title {
            made.attributes.push(text("handshake.node", name));
        }
        made.attributes.push(text("handshake.result", result));
        // Somebody who cancels gets what was asked for.
        if result != "ok" && result != "cancelled" {
            fail(&mut made, result);
        }
        if let ("job", Some(job)) = (span.as_str(), &event.job_id) {
            self.workflows.remove(job);
        }
        Some(made)
    }

    /// A call of a model.
    fn inference(&self, event: &Event) -> Option<Span> {
        let EventBody::LlmInference { model_id, token_usage, latency_ms, error, .. } = &event.body else { return None };
        let id = SpanId::from_uuid(event.event_id.uuid());
        let mut made = self.span(event, id, event.activity_span_id, latency_ms.saturating_mul(1000))?;
        let embeds = event.capability_id.as_deref() == Some(Axis::ModelEmbed.name());
        let operation = if embeds { "embeddings" } else { "chat" };
        let known = self.models.get(model_id);
        let model = known.map_or(model_id.as_str(), |known| &known.model);
        made.name = format!("{operation} {model}");
        let is_remote = known.is_some_and(|known| known.endpoint.is_some());
        made.kind = if is_remote { SpanKind::Client } else { SpanKind::Internal }.into();
        made.attributes.extend([text(OPERATION, operation), text(REQUEST_MODEL, model)]);
        made.attributes.extend(known.map(|known| text(PROVIDER, &known.provider)));
        made.attributes.push(text("handshake.model", model_id));
        match error {
            Some(label) => fail(&mut made, label),
            None => {
                made.attributes.push(number(INPUT_TOKENS, token_usage.prompt_tokens));
                made.attributes.push(number(OUTPUT_TOKENS, token_usage.completion_tokens));
            }
        }
        Some(made)
    }

    /// What all spans have in common. None for ids that OpenTelemetry does not allow.
    fn span(&self, event: &Event, id: SpanId, parent: Option<SpanId>, duration_us: u64) -> Option<Span> {
        let end = nanoseconds(event.timestamp);
        let mut attributes = Vec::new();
        if let Some(job) = event.job_id {
            attributes.push(text("handshake.job.id", &job.to_string()));
            attributes.extend(self.workflows.get(&job).map(|name| text("handshake.workflow", name)));
        }
        attributes.extend(event.workflow_run_id.map(|run| text("handshake.run.id", &run.to_string())));
        attributes.extend(event.step_id.as_ref().map(|step| text("handshake.step.id", step.as_str())));
        if let (EventBody::LlmInference { .. }, Some(begun)) = (&event.body, parent.and_then(|it| self.begun.get(&it)))
        {
            attributes.extend(begun.attempt.map(|attempt| number("handshake.attempt", attempt.into())));
        }
        Some(Span {
            trace_id: event.trace_id.uuid().as_bytes().to_vec(),
            span_id: id.w3c_bytes()?.to_vec(),
            parent_span_id: parent.and_then(|parent| parent.w3c_bytes()).map(Vec::from).unwrap_or_default(),
            flags: SAMPLED,
            start_time_unix_nano: end.saturating_sub(duration_us.saturating_mul(1000)),
            end_time_unix_nano: end,
            attributes,
            ..Span::default()
        })
    }
}

/// Forgets the oldest where there are too many: ids begin with the time.
fn remember<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    map.insert(key, value);
    if map.len() > MOST_REMEMBERED {
        map.pop_first();
    }
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.micros()).unwrap_or(0).saturating_mul(1000)
}

fn fail(span: &mut Span, label: &str) {
    span.attributes.push(text(ERROR_TYPE, label));
    span.status = Some(Status { code: StatusCode::Error.into(), message: label.to_owned() });
}

/// An attribute that is text.
pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
#[path = "spans_tests.rs"]
mod tests;
