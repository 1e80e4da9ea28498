//! What becomes of proposals. Each answer is one transaction, which is made only while the job is still where it was
//! found: of two hosts that settle the same job, or two people who decide, one is first.

use std::time::Duration;

use handshake_core::edit::{EditContext, Editor, EditorKind, JobMove, SilentEdit};
use handshake_core::event::{Actor, ActorKind, AdmittedEvent, EventBody};
use handshake_core::job::{AccessMode, AiJob, JobEvent, JobState};
use handshake_core::run::RunState;
use handshake_core::storage::{JobFilter, StorageError};
use handshake_core::workflow::Review;
use handshake_core::{JobId, RunId};

use super::capability::{self, Occasion};
use super::changes::changes;
use super::draft::Draft;
use super::gathering::{Gathered, gather};
use super::validators::{COUNT, Finding, Verdict};
use crate::control::latest_run;
use crate::documents::latest;
use crate::engine::{EngineError, EngineServices};
use crate::run::{Envelope, Violation};

/// How often a job is settled anew because a document changed while that was done.
const MOST_TRIES: u32 = 5;
/// How many findings a reason names.
const NAMED: usize = 10;
/// Longest name of an editor, bytes.
const MAX_EDITOR: usize = 256;
/// How the reason of a job begins whose proposals were applied: the one sign of that which outlasts later edits.
pub(super) const APPLIED: &str = "applied";

fn envelope<'s>(services: &'s EngineServices, job: &AiJob, run: RunId) -> Envelope<'s> {
    Envelope { services, job: job.job_id, run, trace: job.trace_id }
}

fn sentence(findings: &[Finding], verdict: Verdict) -> Option<String> {
    let all: Vec<_> = findings.iter().filter(|finding| finding.verdict == verdict).collect();
    let mut text = all.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if all.len() > NAMED {
        text.push_str(&format!("; and {} more", all.len() - NAMED));
    }
    (!all.is_empty()).then_some(text)
}

/// `1 change`, `2 changes`.
fn counted(gathered: &Gathered) -> String {
    let count: usize = gathered.proposed.iter().map(|proposed| proposed.proposal.operations.len()).sum();
    if count == 1 { "1 proposed change".to_owned() } else { format!("{count} proposed changes") }
}

/// Moves a job on whose proposals are to be validated; leaves any other as it is.
pub(crate) async fn settle(services: &EngineServices, id: JobId) -> Result<AiJob, EngineError> {
    for _ in 0..MOST_TRIES {
        let job = services.database.job(id).await?;
        if job.state != JobState::AwaitingValidation {
            return Ok(job);
        }
        match settle_once(services, job).await {
            // Another host settles it, or a document changed in between.
            Err(EngineError::Storage(StorageError::Conflict(problem))) => tracing::info!(job = %id, "{problem}"),
            settled => return settled,
        }
    }
    // Whoever looks for such jobs next takes it up.
    Ok(services.database.job(id).await?)
}

/// Settles every job that was left behind. What cannot be settled now stays for the next time.
pub(crate) async fn settle_all(services: &EngineServices) -> Result<(), EngineError> {
    let mut filter = JobFilter { state: Some(JobState::AwaitingValidation), limit: 1_000, ..JobFilter::default() };
    loop {
        let jobs = services.database.jobs(&filter).await?;
        let Some(last) = jobs.last() else { return Ok(()) };
        filter.after = Some(last.job_id);
        for job in &jobs {
            if let Err(error) = settle(services, job.job_id).await {
                tracing::warn!(job = %job.job_id, %error, "the job's proposals could not be validated");
            }
        }
    }
}

