//! The WASI context of one attempt: nothing inherited from the host, time and randomness given by it.

use std::sync::Arc;
use std::time::Duration;

use handshake_core::{Clock, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use super::sockets::Approvals;
use super::stdio::Written;

/// The most random bytes that one call gives.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// What a context is made from.
pub(crate) struct ContextParts<'a> {
    pub(crate) stdin: String,
    pub(crate) stdout: &'a Written,
    pub(crate) stderr: &'a Written,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) started_at: Timestamp,
    pub(crate) random_seed: [u8; 32],
    pub(crate) approvals: Approvals,
}

pub(crate) fn context(parts: ContextParts<'_>) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    let mut insecure_seed = parts.random_seed;
    insecure_seed.reverse();
    let time =
        AttemptTime { clock: Arc::clone(parts.clock), zero: parts.clock.monotonic(), started_at: parts.started_at };
    builder
        .stdin(MemoryInputPipe::new(parts.stdin))
        .stdout(parts.stdout.clone())
        .stderr(parts.stderr.clone())
        .secure_random(ChaCha20Rng::from_seed(parts.random_seed))
        .insecure_random(ChaCha20Rng::from_seed(insecure_seed))
        .insecure_random_seed(u128::from_le_bytes(insecure_seed.first_chunk().copied().unwrap_or_default()))
        .max_random_size(MAX_RANDOM_BYTES)
        .wall_clock(time.clone())
        .monotonic_clock(time)
        // Sockets can be made; each use of an address was decided before this asks.
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(false);
    let approvals = parts.approvals.clone();
    builder.socket_addr_check(move |address, use_| Box::pin(std::future::ready(approvals.permit(address, use_))));
    builder.build()
}

/// The guest's clocks: the wall clock starts at the recorded start of the attempt and advances with the host's
/// monotonic clock, so that the record knows every time the guest can have seen.
#[derive(Clone)]
struct AttemptTime {
    clock: Arc<dyn Clock>,
    zero: Duration,
    started_at: Timestamp,
}

impl AttemptTime {
    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.zero)
    }
}

impl HostWallClock for AttemptTime {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }
    fn now(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.started_at.micros()).unwrap_or(0)) + self.elapsed()
    }
}

impl HostMonotonicClock for AttemptTime {
    fn resolution(&self) -> u64 {
        1
    }
    fn now(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
