//! The process's one clock and one source of ids and randomness.

use std::time::{Duration, Instant};

use handshake_core::{Clock, Ids, Timestamp};
use uuid::Uuid;

/// The system's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts measuring.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the port's implementation, the one place that may ask the system"
    )]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the port's implementation, the one place that may ask the system"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(chrono::Utc::now().timestamp_micros())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Version 7 UUIDs, which grow within the process, and the kernel's randomness.
#[derive(Debug)]
pub(crate) struct SystemIds;

impl Ids for SystemIds {
    #[allow(clippy::disallowed_methods, reason = "this is the port's implementation, the one place that may draw ids")]
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "this is the port's implementation, the one place that may draw bytes"
    )]
    fn random(&self, buffer: &mut [u8]) {
        if getrandom::fill(buffer).is_err() {
            // Going on with predictable bytes would break keys and placeholders without anybody noticing; the
            // kernel fails here only when it offers no random device at all.
            tracing::error!("the operating system has no randomness to give");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_random_bytes_differ() {
        let (one, two) = (SystemIds.uuid(), SystemIds.uuid());
        assert!(one < two);
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemIds.random(&mut a);
        SystemIds.random(&mut b);
        assert_ne!(a, b);
    }
}
