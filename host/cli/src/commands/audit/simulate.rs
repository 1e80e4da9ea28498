//! `handshake audit simulate`: whether a plugin could do something in a job.

use clap::Args;
use handshake_core::JobId;
use handshake_core::event::Outcome;

use super::filters;
use crate::access::Access;
use crate::error::CliError;
use crate::output::{ALERT, Output, Tone};
use crate::review::simulate::{SimulateRequest, Simulated, SimulatedStep};

/// Arguments of `handshake audit simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The job, whose latest run is looked at
    #[arg(long, value_parser = filters::job, value_name = "ID")]
    job: JobId,
    /// The plugin, with or without @version
    #[arg(long, value_name = "ID")]
    plugin: String,
    /// The capability: fs.read, fs.read:in, model.infer:default
    #[arg(long, value_name = "ID")]
    capability: String,
    /// The resource as records show it, in/a.md [default: the scope of the capability]
    #[arg(long, value_name = "TEXT")]
    resource: Option<String>,
}

/// Asks.
pub(super) async fn simulate(access: Access, output: &Output, args: &SimulateArgs) -> Result<(), CliError> {
    let request = SimulateRequest {
        job: args.job,
        plugin: args.plugin.clone(),
        capability: args.capability.clone(),
        resource: args.resource.clone(),
    };
    let simulated = access.post::<Simulated>("/api/v1/audit/simulate", &request).await;
    let simulated = access.finish(output, simulated).await?;
    if output.is_json() {
        return output.json(&simulated);
    }
    output.field("asked for", &format!("{} on {}", simulated.capability, simulated.resource))?;
    simulated.steps.iter().try_for_each(|step| show(output, step))
}

fn show(output: &Output, step: &SimulatedStep) -> Result<(), CliError> {
    let place = match &step.step {
        Some(id) => format!("step {id}"),
        None => "no step of the job uses it".to_owned(),
    };
    let (verdict, tone) = match (step.outcome, step.reason) {
        (Outcome::Deny, reason) => {
            let reason = reason.map(|reason| reason.label()).unwrap_or_default();
            (format!("{ALERT} denied: {reason} by {}", step.layer), Tone::Bad)
        }
        (Outcome::Allow, _) if step.would_deny => ("allowed: the policy only watches".to_owned(), Tone::Odd),
        (Outcome::Allow, _) => ("allowed".to_owned(), Tone::Good),
    };
    output.line("")?;
    output.field("plugin", &format!("{}, {place}", step.plugin))?;
    output.toned_field("decision", &verdict, tone)?;
    let rows = step.layers.iter().map(|layer| {
        let says = match layer.refusal {
            Some(reason) => format!("{ALERT} {}", reason.label()),
            None => "allows".to_owned(),
        };
        let why = layer.remedy.clone().or_else(|| layer.by.clone()).unwrap_or_default();
        vec![layer.layer.to_string(), says, why]
    });
    output.table(&["LAYER", "SAYS", "BY, OR WHAT WOULD CHANGE IT"], rows.collect())?;
    output.field("recorded", &format!("handshake audit events --event {}", step.event))
}
