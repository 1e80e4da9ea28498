//! Doubles of the ports: a database in memory with fences and a counter, and an executor that follows a script.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::approval::{Approval, ApprovalState};
use handshake_core::artifact::ArtifactHandle;
use handshake_core::budget::Ask;
use handshake_core::capability::{
    Denial, DenialLabel, Effect, Grant, Layer, Mode, Policy, PolicyInForce, Rule, SourceRef, builtin_profiles,
};
use handshake_core::credential::{Credentials, Unusable};
use handshake_core::event::{Actor, AdmittedEvent};
use handshake_core::job::{AiJob, JobState};
use handshake_core::manifest::DeclaredCapability;
use handshake_core::mount::{Mount, MountAccess, MountError, MountResolver};
use handshake_core::node::{NodeExecution, NodeState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunState, WorkflowRun};
use handshake_core::secret::{SecretFinding, SecretScanner};
use handshake_core::step::*;
use handshake_core::storage::*;
use handshake_core::testing::{self, FixedClock, MemoryRecorder, SequentialIds};
use handshake_core::trigger::{Trigger, TriggerRef};
use handshake_core::{ApprovalId, Digest, GrantId, HostId, JobId, PluginId, RunId, Timestamp, TriggerId};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::content::OneDocument;
use crate::{Engine, EngineServices, Format, InputValue, RunSummary, Safeguards, Submission, WorkflowSource};

#[derive(Default)]
pub(super) struct Tables {
    pub(super) jobs: BTreeMap<JobId, AiJob>,
    pub(super) runs: BTreeMap<RunId, WorkflowRun>,
    pub(super) nodes: BTreeMap<(String, u32, RunId), NodeExecution>,
    pub(super) approvals: BTreeMap<ApprovalId, Approval>,
    pub(super) grants: BTreeMap<GrantId, Grant>,
    pub(super) triggers: BTreeMap<TriggerId, Trigger>,
    /// Triggers are looked at and do not advance, as when the process is lost before.
    pub(super) stuck: bool,
    pub(super) events: Vec<Value>,
    pub(super) effects: Vec<EffectNote>,
    pub(super) keys: BTreeMap<String, JobId>,
    /// What was stored after each commit, for whoever wants to keep it.
    pub(super) history: Option<Vec<Value>>,
    /// Artifacts that a run may read of another.
    pub(super) shared: Vec<(RunId, RunId, Digest)>,
    pub(super) commits: usize,
    /// When jobs were poisoned, and when attempts that hang were stopped.
    pub(super) order: Vec<String>,
    /// What time it is for looking at what is due.
    pub(super) now: Option<Timestamp>,
}

/// A database in memory.
#[derive(Default)]
pub(super) struct MemoryDatabase(pub(super) Mutex<Tables>);

impl MemoryDatabase {
    pub(super) fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    /// Another host claims the run.
    pub(super) fn take_over(&self, run: RunId) {
        self.tables().runs.get_mut(&run).unwrap().fence.0 += 1;
    }

    pub(super) fn nodes_by_text(&self) -> Vec<String> {
        self.tables().nodes.values().map(|node| format!("{} {} {}", node.node, node.attempt, node.state)).collect()
    }
}

impl Tables {
    fn write(&mut self, id: RunId, change: RunChange) {
        self.commits += 1;
        if let Some(job) = change.job {
            if job.state == JobState::Poisoned {
                self.order.push("poisoned".to_owned());
            }
            self.jobs.insert(job.job_id, job);
        }
        if let Some(run) = change.run {
            let old = &self.runs[&id];
            let run = WorkflowRun { fence: old.fence, host: old.host, ..run };
            self.runs.insert(id, run);
        }
        for node in change.nodes {
            self.nodes.insert((node.node.to_string(), node.attempt, node.run_id), node);
        }
        self.record(change.events);
    }

