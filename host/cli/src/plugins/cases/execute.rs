//! Runs one case: the real runtime with fakes behind the gate, in a folder that goes when the case is over.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handshake_core::capability::{
    CapabilityId, CapabilitySet, EffectiveRights, MountRule, PolicyInForce, Profile, SourceRef,
};
use handshake_core::document::Proposal;
use handshake_core::event::{Actor, ActorKind, EventBody, Outcome};
use handshake_core::gate::{AttemptIdentity, AttemptPlace, GateServices};
use handshake_core::mount::{Mount, MountAccess};
use handshake_core::run::FencingToken;
use handshake_core::step::{LogLevel, Plugin, StepExecutor, StepFailure, StepInvocation, StepObserver};
use handshake_core::testing::{FixedClock, MemoryRecorder, SequentialIds};
use handshake_core::{Digest, JobId, Json, ProfileId, RunId, SpanId, StepId, Timestamp, TraceId};
use handshake_runtime::RuntimeServices;
use serde_json::Value;
use tempfile::TempDir;

use super::Mismatch;
use super::fakes::{CannedModels, CaseDocuments, CaseSecrets, MemoryArtifacts, locked};
use super::file::Case;
use super::network::CannedNetwork;
use crate::error::CliError;
use crate::host::HostState;

/// When every case takes place: 2026-01-01T00:00:00Z.
const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// Randomness of every case.
const SEED: [u8; 32] = [7; 32];
/// Files and folders that are copied for one case.
const MOST_FILES: usize = 10_000;

/// What happened.
#[derive(Debug)]
pub(super) struct Happened {
    pub(super) result: Result<Value, StepFailure>,
    /// Every decision, as cases write them.
    pub(super) decisions: Vec<String>,
    /// What was created or changed in the mounts, by `MOUNT/PATH`.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) artifacts: Vec<Vec<u8>>,
    pub(super) proposals: Vec<Proposal>,
    /// What the fakes have to say.
    pub(super) complaints: Vec<Mismatch>,
    pub(super) log: Vec<String>,
    pub(super) lasted: Duration,
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl StepObserver for Heard {
    fn log(&self, level: LogLevel, line: &str) {
        locked(&self.0).push(format!("{level}: {line}"));
    }
    fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
}

/// Runs a case.
pub(super) async fn execute(host: &HostState, plugin: &Arc<Plugin>, case: &Case) -> Result<Happened, CliError> {
    let (scratch, mounts) = copied(case)?;
    let recorder = Arc::new(MemoryRecorder::default());
    let gate = GateServices {
        recorder: Arc::clone(&recorder) as _,
        clock: Arc::new(FixedClock::at(NOW)),
        ids: Arc::new(SequentialIds::default()),
    };
    let models = Arc::new(CannedModels::new(&case.models));
    let artifacts = Arc::new(MemoryArtifacts::default());
    let network = Arc::new(CannedNetwork::new(&case.http));
    let heard = Arc::new(Heard::default());
    let services = RuntimeServices {
        gate,
        models: Arc::clone(&models) as _,
        artifacts: Arc::clone(&artifacts) as _,
        documents: Arc::new(CaseDocuments::new(&case.documents)),
        secrets: Arc::new(CaseSecrets::new(case.secrets.clone())),
        resolver: Arc::clone(&network) as _,
    };
    let runtime = host.runtime_over(services, case.environment.clone())?;
    // Compiling is not part of what the case takes.
    runtime.prepare(plugin).await?;
    let input = with_handles(case.input.clone(), case, &artifacts);
    let started = host.gate.clock.monotonic();
    let result = runtime.execute(invocation(plugin, case, &input, &mounts, Arc::clone(&heard) as _)?).await;
    let lasted = host.gate.clock.monotonic().saturating_sub(started);
    let (result, proposals) = match result {
        Ok(outcome) => (Ok(outcome.output), outcome.proposals),
        Err(StepFailure::Host(problem)) => return Err(CliError::internal(problem)),
        Err(failure) => (Err(failure), Vec::new()),
    };
    let files = changed(case, scratch.path())?;
    let mut complaints = models.complaints();
    complaints.extend(network.complaints());
    let log = locked(&heard.0).clone();
    let decisions = decisions(&recorder);
    let artifacts = artifacts.written();
    Ok(Happened { result, decisions, files, artifacts, proposals, complaints, log, lasted })
}

fn invocation(
    plugin: &Arc<Plugin>,
    case: &Case,
    input: &Value,
    mounts: &[Mount],
    observer: Arc<dyn StepObserver>,
) -> Result<StepInvocation, CliError> {
    let limits = plugin.manifest.limits;
    let id = |number: u128| uuid::Uuid::from_u128(number);
    let place = AttemptPlace {
        job: JobId::from_uuid(id(1)),
        run: RunId::from_uuid(id(2)),
        step: StepId::new("case").map_err(|error| CliError::internal(error.to_string()))?,
        index: None,
        attempt: 1,
        fence: FencingToken(1),
    };
    let declared: Vec<CapabilityId> = plugin.manifest.capabilities.iter().map(|declared| declared.id.clone()).collect();
    let mut policy = case.policy.clone();
    // The copies are the case's own, and what may be done in them is for its grants to say.
    policy.mounts.extend(mounts.iter().map(|mount| MountRule {
        path: mount.host.clone(),
        access: mount.access,
        source: SourceRef { file: "case".into(), line: 1 },
    }));
    let everything = handshake_core::capability::AXES.iter().copied().map(CapabilityId::bare);
    let rights = EffectiveRights {
        plugin: Some(plugin.manifest.id.clone()),
        granted: case.grants.clone().unwrap_or_else(|| declared.clone()).into_iter().collect(),
        declared: declared.into_iter().collect::<CapabilitySet>(),
        profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: everything.collect() }),
        access_mode: case.access_mode,
        policy: PolicyInForce::new(policy),
        manifest_sha256: plugin.manifest_sha256,
        workspace: None,
    };
    Ok(StepInvocation {
        identity: AttemptIdentity {
            trace: TraceId::from_uuid(id(3)),
            actor: Actor { kind: ActorKind::Agent, id: plugin.label() },
            component_sha256: Some(plugin.component_sha256),
            span: Some(SpanId::from_uuid(id(4))),
            place: Some(place),
        },
        plugin: Arc::clone(plugin),
        input: Json::of(input),
        rights: Arc::new(rights),
        budget: Arc::default(),
        access_mode: case.access_mode,
        mounts: mounts.to_vec(),
        limits,
        idempotency_key: Digest::of(case.name.as_bytes()).to_string(),
        started_at: NOW,
        wall: Duration::from_millis(limits.wall_ms),
        random_seed: SEED,
        settings: Arc::new(case.config.clone()),
        observer,
    })
}

