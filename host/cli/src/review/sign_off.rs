//! A person vouches for a run, or does not, after the record was verified.

use std::path::PathBuf;

use handshake_core::event::{Actor, ActorKind, Event, EventBody, EventType, Judgement, SignOff};
use handshake_core::token::Role;
use handshake_core::{Digest, EventId, RunId};
use handshake_recorder::signing::Signed;
use handshake_recorder::{EventQuery, SignOffStatement};
use serde::{Deserialize, Serialize};

use crate::api::Caller;
use crate::api::recorder::failed;
use crate::error::{CliError, Exit};
use crate::host::HostState;

/// The longest name and note, bytes.
const LONGEST_NAME: usize = 100;
const LONGEST_NOTE: usize = 4000;

/// What a person says.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignOffRequest {
    /// Who; given by the owner of the data directory, for others it is who they came in as.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// What.
    pub(crate) verdict: Judgement,
    /// Why.
    #[serde(default)]
    pub(crate) note: String,
}

/// What people have said about a run.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct SignOffList {
    /// Oldest first.
    pub(crate) sign_offs: Vec<SignOffLine>,
}

/// One statement.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct SignOffLine {
    /// The signed statement.
    pub(crate) statement: Signed<SignOffStatement>,
    /// SHA-256 of its file.
    pub(crate) sha256: Digest,
    /// The event that it was recorded with; none when that is too old to be shown, or was never there.
    pub(crate) event: Option<EventId>,
    /// Why it does not count; none when its signature is right.
    pub(crate) problem: Option<String>,
}

fn folder(host: &HostState, run: RunId) -> PathBuf {
    host.directory.file("recorder").join("sign-offs").join(run.to_string())
}

/// What was said about a run.
pub(crate) async fn sign_offs(host: &HostState, run: RunId) -> Result<SignOffList, CliError> {
    let folder = folder(host, run);
    let kept = host.keeper.statements(&folder).map_err(|error| CliError::file("read", &folder, &error))?;
    if kept.is_empty() {
        host.database.run(run).await?;
        return Ok(SignOffList { sign_offs: Vec::new() });
    }
    let query =
        EventQuery { run_id: Some(run), event_type: Some(EventType::SignOff), limit: 1000, ..EventQuery::default() };
    let events = host.projection().await?.events(&query).await?.events;
    let event = |sha256: Digest| {
        let text = sha256.to_string();
        let found = events.iter().find(|event| event.event["payload"]["statement_sha256"] == text.as_str())?;
        found.event["event_id"].as_str()?.parse().ok()
    };
    let sign_offs = kept.into_iter().map(|kept| SignOffLine {
        event: event(kept.sha256),
        statement: kept.statement,
        sha256: kept.sha256,
        problem: kept.problem,
    });
    Ok(SignOffList { sign_offs: sign_offs.collect() })
}

/// Records what a person says about a run that is over and whose record verifies.
pub(crate) async fn sign_off(
    host: &HostState,
    caller: &Caller,
    run: RunId,
    request: SignOffRequest,
) -> Result<SignOffLine, CliError> {
    let name = match request.name {
        Some(name) if caller.role == Role::Owner || name == caller.actor.id => name,
        Some(_) => {
            let problem = format!("you sign as `{}`, not in another name", caller.actor.id);
            return Err(CliError::denied(problem).code("forbidden").hint("leave out `name`"));
        }
        None if caller.role == Role::Owner => String::new(),
        None => caller.actor.id.clone(),
    };
    for (what, text, most) in [("name", &name, LONGEST_NAME), ("note", &request.note, LONGEST_NOTE)] {
        if text.len() > most {
            return Err(CliError::usage(format!("the {what} has {} bytes; at most {most} are kept", text.len())));
        }
    }
    if name.trim().is_empty() {
        return Err(CliError::usage("the name is empty").hint("--as NAME says who vouches"));
    }
    let run = host.database.run(run).await?;
    if !run.state.is_final() {
        return Err(CliError::conflict(format!("run `{}` is `{}`, and not over", run.run_id, run.state))
            .hint("handshake jobs watch waits for its end"));
    }
    let hosts = host.database.hosts(run.run_id).await?;
    if let (Some(other), false) = (hosts.first(), hosts.contains(&host.database.host())) {
        let problem =
            format!("run `{}` was executed by host `{other}`, and nothing of it is on this record", run.run_id);
        return Err(CliError::conflict(problem).hint("sign off there: the file host-id of its data directory names it"));
    }
    let projection = host.projection().await?;
    let verified = host.keeper.verify(projection, None).await.map_err(|error| failed(&error))?;
    if let Some(finding) = &verified.finding {
        let message =
            format!("the record does not verify: event {}, {}: {}", finding.seq, finding.place, finding.reason);
        return Err(CliError::new(Exit::Verification, "not_verified", message)
            .hint("handshake audit verify shows it; nothing was signed"));
    }
    let statement = SignOffStatement {
        schema: 1,
        run: run.run_id,
        job: run.job_id,
        name: name.clone(),
        verdict: request.verdict,
        note: request.note,
        host: verified.host,
        seq: verified.seq,
        head_hash: verified.hash,
        signed_at: host.gate.clock.now(),
    };
    let folder = folder(host, run.run_id);
    let kept =
        host.keeper.keep_statement(&folder, statement).map_err(|error| CliError::file("write to", &folder, &error))?;
    let body = EventBody::SignOff(SignOff {
        subject: format!("run:{}", run.run_id),
        statement_sha256: kept.sha256,
        head_hash: Some(verified.hash),
        verdict: Some(request.verdict),
    });
    let id = EventId::fresh(&*host.gate.ids);
    let actor = Actor { kind: ActorKind::Human, id: name };
    let mut event = Event::new(id, run.trace_id, host.gate.clock.now(), actor, body);
    (event.job_id, event.workflow_run_id) = (Some(run.job_id), Some(run.run_id));
    host.gate.recorder.record_event(&event).await?;
    Ok(SignOffLine { statement: kept.statement, sha256: kept.sha256, event: Some(id), problem: kept.problem })
}
