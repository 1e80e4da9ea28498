//! How often somebody may ask.

use std::hash::Hash;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Requests a second that one token may send, and at once after a pause. More than a host executes jobs.
const REQUESTS: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
/// Refusals a minute that are told one by one to one address, and put on record. More would let anybody fill the record.
const REFUSALS: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Keys after which those that have not been heard of are forgotten.
const MANY_KEYS: usize = 10_000;

/// A limit for each of many.
pub(super) struct Limit<K: Clone + Eq + Hash>(DefaultKeyedRateLimiter<K>);

impl<K: Clone + Eq + Hash> Limit<K> {
    /// Of requests.
    pub(super) fn of_requests() -> Self {
        Self(RateLimiter::keyed(Quota::per_second(REQUESTS)))
    }

    /// Of refusals.
    pub(super) fn of_refusals() -> Self {
        Self(RateLimiter::keyed(Quota::per_minute(REFUSALS)))
    }

    /// Whether once more is within it.
    pub(super) fn allows(&self, key: &K) -> bool {
        if self.0.len() > MANY_KEYS {
            self.0.retain_recent();
        }
        self.0.check_key(key).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_asks_too_often_does_not_use_up_anothers() {
        let limit = Limit::of_refusals();
        let allowed = (0..200).filter(|_| limit.allows(&"one")).count();
        assert!((60..70).contains(&allowed), "{allowed}");
        assert!(limit.allows(&"another"));
    }
}
