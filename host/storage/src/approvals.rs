//! Approvals: their rows, and the port.

use async_trait::async_trait;
use handshake_core::approval::{Approval, ApprovalState};
use handshake_core::event::AdmittedEvent;
use handshake_core::run::RunState;
use handshake_core::storage::{ApprovalFilter, ApprovalStore, StorageError};
use handshake_core::{ApprovalId, StepId, Timestamp};

use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::jobs;
use crate::listed::Listed;
use crate::nodes;
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::runs;
use crate::sql::{Row, column, number, query};
use crate::text;

macro_rules! columns {
    () => {
        "approval_id, job_id, run_id, step_id, item_index, state, prompt, approvers, quorum, votes, expires_at, \
         created_at, decided_at, permission"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM approvals WHERE approval_id = $1");
const LIST: &str = concat!("SELECT ", columns!(), " FROM approvals WHERE 1 = 1");
const INSERT: &str = concat!(
    "INSERT INTO approvals (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
);
const DECIDE: &str = "UPDATE approvals SET state = $1, votes = $2, decided_at = $3 WHERE approval_id = $4";
// A run that waits for a person has no such time.
const WAKE: &str = "UPDATE runs SET wake_at = $1 WHERE run_id = $2 AND state = $3 AND wake_at IS NOT NULL";
const JOB_OF: &str = "SELECT job_id FROM runs WHERE run_id = $1";
const LISTED: Listed = Listed { what: "approval", table: "approvals", key: "approval_id" };

fn decode(row: &Row) -> Result<Approval, StorageError> {
    let text = |name| column::<String>(row, name);
    let maybe_time = |name| column::<Option<i64>>(row, name).map(|at| at.map(Timestamp::from_micros));
    Ok(Approval {
        approval_id: text("approval_id")?.parse().map_err(unreadable("approval id"))?,
        job_id: text("job_id")?.parse().map_err(unreadable("job id"))?,
        run_id: text("run_id")?.parse().map_err(unreadable("run id"))?,
        step_id: StepId::new(text("step_id")?).map_err(unreadable("step id"))?,
        index: nodes::index(row)?,
        state: text("state")?.parse().map_err(unreadable("approval state"))?,
        prompt: text("prompt")?,
        approvers: text::parse("approvers", &text("approvers")?)?,
        quorum: number(row, "quorum")?,
        votes: text::parse("votes", &text("votes")?)?,
        expires_at: maybe_time("expires_at")?,
        created_at: Timestamp::from_micros(column(row, "created_at")?),
        decided_at: maybe_time("decided_at")?,
        permission: column::<Option<String>>(row, "permission")?
            .map(|json| text::parse("permission", &json))
            .transpose()?,
    })
}

fn missing(id: ApprovalId) -> StorageError {
    StorageError::NotFound { what: "approval", id: id.to_string() }
}

/// A new approval.
struct Request {
    approval: Approval,
    approvers: String,
    votes: String,
    permission: Option<String>,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Request {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "store an approval";
        let approval = &self.approval;
        let (id, run, job) = (approval.approval_id, approval.run_id, approval.job_id.to_string());
        let found = query(JOB_OF).bind(run.to_string()).keep_rows().fetch_value::<String>(step.connection).await;
        let found = found.map_err(failed(operation))?.ok_or_else(|| Refusal::Answer(runs::missing(run)))?;
        if found != job {
            let foreign = format!("run `{run}` is not one of job `{job}`");
            return Err(Refusal::Answer(StorageError::Validation(foreign)));
        }
        let stored = query(INSERT)
            .bind(id.to_string())
            .bind(job)
            .bind(run.to_string())
            .bind(approval.step_id.as_str())
            .bind(approval.index.map_or(nodes::NO_INDEX, i64::from))
            .bind(approval.state.as_str())
            .bind(approval.prompt.as_str())
            .bind(self.approvers.as_str())
            .bind(i64::from(approval.quorum))
            .bind(self.votes.as_str())
            .bind(approval.expires_at.map(Timestamp::micros))
            .bind(approval.created_at.micros())
            .bind(approval.decided_at.map(Timestamp::micros))
            .bind(self.permission.as_deref())
            .execute(step.connection)
            .await
            .map_err(failed(operation));
        stored.map_err(|error| jobs::exists(error, "approval", id))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// An approval gets a vote, or is over.
struct Decide {
    approval: Approval,
    votes: String,
    expected_votes: usize,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Decide {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "decide an approval";
        let (id, expected) = (self.approval.approval_id, self.expected_votes);
        let row = query(SELECT).bind(id.to_string()).keep_rows().fetch_optional(step.connection).await;
        let row = row.map_err(failed(operation))?.ok_or_else(|| Refusal::Answer(missing(id)))?;
        let stored = decode(&row)?;
        if stored.state != ApprovalState::Pending || stored.votes.len() != expected {
            let (state, votes) = (stored.state, stored.votes.len());
            let moved = format!("approval `{id}` is `{state}` with {votes} votes, not pending with {expected}");
            return Err(Refusal::Answer(StorageError::Conflict(moved)));
        }
        if !self.approval.votes.starts_with(&stored.votes) {
            let other = format!("approval `{id}`: votes that were given stay as they are");
            return Err(Refusal::Answer(StorageError::Validation(other)));
        }
        let decide = query(DECIDE)
            .bind(self.approval.state.as_str())
            .bind(self.votes.as_str())
            .bind(self.approval.decided_at.map(Timestamp::micros))
            .bind(id.to_string());
        decide.execute(step.connection).await.map_err(failed(operation))?;
        if let Some(at) = self.approval.decided_at {
            let wake = query(WAKE).bind(at.micros()).bind(stored.run_id.to_string()).bind(RunState::Waiting.as_str());
            wake.execute(step.connection).await.map_err(failed(operation))?;
        }
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

#[async_trait]
impl ApprovalStore for SqlDatabase {
    async fn request_approval(&self, approval: Approval, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        approval.check().map_err(|error| StorageError::Validation(error.to_string()))?;
        text::check("question", &approval.prompt)?;
        text::check_events(&events)?;
        let approvers = text::json("approvers", &approval.approvers)?;
        let votes = text::json("votes", &approval.votes)?;
        let permission = approval.permission.as_ref().map(|request| text::json("permission", request)).transpose()?;
        let request = Request { approval, approvers, votes, permission, events };
        self.queue.perform("store an approval", request, None).await
    }

    async fn approval(&self, id: ApprovalId) -> Result<Approval, StorageError> {
        let operation = "read an approval";
        let mut reader = self.reader(operation).await?;
        let row = query(SELECT).bind(id.to_string()).fetch_optional(&mut reader).await.map_err(failed(operation))?;
        decode(&row.ok_or_else(|| missing(id))?)
    }

    async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>, StorageError> {
        let operation = "list approvals";
        let mut reader = self.reader(operation).await?;
        let mut list = query(LIST);
        if let Some(state) = filter.state {
            list = list.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(job) = filter.job {
            list = list.push(" AND job_id = ").push_bind(job.to_string());
        }
        let after = filter.page.after.map(|id| id.to_string());
        let list = LISTED.page(list, &mut reader, operation, after, filter.page.size()).await?;
        let rows = list.fetch_all(&mut reader).await;
        rows.map_err(failed(operation))?.iter().map(decode).collect()
    }

    async fn decide(
        &self,
        approval: Approval,
        expected_votes: usize,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError> {
        text::check_events(&events)?;
        let votes = text::json("votes", &approval.votes)?;
        self.queue.perform("decide an approval", Decide { approval, votes, expected_votes, events }, None).await
    }
}
