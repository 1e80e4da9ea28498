//! The hash chain that makes a host's record tamper-evident.
//!
//! Each stored record is the canonical JSON object `{"event":…,"host":…,"prev":…,"recorded_at":…,"seq":…}`; its
//! SHA-256 is the `prev` of the next one. Its members are in canonical order already, so a record can be put
//! together from the event's canonical JSON without serializing it again.

use serde::{Deserialize, Serialize};

use crate::event::{AdmittedEvent, Event};
use crate::{Digest, EventId, HostId, Timestamp};

/// Where a host's chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// The host.
    pub host: HostId,
    /// Sequence number of the last record; 0 before the first.
    pub seq: u64,
    /// Its hash; zero before the first.
    pub hash: Digest,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

impl ChainHead {
    /// The head of an empty chain.
    pub const fn empty(host: HostId) -> Self {
        Self { host, seq: 0, hash: Digest::ZERO, recorded_at: Timestamp::from_micros(0) }
    }

    /// Appends one event. Recorded time never runs backwards, whatever the wall clock does.
    pub fn append(&mut self, event: &AdmittedEvent, now: Timestamp) -> StampedEvent {
        let recorded_at = now.max(self.recorded_at);
        let seq = self.seq + 1;
        let record = format!(
            r#"{{"event":{},"host":"{}","prev":"{}","recorded_at":{},"seq":{}}}"#,
            event.json,
            self.host,
            self.hash,
            recorded_at.micros(),
            seq,
        );
        let hash = Digest::of(record.as_bytes());
        *self = Self { host: self.host, seq, hash, recorded_at };
        StampedEvent { host: self.host, seq, recorded_at, hash, event_id: event.event_id, record }
    }

    /// Where the chain must have stood before a record, by what the record itself says. Its time is the record's own.
    pub fn before(stamped: &StampedEvent) -> Result<Self, BrokenChain> {
        let broken = |problem| BrokenChain { seq: stamped.seq, problem };
        let parsed: Record = serde_json::from_str(&stamped.record).map_err(|_| broken("it is not a record"))?;
        let seq = stamped.seq.checked_sub(1).ok_or_else(|| broken("it has no number"))?;
        Ok(Self { host: stamped.host, seq, hash: parsed.prev, recorded_at: stamped.recorded_at })
    }

    /// Checks that a record is the next one, and moves on to it.
    pub fn verify(&mut self, stamped: &StampedEvent) -> Result<(), BrokenChain> {
        let broken = |problem| BrokenChain { seq: stamped.seq, problem };
        if Digest::of(stamped.record.as_bytes()) != stamped.hash {
            return Err(broken("its hash is not that of its content"));
        }
        let parsed: Record = serde_json::from_str(&stamped.record).map_err(|_| broken("it is not a record"))?;
        let columns = (stamped.host, stamped.seq, stamped.recorded_at.micros(), stamped.event_id);
        if (parsed.host, parsed.seq, parsed.recorded_at, parsed.event.event_id) != columns {
            return Err(broken("its columns differ from its content"));
        }
        if stamped.host != self.host || stamped.seq != self.seq + 1 {
            return Err(broken("it does not follow the one before"));
        }
        if parsed.prev != self.hash {
            return Err(broken("it names another predecessor"));
        }
        *self = Self { host: self.host, seq: stamped.seq, hash: stamped.hash, recorded_at: stamped.recorded_at };
        Ok(())
    }
}

/// The first record of a chain that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {problem}")]
pub struct BrokenChain {
    /// Its sequence number.
    pub seq: u64,
    /// What does not fit.
    pub problem: &'static str,
}

#[derive(Deserialize)]
struct RecordedId {
    event_id: EventId,
}

#[derive(Deserialize)]
struct Record {
    event: RecordedId,
    host: HostId,
    prev: Digest,
    recorded_at: i64,
    seq: u64,
}

/// A record as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedEvent {
    /// The host that recorded it.
    pub host: HostId,
    /// Its number in that host's chain, from 1, without gaps.
    pub seq: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// SHA-256 of `record`.
    pub hash: Digest,
    /// Id of the event inside.
    pub event_id: EventId,
    /// Canonical JSON.
    pub record: String,
}

impl StampedEvent {
    /// The event inside.
    pub fn event(&self) -> Result<Event, serde_json::Error> {
        #[derive(Deserialize)]
        struct Inner {
            event: Event,
        }
        serde_json::from_str::<Inner>(&self.record).map(|inner| inner.event)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::{Actor, EventBody};
    use crate::testing::{NoRedaction, SequentialIds};
    use crate::{Ids, TraceId};

    fn event(ids: &dyn Ids, detail: &str) -> AdmittedEvent {
        let body = EventBody::System { kind: "note".into(), detail: detail.into() };
        let event =
            Event::new(EventId::fresh(ids), TraceId::fresh(ids), Timestamp::from_micros(5), Actor::system(), body);
        AdmittedEvent::admit(&event, &NoRedaction, event.timestamp).unwrap()
    }

    #[test]
    fn a_chain_verifies_and_any_change_breaks_it() {
        let ids = SequentialIds::default();
        let start = ChainHead::empty(HostId::fresh(&ids));
        let mut head = start;
        let records: Vec<_> =
            (0..4).map(|n| head.append(&event(&ids, &format!("{n} \"ä\"")), Timestamp::from_micros(10 - n))).collect();
        assert!(records.windows(2).all(|pair| pair[0].recorded_at <= pair[1].recorded_at));

        let mut check = start;
        for record in &records {
            check.verify(record).unwrap();
            let value: serde_json::Value = serde_json::from_str(&record.record).unwrap();
            assert_eq!(serde_jcs::to_string(&value).unwrap(), record.record, "records are canonical JSON");
        }
        assert_eq!(check, head);
        for pair in records.windows(2) {
            let before = ChainHead::before(&pair[1]).unwrap();
            assert_eq!((before.seq, before.hash), (pair[0].seq, pair[0].hash));
        }
        assert_eq!(ChainHead::before(&records[0]).unwrap().hash, Digest::ZERO);

        let mut edited = records[1].clone();
        edited.record = edited.record.replace("1 ", "9 ");
        let mut check = start;
        check.verify(&records[0]).unwrap();
        assert!(check.verify(&edited).is_err());
        edited.hash = Digest::of(edited.record.as_bytes());
        check.verify(&edited).unwrap();
        assert_eq!(check.verify(&records[2]).unwrap_err().problem, "it names another predecessor");

        let mut check = start;
        check.verify(&records[0]).unwrap();
        assert_eq!(check.verify(&records[2]).unwrap_err().problem, "it does not follow the one before");
    }
}
