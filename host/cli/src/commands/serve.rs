//! `handshake serve`: owns the data directory, executes what is submitted, goes on with what can, and serves the API and
//! its pages.

use clap::Args;
use sd_notify::NotifyState;
use serde::Serialize;

use super::Context;
use crate::access::{Access, Need};
use crate::error::{CliError, Exit};
use crate::network::health::Health;
use crate::network::{self, Address, Gateway};
use crate::notify;
use crate::signals::Signals;

/// Arguments of `handshake serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen besides the Unix socket: an address and a port, or off
    /// [default: serve.listen of handshake.toml, else 127.0.0.1:7420]
    #[arg(long, env = "HANDSHAKE_LISTEN", value_name = "ADDRESS")]
    listen: Option<Address>,
}

/// What is said once it serves.
#[derive(Debug, Serialize)]
struct Serving {
    pid: u32,
    data_dir: std::path::PathBuf,
    /// Where it listens; none for the Unix socket alone.
    url: Option<String>,
}

/// Serves until a signal comes.
pub(crate) async fn serve(context: &Context<'_>, args: &ServeArgs) -> Result<Exit, CliError> {
    let output = context.output;
    let mut settings = context.settings()?;
    if let Some(listen) = &args.listen {
        settings.network.listen = listen.clone();
    }
    // Before anything is owned, so that no signal finds it half open.
    let mut signals = Signals::new()?;
    network::raise_descriptor_limit();
    // Before the databases are opened: somebody who asks for its health gets an answer at once.
    let gateway = Gateway::default();
    let listening = network::listen(&settings.network, gateway.clone()).await?;
    let opened = tokio::select! {
        opened = Access::open(&settings, Need::Jobs, output) => opened?,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    let host = match opened {
        Access::Owner(host) => host,
        Access::Remote(_) => {
            let health: Health = opened.get("/health").await?;
            let problem = format!("process {} has the data directory and takes jobs already", health.pid);
            return Err(
                CliError::busy(problem).hint("other commands reach it by themselves; end it first to serve here")
            );
        }
    };
    gateway.open(network::door::router(host.state(), &settings.network));
    let told = settings.notify.clone().map(|notify| tokio::spawn(notify::keep_telling(host.state(), notify)));
    let url = listening.as_ref().map(|listening| listening.url.clone());
    let serving = Serving { pid: std::process::id(), data_dir: settings.data_dir.clone(), url };
    if output.is_json() {
        output.json(&serving)?;
    } else {
        output.note(&format!(
            "process {} serves {}; other commands reach it by themselves, Ctrl-C ends it",
            serving.pid,
            serving.data_dir.display()
        ));
        if let Some(url) = &serving.url {
            output.note(&format!("it listens on {url}; `handshake token new` makes a token to come in with"));
        }
    }
    tell_manager(NotifyState::Ready);
    signals.next().await;
    tell_manager(NotifyState::Stopping);
    output.note("ending: steps that run end first, and everything else waits for the next process");
    let grace = settings.network.grace;
    tokio::select! {
        left = host.leave(grace) => left?,
        () = signals.next() => {}
    }
    if let Some(told) = told {
        told.abort();
    }
    if let Some(listening) = listening {
        listening.close().await;
    }
    Ok(Exit::Done)
}

/// Tells whoever started this process, if it wants to know (`Type=notify` of systemd).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "whoever started this process cannot be told how it is");
    }
}
