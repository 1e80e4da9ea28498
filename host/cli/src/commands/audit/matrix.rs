//! `handshake audit matrix`: plugin by capability, declared, granted, used and denied.

use clap::Args;
use handshake_core::{JobId, RunId, Timestamp};
use handshake_recorder::MatrixQuery;

use super::{filters, note_elsewhere, path_of};
use crate::access::Access;
use crate::error::CliError;
use crate::output::{ALERT, Output};
use crate::review::matrix::{Matrix, MatrixLine};

/// Arguments of `handshake audit matrix`.
#[derive(Debug, Args)]
pub(crate) struct MatrixArgs {
    /// Of this run
    #[arg(long, value_parser = filters::run, value_name = "ID")]
    run: Option<RunId>,
    /// Of this job
    #[arg(long, value_parser = filters::job, value_name = "ID")]
    job: Option<JobId>,
    /// Of this plugin, with or without @version
    #[arg(long, value_name = "ID")]
    plugin: Option<String>,
    /// Recorded at this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_parser = filters::time, value_name = "TIME")]
    since: Option<Timestamp>,
}

/// Shows the matrix.
pub(super) async fn matrix(access: Access, output: &Output, args: &MatrixArgs) -> Result<(), CliError> {
    let query = MatrixQuery { run_id: args.run, job_id: args.job, plugin: args.plugin.clone(), since: args.since };
    let matrix = access.get::<Matrix>(&path_of("/api/v1/audit/matrix", &query)?).await;
    let matrix = access.finish(output, matrix).await?;
    if !matrix.new_is_known && (args.run.is_some() || args.job.is_some() || args.since.is_some()) {
        output.note("what is new is not looked for in so many calls; ask about one run, or a shorter time");
    }
    show_matrix(output, &matrix)
}

fn show_matrix(output: &Output, matrix: &Matrix) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(matrix);
    }
    note_elsewhere(output, &matrix.elsewhere);
    if matrix.more_runs {
        output.note(&format!(
            "what was declared and granted is that of the latest {} runs; ask about one with --run, or since a time with --since",
            matrix.runs
        ));
    }
    if matrix.rows.is_empty() {
        output.note("no decisions");
        return Ok(());
    }
    let header = ["PLUGIN", "CAPABILITY", "DECLARED", "GRANTED", "ALLOWED", "DENIED", "NOTES"];
    output.table(&header, matrix.rows.iter().map(matrix_row).collect())
}

/// Ids of one axis; the axis itself stands in the row already.
fn ids(axis: &str, ids: &[String]) -> String {
    let scope = |id: &String| match id.strip_prefix(axis).and_then(|rest| rest.strip_prefix(':')) {
        Some(scope) => scope.to_owned(),
        None => "all".to_owned(),
    };
    if ids.is_empty() { "-".to_owned() } else { ids.iter().map(scope).collect::<Vec<_>>().join(", ") }
}

fn matrix_row(line: &MatrixLine) -> Vec<String> {
    let row = &line.row;
    let mut notes = Vec::new();
    if row.denied > 0 {
        let why: Vec<_> = row.denied_reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        notes.push(format!("{ALERT} tried and denied: {}", why.join(", ")));
    }
    if row.would_deny > 0 {
        notes.push(format!("{ALERT} would be denied: {}", row.would_deny));
    }
    if !line.unused_grants.is_empty() {
        notes.push(format!("{ALERT} granted, never used: {}", ids(&row.capability, &line.unused_grants)));
    }
    if line.new_resources_total > 0 {
        let shown: Vec<_> = line.new_resources.iter().take(3).map(String::as_str).collect();
        let rest = line.new_resources_total - shown.len() as u64;
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        notes.push(format!("new: {}{rest}", shown.join(", ")));
    }
    vec![
        row.plugin.clone(),
        row.capability.clone(),
        ids(&row.capability, &line.declared),
        ids(&row.capability, &line.granted),
        row.allowed.to_string(),
        row.denied.to_string(),
        notes.join("; "),
    ]
}
