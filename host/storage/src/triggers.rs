//! Triggers: their rows, and the port.

use async_trait::async_trait;
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::{Page, StorageError, TriggerStore};
use handshake_core::trigger::{Trigger, TriggerRef};
use handshake_core::{Timestamp, TriggerId, TriggerName};

use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::jobs;
use crate::listed::Listed;
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::{Row, column, query};
use crate::text;

macro_rules! columns {
    () => {
        "trigger_id, name, workflow, file, inputs, base, schedule, missed, next_at, last_at, last_job, last_error, \
         created_by, created_at"
    };
}

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM triggers WHERE trigger_id = $1");
const BY_NAME: &str = concat!("SELECT ", columns!(), " FROM triggers WHERE name = $1");
const LIST: &str = concat!("SELECT ", columns!(), " FROM triggers WHERE 1 = 1");
const DUE: &str =
    concat!("SELECT ", columns!(), " FROM triggers WHERE next_at <= $1 ORDER BY next_at, trigger_id LIMIT $2");
const INSERT: &str = concat!(
    "INSERT INTO triggers (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
);
const NEXT: &str = "SELECT next_at FROM triggers WHERE trigger_id = $1";
const ADVANCE: &str =
    "UPDATE triggers SET next_at = $1, last_at = $2, last_job = $3, last_error = $4 WHERE trigger_id = $5";
const REMOVE: &str = "DELETE FROM triggers WHERE trigger_id = $1";
const LISTED: Listed = Listed { what: "trigger", table: "triggers", key: "trigger_id" };

fn decode(row: &Row) -> Result<Trigger, StorageError> {
    let text = |name| column::<String>(row, name);
    let maybe = |name| column::<Option<String>>(row, name);
    let time = |name| column(row, name).map(Timestamp::from_micros);
    Ok(Trigger {
        trigger_id: text("trigger_id")?.parse().map_err(unreadable("trigger id"))?,
        name: TriggerName::new(text("name")?).map_err(unreadable("name of a trigger"))?,
        workflow: text("workflow")?,
        file: text("file")?,
        inputs: text::parse("inputs", &text("inputs")?)?,
        base: text("base")?.into(),
        schedule: text::parse("schedule", &text("schedule")?)?,
        missed: text("missed")?.parse().map_err(unreadable("way to treat missed times"))?,
        next_at: time("next_at")?,
        last_at: column::<Option<i64>>(row, "last_at")?.map(Timestamp::from_micros),
        last_job: maybe("last_job")?.map(|id| id.parse()).transpose().map_err(unreadable("job id"))?,
        last_error: maybe("last_error")?,
        created_by: text::parse("who created it", &text("created_by")?)?,
        created_at: time("created_at")?,
    })
}

fn missing(id: impl std::fmt::Display) -> StorageError {
    StorageError::NotFound { what: "trigger", id: id.to_string() }
}

/// Refuses a trigger that may not be stored.
fn check(trigger: &Trigger) -> Result<(), StorageError> {
    trigger.check().map_err(|error| StorageError::Validation(error.to_string()))?;
    trigger.last_error.as_ref().map_or(Ok(()), |error| text::check("error", error))
}

/// A new trigger.
struct Create {
    trigger: Trigger,
    base: String,
    inputs: String,
    schedule: String,
    created_by: String,
    events: Vec<AdmittedEvent>,
}

impl Create {
    fn encode(trigger: Trigger, events: Vec<AdmittedEvent>) -> Result<Self, StorageError> {
        check(&trigger)?;
        text::check("workflow", &trigger.workflow)?;
        text::check("file", &trigger.file)?;
        let Some(base) = trigger.base.to_str() else {
            return Err(StorageError::Validation(format!("folder `{}` is not UTF-8", trigger.base.display())));
        };
        Ok(Self {
            base: text::plain("folder", base)?,
            inputs: text::json("inputs", &trigger.inputs)?,
            schedule: text::json("schedule", &trigger.schedule)?,
            created_by: text::json("who created it", &trigger.created_by)?,
            trigger,
            events,
        })
    }
}

