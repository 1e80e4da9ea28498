//! Which versions of the contract work: a step from the WIT alone, one of an earlier 0.1, and 0.2, which is refused.

use std::process::Command;

use handshake_tests::binary::Project;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::errors::replaced;
use super::{component, manifest, put, shown};

#[test]
fn a_step_from_the_wit_alone_is_built_by_plain_cargo_added_and_run() {
    let workspace = handshake_tests::root().join("plugins");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", "wasm32-wasip2", "-p", "bare", "--message-format=json"]);
    // Beside what `handshake plugin build` has made, so that little is left to do.
    if let Some(shared) = std::env::var_os("CARGO_TARGET_DIR") {
        cargo.env("CARGO_TARGET_DIR", std::path::Path::new(&shared).join("guests"));
    }
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").current_dir(workspace);
    let built = cargo.output().expect("cargo runs");
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let files = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let file = files
        .filter_map(|line| line["filenames"][0].as_str().map(str::to_owned))
        .find(|file| file.ends_with("bare.wasm"));
    let code = match file {
        Some(file) => std::fs::read(file).unwrap(),
        // Where rustup has no such target, plain cargo needs what `handshake plugin build` gives it.
        None => component("tests/guests", "bare"),
    };
    let project = Project::new();
    // As cargo leaves it: nobody has written a hash.
    let unhashed = manifest("bare", "0.1.0", &[]).replace("sha256 = \"{sha256}\"\n", "");
    let folder = put(&project, "bare", &unhashed, &code);
    project.run(&["plugin", "add", shown(&folder.join("bare.wasm")), "--yes"]).success();
    std::fs::remove_dir_all(&folder).unwrap();
    let ran = project.run(&["plugin", "run", "bare@0.1", "--input", "{\"a\":1}"]).success();
    assert_eq!(ran.json(), serde_json::json!({ "bytes": 7 }));
}

#[test]
fn a_later_0_1_works_as_long_as_it_uses_nothing_new_and_0_2_is_refused_with_the_range() {
    let project = Project::new();
    let bare = component("tests/guests", "bare");
    let of = |version: &[u8; 5]| {
        let log = replaced(&bare, b"handshake:step/log@0.1.0", &[b"handshake:step/log@", &version[..]].concat());
        let types = replaced(&log, b"handshake:step/types@0.1.0", &[b"handshake:step/types@", &version[..]].concat());
        replaced(&types, b"handshake:step/handler@0.1.0", &[b"handshake:step/handler@", &version[..]].concat())
    };
    put(&project, "bare", &manifest("bare", "0.1.0", &[]), &of(b"0.1.9"));
    project.run(&["plugin", "check", "own/bare"]).success();
    project.run(&["plugin", "run", "own/bare"]).success();

    put(&project, "bare", &manifest("bare", "0.1.0", &[]), &of(b"0.2.0"));
    for command in
        [&["plugin", "check", "own/bare"][..], &["plugin", "run", "own/bare"], &["plugin", "add", "own/bare", "--yes"]]
    {
        let refused = project.run(command);
        assert!(matches!(refused.code, 1 | 2), "{refused:?}");
        assert!(refused.stderr.contains("handshake:step 0.1 (>=0.1.0, <0.2.0)"), "{refused:?}");
    }
}

/// What a later host has: an interface more, and a function more in one that there was.
mod later {
    wasmtime::component::bindgen!({
        inline: r#"
            package handshake:step@0.1.1;
            interface types {
                enum layer { registry, manifest, grant, profile, access-mode, policy, budget, recorder }
                record denial { capability: string, %resource: string, reason: string, layer: layer, remedy: string }
                enum access-mode { analysis-only, preview-only, apply-scoped }
            }
            interface log {
                enum level { trace, debug, info, warn, error }
                write: func(level: level, message: string);
                write-all: func(level: level, messages: list<string>);
            }
            interface greeting { greet: func() -> string; }
            interface handler {
                use types.{access-mode, denial};
                record descriptor { name: string, version: string, input-schema: string, output-schema: string, capabilities: list<string> }
                record context { run: string, job: string, step: string, index: option<u32>, attempt: u32, trace: string, idempotency-key: string, access-mode: access-mode, deadline: u64 }
                variant step-error { invalid-input(string), denied(denial), transient(string), permanent(string) }
                record metric { name: string, value: f64 }
                record output { value: string, metrics: list<metric> }
                describe: func() -> descriptor;
                run: func(context: context, input: string) -> result<output, step-error>;
            }
            world step { import log; import greeting; export handler; }
        "#,
    });
}

#[derive(Default)]
struct LaterHost {
    heard: Vec<String>,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for LaterHost {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl later::handshake::step::log::Host for LaterHost {
    fn write(&mut self, _: later::handshake::step::log::Level, message: String) {
        self.heard.push(message);
    }
    fn write_all(&mut self, _: later::handshake::step::log::Level, messages: Vec<String>) {
        self.heard.extend(messages);
    }
}

#[test]
fn a_step_of_0_1_0_works_with_the_bindings_of_a_later_0_1() {
    let engine = Engine::default();
    let component = Component::new(&engine, component("tests/guests", "bare")).unwrap();
    let mut linker = Linker::<LaterHost>::new(&engine);
    later::handshake::step::log::add_to_linker::<_, HasSelf<LaterHost>>(&mut linker, |host| host).unwrap();
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
    let mut store = Store::new(&engine, LaterHost::default());
    let step = later::Step::instantiate(&mut store, &component, &linker).unwrap();
    let handler = step.handshake_step_handler();
    assert_eq!(handler.call_describe(&mut store).unwrap().name, "bare");
    let context = later::exports::handshake::step::handler::Context {
        run: String::new(),
        job: String::new(),
        step: String::new(),
        index: None,
        attempt: 3,
        trace: String::new(),
        idempotency_key: String::new(),
        access_mode: later::handshake::step::types::AccessMode::AnalysisOnly,
        deadline: 0,
    };
    let output = handler.call_run(&mut store, &context, "{}").unwrap().unwrap();
    assert_eq!(output.value, "{\"bytes\":2}");
    assert_eq!(store.data().heard, ["attempt 3"]);
}
