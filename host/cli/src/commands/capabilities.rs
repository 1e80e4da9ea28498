//! `handshake capabilities`: what steps can ask for, through which imports, and the profiles that list it.

use clap::{Args, Subcommand};
use handshake_core::capability::{AXES, Axis, CapabilityId, ScopeForm};
use handshake_runtime::imports::{Side, imports};
use serde::Serialize;

use super::Context;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::policy;

/// `handshake capabilities …`
#[derive(Debug, Subcommand)]
pub(crate) enum CapabilitiesCommand {
    /// Lists the axes and the profiles
    List(ListArgs),
    /// Says what a capability covers, which imports ask for it, and who allows it
    Explain(ExplainArgs),
}

/// Arguments of `handshake capabilities list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Lists every function that a step can import instead, each with the capability
    /// that its calls need, or why they need none
    #[arg(long)]
    wit: bool,
}

/// Arguments of `handshake capabilities explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The capability, for example fs.read:in/reports/**
    id: CapabilityId,
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

#[derive(Serialize)]
struct ImportLine {
    interface: String,
    function: &'static str,
    /// What its calls need.
    axes: Vec<&'static str>,
    /// Why they need nothing.
    ambient: Option<&'static str>,
}

#[derive(Serialize)]
struct Imports {
    imports: Vec<ImportLine>,
}

/// A capability, explained.
#[derive(Serialize)]
struct Explanation {
    capability: CapabilityId,
    axis: &'static str,
    summary: &'static str,
    scope: &'static str,
    effectful: bool,
    /// Whether what was done stays done when the attempt is lost.
    lasting: bool,
    grantable: bool,
    imports: Vec<String>,
    profiles: Vec<String>,
    /// Rules of the policy about some or all of it.
    rules: Vec<RuleLine>,
}

#[derive(Serialize)]
struct RuleLine {
    effect: &'static str,
    capability: CapabilityId,
    plugins: Vec<String>,
    source: String,
}

/// Prints what there is; needs no data directory.
pub(crate) async fn capabilities(context: &Context<'_>, command: &CapabilitiesCommand) -> Result<Exit, CliError> {
    match command {
        CapabilitiesCommand::List(ListArgs { wit: true }) => show_imports(context.output)?,
        CapabilitiesCommand::List(_) => list(context)?,
        CapabilitiesCommand::Explain(args) => explain(context, &args.id)?,
    }
    Ok(Exit::Done)
}

fn list(context: &Context<'_>) -> Result<(), CliError> {
    let settings = context.settings()?;
    let profiles = settings.profiles.iter().map(|profile| ProfileLine {
        profile: profile.id.to_string(),
        capabilities: profile.capabilities.iter().map(ToString::to_string).collect(),
    });
    let listing = Listing { axes: AXES.iter().copied().map(line).collect(), profiles: profiles.collect() };
    let output = context.output;
    if output.is_json() {
        return output.json(&listing);
    }
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
    output.table(&["PROFILE", "CAPABILITIES"], profiles.collect())
}

fn show_imports(output: &Output) -> Result<(), CliError> {
    let listed = imports().map(|import| {
        let mut line = ImportLine {
            interface: format!("{}@{}", import.interface, import.version),
            function: import.function,
            axes: Vec::new(),
            ambient: None,
        };
        for side in import.sides() {
            match side {
                Side::Decided(axes) => line.axes.extend(axes.iter().map(|axis| axis.name())),
                Side::Ambient(reason) => line.ambient = Some(reason),
            }
        }
        line
    });
    let listing = Imports { imports: listed.collect() };
    if output.is_json() {
        return output.json(&listing);
    }
    let rows = listing.imports.iter().map(|line| {
        let needs = match line.ambient {
            Some(reason) => format!("ambient: {reason}"),
            None => line.axes.join(", "),
        };
        vec![line.interface.clone(), line.function.to_owned(), needs]
    });
    output.table(&["INTERFACE", "FUNCTION", "NEEDS"], rows.collect())
}

fn explain(context: &Context<'_>, id: &CapabilityId) -> Result<(), CliError> {
    let settings = context.settings()?;
    let policy = policy::load(&settings)?;
    let axis = id.axis();
    let asks = imports()
        .filter(|import| import.sides().any(|side| matches!(side, Side::Decided(axes) if axes.contains(&axis))));
    let profiles =
        settings.profiles.iter().filter(|profile| profile.capabilities.iter().any(|listed| listed.meets(id)));
    let rules = policy.rules.iter().filter(|rule| rule.capability.meets(id)).map(|rule| RuleLine {
        effect: rule.effect.as_str(),
        capability: rule.capability.clone(),
        plugins: rule.plugins.iter().map(ToString::to_string).collect(),
        source: rule.source.to_string(),
    });
    let explanation = Explanation {
        capability: id.clone(),
        axis: axis.name(),
        summary: axis.summary().trim(),
        scope: scope(axis),
        effectful: axis.is_effectful(),
        lasting: axis.is_lasting(),
        grantable: axis.is_grantable(),
        imports: asks.map(|import| format!("{}@{} {}", import.interface, import.version, import.function)).collect(),
        profiles: profiles.map(|profile| profile.id.to_string()).collect(),
        rules: rules.collect(),
    };
    let output = context.output;
    if output.is_json() {
        return output.json(&explanation);
    }
    output.field("capability", id.as_str())?;
    output.field("what", explanation.summary)?;
    output.field("scope", explanation.scope)?;
    let waits = if explanation.effectful { "before it happens" } else { "at the latest with the step's result" };
    output.field("durable", waits)?;
    output.field("lasting", &yes(explanation.lasting))?;
    output.field("grantable", &yes(explanation.grantable))?;
    for import in &explanation.imports {
        output.field("asked by", import)?;
    }
    let none = "no profile";
    let profiles = explanation.profiles.join(", ");
    output.field("listed in", if profiles.is_empty() { none } else { &profiles })?;
    for rule in &explanation.rules {
        let whom = if rule.plugins.is_empty() { String::new() } else { format!(" for {}", rule.plugins.join(", ")) };
        output.field("policy", &format!("{} {}{whom} ({})", rule.effect, rule.capability, rule.source))?;
    }
    if explanation.rules.is_empty() {
        output.field("policy", "no rule mentions it, so it is denied")?;
    }
    Ok(())
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

fn scope(axis: Axis) -> &'static str {
    match axis.scope_form() {
        ScopeForm::Mount => "mount[/pattern]",
        ScopeForm::Name => "name",
        ScopeForm::Bare => "-",
    }
}

fn line(axis: Axis) -> AxisLine {
    AxisLine {
        axis: axis.name(),
        effectful: axis.is_effectful(),
        grantable: axis.is_grantable(),
        scope: scope(axis),
        summary: axis.summary().trim(),
    }
}
