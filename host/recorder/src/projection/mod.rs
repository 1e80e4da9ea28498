//! The projection: the outbox, copied into DuckDB exactly once, and the queries on it.
//!
//! One thread owns the DuckDB file, because DuckDB blocks and may be open only once per process. One task reads
//! the outbox and sends batches to that thread. Queries first wait until everything that was recorded before
//! them has arrived.

mod columns;
mod file;
mod query;
mod schema;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::recorder::RecorderError;
use handshake_core::storage::{EventOutbox, StorageError};
use handshake_core::{Clock, HostId, JobId, RunId, TraceId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::trace::{LARGEST_TRACE, TraceBuilder, TraceTree};
use file::{FileError, ProjectionFile};
pub use query::{EventPage, EventQuery, MatrixQuery, MatrixRow, RecordedEvent};

/// Records per transaction. Larger batches gain little and cost memory.
const BATCH: u32 = 2048;
/// How long the projector lets records gather while nobody waits for them, so that a trickle of events does not
/// become a trickle of commits. Well below the lag of one second that is allowed.
const GATHER: Duration = Duration::from_millis(200);
/// How long it waits after a failure that may pass, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);
/// Work that may wait for the thread.
const QUEUE: usize = 16;

/// How far the projection is.
#[derive(Debug, Clone, Default)]
struct Progress {
    seq: u64,
    /// Why it does not move.
    problem: Option<Arc<str>>,
    closed: bool,
}

/// Shared by the thread, which moves it, and the task, which explains why it does not.
type ProgressSender = Arc<watch::Sender<Progress>>;

/// How the projection stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectionStatus {
    /// The host whose chain is projected.
    pub host: HostId,
    /// Last record that queries can see.
    pub projected: u64,
    /// Last durable record; none when the outbox does not answer.
    pub recorded: Option<u64>,
    /// Size of the DuckDB file and its log, bytes.
    pub bytes: u64,
    /// Why the projection does not move; none when it does.
    pub problem: Option<String>,
    /// Where a damaged file was set aside by this process.
    pub set_aside: Option<String>,
}

