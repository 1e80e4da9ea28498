//! The projection: the outbox, copied into DuckDB exactly once, and the queries on it.
//!
//! One thread owns the DuckDB file, because DuckDB blocks and may be open only once per process. One task reads
//! the outbox and sends batches to that thread. Queries first wait until everything that was recorded before
//! them has arrived.

mod batch;
pub(crate) mod columns;
mod comparison;
mod fields;
mod file;
mod probe;
mod query;
mod review;
pub(crate) mod schema;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::recorder::RecorderError;
use handshake_core::storage::{EventOutbox, StorageError};
use handshake_core::{Clock, EventId, HostId, JobId, RunId, TraceId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::disk::Disk;
use crate::log::{Found, RecordLog};
use crate::segments::told as chain_of;
use crate::trace::{LARGEST_TRACE, TraceBuilder, TraceTree};
use batch::Batch;
pub(crate) use comparison::Rows;
use file::{FileError, ProjectionFile};
pub use probe::{Probe, probe_file};
pub use query::{EventPage, EventQuery, MatrixQuery, MatrixRow, RecordedEvent};
pub use review::{DecisionLine, ModelUse, NewResources, ResourceUse};

pub use upkeep::{Compaction, Gap};

/// Records per transaction: a row group of the file. DuckDB writes row groups that one transaction fills straight into
/// their blocks; what fills none goes through its log, and is compressed later from there.
const BATCH: u32 = file::ROW_GROUP;
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProjectionStatus {
    /// The host whose chain is projected.
    pub host: HostId,
    /// First record that retention has left.
    #[serde(default = "first_of_all")]
    pub first: u64,
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
    /// Records that could not be rebuilt, because their segments are missing or damaged.
    #[serde(default)]
    pub gaps: Vec<Gap>,
}

fn first_of_all() -> u64 {
    1
}

/// What rebuilding did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rebuilt {
    /// Records that can be queried now.
    pub records: u64,
    /// Records that could not be read any more.
    pub gaps: Vec<Gap>,
    /// Where the old file is.
    pub set_aside: Option<String>,
}

/// How a projection is opened.
#[derive(Clone)]
pub struct ProjectionOptions {
    /// The DuckDB file; created if it is missing, in a folder that exists.
    pub path: PathBuf,
    /// What retention goes by.
    pub clock: Arc<dyn Clock>,
    /// Records that are older are not shown (R6.4).
    pub retention: Duration,
    /// How a file that was not closed is tried out; none for opening it at once.
    pub probe: Option<Probe>,
}

