//! The runtime over counting doubles.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handshake_core::capability::{
    AXES, CapabilityId, CapabilitySet, Effect, EffectiveRights, Mode, MountRule, Policy, PolicyInForce, Profile, Rule,
    SecretRule, SourceRef,
};
use handshake_core::event::{Actor, ActorKind, DecisionRecord, Event, EventBody};
use handshake_core::gate::{AttemptIdentity, AttemptPlace, GateServices};
use handshake_core::job::AccessMode;
use handshake_core::mount::{Mount, MountAccess};
use handshake_core::recorder::FlightRecorder;
use handshake_core::run::FencingToken;
use handshake_core::step::{Plugin, StepExecutor, StepFailure, StepInvocation, StepOutcome};
use handshake_core::testing::{MemoryRecorder, SequentialIds};
use handshake_core::{Clock, Digest, JobId, Json, ProfileId, RunId, SpanId, StepId, TraceId};
use handshake_runtime::{RuntimeOptions, RuntimeServices, WasmRuntime};
use serde_json::Value;
use uuid::Uuid;

use crate::backends::{Backends, Names, RunningClock, Watcher};

/// The runtime with everything behind it in memory, and a folder with two mounts in it.
pub struct TestRuntime {
    /// The runtime.
    pub runtime: WasmRuntime,
    /// Counts who is reached.
    pub backends: Arc<Backends>,
    /// Answers look-ups.
    pub names: Arc<Names>,
    /// Who watches.
    pub watcher: Arc<Watcher>,
    /// The records, unless the test brought a recorder of its own.
    pub recorder: Arc<MemoryRecorder>,
    /// Holds `in/` and `out/`, and whatever lies outside of them.
    pub folder: tempfile::TempDir,
    clock: Arc<dyn Clock>,
}

