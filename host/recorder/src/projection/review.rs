//! What reviewers ask of many decisions at once: who used what, what was new, and all that was decided, in bulk.
//!
//! These read columns alone. A record's JSON is looked into only where a question is about one run, and then by DuckDB.

use std::collections::BTreeMap;

use duckdb::{Connection, Row, ToSql, params_from_iter};
use handshake_core::capability::DecidedCalls;
use handshake_core::event::Outcome;
use handshake_core::recorder::RecorderError;
use handshake_core::{EventId, PluginId, RunId, StepId, Timestamp};
use serde::{Deserialize, Serialize};

use super::file::{FileError, ProjectionFile};
use super::query::{Conditions, MatrixQuery};
use super::{Projection, columns};

/// Records that one look for decisions goes through: what is grouped of them fits into DuckDB's memory even if no two
/// are the same, and other queries have to wait no longer than for one look.
const LOOK: u64 = if cfg!(test) { 64 } else { 32_768 };
/// The most runs that are looked up for an overview: each is read from the database.
const MOST_RUNS: usize = 200;
/// The most rows of an answer that lists resources.
const MOST_RESOURCES: usize = 100_000;
/// In more allowed decisions than this nobody looks for what is new: what they touched would have to fit into DuckDB's
/// memory at once.
const MOST_TOUCHED: u64 = if cfg!(test) { 500 } else { 50_000 };
/// New resources that an overview names, for each plugin and capability.
const NAMED: usize = 20;

/// How a plugin asked for one resource in one step, and how often it was told the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceUse {
    /// The actor: of plugins id and version.
    pub actor: String,
    /// The step; none outside of runs.
    pub step: Option<String>,
    /// The capability.
    pub capability: String,
    /// The resource as the record shows it.
    pub resource: String,
    /// Allowed or denied.
    pub outcome: Outcome,
    /// The layer that decided.
    pub layer: String,
    /// Why it was denied.
    pub reason: Option<String>,
    /// Whether the policy would have denied it.
    pub would_deny: bool,
    /// How often.
    pub count: u64,
}

/// Resources that a plugin, of whichever version, was never let at before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewResources {
    /// The actor.
    pub actor: String,
    /// The capability.
    pub capability: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub resources: Vec<String>,
}

/// A decision as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DecisionLine {
    /// Its number in the record.
    pub seq: u64,
    /// The event.
    pub event_id: EventId,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// In which step, with the position within `for_each`.
    pub step: String,
    /// Attempt.
    pub attempt: u64,
    /// Number of the call.
    pub call: u64,
    /// The capability.
    pub capability: String,
    /// The resource.
    pub resource: String,
    /// Allowed or denied.
    pub outcome: Outcome,
    /// Why it was denied.
    pub reason: Option<String>,
    /// The layer that decided.
    pub layer: String,
    /// The rule, as file and line.
    pub rule: Option<String>,
    /// Whether the policy would have denied it.
    pub would_deny: bool,
}

/// Calls of one model in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModelUse {
    /// The model.
    pub model: String,
    /// The step.
    pub step: String,
    /// Calls.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Time that they took, milliseconds.
    pub latency_ms: u64,
}

impl Projection {
    /// The runs that a query is about, the latest first, at most 200; and whether there are more.
    pub async fn runs(&self, query: &MatrixQuery) -> Result<(Vec<RunId>, bool), RecorderError> {
        let query = query.clone();
        self.ask(move |file| file.review(|connection, retained| runs(connection, &query, retained))).await
    }

