//! Attempts of nodes and what they were permitted to do: their rows.

use handshake_core::node::{AttemptLog, NodeExecution, NodeKey};
use handshake_core::recorder::EffectNote;
use handshake_core::run::FencingToken;
use handshake_core::storage::{LogQuery, Logs, Payloads, StorageError};
use handshake_core::{HostId, Json, PluginId, RunId, StepId, Timestamp};

use crate::error::{failed, unreadable};
use crate::operation::Step;
use crate::sql::{Connection, Row, column, number, query, signed};
use crate::text;

const UPSERT: &str = "INSERT INTO node_executions (run_id, step_id, item_index, attempt, state, plugin, component_sha256, \
     input, output, error, random_seed, started_at, finished_at, contribution, log, host) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
     ON CONFLICT (run_id, step_id, item_index, attempt) DO UPDATE SET state = excluded.state, plugin = excluded.plugin, \
     component_sha256 = excluded.component_sha256, input = excluded.input, output = excluded.output, \
     error = excluded.error, random_seed = excluded.random_seed, started_at = excluded.started_at, \
     finished_at = excluded.finished_at, contribution = excluded.contribution, \
     log = coalesce(excluded.log, node_executions.log)";
const OF_RUN: &str = "SELECT run_id, step_id, item_index, attempt, state, plugin, component_sha256, input, output, error, \
     random_seed, started_at, finished_at, contribution FROM node_executions WHERE run_id = $1";
const OF_RUN_WITHOUT_PAYLOADS: &str = "SELECT run_id, step_id, item_index, attempt, state, plugin, component_sha256, \
     'null' AS input, NULL AS output, error, random_seed, started_at, finished_at, NULL AS contribution FROM node_executions WHERE run_id = $1";
const LOGGED: &str = "SELECT step_id, item_index, attempt, finished_at, CAST(length(log) AS BIGINT) AS size FROM node_executions \
     WHERE run_id = $1 AND log IS NOT NULL";
const LOG: &str =
    "SELECT log FROM node_executions WHERE run_id = $1 AND step_id = $2 AND item_index = $3 AND attempt = $4";
const HOSTS: &str = "SELECT DISTINCT host FROM node_executions WHERE run_id = $1 AND host IS NOT NULL";
const INSERT_EFFECT: &str = "INSERT INTO attempt_effects (run_id, step_id, item_index, attempt, call_number, fence, capability, \
     resource, host, event_seq, noted_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const EFFECTS_OF: &str = "SELECT run_id, step_id, item_index, attempt, call_number, fence, capability, resource \
     FROM attempt_effects WHERE run_id = $1 ORDER BY fence, event_seq";

/// Stands for "not an item of a list", because a key cannot hold NULL everywhere.
pub(crate) const NO_INDEX: i64 = -1;

pub(crate) fn index(row: &Row) -> Result<Option<u32>, StorageError> {
    match column::<i64>(row, "item_index")? {
        NO_INDEX => Ok(None),
        index => u32::try_from(index).map(Some).map_err(unreadable("item_index")),
    }
}

/// An attempt as the database holds it.
pub(crate) struct NodeRow {
    node: NodeExecution,
    error: Option<String>,
    contribution: Option<String>,
    log: Option<String>,
}

impl NodeRow {
    /// Checks and encodes an attempt.
    pub(crate) fn encode(node: NodeExecution) -> Result<Self, StorageError> {
        text::check("random seed", &node.random_seed)?;
        text::check_json("input", &node.input)?;
        if let Some(output) = &node.output {
            text::check_json("output", output)?;
        }
        let contribution = (!node.contribution.is_empty()).then(|| text::json("contribution", &node.contribution));
        for line in &node.log {
            text::check("log line", &line.line)?;
        }
        Ok(Self {
            contribution: contribution.transpose()?,
            log: (!node.log.is_empty()).then(|| text::json("log", &node.log)).transpose()?,
            error: node.error.as_ref().map(|error| text::json("error", error)).transpose()?,
            node,
        })
    }

    /// Writes it, new or changed.
    pub(crate) async fn write(&self, step: &mut Step<'_>) -> Result<(), StorageError> {
        let node = &self.node;
        let statement = query(UPSERT)
            .bind(node.run_id.to_string())
            .bind(node.node.step.as_str())
            .bind(node.node.index.map_or(NO_INDEX, i64::from))
            .bind(i64::from(node.attempt))
            .bind(node.state.as_str())
            .bind(node.plugin.as_ref().map(PluginId::as_str))
            .bind(node.component_sha256.map(|digest| digest.to_string()))
            .bind(node.input.as_str())
            .bind(node.output.as_ref().map(Json::as_str))
            .bind(self.error.as_deref())
            .bind(node.random_seed.as_str())
            .bind(node.started_at.micros())
            .bind(node.finished_at.map(Timestamp::micros))
            .bind(self.contribution.as_deref())
            .bind(self.log.as_deref())
            .bind(step.host.to_string());
        statement.execute(step.connection).await.map(drop).map_err(failed("store an attempt"))
    }
}

fn payload(what: &'static str, json: &str) -> Result<Json, StorageError> {
    Json::parse(json).map_err(unreadable(what))
}

