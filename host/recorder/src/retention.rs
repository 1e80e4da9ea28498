//! When records are too old, and when it is sure enough that they are.
//!
//! Hiding and dropping go by different times. Queries hide by the later of the wall clock and the last record's time, so
//! that a clock that is set back reveals nothing. Files are dropped by the wall clock alone, and only when it has said
//! so twice with an hour in between: a clock that jumps years ahead and is corrected within the hour destroys nothing.
//! The hour is measured by a clock that cannot be set where one process sees it pass; a process that begins later
//! compares wall times, and does not take a difference of more than a week for an hour.

use std::path::PathBuf;
use std::time::Duration;

use handshake_core::chain::ChainHead;
use handshake_core::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::segments::Archive;

/// How long records must count as too old before they are dropped.
const CONFIRMED_AFTER: Duration = Duration::from_secs(3600);
/// A later process takes an earlier one's word for this long; what is longer ago says more about the clock.
const REMEMBERED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// What was too old at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sighting {
    /// Everything up to this record.
    to: u64,
    /// When that was first seen.
    at: Timestamp,
    /// The same by this process's monotonic clock; none if an earlier process has seen it.
    #[serde(skip)]
    monotonic: Option<Duration>,
}

/// Remembers, across processes, since when records are too old.
#[derive(Debug)]
pub(crate) struct Expiry {
    path: PathBuf,
    disk: Disk,
    sighting: Option<Sighting>,
}

impl Expiry {
    pub(crate) fn new(path: PathBuf, disk: Disk) -> Self {
        // Not to have seen it before only means to wait another hour.
        let sighting = std::fs::read(&path).ok().and_then(|content| serde_json::from_slice(&content).ok());
        Self { path, disk, sighting }
    }

    /// Up to which record may be dropped now. `too_old` is what the wall clock says.
    pub(crate) fn confirmed(&mut self, too_old: Option<u64>, clock: &dyn Clock) -> Option<u64> {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let fresh = too_old.map(|to| Sighting { to, at: now, monotonic: Some(monotonic) });
        let (Some(to), Some(seen)) = (too_old, self.sighting.clone()) else {
            self.remember(fresh);
            return None;
        };
        let passed = match seen.monotonic {
            Some(then) => monotonic.saturating_sub(then),
            None => now.since(seen.at),
        };
        // Fewer records are too old than were, or more time has passed than can have: one of both times was wrong.
        let gained = now.since(seen.at).saturating_sub(seen.monotonic.map_or(Duration::ZERO, |_| passed));
        if now < seen.at || to < seen.to || gained > REMEMBERED_FOR {
            self.remember(fresh);
            return None;
        }
        (passed >= CONFIRMED_AFTER).then_some(seen.to)
    }

    /// Notes that everything up to a record was dropped.
    pub(crate) fn dropped(&mut self, to: u64) {
        if self.sighting.as_ref().is_some_and(|seen| seen.to <= to) {
            self.remember(None);
        }
    }

    fn remember(&mut self, sighting: Option<Sighting>) {
        if self.sighting == sighting {
            return;
        }
        let stored = match &sighting {
            None => self.disk.remove(&self.path),
            Some(sighting) => serde_json::to_vec(sighting)
                .map_err(std::io::Error::from)
                .and_then(|content| self.disk.replace(&self.path, &content)),
        };
        if let Err(error) = stored {
            // A later process waits for an hour of its own.
            tracing::debug!(%error, "since when records are too old could not be noted");
        }
        self.sighting = sighting;
    }
}

/// Where the oldest segments end whose records are all too old by this clock.
pub(crate) fn too_old(archive: &Archive, now: Timestamp, retention: Duration) -> Option<ChainHead> {
    let limit = now.minus(retention);
    let contents = archive.contents();
    contents
        .manifests()
        .map(|manifest| &manifest.body)
        .take_while(|it| it.recorded_to < limit)
        .last()
        .map(|it| it.end())
}