    /// How each resource was asked for, by actor, step, capability and what was said. An answer of more than 100,000
    /// rows is refused.
    pub async fn resources(&self, query: &MatrixQuery) -> Result<Vec<ResourceUse>, RecorderError> {
        let asked = query.clone();
        let range =
            self.ask(move |file| file.review(|connection, retained| range(connection, &asked, retained))).await?;
        let Some((first, last)) = range else { return Ok(Vec::new()) };
        // By all but the count, which is added up over the looks.
        let mut found: BTreeMap<UseKey, u64> = BTreeMap::new();
        let mut after = first.saturating_sub(1);
        while after < last {
            let (to, query) = ((after + LOOK).min(last), query.clone());
            let look = move |file: &mut ProjectionFile| {
                file.review(|connection, retained| resources(connection, &query, (after, to), retained))
            };
            for (key, count) in self.ask(look).await? {
                *found.entry(key).or_default() += count;
            }
            if found.len() > MOST_RESOURCES {
                return Err(RecorderError::Query(format!(
                    "more than {MOST_RESOURCES} different resources were asked for; ask about fewer runs"
                )));
            }
            after = to;
        }
        Ok(found.into_iter().map(ResourceUse::of).collect())
    }

    /// What plugins were let at for the first time. Without anything to limit it that would be everything. None when
    /// more than 50,000 calls were allowed, which is too much to look through.
    pub async fn new_resources(&self, query: &MatrixQuery) -> Result<Option<Vec<NewResources>>, RecorderError> {
        let query = query.clone();
        self.ask(move |file| file.review(|connection, retained| new_resources(connection, &query, retained))).await
    }

    /// Goes through all decisions since a time, oldest first, calls that say the same together. Others are answered in
    /// between.
    pub async fn decided(
        &self,
        since: Option<Timestamp>,
        with_grants: bool,
        mut each: impl FnMut(DecidedCalls) + Send,
    ) -> Result<(), RecorderError> {
        self.caught_up().await?;
        let last = self.projected();
        let mut after = self.first().await?.saturating_sub(1);
        while after < last {
            let to = (after + LOOK).min(last);
            let calls = self
                .ask(move |file| {
                    file.review(|connection, retained| {
                        let from = since.map_or(retained, |since| since.max(retained));
                        decided(connection, (after, to), from, with_grants)
                    })
                })
                .await?;
            calls.into_iter().for_each(&mut each);
            after = to;
        }
        Ok(())
    }

    /// The event with this number in the record.
    pub async fn event_at(&self, seq: u64) -> Result<Option<EventId>, RecorderError> {
        let sql = "SELECT event_id::VARCHAR FROM events WHERE true";
        self.ids(sql, vec![(" AND seq = ?", columns::signed(seq).to_string())]).await.map(|ids| ids.first().copied())
    }

    /// Events that a decision led to: its outcome, the call of a model.
    pub async fn consequences(&self, decision: EventId) -> Result<Vec<EventId>, RecorderError> {
        let sql = "SELECT event_id::VARCHAR FROM events WHERE true";
        self.ids(sql, vec![(" AND policy_decision_id = ?::UUID ORDER BY seq LIMIT 100", decision.to_string())]).await
    }

    /// The decision of the same attempt with another call number.
    pub async fn neighbour(
        &self,
        run: RunId,
        step: &StepId,
        index: Option<u64>,
        attempt: u64,
        call: u64,
    ) -> Result<Option<EventId>, RecorderError> {
        let sql = "SELECT event_id::VARCHAR FROM events WHERE event_type = 'capability_action'";
        let index = index.map(|index| index.to_string()).unwrap_or_default();
        let conditions = vec![
            (" AND run_id = ?::UUID", run.to_string()),
            (" AND step_id = ?", step.to_string()),
            (" AND attempt = ?::BIGINT", attempt.to_string()),
            (" AND call = ?::BIGINT", call.to_string()),
            (" AND coalesce(json_extract_string(record, '$.event.payload.index'), '') = ?", index),
        ];
        self.ids(sql, conditions).await.map(|ids| ids.first().copied())
    }

    async fn ids(&self, sql: &'static str, more: Vec<(&'static str, String)>) -> Result<Vec<EventId>, RecorderError> {
        self.ask(move |file| {
            file.review(|connection, retained| {
                let mut conditions = Conditions::new(sql, retained);
                for (condition, value) in &more {
                    conditions.sql.push_str(condition);
                    conditions.values.push(Box::new(value.clone()) as Box<dyn ToSql>);
                }
                Ok(rows(connection, conditions, |row| row.get::<_, String>(0))?
                    .iter()
                    .filter_map(|id| id.parse().ok())
                    .collect())
            })
        })
        .await
    }

    /// Decisions of a run, in the order of the record, at most `limit`; and how many there are.
    pub async fn decisions_of(&self, run: RunId, limit: u32) -> Result<(Vec<DecisionLine>, u64), RecorderError> {
        self.ask(move |file| file.review(|connection, retained| decisions_of(connection, run, limit, retained))).await
    }

    /// Calls of models in a run.
    pub async fn models_of(&self, run: RunId) -> Result<Vec<ModelUse>, RecorderError> {
        self.ask(move |file| file.review(|connection, retained| models_of(connection, run, retained))).await
    }
}

