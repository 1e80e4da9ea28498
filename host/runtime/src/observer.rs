//! What a guest says to whoever watches: log lines, standard output and error, progress. Ambient and bounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handshake_core::step::{LogLevel, StepObserver};
use handshake_core::{Clock, terminal};

/// Lines of an attempt; what comes after is counted.
const MAX_LINES: u64 = 1_000;
/// Bytes of one line; the rest is cut.
const MAX_LINE_BYTES: usize = 4 << 10;
/// Bytes of all lines together.
const MAX_BYTES: u64 = 256 << 10;
/// The shortest time between two progress reports that are passed on; a watcher cannot see more.
const PROGRESS_PAUSE: Duration = Duration::from_millis(50);

/// Passes on what a guest says, within its bounds.
#[derive(Clone)]
pub(crate) struct Voice {
    shared: Arc<Shared>,
}

struct Shared {
    observer: Arc<dyn StepObserver>,
    clock: Arc<dyn Clock>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    lines: u64,
    bytes: u64,
    dropped: u64,
    last_progress: Option<Duration>,
}

impl Voice {
    pub(crate) fn new(observer: Arc<dyn StepObserver>, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { observer, clock, counts: Mutex::default() }) }
    }

    pub(crate) fn log(&self, level: LogLevel, line: &str) {
        let line = terminal::escape(cut(line, MAX_LINE_BYTES), false);
        {
            let mut counts = self.counts();
            let size = line.len() as u64;
            if counts.lines >= MAX_LINES || counts.bytes + size > MAX_BYTES {
                counts.dropped += 1;
                return;
            }
            counts.lines += 1;
            counts.bytes += size;
        }
        self.shared.observer.log(level, &line);
    }

    pub(crate) fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        let now = self.shared.clock.monotonic();
        {
            let mut counts = self.counts();
            let too_soon = counts.last_progress.is_some_and(|last| now.saturating_sub(last) < PROGRESS_PAUSE);
            // The last report is always worth showing, but only once the pause is over does it count as such.
            if too_soon && total != Some(done) {
                return;
            }
            if too_soon && counts.lines >= MAX_LINES {
                return;
            }
            counts.lines += u64::from(too_soon);
            counts.last_progress = Some(now);
        }
        self.shared.observer.progress(done, total, &terminal::escape(cut(message, 200), false));
    }

    /// Says how many lines were dropped, if any were.
    pub(crate) fn finish(&self) {
        let dropped = std::mem::take(&mut self.counts().dropped);
        if dropped > 0 {
            let line = format!(
                "{dropped} log lines dropped: an attempt may write {MAX_LINES} lines and {} KiB",
                MAX_BYTES >> 10
            );
            self.shared.observer.log(LogLevel::Warn, &line);
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a text, at most `bytes` long and not ending within a character.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}