async fn settle_once(services: &EngineServices, mut job: AiJob) -> Result<AiJob, EngineError> {
    let gathered = gather(services, &job).await?;
    let (findings, events) = gathered.validate(services, &job)?;
    job.metrics.validators_run_count += COUNT;
    let (rejected, flagged) = (sentence(&findings, Verdict::Reject), sentence(&findings, Verdict::NeedsPerson));
    let what = counted(&gathered);
    let (event, reason) = match (job.access_mode, rejected, flagged) {
        (AccessMode::ApplyScoped, Some(why), _) => {
            let reason = format!("{what} refused; {why}");
            job.error_message = Some(services.words().message(reason.clone()));
            (JobEvent::Fail, reason)
        }
        (AccessMode::ApplyScoped, None, None) if gathered.review == Review::WhenFlagged => {
            return apply(services, job, &gathered, JobEvent::Complete, what, &Actor::system(), events).await;
        }
        (AccessMode::ApplyScoped, None, flagged) => {
            let why = flagged.map_or_else(String::new, |why| format!("; {why}"));
            let id = job.job_id;
            let ask = format!(
                "`handshake jobs show {id}` shows what would change, `handshake jobs approve {id}` applies it, and \
                 `handshake jobs reject {id}` leaves everything as it is"
            );
            (JobEvent::AskUser, format!("{what}: a person decides{why}; {ask}"))
        }
        (mode, Some(why), _) => (JobEvent::CompleteWithIssues, format!("{what}, in {mode} never applied; {why}")),
        (mode, None, Some(why)) => (JobEvent::Complete, format!("{what}, in {mode} never applied; {why}")),
        (mode, None, None) => (JobEvent::Complete, format!("{what}, in {mode} never applied")),
    };
    move_job(services, job, gathered.run.run_id, (event, reason), &Actor::system(), events).await
}

/// Moves the job without an edit.
async fn move_job(
    services: &EngineServices,
    mut job: AiJob,
    run: RunId,
    (event, reason): (JobEvent, String),
    by: &Actor,
    mut events: Vec<AdmittedEvent>,
) -> Result<AiJob, EngineError> {
    let from = job.state;
    let envelope = envelope(services, &job, run);
    events.push(envelope.moves(&mut job, event, reason, by)?);
    if job.state.is_final() {
        events.push(envelope.job_span_end(&job, result(job.state))?);
    }
    services.database.transition(job.clone(), from, events).await?;
    Ok(job)
}

fn result(state: JobState) -> &'static str {
    match state {
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Poisoned => "poisoned",
        _ => "ok",
    }
}

