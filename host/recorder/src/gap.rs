//! The event that says which records are not there any more.

use handshake_core::event::{Actor, Event, EventBody};
use handshake_core::{Digest, EventId, HostId, Ids, Timestamp, TraceId};

/// The id of the event about records of a host up to `last`. The same gap leads to the same id, so that one which was
/// recorded before a crash can be found again.
pub(crate) fn gap_event_id(host: HostId, last: u64, reason: &str) -> EventId {
    let host = host.uuid();
    let parts: [&[u8]; 4] = [b"gap", host.as_bytes(), &last.to_be_bytes(), reason.as_bytes()];
    EventId::from_uuid(Digest::of_parts(&parts).uuid())
}

/// An event about records `first` to `last` of a host.
pub(crate) fn gap_event(host: HostId, first: u64, last: u64, reason: &str, now: Timestamp, ids: &dyn Ids) -> Event {
    let detail = format!("records {first} to {last}: {reason}");
    let body = EventBody::System { kind: "gap".into(), detail };
    Event::new(gap_event_id(host, last, reason), TraceId::fresh(ids), now, Actor::system(), body)
}
