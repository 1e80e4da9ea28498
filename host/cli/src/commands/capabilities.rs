//! `handshake capabilities`: what steps can ask for, through which imports, and the profiles that list it.

use clap::{Args, Subcommand};
use handshake_core::GrantId;
use handshake_core::capability::{AXES, Axis, CapabilityId, Extent, Grant};
use handshake_runtime::imports::{Side, imports};
use serde::Serialize;

use super::Context;
use crate::access::{Need, with_parameters};
use crate::api::grants::{GrantList, RevokeRequest};
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
    /// Lists what people have granted and what still holds
    Grants(GrantsArgs),
    /// Takes a grant back: from the answer on no call is let through that only it
    /// allowed
    Revoke(RevokeArgs),
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

/// Arguments of `handshake capabilities grants`.
#[derive(Debug, Args)]
pub(crate) struct GrantsArgs {
    /// Those that have expired or were taken back as well
    #[arg(long)]
    all: bool,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue behind this grant
    #[arg(long, value_name = "ID")]
    after: Option<GrantId>,
}

/// Arguments of `handshake capabilities revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The grant
    grant: GrantId,
    /// Why
    #[arg(long)]
    reason: Option<String>,
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

/// Does what was asked. What there is needs no data directory.
pub(crate) async fn capabilities(context: &Context<'_>, command: &CapabilitiesCommand) -> Result<Exit, CliError> {
    match command {
        CapabilitiesCommand::List(ListArgs { wit: true }) => show_imports(context.output)?,
        CapabilitiesCommand::List(_) => list(context)?,
        CapabilitiesCommand::Explain(args) => explain(context, &args.id)?,
        CapabilitiesCommand::Grants(args) => grants(context, args).await?,
        CapabilitiesCommand::Revoke(args) => revoke(context, args).await?,
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
        scope: axis.scope_form().shown(),
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

async fn grants(context: &Context<'_>, args: &GrantsArgs) -> Result<(), CliError> {
    let output = context.output;
    let path = with_parameters(
        "/api/v1/grants",
        [
            ("all", Some(args.all.to_string())),
            ("limit", Some(args.limit.to_string())),
            ("after", args.after.map(|id| id.to_string())),
        ],
    );
    let access = context.access(Need::Answers).await?;
    let answer = access.get::<GrantList>(&path).await;
    let list = access.finish(output, answer).await?;
    if output.is_json() {
        return output.json(&list);
    }
    if list.grants.is_empty() {
        output.note("no grants");
        return Ok(());
    }
    let rows = list.grants.iter().map(|grant| {
        let ends = match (grant.revoked_at, grant.expires_at) {
            (Some(at), _) => format!("taken back {at} by {}", grant.revoked_by.as_deref().unwrap_or("somebody")),
            (None, Some(at)) => format!("until {at}"),
            (None, None) => String::new(),
        };
        let reach = match grant.terms.extent {
            Extent::Once => format!("once, job {}", grant.terms.job_id),
            Extent::Job => format!("job {}", grant.terms.job_id),
            Extent::For(_) => format!("jobs in {}", grant.terms.workspace),
            Extent::UntilRevoked => "every job".to_owned(),
        };
        vec![
            grant.grant_id.to_string(),
            grant.plugin.to_string(),
            grant.capability.to_string(),
            reach,
            ends,
            grant.terms.granted_by.clone(),
        ]
    });
    output.table(&["GRANT", "PLUGIN", "CAPABILITY", "FOR", "ENDS", "BY"], rows.collect())?;
    if let Some(next) = list.next {
        output.note(&format!("more: handshake capabilities grants --after {next}"));
    }
    Ok(())
}

async fn revoke(context: &Context<'_>, args: &RevokeArgs) -> Result<(), CliError> {
    let output = context.output;
    let access = context.access(Need::Answers).await?;
    let request = RevokeRequest { reason: args.reason.clone() };
    let answer = access.post::<Grant>(&format!("/api/v1/grants/{}/revoke", args.grant), &request).await;
    let grant = access.finish(output, answer).await?;
    if output.is_json() {
        return output.json(&grant);
    }
    output.line(&format!("taken back: `{}` of plugin `{}`", grant.capability, grant.plugin))
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
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
