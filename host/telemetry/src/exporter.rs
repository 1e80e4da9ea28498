//! The task that follows the outbox and sends what becomes durable there.
//!
//! The outbox itself is the queue, so a collector that is slow or gone costs no memory: the task stays where it is, and
//! skips what has become too old when it comes to it. Nobody waits for the task but the end of the process, and that
//! for a bounded time.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use handshake_core::chain::StampedEvent;
use handshake_core::model::ModelInfo;
use handshake_core::storage::EventOutbox;
use handshake_core::{Clock, HostId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Collector;
use crate::client::{Client, Failure};
use crate::spans::{Spans, ends_a_span, text};

/// Records that are read, and whose spans are sent, at a time: about a megabyte.
const PAGE: u32 = 1000;
/// How long new records are left to gather, so that a busy host sends few requests.
const GATHER: Duration = Duration::from_secs(1);
/// What was recorded longer ago is not sent any more.
const TOO_OLD: Duration = Duration::from_secs(600);
/// Wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between attempts, whatever the collector asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long the end of the process may wait for the collector.
const LAST_CHANCE: Duration = Duration::from_secs(2);
/// How long it may take then to count what was not sent.
const COUNTING: Duration = Duration::from_millis(300);

/// A running export.
#[derive(Debug)]
pub struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Begins to export what is recorded from now on; what was recorded before is not exported again. `version` is
    /// the host's. None, with a warning, if it cannot be found out where the record stands.
    pub async fn start(
        collector: Collector,
        outbox: Arc<dyn EventOutbox>,
        clock: Arc<dyn Clock>,
        models: Vec<ModelInfo>,
        version: &str,
    ) -> Option<Self> {
        let head = match outbox.flush().await {
            Ok(head) => head,
            Err(error) => {
                tracing::warn!(%error, "nothing is exported to `{collector}`: cannot find out where the record stands");
                return None;
            }
        };
        if collector.exposes_headers() {
            tracing::warn!("headers for `{collector}` are sent over an unencrypted connection; use https");
        }
        let stop = CancellationToken::new();
        let task = Task {
            client: None,
            origin: Origin { host: head.host, version: version.to_owned() },
            spans: Spans::new(models),
            cursor: head.seq,
            lost: 0,
            gave_up: false,
            problem: None,
            stop: stop.clone(),
            collector,
            outbox,
            clock,
        };
        Some(Self { stop, task: tokio::spawn(task.work()) })
    }

    /// Exports what is recorded up to now, for two seconds at most, and warns about what was not exported.
    pub async fn close(self) {
        self.stop.cancel();
        // It ends by itself; if it has panicked there is nothing to be saved.
        let _ = self.task.await;
    }
}

/// Who speaks.
#[derive(Debug)]
struct Origin {
    host: HostId,
    version: String,
}

impl Origin {
    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let attributes = vec![
            text("service.name", "handshake"),
            text("service.version", &self.version),
            text("service.instance.id", &self.host.to_string()),
        ];
        let scope =
            InstrumentationScope { name: "handshake".into(), version: self.version.clone(), ..Default::default() };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes, ..Default::default() }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }],
                ..Default::default()
            }],
        }
    }
}

struct Task {
    collector: Collector,
    /// Made with the first request.
    client: Option<Client>,
    origin: Origin,
    outbox: Arc<dyn EventOutbox>,
    clock: Arc<dyn Clock>,
    spans: Spans,
    /// The last record that is dealt with.
    cursor: u64,
    /// Spans that were given up and not yet told about.
    lost: usize,
    /// Whether the last chance was missed.
    gave_up: bool,
    /// What went wrong last, while it does.
    problem: Option<String>,
    stop: CancellationToken,
}

