//! How fast an attempt may call the host while others run: every call is decided and recorded, so one that calls as fast
//! as it can would have the processors and the disk to itself.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Calls that nobody has to wait for.
const AT_ONCE: f64 = 4_000.0;
/// Calls a second beyond those.
const A_SECOND: f64 = 4_000.0;

/// Where one attempt stands. Calls that it did not make are saved up, as many as may be made at once.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Calls that may be made at once now; below nothing, it has made too many.
    left: f64,
    calls: u64,
    at: Duration,
}

impl Pace {
    /// An attempt that begins.
    pub(crate) fn new(now: Duration) -> Self {
        Self { left: AT_ONCE, calls: 0, at: now }
    }

    /// How long it has to wait, after so many calls in all. Alone it never waits, and nothing is held against it later.
    pub(crate) fn wait(&mut self, calls: u64, now: Duration, alone: bool) -> Option<Duration> {
        let saved = now.saturating_sub(self.at).as_secs_f64() * A_SECOND;
        let made = calls.saturating_sub(self.calls) as f64;
        (self.calls, self.at) = (calls, now);
        self.left = (self.left + saved).min(AT_ONCE) - made;
        if alone {
            self.left = self.left.max(0.0);
        }
        (self.left < 0.0).then(|| Duration::from_secs_f64(-self.left / A_SECOND))
    }
}

/// Whether an attempt is the only one that has a place.
pub(crate) fn is_alone(places: &Semaphore, all: usize) -> bool {
    places.available_permits() + 1 >= all
}

/// Time for which an attempt was made to wait. It does not count as the attempt's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paced(Arc<AtomicU64>);

impl Paced {
    /// Waits, on somebody else's account.
    pub(crate) fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.0.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        tokio::time::sleep(time)
    }

    /// Gives a call its time. None when that is over.
    pub(crate) async fn within<T>(&self, wall: Duration, call: impl Future<Output = T>) -> Option<T> {
        let (begun, mut call) = (Instant::now(), pin!(call));
        loop {
            let given = wall + Duration::from_micros(self.0.load(Ordering::Relaxed));
            match timeout_at(begun + given, &mut call).await {
                Ok(answer) => return Some(answer),
                Err(_) if wall + Duration::from_micros(self.0.load(Ordering::Relaxed)) > given => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_calls_slower_than_the_pace_never_waits() {
        let mut pace = Pace::new(Duration::ZERO);
        for second in 1..1_000 {
            assert_eq!(pace.wait(4_000 * second, SECOND * u32::try_from(second).unwrap(), false), None);
        }
    }

    #[test]
    fn who_calls_faster_waits_until_the_pace_has_caught_up_with_it() {
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(pace.wait(4_000, Duration::ZERO, false), None);
        let wait = pace.wait(6_000, Duration::ZERO, false).unwrap();
        assert_eq!(wait, SECOND / 2);
        assert_eq!(pace.wait(6_000, wait, false), None);
        // In the long run it is the pace, whatever it tries.
        let (mut now, mut calls) = (wait, 6_000);
        while now < 100 * SECOND {
            calls += 220;
            now += Duration::from_millis(10) + pace.wait(calls, now, false).unwrap_or_default();
        }
        assert!((4_000 * 98..4_000 * 104).contains(&calls), "{calls}");
    }

    #[test]
    fn nothing_that_was_done_alone_counts_later_and_nothing_is_saved_up_beyond_what_goes_at_once() {
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(pace.wait(1_000_000, SECOND, true), None);
        assert_eq!(pace.wait(1_000_000, SECOND, false), None);
        assert!(pace.wait(1_000_100, SECOND, false).is_some());
        assert_eq!(pace.wait(1_000_100, 3_600 * SECOND, false), None);
        assert_eq!(pace.wait(1_008_100, 3_600 * SECOND, false), Some(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_it_was_made_to_wait_is_given_to_it() {
        let paced = Paced::default();
        let slept = async {
            paced.sleep(3 * SECOND).await;
            tokio::time::sleep(SECOND / 2).await;
        };
        assert_eq!(paced.within(SECOND, slept).await, Some(()));
        assert_eq!(Paced::default().within(SECOND, tokio::time::sleep(2 * SECOND)).await, None);
    }
}
