//! The event that says which records are not there any more.

use handshake_core::event::{Actor, Event, EventBody, Gap};
use handshake_core::{Digest, EventId, Ids, Timestamp, TraceId};

/// The id of the event about a gap. The same gap leads to the same id, so that an event which was recorded before a
/// crash can be found again.
pub(crate) fn gap_event_id(gap: &Gap) -> EventId {
    let host = gap.host.uuid();
    let parts: [&[u8]; 4] = [b"gap", host.as_bytes(), &gap.last_seq.to_be_bytes(), gap.reason.as_str().as_bytes()];
    EventId::from_uuid(Digest::of_parts(&parts).uuid())
}

/// The event about a gap.
pub(crate) fn gap_event(gap: Gap, now: Timestamp, ids: &dyn Ids) -> Event {
    Event::new(gap_event_id(&gap), TraceId::fresh(ids), now, Actor::system(), EventBody::Gap(gap))
}