impl Task {
    async fn work(mut self) {
        let stop = self.stop.clone();
        let time_is_over = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_CHANCE).await;
        };
        tokio::select! {
            () = self.follow() => {}
            () = time_is_over => {
                self.problem.get_or_insert_with(|| "it did not answer in time".to_owned());
            }
        }
        // What was on its way when time was over counts as not exported, since nobody has said that it arrived.
        self.lost += tokio::time::timeout(COUNTING, self.left_behind()).await.unwrap_or(1);
        self.tell();
    }

    /// Exports until it is stopped, and then what is there.
    async fn follow(&mut self) {
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let outbox = Arc::clone(&self.outbox);
            tokio::select! {
                () = outbox.grown_past(self.cursor) => {}
                () = stop.cancelled() => break,
            }
            pause(GATHER, stop.clone()).await;
            self.catch_up().await;
            if !stop.is_cancelled() {
                self.tell();
            }
        }
        // Records may be on their way into the outbox. If that fails, what is there is all that there will be.
        let _ = self.outbox.flush().await;
        self.catch_up().await;
    }

    /// Deals with everything that is recorded, page by page.
    async fn catch_up(&mut self) {
        while !self.gave_up {
            let page = match self.outbox.read_after(self.cursor, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    // Others warn about a database that does not answer.
                    tracing::debug!(%error, "cannot read what to export");
                    return;
                }
            };
            let Some(last) = page.last() else { return };
            let (last, is_full) = (last.seq, page.len() == PAGE as usize);
            self.export(&page).await;
            if !self.gave_up {
                self.cursor = last;
            }
            if !is_full {
                return;
            }
        }
    }

    async fn export(&mut self, page: &[StampedEvent]) {
        let spans: Vec<Span> = page.iter().filter_map(|record| self.spans.read(record)).collect();
        let count = spans.len();
        if count == 0 {
            return;
        }
        if page.iter().all(|record| self.is_too_old(record)) {
            self.lost += count;
            return;
        }
        match self.send(spans, page).await {
            Ok(rejected) => {
                if self.problem.take().is_some() {
                    tracing::info!("`{}` takes spans again", self.collector);
                }
                if rejected > 0 {
                    self.lost += rejected.min(count);
                    self.problem = Some("it has rejected them".to_owned());
                }
            }
            Err(failure) => {
                self.problem = Some(failure.problem);
                // Counted with everything that comes behind it.
                self.gave_up = self.stop.is_cancelled();
                if !self.gave_up {
                    self.lost += count;
                }
            }
        }
    }

    fn is_too_old(&self, record: &StampedEvent) -> bool {
        self.clock.now().since(record.recorded_at) > TOO_OLD
    }

    /// Sends spans until they are taken or refused, too old, or the process ends.
    async fn send(&mut self, spans: Vec<Span>, page: &[StampedEvent]) -> Result<usize, Failure> {
        let request = Bytes::from(self.origin.request(spans).encode_to_vec());
        let client = self.client().await?;
        let (stop, sleep_stop) = (self.stop.clone(), self.stop.clone());
        let backoff =
            ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT).without_max_times();
        let is_current = || !page.iter().all(|record| self.is_too_old(record));
        let mut silent = self.problem.is_some();
        let attempt = || client.post(request.clone());
        attempt
            .retry(backoff)
            .sleep(move |wait| pause(wait, sleep_stop.clone()))
            .when(|failure: &Failure| failure.again && !stop.is_cancelled() && is_current())
            .adjust(|failure, wait| {
                wait.map(|wait| failure.after.map_or(wait, |after| after.clamp(wait, LONGEST_WAIT)))
            })
            .notify(|failure, _| {
                if !std::mem::replace(&mut silent, true) {
                    let problem = &failure.problem;
                    tracing::warn!(
                        "cannot export spans to `{}`: {problem}; runs go on, and it is tried again",
                        self.collector
                    );
                }
            })
            .await
    }

    async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let collector = self.collector.clone();
        let made = tokio::task::spawn_blocking(move || Client::new(collector)).await;
        let ended = |_| Failure { problem: "the process ends".to_owned(), again: false, after: None };
        let client = made.map_err(ended)??;
        Ok(self.client.insert(client).clone())
    }

    /// How many spans nobody has dealt with.
    async fn left_behind(&self) -> usize {
        let (mut cursor, mut count) = (self.cursor, 0);
        while let Ok(page) = self.outbox.read_after(cursor, PAGE).await {
            let Some(last) = page.last() else { break };
            cursor = last.seq;
            count += page.iter().filter(|record| ends_a_span(record)).count();
        }
        count
    }

    /// Warns about what was given up.
    fn tell(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let problem = self.problem.as_deref().unwrap_or("they were too old");
            let what = if lost == 1 { "1 span was".to_owned() } else { format!("{lost} spans were") };
            tracing::warn!("{what} not exported to `{}`: {problem}; the record itself is complete", self.collector);
        }
    }
}

/// Waits, but no longer than until it is time to stop.
async fn pause(wait: Duration, stop: CancellationToken) {
    let _ = tokio::time::timeout(wait, stop.cancelled()).await;
}

#[cfg(test)]
#[path = "exporter_tests.rs"]
mod tests;
