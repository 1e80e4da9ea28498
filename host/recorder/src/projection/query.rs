//! What can be asked of the projection. SQL is put together from fixed pieces; every value is bound.

use std::collections::BTreeMap;

use duckdb::{Connection, Row, ToSql, params_from_iter};
use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::{EventType, Outcome};
use handshake_core::recorder::RecorderError;
use handshake_core::{Digest, EventId, HostId, JobId, RunId, StepId, Timestamp, TraceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::columns::{signed, workspace};
use super::file::FileError;

/// Events per page when the query names no number.
const DEFAULT_PAGE: u32 = 200;
/// The most that one page holds.
pub(super) const LARGEST_PAGE: u32 = 1000;

/// Which events (R6.8); newest first, by the time they were recorded. Everything that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    /// This event.
    pub event_id: Option<EventId>,
    /// Of this job.
    pub job_id: Option<JobId>,
    /// Of this run.
    pub run_id: Option<RunId>,
    /// Of this trace.
    pub trace_id: Option<TraceId>,
    /// Of this step.
    pub step_id: Option<StepId>,
    /// Recorded at this time or later.
    pub from: Option<Timestamp>,
    /// Recorded before this time.
    pub to: Option<Timestamp>,
    /// By this actor; a plugin's id without version means all its versions.
    pub actor: Option<String>,
    /// From this surface: `cli`, `plugin`, `host`, `terminal`, or an editor's label.
    pub surface: Option<String>,
    /// Of this type, for example `capability_action`.
    pub event_type: Option<EventType>,
    /// Of this workspace.
    pub wsid: Option<String>,
    /// About this capability.
    pub capability_id: Option<String>,
    /// Decided this way.
    pub decision_outcome: Option<Outcome>,
    /// At most so many: 0 means 200, and 1,000 is the most.
    pub limit: u32,
    /// Continues an earlier page: its `next`.
    pub before: Option<String>,
    /// Only what was recorded after an earlier answer, its `resume`; oldest first. `0` begins with the first event.
    pub after: Option<String>,
}

/// An event as it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecordedEvent {
    /// The host that recorded it.
    pub host: HostId,
    /// Its number in that host's chain.
    pub seq: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// SHA-256 of its record in the chain.
    pub hash: Digest,
    /// The event.
    pub event: Value,
}

/// Some events, newest first, or oldest first when the query has `after`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EventPage {
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// What the next page's `before` must be, or its `after` when the query had that; none on the last page.
    pub next: Option<String>,
    /// What `after` must be for the events that are recorded from now on.
    pub resume: String,
    /// The range that was asked for begins before this time, and what was recorded before it is not kept any more.
    /// None when everything is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_before: Option<Timestamp>,
}

/// Which decisions to count. Everything that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MatrixQuery {
    /// Of this run.
    pub run_id: Option<RunId>,
    /// Of this job.
    pub job_id: Option<JobId>,
    /// Of this plugin, with or without version.
    pub plugin: Option<String>,
    /// Recorded at this time or later.
    pub since: Option<Timestamp>,
}

/// How often one plugin asked for one capability, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MatrixRow {
    /// The actor: for plugins id and version.
    pub plugin: String,
    /// The capability.
    pub capability: String,
    /// Allowed calls, those in `would_deny` included.
    pub allowed: u64,
    /// Denied calls.
    pub denied: u64,
    /// Allowed calls that the policy would have denied, had it not been in observe mode.
    pub would_deny: u64,
    /// Denied calls by reason.
    pub denied_reasons: BTreeMap<String, u64>,
}

/// Where a page ended. Newer events sort before it, so they neither shift nor repeat what follows.
struct Place {
    recorded_at: i64,
    host: String,
    seq: i64,
}

impl Place {
    fn of(event: &RecordedEvent) -> String {
        Self::text(event.recorded_at, event.seq, event.host)
    }

    fn text(recorded_at: Timestamp, seq: u64, host: HostId) -> String {
        format!("{}.{seq}.{host}", recorded_at.micros())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let recorded_at = parts.next()?.parse().ok()?;
        let seq = parts.next()?.parse().ok()?;
        let host: HostId = parts.next()?.parse().ok()?;
        Some(Self { recorded_at, host: host.to_string(), seq })
    }
}

