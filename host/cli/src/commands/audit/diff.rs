//! `handshake audit diff`: what two runs, or two versions of a plugin, asked for differently.

use clap::Args;

use crate::access::Access;
use crate::error::CliError;
use crate::output::{ALERT, Output};
use crate::review::diff::{Asked, Diff, DiffRequest, Difference};

/// Arguments of `handshake audit diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A run, or a plugin with its version: id@0.1.0
    a: String,
    /// Another one
    b: String,
}

/// Compares.
pub(super) async fn diff(access: Access, output: &Output, args: &DiffArgs) -> Result<(), CliError> {
    let request = DiffRequest { a: args.a.clone(), b: args.b.clone() };
    let diff = access.post::<Diff>("/api/v1/audit/diff", &request).await;
    let diff = access.finish(output, diff).await?;
    if output.is_json() {
        return output.json(&diff);
    }
    output.note(&format!("the same in both: {} resources", diff.same));
    if diff.differences.is_empty() {
        return output.line("no difference");
    }
    let header = ["", "PLUGIN", "CAPABILITY", "RESOURCE", "A", "B"];
    output.table(&header, diff.differences.iter().map(row).collect())
}

fn row(difference: &Difference) -> Vec<String> {
    let sign = match (&difference.a, &difference.b) {
        (Some(_), None) => "-",
        (None, Some(_)) => "+",
        _ => "~",
    };
    let asked = |asked: &Option<Asked>| match asked {
        None => "not asked".to_owned(),
        Some(Asked { allowed, denied: 0 }) => format!("allowed {allowed}"),
        Some(Asked { allowed: 0, denied }) => format!("{ALERT} denied {denied}"),
        Some(Asked { allowed, denied }) => format!("{ALERT} allowed {allowed}, denied {denied}"),
    };
    vec![
        sign.to_owned(),
        difference.plugin.clone(),
        difference.capability.clone(),
        difference.resource.clone(),
        asked(&difference.a),
        asked(&difference.b),
    ]
}
