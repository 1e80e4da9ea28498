#![allow(clippy::unwrap_used, clippy::unimplemented)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use handshake_core::chain::ChainHead;
use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::recorder::EffectNote;
use handshake_core::storage::{OutboxSlot, StorageError};
use handshake_core::testing::{FixedClock, SequentialIds};
use handshake_core::{Digest, EventId, HostId, SpanId, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

/// Holds what it is given, and can be read alone.
#[derive(Default)]
struct Records {
    records: Mutex<Vec<StampedEvent>>,
    broken: AtomicBool,
}

/// An exporter that writes is told so, and its test fails.
fn read_only<T>() -> Result<T, StorageError> {
    Err(StorageError::Guard("an exporter only reads".into()))
}

#[async_trait]
impl EventOutbox for Records {
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
        if self.broken.load(Ordering::SeqCst) {
            return Err(StorageError::NotFound { what: "outbox", id: "gone".into() });
        }
        let records = self.records.lock().unwrap();
        Ok(records.iter().filter(|record| record.seq > seq).take(limit as usize).cloned().collect())
    }
    async fn release(&self, _: u64) -> Result<u64, StorageError> {
        read_only()
    }
    async fn flush(&self) -> Result<ChainHead, StorageError> {
        let seq = self.records.lock().unwrap().len() as u64;
        Ok(ChainHead { seq, ..ChainHead::empty(HostId::fresh(&SequentialIds::default())) })
    }
    async fn grown_past(&self, _: u64) {
        std::future::pending().await
    }
}

/// Answers one request after the other, in that order, and returns how many it has seen.
async fn collector(answers: Vec<(&'static str, Vec<u8>)>) -> (Collector, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = Collector::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
    let server = tokio::spawn(async move {
        let mut seen = 0;
        for (status, body) in answers {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                length = line
                    .to_lowercase()
                    .strip_prefix("content-length: ")
                    .map_or(length, |it| it.trim().parse().unwrap());
            }
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            seen += 1;
        }
        seen
    });
    (collector, server)
}

struct Bench {
    task: Task,
    outbox: Arc<Records>,
    clock: Arc<FixedClock>,
}

/// A task that has two spans to export.
fn bench(collector: Collector) -> Bench {
    let (ids, clock, outbox) =
        (SequentialIds::default(), Arc::new(FixedClock::default()), Arc::new(Records::default()));
    for seq in 1..=3 {
        let (span, name) = ("step".to_owned(), "read".to_owned());
        let body = match seq {
            1 => EventBody::SpanStart { span, name, attempt: Some(1) },
            _ => EventBody::SpanEnd { span, name, result: "ok".into(), duration_us: 1, metrics: Default::default() },
        };
        let mut event = Event::new(EventId::fresh(&ids), TraceId::fresh(&ids), clock.now(), Actor::system(), body);
        event.activity_span_id = Some(SpanId::fresh(&ids));
        outbox.records.lock().unwrap().push(StampedEvent {
            host: HostId::fresh(&ids),
            seq,
            recorded_at: clock.now(),
            hash: Digest::ZERO,
            event_id: event.event_id,
            record: format!(r#"{{"event":{}}}"#, serde_json::to_string(&event).unwrap()),
        });
    }
    let task = Task {
        collector,
        client: None,
        origin: Origin { host: HostId::fresh(&ids), version: "1".into() },
        outbox: Arc::clone(&outbox) as _,
        clock: Arc::clone(&clock) as _,
        spans: Spans::new(Vec::new()),
        cursor: 0,
        lost: 0,
        gave_up: false,
        problem: None,
        stop: CancellationToken::new(),
    };
    Bench { task, outbox, clock }
}

#[tokio::test]
async fn what_a_busy_collector_does_not_take_is_sent_again() {
    let (collector, server) = collector(vec![("503 Service Unavailable", vec![]), ("200 OK", vec![])]).await;
    let Bench { mut task, .. } = bench(collector);
    task.catch_up().await;
    assert_eq!((task.cursor, task.lost, server.await.unwrap()), (3, 0, 2));
}

#[tokio::test]
async fn what_is_refused_is_counted_and_not_sent_again() {
    let (collector, server) = collector(vec![("400 Bad Request", vec![])]).await;
    let Bench { mut task, .. } = bench(collector);
    task.catch_up().await;
    assert_eq!((task.cursor, task.lost, server.await.unwrap()), (3, 2, 1));
    assert_eq!(task.problem.unwrap(), "it answered 400 Bad Request");
}

#[tokio::test]
async fn spans_that_the_collector_rejects_from_a_request_are_counted() {
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "no".into() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let (collector, server) = collector(vec![("200 OK", answer)]).await;
    let Bench { mut task, .. } = bench(collector);
    task.catch_up().await;
    assert_eq!((task.cursor, task.lost, server.await.unwrap()), (3, 1, 1));
}

#[tokio::test]
async fn what_is_too_old_is_counted_and_skipped() {
    let Bench { mut task, clock, .. } = bench(Collector::new("http://127.0.0.1:9", None).unwrap());
    clock.advance(TOO_OLD + Duration::from_secs(1));
    task.catch_up().await;
    assert_eq!((task.cursor, task.lost, task.client.is_some()), (3, 2, false));
}

#[tokio::test]
async fn a_collector_that_is_gone_ends_the_last_chance_at_once_and_all_is_counted() {
    let Bench { mut task, .. } = bench(Collector::new("http://127.0.0.1:9", None).unwrap());
    task.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), task.follow()).await.unwrap();
    assert_eq!((task.gave_up, task.cursor, task.lost, task.left_behind().await), (true, 0, 0, 2));
}

#[tokio::test]
async fn a_database_that_cannot_be_read_loses_nothing() {
    let (collector, server) = collector(vec![("200 OK", vec![])]).await;
    let Bench { mut task, outbox, .. } = bench(collector);
    outbox.broken.store(true, Ordering::SeqCst);
    task.catch_up().await;
    assert_eq!((task.cursor, task.lost), (0, 0));
    outbox.broken.store(false, Ordering::SeqCst);
    task.catch_up().await;
    assert_eq!((task.cursor, task.lost, server.await.unwrap()), (3, 0, 1));
}

#[tokio::test]
async fn an_export_begins_where_the_record_stands() {
    let Bench { task, outbox, clock } = bench(Collector::new("http://127.0.0.1:9", None).unwrap());
    let exporter = Exporter::start(task.collector, outbox, clock, Vec::new(), "1").await.unwrap();
    // Anything to export would have to be waited for or warned about.
    tokio::time::timeout(Duration::from_secs(1), exporter.close()).await.unwrap();
}
