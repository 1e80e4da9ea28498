//! The one way into the outbox: every event is validated and redacted here (R6.1).

use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::Clock;
use handshake_core::event::{AdmittedEvent, DueEvent, Event, EventBody, InvalidEvent, RedactionScope, Redactor};
use handshake_core::recorder::{EffectNote, FlightRecorder, OutcomeSlot, RecorderError};
use handshake_core::storage::{EventOutbox, OutboxSlot, StorageError};

/// The flight recorder in front of an outbox.
pub struct Recorder {
    outbox: Arc<dyn EventOutbox>,
    door: Door,
}

/// Where events are admitted.
#[derive(Clone)]
struct Door {
    redactor: Arc<dyn Redactor>,
    clock: Arc<dyn Clock>,
}

impl Door {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, InvalidEvent> {
        AdmittedEvent::admit(event, &*self.redactor, self.clock.now())
    }

    /// Lets in what is valid. What it says is looked at later, by whoever writes it.
    fn pass(&self, event: Event) -> Result<DueEvent, InvalidEvent> {
        event.check()?;
        let door = self.clone();
        Ok(DueEvent::Valid(Box::new(move || door.admit(&event))))
    }
}

impl Recorder {
    /// Admits events through the redactor and hands them to the outbox. The clock says which of them lie ahead.
    pub fn new(outbox: Arc<dyn EventOutbox>, redactor: Arc<dyn Redactor>, clock: Arc<dyn Clock>) -> Self {
        Self { outbox, door: Door { redactor, clock } }
    }
}

/// Longest resource that the writer looks at, bytes.
const SHORT: usize = 512;

fn refused(error: StorageError) -> RecorderError {
    match error {
        StorageError::Overloaded { .. } => RecorderError::Full,
        other => RecorderError::Sink(other),
    }
}

#[async_trait]
impl FlightRecorder for Recorder {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError> {
        Ok(self.door.admit(event)?)
    }

    fn enqueue(&self, event: &Event) -> Result<(), RecorderError> {
        // What the gate says of a call is short, so that the one writer can be left to look at it while the call goes
        // on. What a guest makes long is looked at on its own time.
        if matches!(&event.body, EventBody::CapabilityAction(decision) if decision.resource.len() <= SHORT) {
            let due = self.door.pass(event.clone())?;
            return self.outbox.reserve().and_then(|slot| slot.fill(due)).map_err(refused);
        }
        self.outbox.enqueue(self.admit(event)?).map_err(refused)
    }

    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError> {
        let slot = self.outbox.reserve().map_err(refused)?;
        Ok(Box::new(AdmittingSlot { slot, door: self.door.clone() }))
    }

    async fn record_event(&self, event: &Event) -> Result<(), RecorderError> {
        self.outbox.append(self.admit(event)?).await.map_err(refused)
    }

    async fn record_effect(&self, mut note: EffectNote, event: &Event) -> Result<(), RecorderError> {
        // The note is for a person who decides what to do about an interrupted step: it is a record, too.
        note.resource = self.door.redactor.clean(RedactionScope::Text, &note.resource).into_owned();
        self.outbox.append_effect(note, self.admit(event)?).await.map_err(|error| match error {
            StorageError::Conflict(_) => RecorderError::Fenced,
            other => refused(other),
        })
    }

    async fn flush(&self) -> Result<(), RecorderError> {
        self.outbox.flush().await.map(drop).map_err(refused)
    }
}

/// Room in the outbox that admits what it is filled with.
struct AdmittingSlot {
    slot: Box<dyn OutboxSlot>,
    door: Door,
}

