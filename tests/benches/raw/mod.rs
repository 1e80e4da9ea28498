//! Raw wasmtime, with stock WASI behind it: what running a step costs without a host.

use std::path::Path;
use std::time::{Duration, Instant};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/step-0.1.0",
        world: "step",
        exports: { default: async },
    });
}

use bindings::exports::handshake::step::handler::Context;
use bindings::handshake::step::types::AccessMode;

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    requests: NoRequests,
}

/// Nothing here sends one.
struct NoRequests;

type Sent = wasmtime_wasi_http::Result<(http::Response<WasiBody>, Io)>;
type Io = Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        panic!("a request was sent to {}", request.uri())
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.requests }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A component that is compiled and linked.
pub struct Raw {
    engine: Engine,
    prepared: bindings::StepPre<State>,
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
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        // The engine for JavaScript imports wasi:http whether a step uses it or not.
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
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
        let state = State {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            requests: NoRequests,
        };
        let mut store = Store::new(&self.engine, state);
        let step = self.prepared.instantiate_async(&mut store).await.unwrap();
        step.handshake_step_handler().call_run(&mut store, &context, input).await.unwrap().unwrap_err();
        drop(store);
        start.elapsed()
    }
}
