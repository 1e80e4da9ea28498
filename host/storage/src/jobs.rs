//! Jobs: their rows, and the port.

use async_trait::async_trait;
use handshake_core::event::AdmittedEvent;
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::NodeExecution;
use handshake_core::run::{FencingToken, WorkflowRun};
use handshake_core::storage::{Begun, JobFilter, JobStore, RunChange, StorageError, Submitted};
use handshake_core::{JobId, ProfileId, Timestamp};

use crate::artifacts;
use crate::claims::{ClaimRun, EncodedChange, Unclaimed};
use crate::database::SqlDatabase;
use crate::error::{failed, is_duplicate, unreadable};
use crate::listed::Listed;
use crate::nodes::NodeRow;
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::runs::RunRow;
use crate::sql::{Connection, Query, Row, column, query};
use crate::text;

macro_rules! columns {
    () => {
        "job_id, trace_id, job_kind, created_at, parent_job_id, workflow_run_id, state, protocol_id, profile_id, \
         capability_profile_id, access_mode, safety_mode, entity_refs, planned_operations, metrics, status_reason, \
         updated_at, error_message, job_inputs, job_outputs, is_pinned"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM jobs WHERE job_id = $1");
const LIST: &str = concat!("SELECT ", columns!(), " FROM jobs WHERE 1 = 1");
const INSERT: &str = concat!(
    "INSERT INTO jobs (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
);
// What makes a job the job it is stays as it was submitted; a row that differs there is not found. Who executes a
// job writes it from memory, and somebody may have pinned it meanwhile; so only pinning pins.
const UPDATE: &str = "UPDATE jobs SET workflow_run_id = $6, state = $7, protocol_id = $8, profile_id = $9, \
     capability_profile_id = $10, access_mode = $11, safety_mode = $12, entity_refs = $13, planned_operations = $14, \
     metrics = $15, status_reason = $16, updated_at = $17, error_message = $18, job_inputs = $19, job_outputs = $20 \
     WHERE job_id = $1 AND trace_id = $2 AND job_kind = $3 AND created_at = $4 \
     AND parent_job_id IS NOT DISTINCT FROM $5";
const PIN: &str = "UPDATE jobs SET is_pinned = $1 WHERE job_id = $2";
const STATE: &str = "SELECT state FROM jobs WHERE job_id = $1";
const SET_STATE: &str = "UPDATE jobs SET state = $1, updated_at = $2 WHERE job_id = $3";
const KEY: &str = "SELECT job_id FROM idempotency_keys WHERE idempotency_key = $1";
const INSERT_KEY: &str = "INSERT INTO idempotency_keys (idempotency_key, job_id, created_at) VALUES ($1, $2, $3)";
const LISTED: Listed = Listed { what: "job", table: "jobs", key: "job_id" };

/// Jobs on a page when the caller does not say, and at most (R6.8 has the same bounds for events).
const PAGE: u32 = 50;
const LONGEST_PAGE: u32 = 1_000;
/// Longest idempotency key, bytes; a key is indexed, and indexes bound their entries.
const LONGEST_KEY: usize = 255;

/// A job as the database holds it.
pub(crate) struct JobRow {
    pub(crate) job_id: JobId,
    pub(crate) job: AiJob,
    entity_refs: String,
    planned_operations: String,
    metrics: String,
    job_inputs: String,
    job_outputs: Option<String>,
}

impl JobRow {
    /// Checks and encodes a job.
    pub(crate) fn encode(job: AiJob) -> Result<Self, StorageError> {
        if job.job_id.is_nil() || job.trace_id.is_nil() {
            return Err(StorageError::Validation("a job needs an id and a trace that are not nil".into()));
        }
        let texts = [
            ("protocol id", Some(&job.protocol_id)),
            ("profile id", Some(&job.profile_id)),
            ("status reason", Some(&job.status_reason)),
            ("error message", job.error_message.as_ref()),
        ];
        for (what, value) in texts {
            value.map_or(Ok(()), |value| text::check(what, value))?;
        }
        Ok(Self {
            job_id: job.job_id,
            entity_refs: text::json("entity references", &job.entity_refs)?,
            planned_operations: text::json("planned operations", &job.planned_operations)?,
            metrics: text::json("metrics", &job.metrics)?,
            job_inputs: text::json("job inputs", &job.job_inputs)?,
            job_outputs: job.job_outputs.as_ref().map(|outputs| text::json("job outputs", outputs)).transpose()?,
            job,
        })
    }

    /// The job's state.
    pub(crate) fn state(&self) -> JobState {
        self.job.state
    }

    /// A statement with every column but `is_pinned`, which is the last one.
    fn bind(&self, statement: &'static str) -> Query<'_> {
        let job = &self.job;
        query(statement)
            .bind(job.job_id.to_string())
            .bind(job.trace_id.to_string())
            .bind(job.job_kind.as_str())
            .bind(job.created_at.micros())
            .bind(job.parent_job_id.map(|id| id.to_string()))
            .bind(job.workflow_run_id.map(|id| id.to_string()))
            .bind(job.state.as_str())
            .bind(job.protocol_id.as_str())
            .bind(job.profile_id.as_str())
            .bind(job.capability_profile_id.as_str())
            .bind(job.access_mode.as_str())
            .bind(job.safety_mode.as_str())
            .bind(self.entity_refs.as_str())
            .bind(self.planned_operations.as_str())
            .bind(self.metrics.as_str())
            .bind(job.status_reason.as_str())
            .bind(job.updated_at.micros())
            .bind(job.error_message.as_deref())
            .bind(self.job_inputs.as_str())
            .bind(self.job_outputs.as_deref())
    }

    /// Refuses to go on unless the job is still in this state, in which it stays until the transaction ends.
    pub(crate) async fn require(&self, step: &mut Step<'_>, from: JobState) -> Result<(), Refusal> {
        let id = self.job_id;
        let found = query(STATE).bind(id.to_string()).keep_rows().fetch_value::<String>(step.connection).await;
        let found = found.map_err(failed("read a job"))?.ok_or_else(|| Refusal::Answer(missing(id)))?;
        if found == from.as_str() {
            return Ok(());
        }
        Err(Refusal::Answer(StorageError::Conflict(format!("job `{id}` is `{found}`, not `{from}`"))))
    }

    /// Writes a job's new form.
    pub(crate) async fn update(&self, step: &mut Step<'_>) -> Result<(), StorageError> {
        if self.bind(UPDATE).execute(step.connection).await.map_err(failed("update a job"))? == 1 {
            return Ok(());
        }
        let id = self.job_id;
        Err(StorageError::Validation(format!(
            "job `{id}` does not exist with this trace, kind, parent and time of creation"
        )))
    }
}

fn decode(row: &Row) -> Result<AiJob, StorageError> {
    let text = |name| column::<String>(row, name);
    let maybe = |name| column::<Option<String>>(row, name);
    let time = |name| column(row, name).map(Timestamp::from_micros);
    Ok(AiJob {
        job_id: text("job_id")?.parse().map_err(unreadable("job id"))?,
        trace_id: text("trace_id")?.parse().map_err(unreadable("trace id"))?,
        workflow_run_id: maybe("workflow_run_id")?.map(|id| id.parse()).transpose().map_err(unreadable("run id"))?,
        job_kind: text("job_kind")?.parse().map_err(unreadable("job kind"))?,
        state: text("state")?.parse().map_err(unreadable("job state"))?,
        protocol_id: text("protocol_id")?,
        profile_id: text("profile_id")?,
        capability_profile_id: ProfileId::new(text("capability_profile_id")?).map_err(unreadable("profile id"))?,
        access_mode: text("access_mode")?.parse().map_err(unreadable("access mode"))?,
        safety_mode: text("safety_mode")?.parse().map_err(unreadable("safety mode"))?,
        entity_refs: text::parse("entity references", &text("entity_refs")?)?,
        planned_operations: text::parse("planned operations", &text("planned_operations")?)?,
        metrics: text::parse("metrics", &text("metrics")?)?,
        status_reason: text("status_reason")?,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        error_message: maybe("error_message")?,
        job_inputs: text::parse("job inputs", &text("job_inputs")?)?,
        job_outputs: maybe("job_outputs")?.map(|json| text::parse("job outputs", &json)).transpose()?,
        is_pinned: column(row, "is_pinned")?,
        parent_job_id: maybe("parent_job_id")?.map(|id| id.parse()).transpose().map_err(unreadable("job id"))?,
    })
}

/// One job.
pub(crate) async fn find(connection: &mut Connection, id: JobId) -> Result<AiJob, StorageError> {
    let row = query(SELECT).bind(id.to_string()).fetch_optional(connection).await.map_err(failed("read a job"))?;
    match row {
        Some(row) => decode(&row),
        None => Err(missing(id)),
    }
}

/// Sets nothing but the state.
pub(crate) async fn set_state(
    connection: &mut Connection,
    id: JobId,
    state: JobState,
    now: Timestamp,
) -> Result<(), StorageError> {
    let statement = query(SET_STATE).bind(state.as_str()).bind(now.micros()).bind(id.to_string());
    statement.execute(connection).await.map(drop).map_err(failed("update a job"))
}

fn missing(id: JobId) -> StorageError {
    StorageError::NotFound { what: "job", id: id.to_string() }
}

/// A new job with its first run.
struct Submit {
    job: JobRow,
    run: RunRow,
    key: Option<String>,
    events: Vec<AdmittedEvent>,
}

impl Submit {
    fn encode(
        job: AiJob,
        run: WorkflowRun,
        key: Option<&str>,
        events: Vec<AdmittedEvent>,
    ) -> Result<Self, StorageError> {
        check_run(&job, &run)?;
        if let Some(key) = key {
            text::check("idempotency key", key)?;
            if key.is_empty() || key.len() > LONGEST_KEY {
                return Err(StorageError::Validation(format!("an idempotency key has 1 to {LONGEST_KEY} bytes")));
            }
        }
        text::check_events(&events)?;
        Ok(Self { job: JobRow::encode(job)?, run: RunRow::encode(run)?, key: key.map(str::to_owned), events })
    }

    /// Stores it, or finds the job that the key was used for.
    async fn store(&self, step: &mut Step<'_>) -> Result<Option<Box<AiJob>>, Refusal> {
        let operation = "store a job";
        if let Some(key) = &self.key {
            let first: Option<String> =
                query(KEY).bind(key.as_str()).fetch_value(step.connection).await.map_err(failed(operation))?;
            if let Some(first) = first {
                let job = find(step.connection, first.parse().map_err(unreadable("job id"))?).await?;
                return Ok(Some(Box::new(job)));
            }
        }
        let insert = self.job.bind(INSERT).bind(self.job.job.is_pinned);
        let stored = insert.execute(step.connection).await.map_err(failed(operation));
        stored.map_err(|error| exists(error, "job", self.job.job_id))?;
        self.run.insert(step).await?;
        if let Some(key) = &self.key {
            query(INSERT_KEY)
                .bind(key.as_str())
                .bind(self.job.job_id.to_string())
                .bind(step.now.micros())
                .execute(step.connection)
                .await
                .map_err(failed(operation))?;
        }
        Ok(None)
    }
}

#[async_trait]
impl Operation for Submit {
    type Answer = Submitted;

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<Submitted>, Refusal> {
        if let Some(job) = self.store(step).await? {
            return Ok(Applied::Unchanged(Submitted::Existing(job)));
        }
        step.connection.announce().await?;
        Ok(Applied::Wrote(Submitted::New))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A new job whose first run is claimed with it.
struct Begin {
    submit: Submit,
    claim: ClaimRun,
    /// Of both.
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Begin {
    type Answer = Begun;

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<Begun>, Refusal> {
        if let Some(job) = self.submit.store(step).await? {
            return Ok(Applied::Unchanged(Begun::Existing(job)));
        }
        let (run, job) = (&self.submit.run, &self.submit.job);
        let before = Unclaimed {
            job: job.job_id,
            state: run.state(),
            job_state: job.state(),
            fence: FencingToken(0),
            is_pinned: job.job.is_pinned,
        };
        let claim = self.claim.take(step, before).await.map_err(|refusal| match refusal {
            // The job is written already.
            Refusal::Answer(error) => Refusal::Failure(error),
            failure => failure,
        })?;
        Ok(Applied::Wrote(Begun::Claimed(Box::new(claim))))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A job moves on, perhaps into another run.
struct Transition {
    job: JobRow,
    from: JobState,
    run: Option<RunRow>,
    nodes: Vec<NodeRow>,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Transition {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        self.job.require(step, self.from).await?;
        self.job.update(step).await?;
        if let Some(run) = &self.run {
            run.insert(step).await?;
            for node in &self.nodes {
                node.write(step).await?;
            }
            artifacts::inherit(step, run.run_id, self.job.job_id).await?;
            step.connection.announce().await?;
        }
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A job is pinned, or no longer.
struct Pin {
    id: JobId,
    pinned: bool,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Pin {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let pin = query(PIN).bind(self.pinned).bind(self.id.to_string());
        match pin.execute(step.connection).await.map_err(failed("pin a job"))? {
            0 => Err(Refusal::Answer(missing(self.id))),
            _ => Ok(Applied::Wrote(())),
        }
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A row that was there already, by its name; any other error as it is.
pub(crate) fn exists(error: StorageError, what: &str, id: impl std::fmt::Display) -> StorageError {
    if is_duplicate(&error) { StorageError::Conflict(format!("{what} `{id}` exists already")) } else { error }
}

/// A run belongs to its job.
fn check_run(job: &AiJob, run: &WorkflowRun) -> Result<(), StorageError> {
    if run.job_id == job.job_id && run.trace_id == job.trace_id {
        return Ok(());
    }
    Err(StorageError::Validation("a job's run must carry the job's id and trace".into()))
}

#[async_trait]
impl JobStore for SqlDatabase {
    async fn submit(
        &self,
        job: AiJob,
        run: WorkflowRun,
        key: Option<&str>,
        events: Vec<AdmittedEvent>,
    ) -> Result<Submitted, StorageError> {
        let submitted = self.queue.perform("store a job", Submit::encode(job, run, key, events)?, None).await?;
        self.queued.send_modify(|count| *count += 1);
        Ok(submitted)
    }

    async fn begin(
        &self,
        job: AiJob,
        run: WorkflowRun,
        key: Option<&str>,
        mut events: Vec<AdmittedEvent>,
        change: RunChange,
    ) -> Result<Begun, StorageError> {
        let id = run.run_id;
        let submit = Submit::encode(job, run, key, Vec::new())?;
        text::check_events(&events)?;
        let claim = ClaimRun::new(id, EncodedChange::encode(id, change)?, self.lease)?;
        events.extend(claim.events().iter().cloned());
        self.queue.perform("store a job", Begin { submit, claim, events }, None).await
    }

    async fn transition(&self, job: AiJob, from: JobState, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        text::check_events(&events)?;
        let transition = Transition { job: JobRow::encode(job)?, from, run: None, nodes: Vec::new(), events };
        self.queue.perform("update a job", transition, None).await
    }

    async fn rerun(
        &self,
        job: AiJob,
        from: JobState,
        run: WorkflowRun,
        nodes: Vec<NodeExecution>,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError> {
        check_run(&job, &run)?;
        if nodes.iter().any(|node| node.run_id != run.run_id) {
            return Err(StorageError::Validation("what a run starts with must carry its id".into()));
        }
        text::check_events(&events)?;
        let nodes = nodes.into_iter().map(NodeRow::encode).collect::<Result<_, _>>()?;
        let rerun = Transition { job: JobRow::encode(job)?, from, run: Some(RunRow::encode(run)?), nodes, events };
        self.queue.perform("store another run of a job", rerun, None).await?;
        self.queued.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn pin(&self, id: JobId, pinned: bool, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        text::check_events(&events)?;
        self.queue.perform("pin a job", Pin { id, pinned, events }, None).await
    }

    async fn job(&self, id: JobId) -> Result<AiJob, StorageError> {
        let mut reader = self.reader("read a job").await?;
        find(&mut reader, id).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<AiJob>, StorageError> {
        let operation = "list jobs";
        let mut reader = self.reader(operation).await?;
        let mut list = query(LIST);
        if let Some(state) = filter.state {
            list = list.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(kind) = filter.kind {
            list = list.push(" AND job_kind = ").push_bind(kind.as_str());
        }
        if let Some(protocol) = &filter.protocol_id {
            list = list.push(" AND protocol_id = ").push_bind(text::plain("protocol id", protocol)?);
        }
        if let Some(workspace) = &filter.workspace {
            let workspace = text::plain("workspace", workspace)?;
            list = list.push(" AND job_id IN (SELECT job_id FROM runs WHERE base = ").push_bind(workspace).push(")");
        }
        if let Some(parent) = filter.parent {
            list = list.push(" AND parent_job_id = ").push_bind(parent.to_string());
        }
        if let Some(since) = filter.since {
            list = list.push(" AND created_at >= ").push_bind(since.micros());
        }
        if let Some(until) = filter.until {
            list = list.push(" AND created_at < ").push_bind(until.micros());
        }
        let limit = if filter.limit == 0 { PAGE } else { filter.limit.min(LONGEST_PAGE) };
        let after = filter.after.map(|id| id.to_string());
        let list = LISTED.page(list, &mut reader, operation, after, limit).await?;
        list.fetch_each(&mut reader, operation, decode).await
    }
}
