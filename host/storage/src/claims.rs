//! Writes to a run: claiming it, and everything that only the holder of the current claim may do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::event::AdmittedEvent;
use handshake_core::job::{AiJob, JobEvent, JobState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunEvent, RunState, WorkflowRun};
use handshake_core::storage::{Arrivals, Claim, OnClaim, RunChange, StorageError, WorkQueue};
use handshake_core::{JobId, RunId, Timestamp};
use tokio::sync::watch;

use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::jobs::{self, JobRow};
use crate::nodes::{self, NodeRow};
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::runs::{self, RunRow};
use crate::sql::{column, query};
use crate::text;

const HOLDER: &str = "SELECT job_id, state, host, fence, lease_expires_at FROM runs WHERE run_id = $1";
const CLAIMED: &str = "SELECT r.job_id, r.state, r.fence, j.state AS job_state, j.is_pinned \
     FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = $1";
const TAKE: &str = "UPDATE runs SET state = $1, host = $2, fence = fence + 1, heartbeat_at = $3, updated_at = $3, \
     lease_expires_at = $4 WHERE run_id = $5";
const BEAT: &str = "UPDATE runs SET heartbeat_at = $1, lease_expires_at = $2 WHERE run_id = $3";
const QUEUED: &str = "SELECT run_id FROM runs WHERE state = $1 ORDER BY created_at, run_id LIMIT $2";
const LOSE: &str = "UPDATE runs SET fence = fence + 1 WHERE run_id = $1";

/// Most runs that one call claims: they are claimed in one transaction, for which others wait.
const MOST_CLAIMED: u32 = 256;

/// A change, checked and encoded before it is queued, so that the writer does not spend its time on it.
pub(crate) struct EncodedChange {
    job: Option<JobRow>,
    run: Option<RunRow>,
    nodes: Vec<NodeRow>,
    events: Vec<AdmittedEvent>,
}

impl EncodedChange {
    pub(crate) fn encode(id: RunId, change: RunChange) -> Result<Self, StorageError> {
        let foreign = change.run.as_ref().is_some_and(|run| run.run_id != id)
            || change.nodes.iter().any(|node| node.run_id != id);
        if foreign {
            return Err(StorageError::Validation(format!("a change of run `{id}` names another run")));
        }
        text::check_events(&change.events)?;
        Ok(Self {
            job: change.job.map(JobRow::encode).transpose()?,
            run: change.run.map(RunRow::encode).transpose()?,
            nodes: change.nodes.into_iter().map(NodeRow::encode).collect::<Result<_, _>>()?,
            events: change.events,
        })
    }

    /// The jobs that it names.
    fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.job.iter().map(|row| row.job_id).chain(self.run.iter().map(RunRow::job))
    }

    /// A change may touch no job but the run's own.
    fn check_job(&self, id: RunId, job: JobId) -> Result<(), Refusal> {
        if self.jobs().any(|named| named != job) {
            return Err(Refusal::Answer(StorageError::Validation(format!(
                "a change of run `{id}` names another job than `{job}`"
            ))));
        }
        Ok(())
    }

    async fn write(&self, step: &mut Step<'_>) -> Result<(), StorageError> {
        if let Some(job) = &self.job {
            job.update(step).await?;
        }
        if let Some(run) = &self.run {
            run.update(step.connection).await?;
        }
        for node in &self.nodes {
            node.write(step).await?;
        }
        Ok(())
    }
}

/// Who holds a run.
struct Holder {
    job: JobId,
    state: RunState,
    fence: FencingToken,
    lease_expires_at: Option<i64>,
    /// Whether it is this host.
    own: bool,
}

