//! One attempt of one node: its checkpoint before, what the executor is given, and its row after.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use handshake_core::budget::BudgetMeter;
use handshake_core::event::{Actor, ActorKind, AdmittedEvent};
use handshake_core::gate::{AttemptIdentity, AttemptPlace};
use handshake_core::job::AiJob;
use handshake_core::node::{Contribution, NodeError, NodeExecution, NodeKey, NodeState};
use handshake_core::recorder::RecorderError;
use handshake_core::run::FencingToken;
use handshake_core::step::{StepExecutor, StepFailure, StepInvocation, StepOutcome};
use handshake_core::workflow::Step;
use handshake_core::{Digest, Json, RunId, SpanId};

use super::prepared::StepResources;
use super::{Envelope, bounded};
use crate::engine::EngineServices;
use crate::safeguards::{CleanObserver, Words};
use crate::updates::{NodeObserver, Said, Updates};

/// One attempt, from its checkpoint on.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) node: NodeKey,
    /// From 1.
    pub(super) number: u32,
    /// How many attempts of the node have counted, this one included; one that is interrupted does not.
    pub(super) tries: u32,
    pub(super) input: Json,
    span: SpanId,
    seed: [u8; 32],
    row: Row,
    since: Duration,
    said: Arc<Said>,
}

#[derive(Debug)]
struct Row {
    run: RunId,
    plugin: handshake_core::PluginId,
    component: Digest,
    started_at: handshake_core::Timestamp,
}

/// The seed of a row that nothing was executed for.
pub(super) const NO_SEED: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Attempt {
    pub(super) fn new(
        services: &EngineServices,
        run: RunId,
        node: NodeKey,
        (number, tries): (u32, u32),
        resources: &StepResources,
        input: Json,
    ) -> Self {
        let mut seed = [0; 32];
        services.ids.random(&mut seed);
        let row = Row {
            run,
            plugin: resources.plugin.manifest.id.clone(),
            component: resources.plugin.component_sha256,
            started_at: services.clock.now(),
        };
        let span = SpanId::fresh(&*services.ids);
        let (since, said) = (services.clock.monotonic(), Arc::default());
        Self { node, number, tries, input, span, seed, row, since, said }
    }

    fn row(&self, state: NodeState) -> NodeExecution {
        NodeExecution {
            run_id: self.row.run,
            node: self.node.clone(),
            attempt: self.number,
            state,
            plugin: Some(self.row.plugin.clone()),
            component_sha256: Some(self.row.component),
            input: self.input.clone(),
            output: None,
            contribution: Contribution::default(),
            error: None,
            log: Vec::new(),
            random_seed: seed_text(&self.seed),
            started_at: self.row.started_at,
            finished_at: None,
        }
    }

    /// The checkpoint before it runs.
    pub(super) fn begin(&self, envelope: &Envelope<'_>) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
        Ok((self.row(NodeState::Running), envelope.step_span_start(self.span, &self.node, self.number)?))
    }

    /// The checkpoint after it succeeded.
    pub(super) fn completed(
        &self,
        envelope: &Envelope<'_>,
        output: Json,
        contribution: Contribution,
        measurements: BTreeMap<String, f64>,
    ) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
        let mut row = self.row(NodeState::Completed);
        row.output = Some(output);
        row.contribution = contribution;
        self.ended(envelope, row, "ok", measurements)
    }

    /// The checkpoint after it failed.
    pub(super) fn failed(
        &self,
        envelope: &Envelope<'_>,
        failure: &StepFailure,
    ) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
        let mut row = self.row(NodeState::Failed);
        row.error = Some(NodeError { kind: failure.label().to_owned(), message: bounded(failure.to_string()) });
        self.ended(envelope, row, failure.label(), Default::default())
    }

    /// The checkpoint after it was stopped.
    pub(super) fn cancelled(&self, envelope: &Envelope<'_>) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
        self.ended(envelope, self.row(NodeState::Cancelled), "cancelled", Default::default())
    }

    /// The checkpoint after it was stopped for a reason that leaves it to be executed again.
    pub(super) fn stopped(
        &self,
        envelope: &Envelope<'_>,
        why: NodeError,
    ) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
        let mut row = self.row(NodeState::Interrupted);
        let result = why.kind.clone();
        row.error = Some(why);
        self.ended(envelope, row, &result, Default::default())
    }

    fn ended(
        &self,
        envelope: &Envelope<'_>,
        mut row: NodeExecution,
        result: &str,
        metrics: BTreeMap<String, f64>,
    ) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
        let clock = &envelope.services.clock;
        row.finished_at = Some(clock.now());
        row.log = self.said.log();
        let lasted = clock.monotonic().saturating_sub(self.since);
        Ok((row, envelope.step_span_end(self.span, &self.node, result, (lasted, self.said.used()), metrics)?))
    }

    /// What the executor is given.
    pub(super) fn invocation(
        &self,
        step: &Step,
        resources: &StepResources,
        job: &AiJob,
        fence: FencingToken,
        (updates, words): (&Updates, Words),
        budget: Arc<BudgetMeter>,
    ) -> StepInvocation {
        let plugin = &resources.plugin;
        let limits = plugin.manifest.limits;
        let own = Duration::from_millis(limits.wall_ms);
        StepInvocation {
            identity: AttemptIdentity {
                trace: job.trace_id,
                actor: Actor { kind: ActorKind::Agent, id: plugin.label() },
                component_sha256: Some(plugin.component_sha256),
                span: Some(self.span),
                place: Some(AttemptPlace {
                    job: job.job_id,
                    run: self.row.run,
                    step: self.node.step.clone(),
                    index: self.node.index,
                    attempt: self.number,
                    fence,
                }),
            },
            plugin: Arc::clone(plugin),
            input: self.input.clone(),
            rights: Arc::clone(&resources.rights),
            budget,
            access_mode: job.access_mode,
            mounts: resources.mounts.clone(),
            limits,
            idempotency_key: idempotency_key(job, &self.node),
            started_at: self.row.started_at,
            wall: step.timeout.map_or(own, |timeout| timeout.0.min(own)),
            random_seed: self.seed,
            settings: Arc::clone(&resources.settings),
            observer: Arc::new(CleanObserver {
                words,
                observer: NodeObserver {
                    updates: updates.clone(),
                    run: self.row.run,
                    job: job.job_id,
                    node: self.node.clone(),
                    said: Arc::clone(&self.said),
                },
            }),
        }
    }
}

/// The same for every attempt of a node, in every run of the job: whoever is called twice with it can tell.
fn idempotency_key(job: &AiJob, node: &NodeKey) -> String {
    let index = node.index.map(u32::to_le_bytes);
    let index: &[u8] = index.as_ref().map_or(&[], |bytes| bytes.as_slice());
    Digest::of_parts(&[job.job_id.uuid().as_bytes(), node.step.as_str().as_bytes(), index]).to_string()
}

fn seed_text(seed: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    seed.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Has the executor run it. A panic of the host's own code fails the attempt, not the host. What is said of a failure
/// holds no secrets.
pub(super) async fn run(
    executor: Arc<dyn StepExecutor>,
    invocation: StepInvocation,
    words: Words,
) -> Result<StepOutcome, StepFailure> {
    let attempt = AssertUnwindSafe(async { executor.execute(invocation).await });
    let panicked = |_| Err(StepFailure::Host("the host panicked while it executed the step".into()));
    attempt.catch_unwind().await.unwrap_or_else(panicked).map_err(|failure| words.failure(failure))
}
