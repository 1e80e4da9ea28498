//! Executes attempts: prepared components, a fresh store for each, and the limits around the call.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::artifact::ArtifactStore;
use handshake_core::budget::BudgetMeter;
use handshake_core::capability::{CapabilityId, CapabilitySet, EffectiveRights, Mode, Policy, PolicyInForce, Profile};
use handshake_core::document::DocumentReader;
use handshake_core::event::{Actor, ActorKind};
use handshake_core::gate::{AttemptGate, AttemptIdentity, GateServices};
use handshake_core::job::{AccessMode, JobMetrics};
use handshake_core::manifest::{Limits, PluginApi};
use handshake_core::model::Models;
use handshake_core::mount::Mount;
use handshake_core::secret::SecretStore;
use handshake_core::step::{
    Descriptor, LogLevel, Plugin, PluginError, StepExecutor, StepFailure, StepInvocation, StepObserver, StepOutcome,
    Usage,
};
use handshake_core::{Digest, ProfileId, TraceId};
use serde_json::Value;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{CallHook, Store, UpdateDeadline};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::WasiHttpCtx;

use crate::bindings::exports::handshake::step::handler;
use crate::bindings::handshake::step::types;
use crate::bindings::{Step, StepPre};
use crate::cache::CodeCache;
use crate::catalog::{Catalog, PluginFiles, read_plugin};
use crate::contract::{self, Imported};
use crate::engine::StepEngine;
use crate::failure;
use crate::limits::SummedMemory;
use crate::linker;
use crate::manifest::{MANIFEST, ManifestFile};
use crate::mounts::{identity_of, open_folder};
use crate::network::NameResolver;
use crate::observer::Voice;
use crate::pace::{Pace, Paced, is_alone};
use crate::program::{self, ProgramInput};
use crate::secrets::{AttemptSecrets, Violation, Violations};
use crate::state::{Backends, HostCalls, LastDenial, OpenMount, StepState};
use crate::store::PluginStore;
use crate::wasi::http::{GatedRequests, RequestSender, TlsClient};
use crate::wasi::{AttemptSockets, ContextParts, Written, context};

/// Handles of any kind that an attempt may hold at the same time.
const MAX_HANDLES: usize = 512;
/// Room for what one host call lifts out of the guest: the largest artifact and what comes with it.
const HOSTCALL_BYTES: usize = 18 << 20;
/// Measurements of one attempt that go into the record.
const MAX_METRICS: usize = 64;
/// A component describes itself in no time, or not at all.
const DESCRIBE_WALL: Duration = Duration::from_secs(5);

/// How the runtime is set up.
pub struct RuntimeOptions {
    /// Where plugins are looked up, in order.
    pub plugin_folders: Vec<PathBuf>,
    /// Where those lie that were added; none when there is no such place.
    pub plugin_store: Option<PluginStore>,
    /// The compiled-code cache; only its owner may write there.
    pub cache_dir: PathBuf,
    /// Authenticates its entries.
    pub cache_key: [u8; 32],
    /// Attempts that may exist at the same time; further ones wait.
    pub max_instances: u32,
    /// Environment variables that steps may be granted, with their values.
    pub environment: BTreeMap<String, String>,
}

/// What stands behind the interfaces of a step.
#[derive(Clone)]
pub struct RuntimeServices {
    /// The gate's recorder, clock and ids.
    pub gate: GateServices,
    /// `models`.
    pub models: Arc<dyn Models>,
    /// `artifacts`.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// `documents`.
    pub documents: Arc<dyn DocumentReader>,
    /// `secrets`.
    pub secrets: Arc<dyn SecretStore>,
    /// Looks names up for HTTP, sockets and look-ups of steps.
    pub resolver: Arc<dyn NameResolver>,
}

