//! What happens, as it happens: server-sent events.
//!
//! The record's stream misses nothing: each event has the number by which a listener that comes back goes on. One task
//! reads the record and writes each event down once for all listeners; whoever falls behind it reads for itself until it
//! has caught up. A run's stream is news, and tells of its end whatever was missed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures::Stream;
use handshake_core::chain::StampedEvent;
use handshake_core::event::EventType;
use handshake_core::storage::{EventOutbox, StorageError};
use handshake_core::token::Right;
use handshake_core::{Digest, HostId, JobId, RunId, Timestamp, TraceId};
use handshake_recorder::RecordLog;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::describe::Takes;
use super::jobs::{self, News};
use super::{EVENTS, Host, Parameters, Refusal, Routes};
use crate::error::CliError;

/// Pause after which a silent stream says that it is still there, so that nothing in between ends it.
const STILL_THERE: Duration = Duration::from_secs(15);
/// Records that are read at a time.
const BATCH: u32 = 512;
/// Batches that a listener may be behind before it reads for itself.
const BACKLOG: usize = 64;
/// At least so long between two batches: what happens meanwhile goes out at once.
const GATHER: Duration = Duration::from_millis(50);
/// What telling may take, so that the work that is told of is not slowed by it: with many listeners a batch is smaller, and the
/// next one comes later. Whoever follows one run is told of that by itself.
const BYTES_A_SECOND: u64 = 128_000_000;
const EACH_LISTENER: Duration = Duration::from_micros(250);
const RECORDS_FOR_ALL: usize = 16_000;

pub(super) fn routes() -> Routes {
    Routes::new().get(Right::Audit, "/recorder/live", "Events as they are recorded: server-sent events", record).get(
        Right::See,
        "/jobs/{id}/live",
        "What happens in the latest run of a job: server-sent events",
        job,
    )
}

/// A record, written down once for everybody who listens.
#[derive(Debug)]
struct Frame {
    seq: u64,
    event_type: EventType,
    job: Option<JobId>,
    run: Option<RunId>,
    trace: TraceId,
    text: Bytes,
}

/// What `data` holds: as in `GET /api/v1/audit/events`.
#[derive(Serialize)]
struct Told<'a> {
    host: HostId,
    seq: u64,
    recorded_at: Timestamp,
    hash: Digest,
    event: &'a RawValue,
}

impl Frame {
    fn of(stamped: &StampedEvent) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Inner<'a> {
            #[serde(borrow)]
            event: &'a RawValue,
        }
        let event = stamped.event()?;
        let inner: Inner<'_> = serde_json::from_str(&stamped.record)?;
        let told = Told {
            host: stamped.host,
            seq: stamped.seq,
            recorded_at: stamped.recorded_at,
            hash: stamped.hash,
            event: inner.event,
        };
        let event_type = event.body.kind();
        // Canonical JSON has no line breaks.
        let text = format!("id: {}\nevent: {event_type}\ndata: {}\n\n", stamped.seq, serde_json::to_string(&told)?);
        let (job, run, trace) = (event.job_id, event.workflow_run_id, event.trace_id);
        Ok(Self { seq: stamped.seq, event_type, job, run, trace, text: text.into() })
    }
}

/// Records that follow on each other.
#[derive(Debug)]
struct Batch {
    frames: Vec<Frame>,
    /// All of them, for those who leave nothing out.
    whole: Bytes,
}

async fn read(log: &RecordLog, after: u64, limit: u32) -> Result<Arc<Batch>, StorageError> {
    let records = log.read_after(after, limit).await?;
    let frames = records.iter().map(Frame::of).collect::<Result<Vec<_>, _>>();
    let frames = frames.map_err(|error| StorageError::Serialization { what: "record", source: Box::new(error) })?;
    let whole = frames.iter().map(|frame| frame.text.as_ref()).collect::<Vec<_>>().concat().into();
    Ok(Arc::new(Batch { frames, whole }))
}