#[async_trait]
impl Operation for Create {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let trigger = &self.trigger;
        let stored = query(INSERT)
            .bind(trigger.trigger_id.to_string())
            .bind(trigger.name.as_str())
            .bind(trigger.workflow.as_str())
            .bind(trigger.file.as_str())
            .bind(self.inputs.as_str())
            .bind(self.base.as_str())
            .bind(self.schedule.as_str())
            .bind(trigger.missed.as_str())
            .bind(trigger.next_at.micros())
            .bind(trigger.last_at.map(Timestamp::micros))
            .bind(trigger.last_job.map(|id| id.to_string()))
            .bind(trigger.last_error.as_deref())
            .bind(self.created_by.as_str())
            .bind(trigger.created_at.micros())
            .execute(step.connection)
            .await
            .map_err(failed("store a trigger"));
        stored.map_err(|error| jobs::exists(error, "trigger", &trigger.name))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A trigger moves on to its next time.
struct Advance {
    trigger: Trigger,
    expected: Timestamp,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Advance {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "advance a trigger";
        let (trigger, expected) = (&self.trigger, self.expected);
        let id = trigger.trigger_id;
        let found = query(NEXT).bind(id.to_string()).keep_rows().fetch_value::<i64>(step.connection).await;
        let found = found.map_err(failed(operation))?.ok_or_else(|| Refusal::Answer(missing(id)))?;
        let found = Timestamp::from_micros(found);
        if found != expected {
            let moved = format!("trigger `{id}` fires next at {found}, not at {expected}");
            return Err(Refusal::Answer(StorageError::Conflict(moved)));
        }
        let advance = query(ADVANCE)
            .bind(trigger.next_at.micros())
            .bind(trigger.last_at.map(Timestamp::micros))
            .bind(trigger.last_job.map(|id| id.to_string()))
            .bind(trigger.last_error.as_deref())
            .bind(id.to_string());
        advance.execute(step.connection).await.map_err(failed(operation))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A trigger goes.
struct Remove {
    id: TriggerId,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Remove {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let removed = query(REMOVE).bind(self.id.to_string()).execute(step.connection).await;
        match removed.map_err(failed("remove a trigger"))? {
            0 => Err(Refusal::Answer(missing(self.id))),
            _ => Ok(Applied::Wrote(())),
        }
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

#[async_trait]
impl TriggerStore for SqlDatabase {
    async fn create_trigger(&self, trigger: Trigger, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        text::check_events(&events)?;
        self.queue.perform("store a trigger", Create::encode(trigger, events)?, None).await
    }

    async fn trigger(&self, which: &TriggerRef) -> Result<Trigger, StorageError> {
        let operation = "read a trigger";
        let mut reader = self.reader(operation).await?;
        let select = match which {
            TriggerRef::Id(id) => query(BY_ID).bind(id.to_string()),
            TriggerRef::Name(name) => query(BY_NAME).bind(name.as_str()),
        };
        let row = select.fetch_optional(&mut reader).await.map_err(failed(operation))?;
        decode(&row.ok_or_else(|| missing(which))?)
    }

    async fn triggers(&self, page: &Page<TriggerId>) -> Result<Vec<Trigger>, StorageError> {
        let operation = "list triggers";
        let mut reader = self.reader(operation).await?;
        let list = query(LIST);
        let after = page.after.map(|id| id.to_string());
        let list = LISTED.page(list, &mut reader, operation, after, page.size()).await?;
        let rows = list.fetch_all(&mut reader).await;
        rows.map_err(failed(operation))?.iter().map(decode).collect()
    }

    async fn due_triggers(&self, now: Timestamp, limit: u32) -> Result<Vec<Trigger>, StorageError> {
        let operation = "look for triggers that are due";
        let mut reader = self.reader(operation).await?;
        let due = query(DUE).bind(now.micros()).bind(i64::from(limit));
        due.fetch_all(&mut reader).await.map_err(failed(operation))?.iter().map(decode).collect()
    }

    async fn advance_trigger(
        &self,
        trigger: Trigger,
        expected: Timestamp,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError> {
        check(&trigger)?;
        text::check_events(&events)?;
        self.queue.perform("advance a trigger", Advance { trigger, expected, events }, None).await
    }

    async fn remove_trigger(&self, id: TriggerId, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        text::check_events(&events)?;
        self.queue.perform("remove a trigger", Remove { id, events }, None).await
    }
}
