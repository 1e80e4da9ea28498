//! The one writer: groups what waits into transactions, stamps events, answers after the commit.
//!
//! A batch that fails is rolled back and written piece by piece, so that one failed write never fails its
//! neighbours. Events that cannot be written are kept, in order, and nothing that came later is written before
//! them.

use std::sync::Arc;
use std::time::Duration;

use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::storage::StorageError;
use handshake_core::{Clock, HostId};
use tokio::sync::{mpsc, watch};

use crate::backend::Backend;
use crate::error::{Unreachable, failed, has_moved, is_duplicate, is_race, unreachable};
use crate::operation::Step;
use crate::outbox;
use crate::queue::{Item, Sent};
use crate::sql::Connection;

/// Most items that one transaction takes from the queue: enough to spread one fsync over many callers, few
/// enough that the first does not wait long for the last.
const BATCH: usize = 512;
/// So many events that nobody waits for are worth a transaction of their own.
const PILE: usize = 256;
/// How long such events may lie before they are written. It also paces the attempts after a failure.
const LINGER: Duration = Duration::from_millis(200);
/// How often an operation on its own is tried while other hosts are in its way.
const ATTEMPTS: u32 = 5;

/// Where this host stands in the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) head: ChainHead,
    /// Number of the host's last transaction.
    pub(crate) commit_number: i64,
}

/// An open connection and where the books stood when it last answered.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) position: Position,
}

impl Session {
    /// Opens a connection that writes for this host, and reads where the books stand.
    pub(crate) async fn open(backend: &Backend, host: HostId) -> Result<Self, StorageError> {
        let mut connection = backend.writer().await?;
        backend.hold(host, &mut connection).await?;
        match outbox::position(&mut connection, host).await? {
            Some(position) => Ok(Self { connection, position }),
            None => Err(StorageError::NotFound { what: "host", id: host.to_string() }),
        }
    }
}

/// Why a batch was not written.
enum Failure {
    /// It certainly was not.
    Undone(StorageError),
    /// It may have been.
    Unknown(String),
}

/// The writer's task.
pub(crate) struct Writer {
    host: HostId,
    clock: Arc<dyn Clock>,
    backend: Arc<Backend>,
    session: Option<Session>,
    head: Arc<watch::Sender<ChainHead>>,
    /// Events that could not be written yet.
    failing: bool,
}

impl Writer {
    /// A writer that goes on from where the session stands.
    pub(crate) fn new(
        session: Session,
        backend: Arc<Backend>,
        clock: Arc<dyn Clock>,
        head: Arc<watch::Sender<ChainHead>>,
    ) -> Self {
        Self { host: session.position.head.host, clock, backend, session: Some(session), head, failing: false }
    }

