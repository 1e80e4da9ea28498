//! `handshake audit matrix`: decisions in numbers.

use clap::Args;
use handshake_core::{JobId, RunId, Timestamp};
use handshake_recorder::{MatrixQuery, MatrixRow};

use super::{filters, path_of};
use crate::access::Access;
use crate::api::audit::Matrix;
use crate::error::CliError;
use crate::output::{ALERT, Output};

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

/// Counts decisions.
pub(super) async fn matrix(access: Access, output: &Output, args: &MatrixArgs) -> Result<(), CliError> {
    let query = MatrixQuery { run_id: args.run, job_id: args.job, plugin: args.plugin.clone(), since: args.since };
    let matrix = access.get::<Matrix>(&path_of("/v1/audit/matrix", &query)?).await;
    show_matrix(output, &access.finish(output, matrix).await?)
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
