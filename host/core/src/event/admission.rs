//! Admission: from an [`Event`], which anybody can make, to an [`AdmittedEvent`], which can be stored.

use serde_json::Value;

use super::normal::{Changes, LARGEST_EVENT, clean, shrink};
use super::{Event, FieldNote, rules};
use crate::redaction::Redactor;
use crate::{EventId, Timestamp, canonical};

/// Why an event was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// A rule of the envelope or of the type is broken.
    #[error("HSK-400-INVALID-EVENT: {event_type}: {problem}")]
    Envelope {
        /// Its type.
        event_type: &'static str,
        /// Which rule.
        problem: &'static str,
    },
    /// It has no canonical JSON.
    #[error("HSK-400-INVALID-EVENT: {event_type}: cannot be written as canonical JSON")]
    Unserializable {
        /// Its type.
        event_type: &'static str,
        /// Cause.
        source: serde_json::Error,
    },
}

/// An event that was validated and redacted: the only form that storage accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedEvent {
    pub(crate) event_id: EventId,
    pub(crate) event_type: &'static str,
    pub(crate) json: String,
}

/// An event on its way to the outbox whose text is looked at where nobody waits for that.
pub enum DueEvent {
    /// It was looked at already.
    Admitted(AdmittedEvent),
    /// Whoever writes it has it admitted first. It was found valid when it was handed over.
    Valid(Box<dyn FnOnce() -> Result<AdmittedEvent, InvalidEvent> + Send>),
}

impl DueEvent {
    /// The event as it can be stored. Fails for a fault of the host alone.
    pub fn admitted(self) -> Result<AdmittedEvent, InvalidEvent> {
        match self {
            Self::Admitted(event) => Ok(event),
            Self::Valid(admit) => admit(),
        }
    }
}

/// How far a timestamp may lie ahead of the recorder's clock: other hosts' clocks differ a little.
const SKEW: std::time::Duration = std::time::Duration::from_secs(300);

impl Event {
    /// Whether it keeps the rules of its envelope and its type, without which it is not admitted.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        let event_type = self.body.kind().as_str();
        rules::check(self).map_err(|problem| InvalidEvent::Envelope { event_type, problem })
    }
}

impl AdmittedEvent {
    /// Validates, redacts and normalises. `now` is the time of the recorder's clock. Called by the recorder alone (a
    /// boundary test holds that).
    ///
    /// Refused is what breaks a rule of its envelope or type. What guests can choose is never a reason: long texts are
    /// cut, as [`StoredEvent`](super::StoredEvent) says. The result has at most 256 KiB, lists of its changes apart.
    pub fn admit(event: &Event, redactor: &dyn Redactor, now: Timestamp) -> Result<Self, InvalidEvent> {
        let kind = event.body.kind();
        let event_type = kind.as_str();
        event.check()?;
        let unserializable = |source| InvalidEvent::Unserializable { event_type, source };
        let mut value = serde_json::to_value(event).map_err(unserializable)?;
        let mut changes = Changes::default();
        let Value::Object(fields) = &mut value else {
            return Err(InvalidEvent::Envelope { event_type, problem: "it is not an object" });
        };
        if event.timestamp > now.plus(SKEW) || !event.timestamp.is_rfc3339() {
            fields.insert("timestamp".to_owned(), Value::from(now.to_string()));
            changes.normalised.push(FieldNote { field: "timestamp".to_owned(), rule: "time".to_owned() });
        }
        clean(fields, rules::labels(kind), redactor, &mut changes);
        let mut json = canonical::to_string(fields).map_err(unserializable)?;
        let mut round = 0;
        while json.len() > LARGEST_EVENT && shrink(fields, round, &mut changes).is_some() {
            json = canonical::to_string(fields).map_err(unserializable)?;
            round += 1;
        }
        let Changes { redactions, omitted, normalised } = changes;
        if !redactions.is_empty() || !normalised.is_empty() {
            for (name, notes) in [("redactions", redactions), ("normalised", normalised)] {
                if !notes.is_empty() {
                    fields.insert(name.to_owned(), serde_json::to_value(notes).map_err(unserializable)?);
                }
            }
            if omitted > 0 {
                fields.insert("redactions_omitted".to_owned(), Value::from(omitted));
            }
            json = canonical::to_string(fields).map_err(unserializable)?;
        }
        Ok(Self { event_id: event.event_id, event_type, json })
    }

    /// Its id.
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// Canonical JSON (RFC 8785) of the event.
    pub fn json(&self) -> &str {
        &self.json
    }
}
