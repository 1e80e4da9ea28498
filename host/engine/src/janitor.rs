//! The janitor: deletes finished jobs that need not be kept, and the artifacts that nobody lists then (R3.5).

use std::sync::Arc;
use std::time::Duration;

use handshake_core::event::{Actor, Event, EventBody};
use handshake_core::recorder::FlightRecorder;
use handshake_core::storage::{
    ContentSweeper, MOST_PRUNED, PruneReport, Pruned, RetentionPolicy, RetentionStore, StorageError, Swept,
};
use handshake_core::{Clock, EventId, HostId, Ids, JobId, ReportId, TraceId};

use crate::engine::EngineError;

/// The most jobs that one report lists; the next has the others.
const MOST_CANDIDATES: u32 = 10_000;

/// What the janitor works with.
pub struct JanitorServices {
    /// Jobs and reports.
    pub database: Arc<dyn RetentionStore>,
    /// Artifacts.
    pub content: Arc<dyn ContentSweeper>,
    /// Records what was done.
    pub recorder: Arc<dyn FlightRecorder>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Whose janitor it is.
    pub host: HostId,
    /// What is kept.
    pub policy: RetentionPolicy,
}

/// Deletes what need not be kept.
pub struct Janitor {
    services: JanitorServices,
    /// Within a process, one at a time; among hosts the database sees to that.
    turn: tokio::sync::Mutex<()>,
}

impl Janitor {
    /// A janitor that has done nothing yet.
    pub fn new(services: JanitorServices) -> Self {
        Self { services, turn: tokio::sync::Mutex::default() }
    }

    /// Keeps everything from being deleted until it is dropped.
    pub async fn hold(&self) -> impl Drop + '_ {
        self.turn.lock().await
    }

    /// Looks once, and deletes unless it is a dry run. The report with everything that is to be deleted is stored
    /// before the first deletion; with the last one goes one `gc_summary` event. `Conflict` while another host does
    /// the same. What a crash interrupts, the next time finishes.
    pub async fn run(&self, dry_run: bool) -> Result<PruneReport, EngineError> {
        let _turn = self.turn.lock().await;
        let JanitorServices { database, content, clock, ids, host, policy, .. } = &self.services;
        let started_at = clock.now();
        let mut report = PruneReport {
            report_id: ReportId::fresh(&**ids),
            host: *host,
            dry_run,
            started_at,
            finished_at: None,
            policy: *policy,
            candidates: database.prunable(policy, started_at, MOST_CANDIDATES).await?,
            pruned: Pruned::default(),
            swept: Swept::default(),
        };
        if !dry_run {
            database.store_report(report.clone(), Vec::new()).await?;
            let jobs: Vec<JobId> = report.candidates.iter().map(|candidate| candidate.job_id).collect();
            for batch in jobs.chunks(MOST_PRUNED) {
                let pruned = database.prune(report.report_id, batch).await?;
                report.pruned.jobs += pruned.jobs;
                report.pruned.runs += pruned.runs;
            }
        }
        report.swept = content.sweep(dry_run).await?;
        report.finished_at = Some(clock.now());
        let summary = self.services.recorder.admit(&self.summary(&report))?;
        database.store_report(report.clone(), vec![summary]).await?;
        Ok(report)
    }

    /// Runs at this interval, the first time after one interval. Never returns.
    pub async fn run_every(&self, interval: Duration, dry_run: bool) {
        loop {
            tokio::time::sleep(interval).await;
            match self.run(dry_run).await {
                Ok(report) => {
                    tracing::info!(jobs = report.pruned.jobs, files = report.swept.files, "the janitor is done")
                }
                Err(EngineError::Storage(StorageError::Conflict(reason))) => {
                    tracing::debug!(reason, "the janitor waits")
                }
                Err(error) => tracing::warn!(%error, "the janitor could not do its work; it tries again"),
            }
        }
    }

    fn summary(&self, report: &PruneReport) -> Event {
        let JanitorServices { clock, ids, .. } = &self.services;
        let body = EventBody::GcSummary {
            report_id: report.report_id,
            dry_run: report.dry_run,
            candidates: report.candidates.len() as u64,
            jobs: report.pruned.jobs,
            runs: report.pruned.runs,
            artifacts: report.swept.files,
            bytes: report.swept.bytes,
        };
        Event::new(EventId::fresh(&**ids), TraceId::fresh(&**ids), clock.now(), Actor::system(), body)
    }
}