impl EventQuery {
    /// Whether it asks for nothing that few events have in common.
    fn names_nothing(&self) -> bool {
        self.event_id.is_none() && self.job_id.is_none() && self.run_id.is_none() && self.trace_id.is_none()
    }

    /// Refuses what cannot be asked.
    pub(super) fn check(&self) -> Result<(), RecorderError> {
        let refused = |problem: String| Err(RecorderError::Query(problem));
        let shown = |text: &str| {
            let text: String = text.chars().take(80).collect();
            handshake_core::terminal::escape(&text, false).into_owned()
        };
        if let Some(before) = self.before.as_deref().filter(|before| Place::parse(before).is_none()) {
            return refused(format!(
                "`before`: `{}` is not where a page ended; give the `next` of an earlier page",
                shown(before)
            ));
        }
        if let Some(after) = self.after.as_deref().filter(|after| *after != START && Place::parse(after).is_none()) {
            return refused(format!(
                "`after`: `{}` is not where an answer ended; give the `resume` of an earlier one",
                shown(after)
            ));
        }
        if self.before.is_some() && self.after.is_some() {
            return refused("`before` and `after` exclude each other: one goes back, the other forward".to_owned());
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return refused(format!("`from` ({from}) must lie before `to` ({to})"));
        }
        Ok(())
    }
}

/// What `after` is for everything there is.
pub(super) const START: &str = "0";

/// Conditions and their values, side by side.
pub(super) struct Conditions {
    pub(super) sql: String,
    pub(super) values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    /// Begins with a statement that has conditions already. Every query begins here, so none shows what retention
    /// hides: records from before `retained`.
    pub(super) fn new(sql: &str, retained: Timestamp) -> Self {
        let mut conditions = Self { sql: sql.to_owned(), values: Vec::new() };
        conditions.time("recorded_at >= ?", Some(retained));
        conditions
    }

    pub(super) fn and<const N: usize>(&mut self, condition: &'static str, values: [Box<dyn ToSql>; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    pub(super) fn text(&mut self, condition: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.and(condition, [Box::new(value.to_string())]);
        }
    }

    /// A plugin's id without version stands for all versions; anything else must match as it is.
    pub(super) fn actor(&mut self, actor: Option<&str>) {
        if let Some(actor) = actor {
            self.and("(actor_id = ? OR plugin = ?)", [Box::new(actor.to_owned()), Box::new(actor.to_owned())]);
        }
    }

    pub(super) fn time(&mut self, condition: &'static str, time: Option<Timestamp>) {
        if let Some(time) = time {
            self.and(condition, [Box::new(time.micros())]);
        }
    }
}

/// Events by their ids, oldest first; those that are not there are left out.
pub(super) fn named(
    connection: &Connection,
    ids: &[EventId],
    retained: Timestamp,
) -> Result<Vec<RecordedEvent>, FileError> {
    let mut conditions =
        Conditions::new(&format!("{SELECT} FROM events WHERE event_id IN ({})", places(ids.len())), retained);
    conditions.values.splice(0..0, ids.iter().map(|id| Box::new(id.to_string()) as Box<dyn ToSql>));
    conditions.sql.push_str(" ORDER BY recorded_at, host, seq");
    all(connection, conditions)
}

fn places(count: usize) -> String {
    vec!["?::UUID"; count].join(", ")
}

/// What is read of an event.
const SELECT: &str = "SELECT host, seq, recorded_at, hash, event_id::VARCHAR, record";

/// The one number that is found, if any.
fn one(connection: &Connection, conditions: Conditions) -> Result<Option<i64>, FileError> {
    let failed = |source| FileError::DuckDb { operation: "query events", source };
    let mut statement = connection.prepare(&conditions.sql).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(conditions.values)).map_err(failed)?;
    rows.next().map_err(failed)?.map(|row| row.get(0)).transpose().map_err(failed)
}

fn all(connection: &Connection, conditions: Conditions) -> Result<Vec<RecordedEvent>, FileError> {
    let failed = |source| FileError::DuckDb { operation: "query events", source };
    let mut statement = connection.prepare(&conditions.sql).map_err(failed)?;
    let rows = statement.query_map(params_from_iter(conditions.values), |row| Ok(recorded(row))).map_err(failed)?;
    let mut events = Vec::new();
    for row in rows {
        events.push(row.map_err(failed)??);
    }
    Ok(events)
}

