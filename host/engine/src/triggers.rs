//! Triggers: workflows that run by themselves. They are added, and whoever executes runs fires those that are due.
//!
//! First the job is stored, under a key that names trigger and time; then the trigger moves on, if nobody else has
//! moved it. A process that is lost in between leaves a trigger that is still due: the next one asks for a job with
//! the same key, which is the same job. Two hosts at the same time do likewise.

mod cron;
mod occurrences;

use std::time::Duration;

use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::recorder::RecorderError;
use handshake_core::run::RunState;
use handshake_core::storage::StorageError;
use handshake_core::trigger::{MAX_TRIGGER_ERROR_BYTES, Missed, SCHEDULED_AT, Trigger, TriggerRef};
use handshake_core::workflow::{InputType, Workflow};
use handshake_core::{EventId, Timestamp, TraceId, TriggerId, TriggerName};

pub(crate) use self::cron::Cron;
use self::occurrences::{Due, LATE, MOST_AT_ONCE, first, occurrences};
use crate::Engine;
use crate::engine::{EngineError, EngineServices};
use crate::run::bounded_to;
use crate::submission::{self, InputValue, Submission, SubmitError, SubmittedJob};
use crate::workflow::{self, Format, WorkflowSource};

/// Triggers that one look fires; the next one goes on.
const MOST_TRIGGERS: u32 = 100;
/// A schedule that this version does not understand is looked at again after so long: another version may.
const NOT_UNDERSTOOD: Duration = Duration::from_secs(3_600);

/// Why a trigger was not added.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// Its workflow could not be run either.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The workflow does not say when.
    #[error("workflow `{workflow}` has no `trigger`, so nobody knows when to run it")]
    NoSchedule {
        /// Its name.
        workflow: String,
    },
    /// The input is the trigger's to give.
    #[error("input `{SCHEDULED_AT}` cannot be given: it gets the time for which the trigger fires")]
    TimeIsGiven,
    /// The workflow's name is no name of a trigger.
    #[error("no name for the trigger can be made of the workflow's name, `{workflow}`")]
    NoName {
        /// Its name.
        workflow: String,
    },
    /// The database did not do what was asked.
    #[error("the trigger could not be stored")]
    Storage(#[from] StorageError),
    /// An event was refused.
    #[error("an event of the trigger could not be recorded")]
    Recorder(#[from] RecorderError),
}

impl Engine {
    /// Adds a trigger for a workflow that says when it runs. Everything is checked as if it were submitted now. The
    /// name is made of the workflow's name unless it is given.
    pub async fn add_trigger(
        &self,
        name: Option<TriggerName>,
        submission: Submission,
    ) -> Result<Trigger, TriggerError> {
        add(&self.inner.services, name, submission).await
    }

    /// Removes a trigger; jobs that it has submitted stay. Returns how it was.
    pub async fn remove_trigger(&self, which: &TriggerRef, by: &Actor) -> Result<Trigger, TriggerError> {
        let services = &self.inner.services;
        let trigger = services.database.trigger(which).await?;
        let event = about(services, &trigger, by, format!("removed trigger `{}`", trigger.name))?;
        services.database.remove_trigger(trigger.trigger_id, vec![event]).await?;
        Ok(trigger)
    }

    /// Fires the triggers that are due. Returns the jobs that are now the caller's to execute. To be called at the
    /// start and whenever [`Self::next_due`] has come, by whoever executes runs.
    pub async fn fire_due(&self) -> Result<Vec<SubmittedJob>, EngineError> {
        let services = &self.inner.services;
        let now = services.clock.now();
        let mut begun = Vec::new();
        for trigger in services.database.due_triggers(now, MOST_TRIGGERS).await? {
            let name = trigger.name.clone();
            // The trigger is still due, so the next look tries again. Others do not wait for it.
            if let Err(error) = fire(services, trigger, now, &mut begun).await {
                tracing::warn!(trigger = %name, %error, "the trigger cannot fire now");
            }
        }
        Ok(begun)
    }

    /// When the next trigger is due; none without triggers. The time may be past.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, EngineError> {
        let soonest = self.inner.services.database.due_triggers(Timestamp::NEVER, 1).await?;
        Ok(soonest.first().map(|trigger| trigger.next_at).filter(|at| *at < Timestamp::NEVER))
    }
}