impl OutcomeSlot for AdmittingSlot {
    fn fill(self: Box<Self>, event: Event) {
        let filled = self.door.pass(event).map_err(RecorderError::from);
        // Nobody can be told: a slot is filled from destructors. The host made the envelope itself, so only its own
        // fault leads here, or that the database was closed.
        if let Err(error) = filled.and_then(|due| self.slot.fill(due).map_err(refused)) {
            tracing::error!(error = &error as &dyn std::error::Error, "an outcome was not recorded");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::event::Actor;
    use handshake_core::run::FencingToken;
    use handshake_core::testing::{FixedClock, SequentialIds, sample_events};
    use handshake_core::{EventId, RunId, StepId, Timestamp, TraceId};

    use super::*;
    use crate::Redaction;
    use crate::memory_outbox::MemoryOutbox;

    fn event(detail: &str) -> Event {
        let ids = SequentialIds::default();
        let body = EventBody::System { kind: "note".into(), detail: detail.into() };
        Event::new(EventId::fresh(&ids), TraceId::fresh(&ids), Timestamp::from_micros(1), Actor::system(), body)
    }

    /// A decision about a resource, which is admitted later than others.
    fn decision(asked: &str) -> Event {
        let is_decision = |event: &Event| matches!(event.body, EventBody::CapabilityAction(_));
        let mut event = sample_events().into_iter().find(is_decision).unwrap();
        if let EventBody::CapabilityAction(record) = &mut event.body {
            record.resource = asked.into();
        }
        event
    }

    fn note() -> EffectNote {
        EffectNote {
            run: RunId::fresh(&SequentialIds::default()),
            step: StepId::new("read").unwrap(),
            index: None,
            attempt: 1,
            fence: FencingToken(1),
            call: 1,
            capability: "fs.write".into(),
            resource: "out/a".into(),
        }
    }

    fn recorder() -> (Arc<MemoryOutbox>, Recorder) {
        let outbox = Arc::new(MemoryOutbox::default());
        let redaction = Arc::new(Redaction::new(vec!["top-secret-value".into()]));
        let recorder = Recorder::new(Arc::clone(&outbox) as _, redaction, Arc::new(FixedClock::default()));
        (outbox, recorder)
    }

    #[tokio::test]
    async fn every_way_in_redacts() {
        let (outbox, recorder) = recorder();
        let secret = event("a top-secret-value here");
        recorder.enqueue(&secret).unwrap();
        recorder.record_event(&secret).await.unwrap();
        recorder.record_effect(note(), &secret).await.unwrap();
        recorder.reserve().unwrap().fill(secret);
        let records = outbox.records();
        assert_eq!(records.len(), 4);
        for record in records {
            assert!(!record.record.contains("top-secret-value"));
            assert!(
                record.record.contains(r#""redactions":[{"field":"payload.detail","rule":"secret_exact"}]"#),
                "{}",
                record.record
            );
        }
    }

    #[test]
    fn a_decision_is_redacted_too() {
        let (outbox, recorder) = recorder();
        for folders in [0, 1, 2 * SHORT] {
            recorder.enqueue(&decision(&("a/".repeat(folders) + "top-secret-value"))).unwrap();
        }
        for stored in outbox.records() {
            let record = stored.record;
            assert!(!record.contains("top-secret-value"));
            assert!(record.contains(r#"{"field":"payload.resource","rule":"secret_exact"}"#), "{record}");
        }
    }

    #[tokio::test]
    async fn an_invalid_event_is_refused_on_every_way_in() {
        let (outbox, recorder) = recorder();
        let mut nameless = decision("x");
        nameless.actor.id.clear();
        assert!(matches!(recorder.enqueue(&nameless), Err(RecorderError::Invalid(_))));
        let mut nameless = event("x");
        nameless.actor.id.clear();
        assert!(matches!(recorder.enqueue(&nameless), Err(RecorderError::Invalid(_))));
        assert!(matches!(recorder.record_event(&nameless).await, Err(RecorderError::Invalid(_))));
        assert!(matches!(recorder.record_effect(note(), &nameless).await, Err(RecorderError::Invalid(_))));
        recorder.reserve().unwrap().fill(nameless);
        assert!(outbox.records().is_empty());
    }

    #[tokio::test]
    async fn errors_of_the_outbox_get_their_names() {
        let (outbox, recorder) = recorder();
        outbox.fail_with(|| StorageError::Overloaded { operation: "append" });
        assert!(matches!(recorder.enqueue(&event("x")), Err(RecorderError::Full)));
        assert!(matches!(recorder.enqueue(&decision("x")), Err(RecorderError::Full)));
        assert!(matches!(recorder.reserve(), Err(RecorderError::Full)));
        outbox.fail_with(|| StorageError::Conflict("another host".into()));
        assert!(matches!(recorder.record_effect(note(), &event("x")).await, Err(RecorderError::Fenced)));
        assert!(matches!(
            recorder.record_event(&event("x")).await,
            Err(RecorderError::Sink(StorageError::Conflict(_)))
        ));
        outbox.fail_with(|| StorageError::Guard("closed".into()));
        assert!(matches!(
            recorder.record_effect(note(), &event("x")).await,
            Err(RecorderError::Sink(StorageError::Guard(_)))
        ));
    }
}
