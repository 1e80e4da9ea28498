//! `handshake audit`: who asked for what, who said yes, and by which rule.

use clap::{Args, Subcommand};
use handshake_core::event::Outcome;
use handshake_core::{JobId, RunId, StepId, Timestamp, TraceId};
use handshake_recorder::{EventPage, EventQuery, MatrixQuery, MatrixRow, RecordedEvent};
use serde::Serialize;
use serde_json::Value;

use super::audit_proof::{CheckProofArgs, ProveArgs, VerifyArgs};
use super::{Context, audit_proof};
use crate::access::{Need, with_parameters};
use crate::api::audit::Matrix;
use crate::error::{CliError, Exit};
use crate::output::{ALERT, Output};

/// `handshake audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Lists decisions, newest first
    Decisions(DecisionsArgs),
    /// Counts decisions: plugin by capability, allowed and denied
    Matrix(MatrixArgs),
    /// Checks that the whole record is what was recorded; exit code 5 if it is not
    Verify(VerifyArgs),
    /// Prints a proof that an event is on record, for somebody who has only the
    /// public key
    Prove(ProveArgs),
    /// Checks a proof; needs no data directory
    CheckProof(CheckProofArgs),
}

/// Arguments of `handshake audit decisions`.
#[derive(Debug, Args)]
pub(crate) struct DecisionsArgs {
    /// Of this job
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Of this run
    #[arg(long, value_name = "ID")]
    run: Option<RunId>,
    /// Of this trace
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
    /// Of this step
    #[arg(long)]
    step: Option<StepId>,
    /// Of this plugin, with or without @version
    #[arg(long, value_name = "ID")]
    plugin: Option<String>,
    /// On this capability, for example fs.read
    #[arg(long)]
    capability: Option<String>,
    /// Only allow or only deny
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Recorded at this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_parser = time, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Recorded before this time
    #[arg(long, value_parser = time, value_name = "TIME")]
    to: Option<Timestamp>,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue where an earlier page ended
    #[arg(long, value_name = "PLACE")]
    before: Option<String>,
}

/// Arguments of `handshake audit matrix`.
#[derive(Debug, Args)]
pub(crate) struct MatrixArgs {
    /// Of this run
    #[arg(long, value_name = "ID")]
    run: Option<RunId>,
    /// Of this job
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Of this plugin, with or without @version
    #[arg(long, value_name = "ID")]
    plugin: Option<String>,
    /// Recorded at this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_parser = time, value_name = "TIME")]
    since: Option<Timestamp>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "write a time like 2026-01-31T12:00:00Z".to_owned())
}

/// Lists or counts.
pub(crate) async fn audit(context: &Context<'_>, command: &AuditCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        AuditCommand::Verify(args) => return audit_proof::verify(context, args).await,
        AuditCommand::Prove(args) => return audit_proof::prove(context, args).await,
        AuditCommand::CheckProof(args) => return audit_proof::check(context, args),
        AuditCommand::Decisions(args) => {
            let access = context.access(Need::Answers).await?;
            let page = access.get::<EventPage>(&path_of("/v1/audit/events", &args.query())?).await;
            show_decisions(output, &access.finish(output, page).await?)?;
        }
        AuditCommand::Matrix(args) => {
            let access = context.access(Need::Answers).await?;
            let query =
                MatrixQuery { run_id: args.run, job_id: args.job, plugin: args.plugin.clone(), since: args.since };
            let matrix = access.get::<Matrix>(&path_of("/v1/audit/matrix", &query)?).await;
            show_matrix(output, &access.finish(output, matrix).await?)?;
        }
    }
    Ok(Exit::Done)
}

impl DecisionsArgs {
    fn query(&self) -> EventQuery {
        EventQuery {
            event_id: None,
            job_id: self.job,
            run_id: self.run,
            trace_id: self.trace,
            step_id: self.step.clone(),
            from: self.from,
            to: self.to,
            actor: self.plugin.clone(),
            event_type: Some("capability_action".to_owned()),
            capability_id: self.capability.clone(),
            decision_outcome: self.outcome,
            limit: self.limit,
            before: self.before.clone(),
        }
    }
}

