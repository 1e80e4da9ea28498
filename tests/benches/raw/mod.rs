//! Raw wasmtime, with stock WASI behind it: what running a step costs without a host.

use std::path::Path;
use std::time::{Duration, Instant};

use handshake_tests::ungated::Ungated;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::WasiCtx;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/step-0.1.0",
        world: "step",
        exports: { default: async },
    });
}

use bindings::exports::handshake::step::handler::Context;
use bindings::handshake::step::types::AccessMode;

/// A component that is compiled and linked.
pub struct Raw {
    engine: Engine,
    prepared: bindings::StepPre<Ungated>,
}

impl Raw {
    /// Compiles a component. What it imports of the host and never calls here is linked with errors.
    pub fn of(file: &Path) -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.max_memory_size(1 << 30);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_file(&engine, file).unwrap();
        let mut linker = Ungated::linker(&engine);
        for (name, import) in component.component_type().imports(&engine) {
            let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
            if !name.starts_with("handshake:step/") {
                continue;
            }
            let mut interface = linker.instance(name).unwrap();
            for (function, export) in instance.exports(&engine) {
                if let ComponentItem::ComponentFunc(_) = export.ty {
                    interface.func_new(function, |_, _, _, _| Err(wasmtime::Error::msg("not called"))).unwrap();
                }
            }
        }
        let prepared = bindings::StepPre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        Self { engine, prepared }
    }

    /// How long it takes to instantiate it and to call its `run` with an input that it refuses, so that nothing of its own
    /// work hides what is around it.
    pub async fn refusal(&self, input: &str) -> Duration {
        let context = Context {
            run: "r".into(),
            job: "j".into(),
            step: "s".into(),
            index: None,
            attempt: 1,
            trace: "t".into(),
            idempotency_key: "k".into(),
            access_mode: AccessMode::AnalysisOnly,
            deadline: 0,
        };
        let start = Instant::now();
        let mut store = Store::new(&self.engine, Ungated::with(WasiCtx::builder().build()));
        let step = self.prepared.instantiate_async(&mut store).await.unwrap();
        step.handshake_step_handler().call_run(&mut store, &context, input).await.unwrap().unwrap_err();
        drop(store);
        start.elapsed()
    }
}
