//! `handshake token`: who may come in over the network.

use clap::{Args, Subcommand};
use handshake_core::TokenId;
use handshake_core::event::ActorKind;
use handshake_core::token::{ApiToken, Role};
use handshake_core::workflow::Period;

use super::Context;
use crate::access::{Need, percent_encoded, with_parameters};
use crate::api::tokens::{MadeToken, NewToken, TokenList, ends};
use crate::error::{CliError, Exit};
use crate::output::Output;

/// `handshake token …`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token and shows it this once
    New(NewArgs),
    /// Lists tokens; never their secrets
    List(ListArgs),
    /// Revokes a token: from the answer on it lets nobody in
    Revoke(RevokeArgs),
}

/// Arguments of `handshake token new`.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// What it is for: operator runs and controls jobs, reviewer reads the record,
    /// answers questions and signs off, submitter submits jobs and looks at them
    #[arg(long, value_parser = role)]
    role: Role,
    /// Whose it is; what is done with it is on record as `token:NAME`
    #[arg(long)]
    name: String,
    /// A program has it, not a person; what it does is on record as an agent's
    #[arg(long)]
    agent: bool,
    /// How long it holds: 12h, 90d, or never for as long as it is not revoked
    #[arg(long, value_name = "PERIOD", default_value = "90d")]
    expires: Life,
}

/// How long a token holds.
#[derive(Debug, Clone)]
struct Life(Option<Period>);

impl std::str::FromStr for Life {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        text.parse().map(|period| Self(Some(period))).map_err(|error| format!("{error}; or write never"))
    }
}

fn role(text: &str) -> Result<Role, String> {
    match text.parse() {
        Ok(Role::Owner) | Err(_) => Err("roles are operator, reviewer and submitter".to_owned()),
        Ok(role) => Ok(role),
    }
}

/// Arguments of `handshake token list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue behind this token
    #[arg(long, value_name = "ID")]
    after: Option<TokenId>,
}

/// Arguments of `handshake token revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The token: its name or id
    token: String,
}

/// Does what was asked.
pub(crate) async fn token(context: &Context<'_>, command: &TokenCommand) -> Result<Exit, CliError> {
    let output = context.output;
    let access = context.access(Need::Answers).await?;
    match command {
        TokenCommand::New(args) => {
            let kind = if args.agent { ActorKind::Agent } else { ActorKind::Human };
            let request = NewToken { name: args.name.clone(), role: args.role, kind, expires_in: args.expires.0 };
            let made = access.post::<MadeToken>("/api/v1/tokens", &request).await;
            show_made(output, &access.finish(output, made).await?)?;
        }
        TokenCommand::List(args) => {
            let (limit, after) = (Some(args.limit.to_string()), args.after.map(|id| id.to_string()));
            let path = with_parameters("/api/v1/tokens", [("limit", limit), ("after", after)]);
            let list = access.get::<TokenList>(&path).await;
            show_list(output, &access.finish(output, list).await?)?;
        }
        TokenCommand::Revoke(args) => {
            let path = format!("/api/v1/tokens/{}/revoke", percent_encoded(&args.token));
            let revoked = access.post::<ApiToken>(&path, &()).await;
            let revoked = access.finish(output, revoked).await?;
            if output.is_json() {
                output.json(&revoked)?;
            } else {
                output.line(&format!("revoked: `{}`, role {}", revoked.name, revoked.role))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show_made(output: &Output, made: &MadeToken) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(made);
    }
    // Alone on standard output, so that it can be piped to where it is kept.
    output.note(&format!(
        "token `{}`, role {}, {}; it is shown this once:",
        made.token.name,
        made.token.role,
        ends(&made.token)
    ));
    output.line(&made.bearer)
}

fn show_list(output: &Output, list: &TokenList) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(list);
    }
    if list.tokens.is_empty() {
        output.note("there are no tokens; handshake token new makes one");
        return Ok(());
    }
    let rows = list.tokens.iter().map(|token| {
        vec![
            token.name.clone(),
            token.role.to_string(),
            token.kind.to_string(),
            ends(token),
            token.created_by.clone(),
            token.token_id.to_string(),
        ]
    });
    output.table(&["NAME", "ROLE", "HAS IT", "ENDS", "MADE BY", "TOKEN"], rows.collect())?;
    if let Some(next) = list.next {
        output.note(&format!("more: handshake token list --after {next}"));
    }
    Ok(())
}
