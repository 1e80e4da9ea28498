//! The `handshake` command: arguments, settings, the local API, and the composition of everything else.

mod access;
mod api;
mod arguments;
mod backup;
mod budget;
mod bundle;
mod client;
mod commands;
mod copies;
mod database;
mod directory;
mod documents;
mod environment;
mod error;
mod executions;
mod fault;
mod guest_build;
mod hashed;
mod host;
mod keyring;
mod log;
mod network;
mod notify;
mod output;
mod page;
mod pages;
mod plugins;
mod policy;
mod policy_keeper;
mod progress;
mod recorder;
mod retention;
mod review;
mod secrets;
mod settings;
mod signals;
mod system;
mod telemetry;
mod templates;
mod toml_file;
mod triggers;
mod unfinished;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use handshake_core::event::{RedactionScope, Redactor};
use handshake_recorder::Redaction;

use crate::arguments::Cli;
use crate::commands::{Context, dispatch};
use crate::error::{CliError, Exit};
use crate::output::{ColorChoice, Format, Output};

/// glibc keeps free memory apart for each of the many threads and gives little of it back: 20 to 40 MB in a run over
/// 10,000 documents, measured. jemalloc returns it, and takes less processor time.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The version of the program and of its local API.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    // Before anything can be said. Known forms are recognised from now on; the host's own secrets once it has read them.
    let redaction = Redaction::start();
    log::start(&redaction);
    let output = Output::new(cli.global.output, cli.global.quiet, cli.global.color, redaction);
    let exit = match execute(&cli, &output) {
        Ok(exit) => exit,
        Err(error) => {
            output.error(&error);
            error.exit
        }
    };
    ExitCode::from(exit.code())
}

fn execute(cli: &Cli, output: &Output) -> Result<Exit, CliError> {
    // Guests run on these threads and yield at each epoch; more than four would only compete for the cores that
    // compilation and the databases need.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| CliError::internal("cannot start the runtime").because(&error))?;
    let result = runtime.block_on(dispatch(&Context { global: &cli.global, output }, &cli.command));
    // Everything durable was closed by the command; what may linger is a plugin that will not yield.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    result
}

/// Help and version are results; everything else is wrong usage, in JSON if that was asked for.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is the reader's business.
        let _ = error.print();
        return ExitCode::from(Exit::Done.code());
    }
    let mut arguments = std::env::args().skip(1).peekable();
    let mut json = false;
    while let Some(argument) = arguments.next() {
        json |= argument == "--output=json"
            || argument == "--output" && arguments.peek().is_some_and(|next| next == "json");
    }
    if json {
        let text = error.render().to_string();
        let what = text.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
        let message = what.split_whitespace().collect::<Vec<_>>().join(" ");
        let output = Output::new(Format::Json, false, ColorChoice::Never, Redaction::start());
        output.error(&CliError::usage(message).hint("handshake --help"));
    } else if let Some((clean, _)) = Redaction::start().redact(RedactionScope::Text, &error.render().to_string()) {
        // Standard error may go into somebody's log file.
        let _ = std::io::stderr().lock().write_all(clean.as_bytes());
    } else {
        let _ = error.print();
    }
    ExitCode::from(Exit::Usage.code())
}
