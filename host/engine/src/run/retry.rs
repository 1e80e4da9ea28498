//! How long to wait before a step is tried again. Without jitter: the same workflow waits the same.

use std::time::Duration;

use backon::{BackoffBuilder, ConstantBuilder, ExponentialBuilder};
use handshake_core::workflow::{Backoff, Retry};

/// The wait after so many failed attempts; none when there are no attempts left.
pub(super) fn wait_after(retry: Option<&Retry>, failed: u32) -> Option<Duration> {
    let retry = retry?;
    let times = usize::try_from(retry.attempts).ok()?.saturating_sub(1);
    let at = usize::try_from(failed).ok()?.checked_sub(1)?;
    match retry.backoff {
        Backoff::Constant => ConstantBuilder::new().with_delay(retry.initial.0).with_max_times(times).build().nth(at),
        Backoff::Exponential => ExponentialBuilder::new()
            .with_min_delay(retry.initial.0)
            .with_max_delay(retry.max.0)
            .with_max_times(times)
            .build()
            .nth(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handshake_core::workflow::Period;

    fn waits(backoff: Backoff) -> Vec<Option<u64>> {
        let retry = Retry {
            attempts: 5,
            backoff,
            initial: Period(Duration::from_secs(1)),
            max: Period(Duration::from_secs(5)),
        };
        (1..=5).map(|failed| wait_after(Some(&retry), failed).map(|wait| wait.as_secs())).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_attempts() {
        assert_eq!(waits(Backoff::Exponential), [Some(1), Some(2), Some(4), Some(5), None]);
        assert_eq!(waits(Backoff::Constant), [Some(1), Some(1), Some(1), Some(1), None]);
        assert_eq!(wait_after(None, 1), None);
    }
}
