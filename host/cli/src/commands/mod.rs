//! The commands: one file each, its arguments and one function.

pub(crate) mod artifacts;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod capabilities;
pub(crate) mod completions;
pub(crate) mod db;
pub(crate) mod doctor;
pub(crate) mod documents;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod models;
pub(crate) mod plugin;
pub(crate) mod policy;
mod proposals;
pub(crate) mod recorder;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod triggers;
pub(crate) mod workflow;

use crate::access::{Access, Need};
use crate::arguments::{Command, GlobalOptions};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::settings::Settings;

/// What every command has at hand.
pub(crate) struct Context<'a> {
    /// The global options.
    pub(crate) global: &'a GlobalOptions,
    /// Where output goes.
    pub(crate) output: &'a Output,
}

impl Context<'_> {
    /// Reads the settings.
    pub(crate) fn settings(&self) -> Result<Settings, CliError> {
        let settings = Settings::load(self.global.config.as_deref(), self.global.data_dir.as_deref())?;
        // Before anything is done with them that could fail and say why.
        let mut secrets = settings.database.url.secrets().to_vec();
        secrets.extend(settings.telemetry.secret_values());
        self.output.redaction().learn(secrets);
        Ok(settings)
    }

    /// Opens the data directory, or reaches the process that owns it.
    pub(crate) async fn access(&self, need: Need) -> Result<Access, CliError> {
        Access::open(&self.settings()?, need, self.output).await
    }
}

/// Runs a command.
pub(crate) async fn dispatch(context: &Context<'_>, command: &Command) -> Result<Exit, CliError> {
    match command {
        Command::Init(args) => init::init(context, args),
        Command::Run(args) => run::run(context, args).await,
        Command::Serve(args) => serve::serve(context, args).await,
        Command::Workflow(command) => workflow::workflow(context, command).await,
        Command::Jobs(command) => jobs::jobs(context, command).await,
        Command::Documents(command) => documents::documents(context, command).await,
        Command::Triggers(command) => triggers::triggers(context, command).await,
        Command::Plugin(command) => plugin::plugin(context, command).await,
        Command::Models(command) => models::models(context, command).await,
        Command::Policy(command) => policy::policy(context, command).await,
        Command::Capabilities(command) => capabilities::capabilities(context, command).await,
        Command::Audit(command) => audit::audit(context, command).await,
        Command::Db(command) => db::db(context, command).await,
        Command::Backup(args) => backup::backup(context, args).await,
        Command::Restore(args) => backup::restore(context, args).await,
        Command::Recorder(command) => recorder::recorder(context, command).await,
        Command::Token(command) => token::token(context, command).await,
        Command::Doctor(args) => doctor::doctor(context, args).await,
        Command::Schema(args) => schema::schema(context, args),
        Command::Completions(args) => completions::completions(context, args),
    }
}