/// What an attempt is given, besides its input.
#[derive(Clone)]
pub struct Rights {
    /// Declared by the manifest; none for what the manifest really declares.
    pub declared: Option<Vec<&'static str>>,
    /// Granted by the step.
    pub granted: Vec<&'static str>,
    /// Listed by the profile; none for everything.
    pub profile: Option<Vec<&'static str>>,
    /// Access mode.
    pub access_mode: AccessMode,
    /// Allowed by the operator, each with the guarded addresses that it may lead to; none for every bare axis.
    pub policy: Option<Vec<(String, Vec<&'static str>)>>,
    /// Where secrets may go: name, host, header.
    pub secrets: Vec<(&'static str, String, &'static str)>,
}

impl Rights {
    /// The operator allows these and nothing else; behind each the guarded addresses that it may lead to.
    pub fn under(self, policy: &[(&str, &[&'static str])]) -> Self {
        let rules = policy.iter().map(|(id, addresses)| ((*id).to_owned(), addresses.to_vec()));
        Self { policy: Some(rules.collect()), ..self }
    }

    /// The operator lets this secret go to this server in this header.
    pub fn with_secret(mut self, name: &'static str, host: &str, header: &'static str) -> Self {
        self.secrets.push((name, host.to_owned(), header));
        self
    }

    /// Everything but the grants is as wide as it gets.
    pub fn granting(granted: &[&'static str]) -> Self {
        Self {
            declared: None,
            granted: granted.to_vec(),
            profile: None,
            access_mode: AccessMode::ApplyScoped,
            policy: None,
            secrets: Vec::new(),
        }
    }
}

/// The run that attempts belong to.
pub fn run_id() -> RunId {
    RunId::from_uuid(Uuid::from_u128(0xabc))
}

impl TestRuntime {
    /// A runtime that finds the test guests and the plugins that ship with the host.
    pub fn new() -> Self {
        let root = crate::root();
        Self::with_folders(vec![root.join("tests/guests"), root.join("plugins")])
    }

    /// A runtime with other plugin folders.
    pub fn with_folders(plugin_folders: Vec<PathBuf>) -> Self {
        let recorder = Arc::new(MemoryRecorder::default());
        Self::with_recorder(plugin_folders, Arc::clone(&recorder) as _, recorder)
    }

    /// A runtime with another recorder.
    pub fn with_recorder(
        plugin_folders: Vec<PathBuf>,
        records: Arc<dyn FlightRecorder>,
        recorder: Arc<MemoryRecorder>,
    ) -> Self {
        let (clock, ids) = (Arc::new(RunningClock::default()), Arc::new(SequentialIds::default()));
        Self::with_gate(plugin_folders, GateServices { recorder: records, clock, ids }, recorder)
    }

    /// A runtime that shares recorder, clock and ids with others.
    pub fn with_gate(plugin_folders: Vec<PathBuf>, gate: GateServices, recorder: Arc<MemoryRecorder>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["in", "out", "cache"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let clock = Arc::clone(&gate.clock);
        let (backends, names) = (Arc::new(Backends::default()), Arc::new(Names::default()));
        let services = RuntimeServices {
            gate,
            models: Arc::clone(&backends) as _,
            artifacts: Arc::clone(&backends) as _,
            documents: Arc::clone(&backends) as _,
            secrets: Arc::clone(&backends) as _,
            resolver: Arc::clone(&names) as _,
        };
        // Compiling the guests costs seconds; all tests of a checkout share what was compiled once.
        let cache_dir =
            std::env::temp_dir().join(format!("handshake-test-cache-{}", rustix::process::geteuid().as_raw()));
        let environment =
            [("LANG", "C"), ("APP_MODE", "test")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = BTreeMap::from(environment);
        let plugin_store = None;
        let options = RuntimeOptions {
            plugin_folders,
            plugin_store,
            cache_dir,
            cache_key: [42; 32],
            max_instances: 8,
            environment,
        };
        let runtime = WasmRuntime::new(options, services).unwrap();
        Self { runtime, backends, names, watcher: Watcher::shared(), recorder, folder, clock }
    }

    /// A path in the test's folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs one attempt of a plugin.
    pub async fn run(&self, uses: &str, input: Value, rights: &Rights) -> Result<StepOutcome, StepFailure> {
        self.run_with(uses, input, rights, |_| {}).await
    }

    /// Runs one attempt after the test changed something about it.
    pub async fn run_with(
        &self,
        uses: &str,
        input: Value,
        rights: &Rights,
        change: impl FnOnce(&mut StepInvocation),
    ) -> Result<StepOutcome, StepFailure> {
        let plugin = self.runtime.find(uses).map_err(|error| StepFailure::Contract(error.to_string()))?;
        let mut invocation = self.invocation(plugin, input, rights);
        change(&mut invocation);
        self.runtime.execute(invocation).await
    }

    /// Runs one attempt of a plugin that was found before, as the engine does.
    pub async fn run_found(
        &self,
        plugin: &Arc<Plugin>,
        input: Value,
        rights: &Rights,
    ) -> Result<StepOutcome, StepFailure> {
        self.runtime.execute(self.invocation(Arc::clone(plugin), input, rights)).await
    }

    fn invocation(&self, plugin: Arc<Plugin>, input: Value, rights: &Rights) -> StepInvocation {
        let place = AttemptPlace {
            job: JobId::from_uuid(Uuid::from_u128(0x10b)),
            run: run_id(),
            step: StepId::new("step").unwrap(),
            index: None,
            attempt: 1,
            fence: FencingToken(1),
        };
        let identity = AttemptIdentity {
            trace: TraceId::from_uuid(Uuid::from_u128(0x7ace)),
            actor: Actor { kind: ActorKind::Agent, id: plugin.label() },
            component_sha256: Some(plugin.component_sha256),
            span: Some(SpanId::from_uuid(Uuid::from_u128(0x59a))),
            place: Some(place),
        };
        let limits = plugin.manifest.limits;
        let mounts = [("in", MountAccess::Read), ("out", MountAccess::Write)].map(|(name, access)| Mount {
            name: name.into(),
            host: std::fs::canonicalize(self.path(name)).unwrap(),
            access,
            identity: std::fs::metadata(self.path(name)).map(|folder| (folder.dev(), folder.ino())).unwrap(),
        });
        let settings = BTreeMap::from([("tone".to_owned(), Value::from("dry"))]);
        StepInvocation {
            rights: Arc::new(effective(&plugin, rights)),
            budget: Arc::default(),
            access_mode: rights.access_mode,
            identity,
            plugin,
            input: Json::of(&input),
            mounts: mounts.to_vec(),
            limits,
            idempotency_key: "key".into(),
            started_at: self.clock.now(),
            wall: Duration::from_millis(limits.wall_ms),
            random_seed: [9; 32],
            settings: Arc::new(settings),
            observer: Arc::clone(&self.watcher) as _,
        }
    }

    /// All decisions so far.
    pub fn decisions(&self) -> Vec<DecisionRecord> {
        decisions(&self.recorder.events())
    }
}

impl Default for TestRuntime {
    fn default() -> Self {
        Self::new()
    }
}

/// The decisions among events.
pub fn decisions(events: &[Event]) -> Vec<DecisionRecord> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::CapabilityAction(record) => Some((**record).clone()),
            _ => None,
        })
        .collect()
}

fn set(ids: &[&str]) -> CapabilitySet {
    ids.iter().map(|id| id.parse::<CapabilityId>().unwrap()).collect()
}

fn effective(plugin: &Plugin, rights: &Rights) -> EffectiveRights {
    let everything = || AXES.iter().copied().map(CapabilityId::bare);
    let source = SourceRef { file: "policy.toml".into(), line: 1 };
    let rule = |capability, addresses: &[&str]| Rule {
        effect: Effect::Allow,
        capability,
        plugins: Vec::new(),
        addresses: addresses.iter().map(|text| handshake_core::capability::addresses(text).unwrap()).collect(),
        source: source.clone(),
    };
    let rules: Vec<_> = match &rights.policy {
        Some(rules) => rules.iter().map(|(id, addresses)| rule(id.parse().unwrap(), addresses)).collect(),
        None => everything().map(|id| rule(id, &[])).collect(),
    };
    let secrets = rights.secrets.iter().map(|(name, host, header)| SecretRule {
        name: (*name).to_owned(),
        hosts: vec![format!("net.http:{host}").parse().unwrap()],
        headers: vec![(*header).to_owned()],
        source: source.clone(),
    });
    EffectiveRights {
        plugin: Some(plugin.manifest.id.clone()),
        declared: match &rights.declared {
            Some(ids) => set(ids),
            None => plugin.manifest.capabilities.iter().map(|declared| declared.id.clone()).collect(),
        },
        granted: set(&rights.granted),
        profile: Arc::new(Profile {
            id: ProfileId::analyst(),
            capabilities: match &rights.profile {
                Some(ids) => set(ids),
                None => everything().collect(),
            },
        }),
        access_mode: rights.access_mode,
        policy: PolicyInForce::new(Policy {
            mode: Mode::Enforce,
            rules,
            mounts: vec![MountRule { path: "/".into(), access: MountAccess::Write, source: source.clone() }],
            secrets: secrets.collect(),
            digest: Digest::ZERO,
        }),
        manifest_sha256: plugin.manifest_sha256,
        workspace: None,
    }
}

/// Puts a component into a plugin folder of its own, with a manifest that names its hash.
pub fn install(folder: &Path, id: &str, component: &[u8]) {
    let plugin = folder.join(id);
    std::fs::create_dir_all(&plugin).unwrap();
    std::fs::write(plugin.join("component.wasm"), component).unwrap();
    let manifest = format!(
        "schema = 1\nid = \"{id}\"\nversion = \"0.1.0\"\napi = \"handshake:step@0.1\"\ndescription = \"A test.\"\n[component]\npath = \"component.wasm\"\nsha256 = \"{}\"\n",
        Digest::of(component)
    );
    std::fs::write(plugin.join("plugin.toml"), manifest).unwrap();
}
