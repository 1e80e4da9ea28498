//! The one way into the outbox: every event is validated and redacted here (R6.1).

use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::Clock;
use handshake_core::event::{AdmittedEvent, Event, InvalidEvent, RedactionScope, Redactor};
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
}

impl Recorder {
    /// Admits events through the redactor and hands them to the outbox. The clock says which of them lie ahead.
    pub fn new(outbox: Arc<dyn EventOutbox>, redactor: Arc<dyn Redactor>, clock: Arc<dyn Clock>) -> Self {
        Self { outbox, door: Door { redactor, clock } }
    }
}

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
        match self.door.admit(&event) {
            Ok(admitted) => self.slot.fill(admitted),
            // Nobody can be told: a slot is filled from destructors. Only a fault of the host leads here, since
            // it made the envelope itself.
            Err(error) => tracing::error!(%error, "an outcome was not recorded"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::event::{Actor, EventBody};
    use handshake_core::run::FencingToken;
    use handshake_core::testing::{FixedClock, SequentialIds};
    use handshake_core::{EventId, RunId, StepId, Timestamp, TraceId};

    use super::*;
    use crate::Redaction;
    use crate::memory_outbox::MemoryOutbox;

    fn event(detail: &str) -> Event {
        let ids = SequentialIds::default();
        let body = EventBody::System { kind: "note".into(), detail: detail.into() };
        Event::new(EventId::fresh(&ids), TraceId::fresh(&ids), Timestamp::from_micros(1), Actor::system(), body)
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

    #[tokio::test]
    async fn an_invalid_event_is_refused_on_every_way_in() {
        let (outbox, recorder) = recorder();
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