/// Reads who holds a run.
async fn holder(step: &mut Step<'_>, id: RunId) -> Result<Holder, Refusal> {
    let row = query(HOLDER)
        .keep_rows()
        .bind(id.to_string())
        .fetch_optional(step.connection)
        .await
        .map_err(failed("read a run's claim"))?;
    let Some(row) = row else { return Err(Refusal::Answer(runs::missing(id))) };
    let host: Option<String> = column(&row, "host")?;
    Ok(Holder {
        job: column::<String>(&row, "job_id")?.parse().map_err(unreadable("job id"))?,
        state: column::<String>(&row, "state")?.parse().map_err(unreadable("run state"))?,
        fence: FencingToken(column(&row, "fence")?),
        lease_expires_at: column(&row, "lease_expires_at")?,
        own: host == Some(step.host.to_string()),
    })
}

/// Lets only the holder of the current claim pass.
async fn require_claim(step: &mut Step<'_>, id: RunId, fence: FencingToken) -> Result<Holder, Refusal> {
    let holder = holder(step, id).await?;
    if holder.own && holder.fence == fence {
        return Ok(holder);
    }
    let number = fence.0;
    Err(Refusal::Answer(StorageError::Conflict(format!(
        "run `{id}` was taken over: fencing token {number} is outdated"
    ))))
}

/// Claims a run for this host.
pub(crate) struct ClaimRun {
    id: RunId,
    change: EncodedChange,
    lease: Duration,
}

impl ClaimRun {
    pub(crate) fn new(id: RunId, change: EncodedChange, lease: Duration) -> Result<Self, StorageError> {
        let running = change.run.as_ref().is_none_or(|run| run.state() == RunState::Running)
            && change.job.as_ref().is_none_or(|job| job.state() == JobState::Running);
        if !running {
            return Err(StorageError::Validation(format!(
                "claiming run `{id}` makes it and its job running, nothing else"
            )));
        }
        Ok(Self { id, change, lease })
    }

    async fn claim(&self, step: &mut Step<'_>) -> Result<Claim, Refusal> {
        let found = query(CLAIMED).keep_rows().bind(self.id.to_string()).fetch_optional(step.connection).await;
        let found = found.map_err(failed("read a run's claim"))?;
        let found = found.ok_or_else(|| Refusal::Answer(runs::missing(self.id)))?;
        let before = Unclaimed {
            job: column::<String>(&found, "job_id")?.parse().map_err(unreadable("job id"))?,
            state: column::<String>(&found, "state")?.parse().map_err(unreadable("run state"))?,
            job_state: column::<String>(&found, "job_state")?.parse().map_err(unreadable("job state"))?,
            fence: FencingToken(column(&found, "fence")?),
            is_pinned: column(&found, "is_pinned")?,
        };
        self.take(step, before).await
    }

    /// Claims it, for who knows how it stands.
    pub(crate) async fn take(&self, step: &mut Step<'_>, before: Unclaimed) -> Result<Claim, Refusal> {
        let conflict = |why: String| {
            Refusal::Answer(StorageError::Conflict(format!("run `{}` cannot be claimed: {why}", self.id)))
        };
        let state = before.state.after(RunEvent::Claim).map_err(|error| conflict(error.to_string()))?;
        self.change.check_job(self.id, before.job)?;
        let job_state = match before.job_state {
            JobState::Running => JobState::Running,
            state => state
                .after(JobEvent::Start)
                .or_else(|_| state.after(JobEvent::Resume))
                .map_err(|error| conflict(error.to_string()))?,
        };

        self.change.write(step).await?;
        if self.change.job.is_none() {
            jobs::set_state(step.connection, before.job, job_state, step.now).await?;
        }
        query(TAKE)
            .bind(state.as_str())
            .bind(step.host.to_string())
            .bind(step.now.micros())
            .bind(expiry(step.now, self.lease))
            .bind(self.id.to_string())
            .execute(step.connection)
            .await
            .map_err(failed("claim a run"))?;
        let fence = FencingToken(before.fence.0 + 1);
        let run = match &self.change.run {
            // What was just written need not be read again.
            Some(row) => row.taken(step.host, fence, step.now),
            None => runs::find(step.connection, self.id).await?,
        };
        let job = match &self.change.job {
            Some(row) => AiJob { is_pinned: before.is_pinned, ..row.job.clone() },
            None => jobs::find(step.connection, before.job).await?,
        };
        Ok(Claim { fence, run, job })
    }
}

