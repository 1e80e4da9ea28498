//! The views that queries are about. Their columns are a contract: later versions add some at the end, and change none.

/// A column of a view.
#[derive(Debug, Clone, Copy)]
pub struct ViewColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type in DuckDB.
    pub kind: &'static str,
    /// What it holds.
    pub about: &'static str,
}

/// A view.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// What a row of it is.
    pub about: &'static str,
    /// Its columns, in order.
    pub columns: &'static [ViewColumn],
    pub(super) select: &'static str,
}

/// Columns as lines of name, type and meaning.
macro_rules! columns {
    ($($name:literal $kind:literal $about:literal)*) => {
        &[$(ViewColumn { name: $name, kind: $kind, about: $about }),*]
    };
}

/// Rows of all files, with times as times; the views are made of this. What retention hides is not in it.
pub(super) const RECORDS: &str = "\
    SELECT * REPLACE (CAST(make_timestamp(recorded_at) AS TIMESTAMPTZ) AS recorded_at, \
        CAST(make_timestamp(\"timestamp\") AS TIMESTAMPTZ) AS \"timestamp\", CAST(host AS UUID) AS host), \
        json_extract(record, '$.event.payload') AS payload, json_extract(record, '$.event') AS event";

/// All views.
pub const VIEWS: [View; 5] = [
    View {
        name: "events",
        about: "one row per event of any type",
        columns: columns! {
            "recorded_at" "TIMESTAMP WITH TIME ZONE" "when it was recorded; never runs backwards"
            "host" "UUID" "the host that recorded it"
            "seq" "BIGINT" "its number in that host's chain, from 1"
            "event_id" "UUID" "the event"
            "event_type" "VARCHAR" "its type, as in docs/events.md"
            "timestamp" "TIMESTAMP WITH TIME ZONE" "when it happened"
            "actor_kind" "VARCHAR" "human, agent or system"
            "actor_id" "VARCHAR" "who; of plugins id@version"
            "plugin" "VARCHAR" "of agents the id without version"
            "surface" "VARCHAR" "where it came from: cli, plugin, host, terminal, or an editor"
            "trace_id" "UUID" "the trace"
            "job_id" "UUID" "the job"
            "run_id" "UUID" "the run"
            "step_id" "VARCHAR" "the step"
            "span_id" "UUID" "the span it happened in"
            "model_id" "VARCHAR" "the model"
            "capability_id" "VARCHAR" "the capability"
            "decision_id" "UUID" "the decision that led to it"
            "hash" "VARCHAR" "SHA-256 of its record in the chain, hexadecimal"
            "payload" "JSON" "what its type requires"
            "event" "JSON" "all of it, as recorded"
        },
        select: "SELECT recorded_at, host, seq, event_id, event_type, \"timestamp\", actor_kind, actor_id, plugin, surface, \
            trace_id, job_id, run_id, step_id, activity_span_id AS span_id, model_id, capability_id, \
            policy_decision_id AS decision_id, hash, payload, event FROM records",
    },
    View {
        name: "decisions",
        about: "one row per decision about a call, with what became of it",
        columns: columns! {
            "recorded_at" "TIMESTAMP WITH TIME ZONE" "when it was recorded"
            "seq" "BIGINT" "number of its event"
            "decision_id" "UUID" "its event"
            "trace_id" "UUID" "the trace"
            "job_id" "UUID" "the job"
            "run_id" "UUID" "the run"
            "step_id" "VARCHAR" "the step"
            "attempt" "BIGINT" "the step's attempt, from 1"
            "call" "BIGINT" "number of the call within the attempt"
            "actor_id" "VARCHAR" "who asked; of plugins id@version"
            "plugin" "VARCHAR" "the plugin's id without version"
            "capability_id" "VARCHAR" "what for"
            "resource" "VARCHAR" "on what"
            "outcome" "VARCHAR" "allow or deny"
            "would_deny" "BOOLEAN" "allowed only because the policy observes"
            "reason" "VARCHAR" "why it was denied"
            "layer" "VARCHAR" "what decided"
            "rule" "VARCHAR" "file:line of the rule that decided"
            "interface" "VARCHAR" "WIT interface of the call"
            "function" "VARCHAR" "its function"
            "result" "VARCHAR" "ok, an error's label, or abandoned; none while it runs, and when it was denied"
            "bytes_in" "BIGINT" "bytes that the plugin got"
            "bytes_out" "BIGINT" "bytes that it gave"
            "duration_us" "BIGINT" "how long the call took, microseconds"
        },
        select: "SELECT d.recorded_at, d.seq, d.event_id AS decision_id, d.trace_id, d.job_id, d.run_id, d.step_id, d.attempt, \
            d.call, d.actor_id, d.plugin, d.capability_id, d.resource, d.decision_outcome AS outcome, d.would_deny, d.reason, \
            d.layer, json_extract_string(d.payload, '$.rule.file') || ':' || json_extract_string(d.payload, '$.rule.line') AS rule, \
            d.interface, d.function, o.result, CAST(json_extract(o.payload, '$.bytes_in') AS BIGINT) AS bytes_in, \
            CAST(json_extract(o.payload, '$.bytes_out') AS BIGINT) AS bytes_out, o.duration_us \
            FROM records d LEFT JOIN (SELECT TRY_CAST(json_extract_string(payload, '$.decision') AS UUID) AS decision, result, \
                duration_us, payload FROM records WHERE event_type = 'capability_outcome') o ON o.decision = d.event_id \
            WHERE d.event_type = 'capability_action'",
    },
    View {
        name: "model_calls",
        about: "one row per call of a model, failed or not",
        columns: columns! {
            "recorded_at" "TIMESTAMP WITH TIME ZONE" "when it was recorded"
            "seq" "BIGINT" "number of its event"
            "event_id" "UUID" "its event"
            "trace_id" "UUID" "the trace"
            "job_id" "UUID" "the job"
            "run_id" "UUID" "the run"
            "step_id" "VARCHAR" "the step"
            "actor_id" "VARCHAR" "who called"
            "decision_id" "UUID" "the decision that allowed it"
            "model_id" "VARCHAR" "the model, as configured"
            "prompt_tokens" "BIGINT" "tokens of the request"
            "completion_tokens" "BIGINT" "tokens of the answer"
            "total_tokens" "BIGINT" "both"
            "latency_ms" "BIGINT" "how long it took, milliseconds"
            "prompt_hash" "VARCHAR" "SHA-256 of the request"
            "response_hash" "VARCHAR" "SHA-256 of the answer; none when it failed"
            "error" "VARCHAR" "an error's label; none when it succeeded"
        },
        select: "SELECT recorded_at, seq, event_id, trace_id, job_id, run_id, step_id, actor_id, \
            policy_decision_id AS decision_id, model_id, \
            CAST(json_extract(payload, '$.token_usage.prompt_tokens') AS BIGINT) AS prompt_tokens, \
            CAST(json_extract(payload, '$.token_usage.completion_tokens') AS BIGINT) AS completion_tokens, \
            CAST(json_extract(payload, '$.token_usage.total_tokens') AS BIGINT) AS total_tokens, \
            CAST(json_extract(payload, '$.latency_ms') AS BIGINT) AS latency_ms, \
            json_extract_string(payload, '$.prompt_hash') AS prompt_hash, \
            json_extract_string(payload, '$.response_hash') AS response_hash, \
            json_extract_string(payload, '$.error') AS error FROM records WHERE event_type = 'llm_inference'",
    },
    View {
        name: "spans",
        about: "one row per job, run or attempt of a step, with its times",
        columns: columns! {
            "span_id" "UUID" "the span; that of a job or run is its id"
            "kind" "VARCHAR" "job, run or step"
            "name" "VARCHAR" "for example the step's id"
            "trace_id" "UUID" "the trace"
            "job_id" "UUID" "the job"
            "run_id" "UUID" "the run"
            "step_id" "VARCHAR" "the step"
            "attempt" "BIGINT" "of steps the attempt, from 1"
            "started_at" "TIMESTAMP WITH TIME ZONE" "when it first began; none when that is not kept any more"
            "ended_at" "TIMESTAMP WITH TIME ZONE" "when it ended; none while it goes on"
            "duration_us" "BIGINT" "as measured at its end, microseconds"
            "result" "VARCHAR" "ok or an error's label; none while it goes on"
        },
        select: "SELECT span_id, kind, any_value(name) AS name, any_value(trace_id) AS trace_id, any_value(job_id) AS job_id, \
            any_value(run_id) AS run_id, any_value(step_id) AS step_id, any_value(attempt) AS attempt, \
            min(\"timestamp\") FILTER (starts) AS started_at, \
            max(\"timestamp\") FILTER (NOT starts AND seq = newest) AS ended_at, \
            max(duration_us) FILTER (NOT starts AND seq = newest) AS duration_us, \
            max(result) FILTER (NOT starts AND seq = newest) AS result \
            FROM (SELECT *, activity_span_id AS span_id, event_type = 'span_start' AS starts, \
                json_extract_string(payload, '$.span') AS kind, json_extract_string(payload, '$.name') AS name, \
                max(seq) OVER (PARTITION BY activity_span_id, json_extract_string(payload, '$.span')) AS newest \
                FROM records WHERE event_type IN ('span_start', 'span_end')) GROUP BY span_id, kind",
    },
    View {
        name: "runs",
        about: "one row per run, with what it did in numbers",
        columns: columns! {
            "run_id" "UUID" "the run"
            "job_id" "UUID" "its job"
            "trace_id" "UUID" "its trace"
            "started_at" "TIMESTAMP WITH TIME ZONE" "when it first began; none when that is not kept any more"
            "ended_at" "TIMESTAMP WITH TIME ZONE" "when it ended; none while it goes on"
            "duration_us" "BIGINT" "as measured at its end, microseconds"
            "result" "VARCHAR" "ok or an error's label; none while it goes on"
            "steps" "BIGINT" "different steps that did something"
            "decisions" "BIGINT" "decisions about calls"
            "denied" "BIGINT" "those that denied"
            "model_calls" "BIGINT" "calls of models"
            "tokens" "HUGEINT" "tokens of them"
            "events" "BIGINT" "events of all types"
        },
        select: "SELECT r.run_id, r.job_id, r.trace_id, s.started_at, s.ended_at, s.duration_us, s.result, r.steps, r.decisions, \
            r.denied, r.model_calls, r.tokens, r.events \
            FROM (SELECT run_id, any_value(job_id) AS job_id, any_value(trace_id) AS trace_id, \
                count(DISTINCT step_id) AS steps, count(*) FILTER (event_type = 'capability_action') AS decisions, \
                count(*) FILTER (event_type = 'capability_action' AND decision_outcome = 'deny') AS denied, \
                count(*) FILTER (event_type = 'llm_inference') AS model_calls, \
                coalesce(sum(CAST(json_extract(payload, '$.token_usage.total_tokens') AS BIGINT)) \
                    FILTER (event_type = 'llm_inference'), 0) AS tokens, count(*) AS events \
                FROM records WHERE run_id IS NOT NULL GROUP BY run_id) r \
            LEFT JOIN spans s ON s.kind = 'run' AND s.span_id = r.run_id",
    },
];