/// Tells everybody who listens what is recorded.
pub(crate) struct Newsroom {
    log: Arc<RecordLog>,
    batches: broadcast::Sender<Arc<Batch>>,
    telling: Mutex<bool>,
}

impl Newsroom {
    /// Begins when somebody listens.
    pub(crate) fn new(log: Arc<RecordLog>) -> Arc<Self> {
        Arc::new(Self { log, batches: broadcast::Sender::new(BACKLOG), telling: Mutex::new(false) })
    }

    fn telling(&self) -> MutexGuard<'_, bool> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens from now on. The first who does starts the task that reads.
    fn listen(self: &Arc<Self>) -> broadcast::Receiver<Arc<Batch>> {
        let mut telling = self.telling();
        let receiver = self.batches.subscribe();
        if !std::mem::replace(&mut *telling, true) {
            tokio::spawn(Arc::clone(self).tell());
        }
        receiver
    }

    /// Reads what is recorded, until nobody listens any more.
    async fn tell(self: Arc<Self>) {
        let mut seq = None;
        loop {
            {
                let mut telling = self.telling();
                if self.batches.receiver_count() == 0 {
                    *telling = false;
                    return;
                }
            }
            let pause = match self.more(&mut seq).await {
                Ok(None) => GATHER,
                Ok(Some(batch)) => {
                    let pause = pause_after(self.batches.receiver_count(), batch.whole.len());
                    // Nobody there is seen at the top.
                    drop(self.batches.send(batch));
                    pause
                }
                Err(error) => {
                    tracing::warn!(%error, "the record cannot be followed now; listeners wait");
                    GATHER
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn more(&self, seq: &mut Option<u64>) -> Result<Option<Arc<Batch>>, StorageError> {
        let after = match *seq {
            Some(seq) => seq,
            None => self.log.flush().await?.seq,
        };
        *seq = Some(after);
        if tokio::time::timeout(STILL_THERE, self.log.grown_past(after)).await.is_err() {
            return Ok(None);
        }
        let batch = read(&self.log, after, batch_for(self.batches.receiver_count())).await?;
        let Some(last) = batch.frames.last() else { return Ok(None) };
        *seq = Some(last.seq);
        Ok(Some(batch))
    }
}

/// Records of one batch for so many listeners.
fn batch_for(listeners: usize) -> u32 {
    let share = u32::try_from(RECORDS_FOR_ALL / listeners.max(1)).unwrap_or(BATCH);
    share.clamp(BATCH / 16, BATCH)
}

fn pause_after(listeners: usize, bytes: usize) -> Duration {
    let writing = (listeners as u64).saturating_mul(bytes as u64).saturating_mul(1_000_000) / BYTES_A_SECOND;
    let waking = EACH_LISTENER.saturating_mul(u32::try_from(listeners).unwrap_or(u32::MAX));
    GATHER.max(waking.saturating_add(Duration::from_micros(writing)))
}

/// What a listener wants to hear. Everything that is given must match.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    /// Events behind this number; without it, and without the header `last-event-id`, what comes from now on.
    after: Option<u64>,
    job_id: Option<JobId>,
    run_id: Option<RunId>,
    trace_id: Option<TraceId>,
    event_type: Option<EventType>,
}

impl Wanted {
    fn is_everything(&self) -> bool {
        self.job_id.is_none() && self.run_id.is_none() && self.trace_id.is_none() && self.event_type.is_none()
    }

    fn covers(&self, frame: &Frame) -> bool {
        self.job_id.is_none_or(|job| frame.job == Some(job))
            && self.run_id.is_none_or(|run| frame.run == Some(run))
            && self.trace_id.is_none_or(|trace| frame.trace == trace)
            && self.event_type.is_none_or(|kind| frame.event_type == kind)
    }
}

/// Somebody who follows the record.
struct Listener {
    room: Arc<Newsroom>,
    batches: broadcast::Receiver<Arc<Batch>>,
    wanted: Wanted,
    after: u64,
    behind: bool,
}

impl Listener {
    /// What to send next; none when the host ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let batch = if self.behind {
                match read(&self.room.log, self.after, BATCH).await {
                    Ok(batch) if batch.frames.is_empty() => {
                        self.behind = false;
                        continue;
                    }
                    Ok(batch) => batch,
                    // It comes back and goes on where it stood.
                    Err(_) => return None,
                }
            } else {
                match tokio::time::timeout(STILL_THERE, self.batches.recv()).await {
                    Err(_) => return Some(Bytes::from_static(b":\n\n")),
                    Ok(Ok(batch)) => batch,
                    Ok(Err(RecvError::Lagged(_))) => {
                        self.behind = true;
                        continue;
                    }
                    Ok(Err(RecvError::Closed)) => return None,
                }
            };
            let (Some(first), Some(last)) = (batch.frames.first(), batch.frames.last()) else { continue };
            if !self.behind && first.seq > self.after + 1 {
                self.behind = true;
                continue;
            }
            let text = if first.seq > self.after && self.wanted.is_everything() {
                batch.whole.clone()
            } else {
                let new = batch.frames.iter().filter(|frame| frame.seq > self.after && self.wanted.covers(frame));
                new.map(|frame| frame.text.as_ref()).collect::<Vec<_>>().concat().into()
            };
            self.after = self.after.max(last.seq);
            if !text.is_empty() {
                return Some(text);
            }
        }
    }
}