/// Runs steps as WebAssembly components.
pub struct WasmRuntime {
    catalog: Catalog,
    cache: Arc<CodeCache>,
    gate: GateServices,
    backends: Backends,
    plain: Workshop,
    /// For plugins with a fuel limit; most hosts never need it.
    fueled: OnceLock<Workshop>,
    max_instances: u32,
    resolver: Arc<dyn NameResolver>,
    tls: Arc<TlsClient>,
    environment: Arc<BTreeMap<String, String>>,
    places: Arc<tokio::sync::Semaphore>,
}

/// An engine with its linker and what was prepared for it.
struct Workshop {
    engine: StepEngine,
    linker: Arc<Linker<StepState>>,
    prepared: Mutex<HashMap<Digest, Prepared>>,
}

#[derive(Clone)]
struct Prepared {
    entry: Entry,
    described: Arc<OnceLock<Descriptor>>,
}

/// A linked component, by what it exports.
#[derive(Clone)]
enum Entry {
    Step(StepPre<StepState>),
    Program(CommandPre<StepState>),
}

impl Entry {
    fn of(linked: InstancePre<StepState>, api: PluginApi) -> Result<Self, String> {
        match api {
            PluginApi::Step => StepPre::new(linked).map(Self::Step).map_err(|error| {
                format!(
                    "it does not export `handshake:step/handler@0.1.0`: {error:#}; build it against the step interface"
                )
            }),
            PluginApi::Program => CommandPre::new(linked).map(Self::Program).map_err(|error| {
                format!("it does not export `wasi:cli/run`: {error:#}; build it as a program, not as a library")
            }),
        }
    }

    fn component(&self) -> &Component {
        match self {
            Self::Step(step) => step.instance_pre().component(),
            Self::Program(program) => program.instance_pre().component(),
        }
    }
}

/// What a guest came back with.
struct Answer {
    /// JSON.
    value: String,
    metrics: Vec<handler::Metric>,
}

impl Workshop {
    fn new(max_instances: u32, count_fuel: bool) -> wasmtime::Result<Self> {
        let engine = StepEngine::new(max_instances, count_fuel)?;
        let mut linker = Linker::new(engine.engine());
        linker::link(&mut linker)?;
        Ok(Self { engine, linker: Arc::new(linker), prepared: Mutex::default() })
    }
}

fn host_fault(error: wasmtime::Error) -> PluginError {
    PluginError::Host(format!("{error:#}"))
}

impl WasmRuntime {
    /// Sets the runtime up. Compiles nothing yet.
    pub fn new(options: RuntimeOptions, services: RuntimeServices) -> Result<Self, PluginError> {
        let max_instances = options.max_instances.max(1);
        Ok(Self {
            catalog: Catalog::new(options.plugin_folders, options.plugin_store, Arc::clone(&services.gate.clock)),
            cache: Arc::new(CodeCache::new(options.cache_dir, options.cache_key)),
            gate: services.gate,
            backends: Backends {
                models: services.models,
                artifacts: services.artifacts,
                documents: services.documents,
                secrets: services.secrets,
            },
            plain: Workshop::new(max_instances, false).map_err(host_fault)?,
            fueled: OnceLock::new(),
            max_instances,
            resolver: services.resolver,
            tls: Arc::default(),
            environment: Arc::new(options.environment),
            places: Arc::new(tokio::sync::Semaphore::new(usize::try_from(max_instances).unwrap_or(1))),
        })
    }

    /// Every plugin there is, by id; those that cannot be used with the reason.
    pub fn list(&self) -> Vec<(String, Result<Arc<Plugin>, PluginError>)> {
        self.catalog.list()
    }

    /// Makes a plugin known that is in none of the folders: as `id@sha256:` and the SHA-256 of its manifest, for as long
    /// as this runtime lives. `folder` is its source, or the plugin itself.
    pub fn lend(&self, folder: &Path) -> Result<Arc<Plugin>, PluginError> {
        self.catalog.lend(folder)
    }

    /// Every function that a plugin's component imports.
    pub async fn imported(&self, plugin: &Plugin) -> Result<Vec<Imported>, PluginError> {
        let workshop = self.workshop(&plugin.manifest.limits)?;
        let prepared = self.prepared(plugin).await?;
        Ok(contract::imported(workshop.engine.engine(), prepared.entry.component()))
    }

