//! The wasmtime engine: pooling allocator, epochs, and the thread that advances them.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often running guests are interrupted so that deadlines and other guests get their turn.
const EPOCH: Duration = Duration::from_millis(10);
/// The most that a manifest can ask for, see `Limits::memory_mb`.
const MAX_MEMORY_BYTES: usize = 1 << 30;
/// Core instances and tables within one component: a Rust guest has about 4, one from Python about 30.
const CORE_INSTANCES_PER_COMPONENT: u32 = 40;

/// An engine and its epoch thread, which ends with it.
pub(crate) struct StepEngine {
    engine: Engine,
    stop: Option<Sender<()>>,
    ticker: Option<JoinHandle<()>>,
}

impl StepEngine {
    /// Builds an engine with room for `instances` attempts at the same time. Counting fuel makes every guest
    /// slower, so it is an engine of its own, for those that ask for it.
    pub(crate) fn new(instances: u32, count_fuel: bool) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
            .total_memories(instances.saturating_mul(2))
            .total_tables(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
            .total_stacks(instances)
            .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
            .max_tables_per_component(CORE_INSTANCES_PER_COMPONENT)
            .max_memories_per_component(2)
            .max_memory_size(MAX_MEMORY_BYTES)
            .table_elements(100_000);
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .epoch_interruption(true)
            .consume_fuel(count_fuel)
            // The same input must give the same output bytes on every machine.
            .cranelift_nan_canonicalization(true)
            .relaxed_simd_deterministic(true);
        let engine = Engine::new(&config)?;

        let (stop, stopped) = channel::<()>();
        let weak = engine.weak();
        let ticker = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while stopped.recv_timeout(EPOCH) == Err(RecvTimeoutError::Timeout) {
                match weak.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self { engine, stop: Some(stop), ticker: Some(ticker) })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for StepEngine {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(ticker) = self.ticker.take() {
            // It ends at once; a panic inside it would have nothing to tell here.
            let _ = ticker.join();
        }
    }
}