/// The events that match, as a statement that begins like this one.
fn matching(select: &str, query: &EventQuery, retained: Timestamp) -> Conditions {
    let mut conditions = Conditions::new(&format!("{select} FROM events WHERE true"), retained);
    conditions.text("event_id = ?::UUID", query.event_id);
    conditions.text("job_id = ?::UUID", query.job_id);
    conditions.text("run_id = ?::UUID", query.run_id);
    conditions.text("trace_id = ?::UUID", query.trace_id);
    conditions.text("step_id = ?", query.step_id.as_ref());
    conditions.time("recorded_at >= ?", query.from);
    conditions.time("recorded_at < ?", query.to);
    conditions.actor(query.actor.as_deref());
    conditions.text("surface = ?", query.surface.as_ref());
    conditions.text("event_type = ?", query.event_type);
    conditions
        .text("contains(chr(10) || wsids || chr(10), chr(10) || ? || chr(10))", query.wsid.as_deref().map(workspace));
    conditions.text("capability_id = ?", query.capability_id.as_ref());
    conditions.text("decision_outcome = ?", query.decision_outcome);
    if let Some(Place { recorded_at, host, seq }) = query.before.as_deref().and_then(Place::parse) {
        // The first condition follows from the second; DuckDB can skip whole row groups by it.
        conditions.and("recorded_at <= ?", [Box::new(recorded_at)]);
        conditions.and(
            "(recorded_at < ? OR host < ? OR (host = ? AND seq < ?))",
            [Box::new(recorded_at), Box::new(host.clone()), Box::new(host), Box::new(seq)],
        );
    }
    if let Some(Place { recorded_at, host, seq }) = query.after.as_deref().and_then(Place::parse) {
        conditions.and("recorded_at >= ?", [Box::new(recorded_at)]);
        conditions.and(
            "(recorded_at > ? OR host > ? OR (host = ? AND seq > ?))",
            [Box::new(recorded_at), Box::new(host.clone()), Box::new(host), Box::new(seq)],
        );
    }
    conditions
}

/// A page of events. `head` is the end of the projected chain; what was recorded before `retained` is hidden.
pub(super) fn events(
    connection: &Connection,
    head: &ChainHead,
    query: &EventQuery,
    retained: Timestamp,
) -> Result<EventPage, FileError> {
    let limit = match query.limit {
        0 => DEFAULT_PAGE,
        limit => limit.min(LARGEST_PAGE),
    } as usize;
    let order = match query.after {
        Some(_) => " ORDER BY recorded_at, host, seq LIMIT ?",
        None => " ORDER BY recorded_at DESC, host DESC, seq DESC LIMIT ?",
    };
    let mut conditions = matching(SELECT, query, retained);
    // Where many match, which of them are wanted is found out from their times, and only their texts are read.
    if query.names_nothing() {
        let mut times = matching("SELECT recorded_at", query, retained);
        times.sql.push_str(order);
        times.sql.push_str(" OFFSET ?");
        times.values.extend([1, limit as u64].map(|number| Box::new(signed(number)) as Box<dyn ToSql>));
        let last = one(connection, times)?.map(Timestamp::from_micros);
        conditions.time(if query.after.is_some() { "recorded_at <= ?" } else { "recorded_at >= ?" }, last);
    }
    conditions.sql.push_str(order);
    conditions.values.push(Box::new(signed(limit as u64 + 1)));
    let mut events = all(connection, conditions)?;
    let more = events.len() > limit;
    events.truncate(limit);
    let next = if more { events.last().map(Place::of) } else { None };
    let resume = if head.seq == 0 { START.to_owned() } else { Place::text(head.recorded_at, head.seq, head.host) };
    let kept_since =
        kept_since(connection).map_err(|source| FileError::DuckDb { operation: "query events", source })?;
    // Whoever goes on from a place has been told with the first answer.
    let asks_for_all = query.after.as_deref().is_none_or(|after| after == START);
    let incomplete_before = kept_since.filter(|since| asks_for_all && query.from.is_none_or(|from| from < *since));
    Ok(EventPage { events, next, resume, incomplete_before })
}

