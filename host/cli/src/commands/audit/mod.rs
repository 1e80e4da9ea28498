//! `handshake audit`: what is on record, and what it says about who asked for what.

mod bundle;
mod csv;
mod decisions;
mod diff;
mod events;
mod explain;
mod export;
pub(super) mod filters;
mod matrix;
mod proof;
mod query;
mod replay;
mod report;
mod sign_off;
mod simulate;
mod sql;
mod suggest;
mod trace;

use clap::Subcommand;
use handshake_core::{HostId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::Context;
use crate::access::{Need, with_parameters};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::review::told_elsewhere;

/// `handshake audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Lists decisions, newest first
    Decisions(decisions::DecisionsArgs),
    /// Lists events of all types, newest first, or follows them as they come
    Events(events::EventsArgs),
    /// Shows a trace as a tree: job, runs, steps, decisions, calls of models
    Trace(trace::TraceArgs),
    /// Plugin by capability: declared, granted, used, denied, and what was new
    Matrix(matrix::MatrixArgs),
    /// The whole reasoning of one decision: every layer, rule and hash
    Explain(explain::ExplainArgs),
    /// Whether a plugin could do something in a job, and why; recorded as a question
    Simulate(simulate::SimulateArgs),
    /// Decides everything on record again under another policy
    Replay(replay::ReplayArgs),
    /// The smallest manifests, grants and policy that would have let runs through
    Suggest(suggest::SuggestArgs),
    /// What two runs, or two versions of a plugin, asked for differently
    Diff(diff::DiffArgs),
    /// A person vouches for a run; or shows who did
    SignOff(sign_off::SignOffArgs),
    /// Writes all about a run into one page for a browser
    Report(report::ReportArgs),
    /// Answers a SELECT over the record
    Sql(sql::SqlArgs),
    /// Writes events to a file, oldest first
    Export(export::ExportArgs),
    /// Writes what is known about a job into one ZIP file, for whoever looks for a
    /// fault
    Bundle(bundle::BundleArgs),
    /// Checks that the whole record is what was recorded; exit code 5 if it is not
    Verify(proof::VerifyArgs),
    /// Prints a proof that an event is on record, for somebody who has only the
    /// public key
    Prove(proof::ProveArgs),
    /// Checks a proof; needs no data directory
    CheckProof(proof::CheckProofArgs),
}

/// Asks the owner of the data directory, and shows the answer.
pub(crate) async fn audit(context: &Context<'_>, command: &AuditCommand) -> Result<Exit, CliError> {
    let output = context.output;
    let access = || context.access(Need::Answers);
    match command {
        AuditCommand::Decisions(args) => decisions::decisions(access().await?, output, args).await?,
        AuditCommand::Events(args) => events::events(context, args).await?,
        AuditCommand::Trace(args) => trace::trace(access().await?, output, args).await?,
        AuditCommand::Matrix(args) => matrix::matrix(access().await?, output, args).await?,
        AuditCommand::Explain(args) => explain::explain(access().await?, output, args).await?,
        AuditCommand::Simulate(args) => simulate::simulate(access().await?, output, args).await?,
        AuditCommand::Replay(args) => replay::replay(context, args).await?,
        AuditCommand::Suggest(args) => suggest::suggest(context, args).await?,
        AuditCommand::Diff(args) => diff::diff(access().await?, output, args).await?,
        AuditCommand::SignOff(args) => sign_off::sign_off(access().await?, output, args).await?,
        AuditCommand::Report(args) => report::report(context, args).await?,
        AuditCommand::Sql(args) => sql::sql(context, args).await?,
        AuditCommand::Export(args) => {
            // What can be told without the data directory is told before it is opened.
            args.check()?;
            export::export(access().await?, output, args).await?;
        }
        AuditCommand::Bundle(args) => bundle::bundle(context, args).await?,
        AuditCommand::Verify(args) => return proof::verify(context, args).await,
        AuditCommand::Prove(args) => return proof::prove(context, args).await,
        AuditCommand::CheckProof(args) => return proof::check(context, args),
    }
    Ok(Exit::Done)
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

/// Says that a part of what was asked for is not kept any more.
fn note_missing(output: &Output, incomplete_before: Option<Timestamp>) {
    if let Some(since) = incomplete_before {
        output.note(&format!("what was recorded before {since} is not kept any more"));
    }
}

/// Says that a part of what was asked for is on the record of other hosts.
fn note_elsewhere(output: &Output, hosts: &[HostId]) {
    if let Some(elsewhere) = told_elsewhere(hosts) {
        output.note(&elsewhere);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::StepId;
    use handshake_core::event::{EventType, Outcome};
    use handshake_recorder::EventQuery;

    use super::*;

    #[test]
    fn a_query_travels_as_parameters_and_comes_back_the_same() {
        let query = EventQuery {
            step_id: Some(StepId::new("read").unwrap()),
            decision_outcome: Some(Outcome::Deny),
            limit: 5,
            event_type: Some(EventType::SpanEnd),
            wsid: Some("a&b".into()),
            from: Timestamp::parse("2026-01-31T12:00:00Z"),
            ..EventQuery::default()
        };
        let path = path_of("/api/v1/audit/events", &query).unwrap();
        let uri: axum::http::Uri = path.parse().unwrap();
        let axum::extract::Query(back) = axum::extract::Query::<EventQuery>::try_from_uri(&uri).unwrap();
        assert_eq!(back, query);
    }
}
