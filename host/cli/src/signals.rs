//! Signals that ask the process to end: the first is for the work to notice, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, Exit};

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    seen: bool,
}

impl Signals {
    /// From now on the process no longer ends by itself on these signals.
    pub(crate) fn new() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|error| CliError::internal("cannot listen for signals").because(&error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            seen: false,
        })
    }

    /// Returns at the first signal; the second ends the process. What was durable stays, and the next start
    /// finds the run interrupted.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        if self.seen {
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        self.seen = true;
    }
}