/// Whether a workflow wants to know for which time it runs.
fn wants_time(workflow: &Workflow) -> bool {
    workflow.inputs.get(SCHEDULED_AT).is_some_and(|spec| spec.kind == InputType::String)
}

async fn add(
    services: &EngineServices,
    name: Option<TriggerName>,
    mut submission: Submission,
) -> Result<Trigger, TriggerError> {
    let parsed = workflow::parse(&submission.source).map_err(SubmitError::from)?;
    let workflow = &parsed.workflow;
    let unscheduled = || TriggerError::NoSchedule { workflow: workflow.name.clone() };
    let spec = workflow.trigger.as_ref().ok_or_else(unscheduled)?;
    let schedule = spec.schedule().ok_or_else(unscheduled)?;
    let now = services.clock.now();
    // It was understood when the file was read.
    let next_at = first(&schedule, now).map_err(StorageError::Validation)?;
    let name = match name.or_else(|| name_of(&workflow.name)) {
        Some(name) => name,
        None => return Err(TriggerError::NoName { workflow: workflow.name.clone() }),
    };
    let timed = wants_time(workflow);
    if timed && submission.inputs.insert(SCHEDULED_AT.to_owned(), time(next_at)).is_some() {
        return Err(TriggerError::TimeIsGiven);
    }
    let accepted = submission::accept(services, &submission.source, submission.inputs, &submission.base).await?;
    let mut inputs = accepted.inputs.as_object().cloned().unwrap_or_default();
    if timed {
        inputs.remove(SCHEDULED_AT);
    }
    let trigger = Trigger {
        trigger_id: TriggerId::fresh(&*services.ids),
        name,
        workflow: submission.source.text,
        file: submission.source.file,
        inputs,
        base: submission.base,
        schedule,
        missed: spec.missed,
        next_at,
        last_at: None,
        last_job: None,
        last_error: None,
        created_by: submission.actor,
        created_at: now,
    };
    let detail = format!("added trigger `{}`: {}, next at {next_at}", trigger.name, trigger.schedule);
    let event = about(services, &trigger, &trigger.created_by, detail)?;
    services.database.create_trigger(trigger.clone(), vec![event]).await?;
    Ok(trigger)
}

fn time(at: Timestamp) -> InputValue {
    InputValue::Json(at.to_string().into())
}

