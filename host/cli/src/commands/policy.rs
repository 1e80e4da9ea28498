//! `handshake policy`: puts a changed policy in force.

use clap::Subcommand;
use serde_json::json;

use super::Context;
use crate::access::Need;
use crate::error::{CliError, Exit};
use crate::policy_keeper::Reloaded;

/// `handshake policy …`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Reads policy.toml again and answers once it is in force: from then on no call
    /// is let through that only the policy before allowed
    Reload,
}

/// Does what was asked.
pub(crate) async fn policy(context: &Context<'_>, command: &PolicyCommand) -> Result<Exit, CliError> {
    let PolicyCommand::Reload = command;
    let output = context.output;
    let access = context.access(Need::Answers).await?;
    let answer = access.post::<Reloaded>("/api/v1/policy/reload", &json!({})).await;
    let reloaded = access.finish(output, answer).await?;
    if output.is_json() {
        output.json(&reloaded)?;
    } else {
        let word = if reloaded.changed { "in force" } else { "unchanged" };
        let (rules, mounts) = (reloaded.rules, reloaded.mounts);
        output.line(&format!("{word}: {rules} rules, {mounts} mounts, sha256 {}", reloaded.new_sha256))?;
    }
    Ok(Exit::Done)
}