/// The projection of one host's outbox. Dropping it stops it; [`Projection::close`] also waits for that.
pub struct Projection {
    host: HostId,
    outbox: Arc<dyn EventOutbox>,
    thread: FileThread,
    progress: ProgressSender,
    hurry: Arc<Notify>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Projection {
    /// Opens or creates the file and starts to project. Must be called within a Tokio runtime.
    ///
    /// A file that DuckDB cannot read is set aside as `<path>.damaged-<microseconds since 1970>` and rebuilt. A file that is
    /// locked, not permitted or written by a newer version is an error.
    pub async fn open(path: &Path, outbox: Arc<dyn EventOutbox>, clock: Arc<dyn Clock>) -> Result<Self, RecorderError> {
        let host = outbox.flush().await.map_err(RecorderError::Sink)?.host;
        let progress: ProgressSender = Arc::new(watch::channel(Progress::default()).0);
        let file = ProjectionFile::new(path.to_owned(), host, clock, Arc::clone(&progress));
        let thread = FileThread::start(file)?;
        thread.call(|file| file.head().map(|_| ())).await??;

        let (stop, stopped) = watch::channel(false);
        let hurry = Arc::new(Notify::new());
        let projector = Projector {
            outbox: Arc::clone(&outbox),
            thread: thread.clone(),
            progress: Arc::clone(&progress),
            hurry: Arc::clone(&hurry),
        };
        let task = tokio::spawn(projector.run(stopped));
        Ok(Self { host, outbox, thread, progress, hurry, stop, task: Mutex::new(Some(task)) })
    }

    /// Returns when the record with this number can be queried; fails when the projection has stopped before it.
    pub async fn wait_for(&self, seq: u64) -> Result<(), RecorderError> {
        let mut progress = self.progress.subscribe();
        if progress.borrow().seq < seq {
            self.hurry.notify_one();
        }
        let reached = progress.wait_for(|now| now.seq >= seq || now.problem.is_some() || now.closed).await;
        let now = reached.map_err(|_| closed())?;
        match (&now.problem, now.seq >= seq) {
            (_, true) => Ok(()),
            (Some(problem), false) => Err(RecorderError::Sink(StorageError::Guard(format!(
                "the record can be queried up to number {} only: {problem}",
                now.seq
            )))),
            (None, false) => Err(closed()),
        }
    }

    /// Events, newest first; see [`EventQuery`].
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage, RecorderError> {
        let query = query.clone();
        query.check()?;
        self.ask(move |file| file.events(&query)).await
    }

    /// The trace with this id, or that of the job or run with it, as a tree; none when nothing is recorded about it.
    pub async fn trace(&self, id: Uuid) -> Result<Option<TraceTree>, RecorderError> {
        let query = EventQuery { limit: 1, ..EventQuery::default() };
        let ways = [
            EventQuery { trace_id: Some(TraceId::from_uuid(id)), ..query.clone() },
            EventQuery { job_id: Some(JobId::from_uuid(id)), ..query.clone() },
            EventQuery { run_id: Some(RunId::from_uuid(id)), ..query },
        ];
        for way in ways {
            let page = self.events(&way).await?;
            let trace = page.events.first().and_then(|event| event.event["trace_id"].as_str()?.parse().ok());
            if let Some(trace_id) = trace {
                return self.tree(trace_id).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn tree(&self, trace_id: TraceId) -> Result<TraceTree, RecorderError> {
        let mut query = EventQuery {
            trace_id: Some(trace_id),
            after: Some(query::START.to_owned()),
            limit: 1000,
            ..EventQuery::default()
        };
        let mut builder = TraceBuilder::default();
        let mut incomplete_before = None;
        let truncated = loop {
            let page = self.events(&query).await?;
            incomplete_before = incomplete_before.or(page.incomplete_before);
            page.events.iter().for_each(|event| builder.add(event));
            match page.next {
                None => break false,
                Some(_) if builder.count() >= LARGEST_TRACE => break true,
                next => query.after = next,
            }
        };
        Ok(TraceTree { trace_id, events: builder.count(), truncated, incomplete_before, nodes: builder.finish() })
    }

    /// Decisions counted by plugin and capability.
    pub async fn matrix(&self, query: &MatrixQuery) -> Result<Vec<MatrixRow>, RecorderError> {
        let query = query.clone();
        self.ask(move |file| file.matrix(&query)).await
    }

    /// How the projection stands. Answers whatever state it is in.
    pub async fn status(&self) -> ProjectionStatus {
        let recorded = self.outbox.flush().await.ok().map(|head| head.seq);
        let on_disk = self.thread.call(|file| (file.bytes(), file.set_aside.clone())).await;
        let progress = self.progress.borrow().clone();
        let (bytes, set_aside) = on_disk.unwrap_or((0, None));
        ProjectionStatus {
            host: self.host,
            projected: progress.seq,
            recorded,
            bytes,
            problem: progress.problem.map(|problem| problem.to_string()),
            set_aside: set_aside.map(|path| path.display().to_string()),
        }
    }

    /// Stops projecting and closes the file; later calls fail. What was not projected yet follows at the next
    /// start.
    pub async fn close(&self) -> Result<(), RecorderError> {
        self.stop.send_replace(true);
        let Some(task) = self.task.lock().await.take() else { return Ok(()) };
        // An error is a panic of the task, which there is no more to say about than that it ended.
        let _ = task.await;
        let result = self.thread.call(ProjectionFile::close).await;
        self.progress.send_modify(|progress| progress.closed = true);
        result?.map_err(RecorderError::from)
    }

    async fn ask<T, F>(&self, query: F) -> Result<T, RecorderError>
    where
        T: Send + 'static,
        F: Fn(&mut ProjectionFile) -> Result<T, FileError> + Clone + Send + 'static,
    {
        let head = self.outbox.flush().await.map_err(RecorderError::Sink)?.seq;
        self.wait_for(head).await?;
        match self.thread.call(query.clone()).await? {
            // It was set aside just now; the answer comes from the new one.
            Err(FileError::Damaged(_)) => {
                self.wait_for(head).await?;
                Ok(self.thread.call(query).await??)
            }
            answer => Ok(answer?),
        }
    }
}

impl Drop for Projection {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn closed() -> RecorderError {
    RecorderError::Sink(StorageError::Guard("the projection is closed".into()))
}

type Work = Box<dyn FnOnce(&mut ProjectionFile) + Send>;

/// The thread that owns the file. It ends when the last handle is dropped.
#[derive(Clone)]
struct FileThread(mpsc::Sender<Work>);

impl FileThread {
    fn start(mut file: ProjectionFile) -> Result<Self, RecorderError> {
        let (sender, mut receiver) = mpsc::channel::<Work>(QUEUE);
        std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || {
                while let Some(work) = receiver.blocking_recv() {
                    work(&mut file);
                }
            })
            .map_err(|error| {
                RecorderError::Sink(StorageError::Database {
                    operation: "start the recorder's thread",
                    source: Box::new(error),
                })
            })?;
        Ok(Self(sender))
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ProjectionFile) -> T + Send + 'static,
    ) -> Result<T, RecorderError> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |file| {
            // Nobody listens any more when the caller was cancelled.
            let _ = reply.send(work(file));
        });
        self.0.send(work).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}

/// Why projecting does not go on.
enum Halt {
    /// The record itself is wrong: only a person can decide what that means.
    Broken(String),
    /// May pass.
    Failed(RecorderError),
}

struct Projector {
    outbox: Arc<dyn EventOutbox>,
    thread: FileThread,
    progress: ProgressSender,
    hurry: Arc<Notify>,
}

impl Projector {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        // A batch that is under way when the stop comes is finished by the thread, cursor included.
        tokio::select! {
            () = self.project() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    async fn project(&self) {
        let mut checked = false;
        loop {
            let halt = match self.round(&mut checked).await {
                Ok(()) => {
                    self.explain(None);
                    continue;
                }
                Err(halt) => halt,
            };
            match halt {
                Halt::Broken(problem) => {
                    tracing::error!(%problem, "the flight recorder's chain is broken; projecting has stopped");
                    self.explain(Some(problem));
                    return;
                }
                Halt::Failed(error) => {
                    let problem = chain_of(&error);
                    tracing::warn!(%problem, "projecting the flight recorder failed; trying again");
                    self.explain(Some(problem));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Projects one batch, or waits for the next.
    async fn round(&self, checked: &mut bool) -> Result<(), Halt> {
        let head = self.thread.call(|file| file.head()).await.and_then(|head| Ok(head?)).map_err(Halt::Failed)?;
        if !*checked && head.seq > 0 {
            let last = self.outbox.read_after(head.seq - 1, 1).await.map_err(sink)?;
            if last.first().is_none_or(|last| (last.seq, last.hash) != (head.seq, head.hash)) {
                return Err(Halt::Broken(format!(
                    "record {}: the outbox does not hold it as it was projected",
                    head.seq
                )));
            }
        }
        *checked = true;

        let batch = self.outbox.read_after(head.seq, BATCH).await.map_err(sink)?;
        if batch.is_empty() {
            let recorded = self.outbox.flush().await.map_err(sink)?.seq;
            if recorded > head.seq && self.outbox.read_after(head.seq, 1).await.map_err(sink)?.is_empty() {
                return Err(Halt::Broken(format!(
                    "record {}: it is missing from the outbox, which ends at {recorded}",
                    head.seq + 1
                )));
            }
            if recorded < head.seq {
                return Err(Halt::Broken(format!(
                    "record {}: it was projected, but the outbox now ends at {recorded}",
                    head.seq
                )));
            }
            self.explain(None);
            tokio::select! {
                () = self.outbox.grown_past(head.seq) => {}
                () = self.hurry.notified() => return Ok(()),
            }
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = self.hurry.notified() => {}
            }
            return Ok(());
        }
        let projected = self.thread.call(move |file| file.project(head.seq, &batch)).await.map_err(Halt::Failed)?;
        match projected.map_err(|error| Halt::Failed(error.into()))? {
            None => Ok(()),
            Some(broken) => Err(Halt::Broken(broken.to_string())),
        }
    }

    fn explain(&self, problem: Option<String>) {
        let problem: Option<Arc<str>> = problem.map(Into::into);
        self.progress.send_if_modified(|progress| {
            let changed = progress.problem != problem;
            progress.problem = problem;
            changed
        });
    }
}

fn sink(error: StorageError) -> Halt {
    Halt::Failed(RecorderError::Sink(error))
}

/// The message with all its causes, for a log line and the status.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