/// A query as parameters: what it does not say is left out.
fn path_of(path: &str, query: &impl Serialize) -> Result<String, CliError> {
    let value = serde_json::to_value(query)
        .map_err(|error| CliError::internal("the query cannot be written").because(&error))?;
    let fields = value.as_object().into_iter().flatten();
    let parameters = fields.map(|(name, value)| {
        let text = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        (name.as_str(), text)
    });
    Ok(with_parameters(path, parameters))
}

fn show_decisions(output: &Output, page: &EventPage) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(page);
    }
    if page.events.is_empty() {
        output.note("no decisions");
        return Ok(());
    }
    output.table(&["TIME", "WHO", "STEP", "ASKED FOR", "DECISION"], page.events.iter().map(decision_row).collect())?;
    if let Some(next) = &page.next {
        output.note(&format!("more: the same with --before {next}"));
    }
    Ok(())
}

fn decision_row(recorded: &RecordedEvent) -> Vec<String> {
    let event = &recorded.event;
    let payload = &event["payload"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let step = match payload["index"].as_u64() {
        Some(index) => format!("{}[{index}]", text(&event["step_id"])),
        None => text(&event["step_id"]),
    };
    let rule = match (payload["rule"]["file"].as_str(), payload["rule"]["line"].as_u64()) {
        (Some(file), Some(line)) => format!(" {file}:{line}"),
        _ => String::new(),
    };
    let decision = match payload["decision_outcome"].as_str() {
        Some("deny") => format!("{ALERT} {} by {}{rule}", text(&payload["reason"]), text(&payload["layer"])),
        _ if payload["would_deny"].as_bool() == Some(true) => format!("allow (observed: would deny){rule}"),
        _ => format!("allow{rule}"),
    };
    let clock = text(&event["timestamp"]);
    let clock = clock.split_once('T').map_or(clock.as_str(), |(_, time)| time).get(..8).unwrap_or(&clock).to_owned();
    let asked = format!("{} {}", text(&event["capability_id"]), text(&payload["resource"]));
    vec![clock, text(&event["actor"]["id"]), step, asked, decision]
}

fn show_matrix(output: &Output, matrix: &Matrix) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(matrix);
    }
    if matrix.rows.is_empty() {
        output.note("no decisions");
        return Ok(());
    }
    output.table(&["PLUGIN", "CAPABILITY", "ALLOWED", "DENIED", "WHY"], matrix.rows.iter().map(matrix_row).collect())
}

fn matrix_row(row: &MatrixRow) -> Vec<String> {
    let denied = if row.denied == 0 { "0".to_owned() } else { format!("{ALERT} {}", row.denied) };
    let mut why: Vec<_> = row.denied_reasons.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
    if row.would_deny > 0 {
        why.push(format!("would deny: {}", row.would_deny));
    }
    vec![row.plugin.clone(), row.capability.clone(), row.allowed.to_string(), denied, why.join(", ")]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_travels_as_parameters_and_comes_back_the_same() {
        let query = EventQuery {
            step_id: Some(StepId::new("read").unwrap()),
            decision_outcome: Some(Outcome::Deny),
            limit: 5,
            from: Timestamp::parse("2026-01-31T12:00:00Z"),
            ..EventQuery::default()
        };
        let path = path_of("/v1/audit/events", &query).unwrap();
        let uri: axum::http::Uri = path.parse().unwrap();
        let axum::extract::Query(back) = axum::extract::Query::<EventQuery>::try_from_uri(&uri).unwrap();
        assert_eq!(back, query);
    }

    #[test]
    fn a_denial_stands_out_and_names_reason_layer_and_rule() {
        let event = json!({
            "timestamp": "2026-01-01T10:11:12.345678Z", "actor": { "kind": "agent", "id": "probe@0.1.0" }, "step_id": "a",
            "capability_id": "fs.write",
            "payload": { "decision_outcome": "deny", "reason": "operator-denied", "layer": "policy", "index": 3,
                "resource": "out/x", "rule": { "file": "policy.toml", "line": 9 }, "would_deny": false }
        });
        let recorded = serde_json::from_value(json!({
            "host": "0198f3a2-7c11-7000-8000-0123456789ab", "seq": 1, "recorded_at": "2026-01-01T10:11:12.345678Z", "hash": "0".repeat(64), "event": event
        }));
        let row = decision_row(&recorded.unwrap());
        assert_eq!(
            row,
            ["10:11:12", "probe@0.1.0", "a[3]", "fs.write out/x", "✗ operator-denied by policy policy.toml:9"]
        );
    }
}
