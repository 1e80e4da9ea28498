//! Wasmtime's own WASI, without a gate: what programs and steps do, and cost, without this host.

use wasmtime::Engine;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// What a component has behind it.
pub struct Ungated {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    requests: NoRequests,
}

/// Nothing that is run here sends one.
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

impl WasiHttpView for Ungated {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.requests }
    }
}

impl WasiView for Ungated {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Ungated {
    /// With this much of WASI.
    pub fn with(wasi: WasiCtx) -> Self {
        Self { table: ResourceTable::new(), wasi, http: WasiHttpCtx::new(), requests: NoRequests }
    }

    /// Links WASI, and HTTP: the engine for JavaScript imports that whether a program uses it or not.
    pub fn linker(engine: &Engine) -> Linker<Self> {
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
        linker
    }
}
