//! `handshake capabilities`: what steps can ask for, and the profiles that list it.

use clap::Subcommand;
use handshake_core::capability::{AXES, Axis};
use serde::Serialize;

use super::Context;
use crate::error::{CliError, Exit};

/// `handshake capabilities …`
#[derive(Debug, Subcommand)]
pub(crate) enum CapabilitiesCommand {
    /// Lists the axes and the profiles
    List,
}

#[derive(Serialize)]
struct AxisLine {
    axis: &'static str,
    effectful: bool,
    grantable: bool,
    scope: &'static str,
    summary: &'static str,
}

#[derive(Serialize)]
struct ProfileLine {
    profile: String,
    capabilities: Vec<String>,
}

#[derive(Serialize)]
struct Listing {
    axes: Vec<AxisLine>,
    profiles: Vec<ProfileLine>,
}

/// Prints what there is; needs no data directory.
pub(crate) fn capabilities(context: &Context<'_>, command: &CapabilitiesCommand) -> Result<Exit, CliError> {
    let CapabilitiesCommand::List = command;
    let settings = context.settings()?;
    let profiles = settings.profiles.iter().map(|profile| ProfileLine {
        profile: profile.id.to_string(),
        capabilities: profile.capabilities.iter().map(ToString::to_string).collect(),
    });
    let listing = Listing { axes: AXES.iter().copied().map(line).collect(), profiles: profiles.collect() };
    let output = context.output;
    if output.is_json() {
        output.json(&listing)?;
        return Ok(Exit::Done);
    }
    let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let axes = listing.axes.iter().map(|line| {
        vec![
            line.axis.to_owned(),
            yes(line.effectful),
            yes(line.grantable),
            line.scope.to_owned(),
            line.summary.to_owned(),
        ]
    });
    output.table(&["AXIS", "EFFECTFUL", "GRANTABLE", "SCOPE", "WHAT"], axes.collect())?;
    output.line("")?;
    let profiles = listing.profiles.iter().map(|line| vec![line.profile.clone(), line.capabilities.join(", ")]);
    output.table(&["PROFILE", "CAPABILITIES"], profiles.collect())?;
    Ok(Exit::Done)
}

fn line(axis: Axis) -> AxisLine {
    AxisLine {
        axis: axis.name(),
        effectful: axis.is_effectful(),
        grantable: axis.is_grantable(),
        scope: axis.scope_form().shown(),
        summary: axis.summary().trim(),
    }
}