    fn workshop(&self, limits: &Limits) -> Result<&Workshop, PluginError> {
        if limits.fuel.is_none() {
            return Ok(&self.plain);
        }
        if let Some(workshop) = self.fueled.get() {
            return Ok(workshop);
        }
        let workshop = Workshop::new(self.max_instances, true).map_err(host_fault)?;
        Ok(self.fueled.get_or_init(|| workshop))
    }

    /// The component, compiled and linked. The hash names exactly the bytes that are compiled, so what was
    /// checked when the plugin was found is what runs, whatever happened to the file since.
    async fn prepared(&self, plugin: &Plugin) -> Result<Prepared, PluginError> {
        let workshop = self.workshop(&plugin.manifest.limits)?;
        let digest = plugin.component_sha256;
        if let Some(prepared) = workshop.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(prepared.clone());
        }
        let file = plugin.folder.join(&plugin.manifest.component.path);
        let (cache, engine, linker) =
            (Arc::clone(&self.cache), workshop.engine.engine().clone(), Arc::clone(&workshop.linker));
        let (folder, api) = (plugin.folder.clone(), plugin.manifest.api);
        let untouched = self.catalog.untouched(&folder).is_some_and(|known| known.component_sha256 == digest);
        // Compiling takes seconds for large components; the async threads have other guests to serve.
        let made = tokio::task::spawn_blocking(move || -> Result<Entry, PluginError> {
            let refuse = |problem: String| PluginError::Component { file: file.display().to_string(), problem };
            let finish = |component: Component| {
                contract::check_versions(&engine, &component).map_err(refuse)?;
                link(&linker, &component).and_then(|linked| Entry::of(linked, api)).map_err(refuse)
            };
            // An interpreter's component is tens of megabytes, which need not be read and hashed again for code that was
            // compiled from them before.
            if let Some(component) = if untouched { cache.stored(&engine, digest)? } else { None } {
                return finish(component);
            }
            let PluginFiles { plugin: found, component, .. } = read_plugin(&folder)?;
            if found.component_sha256 != digest {
                let problem = format!(
                    "its SHA-256 is {}, but {digest} was to be executed: it changed after it was looked at; start the workflow again",
                    found.component_sha256
                );
                let (file, manifest_sha256) = (file.display().to_string(), found.manifest_sha256);
                return Err(PluginError::ComponentTampered { file, problem, manifest_sha256 });
            }
            check_preamble(&component).map_err(refuse)?;
            let component = cache.load(&engine, digest, &component).map_err(|error| match error {
                PluginError::Component { problem, .. } => refuse(problem),
                other => other,
            })?;
            finish(component)
        });
        let entry =
            made.await.map_err(|error| PluginError::Host(format!("preparing a component failed: {error}")))??;
        let prepared = Prepared { entry, described: Arc::default() };
        workshop.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, prepared.clone());
        Ok(prepared)
    }

    fn store(&self, parts: StoreParts<'_>) -> wasmtime::Result<Store<StepState>> {
        let workshop = self.workshop(parts.limits).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        let mounts = open_mounts(parts.mounts)?;
        let voice = Voice::new(parts.observer, Arc::clone(&self.gate.clock));
        let sockets = AttemptSockets::default();
        let output_kb = parts.limits.output_kb;
        let stderr = Written::heard(LogLevel::Warn, voice.clone(), output_kb);
        let (stdout, arguments, stdin) = match parts.program {
            Some((arguments, stdin)) => (Written::kept(output_kb), arguments, stdin),
            None => (Written::heard(LogLevel::Info, voice.clone(), output_kb), Vec::new(), String::new()),
        };
        let wasi = context(ContextParts {
            stdin,
            stdout: &stdout,
            stderr: &stderr,
            clock: &self.gate.clock,
            started_at: parts.started_at,
            random_seed: parts.random_seed,
            approvals: sockets.approvals(),
        });
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let run = parts.identity.place.as_ref().map(|place| place.run);
        let gate = AttemptGate::new(parts.identity, parts.rights, self.gate.clone()).within(parts.budget);
        let gate = Arc::new(gate);
        let last_denial = LastDenial::default();
        let violations = Violations::default();
        let issued = Arc::new(AttemptSecrets::new(Arc::clone(&self.backends.secrets), Arc::clone(&violations)));
        let requests = RequestSender::new(
            Arc::clone(&gate),
            (voice.clone(), LastDenial::clone(&last_denial)),
            Arc::clone(&issued),
            (Arc::clone(&self.resolver), Arc::clone(&self.tls)),
        );
        let state = StepState {
            run,
            requests: GatedRequests(Arc::new(requests)),
            sockets,
            resolver: Arc::clone(&self.resolver),
            issued,
            violations,
            environment: Arc::clone(&self.environment),
            gate,
            backends: self.backends.clone(),
            settings: parts.settings,
            voice,
            arguments,
            stdout,
            stderr,
            mounts,
            places: HashMap::new(),
            open_listings: 0,
            memory: SummedMemory::megabytes(parts.limits.memory_mb),
            host_calls: HostCalls { left: parts.limits.host_calls, limit: parts.limits.host_calls },
            metrics: JobMetrics::default(),
            proposals: Vec::new(),
            proposed_bytes: 0,
            last_denial,
            table,
            wasi,
            http: WasiHttpCtx::new(),
        };
        let mut store = Store::new(workshop.engine.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        store.set_epoch_deadline(1);
        // Each epoch the guest yields, so that its deadline and its neighbours are served.
        let (clock, places, all) = (Arc::clone(&self.gate.clock), Arc::clone(&self.places), self.max_instances);
        let (mut pace, paced) = (Pace::new(clock.monotonic()), parts.paced);
        store.epoch_deadline_callback(move |store| {
            let calls = store.data().host_calls.made();
            let alone = is_alone(&places, usize::try_from(all).unwrap_or(usize::MAX));
            Ok(match pace.wait(calls, clock.monotonic(), alone) {
                None => UpdateDeadline::Yield(1),
                Some(wait) => UpdateDeadline::YieldCustom(1, Box::pin(paced.sleep(wait))),
            })
        });
        if let Some(fuel) = parts.limits.fuel {
            store.set_fuel(fuel)?;
        }
        store.call_hook(|mut store, hook| match hook {
            CallHook::CallingHost => Ok(store.data_mut().host_calls.count()?),
            // Whatever the guest would make of the refusal, it does not run on.
            CallHook::ReturningFromHost => match (store.data().violation(), store.data().gate.asked()) {
                (Some(violation), _) => Err(wasmtime::Error::msg(violation.detail)),
                (None, Some(asked)) => Err(wasmtime::Error::msg(format!("`{}` waits for a person", asked.capability))),
                (None, None) => Ok(()),
            },
            _ => Ok(()),
        });
        Ok(store)
    }

    /// What a component says about itself, whether or not that is what its manifest says.
    pub async fn describe(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        match &self.prepared(plugin).await?.entry {
            Entry::Step(step) => self.ask(plugin, step).await,
            Entry::Program(_) => Ok(program::descriptor(plugin)),
        }
    }

    /// Has a component describe itself, with nothing granted.
    async fn ask(&self, plugin: &Plugin, step: &StepPre<StepState>) -> Result<Descriptor, PluginError> {
        let _place = self.places.acquire().await.map_err(|error| PluginError::Host(error.to_string()))?;
        let file = plugin.folder.join(&plugin.manifest.component.path).display().to_string();
        let refuse = |problem: String| PluginError::Component { file: file.clone(), problem };
        let limits = plugin.manifest.limits;
        let identity = AttemptIdentity {
            trace: TraceId::fresh(&*self.gate.ids),
            actor: Actor { kind: ActorKind::Agent, id: plugin.label() },
            component_sha256: Some(plugin.component_sha256),
            span: None,
            place: None,
        };
        let mut store = self
            .store(StoreParts {
                identity,
                rights: Arc::new(nothing_granted(plugin)),
                budget: Arc::default(),
                settings: Arc::default(),
                observer: Arc::new(Unheard),
                program: None,
                mounts: &[],
                limits: &limits,
                started_at: self.gate.clock.now(),
                random_seed: [0; 32],
                paced: Paced::default(),
            })
            .map_err(host_fault)?;
        let wall = DESCRIBE_WALL.min(Duration::from_millis(limits.wall_ms));
        let called = tokio::time::timeout(wall, async {
            let step = step.instantiate_async(&mut store).await?;
            step.handshake_step_handler().call_describe(&mut store).await
        });
        let described = match called.await {
            Ok(Ok(described)) => described,
            Ok(Err(error)) => {
                return Err(refuse(format!(
                    "`describe` failed: {}",
                    failure::from_trap(&error, &limits, store.data().memory.refused)
                )));
            }
            Err(_) => return Err(refuse(format!("`describe` did not end within {wall:?}"))),
        };
        let schema = |name: &str, text: &str| {
            serde_json::from_str::<Value>(text)
                .map_err(|error| refuse(format!("`describe` gave an {name} schema that is not JSON: {error}")))
        };
        Ok(Descriptor {
            input_schema: schema("input", &described.input_schema)?,
            output_schema: schema("output", &described.output_schema)?,
            name: described.name,
            version: described.version,
            capabilities: described.capabilities,
        })
    }
}