    /// Every write ends here.
    fn record(&mut self, events: Vec<AdmittedEvent>) {
        if let Some(history) = &mut self.history {
            history.push(serde_json::json!({
                "jobs": self.jobs.values().collect::<Vec<_>>(),
                "runs": self.runs.values().collect::<Vec<_>>(),
                "nodes": self.nodes.values().collect::<Vec<_>>(),
                "approvals": self.approvals.values().collect::<Vec<_>>(),
                "keys": self.keys,
            }));
        }
        self.events.extend(events.iter().map(|event| serde_json::from_str::<Value>(event.json()).unwrap()));
    }

    fn check(&self, id: RunId, fence: FencingToken) -> Result<(), StorageError> {
        if self.runs[&id].fence == fence {
            Ok(())
        } else {
            Err(StorageError::Conflict("the fencing token is outdated".into()))
        }
    }
}

fn not_found(what: &'static str, id: impl ToString) -> StorageError {
    StorageError::NotFound { what, id: id.to_string() }
}

#[async_trait]
impl JobStore for MemoryDatabase {
    async fn submit(
        &self,
        job: AiJob,
        run: WorkflowRun,
        key: Option<&str>,
        events: Vec<AdmittedEvent>,
    ) -> Result<Submitted, StorageError> {
        let mut tables = self.tables();
        if let Some(first) = key.and_then(|key| tables.keys.get(key)) {
            return Ok(Submitted::Existing(Box::new(tables.jobs[first].clone())));
        }
        tables.commits += 1;
        if let Some(key) = key {
            tables.keys.insert(key.to_owned(), job.job_id);
        }
        tables.jobs.insert(job.job_id, job);
        tables.runs.insert(run.run_id, run);
        tables.record(events);
        Ok(Submitted::New)
    }
    async fn begin(
        &self,
        job: AiJob,
        run: WorkflowRun,
        key: Option<&str>,
        events: Vec<AdmittedEvent>,
        change: RunChange,
    ) -> Result<Begun, StorageError> {
        let id = run.run_id;
        if let Submitted::Existing(job) = self.submit(job, run, key, events).await? {
            return Ok(Begun::Existing(job));
        }
        // One commit together.
        self.tables().commits -= 1;
        self.claim(id, change).await.map(|claim| Begun::Claimed(Box::new(claim)))
    }
    async fn job(&self, id: JobId) -> Result<AiJob, StorageError> {
        self.tables().jobs.get(&id).cloned().ok_or_else(|| not_found("job", id))
    }
    async fn transition(&self, job: AiJob, from: JobState, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        let mut tables = self.tables();
        if tables.jobs[&job.job_id].state != from {
            return Err(StorageError::Conflict("the job has moved on".into()));
        }
        tables.commits += 1;
        tables.jobs.insert(job.job_id, job);
        tables.record(events);
        Ok(())
    }
    async fn rerun(
        &self,
        job: AiJob,
        from: JobState,
        run: WorkflowRun,
        nodes: Vec<NodeExecution>,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError> {
        let mut tables = self.tables();
        if tables.jobs[&job.job_id].state != from {
            return Err(StorageError::Conflict("the job has moved on".into()));
        }
        let id = run.run_id;
        tables.runs.insert(id, run);
        tables.nodes.clear();
        tables.write(id, RunChange { job: Some(job), run: None, nodes, events });
        Ok(())
    }
    async fn pin(&self, _: JobId, _: bool, _: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        Err(StorageError::Guard("not in this double".into()))
    }
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<AiJob>, StorageError> {
        let tables = self.tables();
        let jobs = tables.jobs.values().filter(|job| filter.state.is_none_or(|state| job.state == state));
        let jobs = jobs.filter(|job| filter.parent.is_none_or(|parent| job.parent_job_id == Some(parent)));
        Ok(jobs.filter(|job| filter.after.is_none_or(|after| job.job_id > after)).cloned().collect())
    }
}

#[async_trait]
impl RunStore for MemoryDatabase {
    async fn run(&self, id: RunId) -> Result<WorkflowRun, StorageError> {
        self.tables().runs.get(&id).cloned().ok_or_else(|| not_found("run", id))
    }
    async fn runs_of(&self, job: JobId) -> Result<Vec<WorkflowRun>, StorageError> {
        Ok(self.tables().runs.values().filter(|run| run.job_id == job).cloned().collect())
    }
    async fn claim(&self, id: RunId, change: RunChange) -> Result<Claim, StorageError> {
        let mut tables = self.tables();
        if !matches!(tables.runs[&id].state, RunState::Queued | RunState::Stalled | RunState::Waiting) {
            return Err(StorageError::Conflict("the run does not wait".into()));
        }
        tables.write(id, change);
        let host = HostId::fresh(&SequentialIds::default());
        let run = tables.runs.get_mut(&id).unwrap();
        run.fence.0 += 1;
        run.host = Some(host);
        let run = run.clone();
        assert_eq!(run.state, RunState::Running);
        assert_eq!(tables.jobs[&run.job_id].state, JobState::Running);
        Ok(Claim { job: tables.jobs[&run.job_id].clone(), fence: run.fence, run })
    }
    async fn commit(&self, id: RunId, fence: FencingToken, change: RunChange) -> Result<(), StorageError> {
        let mut tables = self.tables();
        tables.check(id, fence)?;
        tables.write(id, change);
        Ok(())
    }
    async fn amend(&self, id: RunId, from: RunState, change: RunChange) -> Result<(), StorageError> {
        let mut tables = self.tables();
        if tables.runs[&id].state != from {
            return Err(StorageError::Conflict("the run has moved on".into()));
        }
        tables.write(id, change);
        Ok(())
    }
    async fn share_artifacts(&self, from: RunId, to: RunId, artifacts: Vec<Digest>) -> Result<(), StorageError> {
        self.tables().shared.extend(artifacts.into_iter().map(|id| (from, to, id)));
        Ok(())
    }
    async fn artifacts(&self, _: RunId) -> Result<Vec<ArtifactHandle>, StorageError> {
        Ok(Vec::new())
    }
    async fn heartbeat(&self, id: RunId, fence: FencingToken) -> Result<(), StorageError> {
        self.tables().check(id, fence)
    }
    async fn nodes(&self, run: RunId, _: Payloads) -> Result<Vec<NodeExecution>, StorageError> {
        Ok(self.tables().nodes.values().filter(|node| node.run_id == run).cloned().collect())
    }
    async fn logs(&self, _: RunId, _: LogQuery) -> Result<Logs, StorageError> {
        Err(StorageError::Guard("not in this double".into()))
    }
    async fn hosts(&self, _: RunId) -> Result<Vec<HostId>, StorageError> {
        Err(StorageError::Guard("not in this double".into()))
    }
    async fn effects(&self, _: RunId) -> Result<Vec<EffectNote>, StorageError> {
        Ok(self.tables().effects.clone())
    }
    async fn interrupted(&self) -> Result<Vec<WorkflowRun>, StorageError> {
        Ok(self.tables().runs.values().filter(|run| run.state == RunState::Running).cloned().collect())
    }
}

#[async_trait]
impl WorkQueue for MemoryDatabase {
    async fn claim_queued(&self, _: u32, _: Arc<dyn OnClaim>) -> Result<Vec<Claim>, StorageError> {
        Err(StorageError::Guard("not in this double".into()))
    }
    async fn expired(&self, _: u32) -> Result<Vec<WorkflowRun>, StorageError> {
        Ok(Vec::new())
    }
    async fn due(&self, _: u32) -> Result<Vec<WorkflowRun>, StorageError> {
        let tables = self.tables();
        let now = tables.now;
        let due = tables.runs.values().filter(|run| run.state == RunState::Waiting);
        Ok(due.filter(|run| run.wake_at.is_some_and(|at| Some(at) <= now)).cloned().collect())
    }
    async fn take_away(&self, id: RunId, fence: FencingToken, change: RunChange) -> Result<(), StorageError> {
        self.commit(id, fence, change).await
    }
    fn arrivals(&self) -> Box<dyn Arrivals> {
        panic!("not in this double")
    }
}

#[async_trait]
impl GrantStore for MemoryDatabase {
    async fn add_grant(&self, grant: Grant, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        let mut tables = self.tables();
        tables.grants.insert(grant.grant_id, grant);
        tables.record(events);
        Ok(())
    }
    async fn grant(&self, id: GrantId) -> Result<Grant, StorageError> {
        self.tables().grants.get(&id).cloned().ok_or_else(|| not_found("grant", id))
    }
    async fn grants(&self, filter: &GrantFilter) -> Result<Vec<Grant>, StorageError> {
        let tables = self.tables();
        let grants =
            tables.grants.values().filter(|grant| filter.page.after.is_none_or(|after| grant.grant_id > after));
        Ok(grants.cloned().collect())
    }
    async fn revoke_grant(&self, grant: Grant, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        self.add_grant(grant, events).await
    }
}

#[async_trait]
impl ApprovalStore for MemoryDatabase {
    async fn request_approval(&self, approval: Approval, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        approval.check().map_err(|error| StorageError::Validation(error.to_string()))?;
        let mut tables = self.tables();
        if tables.approvals.contains_key(&approval.approval_id) {
            return Err(StorageError::Conflict("the approval exists".into()));
        }
        tables.approvals.insert(approval.approval_id, approval);
        tables.record(events);
        Ok(())
    }
    async fn approval(&self, id: ApprovalId) -> Result<Approval, StorageError> {
        self.tables().approvals.get(&id).cloned().ok_or_else(|| not_found("approval", id))
    }
    async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>, StorageError> {
        let tables = self.tables();
        let approvals = tables.approvals.values().filter(|approval| filter.state.is_none_or(|s| approval.state == s));
        let approvals = approvals.filter(|approval| filter.job.is_none_or(|job| approval.job_id == job));
        Ok(approvals.filter(|a| filter.page.after.is_none_or(|after| a.approval_id > after)).cloned().collect())
    }
    async fn decide(&self, approval: Approval, votes: usize, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        let mut tables = self.tables();
        let stored = &tables.approvals[&approval.approval_id];
        if stored.state != ApprovalState::Pending || stored.votes.len() != votes {
            return Err(StorageError::Conflict("the approval has moved on".into()));
        }
        let run = tables.runs.get_mut(&approval.run_id).unwrap();
        if approval.decided_at.is_some() && run.state == RunState::Waiting && run.wake_at.is_some() {
            run.wake_at = approval.decided_at;
        }
        tables.approvals.insert(approval.approval_id, approval);
        tables.record(events);
        Ok(())
    }
}

#[async_trait]
impl TriggerStore for MemoryDatabase {
    async fn create_trigger(&self, trigger: Trigger, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        trigger.check().map_err(|error| StorageError::Validation(error.to_string()))?;
        let mut tables = self.tables();
        if tables.triggers.values().any(|known| known.name == trigger.name) {
            return Err(StorageError::Conflict(format!("trigger `{}` exists already", trigger.name)));
        }
        tables.triggers.insert(trigger.trigger_id, trigger);
        tables.record(events);
        Ok(())
    }
    async fn trigger(&self, which: &TriggerRef) -> Result<Trigger, StorageError> {
        let tables = self.tables();
        let found = tables.triggers.values().find(|trigger| match which {
            TriggerRef::Id(id) => trigger.trigger_id == *id,
            TriggerRef::Name(name) => trigger.name == *name,
        });
        found.cloned().ok_or_else(|| not_found("trigger", which))
    }
    async fn triggers(&self, page: &Page<TriggerId>) -> Result<Vec<Trigger>, StorageError> {
        let tables = self.tables();
        let older = tables.triggers.values().rev().filter(|t| page.after.is_none_or(|after| t.trigger_id < after));
        Ok(older.cloned().collect())
    }
    async fn due_triggers(&self, now: Timestamp, limit: u32) -> Result<Vec<Trigger>, StorageError> {
        let mut due: Vec<_> =
            self.tables().triggers.values().filter(|trigger| trigger.next_at <= now).cloned().collect();
        due.sort_by_key(|trigger| (trigger.next_at, trigger.trigger_id));
        due.truncate(limit as usize);
        Ok(due)
    }
    async fn advance_trigger(
        &self,
        trigger: Trigger,
        expected: Timestamp,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError> {
        let mut tables = self.tables();
        if tables.stuck {
            return Err(StorageError::Guard("the process is dead".into()));
        }
        let stored = tables.triggers.get_mut(&trigger.trigger_id);
        let stored = stored.ok_or_else(|| not_found("trigger", trigger.trigger_id))?;
        if stored.next_at != expected {
            return Err(StorageError::Conflict("the trigger has moved on".into()));
        }
        *stored = trigger;
        tables.record(events);
        Ok(())
    }
    async fn remove_trigger(&self, id: TriggerId, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        let mut tables = self.tables();
        tables.triggers.remove(&id).ok_or_else(|| not_found("trigger", id))?;
        tables.record(events);
        Ok(())
    }
}

/// What the executor does with one attempt.
pub(super) enum Act {
    Give(Value),
    Fail(StepFailure),
    Propose(Value, Vec<handshake_core::document::Proposal>),
    Panic,
    /// Asks a model, which uses so many tokens, and gives that number.
    Spend(u64),
    /// Never ends.
    Hang,
}

/// One attempt as the executor saw it.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) node: String,
    pub(super) step: String,
    pub(super) attempt: u32,
    pub(super) input: Value,
    pub(super) key: String,
    pub(super) seed: [u8; 32],
    pub(super) wall: Duration,
    pub(super) mounts: Vec<String>,
    pub(super) checkpointed: bool,
}

type Script = dyn Fn(&Call) -> Act + Send + Sync;

pub(super) struct ScriptedExecutor {
    script: Box<Script>,
    database: Arc<MemoryDatabase>,
    pub(super) calls: Mutex<Vec<Call>>,
    running: AtomicUsize,
    hanging: AtomicUsize,
    pub(super) most: AtomicUsize,
    pub(super) version: Mutex<&'static str>,
}

/// Those that messages name; there is `propose`, too.
pub(super) const PLUGINS: [&str; 3] = ["read-folder", "summarize", "write-report"];

#[async_trait]
impl StepExecutor for ScriptedExecutor {
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        let request: PluginRequest = uses.parse().map_err(PluginError::Host)?;
        let version = *self.version.lock().unwrap();
        if !PLUGINS.contains(&request.id.as_str()) && request.id.as_str() != "propose" {
            let known = PLUGINS.iter().map(|&id| id.to_owned()).collect();
            return Err(PluginError::Unknown { wanted: uses.to_owned(), looked_in: vec!["plugins".into()], known });
        }
        if let "tampered" | "torn" = version {
            // The manifest is the one of all plugins here, or is about to be replaced, too.
            let manifest = if version == "tampered" { "manifest" } else { "another manifest" };
            let (file, problem) = ("plugins/x.wasm".to_owned(), "its SHA-256 is another".to_owned());
            let manifest_sha256 = Digest::of(manifest.as_bytes());
            return Err(PluginError::ComponentTampered { file, problem, manifest_sha256 });
        }
        let mut plugin = (*testing::plugin(request.id, version.as_bytes())).clone();
        let declared: &[&str] = match plugin.manifest.id.as_str() {
            "propose" => &["doc.read", "doc.propose"],
            "read-folder" => &["fs.read", "artifact.write"],
            "summarize" => &["artifact.read", "model.infer", "model.embed", "secrets.use:mail"],
            _ => &["fs.write"],
        };
        let declared = declared.iter().map(|id| DeclaredCapability { id: id.parse().unwrap(), reason: "test".into() });
        plugin.manifest.capabilities = declared.collect();
        Ok(Arc::new(plugin))
    }

    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        Ok(testing::descriptor(plugin))
    }

    async fn execute(&self, invocation: StepInvocation) -> Result<StepOutcome, StepFailure> {
        let place = invocation.identity.place.clone().unwrap();
        let node = place.index.map_or(place.step.to_string(), |index| format!("{}[{index}]", place.step));
        let row = self.database.tables().nodes.get(&(node.clone(), place.attempt, place.run)).cloned();
        let call = Call {
            checkpointed: row.is_some_and(|row| row.state == NodeState::Running),
            step: place.step.to_string(),
            node,
            attempt: place.attempt,
            input: invocation.input.value(),
            key: invocation.idempotency_key.clone(),
            seed: invocation.random_seed,
            wall: invocation.wall,
            mounts: invocation.mounts.iter().map(|mount| mount.name.clone()).collect(),
        };
        self.calls.lock().unwrap().push(call.clone());
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        let act = (self.script)(&call);
        self.running.fetch_sub(1, Ordering::SeqCst);
        let outcome = |output, proposals| StepOutcome {
            output,
            measurements: BTreeMap::from([("n".to_owned(), 1.0)]),
            metrics: handshake_core::job::JobMetrics {
                duration_ms: 5,
                input_tokens: 3,
                output_tokens: 2,
                total_tokens: 5,
                ..Default::default()
            },
            proposals,
        };
        match act {
            Act::Give(output) => Ok(outcome(output, Vec::new())),
            Act::Propose(output, proposals) => Ok(outcome(output, proposals)),
            Act::Fail(failure) => Err(failure),
            Act::Spend(tokens) => match invocation.budget.reserve(Ask::Answer(None)).await {
                Ok(call) => {
                    call.settle(tokens);
                    let mut outcome = outcome(Value::from(tokens), Vec::new());
                    outcome.metrics.total_tokens = tokens;
                    Ok(outcome)
                }
                Err(_) => Err(budget_denial()),
            },
            Act::Panic => panic!("the executor has a bug"),
            Act::Hang => {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                let _hung = Hung(&self.hanging);
                let _stopped = Stopped(Arc::clone(&self.database), call.node);
                std::future::pending().await
            }
        }
    }
}

