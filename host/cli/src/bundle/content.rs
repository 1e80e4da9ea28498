//! What is in a bundle. Memory stays flat: events and attempts go to temporary files page by page.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use handshake_core::event::RedactionMode;
use handshake_core::storage::{LogQuery, Payloads};
use handshake_core::{HostId, JobId, RunId, Timestamp};
use handshake_recorder::EventQuery;
use serde::Serialize;
use serde_json::{Value, json};

use super::archive::{Finished, Spool};
use super::mode::{Part, View};
use crate::error::CliError;
use crate::host::HostState;
use crate::review::elsewhere;

/// Version of the bundle's form.
const SCHEMA: u32 = 1;
/// Events that are read at a time.
const PAGE: u32 = 1000;
/// Exports of bundles are left out: with them, exporting a job would change what its next bundle holds.
const LEFT_OUT: &str = "debug_bundle_export";

/// What became of the events.
#[derive(Default)]
struct Events {
    count: u64,
    last_seq: u64,
    incomplete_before: Option<Timestamp>,
    /// How often a rule fired in a field before the event was recorded.
    redactions: BTreeMap<String, BTreeMap<String, u64>>,
    omitted: u64,
}

/// Puts a bundle together, of what is known when it begins.
pub(crate) async fn write(host: &Arc<HostState>, id: JobId, mode: RedactionMode) -> Result<Finished, CliError> {
    let job = host.database.job(id).await?;
    let folder = host.directory.file("recorder");
    let mut spool = Spool::new(&folder).map_err(|error| CliError::file("write a bundle in", &folder, &error))?;
    let redaction = host.redaction.clone();
    let mut view = View::new(mode, &redaction);
    let failed = |error: io::Error| CliError::file("write a bundle in", &folder, &error);

    let events = events(host, id, &mut spool, &mut view).await?;
    spool.json("job.json", &view.of("job.json", Part::Job, value(&job)?)).map_err(failed)?;
    let payloads = if mode == RedactionMode::SafeDefault { Payloads::LeftOut } else { Payloads::Read };
    let (mut runs, mut ids) = (Vec::new(), Vec::new());
    for run in host.database.runs_of(id).await? {
        ids.push(run.run_id);
        if payloads == Payloads::Read {
            logs(host, run.run_id, &mut spool, &mut view).await?;
        }
        let nodes = host.database.nodes(run.run_id, payloads).await?;
        let nodes = nodes.iter().map(|node| Ok(view.of("runs.json", Part::Node, value(node)?)));
        let nodes = nodes.collect::<Result<Vec<_>, CliError>>()?;
        runs.push(json!({ "run": view.of("runs.json", Part::Run, value(&run)?), "nodes": nodes }));
    }
    spool.json("runs.json", &json!({ "runs": runs })).map_err(failed)?;
    let environment = view.of("environment.json", Part::Report, environment(host).await?);
    spool.json("environment.json", &environment).map_err(failed)?;
    let retention =
        view.of("retention-report.json", Part::Report, retention(host, &events, &elsewhere(host, &ids).await?).await?);
    spool.json("retention-report.json", &retention).map_err(failed)?;
    let redaction_report = json!({
        "recorded": { "rules": events.redactions, "not_listed": events.omitted },
        "exported": view.fired,
    });
    spool.json("redaction-report.json", &redaction_report).map_err(failed)?;
    let manifest = json!({
        "schema": SCHEMA,
        "kind": "handshake-debug-bundle",
        "version": crate::VERSION,
        "job_id": id,
        "mode": mode,
        "events": events.count,
        "last_seq": events.last_seq,
        "left_out": { "event_types": [LEFT_OUT] },
    });
    spool.json("manifest.json", &manifest).map_err(failed)?;
    let finished = tokio::task::spawn_blocking(move || spool.finish()).await;
    finished.map_err(|error| CliError::internal("the bundle cannot be written").because(&error))?.map_err(failed)
}

fn value(of: &impl Serialize) -> Result<Value, CliError> {
    serde_json::to_value(of).map_err(|error| CliError::internal("the job cannot be written as JSON").because(&error))
}