/// The chain at the end of the segment that ends with this record.
pub(crate) fn end_of(archive: &Archive, to: u64) -> Option<ChainHead> {
    archive.contents().manifests().map(|manifest| &manifest.body).find(|it| it.to == to).map(|it| it.end())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;

    /// Wall clock in hours, and the other one, which goes its own way.
    #[derive(Default)]
    struct Clocks {
        wall: AtomicI64,
        monotonic: AtomicU64,
    }
    impl Clocks {
        fn pass(&self, minutes: i64) {
            self.step(minutes);
            self.monotonic.fetch_add(minutes.unsigned_abs(), Ordering::SeqCst);
        }
        fn step(&self, minutes: i64) {
            self.wall.fetch_add(minutes, Ordering::SeqCst);
        }
    }
    impl Clock for Clocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.wall.load(Ordering::SeqCst) * 60_000_000)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.monotonic.load(Ordering::SeqCst) * 60)
        }
    }

    const YEAR: i64 = 365 * 24 * 60;

    fn expiry(folder: &std::path::Path) -> Expiry {
        Expiry::new(folder.join("expiry.json"), Disk::default())
    }

    #[test]
    fn what_is_too_old_for_an_hour_may_go() {
        let (folder, clocks) = (tempfile::tempdir().unwrap(), Clocks::default());
        let mut expiry = expiry(folder.path());
        assert_eq!(expiry.confirmed(Some(5), &clocks), None);
        clocks.pass(59);
        assert_eq!(expiry.confirmed(Some(6), &clocks), None);
        clocks.pass(1);
        assert_eq!(expiry.confirmed(Some(7), &clocks), Some(5), "and nothing that came to it since");
        expiry.dropped(5);
        assert_eq!(expiry.confirmed(Some(7), &clocks), None);
        clocks.pass(60);
        assert_eq!(expiry.confirmed(Some(7), &clocks), Some(7));
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_is_corrected_destroys_nothing() {
        let (folder, clocks) = (tempfile::tempdir().unwrap(), Clocks::default());
        let mut expiry = expiry(folder.path());
        for _ in 0..5 {
            clocks.step(YEAR);
            assert_eq!(expiry.confirmed(Some(9), &clocks), None);
            clocks.pass(30);
            assert_eq!(expiry.confirmed(Some(9), &clocks), None);
            clocks.step(-YEAR);
            clocks.pass(31);
            assert_eq!(expiry.confirmed(None, &clocks), None);
        }
        // A jump while something is expiring in the ordinary way takes no more along, and counts as no hour.
        assert_eq!(expiry.confirmed(Some(1), &clocks), None);
        clocks.step(YEAR);
        clocks.pass(1);
        assert_eq!(expiry.confirmed(Some(9), &clocks), None);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_the_hour_begin_anew() {
        let (folder, clocks) = (tempfile::tempdir().unwrap(), Clocks::default());
        clocks.step(YEAR);
        let mut expiry = expiry(folder.path());
        assert_eq!(expiry.confirmed(Some(5), &clocks), None);
        clocks.pass(50);
        clocks.step(-55);
        assert_eq!(expiry.confirmed(Some(5), &clocks), None);
        clocks.pass(59);
        assert_eq!(expiry.confirmed(Some(5), &clocks), None);
        clocks.pass(1);
        assert_eq!(expiry.confirmed(Some(5), &clocks), Some(5));
    }

    #[test]
    fn a_later_process_remembers_unless_it_is_too_long_ago() {
        let (folder, clocks) = (tempfile::tempdir().unwrap(), Clocks::default());
        assert_eq!(expiry(folder.path()).confirmed(Some(5), &clocks), None);
        clocks.step(30);
        assert_eq!(expiry(folder.path()).confirmed(Some(5), &clocks), None);
        clocks.step(30);
        assert_eq!(expiry(folder.path()).confirmed(Some(6), &clocks), Some(5));
        clocks.step(YEAR);
        let mut later = expiry(folder.path());
        assert_eq!(later.confirmed(Some(6), &clocks), None, "that is no hour later but another clock");
        clocks.pass(60);
        assert_eq!(later.confirmed(Some(6), &clocks), Some(6));
        std::fs::write(folder.path().join("expiry.json"), "?").unwrap();
        assert_eq!(expiry(folder.path()).confirmed(Some(6), &clocks), None);
    }
}
