//! The loop that drives a run: what ended is taken in, what is ready is begun, and both are committed together.
//!
//! No node runs before its checkpoint is durable. A finished node, the state changes it leads to, their events and
//! the checkpoints of the nodes that it makes ready are one transaction; what finishes while a transaction is being
//! written goes into the next one together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::document::Proposal;
use handshake_core::event::{Actor, AdmittedEvent};
use handshake_core::job::{AiJob, JobEvent, JobMetrics};
use handshake_core::node::{Contribution, NodeExecution, NodeKey, NodeState};
use handshake_core::run::{FencingToken, RunEvent, RunState, WorkflowRun};
use handshake_core::step::{StepFailure, StepOutcome};
use handshake_core::storage::{Begun, Claim, RunChange, StorageError};
use handshake_core::workflow::OnExceeded;
use handshake_core::{Json, RunId, StepId};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempt, NO_SEED};
use super::budget::{self, Budget};
use super::child::{self, Parked};
use super::ending::{self, Ending};
use super::history::{History, Past};
use super::poison::Violation;
use super::prepared::{StepResources, Unprepared};
use super::progress::{Ended, Happening, Next, Progress};
use super::starting::{self, OpenStep, Opened};
use super::waiting::{Pending, WaitsOn};
use super::{Envelope, RunSummary, retry};
use crate::approvals;
use crate::control::Control;
use crate::engine::{EngineError, Inner};
use crate::proposals;
use crate::updates::RunUpdateKind;
use crate::workflow::{Frame, Plan, PlannedStep};

/// Where an item stands: position of the step, and position within `for_each`.
pub(super) type Position = (usize, usize);

/// What a task of the run came back with.
pub(super) enum Done {
    Attempt(Position, Result<StepOutcome, StepFailure>),
    /// The wait before another attempt is over.
    Waited(Position),
    /// The moment that a step sleeps until has come.
    Reached(Position),
    /// A workflow that a step runs came to an end, or to where it waits for people.
    Child(Position, Result<child::Returned, EngineError>),
}

/// Drives one run.
pub(super) struct Driver<'a> {
    pub(super) inner: &'a Arc<Inner>,
    plan: Arc<Plan>,
    /// Of the steps that run plugins, in the order of the plan's steps; none if they could not be prepared.
    resources: Option<Vec<Option<StepResources>>>,
    pub(super) run: WorkflowRun,
    pub(super) job: AiJob,
    /// At whose word it is executed.
    pub(super) by: Actor,
    pub(super) control: Control,
    inputs: Arc<Value>,
    /// What was done of it before.
    pub(super) history: History,
    pub(super) budget: Arc<Budget>,
    /// Whether it has put a question about a capability to people.
    pub(super) has_asked: bool,
    /// Attempts that did not begin because the budget of steps is used up.
    pub(super) held: Vec<Attempt>,
    /// Whether a host had begun to execute it before.
    resumed: bool,
    /// Who paused it: nothing more begins, and it waits once what runs has ended.
    paused: Option<Actor>,
    progress: Progress,
    /// Why the run fails: the first failure.
    pub(super) failure: Option<String>,
    /// Why its job is poisoned: the first violation.
    pub(super) violation: Option<Violation>,
    /// Attempts that were begun, to be stopped.
    pub(super) running: Vec<AbortHandle>,
    open: BTreeMap<usize, OpenStep>,
    /// Outputs of steps that are done and were not skipped.
    outputs: BTreeMap<StepId, Json>,
    /// Attempts that run.
    pub(super) attempts: BTreeMap<Position, Attempt>,
    /// Failed attempts that will be followed by another.
    pub(super) waiting: BTreeMap<Position, Attempt>,
    /// Nodes that wait for the world.
    pub(super) pending: BTreeMap<Position, Pending>,
    /// Fires when a question was answered in this process.
    pub(super) decided: watch::Receiver<u64>,
    proposals: BTreeMap<Position, Vec<Proposal>>,
    pub(super) tasks: JoinSet<Done>,
    since: Duration,
    /// How long it had taken before this host went on with it.
    before: Duration,
    /// What the next transaction writes.
    pub(super) change: RunChange,
    /// What begins when it is durable.
    begin: Vec<Position>,
    pub(super) begin_waits: Vec<Position>,
    waits: Vec<(Position, Duration)>,
    pub(super) news: Vec<RunUpdateKind>,
}

