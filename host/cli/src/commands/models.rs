//! `handshake models`: what is configured, and trying one out.

use clap::{Args, Subcommand};

use super::Context;
use crate::access::{Need, percent_encoded};
use crate::api::models::{ModelList, ModelTest};
use crate::error::{CliError, Exit};

/// `handshake models …`
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Lists the configured models
    List,
    /// Asks a model for real; the policy decides and the call is recorded
    Test(TestArgs),
}

/// Arguments of `handshake models test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The model's name in handshake.toml
    name: String,
}

/// Lists or tries.
pub(crate) async fn models(context: &Context<'_>, command: &ModelsCommand) -> Result<Exit, CliError> {
    let output = context.output;
    let access = context.access(Need::Answers).await?;
    match command {
        ModelsCommand::List => {
            let list = access.get::<ModelList>("/api/v1/models").await;
            let list = access.finish(output, list).await?;
            if output.is_json() {
                output.json(&list)?;
            } else {
                let rows = list.models.into_iter().map(|model| {
                    let key = if model.has_key { "yes" } else { "no" };
                    vec![
                        model.name,
                        model.provider,
                        model.model,
                        model.endpoint.unwrap_or_else(|| "this host".to_owned()),
                        key.to_owned(),
                    ]
                });
                output.table(&["NAME", "PROVIDER", "MODEL", "WHERE", "KEY"], rows.collect())?;
            }
        }
        ModelsCommand::Test(args) => {
            let tested =
                access.post::<ModelTest>(&format!("/api/v1/models/{}/test", percent_encoded(&args.name)), &()).await;
            let test = access.finish(output, tested).await?;
            if output.is_json() {
                output.json(&test)?;
            } else if output.quiet {
                output.lines(&test.response.text)?;
            } else {
                output.field("model", &format!("{} ({})", test.name, test.response.model))?;
                output.field("answer", &test.response.text.replace('\n', " "))?;
                output.field("finished by", &test.response.finish_reason)?;
                output.field("time", &format!("{} ms", test.latency_ms))?;
                output.field(
                    "tokens",
                    &format!("{} in, {} out", test.response.usage.prompt_tokens, test.response.usage.completion_tokens),
                )?;
            }
        }
    }
    Ok(Exit::Done)
}