/// What a store is made from.
struct StoreParts<'a> {
    identity: AttemptIdentity,
    rights: Arc<EffectiveRights>,
    budget: Arc<BudgetMeter>,
    settings: Arc<BTreeMap<String, Value>>,
    observer: Arc<dyn StepObserver>,
    /// Arguments and standard input of a program.
    program: Option<(Vec<String>, String)>,
    mounts: &'a [Mount],
    limits: &'a Limits,
    started_at: handshake_core::Timestamp,
    random_seed: [u8; 32],
    paced: Paced,
}

/// Nobody watches a component describe itself.
struct Unheard;

impl StepObserver for Unheard {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
}

fn nothing_granted(plugin: &Plugin) -> EffectiveRights {
    EffectiveRights {
        plugin: Some(plugin.manifest.id.clone()),
        declared: plugin.manifest.capabilities.iter().map(|declared| declared.id.clone()).collect(),
        granted: CapabilitySet::default(),
        profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: CapabilitySet::default() }),
        access_mode: AccessMode::AnalysisOnly,
        policy: PolicyInForce::new(Policy::empty(Mode::Enforce, Digest::ZERO)),
        manifest_sha256: plugin.manifest_sha256,
        workspace: None,
    }
}

/// Tells the kinds of files apart that people put in the place of a component.
fn check_preamble(bytes: &[u8]) -> Result<(), String> {
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(b"\0asm"), Some([0x0d, 0, 1, 0])) => Ok(()),
        (Some(b"\0asm"), Some([1, 0, 0, 0])) => {
            Err("it is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2`".into())
        }
        _ => Err("it is not a WebAssembly component".into()),
    }
}

