//! Questions to people: asking, answering, and what follows for the run that waits.

use std::time::Duration;

use handshake_core::approval::{Approval, ApprovalError, ApprovalState, Vote};
use handshake_core::capability::{Extent, Grant};
use handshake_core::event::Actor;
use handshake_core::job::AiJob;
use handshake_core::run::RunState;
use handshake_core::storage::{ApprovalFilter, JobFilter, StorageError};
use handshake_core::token::Role;
use handshake_core::{ApprovalId, JobId, RunId, StepId};
use serde::{Deserialize, Serialize};

use crate::engine::{EngineError, EngineServices, Inner};
use crate::grants;
use crate::run::Envelope;

/// How often a vote is counted again when others vote at the same moment.
const MOST_TRIES: usize = 16;
/// Why an extent is refused.
const NOT_A_CAPABILITY: &str = "the question is not about a capability; leave out how far the answer reaches";

/// Which question somebody answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Question {
    /// The step that asks.
    pub step: StepId,
    /// Position within `for_each`.
    pub index: Option<u32>,
}

/// What somebody says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Yes or no.
    pub approve: bool,
    /// How far a yes reaches, for a question about a capability; none for the job that asks.
    pub extent: Option<Extent>,
    /// Why.
    pub reason: Option<String>,
    /// The role in which whoever answers came in; none for the person whose data it is.
    pub role: Option<Role>,
}

impl Answer {
    /// Yes or no, and nothing more.
    pub const fn of(approve: bool) -> Self {
        Self { approve, extent: None, reason: None, role: None }
    }
}

/// What became of a vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Voted {
    /// The question as it is now.
    pub approval: Approval,
    /// The run that can go on now, and its job; none when votes are missing, or a process is at it already.
    pub goes_on: Option<(RunId, JobId)>,
    /// What was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
}

