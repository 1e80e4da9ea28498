//! A record of any length that nobody has to store: the same number of events gives the same chain each time.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::AdmittedEvent;
use handshake_core::recorder::EffectNote;
use handshake_core::storage::{EventOutbox, OutboxSlot, StorageError};
use handshake_core::testing::NoRedaction;
use handshake_core::{Digest, EventId, HostId, Timestamp};
use uuid::Uuid;

use crate::admission::decision;

/// Events of one run; two runs are recorded at a time.
pub(crate) const RUN: u64 = 200;
/// The record stretches over so long.
const SPAN: Duration = Duration::from_secs(6 * 24 * 3600);
/// 2026-01-01.
const START: i64 = 1_767_225_600_000_000;

/// What an id names.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Event = 1,
    Job = 2,
    Run = 3,
    Trace = 4,
}

/// Reads like the outbox of a host that has recorded so many decisions.
pub(crate) struct Generated {
    events: u64,
    /// An event's canonical JSON with the ids of the sample cut out, and which id goes where.
    parts: Vec<(String, Option<Kind>)>,
    /// Where the chain stood when it was read last, so that reading on is cheap.
    at: Mutex<ChainHead>,
    head: ChainHead,
}

impl Generated {
    /// `head` is where this record ends, if that is known from an earlier time.
    pub(crate) fn new(events: u64, head: Option<Digest>) -> Self {
        let sample = decision();
        let mut text = AdmittedEvent::admit(&sample, &NoRedaction, sample.timestamp).unwrap().json().to_owned();
        let ids = [
            (sample.event_id.to_string(), Kind::Event),
            (sample.job_id.unwrap().to_string(), Kind::Job),
            (sample.workflow_run_id.unwrap().to_string(), Kind::Run),
            (sample.trace_id.to_string(), Kind::Trace),
        ];
        let mut parts = Vec::new();
        while let Some((at, (id, kind))) =
            ids.iter().filter_map(|id| Some((text.find(&id.0)?, id))).min_by_key(|(at, _)| *at)
        {
            let rest = text.split_off(at + id.len());
            text.truncate(at);
            parts.push((text, Some(*kind)));
            text = rest;
        }
        parts.push((text, None));
        let host = HostId::from_uuid(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001));
        let empty = ChainHead::empty(host);
        let mut this = Self { events, parts, at: Mutex::new(empty), head: empty };
        this.head = match head {
            Some(hash) => ChainHead { host, seq: events, hash, recorded_at: this.time(events) },
            None => {
                let mut head = empty;
                while head.seq < events {
                    this.next(&mut head);
                }
                head
            }
        };
        this
    }

    pub(crate) fn head(&self) -> ChainHead {
        self.head
    }

    /// When a record was made.
    pub(crate) fn time(&self, seq: u64) -> Timestamp {
        let micros = SPAN.as_micros() as u64 / self.events * seq;
        Timestamp::from_micros(START + i64::try_from(micros).unwrap())
    }

    /// The id of a record, or of what it belongs to.
    pub(crate) fn id(&self, kind: Kind, seq: u64) -> Uuid {
        // Two runs take turns; whatever belongs to a run has got its id when the run began.
        let pair = (seq - 1) / (2 * RUN);
        let (number, first) = match kind {
            Kind::Event => (seq, seq),
            _ => (2 * pair + (seq - 1) % 2, pair * 2 * RUN + 1),
        };
        let millis = u64::try_from(self.time(first).micros() / 1000).unwrap();
        let digest = Digest::of_parts(&[&[kind as u8], &number.to_le_bytes()]);
        let random = digest.as_bytes().first_chunk().unwrap();
        uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid()
    }

    fn next(&self, head: &mut ChainHead) -> StampedEvent {
        let seq = head.seq + 1;
        let mut record = String::with_capacity(1600);
        record.push_str(r#"{"event":"#);
        for (text, kind) in &self.parts {
            record.push_str(text);
            if let Some(kind) = kind {
                let mut buffer = Uuid::encode_buffer();
                record.push_str(self.id(*kind, seq).hyphenated().encode_lower(&mut buffer));
            }
        }
        let recorded_at = self.time(seq);
        record.push_str(&format!(
            r#","host":"{}","prev":"{}","recorded_at":{},"seq":{seq}}}"#,
            head.host,
            head.hash,
            recorded_at.micros()
        ));
        let hash = Digest::of(record.as_bytes());
        *head = ChainHead { host: head.host, seq, hash, recorded_at };
        let event_id = EventId::from_uuid(self.id(Kind::Event, seq));
        StampedEvent { host: head.host, seq, recorded_at, hash, event_id, record }
    }
}

fn read_only<T>() -> Result<T, StorageError> {
    Err(StorageError::Guard("this record is complete".into()))
}

#[async_trait]
impl EventOutbox for Generated {
    fn enqueue(&self, _: AdmittedEvent) -> Result<(), StorageError> {
        read_only()
    }
    fn reserve(&self) -> Result<Box<dyn OutboxSlot>, StorageError> {
        read_only()
    }
    async fn append(&self, _: AdmittedEvent) -> Result<(), StorageError> {
        read_only()
    }
    async fn append_effect(&self, _: EffectNote, _: AdmittedEvent) -> Result<(), StorageError> {
        read_only()
    }
    async fn read_after(&self, seq: u64, limit: u32) -> Result<Vec<StampedEvent>, StorageError> {
        let mut at = self.at.lock().unwrap();
        if at.seq > seq {
            *at = ChainHead::empty(at.host);
        }
        while at.seq < seq.min(self.events) {
            self.next(&mut at);
        }
        let count = u64::from(limit).min(self.events.saturating_sub(seq));
        Ok((0..count).map(|_| self.next(&mut at)).collect())
    }
    async fn release(&self, _: u64) -> Result<u64, StorageError> {
        Ok(0)
    }
    async fn flush(&self) -> Result<ChainHead, StorageError> {
        Ok(self.head)
    }
    async fn grown_past(&self, seq: u64) {
        if seq >= self.events {
            std::future::pending::<()>().await;
        }
    }
}