/// An attempt that hangs, until it is stopped.
struct Stopped(Arc<MemoryDatabase>, String);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.tables().order.push(format!("stopped {}", self.1));
    }
}

/// How a step fails whose call was refused for want of budget.
pub(super) fn budget_denial() -> StepFailure {
    StepFailure::Denied(Denial {
        capability: "model.infer:default".into(),
        resource: "default".into(),
        reason: DenialLabel::BudgetExceeded,
        layer: Layer::Budget,
        remedy: "spend less".into(),
    })
}

/// Resolves every folder below the base, but `secret`.
struct PlainMounts;

impl MountResolver for PlainMounts {
    fn resolve(&self, base: &Path, name: &str, path: &Path, access: MountAccess) -> Result<Mount, MountError> {
        if path.starts_with("secret") {
            return Err(MountError::NotListed { name: name.into(), path: path.into(), access: "read" });
        }
        Ok(Mount { name: name.into(), host: base.join(path), access, identity: (0, 0) })
    }
}

/// Takes every text that begins with `sk-` for a secret.
struct Scanner;

impl SecretScanner for Scanner {
    fn secrets(&self, value: &Value) -> Vec<SecretFinding> {
        let fields = value.as_object().into_iter().flatten();
        let secret = fields.filter(|(_, value)| value.as_str().is_some_and(|text| text.starts_with("sk-")));
        secret.map(|(name, _)| SecretFinding { path: name.clone(), detector: "secret_api_key" }).collect()
    }
}

