//! Every call that a guest makes into the host is either decided, within that very call, or on the published list
//! of ambient calls. The bindings' own trace spans say which calls there were.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use handshake_core::capability::AXES;
use handshake_core::event::{AdmittedEvent, Event, EventBody};
use handshake_core::recorder::{EffectNote, FlightRecorder, OutcomeSlot, RecorderError};
use handshake_core::testing::MemoryRecorder;
use handshake_runtime::ambient::{AMBIENT, is_ambient, is_decided};
use handshake_runtime::imports::{Side, imports};
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::json;
use tracing::span::{Attributes, Id};
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// One call of the guest, as the bindings' span names it.
#[derive(Debug, Clone)]
struct Import {
    interface: String,
    function: String,
    /// Interface, function and capability of each.
    decisions: Vec<(String, String, String)>,
}

/// All calls so far, by span id.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<BTreeMap<u64, Import>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Calls {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "wit-bindgen import" {
            return;
        }
        struct Function(String);
        impl tracing::field::Visit for Function {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                if field.name() == "function" {
                    self.0 = value.to_owned();
                }
            }
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
        }
        let mut function = Function(String::new());
        attributes.record(&mut function);
        let interface = interface_of(attributes.metadata().target());
        let key = next_key();
        context.span(id).unwrap().extensions_mut().insert(Key(key));
        self.0.lock().unwrap().insert(key, Import { interface, function: function.0, decisions: Vec::new() });
    }
}

/// Span ids are used again after a span ends, so calls get numbers of their own.
struct Key(u64);

fn next_key() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// `…::wasi::filesystem::types` is `wasi:filesystem/types`.
fn interface_of(target: &str) -> String {
    let at = target
        .rfind("::wasi::")
        .or_else(|| target.rfind("::handshake::"))
        .unwrap_or_else(|| panic!("unknown target {target}"));
    let parts: Vec<_> = target[at + 2..].split("::").map(|part| part.replace('_', "-")).collect();
    format!("{}:{}/{}", parts[0], parts[1], parts[2])
}

/// Notes for each decision in which call it was made.
struct AttributingRecorder {
    calls: Calls,
    inner: Arc<MemoryRecorder>,
    stray: Mutex<Vec<String>>,
}

impl AttributingRecorder {
    fn note(&self, event: &Event) {
        let EventBody::CapabilityAction(record) = &event.body else { return };
        let decision = (record.interface.clone(), record.function.clone(), record.capability_id.clone());
        let key = Span::current().with_subscriber(|(id, dispatch)| {
            let registry = dispatch.downcast_ref::<tracing_subscriber::Registry>()?;
            let mut span = registry.span(id);
            while let Some(current) = span {
                if let Some(Key(key)) = current.extensions().get::<Key>() {
                    return Some(*key);
                }
                span = current.parent();
            }
            None
        });
        match key.flatten() {
            Some(key) => self.calls.0.lock().unwrap().get_mut(&key).unwrap().decisions.push(decision),
            None => self.stray.lock().unwrap().push(format!("{decision:?}")),
        }
    }
}

#[async_trait]
impl FlightRecorder for AttributingRecorder {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError> {
        self.inner.admit(event)
    }
    fn enqueue(&self, event: &Event) -> Result<(), RecorderError> {
        self.note(event);
        self.inner.enqueue(event)
    }
    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError> {
        self.inner.reserve()
    }
    async fn record_event(&self, event: &Event) -> Result<(), RecorderError> {
        self.note(event);
        self.inner.record_event(event).await
    }
    async fn record_effect(&self, note: EffectNote, event: &Event) -> Result<(), RecorderError> {
        self.note(event);
        self.inner.record_effect(note, event).await
    }
    async fn flush(&self) -> Result<(), RecorderError> {
        self.inner.flush().await
    }
}

/// Something that answers connections and requests.
fn serve() -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap_or(0);
            let answer: &[u8] = if buffer[..read].starts_with(b"POST ") {
                b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntext"
            } else {
                b"text"
            };
            let _ = stream.write_all(answer);
            // Closing before all was read would reset the connection.
            let _ = stream.read(&mut buffer);
        }
    });
    port
}

