//! Runs: their rows, and the port.

use std::path::PathBuf;

use async_trait::async_trait;
use handshake_core::artifact::ArtifactHandle;
use handshake_core::node::NodeExecution;
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunState, WorkflowRun};
use handshake_core::storage::{Claim, LogQuery, Logs, Payloads, RunChange, RunStore, StorageError};
use handshake_core::{Digest, HostId, JobId, RunId, Timestamp};

use crate::artifacts::Share;
use crate::claims::{Amend, ClaimRun, Commit, EncodedChange, Heartbeat};
use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::jobs;
use crate::nodes;
use crate::operation::Step;
use crate::sql::{Connection, Row, column, query};
use crate::text;

/// The columns of a run.
macro_rules! columns {
    () => {
        "run_id, job_id, trace_id, state, workflow, pinned, inputs, base, host, fence, heartbeat_at, error, created_at, updated_at, recoveries, wake_at"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM runs WHERE run_id = $1");
pub(crate) const EXPIRED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM runs WHERE state = $1 AND lease_expires_at < $2 ORDER BY lease_expires_at, run_id LIMIT $3"
);
pub(crate) const DUE: &str =
    concat!("SELECT ", columns!(), " FROM runs WHERE state = $1 AND wake_at <= $2 ORDER BY wake_at, run_id LIMIT $3");
const ARTIFACTS: &str =
    "SELECT sha256, size_bytes, media_type FROM run_artifacts WHERE run_id = $1 ORDER BY created_at, sha256";
const OF_JOB: &str = concat!("SELECT ", columns!(), " FROM runs WHERE job_id = $1 ORDER BY created_at, run_id");
const INTERRUPTED: &str =
    concat!("SELECT ", columns!(), " FROM runs WHERE state = $1 AND host = $2 ORDER BY created_at, run_id");
const INSERT: &str = concat!(
    "INSERT INTO runs (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, 0, NULL, $9, $10, $11, $12, $13)"
);
// What a run is pinned to never changes, and its claim changes only by being claimed.
const UPDATE: &str =
    "UPDATE runs SET state = $1, error = $2, updated_at = $3, recoveries = $4, wake_at = $5 WHERE run_id = $6";

/// A run as the database holds it.
pub(crate) struct RunRow {
    pub(crate) run_id: RunId,
    run: WorkflowRun,
    workflow: String,
    pinned: String,
    inputs: String,
    base: String,
}

impl RunRow {
    /// Checks and encodes a run.
    pub(crate) fn encode(run: WorkflowRun) -> Result<Self, StorageError> {
        if run.run_id.is_nil() {
            return Err(StorageError::Validation("a run needs an id that is not nil".into()));
        }
        text::optional("error", run.error.as_deref())?;
        let Some(base) = run.base.to_str() else {
            return Err(StorageError::Validation(format!(
                "folder `{}` is not named in UTF-8 and cannot be stored",
                run.base.display()
            )));
        };
        Ok(Self {
            run_id: run.run_id,
            workflow: text::json("workflow", &run.workflow)?,
            pinned: text::json("pinned digests", &run.pinned)?,
            inputs: text::json("inputs", &run.inputs)?,
            base: text::plain("folder", base)?,
            run,
        })
    }

    /// The run's state.
    pub(crate) fn state(&self) -> RunState {
        self.run.state
    }

    /// The run's job.
    pub(crate) fn job(&self) -> JobId {
        self.run.job_id
    }

    /// The run as it is once a host has claimed it.
    pub(crate) fn taken(&self, host: HostId, fence: FencingToken, now: Timestamp) -> WorkflowRun {
        let (host, heartbeat_at) = (Some(host), Some(now));
        WorkflowRun { host, fence, heartbeat_at, updated_at: now, ..self.run.clone() }
    }

    /// Stores a new run, which nobody has claimed.
    pub(crate) async fn insert(&self, step: &mut Step<'_>) -> Result<(), StorageError> {
        let run = &self.run;
        let statement = query(INSERT)
            .bind(run.run_id.to_string())
            .bind(run.job_id.to_string())
            .bind(run.trace_id.to_string())
            .bind(run.state.as_str())
            .bind(self.workflow.as_str())
            .bind(self.pinned.as_str())
            .bind(self.inputs.as_str())
            .bind(self.base.as_str())
            .bind(run.error.as_deref())
            .bind(run.created_at.micros())
            .bind(run.updated_at.micros())
            .bind(i64::from(run.recoveries))
            .bind(run.wake_at.map(Timestamp::micros));
        let stored = statement.execute(step.connection).await.map(drop).map_err(failed("store a run"));
        stored.map_err(|error| jobs::exists(error, "run", self.run_id))
    }

    /// Writes a run's new form.
    pub(crate) async fn update(&self, connection: &mut Connection) -> Result<(), StorageError> {
        let statement = query(UPDATE)
            .bind(self.run.state.as_str())
            .bind(self.run.error.as_deref())
            .bind(self.run.updated_at.micros())
            .bind(i64::from(self.run.recoveries))
            .bind(self.run.wake_at.map(Timestamp::micros))
            .bind(self.run_id.to_string());
        statement.execute(connection).await.map(drop).map_err(failed("update a run"))
    }
}

pub(crate) fn decode(row: &Row) -> Result<WorkflowRun, StorageError> {
    let text = |name| column::<String>(row, name);
    Ok(WorkflowRun {
        run_id: text("run_id")?.parse().map_err(unreadable("run id"))?,
        job_id: text("job_id")?.parse().map_err(unreadable("job id"))?,
        trace_id: text("trace_id")?.parse().map_err(unreadable("trace id"))?,
        state: text("state")?.parse().map_err(unreadable("run state"))?,
        workflow: text::parse("workflow", &text("workflow")?)?,
        pinned: text::parse("pinned digests", &text("pinned")?)?,
        inputs: text::parse("inputs", &text("inputs")?)?,
        base: PathBuf::from(text("base")?),
        host: column::<Option<String>>(row, "host")?.map(|id| id.parse()).transpose().map_err(unreadable("host id"))?,
        fence: FencingToken(column(row, "fence")?),
        heartbeat_at: column::<Option<i64>>(row, "heartbeat_at")?.map(Timestamp::from_micros),
        error: column(row, "error")?,
        recoveries: column::<Option<i64>>(row, "recoveries")?
            .map(u32::try_from)
            .transpose()
            .map_err(unreadable("recoveries"))?
            .unwrap_or(0),
        wake_at: column::<Option<i64>>(row, "wake_at")?.map(Timestamp::from_micros),
        created_at: Timestamp::from_micros(column(row, "created_at")?),
        updated_at: Timestamp::from_micros(column(row, "updated_at")?),
    })
}

/// One run.
pub(crate) async fn find(connection: &mut Connection, id: RunId) -> Result<WorkflowRun, StorageError> {
    let row = query(SELECT).bind(id.to_string()).fetch_optional(connection).await.map_err(failed("read a run"))?;
    match row {
        Some(row) => decode(&row),
        None => Err(missing(id)),
    }
}

/// There is no such run.
pub(crate) fn missing(id: RunId) -> StorageError {
    StorageError::NotFound { what: "run", id: id.to_string() }
}

#[async_trait]
impl RunStore for SqlDatabase {
    async fn run(&self, id: RunId) -> Result<WorkflowRun, StorageError> {
        let mut reader = self.reader("read a run").await?;
        find(&mut reader, id).await
    }

    async fn runs_of(&self, job: JobId) -> Result<Vec<WorkflowRun>, StorageError> {
        let mut reader = self.reader("list runs").await?;
        query(OF_JOB).bind(job.to_string()).fetch_each(&mut reader, "list runs", decode).await
    }

    async fn claim(&self, id: RunId, change: RunChange) -> Result<Claim, StorageError> {
        let claim = ClaimRun::new(id, EncodedChange::encode(id, change)?, self.lease)?;
        self.queue.perform("claim a run", claim, None).await
    }

    async fn commit(&self, id: RunId, fence: FencingToken, change: RunChange) -> Result<(), StorageError> {
        let change = EncodedChange::encode(id, change)?;
        self.queue.perform("commit a run's change", Commit { id, fence, change }, None).await
    }

    async fn amend(&self, id: RunId, from: RunState, change: RunChange) -> Result<(), StorageError> {
        let change = EncodedChange::encode(id, change)?;
        self.queue.perform("change a run that nobody executes", Amend { id, from, change }, None).await
    }

    async fn share_artifacts(&self, from: RunId, to: RunId, artifacts: Vec<Digest>) -> Result<(), StorageError> {
        self.queue.perform("share artifacts", Share { from, to, artifacts }, None).await
    }

    async fn artifacts(&self, run: RunId) -> Result<Vec<ArtifactHandle>, StorageError> {
        let mut reader = self.reader("list artifacts").await?;
        let rows = query(ARTIFACTS).bind(run.to_string());
        rows.fetch_each(&mut reader, "list artifacts", |row| {
            Ok(ArtifactHandle {
                id: column::<String>(row, "sha256")?.parse().map_err(unreadable("artifact"))?,
                size: u64::try_from(column::<i64>(row, "size_bytes")?).map_err(unreadable("size"))?,
                media_type: column(row, "media_type")?,
            })
        })
        .await
    }

    async fn heartbeat(&self, id: RunId, fence: FencingToken) -> Result<(), StorageError> {
        self.queue.perform("renew a run's sign of life", Heartbeat { id, fence, lease: self.lease }, None).await
    }

    async fn nodes(&self, run: RunId, payloads: Payloads) -> Result<Vec<NodeExecution>, StorageError> {
        let mut reader = self.reader("list attempts").await?;
        nodes::of_run(&mut reader, run, payloads).await
    }

    async fn logs(&self, run: RunId, query: LogQuery) -> Result<Logs, StorageError> {
        let mut reader = self.reader("list logs").await?;
        nodes::logs_of(&mut reader, run, query).await
    }

    async fn hosts(&self, run: RunId) -> Result<Vec<HostId>, StorageError> {
        let mut reader = self.reader("list hosts").await?;
        nodes::hosts_of(&mut reader, run).await
    }

    async fn effects(&self, run: RunId) -> Result<Vec<EffectNote>, StorageError> {
        let mut reader = self.reader("list effects").await?;
        nodes::effects_of(&mut reader, run).await
    }

    async fn interrupted(&self) -> Result<Vec<WorkflowRun>, StorageError> {
        let operation = "list interrupted runs";
        let mut reader = self.reader(operation).await?;
        let interrupted = query(INTERRUPTED).bind(RunState::Running.as_str()).bind(self.host.to_string());
        interrupted.fetch_each(&mut reader, operation, decode).await
    }
}