/// Asks people. A question that was asked before stays as it is.
pub(crate) async fn request(
    services: &EngineServices,
    envelope: Envelope<'_>,
    approval: Approval,
) -> Result<(), EngineError> {
    let (id, step) = (approval.approval_id, approval.step_id.clone());
    let asked = Some(approval.prompt.clone()).filter(|prompt| !prompt.is_empty());
    let event = envelope.approval(id, &step, "requested", asked, &Actor::system())?;
    match services.database.request_approval(approval, vec![event]).await {
        Ok(()) => Ok(()),
        Err(StorageError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A question as it stands. One whose time is over expires now.
pub(crate) async fn current(services: &EngineServices, id: ApprovalId) -> Result<Approval, EngineError> {
    let found = services.database.approval(id).await?;
    let now = services.clock.now();
    if found.state != ApprovalState::Pending || found.expires_at.is_none_or(|expires| expires > now) {
        return Ok(found);
    }
    let votes = found.votes.len();
    let expired = found.expire(now)?;
    decide(services, &expired, votes, "expired", None, &Actor::system()).await
}

/// Stores a question's new form; somebody who was faster wins.
async fn decide(
    services: &EngineServices,
    approval: &Approval,
    votes: usize,
    decision: &str,
    reason: Option<String>,
    by: &Actor,
) -> Result<Approval, EngineError> {
    let trace = services.database.run(approval.run_id).await?.trace_id;
    let envelope = Envelope { services, job: approval.job_id, run: approval.run_id, trace };
    let event = envelope.approval(approval.approval_id, &approval.step_id, decision, reason, by)?;
    match services.database.decide(approval.clone(), votes, vec![event]).await {
        Ok(()) => Ok(approval.clone()),
        Err(StorageError::Conflict(_)) => Ok(services.database.approval(approval.approval_id).await?),
        Err(error) => Err(error.into()),
    }
}

/// Withdraws a question that a grant has answered meanwhile.
pub(crate) async fn withdraw_one(services: &EngineServices, approval: Approval) -> Result<(), EngineError> {
    let votes = approval.votes.len();
    let cancelled = approval.cancel(services.clock.now())?;
    decide(services, &cancelled, votes, "cancelled", None, &Actor::system()).await?;
    Ok(())
}

/// Withdraws what a run still asks: nobody needs the answer any more.
pub(crate) async fn withdraw(services: &EngineServices, job: JobId, run: RunId) -> Result<(), EngineError> {
    for approval in open(services, job).await?.into_iter().filter(|approval| approval.run_id == run) {
        withdraw_one(services, approval).await?;
    }
    Ok(())
}

/// Questions of a job that nobody has decided.
async fn open(services: &EngineServices, job: JobId) -> Result<Vec<Approval>, EngineError> {
    let mut filter = ApprovalFilter { state: Some(ApprovalState::Pending), job: Some(job), ..Default::default() };
    filter.page.limit = 1_000;
    let mut all = Vec::new();
    loop {
        let page = services.database.approvals(&filter).await?;
        let Some(last) = page.last() else { return Ok(all) };
        filter.page.after = Some(last.approval_id);
        all.extend(page);
    }
}

/// A job and all that it started, directly or not.
pub(crate) async fn family(services: &EngineServices, id: JobId) -> Result<Vec<AiJob>, EngineError> {
    let mut jobs = vec![services.database.job(id).await?];
    let mut at = 0;
    while let Some(parent) = jobs.get(at).map(|job| job.job_id) {
        at += 1;
        let mut filter = JobFilter { parent: Some(parent), limit: 1_000, ..JobFilter::default() };
        loop {
            let page = services.database.jobs(&filter).await?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.job_id);
            jobs.extend(page);
        }
    }
    Ok(jobs)
}

/// What a job and those that it started ask people, oldest first.
pub(crate) async fn questions(services: &EngineServices, job: JobId) -> Result<Vec<Approval>, EngineError> {
    let mut all = Vec::new();
    for job in family(services, job).await? {
        // What a job that is over once asked, nobody needs to answer.
        if !job.state.is_final() {
            all.extend(open(services, job.job_id).await?);
        }
    }
    all.sort_by_key(|approval| (approval.created_at, approval.step_id.clone(), approval.index, approval.job_id));
    Ok(all)
}

/// The job that started it all.
pub(crate) async fn root(services: &EngineServices, mut job: AiJob) -> Result<AiJob, EngineError> {
    while let Some(parent) = job.parent_job_id {
        job = services.database.job(parent).await?;
    }
    Ok(job)
}

/// Answers a question of a job, or of one that it started.
pub(crate) async fn vote(
    inner: &Inner,
    id: JobId,
    which: Option<&Question>,
    answer: Answer,
    by: &Actor,
) -> Result<Voted, EngineError> {
    let Answer { approve, extent, reason, role } = answer;
    let services = &inner.services;
    let job = services.database.job(id).await?;
    crate::control::require_sound(&job)?;
    let open = questions(services, id).await?;
    let meant = |approval: &&Approval| {
        which.is_none_or(|which| (&approval.step_id, approval.index) == (&which.step, which.index))
    };
    let found: Vec<_> = open.iter().filter(meant).collect();
    let approval = match found.as_slice() {
        [one] => (*one).clone(),
        [] => return Err(EngineError::NoQuestion { job: id, state: job.state, asks: open.iter().map(name).collect() }),
        several => {
            return Err(EngineError::WhichQuestion { job: id, asks: several.iter().map(|one| name(one)).collect() });
        }
    };
    // Stored before the answer, and in force before anybody is told of it: whoever goes on must find it.
    let grant = match &approval.permission {
        Some(request) if approve => {
            let extent = extent.unwrap_or_default();
            Some(grants::give(services, &approval, request, extent, reason.clone(), by).await?)
        }
        Some(_) => None,
        None if extent.is_some() => return Err(ApprovalError::Invalid(NOT_A_CAPABILITY.to_owned()).into()),
        None => None,
    };
    if grant.is_some() {
        grants::refresh(services).await?;
    }
    let counted = count(services, approval, Answer { approve, extent: None, reason, role }, by).await;
    if let Some(grant) = &grant
        && !counted.as_ref().is_ok_and(|decided| decided.state == ApprovalState::Approved)
    {
        // Somebody else was faster and said no, or it was too late.
        grants::revoke(services, grant.grant_id, None, by).await?;
    }
    let decided = counted?;
    inner.decided.send_modify(|decided| *decided = decided.wrapping_add(1));
    let mut goes_on = None;
    if decided.state != ApprovalState::Pending {
        let root = root(services, services.database.job(decided.job_id).await?).await?;
        if let Some(id) = root.workflow_run_id {
            let run = services.database.run(id).await?;
            // One that somebody has paused has no such time, and goes on when somebody says so.
            let waits = run.state == RunState::Waiting && run.wake_at.is_some();
            goes_on = waits.then_some((id, root.job_id));
        }
    }
    Ok(Voted { approval: decided, goes_on, grant })
}

/// Counts a vote; again when somebody else's was counted meanwhile.
async fn count(
    services: &EngineServices,
    mut approval: Approval,
    answer: Answer,
    by: &Actor,
) -> Result<Approval, EngineError> {
    let Answer { approve, reason, role, .. } = answer;
    for _ in 0..MOST_TRIES {
        let now = services.clock.now();
        let votes = approval.votes.len();
        let vote = Vote { who: by.id.clone(), approve, reason: reason.clone(), at: now };
        let voted = match approval.clone().vote(vote, role) {
            Ok(voted) => voted,
            Err(error @ ApprovalError::Expired(_)) => {
                // It is over, and is said to be.
                current(services, approval.approval_id).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        let word = if approve { "approved" } else { "rejected" };
        let stored = decide(services, &voted, votes, word, reason.clone(), by).await?;
        if stored == voted {
            return Ok(stored);
        }
        approval = stored;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(StorageError::Conflict("too many people answer at the same moment; try again".to_owned()).into())
}

fn name(approval: &Approval) -> String {
    match approval.index {
        Some(index) => format!("{}[{index}]", approval.step_id),
        None => approval.step_id.to_string(),
    }
}