#[tokio::test]
async fn every_call_is_decided_or_on_the_published_list() {
    let calls = Calls::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(calls.clone()));
    let inner = Arc::new(MemoryRecorder::default());
    let recorder =
        Arc::new(AttributingRecorder { calls: calls.clone(), inner: Arc::clone(&inner), stray: Mutex::default() });
    let root = handshake_tests::root();
    let runtime = TestRuntime::with_recorder(vec![root.join("tests/guests")], Arc::clone(&recorder) as _, inner);
    for mount in ["in", "out"] {
        std::fs::write(runtime.path(mount).join("file.txt"), "text").unwrap();
    }
    // Once with everything granted, so that calls go through, and once with nothing, so that they do not.
    let port = serve();
    runtime.names.set("localhost", &[&["127.0.0.1"]]);
    let everything = [
        "fs.read",
        "fs.write",
        "net.http",
        "net.tcp",
        "net.udp",
        "net.dns",
        "env.read",
        "secrets.use",
        "model.infer",
        "model.embed",
        "doc.read",
        "doc.propose",
        "artifact.read",
        "artifact.write",
        "config.read",
    ];
    let policy: Vec<_> = AXES.iter().map(|axis| (axis.name(), &["127.0.0.0/8"][..])).collect();
    let rights = Rights::granting(&everything).under(&policy);
    let granted = runtime.run("census", json!({ "port": port }), &rights).await.unwrap();
    runtime.run("census", json!({ "port": port }), &Rights::granting(&[])).await.unwrap();

    let calls = calls.0.lock().unwrap();
    assert_eq!(*recorder.stray.lock().unwrap(), Vec::<String>::new(), "decisions outside of any call");
    let mut problems = BTreeSet::new();
    let mut decided = BTreeSet::new();
    for call in calls.values() {
        let name = format!("{}#{}", call.interface, call.function);
        let (ambient, may_decide) =
            (is_ambient(&call.interface, &call.function), is_decided(&call.interface, &call.function));
        match (call.decisions.is_empty(), ambient, may_decide) {
            (true, true, _) => {}
            (true, false, _) => drop(problems.insert(format!("{name} is neither decided nor on the list"))),
            (false, _, true) => drop(decided.insert(name.clone())),
            (false, _, false) => drop(problems.insert(format!("{name} is on the list, but makes decisions"))),
        }
        for (interface, function, capability) in &call.decisions {
            let unversioned = interface.split('@').next().unwrap();
            if (unversioned, function) != (call.interface.as_str(), &call.function) {
                problems.insert(format!("{name} was recorded as {interface}#{function}"));
            }
            let published = imports()
                .filter(|import| (import.interface, import.function) == (&call.interface, &call.function))
                .flat_map(|import| import.sides().collect::<Vec<_>>());
            let names: Vec<_> = published
                .filter_map(|side| match side {
                    Side::Decided(axes) => Some(axes.iter().map(|axis| axis.name())),
                    Side::Ambient(_) => None,
                })
                .flatten()
                .collect();
            if !names.contains(&capability.as_str()) {
                problems.insert(format!("{name} asked for {capability}; the table of imports says {names:?}"));
            }
        }
    }
    assert_eq!(problems, BTreeSet::new());
    // The other way around: each decision belongs to exactly one call, and none is missing from the record.
    let attributed: usize = calls.values().map(|call| call.decisions.len()).sum();
    assert_eq!(attributed, runtime.decisions().len());
    // The guest really called what there is, or the comparison would prove little.
    assert!(decided.len() >= 25, "only {} functions were decided: {decided:#?}", decided.len());
    assert!(granted.output["called"].as_array().unwrap().len() >= 100);
    let seen: BTreeSet<_> = calls.values().map(|call| call.interface.clone()).collect();
    let unseen: Vec<_> =
        AMBIENT.iter().map(|entry| entry.interface).filter(|interface| !seen.contains(*interface)).collect();
    // Without a stream error there is no method of one to call, there is never a terminal, and ending the process would
    // end the census.
    let unreachable = [
        "wasi:io/error",
        "wasi:cli/exit",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:sockets/network",
    ];
    assert_eq!(unseen, unreachable);
}
