//! Links every import that a step may have. Nothing of WASI is linked that is not listed here.

use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_http::p2::bindings::http;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest, Method, Scheme};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView};

use crate::bindings::Step;
use crate::state::StepState;
use crate::wasi::{GatedFilesystem, environment, sockets as gated_sockets};

struct Tables;

impl HasData for Tables {
    type Data<'a> = &'a mut ResourceTable;
}

pub(crate) fn link(linker: &mut Linker<StepState>) -> wasmtime::Result<()> {
    Step::add_to_linker::<_, HasSelf<StepState>>(linker, |state| state)?;
    gated(linker)?;
    ambient(linker)?;
    // In the place of some of these.
    gated_sockets::link(linker)
}

/// Interfaces that stand behind the gate.
fn gated(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<_, GatedFilesystem<'static>>(l, |state| GatedFilesystem(state))?;
    filesystem::types::add_to_linker::<_, GatedFilesystem<'static>>(l, |state| GatedFilesystem(state))?;
    environment::link(l)?;
    http::outgoing_handler::add_to_linker::<_, WasiHttp>(l, http_view)
}

/// Interfaces on the list of `ambient`.
fn ambient(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<_, Tables>(l, |state| state.ctx().table)?;
    io::poll::add_to_linker::<_, Tables>(l, |state| state.ctx().table)?;
    io::streams::add_to_linker::<_, Tables>(l, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, StepState::clocks)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, StepState::clocks)?;
    random::random::add_to_linker::<_, WasiRandom>(l, StepState::random)?;
    random::insecure::add_to_linker::<_, WasiRandom>(l, StepState::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(l, StepState::random)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(l, StepState::sockets)?;
    sockets::network::add_to_linker::<_, WasiSockets>(
        l,
        &sockets::network::LinkOptions::default(),
        StepState::sockets,
    )?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, StepState::sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, StepState::sockets)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(l, StepState::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(l, StepState::sockets)?;
    http::types::add_to_linker::<_, WasiHttp>(l, &http::types::LinkOptions::default(), http_view)?;
    bounded_requests(l)
}

/// A method or scheme that is longer than this is none.
const MAX_TOKEN_BYTES: usize = 64;

/// wasmtime keeps methods and schemes of any length with each request that a guest builds, outside of the guest's own
/// memory and its limit. Everything else that a request holds is bounded there.
fn bounded_requests(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    l.allow_shadowing(true);
    let mut types = l.instance("wasi:http/types@0.2.12")?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, StepState>, (request, method): (_, Method)| {
            if matches!(&method, Method::Other(name) if name.len() > MAX_TOKEN_BYTES) {
                return Ok((Err(()),));
            }
            Ok((http_view(store.data_mut()).set_method(request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: StoreContextMut<'_, StepState>, (request, scheme): (_, Option<Scheme>)| {
            if matches!(&scheme, Some(Scheme::Other(name)) if name.len() > MAX_TOKEN_BYTES) {
                return Ok((Err(()),));
            }
            Ok((http_view(store.data_mut()).set_scheme(request, scheme)?,))
        },
    )?;
    l.allow_shadowing(false);
    Ok(())
}

fn http_view(state: &mut StepState) -> WasiHttpCtxView<'_> {
    WasiHttpCtxView { hooks: &mut state.requests, table: &mut state.table, ctx: &mut state.http }
}