fn link(linker: &Linker<StepState>, component: &Component) -> Result<InstancePre<StepState>, String> {
    linker.instantiate_pre(component).map_err(|error| {
        format!("it imports something that this host does not have: {error:#}; this host offers handshake:step@0.1.0 and WASI 0.2")
    })
}

fn open_mounts(mounts: &[Mount]) -> wasmtime::Result<Vec<OpenMount>> {
    mounts
        .iter()
        .map(|mount| {
            let refused = |why: String| {
                wasmtime::Error::msg(format!("mount `{}`: cannot open `{}`: {why}", mount.name, mount.host.display()))
            };
            let root = open_folder(&mount.host).map_err(|error| refused(error.to_string()))?;
            if identity_of(&root).ok() != Some(mount.identity) {
                return Err(refused("it is not the folder that the policy was asked about".into()));
            }
            Ok(OpenMount {
                name: mount.name.clone(),
                host: mount.host.display().to_string(),
                access: mount.access,
                root: Arc::new(root),
            })
        })
        .collect()
}

#[async_trait]
impl StepExecutor for WasmRuntime {
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        self.catalog.find(uses)
    }

    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        let prepared = self.prepared(plugin).await?;
        if let Some(descriptor) = prepared.described.get() {
            return Ok(descriptor.clone());
        }
        let descriptor = self.describe(plugin).await?;
        let manifest = &plugin.manifest;
        let refuse = |key: &str, problem: String| {
            let path = plugin.folder.join(MANIFEST);
            let file = ManifestFile::read(&path).map_or_else(|_| path.display().to_string(), |file| file.place(key));
            Err(PluginError::Manifest { file, problem })
        };
        if (descriptor.name.as_str(), descriptor.version.as_str()) != (manifest.id.as_str(), manifest.version.as_str())
        {
            let key = if descriptor.name == manifest.id.as_str() { "version" } else { "id" };
            let says = format!("{}@{}", descriptor.name, descriptor.version);
            return refuse(key, format!("names {}, but the component says that it is {says}", plugin.label()));
        }
        for wanted in &descriptor.capabilities {
            let id: CapabilityId = match wanted.parse() {
                Ok(id) => id,
                Err(error) => {
                    let problem = format!("the component asks for a capability that does not exist: {error}");
                    return refuse("capability", problem);
                }
            };
            if !manifest.capabilities.iter().any(|declared| declared.id.axis() == id.axis()) {
                return refuse(
                    "capability",
                    format!(
                        "the component asks for `{id}`, which the manifest does not declare; add [[capability]] id = \"{id}\" with a reason"
                    ),
                );
            }
        }
        Ok(prepared.described.get_or_init(|| descriptor).clone())
    }

    async fn execute(&self, invocation: StepInvocation) -> Result<StepOutcome, StepFailure> {
        let host = |error: String| StepFailure::Host(error);
        // The pool has so many places; waiting for one does not count as the attempt's time.
        let _place = self.places.acquire().await.map_err(|error| host(error.to_string()))?;
        let prepared = self.prepared(&invocation.plugin).await.map_err(|error| match error {
            PluginError::Host(error) => StepFailure::Host(error),
            other => match other.violation() {
                Some(kind) => StepFailure::Violation { kind: kind.to_owned(), detail: other.to_string() },
                None => StepFailure::Contract(other.to_string()),
            },
        })?;
        let limits = invocation.limits;
        let program = match &prepared.entry {
            Entry::Step(_) => None,
            Entry::Program(_) => {
                let input = ProgramInput::read(invocation.input.as_str())?;
                Some((input.arguments(&invocation.plugin), input.into_stdin()))
            }
        };
        let context = guest_context(&invocation, self.gate.clock.now());
        let (observer, paced) = (Arc::clone(&invocation.observer), Paced::default());
        let mut store = self
            .store(StoreParts {
                identity: invocation.identity,
                rights: invocation.rights,
                budget: invocation.budget,
                settings: invocation.settings,
                observer: invocation.observer,
                program,
                mounts: &invocation.mounts,
                limits: &limits,
                started_at: invocation.started_at,
                random_seed: invocation.random_seed,
                paced: paced.clone(),
            })
            .map_err(|error| host(format!("{error:#}")))?;
        let called = call(&prepared.entry, &mut store, &context, invocation.input.as_str());
        let called = paced.within(invocation.wall, called).await;
        store.data().voice.finish();
        observer.used(usage(&store, &limits));
        if let Some(Violation { kind, detail }) = store.data().violation() {
            return Err(StepFailure::Violation { kind: kind.to_owned(), detail });
        }
        if let Some(asked) = store.data().gate.asked() {
            return Err(StepFailure::NeedsApproval(Box::new(asked.clone())));
        }
        let output = match called {
            None => return Err(StepFailure::Timeout(invocation.wall)),
            Some(Err(trap)) => return Err(failure::from_trap(&trap, &limits, store.data().memory.refused)),
            Some(Ok(answer)) => answer?,
        };
        let allowed = usize::try_from(limits.output_kb).unwrap_or(usize::MAX).saturating_mul(1024);
        if output.value.len() > allowed {
            let detail = format!(
                "the result has {} bytes, {} KiB are allowed; store large values as artifacts, or raise limits.output_kb in plugin.toml",
                output.value.len(),
                limits.output_kb
            );
            return Err(StepFailure::Limit { limit: "output_kb", detail });
        }
        // The guest's memory goes before its result becomes a tree.
        let state = store.into_data();
        let value: Value = serde_json::from_str(&output.value)
            .map_err(|error| StepFailure::Contract(format!("the plugin's result is not JSON: {error}")))?;
        if has_nul(&value) {
            let problem = "the plugin's result holds the character U+0000, which no database stores";
            return Err(StepFailure::Contract(problem.into()));
        }
        Ok(StepOutcome {
            output: value,
            measurements: output
                .metrics
                .into_iter()
                .filter(|metric| metric.value.is_finite() && is_metric_name(&metric.name))
                .take(MAX_METRICS)
                .map(|metric| (metric.name, metric.value))
                .collect(),
            metrics: state.metrics,
            proposals: state.proposals,
        })
    }
}