    /// Writes until it is told to close or nobody can send any more.
    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Sent>) {
        let mut batch = Vec::new();
        let mut open = true;
        while open {
            open = collect(&mut queue, &mut batch, self.failing).await;
            let (closing, items) = batch.into_iter().partition(|item| matches!(item, Item::Close(_)));
            batch = self.write(items).await;
            self.failing = !batch.is_empty();
            if !open {
                self.close(closing, batch.len()).await;
            }
        }
    }

    /// Closes the connection and tells whoever waits for it.
    async fn close(&mut self, waiting: Vec<Item>, kept: usize) {
        let closed = match self.session.take() {
            Some(session) => session.connection.close().await,
            None => Ok(()),
        };
        let mut result = closed.map_err(failed("close the database"));
        if kept > 0 {
            tracing::error!(events = kept, "events could not be written before the database was closed");
            result = Err(unreachable("close the database", Unreachable::Blocked));
        }
        for item in waiting {
            if let Item::Close(reply) = item {
                // One call closes; whoever else asked meanwhile is told the same as later callers.
                drop(
                    reply.send(std::mem::replace(
                        &mut result,
                        Err(unreachable("close the database", Unreachable::Closed)),
                    )),
                );
            }
        }
    }

    /// Writes a batch and answers whoever waits. Returns the events that must be kept.
    async fn write(&mut self, mut batch: Vec<Item>) -> Vec<Item> {
        match self.transact(&mut batch).await {
            Ok(()) => {
                answer(batch);
                Vec::new()
            }
            Err(Failure::Undone(error)) if batch.len() == 1 && !is_race(&error) => self.refuse(batch, Some(error)),
            Err(Failure::Undone(_)) => self.write_apart(batch).await,
            Err(Failure::Unknown(cause)) => {
                tracing::error!(cause, "it is not known whether a commit took effect");
                fail(batch, || Unreachable::Unknown(cause.clone()), None)
            }
        }
    }

    /// Writes each operation, and each stretch of events, in a transaction of its own.
    async fn write_apart(&mut self, batch: Vec<Item>) -> Vec<Item> {
        let mut kept = Vec::new();
        let mut items = batch.into_iter().peekable();
        while let Some(item) = items.next() {
            let mut group = vec![item];
            if matches!(group[0], Item::Event { .. }) {
                while let Some(event) = items.next_if(|next| matches!(next, Item::Event { .. })) {
                    group.push(event);
                }
            }
            if !kept.is_empty() {
                kept.extend(fail(group, || Unreachable::Blocked, None));
                continue;
            }
            let mut written = self.transact(&mut group).await;
            for _ in 1..ATTEMPTS {
                match (&written, &group[0]) {
                    (Err(Failure::Undone(error)), Item::Operation(_)) if is_race(error) => {
                        written = self.transact(&mut group).await
                    }
                    _ => break,
                }
            }
            match written {
                Ok(()) => answer(group),
                Err(Failure::Undone(error)) if is_duplicate(&error) && group.len() > 1 => {
                    kept = self.write_singly(group).await
                }
                Err(Failure::Undone(error)) => kept = self.refuse(group, Some(error)),
                Err(Failure::Unknown(cause)) => kept = fail(group, || Unreachable::Unknown(cause.clone()), None),
            }
        }
        kept
    }

    /// Writes events of which at least one is on record already.
    async fn write_singly(&mut self, events: Vec<Item>) -> Vec<Item> {
        let mut kept = Vec::new();
        for event in events {
            if !kept.is_empty() {
                kept.push(event);
                continue;
            }
            let mut single = vec![event];
            match self.transact(&mut single).await {
                Ok(()) => answer(single),
                Err(Failure::Undone(error)) => kept = self.refuse(single, Some(error)),
                Err(Failure::Unknown(_)) => kept = single,
            }
        }
        kept
    }

    /// What becomes of items that failed on their own: operations are answered, an event that is on record
    /// already is dropped, other events are kept.
    fn refuse(&self, items: Vec<Item>, error: Option<StorageError>) -> Vec<Item> {
        if let ([Item::Event { event, .. }], Some(error)) = (items.as_slice(), &error) {
            if is_duplicate(error) {
                tracing::error!(event = %event.event_id(), "an event with this id is on record already; the second is dropped");
                return Vec::new();
            }
            if !self.failing {
                tracing::error!(error = describe(error), "events cannot be written; they are kept");
            }
        }
        fail(items, || Unreachable::Blocked, error)
    }

    /// Writes the items in one transaction; durable when it returns.
    async fn transact(&mut self, items: &mut [Item]) -> Result<(), Failure> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.backend, self.host).await.map_err(Failure::Undone)?,
        };
        let now = self.clock.now();
        let prepared = match prepare(&mut session, items, now).await {
            Ok(prepared) => prepared,
            Err(error) => return self.undo(session, error).await,
        };
        let Some((next, events)) = prepared else {
            self.session = Some(session);
            return Ok(());
        };
        let Session { connection, position } = &mut session;
        if let Err(error) = outbox::record(connection, position, &next, &events).await {
            return self.undo(session, error).await;
        }
        if let Err(error) = connection.commit().await {
            session = self.settle(session, next, failed("commit")(error)).await?;
        }
        session.position = next;
        self.session = Some(session);
        self.head.send_if_modified(|head| std::mem::replace(head, next.head) != next.head);
        Ok(())
    }

    /// Rolls back what failed before its commit.
    async fn undo(&mut self, mut session: Session, error: StorageError) -> Result<(), Failure> {
        // SQLite rolls back by itself after some errors, and then says that there is nothing to roll back; a fresh
        // connection is the sure way to a clean state. It also reads anew where the books stand.
        if session.connection.rollback().await.is_ok() && !has_moved(&error) {
            self.session = Some(session);
        } else {
            drop(session.connection.close().await);
        }
        Err(Failure::Undone(error))
    }

    /// Finds out what became of a commit that failed: the books tell, read through a fresh connection.
    async fn settle(&mut self, session: Session, next: Position, error: StorageError) -> Result<Session, Failure> {
        drop(session.connection.close().await);
        match Session::open(&self.backend, self.host).await {
            Ok(session) if session.position == next => Ok(session),
            Ok(session) => {
                self.session = Some(session);
                Err(Failure::Undone(error))
            }
            Err(_) => Err(Failure::Unknown(describe(&error))),
        }
    }
}

