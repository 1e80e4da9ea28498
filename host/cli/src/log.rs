//! What the process says by itself: its log and its last words when it panics, both on standard error and both without
//! secrets.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};

use handshake_core::event::{RedactionScope, Redactor};
use handshake_recorder::Redaction;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Begins to log. HANDSHAKE_LOG says what; warnings by default.
pub(crate) fn start(redaction: &Redaction) {
    let filter = EnvFilter::try_from_env("HANDSHAKE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let stderr = CleanStderr { redaction: redaction.clone() };
    let log = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false);
    tracing_subscriber::registry().with(log.with_filter(filter.and(filter_fn(says_no_payload)))).init();
    let redaction = redaction.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let trace = Backtrace::capture();
        let trace = if trace.status() == BacktraceStatus::Captured { format!("{trace}\n") } else { String::new() };
        let thread = std::thread::current().name().unwrap_or("a thread").to_owned();
        let text = format!("{thread} panicked: {panic}\n{trace}");
        // Nobody is left to tell if standard error is gone.
        let _ = io::stderr().lock().write_all(redaction.clean(RedactionScope::Text, &text).as_bytes());
    }));
}

/// At the level `trace` the bindings of guests show every value that passes, bytes of files among them, as lists of
/// numbers: payload, in a form that no rule knows.
fn says_no_payload(metadata: &Metadata<'_>) -> bool {
    *metadata.level() < Level::TRACE || !metadata.target().contains("::bindings")
}

/// Standard error behind the redaction. An event of the log, with the fields of its spans, arrives in one piece, so a
/// secret in it does, too.
struct CleanStderr {
    redaction: Redaction,
}

impl<'a> MakeWriter<'a> for CleanStderr {
    type Writer = Piece<'a>;

    fn make_writer(&'a self) -> Piece<'a> {
        Piece { redaction: &self.redaction, text: Vec::new() }
    }
}

/// What is written for one event. It goes out when the event is over, however many writes it took.
struct Piece<'a> {
    redaction: &'a Redaction,
    text: Vec<u8>,
}

impl Write for Piece<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            let text = String::from_utf8_lossy(&self.text);
            let _ = io::stderr().lock().write_all(self.redaction.clean(RedactionScope::Text, &text).as_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the process that is to panic.
    const PANICS: &str = "HANDSHAKE_TEST_PANICS";

    #[test]
    fn last_words_and_log_lines_hold_no_secret() {
        let (issued, known) = ("correct horse battery", "ghp_Ab0Cd1Ef2Gh3Ij4Kl5Mn6Op7Qr8St9Uv0Wx1");
        if std::env::var_os(PANICS).is_some() {
            start(&Redaction::new(vec![issued.to_owned()]));
            tracing::warn!(issued, "{known}");
            panic!("cannot use {known} with {issued}");
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["log::tests::last_words_and_log_lines_hold_no_secret", "--exact", "--nocapture"]);
        let ended = again.env(PANICS, "1").env("RUST_BACKTRACE", "1").output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && said.contains("panicked: "), "{said}");
        assert!(said.contains("[REDACTED:token:secret_exact]"), "{said}");
        assert_eq!(said.matches("[REDACTED:api_key:secret_api_key]").count(), 2, "{said}");
        assert!(!said.contains(issued) && !said.contains(known), "{said}");
    }
}
