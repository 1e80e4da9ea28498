//! Writes to a run: claiming it, and everything that only the holder of the current claim may do.

use async_trait::async_trait;
use handshake_core::event::AdmittedEvent;
use handshake_core::job::{JobEvent, JobState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunEvent, RunState};
use handshake_core::storage::{Claim, RunChange, StorageError};
use handshake_core::{JobId, RunId};

use crate::error::{failed, unreadable};
use crate::jobs::{self, JobRow};
use crate::nodes::{self, NodeRow};
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::outbox::column;
use crate::runs::{self, RunRow};
use crate::text;

const HOLDER: &str = "SELECT job_id, state, host, fence FROM runs WHERE run_id = $1";
const TAKE: &str =
    "UPDATE runs SET state = $1, host = $2, fence = fence + 1, heartbeat_at = $3, updated_at = $3 WHERE run_id = $4";
const BEAT: &str = "UPDATE runs SET heartbeat_at = $1 WHERE run_id = $2";

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

    /// A change may touch no job but the run's own.
    fn check_job(&self, id: RunId, job: JobId) -> Result<(), Refusal> {
        let foreign = self.job.as_ref().is_some_and(|row| row.job_id != job)
            || self.run.as_ref().is_some_and(|row| row.job() != job);
        if foreign {
            return Err(Refusal::Answer(StorageError::Validation(format!(
                "a change of run `{id}` names another job than `{job}`"
            ))));
        }
        Ok(())
    }

    async fn write(&self, step: &mut Step<'_>) -> Result<(), StorageError> {
        if let Some(job) = &self.job {
            job.update(step.connection).await?;
        }
        if let Some(run) = &self.run {
            run.update(step.connection).await?;
        }
        for node in &self.nodes {
            node.write(step.connection).await?;
        }
        Ok(())
    }
}

/// Who holds a run.
struct Holder {
    job: JobId,
    state: RunState,
    current: bool,
}

/// Reads who holds a run; `current` says whether it is this host under this token.
async fn holder(step: &mut Step<'_>, id: RunId, fence: Option<FencingToken>) -> Result<Holder, Refusal> {
    let row = sqlx::query(HOLDER)
        .bind(id.to_string())
        .fetch_optional(&mut *step.connection)
        .await
        .map_err(failed("read a run's claim"))?;
    let Some(row) = row else { return Err(Refusal::Answer(runs::missing(id))) };
    let host: Option<String> = column(&row, "host")?;
    Ok(Holder {
        job: column::<String>(&row, "job_id")?.parse().map_err(unreadable("job id"))?,
        state: column::<String>(&row, "state")?.parse().map_err(unreadable("run state"))?,
        current: host == Some(step.host.to_string())
            && Some(column::<i64>(&row, "fence")?) == fence.map(|fence| fence.0),
    })
}

/// Lets only the holder of the current claim pass.
async fn require_claim(step: &mut Step<'_>, id: RunId, fence: FencingToken) -> Result<Holder, Refusal> {
    let holder = holder(step, id, Some(fence)).await?;
    if holder.current {
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
}

impl ClaimRun {
    pub(crate) fn new(id: RunId, change: EncodedChange) -> Result<Self, StorageError> {
        let running = change.run.as_ref().is_none_or(|run| run.state() == RunState::Running)
            && change.job.as_ref().is_none_or(|job| job.state() == JobState::Running);
        if !running {
            return Err(StorageError::Validation(format!(
                "claiming run `{id}` makes it and its job running, nothing else"
            )));
        }
        Ok(Self { id, change })
    }
}

#[async_trait]
impl Operation for ClaimRun {
    type Answer = Claim;

    async fn apply(&self, step: &mut Step<'_>) -> Result<Applied<Claim>, Refusal> {
        let conflict = |why: String| {
            Refusal::Answer(StorageError::Conflict(format!("run `{}` cannot be claimed: {why}", self.id)))
        };
        let found = holder(step, self.id, None).await?;
        let state = found.state.after(RunEvent::Claim).map_err(|error| conflict(error.to_string()))?;
        self.change.check_job(self.id, found.job)?;
        let before = jobs::find(step.connection, found.job).await?.state;
        let job_state = match before {
            JobState::Running => JobState::Running,
            _ => before
                .after(JobEvent::Start)
                .or_else(|_| before.after(JobEvent::Resume))
                .map_err(|error| conflict(error.to_string()))?,
        };

        self.change.write(step).await?;
        if self.change.job.is_none() {
            jobs::set_state(step.connection, found.job, job_state, step.now).await?;
        }
        sqlx::query(TAKE)
            .bind(state.as_str())
            .bind(step.host.to_string())
            .bind(step.now.micros())
            .bind(self.id.to_string())
            .execute(&mut *step.connection)
            .await
            .map_err(failed("claim a run"))?;
        let run = runs::find(step.connection, self.id).await?;
        let job = jobs::find(step.connection, found.job).await?;
        Ok(Applied::Wrote(Claim { fence: run.fence, run, job }))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.change.events
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

    async fn apply(&self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let holder = require_claim(step, self.id, self.fence).await?;
        self.change.check_job(self.id, holder.job)?;
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
}

#[async_trait]
impl Operation for Heartbeat {
    type Answer = ();

    async fn apply(&self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        require_claim(step, self.id, self.fence).await?;
        let query = sqlx::query(BEAT).bind(step.now.micros()).bind(self.id.to_string());
        query.execute(&mut *step.connection).await.map_err(failed("renew a run's sign of life"))?;
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

    async fn apply(&self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
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