/// Two models, one without its key, and a secret.
fn safeguards() -> Safeguards {
    let missing = Unusable { what: "environment variable `KEY` is not set".into(), remedy: "set it".into() };
    let models = [("default", None), ("keyless", Some(missing))];
    let credentials = Credentials {
        models: models.into_iter().map(|(name, usable)| (name.to_owned(), usable)).collect(),
        secrets: BTreeMap::from([("mail".to_owned(), None)]),
    };
    Safeguards { credentials: Some(Arc::new(credentials)), scanner: Some(Arc::new(Scanner)), ..Safeguards::default() }
}

/// An engine on doubles.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) database: Arc<MemoryDatabase>,
    pub(super) executor: Arc<ScriptedExecutor>,
    pub(super) clock: Arc<FixedClock>,
}

pub(super) fn bench(script: impl Fn(&Call) -> Act + Send + Sync + 'static) -> Bench {
    bench_with(OneDocument::default(), script)
}

/// The same with a document.
pub(super) fn bench_with(content: OneDocument, script: impl Fn(&Call) -> Act + Send + Sync + 'static) -> Bench {
    let database = Arc::new(MemoryDatabase::default());
    let executor = Arc::new(ScriptedExecutor {
        script: Box::new(script),
        database: Arc::clone(&database),
        calls: Mutex::default(),
        running: AtomicUsize::new(0),
        hanging: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        version: Mutex::new("first"),
    });
    let clock = Arc::new(FixedClock::default());
    // The one plugin whose proposals somebody allows.
    let allow = Rule {
        effect: Effect::Allow,
        capability: "doc.propose".parse().unwrap(),
        plugins: vec![PluginId::new("propose").unwrap()],
        addresses: Vec::new(),
        source: SourceRef { file: "policy.toml".into(), line: 1 },
    };
    let policy = Policy { rules: vec![allow], ..Policy::empty(Mode::Enforce, Digest::of(b"policy")) };
    let services = EngineServices {
        database: Arc::clone(&database) as _,
        content: Arc::new(content),
        recorder: Arc::new(MemoryRecorder::default()),
        executor: Arc::clone(&executor) as Arc<dyn StepExecutor>,
        mounts: Arc::new(PlainMounts),
        clock: Arc::clone(&clock) as Arc<dyn handshake_core::Clock>,
        ids: Arc::new(SequentialIds::default()),
        policy: PolicyInForce::new(policy),
        profiles: builtin_profiles().into_iter().map(Arc::new).collect(),
        settings: Arc::default(),
        lease: Duration::from_secs(30),
        max_parallel: 8,
        safeguards: safeguards(),
    };
    Bench { engine: Engine::with_heartbeat(services, Duration::from_millis(5)), database, executor, clock }
}