/// How a run that is to be claimed stands.
pub(crate) struct Unclaimed {
    pub(crate) job: JobId,
    pub(crate) state: RunState,
    pub(crate) job_state: JobState,
    pub(crate) fence: FencingToken,
    pub(crate) is_pinned: bool,
}

/// When a lease that begins now ends, as the database holds it.
fn expiry(now: Timestamp, lease: Duration) -> i64 {
    now.micros().saturating_add(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
}

#[async_trait]
impl Operation for ClaimRun {
    type Answer = Claim;

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<Claim>, Refusal> {
        self.claim(step).await.map(Applied::Wrote)
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.change.events
    }
}

/// Claims queued runs for this host.
struct ClaimQueued {
    limit: u32,
    on_claim: Arc<dyn OnClaim>,
    lease: Duration,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for ClaimQueued {
    type Answer = Vec<Claim>;

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<Vec<Claim>>, Refusal> {
        self.events.clear();
        let queued = query(QUEUED).bind(RunState::Queued.as_str()).bind(i64::from(self.limit)).keep_free_rows();
        let queued = queued.fetch_all(step.connection).await.map_err(failed("look for queued runs"))?;
        let mut claims = Vec::new();
        for row in queued {
            let id = column::<String>(&row, "run_id")?.parse().map_err(unreadable("run id"))?;
            let run = runs::find(step.connection, id).await?;
            let job = jobs::find(step.connection, run.job_id).await?;
            let change = EncodedChange::encode(id, self.on_claim.change(&run, &job)?)?;
            let mut claim = ClaimRun::new(id, change, self.lease)?;
            match claim.claim(step).await {
                Ok(taken) => {
                    claims.push(taken);
                    self.events.append(&mut claim.change.events);
                }
                // Its job has moved on, for example because it was cancelled.
                Err(Refusal::Answer(error)) => tracing::warn!(run = %id, %error, "a queued run is passed over"),
                Err(failure) => return Err(failure),
            }
        }
        Ok(if claims.is_empty() { Applied::Unchanged(claims) } else { Applied::Wrote(claims) })
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// Takes a run away from a host that has let its lease expire.
struct TakeAway {
    id: RunId,
    fence: FencingToken,
    change: EncodedChange,
}

#[async_trait]
impl Operation for TakeAway {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let id = self.id;
        let found = holder(step, id).await?;
        self.change.check_job(id, found.job)?;
        let expired = found.lease_expires_at.is_some_and(|at| at < step.now.micros());
        if found.state != RunState::Running || found.fence != self.fence || !expired {
            return Err(Refusal::Answer(StorageError::Conflict(format!(
                "run `{id}` cannot be taken away: its host is alive, or somebody else was first"
            ))));
        }
        self.change.write(step).await?;
        query(LOSE).bind(id.to_string()).execute(step.connection).await.map_err(failed("take a run away"))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.change.events
    }
}

/// Counts on from what it has seen.
struct Queued(watch::Receiver<u64>);

#[async_trait]
impl Arrivals for Queued {
    async fn next(&mut self) {
        // The sender is gone only after the database: nothing will arrive any more.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl SqlDatabase {
    /// Runs in a state whose time has come, the longest past first.
    async fn past(
        &self,
        statement: &'static str,
        state: RunState,
        limit: u32,
        operation: &'static str,
    ) -> Result<Vec<WorkflowRun>, StorageError> {
        let mut reader = self.reader(operation).await?;
        let past = query(statement).bind(state.as_str()).bind(self.clock.now().micros()).bind(i64::from(limit));
        past.fetch_each(&mut reader, operation, runs::decode).await
    }
}

#[async_trait]
impl WorkQueue for SqlDatabase {
    async fn claim_queued(&self, limit: u32, on_claim: Arc<dyn OnClaim>) -> Result<Vec<Claim>, StorageError> {
        let limit = limit.min(MOST_CLAIMED);
        let claim = ClaimQueued { limit, on_claim, lease: self.lease, events: Vec::new() };
        self.queue.perform("claim queued runs", claim, None).await
    }

    async fn expired(&self, limit: u32) -> Result<Vec<WorkflowRun>, StorageError> {
        self.past(runs::EXPIRED, RunState::Running, limit, "look for expired leases").await
    }

    async fn due(&self, limit: u32) -> Result<Vec<WorkflowRun>, StorageError> {
        self.past(runs::DUE, RunState::Waiting, limit, "look for runs that have waited long enough").await
    }

    async fn take_away(&self, id: RunId, fence: FencingToken, change: RunChange) -> Result<(), StorageError> {
        let change = EncodedChange::encode(id, change)?;
        self.queue.perform("take a run away", TakeAway { id, fence, change }, None).await
    }

    fn arrivals(&self) -> Box<dyn Arrivals> {
        Box::new(Queued(self.queued.subscribe()))
    }
}

/// A run moves on.
pub(crate) struct Commit {
    pub(crate) id: RunId,
    pub(crate) fence: FencingToken,
    pub(crate) change: EncodedChange,
}

#[async_trait]
impl Operation for Commit {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let holder = require_claim(step, self.id, self.fence).await?;
        self.change.check_job(self.id, holder.job)?;
        // The token alone does not tell: whoever was lost may have left the same change in the queue.
        if self.change.run.is_some() && holder.state != RunState::Running {
            let (id, state) = (self.id, holder.state);
            return Err(Refusal::Answer(StorageError::Conflict(format!("run `{id}` is `{state}`, not running"))));
        }
        self.change.write(step).await?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.change.events
    }
}

/// A run that nobody executes moves on.
pub(crate) struct Amend {
    pub(crate) id: RunId,
    pub(crate) from: RunState,
    pub(crate) change: EncodedChange,
}

#[async_trait]
impl Operation for Amend {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let (id, from) = (self.id, self.from);
        let found = holder(step, id).await?;
        self.change.check_job(id, found.job)?;
        if found.state != from || from == RunState::Running {
            let state = found.state;
            return Err(Refusal::Answer(StorageError::Conflict(format!("run `{id}` is `{state}`, not `{from}`"))));
        }
        self.change.write(step).await?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.change.events
    }
}

/// A run's holder is alive.
pub(crate) struct Heartbeat {
    pub(crate) id: RunId,
    pub(crate) fence: FencingToken,
    pub(crate) lease: Duration,
}

#[async_trait]
impl Operation for Heartbeat {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        require_claim(step, self.id, self.fence).await?;
        let statement =
            query(BEAT).bind(step.now.micros()).bind(expiry(step.now, self.lease)).bind(self.id.to_string());
        statement.execute(step.connection).await.map_err(failed("renew a run's sign of life"))?;
        Ok(Applied::Wrote(()))
    }
}

/// An attempt is about to do something to the world.
pub(crate) struct AppendEffect {
    note: EffectNote,
    event: [AdmittedEvent; 1],
}

impl AppendEffect {
    pub(crate) fn new(note: EffectNote, event: AdmittedEvent) -> Result<Self, StorageError> {
        nodes::check_effect(&note)?;
        let event = [event];
        text::check_events(&event)?;
        Ok(Self { note, event })
    }
}

#[async_trait]
impl Operation for AppendEffect {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let id = self.note.run;
        let holder = require_claim(step, id, self.note.fence).await?;
        // The token alone would let an attempt go on after its own host has ended or stalled the run.
        if holder.state != RunState::Running {
            let state = holder.state;
            return Err(Refusal::Answer(StorageError::Conflict(format!(
                "run `{id}` is `{state}`: it may have no more effects"
            ))));
        }
        nodes::note_effect(step, &self.note).await?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.event
    }
}