/// The number in the header that a browser sends when it comes back.
struct LastEventId(Option<u64>);

impl Takes for LastEventId {}

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(value) = parts.headers.get("last-event-id") else { return Ok(Self(None)) };
        let id = value.to_str().ok().and_then(|text| text.parse().ok());
        let wrong = || Refusal(CliError::usage("the header last-event-id is not the number of an event"));
        Ok(Self(Some(id.ok_or_else(wrong)?)))
    }
}

async fn record(
    State(host): Host,
    LastEventId(last): LastEventId,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, Refusal> {
    // Before the head is read: what is recorded from then on comes in one way or the other.
    let batches = host.newsroom.listen();
    let after = match last.or(wanted.after) {
        Some(after) => after,
        None => host.log.flush().await?.seq,
    };
    let listener = Listener { room: Arc::clone(&host.newsroom), batches, wanted, after, behind: true };
    Ok(events(futures::stream::unfold(listener, |mut listener| async move {
        let text = listener.next().await?;
        Some((Ok(text), listener))
    })))
}

async fn job(State(host): Host, Path(id): Path<String>) -> Result<Response, Refusal> {
    let news = jobs::follow(&host, &id).await?;
    Ok(events(futures::stream::unfold(news, |mut news| async move {
        let text = match tokio::time::timeout(STILL_THERE, news.next()).await {
            Err(_) => Bytes::from_static(b":\n\n"),
            Ok(news) => said(&news?),
        };
        Some((Ok(text), news))
    })))
}

fn said(news: &News) -> Bytes {
    let (name, line) = match news {
        News::Begun(line) => ("begun", line),
        News::Update(line) => ("update", line),
        News::Ended(line) => ("ended", line),
        News::Failed(line) => ("failed", line),
    };
    [b"event: ", name.as_bytes(), b"\ndata: ", line.trim_ascii_end(), b"\n\n"].concat().into()
}

fn events(stream: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let headers = [(header::CONTENT_TYPE, EVENTS), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(stream)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_told_at_once_and_many_at_a_pace() {
        assert_eq!((batch_for(0), batch_for(1), batch_for(500), batch_for(1_000_000)), (512, 512, 32, 32));
        assert_eq!(pause_after(1, 500_000), GATHER);
        assert_eq!(pause_after(500, 32_000), Duration::from_millis(250));
        assert!(pause_after(usize::MAX, usize::MAX) > Duration::from_secs(60));
    }
}
