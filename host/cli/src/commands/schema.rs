//! `handshake schema`: the JSON Schema of each file format and of events, from the types that read them.

use clap::{Args, ValueEnum};
use handshake_core::event::events_schema;
use handshake_core::manifest::PluginManifest;
use handshake_core::workflow::Workflow;
use schemars::schema_for;

use super::Context;
use crate::api::openapi;
use crate::error::{CliError, Exit};
use crate::policy::PolicyFile;
use crate::settings::SettingsFile;

/// Arguments of `handshake schema`.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Of what
    of: Subject,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Subject {
    /// Workflow files
    Workflow,
    /// plugin.toml
    Plugin,
    /// handshake.toml
    Config,
    /// policy.toml
    Policy,
    /// Events of the flight recorder, all types in one
    Events,
    /// The HTTP API: OpenAPI 3.1
    Api,
}

/// Prints the schema; it is JSON in either form of output.
pub(crate) fn schema(context: &Context<'_>, args: &SchemaArgs) -> Result<Exit, CliError> {
    let schema = match args.of {
        Subject::Workflow => schema_for!(Workflow),
        Subject::Plugin => schema_for!(PluginManifest),
        Subject::Config => schema_for!(SettingsFile),
        Subject::Policy => schema_for!(PolicyFile),
        Subject::Events => events_schema(),
        Subject::Api => {
            context.output.json(&openapi::document())?;
            return Ok(Exit::Done);
        }
    };
    context.output.json(&schema)?;
    Ok(Exit::Done)
}