/// What an attempt has used by now.
fn usage(store: &Store<StepState>, limits: &Limits) -> Usage {
    let calls = &store.data().host_calls;
    Usage {
        memory_bytes: store.data().memory.used() as u64,
        host_calls: calls.limit - calls.left,
        // An error says that it is not counted.
        fuel: limits.fuel.and_then(|fuel| Some(fuel.saturating_sub(store.get_fuel().ok()?))),
    }
}

/// Calls a guest. The outer error is a trap.
async fn call(
    entry: &Entry,
    store: &mut Store<StepState>,
    context: &handler::Context,
    input: &str,
) -> wasmtime::Result<Result<Answer, StepFailure>> {
    let denied = |store: &Store<StepState>| store.data().last_denial.take();
    match entry {
        Entry::Step(step) => {
            let step: Step = step.instantiate_async(&mut *store).await?;
            let ended = step.handshake_step_handler().call_run(&mut *store, context, input).await;
            store.data().stdout.finish();
            store.data().stderr.finish();
            Ok(match ended? {
                Ok(handler::Output { value, metrics }) => Ok(Answer { value, metrics }),
                Err(error) => Err(failure::from_guest(error, denied(store))),
            })
        }
        Entry::Program(program) => {
            let program = program.instantiate_async(&mut *store).await?;
            let ended = program.wasi_cli_run().call_run(&mut *store).await;
            let last_words = store.data().stderr.finish();
            let code = program::exit_code(ended)?;
            let output = program::output(code, store.data().stdout.take_all(), &last_words, denied(store));
            Ok(output.map(|value| Answer { value, metrics: Vec::new() }))
        }
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, field)| name.contains('\0') || has_nul(field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Names go into the record, so they are short and plain; others are left out.
fn is_metric_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn guest_context(invocation: &StepInvocation, now: handshake_core::Timestamp) -> handler::Context {
    let place = invocation.identity.place.as_ref();
    handler::Context {
        run: place.map(|place| place.run.to_string()).unwrap_or_default(),
        job: place.map(|place| place.job.to_string()).unwrap_or_default(),
        step: place.map(|place| place.step.to_string()).unwrap_or_default(),
        index: place.and_then(|place| place.index),
        attempt: place.map_or(1, |place| place.attempt),
        trace: invocation.identity.trace.w3c(),
        idempotency_key: invocation.idempotency_key.clone(),
        access_mode: match invocation.access_mode {
            AccessMode::AnalysisOnly => types::AccessMode::AnalysisOnly,
            AccessMode::PreviewOnly => types::AccessMode::PreviewOnly,
            AccessMode::ApplyScoped => types::AccessMode::ApplyScoped,
        },
        deadline: u64::try_from(now.plus(invocation.wall).micros()).unwrap_or(0),
    }
}
