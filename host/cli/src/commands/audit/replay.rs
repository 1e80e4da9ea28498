//! `handshake audit replay`: everything on record, decided again under another policy.

use std::path::PathBuf;

use clap::Args;
use handshake_core::Timestamp;
use handshake_core::capability::Fate;

use super::filters;
use crate::access::Need;
use crate::commands::Context;
use crate::error::CliError;
use crate::output::{ALERT, Output};
use crate::policy;
use crate::review::replay::{FlipLine, ReplayRequest, Replayed};
use crate::toml_file::TomlFile;

/// Arguments of `handshake audit replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The other policy, of the form of policy.toml
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Only what was recorded at this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_parser = filters::time, value_name = "TIME")]
    since: Option<Timestamp>,
}

/// Replays.
pub(super) async fn replay(context: &Context<'_>, args: &ReplayArgs) -> Result<(), CliError> {
    // What is wrong with the file is told before the data directory is opened.
    let file = TomlFile::read(&args.policy)?;
    policy::rules_of(&file)?;
    let access = context.access(Need::Answers).await?;
    let request = ReplayRequest { name: file.name, text: file.text, since: args.since };
    let replayed = access.post::<Replayed>("/api/v1/audit/replay", &request).await;
    let replayed = access.finish(context.output, replayed).await?;
    show(context.output, &replayed)
}

fn show(output: &Output, replayed: &Replayed) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(replayed);
    }
    output.field("decided", &format!("{} calls again", replayed.decided))?;
    output.field("unaffected", &format!("{} calls, refused by other layers", replayed.unaffected))?;
    if replayed.undecided > 0 {
        output.field("undecided", &format!("{} calls, of which the record shows a part", replayed.undecided))?;
    }
    output.field("flipped", &format!("{} calls", replayed.flipped))?;
    if replayed.flips.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let header = ["PLUGIN", "CAPABILITY", "FROM", "TO", "CALLS", "RULE", "FOR EXAMPLE"];
    output.table(&header, replayed.flips.iter().map(row).collect())?;
    let examples = replayed.flips.iter().filter_map(|flip| flip.examples.first()?.event);
    examples.take(1).try_for_each(|event| {
        output.line("")?;
        output.line(&format!("why it was decided as it was: handshake audit explain {event}"))
    })
}

fn row(flip: &FlipLine) -> Vec<String> {
    let fate = |fate: Fate| match fate {
        Fate::Deny => format!("{ALERT} deny"),
        Fate::Ask => "ask".to_owned(),
        Fate::WouldDeny => "would deny".to_owned(),
        Fate::Allow => "allow".to_owned(),
    };
    let rule = match &flip.rule {
        Some(rule) => format!("{}:{}", rule.file, rule.line),
        None => "no rule".to_owned(),
    };
    let examples: Vec<_> = flip.examples.iter().map(|example| example.resource.as_str()).collect();
    vec![
        flip.plugin.clone(),
        flip.capability.clone(),
        fate(flip.was),
        fate(flip.becomes),
        flip.count.to_string(),
        rule,
        examples.join(", "),
    ]
}