/// When the oldest event that is kept was recorded, if there was an older one.
fn kept_since(connection: &Connection) -> Result<Option<Timestamp>, duckdb::Error> {
    // Rows stand in the order in which they were recorded, so the first is the oldest. A minimum over all of them
    // would look at every row group: 30 ms with ten million rows.
    let mut statement = connection.prepare("SELECT seq, recorded_at FROM events LIMIT 1")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (seq, recorded_at): (i64, i64) = (row.get(0)?, row.get(1)?);
    Ok((seq > 1).then_some(Timestamp::from_micros(recorded_at)))
}

/// Reads a row and checks it against its hash, so that an edited file is not taken for the record.
fn recorded(row: &Row<'_>) -> Result<RecordedEvent, FileError> {
    let text =
        |at: usize| row.get::<_, String>(at).map_err(|source| FileError::DuckDb { operation: "read an event", source });
    let number =
        |at: usize| row.get::<_, i64>(at).map_err(|source| FileError::DuckDb { operation: "read an event", source });
    let (host, seq, recorded_at, hash, event_id, record) =
        (text(0)?, number(1)?, number(2)?, text(3)?, text(4)?, text(5)?);
    let stamped = (|| {
        Some(StampedEvent {
            host: host.parse().ok()?,
            seq: u64::try_from(seq).ok()?,
            recorded_at: Timestamp::from_micros(recorded_at),
            hash: hash.parse().ok()?,
            event_id: event_id.parse().ok()?,
            record,
        })
    })();
    let damaged = || FileError::Damaged(format!("row {seq} is not what was recorded"));
    let stamped =
        stamped.filter(|stamped| Digest::of(stamped.record.as_bytes()) == stamped.hash).ok_or_else(damaged)?;
    let mut record: Value = serde_json::from_str(&stamped.record).map_err(|_| damaged())?;
    let event = record.get_mut("event").map(Value::take).ok_or_else(damaged)?;
    Ok(RecordedEvent {
        host: stamped.host,
        seq: stamped.seq,
        recorded_at: stamped.recorded_at,
        hash: stamped.hash,
        event,
    })
}

/// Actor, capability, outcome, would-deny, reason, number of decisions.
type Count = (String, String, Option<String>, bool, String, i64);

pub(super) fn matrix(
    connection: &Connection,
    query: &MatrixQuery,
    retained: Timestamp,
) -> Result<Vec<MatrixRow>, FileError> {
    let mut conditions = Conditions::new(
        "SELECT actor_id, capability_id, decision_outcome, coalesce(would_deny, false), coalesce(reason, ''), count(*) \
         FROM events WHERE event_type = 'capability_action' AND actor_id IS NOT NULL AND capability_id IS NOT NULL",
        retained,
    );
    conditions.text("run_id = ?::UUID", query.run_id);
    conditions.text("job_id = ?::UUID", query.job_id);
    conditions.actor(query.plugin.as_deref());
    conditions.time("recorded_at >= ?", query.since);
    conditions.sql.push_str(" GROUP BY ALL");

    let failed = |source| FileError::DuckDb { operation: "count decisions", source };
    let mut statement = connection.prepare(&conditions.sql).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(conditions.values)).map_err(failed)?;
    let mut matrix: BTreeMap<(String, String), MatrixRow> = BTreeMap::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let read = || -> Result<Count, duckdb::Error> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        };
        let (plugin, capability, outcome, would_deny, reason, count) = read().map_err(failed)?;
        let count = u64::try_from(count).unwrap_or(0);
        let cell = matrix.entry((plugin.clone(), capability.clone())).or_insert_with(|| MatrixRow {
            plugin,
            capability,
            allowed: 0,
            denied: 0,
            would_deny: 0,
            denied_reasons: BTreeMap::new(),
        });
        if outcome.as_deref() == Some(Outcome::Allow.as_str()) {
            cell.allowed += count;
            cell.would_deny += if would_deny { count } else { 0 };
        } else {
            cell.denied += count;
            *cell.denied_reasons.entry(reason).or_default() += count;
        }
    }
    Ok(matrix.into_values().collect())
}