impl<'a> Driver<'a> {
    /// A driver for a run that waits. What could not be prepared ends a new run once it is claimed, and puts one that
    /// had begun before a person.
    pub(super) fn new(
        inner: &'a Arc<Inner>,
        plan: Arc<Plan>,
        prepared: Result<Vec<Option<StepResources>>, Unprepared>,
        (history, budget): (History, Arc<Budget>),
        (run, job): (WorkflowRun, AiJob),
        (by, control): (&Actor, &Control),
    ) -> Self {
        let needs = plan.steps.iter().map(|step| step.needs.clone()).collect();
        let progress = Progress::new(needs, plan.order.clone(), inner.services.max_parallel);
        let (resources, failure, violation) = match prepared {
            Ok(resources) => (Some(resources), None, None),
            Err(Unprepared::Changed(reason)) => (None, Some(reason), None),
            Err(Unprepared::Violated(violation)) => (None, None, Some(violation)),
        };
        let resumed = run.state != RunState::Queued;
        Self {
            inner,
            before: if resumed { history.lasted() } else { Duration::ZERO },
            has_asked: history.has_asked(),
            history,
            budget,
            held: Vec::new(),
            resumed,
            paused: None,
            resources,
            inputs: Arc::new(run.inputs.clone()),
            progress,
            failure,
            violation,
            running: Vec::new(),
            open: BTreeMap::new(),
            outputs: BTreeMap::new(),
            attempts: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pending: BTreeMap::new(),
            decided: inner.decided.subscribe(),
            proposals: BTreeMap::new(),
            tasks: JoinSet::new(),
            since: inner.services.clock.monotonic(),
            change: RunChange::default(),
            begin: Vec::new(),
            begin_waits: Vec::new(),
            waits: Vec::new(),
            news: Vec::new(),
            plan,
            run,
            job,
            by: by.clone(),
            control: control.clone(),
        }
    }

    /// Drives it, once it is claimed. The second answer says whether it may go on at once: it waits for people, and they
    /// have answered.
    pub(super) async fn drive(mut self) -> Result<(RunSummary, bool), EngineError> {
        let lost = CancellationToken::new();
        // Dropped with the driver, which ends it.
        let mut heartbeat = JoinSet::new();
        heartbeat.spawn(beat(Arc::clone(self.inner), self.run.run_id, self.run.fence, lost.clone()));
        let driven = self.until_the_end(&lost).await;
        // Whatever happened, no step outlives its run, and what a step was permitted is on record before we return.
        self.tasks.shutdown().await;
        driven?;
        let again = self.run.wake_at.is_some() && !self.control.is_leaving() && self.was_answered().await?;
        Ok((RunSummary { job: self.job, run: self.run }, again))
    }

    async fn until_the_end(&mut self, lost: &CancellationToken) -> Result<(), EngineError> {
        let control = self.control.clone();
        loop {
            if let Some(violation) = self.violation.take() {
                return self.poison(violation).await;
            }
            if let Some(by) = control.is_paused().filter(|_| self.paused.is_none()) {
                // Items that wait for another try have their failure on record; whoever goes on finds it.
                self.waiting.clear();
                self.waits.clear();
                self.paused = Some(by);
            }
            self.advance()?;
            if let Some(exceeded) = self.budget.over(self.lasted()).filter(|exceeded| self.is_to_stop(exceeded)) {
                return self.stop(exceeded).await;
            }
            if let Some(ended) = self.ended() {
                return self.finish(ended).await;
            }
            if let Some(by) = self.paused.take_if(|_| self.attempts.is_empty() && !runs_a_child(&self.pending)) {
                let (reason, wake_at) = if control.is_leaving() {
                    let reason = "its host was stopped; the next process that takes jobs goes on with it".to_owned();
                    (reason, Some(self.inner.services.clock.now()))
                } else {
                    (format!("paused by {}; `handshake jobs resume {}` goes on", by.id, self.run.job_id), None)
                };
                return self.end(Ending::AskUser { reason, by, wake_at }).await;
            }
            let begins = !self.begin_waits.is_empty();
            if !begins && let Some(Parked { reason, wake_at }) = self.parked() {
                let wake_at = Some(wake_at);
                return self.end(Ending::AskUser { reason, by: Actor::system(), wake_at }).await;
            }
            self.commit().await?;
            if begins {
                // What has just been asked may be answered already.
                continue;
            }
            let answered = self.answered();
            let over = self.budget.watch(self.lasted());
            let done = tokio::select! {
                biased;
                () = lost.cancelled() => return Err(EngineError::LostLease { run: self.run.run_id }),
                () = control.cancelled() => return self.cancel().await,
                () = control.paused(), if self.paused.is_none() => continue,
                () = over, if !self.budget.is_over() => continue,
                () = answered => {
                    self.look().await?;
                    continue;
                }
                done = self.tasks.join_next(), if !self.tasks.is_empty() || self.pending.is_empty() => done,
            };
            let Some(done) = done else {
                return Err(EngineError::Internal("nothing runs and nothing can begin".into()));
            };
            self.take(done)?;
            // What else has ended by now goes into the same transaction.
            while let Some(done) = self.tasks.try_join_next() {
                self.take(done)?;
            }
        }
    }

