//! The outbox: events with their place in the host's chain, and where the chain stands.

use async_trait::async_trait;
use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::AdmittedEvent;
use handshake_core::recorder::EffectNote;
use handshake_core::storage::{EventOutbox, OutboxSlot, StorageError};
use handshake_core::{HostId, Timestamp};

use crate::claims::AppendEffect;
use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::{Connection, Row, column, number, query, signed};
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

/// Rows of one INSERT, most first. Few sizes, so that each statement is prepared once.
const CHUNKS: [usize; 3] = [64, 8, 1];
const COLUMNS: usize = 6;

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

/// Moves the host's books from one position to the next; false when they stand elsewhere.
pub(crate) async fn advance(connection: &mut Connection, from: &Position, to: &Position) -> Result<bool, StorageError> {
    let moved = query(ADVANCE)
        .bind(signed(to.head.seq)?)
        .bind(to.head.hash.to_string())
        .bind(to.head.recorded_at.micros())
        .bind(to.commit_number)
        .bind(from.head.host.to_string())
        .bind(signed(from.head.seq)?)
        .bind(from.commit_number)
        .execute(connection)
        .await
        .map_err(failed("move the chain's head"))?;
    Ok(moved == 1)
}

/// Inserts records, many at a time.
pub(crate) async fn insert(connection: &mut Connection, mut events: &[StampedEvent]) -> Result<(), StorageError> {
    let operation = "record events";
    while !events.is_empty() {
        let size = CHUNKS.into_iter().find(|size| *size <= events.len()).unwrap_or(1);
        let (chunk, rest) = events.split_at(size);
        let mut insert = query(insert_statement(size));
        for event in chunk {
            insert = insert
                .bind(event.host.to_string())
                .bind(signed(event.seq)?)
                .bind(event.event_id.to_string())
                .bind(event.recorded_at.micros())
                .bind(event.hash.to_string())
                .bind(event.record.as_str());
        }
        insert.execute(connection).await.map_err(failed(operation))?;
        events = rest;
    }
    Ok(())
}

fn insert_statement(rows: usize) -> String {
    use std::fmt::Write as _;
    let mut statement = String::from("INSERT INTO outbox (host, seq, event_id, recorded_at, hash, record) VALUES ");
    for row in 0..rows {
        let separator = if row == 0 { "(" } else { ", (" };
        statement.push_str(separator);
        for column in 1..=COLUMNS {
            let comma = if column == 1 { "" } else { ", " };
            // Writing into a string cannot fail.
            let _ = write!(statement, "{comma}${}", row * COLUMNS + column);
        }
        statement.push(')');
    }
    statement
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

    async fn flush(&self) -> Result<ChainHead, StorageError> {
        self.queue.perform("flush events", Flush, None).await?;
        Ok(*self.head.borrow())
    }

    async fn grown_past(&self, seq: u64) {
        // The sender lives as long as the database, so this ends by growth alone.
        let _ = self.head.subscribe().wait_for(|head| head.seq > seq).await;
    }
}