impl ProjectionFile {
    /// Asks; a failure closes the file as in every query.
    fn review<T>(
        &mut self,
        ask: impl FnOnce(&Connection, Timestamp) -> Result<T, duckdb::Error>,
    ) -> Result<T, FileError> {
        let retained = self.retained()?;
        let answer = ask(&self.opened()?.connection, retained);
        self.noticing("review decisions", answer)
    }
}

fn rows<T>(
    connection: &Connection,
    conditions: Conditions,
    read: impl FnMut(&Row<'_>) -> Result<T, duckdb::Error>,
) -> Result<Vec<T>, duckdb::Error> {
    let mut statement = connection.prepare(&conditions.sql)?;
    let mapped = statement.query_map(params_from_iter(conditions.values), read)?;
    mapped.collect()
}

fn scoped(sql: &str, query: &MatrixQuery, retained: Timestamp) -> Conditions {
    let mut conditions = Conditions::new(sql, retained);
    conditions.text("run_id = ?::UUID", query.run_id);
    conditions.text("job_id = ?::UUID", query.job_id);
    conditions.actor(query.plugin.as_deref());
    conditions.time("recorded_at >= ?", query.since);
    conditions
}

fn runs(
    connection: &Connection,
    query: &MatrixQuery,
    retained: Timestamp,
) -> Result<(Vec<RunId>, bool), duckdb::Error> {
    let sql = "SELECT run_id::VARCHAR, max(seq) FROM events WHERE run_id IS NOT NULL";
    let mut conditions = scoped(sql, query, retained);
    conditions.sql.push_str(" GROUP BY run_id ORDER BY 2 DESC LIMIT ?");
    conditions.values.push(Box::new(columns::signed(MOST_RUNS as u64 + 1)));
    let found = rows(connection, conditions, |row| row.get::<_, String>(0))?;
    let more = found.len() > MOST_RUNS;
    Ok((found.iter().take(MOST_RUNS).filter_map(|id| id.parse().ok()).collect(), more))
}

fn outcome(text: Option<String>) -> Outcome {
    // What cannot be read was not an allowance that anybody could show.
    if text.as_deref() == Some(Outcome::Allow.as_str()) { Outcome::Allow } else { Outcome::Deny }
}

fn count(row: &Row<'_>, at: usize) -> Result<u64, duckdb::Error> {
    Ok(row.get::<_, Option<i64>>(at)?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

fn text(row: &Row<'_>, at: usize) -> Result<String, duckdb::Error> {
    Ok(row.get::<_, Option<String>>(at)?.unwrap_or_default())
}

/// Actor, step, capability, resource, whether it was allowed, layer, reason, would-deny.
type UseKey = (String, Option<String>, String, String, bool, String, Option<String>, bool);

impl ResourceUse {
    fn of((key, count): (UseKey, u64)) -> Self {
        let (actor, step, capability, resource, allowed, layer, reason, would_deny) = key;
        let outcome = if allowed { Outcome::Allow } else { Outcome::Deny };
        Self { actor, step, capability, resource, outcome, layer, reason, would_deny, count }
    }
}

/// The numbers of the first and the last decision that a query is about.
fn range(
    connection: &Connection,
    query: &MatrixQuery,
    retained: Timestamp,
) -> Result<Option<(u64, u64)>, duckdb::Error> {
    let sql = "SELECT min(seq), max(seq) FROM events WHERE event_type = 'capability_action'";
    let found = rows(connection, scoped(sql, query, retained), |row| Ok((count(row, 0)?, count(row, 1)?)))?;
    Ok(found.first().copied().filter(|(_, last)| *last > 0))
}

fn resources(
    connection: &Connection,
    query: &MatrixQuery,
    (after, to): (u64, u64),
    retained: Timestamp,
) -> Result<Vec<(UseKey, u64)>, duckdb::Error> {
    let sql = "SELECT actor_id, step_id, capability_id, coalesce(resource, ''), decision_outcome, layer, reason, \
         coalesce(would_deny, false), count(*) FROM events \
         WHERE event_type = 'capability_action' AND actor_id IS NOT NULL AND capability_id IS NOT NULL";
    let mut conditions = scoped(sql, query, retained);
    conditions.and("seq > ?", [Box::new(columns::signed(after))]);
    conditions.and("seq <= ?", [Box::new(columns::signed(to))]);
    conditions.sql.push_str(" GROUP BY ALL");
    rows(connection, conditions, |row| {
        let allowed = outcome(row.get(4)?) == Outcome::Allow;
        let key =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, allowed, text(row, 5)?, row.get(6)?, row.get(7)?);
        Ok((key, count(row, 8)?))
    })
}

fn new_resources(
    connection: &Connection,
    query: &MatrixQuery,
    retained: Timestamp,
) -> Result<Option<Vec<NewResources>>, duckdb::Error> {
    let sql = "SELECT count(*) FROM events WHERE event_type = 'capability_action' AND decision_outcome = 'allow'";
    let allowed = rows(connection, scoped(sql, query, retained), |row| count(row, 0))?;
    if allowed.first().is_some_and(|allowed| *allowed > MOST_TOUCHED) {
        return Ok(None);
    }
    // The small side of the join is what the query is about; the rest of the file runs past it once.
    let sql = "WITH touched AS (SELECT any_value(actor_id) AS actor, coalesce(plugin, actor_id) AS who, \
         capability_id AS capability, resource, min(seq) AS first FROM events \
         WHERE event_type = 'capability_action' AND decision_outcome = 'allow' AND resource IS NOT NULL AND resource <> '*' \
         AND actor_id IS NOT NULL AND capability_id IS NOT NULL";
    let mut conditions = scoped(sql, query, retained);
    conditions.sql.push_str(&format!(
        " GROUP BY who, capability, resource), \
         fresh AS (SELECT * FROM touched WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.event_type = 'capability_action' \
         AND e.decision_outcome = 'allow' AND e.resource = touched.resource AND e.capability_id = touched.capability \
         AND coalesce(e.plugin, e.actor_id) = touched.who AND e.seq < touched.first)) \
         SELECT actor, capability, count(*), to_json(list(resource ORDER BY first)[1:{NAMED}])::VARCHAR FROM fresh \
         GROUP BY actor, capability ORDER BY 1, 2"
    ));
    let new = rows(connection, conditions, |row| {
        // As JSON, because guests choose names with any letters in them.
        let resources = serde_json::from_str(&text(row, 3)?).unwrap_or_default();
        Ok(NewResources { actor: row.get(0)?, capability: row.get(1)?, count: count(row, 2)?, resources })
    })?;
    Ok(Some(new))
}

fn decided(
    connection: &Connection,
    (after, to): (u64, u64),
    from: Timestamp,
    with_grants: bool,
) -> Result<Vec<DecidedCalls>, duckdb::Error> {
    // In canonical JSON this stands nowhere else: in a text its quotes are escaped.
    let granted = if with_grants { r#"decision_outcome = 'allow' AND contains(record, '"grant":"')"# } else { "false" };
    let sql = format!(
        "SELECT actor_id, plugin, capability_id, coalesce(resource, ''), layer, decision_outcome, reason, \
         coalesce(would_deny, false), {granted} AS granted, count(*), min(seq) FROM events \
         WHERE event_type = 'capability_action' AND actor_id IS NOT NULL AND capability_id IS NOT NULL"
    );
    let mut conditions = Conditions::new(&sql, from);
    conditions.and("seq > ?", [Box::new(columns::signed(after))]);
    conditions.and("seq <= ?", [Box::new(columns::signed(to))]);
    conditions.sql.push_str(" GROUP BY ALL");
    rows(connection, conditions, |row| {
        Ok(DecidedCalls {
            actor: row.get(0)?,
            plugin: row.get::<_, Option<String>>(1)?.and_then(|id| PluginId::new(id).ok()),
            capability: row.get(2)?,
            resource: row.get(3)?,
            layer: text(row, 4)?,
            outcome: outcome(row.get(5)?),
            reason: row.get(6)?,
            would_deny: row.get(7)?,
            granted: row.get(8)?,
            count: count(row, 9)?,
            first: count(row, 10)?,
        })
    })
}

fn decisions_of(
    connection: &Connection,
    run: RunId,
    limit: u32,
    retained: Timestamp,
) -> Result<(Vec<DecisionLine>, u64), duckdb::Error> {
    let of_run = |sql: &str| {
        let mut conditions = Conditions::new(sql, retained);
        conditions.text("run_id = ?::UUID", Some(run));
        conditions
    };
    let all = of_run("SELECT count(*) FROM events WHERE event_type = 'capability_action'");
    let all = rows(connection, all, |row| count(row, 0))?.first().copied().unwrap_or(0);
    let mut conditions = of_run(
        "SELECT seq, event_id::VARCHAR, recorded_at, actor_id, step_id, attempt, call, capability_id, resource, \
         decision_outcome, reason, layer, coalesce(would_deny, false), json_extract_string(record, '$.event.payload.index'), \
         json_extract_string(record, '$.event.payload.rule.file'), json_extract_string(record, '$.event.payload.rule.line') \
         FROM events WHERE event_type = 'capability_action'",
    );
    conditions.sql.push_str(" ORDER BY seq LIMIT ?");
    conditions.values.push(Box::new(i64::from(limit)));
    let lines = rows(connection, conditions, |row| {
        let Ok(event_id) = text(row, 1)?.parse() else { return Ok(None) };
        let (step, index) = (text(row, 4)?, row.get::<_, Option<String>>(13)?);
        let rule = row.get::<_, Option<String>>(14)?.zip(row.get::<_, Option<String>>(15)?);
        Ok(Some(DecisionLine {
            seq: count(row, 0)?,
            event_id,
            recorded_at: Timestamp::from_micros(row.get(2)?),
            actor: text(row, 3)?,
            step: index.map_or(step.clone(), |index| format!("{step}[{index}]")),
            attempt: count(row, 5)?,
            call: count(row, 6)?,
            capability: text(row, 7)?,
            resource: text(row, 8)?,
            outcome: outcome(row.get(9)?),
            reason: row.get(10)?,
            layer: text(row, 11)?,
            rule: rule.map(|(file, line)| format!("{file}:{line}")),
            would_deny: row.get(12)?,
        }))
    })?;
    Ok((lines.into_iter().flatten().collect(), all))
}

fn models_of(connection: &Connection, run: RunId, retained: Timestamp) -> Result<Vec<ModelUse>, duckdb::Error> {
    let number = |path: &str| {
        format!("coalesce(sum(try_cast(json_extract_string(record, '$.event.payload.{path}') AS BIGINT)), 0)::BIGINT")
    };
    let sql = format!(
        "SELECT coalesce(model_id, ''), coalesce(step_id, ''), count(*), count(*) FILTER (result IS NOT NULL), {}, {}, {} \
         FROM events WHERE event_type = 'llm_inference'",
        number("token_usage.prompt_tokens"),
        number("token_usage.completion_tokens"),
        number("latency_ms"),
    );
    let mut conditions = Conditions::new(&sql, retained);
    conditions.text("run_id = ?::UUID", Some(run));
    conditions.sql.push_str(" GROUP BY 1, 2 ORDER BY 1, 2");
    rows(connection, conditions, |row| {
        Ok(ModelUse {
            model: row.get(0)?,
            step: row.get(1)?,
            calls: count(row, 2)?,
            failed: count(row, 3)?,
            prompt_tokens: count(row, 4)?,
            completion_tokens: count(row, 5)?,
            latency_ms: count(row, 6)?,
        })
    })
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