/// The projection of one host's outbox. Dropping it stops it; [`Projection::close`] also waits for that.
pub struct Projection {
    host: HostId,
    path: PathBuf,
    log: Arc<RecordLog>,
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
    pub async fn open(log: Arc<RecordLog>, options: ProjectionOptions) -> Result<Self, RecorderError> {
        let host = log.flush().await.map_err(RecorderError::Sink)?.host;
        let path = options.path.clone();
        let progress: ProgressSender = Arc::new(watch::channel(Progress::default()).0);
        let disk: Disk = log.archive().disk.clone();
        let file = ProjectionFile::new(options, disk, host, Arc::clone(&progress));
        let thread = FileThread::start(file)?;
        thread.call(|file| file.head().map(|_| ())).await??;

        let (stop, stopped) = watch::channel(false);
        let hurry = Arc::new(Notify::new());
        let projector = Projector {
            log: Arc::clone(&log),
            thread: thread.clone(),
            progress: Arc::clone(&progress),
            hurry: Arc::clone(&hurry),
        };
        let task = tokio::spawn(projector.run(stopped));
        Ok(Self { host, path, log, thread, progress, hurry, stop, task: Mutex::new(Some(task)) })
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

    /// Returns when everything that is recorded now can be queried.
    pub async fn caught_up(&self) -> Result<(), RecorderError> {
        self.wait_for(self.log.flush().await.map_err(RecorderError::Sink)?.seq).await
    }

    /// Events, newest first; see [`EventQuery`].
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage, RecorderError> {
        let query = query.clone();
        query.check()?;
        self.ask(move |file| file.events(&query)).await
    }

    /// Events by their ids, oldest first; those that are not there, or not any more, are left out. At most 1,000.
    pub async fn named(&self, mut ids: Vec<EventId>) -> Result<Vec<RecordedEvent>, RecorderError> {
        ids.truncate(query::LARGEST_PAGE as usize);
        if ids.is_empty() { Ok(Vec::new()) } else { self.ask(move |file| file.named(&ids)).await }
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
        let recorded = self.log.flush().await.ok().map(|head| head.seq);
        let look = |file: &mut ProjectionFile| {
            (file.bytes(), file.set_aside.clone(), file.first().unwrap_or(1), file.gaps(false).unwrap_or_default())
        };
        let (bytes, set_aside, first, gaps) = self.thread.call(look).await.unwrap_or((0, None, 1, Vec::new()));
        let progress = self.progress.borrow().clone();
        ProjectionStatus {
            host: self.host,
            first,
            projected: progress.seq,
            recorded,
            bytes,
            problem: progress.problem.map(|problem| problem.to_string()),
            set_aside: set_aside.map(|path| path.display().to_string()),
            gaps,
        }
    }

    /// Last record that queries can see.
    pub(crate) fn projected(&self) -> u64 {
        self.progress.borrow().seq
    }

    /// Number of the first record that retention has left.
    pub(crate) async fn first(&self) -> Result<u64, RecorderError> {
        Ok(self.thread.call(ProjectionFile::first).await??)
    }

    /// Deletes what retention has dropped, and gives the space back if that is worth it.
    pub(crate) async fn drop_through(&self, to: ChainHead) -> Result<(), RecorderError> {
        let work = move |file: &mut ProjectionFile| {
            file.drop_through(&to)?;
            if file.is_loose()? { file.compact().map(drop) } else { Ok(()) }
        };
        Ok(self.thread.call(work).await??)
    }

    /// Copies the file to one without unused space, which takes its place. Queries wait meanwhile.
    pub async fn compact(&self) -> Result<Compaction, RecorderError> {
        Ok(self.thread.call(ProjectionFile::compact).await??)
    }

    /// Begins a new file and fills it with the whole record; the old one is kept under another name. Returns how many
    /// records it has then, and which could not be read any more.
    pub async fn rebuild(&self) -> Result<Rebuilt, RecorderError> {
        let head = self.log.flush().await.map_err(RecorderError::Sink)?.seq;
        self.thread.call(ProjectionFile::start_over).await??;
        self.wait_for(head).await?;
        let status = self.status().await;
        let missing: u64 = status.gaps.iter().map(|gap| gap.last + 1 - gap.first).sum();
        let records = (status.projected + 1).saturating_sub(status.first).saturating_sub(missing);
        Ok(Rebuilt { records, gaps: status.gaps, set_aside: status.set_aside })
    }

    /// Gaps about which no event was recorded yet.
    pub(crate) async fn unannounced(&self) -> Result<Vec<Gap>, RecorderError> {
        Ok(self.thread.call(|file| file.gaps(true)).await??)
    }

    /// Notes that there is an event about a gap.
    pub(crate) async fn announced(&self, gap: Gap) -> Result<(), RecorderError> {
        Ok(self.thread.call(move |file| file.announced(&gap)).await??)
    }

    /// Compares records, which follow one another, with their rows.
    pub(crate) async fn compare(&self, records: Vec<StampedEvent>) -> Result<Rows, RecorderError> {
        Ok(self.thread.call(move |file| file.compare(&records)).await??)
    }

    /// The first row that no record up to the head has led to; the last call of a comparison.
    pub(crate) async fn surplus(&self, head: ChainHead) -> Result<Option<u64>, RecorderError> {
        Ok(self.thread.call(move |file| file.surplus(&head)).await??)
    }

    /// Removes files that were set aside longer ago than records are kept: they hold records too.
    pub(crate) async fn remove_set_aside(&self) -> Result<(), RecorderError> {
        let path = self.path.clone();
        let retained = self.thread.call(ProjectionFile::retained).await??;
        for (stamp, file) in upkeep::set_aside(&path) {
            if stamp < retained.micros() {
                match std::fs::remove_file(&file) {
                    Ok(()) => {
                        tracing::info!(file = %file.display(), "a file that was set aside is too old and removed")
                    }
                    Err(error) => {
                        tracing::warn!(%error, file = %file.display(), "a file that was set aside cannot be removed")
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs any SQL, for tests.
    #[cfg(test)]
    pub(crate) async fn execute(&self, sql: impl Into<String>) {
        let sql = sql.into();
        let done = self.thread.call(move |file| file.execute(&sql)).await;
        assert!(matches!(done, Ok(Ok(()))), "{done:?}");
    }

    /// Every row as JSON, for tests that compare files.
    #[cfg(test)]
    pub(crate) async fn rows(&self) -> Vec<String> {
        let rows = self.thread.call(|file| file.rows_as_json()).await;
        let problem = rows.as_ref().map(|rows| rows.as_ref().err().map(|error| chain_of(error)));
        assert!(matches!(problem, Ok(None)), "{problem:?}");
        rows.ok().and_then(Result::ok).unwrap_or_default()
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
        let head = self.log.flush().await.map_err(RecorderError::Sink)?.seq;
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
    log: Arc<RecordLog>,
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
        let (mut checked, mut ahead) = (false, None);
        loop {
            let halt = match self.round(&mut checked, &mut ahead).await {
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
    async fn round(&self, checked: &mut bool, ahead: &mut Option<Batch>) -> Result<(), Halt> {
        let head = self.thread.call(|file| file.head()).await.and_then(|head| Ok(head?)).map_err(Halt::Failed)?;
        if !*checked && head.seq > 0 {
            let agrees = match self.log.next_after(head.seq - 1, 1).await.map_err(sink)? {
                Found::Records(last) => last.first().is_some_and(|last| (last.seq, last.hash) == (head.seq, head.hash)),
                // What comes behind it names its hash, if there is no other way to tell.
                Found::Jump(jump) => jump.to.seq != head.seq || jump.to.hash == head.hash,
            };
            if !agrees {
                return Err(Halt::Broken(format!(
                    "record {}: the outbox does not hold it as it was projected",
                    head.seq
                )));
            }
        }
        *checked = true;

        if let Some(batch) = ahead.take().filter(|batch| batch.from == head) {
            return self.write(batch, ahead).await;
        }
        let records = match self.log.next_after(head.seq, BATCH).await.map_err(sink)? {
            Found::Records(records) => records,
            Found::Jump(jump) => {
                if let Some(reason) = &jump.missing {
                    let (first, last) = (head.seq + 1, jump.to.seq);
                    tracing::error!(first, last, %reason, "records cannot be projected, because they are not there any more");
                }
                let jumped = self.thread.call(move |file| file.jump(head.seq, &jump)).await.map_err(Halt::Failed)?;
                return jumped.map_err(|error| Halt::Failed(error.into()));
            }
        };
        if records.is_empty() {
            let recorded = self.log.flush().await.map_err(sink)?.seq;
            let nothing = Found::Records(Vec::new());
            if recorded > head.seq && self.log.next_after(head.seq, 1).await.map_err(sink)? == nothing {
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
                () = self.log.grown_past(head.seq) => {}
                () = self.hurry.notified() => return Ok(()),
            }
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = self.hurry.notified() => {}
            }
            return Ok(());
        }
        self.write(prepare(head, records).await?, ahead).await
    }

    /// Writes a batch; reads the next meanwhile if more is waiting.
    async fn write(&self, batch: Batch, ahead: &mut Option<Batch>) -> Result<(), Halt> {
        let (to, broken, full) = (batch.to, batch.broken.clone(), batch.len() == u64::from(BATCH));
        let next = async {
            if !full {
                return None;
            }
            match self.log.next_after(to.seq, BATCH).await {
                Ok(Found::Records(records)) if !records.is_empty() => prepare(to, records).await.ok(),
                // Whatever it is, the next round meets it again.
                _ => None,
            }
        };
        let (written, next) = tokio::join!(self.thread.call(move |file| file.project(batch)), next);
        written.map_err(Halt::Failed)?.map_err(|error| Halt::Failed(error.into()))?;
        *ahead = next;
        match broken {
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

/// Not on a thread of the runtime, which has others to serve.
async fn prepare(from: ChainHead, records: Vec<StampedEvent>) -> Result<Batch, Halt> {
    let made = tokio::task::spawn_blocking(move || Batch::of(from, &records)).await;
    let made = made.map_err(|error| sink(StorageError::Guard(error.to_string())))?;
    made.map_err(|source| Halt::Failed(FileError::DuckDb { operation: "make rows", source }.into()))
}

fn sink(error: StorageError) -> Halt {
    Halt::Failed(RecorderError::Sink(error))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod upkeep_tests;