    /// The first transaction: run and job become running, with the checkpoints of the nodes that are ready.
    pub(super) async fn claim(&mut self) -> Result<(), EngineError> {
        let change = self.claiming()?;
        let claim = self.inner.services.database.claim(self.run.run_id, change).await?;
        self.claimed(claim).await
    }

    /// The same for a run that is stored with it. Returns the job that the key was used for before, if it was.
    pub(super) async fn begin(
        &mut self,
        key: Option<&str>,
        submitted: Vec<AdmittedEvent>,
    ) -> Result<Option<Box<AiJob>>, EngineError> {
        let (job, run) = (self.job.clone(), self.run.clone());
        let change = self.claiming()?;
        match self.inner.services.database.begin(job, run, key, submitted, change).await? {
            Begun::Claimed(claim) => self.claimed(*claim).await.map(|()| None),
            Begun::Existing(job) => Ok(Some(job)),
        }
    }

    /// What the claim changes.
    fn claiming(&mut self) -> Result<RunChange, EngineError> {
        let services = &self.inner.services;
        let now = services.clock.now();
        self.run.state = self.run.state.after(RunEvent::Claim)?;
        self.run.updated_at = now;
        self.run.wake_at = None;
        let (event, reason) = if self.resumed {
            (JobEvent::Resume, "a host goes on with it")
        } else {
            (JobEvent::Start, "a host executes it")
        };
        // What earlier attempts cost comes back with them.
        self.job.metrics = JobMetrics::default();
        let envelope = self.envelope();
        self.change.events.push(envelope.moves(&mut self.job, event, reason.to_owned(), &self.by)?);
        if !self.resumed {
            self.change.events.push(envelope.run_span_start(&self.job)?);
        }
        let steps = self.plan.order.iter().filter_map(|at| Some(self.plan.steps.get(*at)?.step.id.clone())).collect();
        self.news.push(RunUpdateKind::RunStarted { steps });
        self.advance()?;
        let mut change = std::mem::take(&mut self.change);
        change.run = Some(self.run.clone());
        change.job = Some(self.job.clone());
        Ok(change)
    }

    async fn claimed(&mut self, claim: Claim) -> Result<(), EngineError> {
        self.run = claim.run;
        self.job = claim.job;
        self.run.fence = claim.fence;
        self.committed().await
    }

