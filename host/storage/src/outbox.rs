//! The outbox: events with their place in the host's chain, and where the chain stands.

use async_trait::async_trait;
use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::AdmittedEvent;
use handshake_core::recorder::EffectNote;
use handshake_core::storage::{EventOutbox, OutboxSlot, StorageError};
use handshake_core::{HostId, Timestamp};

use crate::claims::AppendEffect;
use crate::database::SqlDatabase;
use crate::error::{Unreachable, failed, unreachable, unreadable};
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::{Connection, Query, Row, column, number, query, signed};
use crate::text;
use crate::writer::Position;

const POSITION: &str = "SELECT head_seq, head_hash, head_recorded_at, commit_number FROM hosts WHERE host = $1";
const ADVANCE: &str = "UPDATE hosts SET head_seq = $1, head_hash = $2, head_recorded_at = $3, commit_number = $4 \
     WHERE host = $5 AND head_seq = $6 AND commit_number = $7";
const ONLY_HOST: &str = "SELECT host FROM hosts ORDER BY created_at LIMIT 1";
const NEW_HOST: &str = "INSERT INTO hosts (host, head_seq, head_hash, head_recorded_at, commit_number, created_at) \
     VALUES ($1, 0, $2, 0, 0, $3) ON CONFLICT (host) DO NOTHING";
const READ_AFTER: &str =
    "SELECT seq, event_id, recorded_at, hash, record FROM outbox WHERE host = $1 AND seq > $2 ORDER BY seq LIMIT $3";

const OLDEST: &str = "SELECT MIN(seq) AS seq FROM outbox WHERE host = $1";
const RELEASE: &str = "DELETE FROM outbox WHERE host = $1 AND seq <= $2";

/// Records that one transaction releases. Deleting so many takes some ten milliseconds, which is how long everybody
/// else waits.
const RELEASED_AT_ONCE: u64 = 1000;

/// Rows of one INSERT, most first. Few sizes, so that each statement is prepared once.
const CHUNKS: [usize; 9] = [256, 128, 64, 32, 16, 8, 4, 2, 1];

/// The host that opens the database; entered at the first opening. One that is not shared knows its own.
pub(crate) async fn host(
    connection: &mut Connection,
    host: HostId,
    shared: bool,
    now: Timestamp,
) -> Result<HostId, StorageError> {
    if !shared {
        let found: Option<String> =
            query(ONLY_HOST).fetch_value(connection).await.map_err(failed("read the host's id"))?;
        if let Some(id) = found {
            return id.parse().map_err(unreadable("host id"));
        }
    }
    query(NEW_HOST)
        .bind(host.to_string())
        .bind(ChainHead::empty(host).hash.to_string())
        .bind(now.micros())
        .execute(connection)
        .await
        .map_err(failed("store the host's id"))?;
    Ok(host)
}

/// Where the host stands in the books.
pub(crate) async fn position(connection: &mut Connection, host: HostId) -> Result<Option<Position>, StorageError> {
    let row = query(POSITION)
        .bind(host.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("read the chain's head"))?;
    let Some(row) = row else { return Ok(None) };
    let head = ChainHead {
        host,
        seq: number(&row, "head_seq")?,
        hash: column::<String>(&row, "head_hash")?.parse().map_err(unreadable("hash"))?,
        recorded_at: Timestamp::from_micros(column(&row, "head_recorded_at")?),
    };
    Ok(Some(Position { head, commit_number: column(&row, "commit_number")? }))
}

/// Records events and moves the host's books from one position to the next.
pub(crate) async fn record(
    connection: &mut Connection,
    from: &Position,
    to: &Position,
    mut events: &[StampedEvent],
) -> Result<(), StorageError> {
    let operation = "record events";
    // The books first: with a second writer at work, the rows would look like duplicates.
    let advanced = query(ADVANCE)
        .bind(signed(to.head.seq)?)
        .bind(to.head.hash.to_string())
        .bind(to.head.recorded_at.micros())
        .bind(to.commit_number)
        .bind(from.head.host.to_string())
        .bind(signed(from.head.seq)?)
        .bind(from.commit_number)
        .execute(connection)
        .await
        .map_err(failed(operation))?;
    if advanced != 1 {
        return Err(unreachable(operation, Unreachable::HeadMoved));
    }
    while !events.is_empty() {
        let size = CHUNKS.into_iter().find(|size| *size <= events.len()).unwrap_or(1);
        let (chunk, rest) = events.split_at(size);
        insert(chunk)?.execute(connection).await.map_err(failed(operation))?;
        events = rest;
    }
    Ok(())
}