/// Waits until something should be written, and takes it. Says whether more can come.
async fn collect(queue: &mut mpsc::UnboundedReceiver<Sent>, batch: &mut Vec<Item>, failing: bool) -> bool {
    let linger = tokio::time::sleep(LINGER);
    tokio::pin!(linger);
    let mut started = !batch.is_empty();
    loop {
        let item = if batch.is_empty() {
            queue.recv().await
        } else {
            if !started {
                // The time counts from the first event, not from when the writer began to wait for one.
                linger.set(tokio::time::sleep(LINGER));
                started = true;
            }
            tokio::select! {
                item = queue.recv() => item,
                () = &mut linger => return true,
            }
        };
        let Some(sent) = item else { return false };
        let Some(item) = sent.item() else { continue };
        let mut urgent = !matches!(item, Item::Event { .. });
        let mut closing = matches!(item, Item::Close(_));
        batch.push(item);
        // Callers that the last commit woke get the chance to bring their next write into this batch.
        tokio::task::yield_now().await;
        while batch.len() < BATCH || closing {
            let Ok(sent) = queue.try_recv() else { break };
            let Some(item) = sent.item() else { continue };
            urgent |= !matches!(item, Item::Event { .. });
            if matches!(item, Item::Close(_)) {
                closing = true;
                queue.close();
            }
            batch.push(item);
        }
        if closing {
            // What was accepted before the queue closed is written too.
            queue.close();
            while let Ok(sent) = queue.try_recv() {
                batch.extend(sent.item());
            }
            return false;
        }
        // While nothing can be written, a pile of events is no reason to try more often.
        if urgent || (batch.len() >= PILE && !failing) {
            return true;
        }
    }
}

/// Carries out what a transaction consists of. Returns where the books will stand after it and the events to record,
/// or none when there was nothing to write and the transaction is over.
async fn prepare(
    session: &mut Session,
    items: &mut [Item],
    now: handshake_core::Timestamp,
) -> Result<Option<(Position, Vec<StampedEvent>)>, StorageError> {
    let Session { connection, position } = session;
    if items.is_empty() {
        return Ok(None);
    }
    connection.begin().await.map_err(failed("begin"))?;
    let mut wrote = false;
    let mut next_seq = position.head.seq + 1;
    for item in items.iter_mut() {
        next_seq += match item {
            Item::Event { .. } => 1,
            Item::Close(_) => 0,
            Item::Operation(operation) => {
                let mut step = Step { connection, host: position.head.host, now, next_seq };
                operation.apply(&mut step).await?;
                wrote |= operation.wrote();
                operation.events().len() as u64
            }
        };
    }
    let mut next = Position { commit_number: position.commit_number + 1, ..*position };
    let mut stamped = Vec::new();
    for item in items.iter() {
        let events = match item {
            Item::Event { event, .. } => std::slice::from_ref(event),
            Item::Operation(operation) => operation.events(),
            Item::Close(_) => &[],
        };
        stamped.extend(events.iter().map(|event| next.head.append(event, now)));
    }
    if !wrote && stamped.is_empty() {
        connection.rollback().await.map_err(failed("end a transaction"))?;
        return Ok(None);
    }
    Ok(Some((next, stamped)))
}

/// Tells everybody that their write is durable. Events give up their room.
fn answer(items: Vec<Item>) {
    for item in items {
        match item {
            Item::Event { .. } => {}
            Item::Operation(operation) => operation.answer(),
            Item::Close(reply) => drop(reply.send(Ok(()))),
        }
    }
}

/// Tells everybody that their write was not done; the first may have the error itself. Returns the events.
fn fail(items: Vec<Item>, cause: impl Fn() -> Unreachable, mut error: Option<StorageError>) -> Vec<Item> {
    let mut events = Vec::new();
    for item in items {
        let mut error = || error.take().unwrap_or_else(|| unreachable("write", cause()));
        match item {
            event @ Item::Event { .. } => events.push(event),
            Item::Operation(operation) => operation.fail(error()),
            Item::Close(reply) => drop(reply.send(Err(error()))),
        }
    }
    events
}

fn describe(error: &StorageError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