    pub(super) fn envelope(&self) -> Envelope<'a> {
        Envelope {
            services: &self.inner.services,
            job: self.run.job_id,
            run: self.run.run_id,
            trace: self.run.trace_id,
        }
    }

    /// Begins whatever can begin, until there is only waiting left.
    fn advance(&mut self) -> Result<(), EngineError> {
        if self.resources.is_none() {
            return Ok(());
        }
        while let Some(next) = self.progress.next().filter(|_| self.paused.is_none() && !self.budget.is_over()) {
            match next {
                Next::Open { step } => self.open(step)?,
                Next::Start { step, item } => self.start((step, item))?,
            }
        }
        if self.progress.has_failed() {
            // No other attempts begin, so nobody needs to wait for them.
            self.waits.clear();
            for ((step, item), _) in std::mem::take(&mut self.waiting) {
                self.happened(Happening::Failed { step, item })?;
            }
        }
        Ok(())
    }

    /// Whether another attempt may begin now.
    pub(super) fn may_begin(&self) -> bool {
        self.paused.is_none() && !self.budget.is_over() && !self.progress.has_failed()
    }

    pub(super) fn happened(&mut self, happening: Happening) -> Result<(), EngineError> {
        self.progress.after(happening).map_err(|error| EngineError::Internal(error.to_string()))
    }

    pub(super) fn planned(&self, step: usize) -> Result<&PlannedStep, EngineError> {
        self.plan.steps.get(step).ok_or_else(|| EngineError::Internal("a step is missing from the plan".into()))
    }

    fn open(&mut self, step: usize) -> Result<(), EngineError> {
        let planned = self.planned(step)?;
        let id = planned.step.id.clone();
        let parallel = planned.parallel();
        let per_item = planned.for_each.is_some();
        let opened = if planned.validates && !proposals::any(self.proposals.values().flatten()) {
            Ok(Opened::Skipped)
        } else {
            starting::open(planned, &self.inputs, |id| self.outputs.get(id).cloned())
        };
        match opened {
            Ok(Opened::Skipped) => {
                self.happened(Happening::Skipped { step })?;
                let now = self.inner.services.clock.now();
                let node = NodeKey { step: id, index: None };
                if self.history.take(&node).is_none() {
                    self.change.nodes.push(skipped(self.run.run_id, node.clone(), now));
                }
                self.news.push(RunUpdateKind::NodeFinished {
                    node,
                    attempt: 1,
                    result: NodeState::Skipped,
                    error: None,
                    will_retry: false,
                });
            }
            Ok(Opened::Open(open, items)) => {
                self.happened(Happening::Opened { step, items, parallel })?;
                let count = per_item.then(|| u32::try_from(items).unwrap_or(u32::MAX));
                self.news.push(RunUpdateKind::StepPlanned { step: id, items: count });
                self.open.insert(step, open);
                self.close_if_done(step)?;
            }
            Err(reason) => {
                self.happened(Happening::Broken { step })?;
                self.failure.get_or_insert(reason);
            }
        }
        Ok(())
    }

    /// Puts a step's output together once its last item is done.
    fn close_if_done(&mut self, step: usize) -> Result<(), EngineError> {
        if self.progress.is_done(step)
            && let Some(open) = self.open.remove(&step)
        {
            let id = self.planned(step)?.step.id.clone();
            self.outputs.insert(id, open.output());
        }
        Ok(())
    }

    fn start(&mut self, position: Position) -> Result<(), EngineError> {
        let (step, item) = position;
        let planned = self.planned(step)?;
        let index = planned.for_each.is_some().then(|| u32::try_from(item).unwrap_or(u32::MAX));
        let node = NodeKey { step: planned.step.id.clone(), index };
        let past = match self.history.take(&node) {
            Some(past) if past.state == NodeState::Completed => {
                self.happened(Happening::Started { step, item })?;
                return self.done(position, past.contribution, past.output);
            }
            past => past,
        };
        let open = self.open.get(&step).ok_or_else(|| EngineError::Internal("a step was not opened".into()))?;
        let mut input = open.input(self.planned(step)?, item);
        if self.planned(step)?.validates {
            input = input.map(|with| proposals::input(self.proposals.values().flatten(), &with));
        }
        self.happened(Happening::Started { step, item })?;
        if let (Ok(input), true) = (&input, self.planned(step)?.step.plugin().is_none()) {
            return self.wait(position, node, past.as_ref(), input.clone());
        }
        match (input, past) {
            (Ok(input), None) => self.checkpoint(position, node, (1, 1), input),
            (Ok(input), Some(past)) if past.state == NodeState::Failed => self.go_on(position, node, &past, input),
            (Ok(_), Some(Past { asks: Some(row), failures, .. })) => {
                self.await_word(position, *row, failures + 1, None)
            }
            (Ok(input), Some(past)) => self.checkpoint(position, node, (past.attempt + 1, past.failures + 1), input),
            (Err(reason), _) => {
                self.failure.get_or_insert(reason);
                self.happened(Happening::Failed { step, item })
            }
        }
    }

    /// Whether any of its steps runs a workflow.
    pub(super) fn runs_workflows(&self) -> bool {
        self.plan.steps.iter().any(|planned| planned.step.workflow.is_some())
    }

    pub(super) fn resources(&self, step: usize) -> Result<&StepResources, EngineError> {
        let resources = self.resources.as_ref().and_then(|all| all.get(step)?.as_ref());
        resources.ok_or_else(|| EngineError::Internal("a step was not prepared".into()))
    }

    /// Goes on with a node whose latest attempt failed: waits for what is left until the next one, if there is one.
    fn go_on(&mut self, position: Position, node: NodeKey, past: &Past, input: Json) -> Result<(), EngineError> {
        let planned = self.planned(position.0)?;
        let wait = retry::wait_after(planned.step.retry.as_ref(), past.failures).filter(|_| past.is_retryable());
        let Some(wait) = wait else {
            let why = past.error.as_ref().map_or("it failed", |error| error.message.as_str());
            self.failure.get_or_insert(format!("step `{node}` failed: {why}"));
            return self.happened(Happening::Failed { step: position.0, item: position.1 });
        };
        let resources = self.resources(position.0)?;
        let counts = (past.attempt, past.failures);
        let attempt = Attempt::new(&self.inner.services, self.run.run_id, node, counts, resources, input);
        let waited = past.finished_at.map_or(Duration::ZERO, |ended| self.inner.services.clock.now().since(ended));
        self.waits.push((position, wait.saturating_sub(waited)));
        self.waiting.insert(position, attempt);
        Ok(())
    }

    /// Notes an attempt that begins when the next transaction is durable; its number, and how many tries it makes.
    pub(super) fn checkpoint(
        &mut self,
        position: Position,
        node: NodeKey,
        number: (u32, u32),
        input: Json,
    ) -> Result<(), EngineError> {
        let resources = self.resources(position.0)?;
        let attempt = Attempt::new(&self.inner.services, self.run.run_id, node, number, resources, input);
        if self.budget.begins().is_err() {
            self.held.push(attempt);
            return Ok(());
        }
        let (row, event) = attempt.begin(&self.envelope())?;
        self.change.nodes.push(row);
        self.change.events.push(event);
        self.news.push(RunUpdateKind::NodeStarted { node: attempt.node.clone(), attempt: attempt.number });
        self.attempts.insert(position, attempt);
        self.begin.push(position);
        Ok(())
    }

    /// Takes in what a task came back with.
    pub(super) fn take(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), EngineError> {
        match done.map_err(|error| EngineError::Internal(format!("a task of the run ended early: {error}")))? {
            Done::Attempt(position, result) => {
                let attempt = self
                    .attempts
                    .remove(&position)
                    .ok_or_else(|| EngineError::Internal("an attempt ended twice".into()))?;
                let validates = self.planned(position.0)?.validates;
                match result.and_then(|outcome| if validates { ending::verdict(outcome) } else { Ok(outcome) }) {
                    Ok(outcome) => self.completed(position, &attempt, outcome),
                    Err(failure) => self.failed(position, attempt, &failure),
                }
            }
            Done::Waited(position) => {
                // It is gone when the run failed meanwhile.
                let Some(last) = self.waiting.remove(&position) else { return Ok(()) };
                self.checkpoint(position, last.node, (last.number + 1, last.tries + 1), last.input)
            }
            Done::Reached(position) => self.moment_reached(position),
            Done::Child(position, returned) => self.child_returned(position, returned?),
        }
    }

    fn completed(&mut self, position: Position, attempt: &Attempt, outcome: StepOutcome) -> Result<(), EngineError> {
        let StepOutcome { output, measurements, mut metrics, proposals } = outcome;
        // From here on it is text: what a run holds grows with its items.
        let output = Json::of(&output);
        // The job's duration is that of its run: items that run side by side do not add up.
        metrics.duration_ms = 0;
        let contribution = Contribution { metrics, proposals };
        let (mut row, event) =
            attempt.completed(&self.envelope(), output.clone(), contribution.clone(), measurements)?;
        row.error = self.budget.gave(output.as_str().len()).as_ref().map(budget::mark);
        self.change.nodes.push(row);
        self.change.events.push(event);
        self.news.push(finished(attempt, NodeState::Completed, None, false));
        self.done(position, contribution, output)
    }

    /// An item is done, now or before.
    pub(super) fn done(
        &mut self,
        position: Position,
        contribution: Contribution,
        output: Json,
    ) -> Result<(), EngineError> {
        self.job.metrics.add(&contribution.metrics);
        if !contribution.proposals.is_empty() {
            self.proposals.insert(position, contribution.proposals);
        }
        if let Some(place) = self.open.get_mut(&position.0).and_then(|open| open.outputs.get_mut(position.1)) {
            *place = output;
        }
        self.happened(Happening::Completed { step: position.0, item: position.1 })?;
        self.close_if_done(position.0)
    }

    fn failed(&mut self, position: Position, attempt: Attempt, failure: &StepFailure) -> Result<(), EngineError> {
        match failure {
            StepFailure::Violation { .. } => return self.violated(&attempt, failure),
            StepFailure::NeedsApproval(asked) => return self.needs_approval(position, &attempt, asked),
            _ => {}
        }
        if let Some(exceeded) = self.budget.refused(failure).filter(|exceeded| exceeded.on_exceeded == OnExceeded::Ask)
        {
            // Once a person has granted more, it is tried again.
            let (row, event) = attempt.stopped(&self.envelope(), budget::mark(&exceeded))?;
            self.news.push(finished(&attempt, NodeState::Interrupted, row.error.clone(), false));
            self.change.nodes.push(row);
            self.change.events.push(event);
            return Ok(());
        }
        let (row, event) = attempt.failed(&self.envelope(), failure)?;
        let error = row.error.clone();
        self.change.nodes.push(row);
        self.change.events.push(event);
        let planned = self.planned(position.0)?;
        let may_retry = failure.is_retryable() && !self.progress.has_failed();
        let wait = retry::wait_after(planned.step.retry.as_ref(), attempt.tries).filter(|_| may_retry);
        self.news.push(finished(&attempt, NodeState::Failed, error, wait.is_some()));
        if let Some(wait) = wait {
            self.waits.push((position, wait));
            self.waiting.insert(position, attempt);
            return Ok(());
        }
        let (planned, plugin) = (self.planned(position.0)?, &self.resources(position.0)?.plugin);
        let reason = ending::failure_reason(&attempt.node, attempt.number, failure, planned, plugin);
        self.failure.get_or_insert(reason);
        self.happened(Happening::Failed { step: position.0, item: position.1 })
    }

    fn ended(&self) -> Option<Ended> {
        if self.resources.is_none() { Some(Ended::Failed) } else { self.progress.ended() }
    }

    /// Writes what changed, if anything did, and then begins what was waiting for it.
    async fn commit(&mut self) -> Result<(), EngineError> {
        let change = std::mem::take(&mut self.change);
        if !change.nodes.is_empty() || !change.events.is_empty() || change.run.is_some() || change.job.is_some() {
            let written = self.inner.services.database.commit(self.run.run_id, self.run.fence, change).await;
            written.map_err(|error| match error {
                StorageError::Conflict(_) => EngineError::LostLease { run: self.run.run_id },
                other => other.into(),
            })?;
        }
        self.committed().await
    }

    /// After a transaction: tells who watches, and lets begin what was waiting.
    async fn committed(&mut self) -> Result<(), EngineError> {
        for news in self.news.drain(..) {
            self.inner.updates.publish(self.run.run_id, self.run.job_id, news);
        }
        for position in self.begin.drain(..) {
            let step = self.plan.steps.get(position.0);
            let resources = self.resources.as_ref().and_then(|all| all.get(position.0)?.as_ref());
            let (Some(attempt), Some(planned), Some(resources)) = (self.attempts.get(&position), step, resources)
            else {
                continue;
            };
            let words = self.inner.services.words();
            let watched = (&self.inner.updates, words.clone());
            let invocation =
                attempt.invocation(&planned.step, resources, &self.job, self.run.fence, watched, self.budget.meter());
            let executor = Arc::clone(&self.inner.services.executor);
            let attempt = async move { Done::Attempt(position, attempt::run(executor, invocation, words).await) };
            self.running.retain(|attempt| !attempt.is_finished());
            self.running.push(self.tasks.spawn(attempt));
        }
        for (position, wait) in self.waits.drain(..) {
            self.tasks.spawn(async move {
                tokio::time::sleep(wait).await;
                Done::Waited(position)
            });
        }
        self.begin_to_wait().await
    }

    async fn finish(&mut self, ended: Ended) -> Result<(), EngineError> {
        self.give_up_waiting().await?;
        let ending = match (ended, self.failure.take()) {
            (Ended::Completed, None) => self.outputs_of_workflow(),
            // What it needs is not what it began with. Whether that matters is for a person to say.
            (_, Some(reason)) if self.resumed && self.resources.is_none() => {
                let reason = format!("{reason}; or cancel the job and retry it: that goes on with what there is now");
                Ending::AskUser { reason, by: Actor::system(), wake_at: None }
            }
            (_, reason) => Ending::Failed(reason.unwrap_or_else(|| "a step failed".into())),
        };
        self.end(ending).await
    }

    fn outputs_of_workflow(&mut self) -> Ending {
        let template = &self.plan.outputs;
        let frame = Frame::new(&self.inputs, |id| self.outputs.get(id).cloned(), template.expressions());
        match template.render(&frame, None) {
            Ok(outputs) => {
                let outputs = outputs.value();
                let proposals = std::mem::take(&mut self.proposals).into_values().flatten().collect();
                Ending::Completed { outputs, proposals }
            }
            Err(error) => Ending::Failed(format!(
                "every step is done, but an output has no value: {error}; correct `outputs` in the workflow file"
            )),
        }
    }

    async fn cancel(&mut self) -> Result<(), EngineError> {
        self.give_up_waiting().await?;
        self.tasks.shutdown().await;
        for attempt in std::mem::take(&mut self.attempts).values() {
            let (row, event) = attempt.cancelled(&self.envelope())?;
            self.change.nodes.push(row);
            self.change.events.push(event);
            self.news.push(finished(attempt, NodeState::Cancelled, None, false));
        }
        self.end(Ending::Cancelled).await
    }

    /// What is ready does not begin, and what failed is not tried again.
    pub(super) fn drop_what_would_begin(&mut self) {
        self.waiting.clear();
        self.waits.clear();
        self.begin.clear();
        self.begin_waits.clear();
    }

    /// How long this host has executed it.
    fn lasted(&self) -> Duration {
        self.inner.services.clock.monotonic().saturating_sub(self.since)
    }

    pub(super) async fn end(&mut self, ending: Ending) -> Result<(), EngineError> {
        self.conclude(ending).await?;
        let asks = self.has_asked || self.plan.steps.iter().any(|planned| planned.step.approval.is_some());
        if self.run.state.is_final() && asks {
            approvals::withdraw(&self.inner.services, self.run.job_id, self.run.run_id).await?;
        }
        Ok(())
    }

    /// Commits the end.
    pub(super) async fn conclude(&mut self, ending: Ending) -> Result<(), EngineError> {
        let lasted = self.before + self.lasted();
        let envelope = self.envelope();
        ending::end(&envelope, ending, &mut self.run, &mut self.job, lasted, &mut self.change)?;
        self.news.push(RunUpdateKind::RunFinished {
            state: self.job.state,
            error: self.job.error_message.clone(),
            outputs: self.job.job_outputs.clone(),
        });
        self.commit().await
    }
}