/// Puts the handles of the case's artifacts where its input names them.
fn with_handles(value: Value, case: &Case, artifacts: &MemoryArtifacts) -> Value {
    match value {
        Value::String(text) => {
            let name = text.strip_prefix("${artifacts.").and_then(|rest| rest.strip_suffix('}'));
            match name.and_then(|name| case.artifacts.get(name)) {
                Some((media_type, content)) => {
                    serde_json::to_value(artifacts.give(media_type, content)).unwrap_or_default()
                }
                None => Value::String(text),
            }
        }
        Value::Array(items) => items.into_iter().map(|item| with_handles(item, case, artifacts)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, with_handles(value, case, artifacts))).collect()
        }
        other => other,
    }
}

/// Copies the folders of the case, so that writing hurts nothing.
fn copied(case: &Case) -> Result<(TempDir, Vec<Mount>), CliError> {
    let failed = |error: std::io::Error| {
        CliError::usage(format!("cannot copy the mounts of case `{}`", case.name)).because(&error)
    };
    let scratch = tempfile::tempdir().map_err(failed)?;
    let mut mounts = Vec::new();
    let mut left = MOST_FILES;
    for (name, source) in &case.mounts {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder).map_err(failed)?;
        if let Some(source) = source {
            copy(source, &folder, &mut left).map_err(failed)?;
        }
        let host = folder.canonicalize().map_err(failed)?;
        let metadata = fs::metadata(&host).map_err(failed)?;
        // What may be written is for the grants to say.
        mounts.push(Mount {
            name: name.clone(),
            host,
            access: MountAccess::Write,
            identity: (metadata.dev(), metadata.ino()),
        });
    }
    Ok((scratch, mounts))
}

/// Links are left out: guests could not follow them.
fn copy(from: &Path, to: &Path, left: &mut usize) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        *left = left.checked_sub(1).ok_or_else(|| std::io::Error::other(format!("more than {MOST_FILES} files")))?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target, left)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Every file in the mounts that is not what was copied there.
fn changed(case: &Case, scratch: &Path) -> Result<BTreeMap<String, Vec<u8>>, CliError> {
    let mut files = BTreeMap::new();
    for (name, source) in &case.mounts {
        let folder = scratch.join(name);
        collect(&folder, source.as_deref(), name, &mut files)
            .map_err(|error| CliError::file("read", &folder, &error))?;
    }
    Ok(files)
}

fn collect(
    folder: &Path,
    source: Option<&Path>,
    shown: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let shown = format!("{shown}/{}", entry.file_name().to_string_lossy());
        let source = source.map(|source| source.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), source.as_deref(), &shown, files)?;
            continue;
        }
        let content = fs::read(entry.path())?;
        if source.and_then(|source| fs::read(source).ok()).as_ref() != Some(&content) {
            files.insert(shown, content);
        }
    }
    Ok(())
}

/// Decisions in the words of cases; a line that comes several times in a row once.
fn decisions(recorder: &MemoryRecorder) -> Vec<String> {
    let mut lines: Vec<(String, u32)> = Vec::new();
    for event in recorder.events() {
        let EventBody::CapabilityAction(record) = event.body else { continue };
        let (capability, resource) = (&record.capability_id, &record.resource);
        let line = match (record.decision_outcome, record.reason) {
            (Outcome::Allow, _) => format!("allow {capability} {resource}"),
            (Outcome::Deny, Some(reason)) => format!("deny {capability} {resource} ({reason})"),
            (Outcome::Deny, None) => format!("deny {capability} {resource}"),
        };
        match lines.last_mut() {
            Some((last, count)) if *last == line => *count += 1,
            _ => lines.push((line, 1)),
        }
    }
    let lines = lines.into_iter();
    lines.map(|(line, count)| if count == 1 { line } else { format!("{line} x{count}") }).collect()
}