fn decode(row: &Row) -> Result<NodeExecution, StorageError> {
    let text = |name| column::<String>(row, name);
    let maybe = |name| column::<Option<String>>(row, name);
    Ok(NodeExecution {
        run_id: text("run_id")?.parse().map_err(unreadable("run id"))?,
        node: NodeKey { step: StepId::new(text("step_id")?).map_err(unreadable("step id"))?, index: index(row)? },
        attempt: number(row, "attempt")?,
        state: text("state")?.parse().map_err(unreadable("node state"))?,
        plugin: maybe("plugin")?.map(PluginId::new).transpose().map_err(unreadable("plugin id"))?,
        component_sha256: maybe("component_sha256")?
            .map(|digest| digest.parse())
            .transpose()
            .map_err(unreadable("digest"))?,
        input: payload("input", &text("input")?)?,
        output: maybe("output")?.map(|json| payload("output", &json)).transpose()?,
        contribution: maybe("contribution")?
            .map(|json| text::parse("contribution", &json))
            .transpose()?
            .unwrap_or_default(),
        error: maybe("error")?.map(|json| text::parse("error", &json)).transpose()?,
        log: Vec::new(),
        random_seed: text("random_seed")?,
        started_at: Timestamp::from_micros(column(row, "started_at")?),
        finished_at: column::<Option<i64>>(row, "finished_at")?.map(Timestamp::from_micros),
    })
}

/// Every attempt of a run. Ordered here and not in SQL, where the order of text depends on the database.
pub(crate) async fn of_run(
    connection: &mut Connection,
    run: RunId,
    payloads: Payloads,
) -> Result<Vec<NodeExecution>, StorageError> {
    let statement = match payloads {
        Payloads::Read => OF_RUN,
        Payloads::LeftOut => OF_RUN_WITHOUT_PAYLOADS,
    };
    let attempts = query(statement).bind(run.to_string());
    let mut nodes = attempts.fetch_each(connection, "list attempts", decode).await?;
    nodes.sort_by(|a, b| (&a.node, a.attempt).cmp(&(&b.node, b.attempt)));
    Ok(nodes)
}

/// The hosts that began attempts of a run.
pub(crate) async fn hosts_of(connection: &mut Connection, run: RunId) -> Result<Vec<HostId>, StorageError> {
    let decode = |row: &Row| column::<String>(row, "host")?.parse().map_err(unreadable("host id"));
    query(HOSTS).bind(run.to_string()).fetch_each(connection, "list hosts", decode).await
}

/// How many characters of logs are read at once, one attempt's at least.
const LOGS_AT_ONCE: u64 = 1 << 20;

/// What a run's attempts logged.
pub(crate) async fn logs_of(connection: &mut Connection, run: RunId, wanted: LogQuery) -> Result<Logs, StorageError> {
    let logged = query(LOGGED).bind(run.to_string());
    let mut logged = logged.fetch_each(connection, "list logs", logged_attempt).await?;
    logged.retain(|(_, node, ..)| wanted.step.as_ref().is_none_or(|step| *step == node.step));
    logged.sort();
    let mut logs = Logs::default();
    let mut size = 0;
    for (number, (_, node, attempt, characters)) in (0_u32..).zip(logged) {
        if number < wanted.skip {
            continue;
        }
        size += characters;
        if size > LOGS_AT_ONCE && !logs.attempts.is_empty() {
            logs.next = Some(number);
            break;
        }
        let log = query(LOG)
            .bind(run.to_string())
            .bind(node.step.as_str())
            .bind(node.index.map_or(NO_INDEX, i64::from))
            .bind(i64::from(attempt));
        // Its job may have been deleted meanwhile.
        let row = log.fetch_optional(connection).await.map_err(failed("read a log"))?;
        let Some(log) = row.map(|row| column::<Option<String>>(&row, "log")).transpose()?.flatten() else { continue };
        logs.attempts.push(AttemptLog { node, attempt, lines: text::parse("log", &log)? });
    }
    Ok(logs)
}

/// An attempt that logged something: when it ended, which it is, and how many characters it logged.
fn logged_attempt(row: &Row) -> Result<(Option<i64>, NodeKey, u32, u64), StorageError> {
    let step = StepId::new(column::<String>(row, "step_id")?).map_err(unreadable("step id"))?;
    let node = NodeKey { step, index: index(row)? };
    Ok((column(row, "finished_at")?, node, number(row, "attempt")?, number(row, "size")?))
}

/// Checks what an effect is noted with.
pub(crate) fn check_effect(note: &EffectNote) -> Result<(), StorageError> {
    text::check("capability", &note.capability)?;
    text::check("resource", &note.resource)?;
    signed(note.call).map(drop)
}

/// Notes an effect; its decision is the step's first event.
pub(crate) async fn note_effect(step: &mut Step<'_>, note: &EffectNote) -> Result<(), StorageError> {
    let statement = query(INSERT_EFFECT)
        .bind(note.run.to_string())
        .bind(note.step.as_str())
        .bind(note.index.map_or(NO_INDEX, i64::from))
        .bind(i64::from(note.attempt))
        .bind(signed(note.call)?)
        .bind(note.fence.0)
        .bind(note.capability.as_str())
        .bind(note.resource.as_str())
        .bind(step.host.to_string())
        .bind(signed(step.next_seq)?)
        .bind(step.now.micros());
    statement.execute(step.connection).await.map(drop).map_err(failed("note an effect"))
}

/// Effects of a run's attempts. Fencing tokens grow with each claim, and under one claim there is one host, so
/// token and number in the chain are the order in which they were permitted.
pub(crate) async fn effects_of(connection: &mut Connection, run: RunId) -> Result<Vec<EffectNote>, StorageError> {
    let decode = |row: &Row| {
        Ok(EffectNote {
            run: column::<String>(row, "run_id")?.parse().map_err(unreadable("run id"))?,
            step: StepId::new(column::<String>(row, "step_id")?).map_err(unreadable("step id"))?,
            index: index(row)?,
            attempt: number(row, "attempt")?,
            fence: FencingToken(column(row, "fence")?),
            call: number(row, "call_number")?,
            capability: column(row, "capability")?,
            resource: column(row, "resource")?,
        })
    };
    query(EFFECTS_OF).bind(run.to_string()).fetch_each(connection, "list effects", decode).await
}
