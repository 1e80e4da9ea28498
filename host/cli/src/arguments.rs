//! The command line: global options and the list of commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    audit, backup, capabilities, completions, db, doctor, documents, init, jobs, models, plugin, policy, recorder, run,
    schema, serve, token, triggers, workflow,
};
use crate::output::{ColorChoice, Format};

/// Runs workflows of sandboxed WebAssembly steps. Each time a step asks for anything, one gate decides, and the
/// decision is on record before the effect happens.
#[derive(Debug, Parser)]
#[command(
    name = "handshake",
    version,
    max_term_width = 80,
    propagate_version = false,
    after_help = "Exit codes: 0 done, 1 job failed, 2 wrong usage or configuration, 3 denied by\n\
                  capability or policy, 4 waiting for a person, 5 verification failed,\n\
                  70 internal error."
)]
pub(crate) struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct GlobalOptions {
    /// Where jobs, audit log and keys are kept [default: .handshake]
    #[arg(long, global = true, env = "HANDSHAKE_DATA_DIR", value_name = "DIR", help_heading = "Global options")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The configuration [default: ./handshake.toml if it exists]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// The form of the output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORM",
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
    /// Nothing but the result
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// When to colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub(crate) color: ColorChoice,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes an annotated configuration and policy
    Init(init::InitArgs),
    /// Runs a workflow to its end
    Run(run::RunArgs),
    /// Executes what other commands submit, and goes on with jobs that can
    Serve(serve::ServeArgs),
    /// Looks at workflow files without running them
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Shows jobs, their runs and steps
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Takes Markdown in as documents, shows them, and gives it out again
    #[command(subcommand)]
    Documents(documents::DocumentsCommand),
    /// Runs workflows at certain times, while a process serves
    #[command(subcommand)]
    Triggers(triggers::TriggersCommand),
    /// Builds, checks and lists plugins
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Shows and tries out models
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Puts a changed policy in force
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Shows what steps can ask for
    #[command(subcommand)]
    Capabilities(capabilities::CapabilitiesCommand),
    /// Shows who asked for what and who said yes
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Looks after the databases
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Writes everything in the data directory to one file, while it is in use
    Backup(backup::BackupArgs),
    /// Makes a data directory from a backup
    Restore(backup::RestoreArgs),
    /// Looks after the flight recorder's files
    #[command(subcommand)]
    Recorder(recorder::RecorderCommand),
    /// Says who may come in over the network, and as what
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Checks the installation and says what to do
    Doctor(doctor::DoctorArgs),
    /// Prints the JSON Schema of a file format, or of events
    Schema(schema::SchemaArgs),
    /// Prints a completion script for a shell
    Completions(completions::CompletionsArgs),
}