/// Applies all proposals, in the transaction that makes the job done. They have been validated.
async fn apply(
    services: &EngineServices,
    mut job: AiJob,
    gathered: &Gathered,
    event: JobEvent,
    what: String,
    by: &Actor,
    mut events: Vec<AdmittedEvent>,
) -> Result<AiJob, EngineError> {
    let in_force = services.policy.current();
    let (refused, decisions) = capability::decide(services, &job, gathered, Occasion::Commit, &in_force)?;
    events.extend(decisions);
    if let Some(why) = sentence(&refused, Verdict::Reject) {
        return refuse(services, job, why, events).await;
    }
    let mut edits = Vec::new();
    let mut written = 0;
    let mut not_before = services.clock.now();
    for (named, state) in &gathered.documents {
        let mut draft = Draft::of(state);
        let mut any = false;
        for proposed in gathered.proposed.iter().filter(|proposed| proposed.proposal.document == *named) {
            for operation in &proposed.proposal.operations {
                any = true;
                // Validators have made the same on the same state.
                draft.apply(operation).map_err(EngineError::Internal)?;
            }
        }
        if any {
            written += 1;
            not_before = not_before.max(latest(state).plus(Duration::from_micros(1)));
            edits.extend(changes(&*services.ids, state, &draft));
        }
    }
    let before = job.clone();
    let from = job.state;
    let mut editor = gathered.labels();
    editor.truncate(editor.floor_char_boundary(MAX_EDITOR));
    let context = EditContext {
        kind: EditorKind::Ai,
        actor_id: editor,
        job: Some(job.job_id),
        run: Some(gathered.run.run_id),
        trace: job.trace_id,
    };
    job.metrics.entities_written += written;
    let envelope = envelope(services, &job, gathered.run.run_id);
    let reason = match by.kind {
        ActorKind::Human => format!("{APPLIED}: {what}, accepted by {}", by.id),
        _ => format!("{APPLIED}: {what}; nobody had to be asked"),
    };
    events.push(envelope.moves(&mut job, event, reason, by)?);
    events.push(envelope.job_span_end(&job, result(job.state))?);
    let editor =
        Editor::new(services.content.clone(), services.recorder.clone(), services.clock.clone(), services.ids.clone());
    match editor.edit_and_move(context, edits, JobMove { job: job.clone(), from, not_before, events }).await {
        Ok(_) => Ok(job),
        Err(StorageError::Guard(refusal)) if refusal.starts_with(SilentEdit::CODE) => {
            poison(services, before, gathered.run.run_id, refusal).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives up a job whose own edit was refused as one that nobody can answer for (R2.5). The refused edit is on record.
async fn poison(services: &EngineServices, mut job: AiJob, run: RunId, refusal: String) -> Result<AiJob, EngineError> {
    let violation = Violation { kind: "silent_edit".to_owned(), detail: refusal };
    let reason = violation.to_string();
    job.error_message = Some(services.words().message(reason.clone()));
    let events = vec![violation.event(&envelope(services, &job, run))?];
    move_job(services, job, run, (JobEvent::Poison, reason), &Actor::system(), events).await
}

/// Refuses to apply. The job stays where it is, and what was decided about it goes on record.
async fn refuse(
    services: &EngineServices,
    job: AiJob,
    why: String,
    events: Vec<AdmittedEvent>,
) -> Result<AiJob, EngineError> {
    let (id, from) = (job.job_id, job.state);
    services.database.transition(job, from, events).await?;
    Err(EngineError::ProposalsRefused { job: id, why })
}

/// Whether it is its proposals that the job waits for a person with: its run is over.
pub(crate) async fn is_waiting(services: &EngineServices, job: &AiJob) -> Result<bool, EngineError> {
    if job.state != JobState::AwaitingUser || job.planned_operations.is_empty() {
        return Ok(false);
    }
    let run = latest_run(services, job).await?;
    Ok(services.database.run(run).await?.state == RunState::Completed)
}

/// The job, if a person who may decide about its proposals now does.
async fn waiting(services: &EngineServices, id: JobId, by: &Actor) -> Result<AiJob, EngineError> {
    let job = services.database.job(id).await?;
    crate::control::require_sound(&job)?;
    if !is_waiting(services, &job).await? {
        return Err(EngineError::NoProposals { job: id, state: job.state });
    }
    if by.kind != ActorKind::Human {
        return Err(EngineError::NotAPerson { job: id });
    }
    Ok(job)
}

fn approval(
    services: &EngineServices,
    job: &AiJob,
    run: RunId,
    by: &Actor,
    approve: bool,
    reason: Option<&str>,
) -> Result<AdmittedEvent, EngineError> {
    let reason = reason.map(|reason| crate::run::bounded(reason.to_owned()));
    let decision = if approve { "approved" } else { "rejected" }.to_owned();
    let body = EventBody::Approval { approval_id: None, decision, reason, grant: None };
    Ok(envelope(services, job, run).admit(by.clone(), body)?)
}

/// Somebody accepts: what is proposed is validated once more, and applied.
pub(crate) async fn accept(
    services: &EngineServices,
    id: JobId,
    by: &Actor,
    reason: Option<String>,
) -> Result<AiJob, EngineError> {
    let mut job = waiting(services, id, by).await?;
    let gathered = gather(services, &job).await?;
    let (findings, mut events) = gathered.validate(services, &job)?;
    job.metrics.validators_run_count += COUNT;
    if let Some(why) = sentence(&findings, Verdict::Reject) {
        return refuse(services, job, why, events).await;
    }
    events.push(approval(services, &job, gathered.run.run_id, by, true, reason.as_deref())?);
    let mut what = counted(&gathered);
    let event = match sentence(&findings, Verdict::NeedsPerson) {
        Some(why) => {
            what.push_str(&format!(" ({why})"));
            JobEvent::CompleteWithIssues
        }
        None => JobEvent::Complete,
    };
    apply(services, job, &gathered, event, what, by, events).await
}

/// Somebody declines: nothing is applied.
pub(crate) async fn decline(
    services: &EngineServices,
    id: JobId,
    by: &Actor,
    reason: Option<String>,
) -> Result<AiJob, EngineError> {
    let job = waiting(services, id, by).await?;
    let run = latest_run(services, &job).await?;
    let events = vec![approval(services, &job, run, by, false, reason.as_deref())?];
    let why = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let moved = (JobEvent::CompleteWithIssues, format!("declined by {}{why}", by.id));
    move_job(services, job, run, moved, by, events).await
}

/// Somebody cancels the job instead.
pub(crate) async fn cancel(services: &EngineServices, job: AiJob, by: &Actor) -> Result<AiJob, EngineError> {
    let run = latest_run(services, &job).await?;
    let moved = (JobEvent::Cancel, format!("cancelled by {}", by.id));
    move_job(services, job, run, moved, by, Vec::new()).await
}