fn insert(events: &[StampedEvent]) -> Result<Query<'_>, StorageError> {
    let mut insert = query("INSERT INTO outbox (host, seq, event_id, recorded_at, hash, record) VALUES ");
    for (row, event) in events.iter().enumerate() {
        insert = insert
            .push(if row == 0 { "(" } else { ", (" })
            .push_bind(event.host.to_string())
            .push(", ")
            .push_bind(signed(event.seq)?)
            .push(", ")
            .push_bind(event.event_id.to_string())
            .push(", ")
            .push_bind(event.recorded_at.micros())
            .push(", ")
            .push_bind(event.hash.to_string())
            .push(", ")
            .push_bind(event.record.as_str())
            .push(")");
    }
    Ok(insert)
}

/// One event, durable on return.
struct Append([AdmittedEvent; 1]);

#[async_trait]
impl Operation for Append {
    type Answer = ();
    async fn apply(&mut self, _: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        Ok(Applied::Wrote(()))
    }
    fn events(&self) -> &[AdmittedEvent] {
        &self.0
    }
}

/// Nothing; what was queued before it is durable when it is answered.
struct Flush;

#[async_trait]
impl Operation for Flush {
    type Answer = ();
    async fn apply(&mut self, _: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        Ok(Applied::Unchanged(()))
    }
}

/// Deletes records that are kept elsewhere.
struct Release {
    up_to: u64,
}

#[async_trait]
impl Operation for Release {
    type Answer = u64;
    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<u64>, Refusal> {
        // What comes in the same transaction before this is not durable yet, so nobody can have it elsewhere.
        if self.up_to >= step.next_seq {
            let last = step.next_seq - 1;
            let problem = format!("record {} cannot be released: the chain ends at {last}", self.up_to);
            return Err(Refusal::Answer(StorageError::Conflict(problem)));
        }
        let delete = query(RELEASE).bind(step.host.to_string()).bind(signed(self.up_to)?);
        match delete.execute(step.connection).await.map_err(failed("release events"))? {
            0 => Ok(Applied::Unchanged(0)),
            released => Ok(Applied::Wrote(released)),
        }
    }
}

#[async_trait]
impl EventOutbox for SqlDatabase {
    fn enqueue(&self, event: AdmittedEvent) -> Result<(), StorageError> {
        text::check_events(std::slice::from_ref(&event))?;
        self.queue.enqueue(event)
    }

    fn reserve(&self) -> Result<Box<dyn OutboxSlot>, StorageError> {
        Ok(Box::new(self.queue.reserve()?))
    }

    async fn append(&self, event: AdmittedEvent) -> Result<(), StorageError> {
        let event = [event];
        text::check_events(&event)?;
        let operation = "record an event";
        let room = self.queue.room(operation)?;
        self.queue.perform(operation, Append(event), Some(room)).await
    }

    async fn append_effect(&self, note: EffectNote, event: AdmittedEvent) -> Result<(), StorageError> {
        let operation = "record an effect";
        let effect = AppendEffect::new(note, event)?;
        let room = self.queue.room(operation)?;
        self.queue.perform(operation, effect, Some(room)).await
    }

    async fn read_after(&self, seq: u64, limit: u32) -> Result<Vec<StampedEvent>, StorageError> {
        let mut reader = self.reader("read events").await?;
        let records = query(READ_AFTER).bind(self.host.to_string()).bind(signed(seq)?).bind(i64::from(limit));
        let decode = |row: &Row| {
            Ok(StampedEvent {
                host: self.host,
                seq: number(row, "seq")?,
                recorded_at: Timestamp::from_micros(column(row, "recorded_at")?),
                hash: column::<String>(row, "hash")?.parse().map_err(unreadable("hash"))?,
                event_id: column::<String>(row, "event_id")?.parse().map_err(unreadable("event id"))?,
                record: column(row, "record")?,
            })
        };
        records.fetch_each(&mut reader, "read events", decode).await
    }

    async fn release(&self, up_to: u64) -> Result<u64, StorageError> {
        let operation = "release events";
        let mut released = 0;
        loop {
            let mut reader = self.reader(operation).await?;
            let oldest = query(OLDEST).bind(self.host.to_string());
            let oldest: Option<Option<i64>> = oldest.fetch_value(&mut reader).await.map_err(failed(operation))?;
            drop(reader);
            let oldest = oldest.flatten().map(u64::try_from).transpose().map_err(unreadable("sequence number"))?;
            let to = oldest.map_or(up_to, |oldest| up_to.min(oldest.saturating_add(RELEASED_AT_ONCE - 1)));
            released += self.queue.perform(operation, Release { up_to: to }, None).await?;
            if to == up_to {
                return Ok(released);
            }
        }
    }

    async fn flush(&self) -> Result<ChainHead, StorageError> {
        self.queue.perform("flush events", Flush, None).await?;
        Ok(*self.head.borrow())
    }

    async fn grown_past(&self, seq: u64) {
        // The sender lives as long as the database, so this ends by growth alone.
        let _ = self.head.subscribe().wait_for(|head| head.seq > seq).await;
    }
}