/// Writes the job's events, oldest first, up to the end of the record as it is now.
async fn events(host: &HostState, id: JobId, spool: &mut Spool, view: &mut View<'_>) -> Result<Events, CliError> {
    let folder = host.directory.file("recorder");
    let failed = |error: io::Error| CliError::file("write a bundle in", &folder, &error);
    let projection = host.projection().await?;
    let mut query = EventQuery { job_id: Some(id), after: Some("0".into()), limit: PAGE, ..EventQuery::default() };
    let (mut found, mut end) = (Events::default(), None);
    for name in ["events.jsonl", "decisions.jsonl"] {
        spool.add(name, b"").map_err(failed)?;
    }
    loop {
        let page = projection.events(&query).await?;
        // The place where the record ends is its time, its number and its host.
        let end = *end.get_or_insert_with(|| {
            found.incomplete_before = page.incomplete_before;
            page.resume.split('.').nth(1).and_then(|seq| seq.parse::<u64>().ok()).unwrap_or(0)
        });
        for recorded in &page.events {
            let event_type = recorded.event["event_type"].as_str().unwrap_or_default();
            if event_type == LEFT_OUT || recorded.seq > end {
                continue;
            }
            found.count(&recorded.event);
            found.last_seq = recorded.seq;
            let shown = view.of("events.jsonl", Part::Event, value(recorded)?);
            if matches!(event_type, "capability_action" | "capability_outcome") {
                spool.json_line("decisions.jsonl", &shown).map_err(failed)?;
            }
            spool.json_line("events.jsonl", &shown).map_err(failed)?;
        }
        match page.next {
            Some(next) if page.events.last().is_some_and(|last| last.seq < end) => query.after = Some(next),
            _ => return Ok(found),
        }
    }
}

/// Writes what the attempts of a run have logged.
async fn logs(host: &HostState, run: RunId, spool: &mut Spool, view: &mut View<'_>) -> Result<(), CliError> {
    let folder = host.directory.file("recorder");
    let failed = |error: io::Error| CliError::file("write a bundle in", &folder, &error);
    spool.add("logs.jsonl", b"").map_err(failed)?;
    let mut next = Some(0);
    while let Some(skip) = next {
        let logs = host.database.logs(run, LogQuery { step: None, skip }).await?;
        for log in &logs.attempts {
            let log = json!({ "run_id": run, "log": log });
            spool.json_line("logs.jsonl", &view.of("logs.jsonl", Part::Log, log)).map_err(failed)?;
        }
        next = logs.next;
    }
    Ok(())
}

impl Events {
    fn count(&mut self, event: &Value) {
        self.count += 1;
        for note in event["redactions"].as_array().into_iter().flatten() {
            let text = |name: &str| note[name].as_str().unwrap_or_default().to_owned();
            *self.redactions.entry(text("rule")).or_default().entry(text("field")).or_default() += 1;
        }
        self.omitted += event["redactions_omitted"].as_u64().unwrap_or(0);
    }
}

/// What the host is. No variable's value, no address, no key.
async fn environment(host: &HostState) -> Result<Value, CliError> {
    let mut models: Vec<String> = host.models.list().into_iter().map(|model| model.name).collect();
    models.sort();
    let in_force = host.policy.current();
    let policy = in_force.policy();
    Ok(json!({
        "version": crate::VERSION,
        "system": { "os": std::env::consts::OS, "architecture": std::env::consts::ARCH },
        "host": host.database.host(),
        "database": {
            "backend": if host.url.file().is_some() { "sqlite" } else { "postgresql" },
            "migration": host.database.migration_version().await?,
        },
        "policy": { "sha256": policy.digest, "mode": policy.mode, "rules": policy.rules.len() },
        "recorder": { "retention_days": host.retention().as_secs() / (24 * 3600) },
        "models": models,
    }))
}

/// What is not there any more.
async fn retention(host: &HostState, events: &Events, elsewhere: &[HostId]) -> Result<Value, CliError> {
    let status = host.keeper.status(host.projection().await?).await;
    Ok(json!({
        "retention_days": status.retention_days,
        "tombstone": status.tombstone,
        "gaps": status.projection.gaps,
        // None when everything that was ever recorded is there.
        "incomplete_before": events.incomplete_before,
        // Other hosts that executed parts of the job, on whose records those are.
        "elsewhere": elsewhere,
    }))
}