/// Whether a workflow that a step runs is at work.
pub(super) fn runs_a_child(pending: &BTreeMap<Position, Pending>) -> bool {
    pending.values().any(|pending| matches!(pending.on, WaitsOn::Child { parked: None, .. }))
}

pub(super) fn finished(
    attempt: &Attempt,
    result: NodeState,
    error: Option<handshake_core::node::NodeError>,
    will_retry: bool,
) -> RunUpdateKind {
    RunUpdateKind::NodeFinished { node: attempt.node.clone(), attempt: attempt.number, result, error, will_retry }
}

/// The row of a step whose condition was false: nothing was executed for it.
fn skipped(run_id: RunId, node: NodeKey, now: handshake_core::Timestamp) -> NodeExecution {
    NodeExecution {
        run_id,
        node,
        attempt: 1,
        state: NodeState::Skipped,
        plugin: None,
        component_sha256: None,
        input: Json::default(),
        output: None,
        contribution: Contribution::default(),
        log: Vec::new(),
        error: None,
        random_seed: NO_SEED.to_owned(),
        started_at: now,
        finished_at: Some(now),
    }
}

/// Shows that this host is alive; fires `lost` when another one has taken the run over.
async fn beat(inner: Arc<Inner>, run: RunId, fence: FencingToken, lost: CancellationToken) {
    loop {
        tokio::time::sleep(inner.heartbeat).await;
        match inner.services.database.heartbeat(run, fence).await {
            Ok(()) => {}
            Err(StorageError::Conflict(_)) => return lost.cancel(),
            // The next beat tries again; a lease that runs out meanwhile shows as a conflict.
            Err(error) => tracing::warn!(%run, %error, "the run's sign of life could not be written"),
        }
    }
}