pub(super) fn yaml(text: &str) -> WorkflowSource {
    WorkflowSource { file: "flow.yaml".into(), text: text.into(), format: Format::Yaml }
}

pub(super) fn submission(text: &str, inputs: &[(&str, Value)]) -> Submission {
    Submission {
        source: yaml(text),
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), InputValue::Json(value.clone()))).collect(),
        base: PathBuf::from("/base"),
        idempotency_key: None,
        actor: Actor { kind: handshake_core::event::ActorKind::Human, id: "tester".into() },
    }
}

/// An attempt that never ends, until its host does.
struct Hung<'a>(&'a AtomicUsize);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Bench {
    /// Whether an attempt is under way that never ends.
    pub(super) fn hanging(&self) -> bool {
        self.executor.hanging.load(Ordering::SeqCst) > 0
    }

    pub(super) async fn run(&self, text: &str) -> RunSummary {
        self.run_with(text, &[]).await
    }

    pub(super) async fn run_with(&self, text: &str, inputs: &[(&str, Value)]) -> RunSummary {
        let submitted = self
            .engine
            .submit(submission(text, inputs))
            .await
            .unwrap_or_else(|error| panic!("{error}; {}", error.hint()));
        self.engine.execute(submitted.run_id, CancellationToken::new()).await.unwrap()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.executor.calls.lock().unwrap().clone()
    }
}