/// What a workflow's name leaves of the letters that names of triggers have.
fn name_of(workflow: &str) -> Option<TriggerName> {
    let mut name = String::new();
    for letter in workflow.chars().flat_map(char::to_lowercase) {
        match letter {
            'a'..='z' | '0'..='9' | '_' => name.push(letter),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(64);
    TriggerName::new(name.trim_end_matches('-')).ok()
}

/// An event of a trigger. All of them have one trace.
fn about(
    services: &EngineServices,
    trigger: &Trigger,
    by: &Actor,
    detail: String,
) -> Result<AdmittedEvent, RecorderError> {
    admit(services, TraceId::from_uuid(trigger.trigger_id.uuid()), None, by, detail)
}

fn admit(
    services: &EngineServices,
    trace: TraceId,
    job: Option<&SubmittedJob>,
    by: &Actor,
    detail: String,
) -> Result<AdmittedEvent, RecorderError> {
    let body = EventBody::System { kind: "trigger".to_owned(), detail };
    let mut event = Event::new(EventId::fresh(&*services.ids), trace, services.clock.now(), by.clone(), body);
    event.job_id = job.map(|job| job.job_id);
    event.workflow_run_id = job.map(|job| job.run_id);
    services.recorder.admit(&event)
}

/// Fires one trigger for the times that are due, and moves it on. Jobs to execute are added to `begun` as soon as they
/// are stored, because they are there whatever happens then.
async fn fire(
    services: &EngineServices,
    trigger: Trigger,
    now: Timestamp,
    begun: &mut Vec<SubmittedJob>,
) -> Result<(), EngineError> {
    let system = Actor::system();
    let mut moved = trigger.clone();
    let (mut events, mut existing) = (Vec::new(), Vec::new());
    let due = match occurrences(&trigger.schedule, trigger.missed, trigger.next_at, now) {
        Ok(due) => due,
        Err(problem) => {
            moved.last_error = Some(bounded_to(services.words().clean(problem.clone()), MAX_TRIGGER_ERROR_BYTES));
            events.push(about(services, &trigger, &system, format!("trigger `{}`: {problem}", trigger.name))?);
            Due { fire: Vec::new(), next_at: now.plus(NOT_UNDERSTOOD), left_out: 0, uncounted: false }
        }
    };
    moved.next_at = due.next_at;
    if let Some(said) = about_missed(&trigger, &due, now) {
        events.push(about(services, &trigger, &system, said)?);
    }
    for at in &due.fire {
        match submit(services, &trigger, *at).await {
            Ok(job) => {
                (moved.last_at, moved.last_job, moved.last_error) = (Some(*at), Some(job.job_id), None);
                let trace = services.database.job(job.job_id).await?.trace_id;
                let detail = format!("trigger `{}` fired for {at}", trigger.name);
                events.push(admit(services, trace, Some(&job), &system, detail)?);
                if job.existing { existing.push(job) } else { begun.push(job) }
            }
            Err(error) if may_pass(&error) => return Err(EngineError::Submit(Box::new(error))),
            Err(error) => {
                let detail = format!("trigger `{}` brought no job for {at}: {error}", trigger.name);
                events.push(about(services, &trigger, &system, detail)?);
                moved.last_error = Some(bounded_to(error.to_string(), MAX_TRIGGER_ERROR_BYTES));
            }
        }
    }
    match services.database.advance_trigger(moved, trigger.next_at, events).await {
        Ok(()) => {}
        // Another host was faster, or somebody has removed it. The jobs are the same in either case.
        Err(StorageError::Conflict(_) | StorageError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // Those that a lost process has stored and not begun.
    for job in existing {
        if services.database.run(job.run_id).await?.state == RunState::Queued {
            begun.push(job);
        }
    }
    Ok(())
}

async fn submit(services: &EngineServices, trigger: &Trigger, at: Timestamp) -> Result<SubmittedJob, SubmitError> {
    let source = WorkflowSource {
        file: trigger.file.clone(),
        text: trigger.workflow.clone(),
        format: Format::of_path(std::path::Path::new(&trigger.file)),
    };
    let inputs = trigger.inputs.iter().map(|(name, value)| (name.clone(), InputValue::Json(value.clone())));
    let mut inputs: std::collections::BTreeMap<_, _> = inputs.collect();
    if wants_time(&workflow::parse(&source)?.workflow) {
        inputs.insert(SCHEDULED_AT.to_owned(), time(at));
    }
    let submission = Submission {
        source,
        inputs,
        base: trigger.base.clone(),
        idempotency_key: Some(trigger.idempotency_key(at)),
        actor: Actor::system(),
    };
    submission::submit(services, submission).await
}

/// Whether the same submission may succeed at the next look. Everything else is wrong with the workflow or its
/// surroundings, and the schedule goes on.
fn may_pass(error: &SubmitError) -> bool {
    match error {
        SubmitError::Storage(error) => {
            !matches!(error, StorageError::Validation(_) | StorageError::Guard(_) | StorageError::Serialization { .. })
        }
        SubmitError::Recorder(_) => true,
        _ => false,
    }
}

/// How many times were missed, and what is done about them; none when there is nothing to say.
fn about_missed(trigger: &Trigger, due: &Due, now: Timestamp) -> Option<String> {
    let name = &trigger.name;
    let more = if due.uncounted { "more than " } else { "" };
    match trigger.missed {
        Missed::Skip if due.left_out > 0 => {
            let left_out = due.left_out;
            Some(format!("trigger `{name}`: {more}{left_out} missed since {}, left out", trigger.next_at))
        }
        Missed::Once if due.left_out > 0 => {
            let all = due.left_out + 1;
            Some(format!("trigger `{name}`: {more}{all} due since {}, which become one run", trigger.next_at))
        }
        Missed::All => {
            let late = due.fire.iter().filter(|at| now.since(**at) > LATE).count();
            let rest = if due.fire.len() == MOST_AT_ONCE { ", the others at the next look" } else { "" };
            let since = trigger.next_at;
            (late > 0).then(|| format!("trigger `{name}`: {late} missed since {since} get a run each{rest}"))
        }
        Missed::Skip | Missed::Once => None,
    }
}
