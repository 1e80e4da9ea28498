//! What a run may spend: how much of it was spent before, and that there is nothing left.
//!
//! Calls of models are counted at the gate, the rest by the driver. Whoever finds that a budget is used up says so to the
//! run whose budget it is; that run and those that its steps run see it, and end as its policy says.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use handshake_core::Timestamp;
use handshake_core::budget::{BudgetKind, BudgetMeter, Exceeded, Limits, Usage};
use handshake_core::capability::{Axis, DenialLabel};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::{NodeError, NodeExecution, NodeState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::WorkflowRun;
use handshake_core::step::StepFailure;
use handshake_core::storage::Payloads;
use handshake_core::workflow::{OnExceeded, Workflow};
use tokio::sync::watch;

use super::driver::{Driver, runs_a_child};
use super::ending::Ending;
use crate::approvals;
use crate::engine::{EngineError, EngineServices};
use crate::updates::RunUpdateKind;

/// What the error of an attempt is called that ended because a budget was used up. A person who lets the run go on
/// grants the budget once more: what was spent up to then does not count any more.
const MARK: &str = "budget-exceeded";
/// The longest wait before the clock is looked at again: clocks are set, and machines are suspended.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// What a run may spend.
pub(crate) struct Budget {
    meter: Arc<BudgetMeter>,
    /// What is used up, once something is.
    over: watch::Sender<Option<Exceeded>>,
    /// That of the run whose step runs this one.
    parent: Option<Arc<Self>>,
}

impl Budget {
    /// The budget of a run that is about to be executed, less what it has spent already; its attempts are given.
    pub(super) async fn of(
        services: &EngineServices,
        workflow: &Workflow,
        (run, job): (&WorkflowRun, &AiJob),
        by: &Actor,
        attempts: &[NodeExecution],
        parent: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, EngineError> {
        let own = workflow.budget.clone().unwrap_or_default();
        // The operator's bounds are for the whole of a job.
        let operator = if parent.is_some() { Default::default() } else { services.safeguards.budget.clone() };
        let limits = Limits::of(&own, &operator);
        let granted = by.kind == ActorKind::Human
            && job.state == JobState::AwaitingUser
            && job.status_reason.starts_with(Exceeded::CODE);
        let spent = if limits.is_empty() || attempts.is_empty() || granted {
            Usage::default()
        } else {
            spent(services, run, attempts).await?
        };
        let meter = BudgetMeter::new(limits, spent, parent.map(|parent| Arc::clone(&parent.meter)));
        Ok(Arc::new(Self { meter: Arc::new(meter), over: watch::Sender::new(None), parent: parent.cloned() }))
    }

    /// The meter, for the gates of attempts.
    pub(super) fn meter(&self) -> Arc<BudgetMeter> {
        Arc::clone(&self.meter)
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |budget| budget.parent.as_deref())
    }

    /// An attempt is to begin.
    pub(super) fn begins(&self) -> Result<(), Exceeded> {
        self.meter.take(BudgetKind::Steps, 1).inspect_err(|exceeded| self.exhaust(*exceeded))
    }

    /// Whether something is known to be used up.
    pub(super) fn is_over(&self) -> bool {
        self.chain().any(|budget| budget.over.borrow().is_some())
    }

    /// An attempt has given a result of so many bytes. What is used up with it, if something is.
    pub(super) fn gave(&self, bytes: usize) -> Option<Exceeded> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let exceeded = self.meter.add(BudgetKind::Output, bytes).err()?;
        self.exhaust(exceeded);
        Some(exceeded)
    }

    /// Why an attempt failed, if it did because a call was refused for want of budget. A guest can hand back any
    /// denial; what counts is that the gate has really refused one.
    pub(super) fn refused(&self, failure: &StepFailure) -> Option<Exceeded> {
        let StepFailure::Denied(denial) = failure else { return None };
        let exceeded = self.meter.refused().filter(|_| denial.reason == DenialLabel::BudgetExceeded)?;
        self.exhaust(exceeded);
        Some(exceeded)
    }

    /// Says to the run whose budget it is that there is nothing left.
    fn exhaust(&self, exceeded: Exceeded) {
        let whose = self.chain().find(|budget| budget.meter.limits().most(exceeded.kind) == Some(exceeded.most));
        whose.unwrap_or(self).over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(exceeded);
            first
        });
    }

    /// What is used up, after the run was executed for so long; its own before that of others.
    pub(super) fn over(&self, lasted: Duration) -> Option<Exceeded> {
        if let Some(exceeded) = self.meter.wall_exceeded(lasted) {
            self.exhaust(exceeded);
        }
        self.chain().find_map(|budget| *budget.over.borrow())
    }

    /// Returns when something may be used up.
    pub(super) fn watch(&self, lasted: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut ways: Vec<BoxFuture<'static, ()>> = Vec::new();
        for budget in self.chain() {
            let mut over = budget.over.subscribe();
            ways.push(Box::pin(async move {
                if over.wait_for(Option::is_some).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }));
        }
        if let Some(left) = self.meter.wall_left(lasted) {
            ways.push(Box::pin(tokio::time::sleep(left.min(LONGEST_NAP))));
        }
        async move {
            select_all(ways).await;
        }
    }
}

/// What an attempt leaves behind that ended because a budget was used up.
pub(super) fn mark(exceeded: &Exceeded) -> NodeError {
    NodeError { kind: MARK.to_owned(), message: exceeded.to_string() }
}

/// What the attempts of a run and of those that its steps run have cost, since a person has granted the budget last.
async fn spent(services: &EngineServices, run: &WorkflowRun, attempts: &[NodeExecution]) -> Result<Usage, EngineError> {
    let database = &services.database;
    let mut family = vec![(attempts.to_vec(), database.effects(run.run_id).await?)];
    for job in approvals::family(services, run.job_id).await?.into_iter().skip(1) {
        let Some(run) = job.workflow_run_id else { continue };
        family.push((database.nodes(run, Payloads::Read).await?, database.effects(run).await?));
    }
    let all = || family.iter().flat_map(|(nodes, _)| nodes);
    let marked = all().filter(|node| node.error.as_ref().is_some_and(|error| error.kind == MARK));
    let granted = marked.filter_map(|node| node.finished_at).max();
    // A retried job begins anew; what it takes over from earlier runs was begun before it.
    let counts =
        |node: &NodeExecution| node.started_at >= run.created_at && granted.is_none_or(|at| node.started_at > at);
    let mut spent = Usage::default();
    let mut times = Vec::new();
    for (nodes, effects) in &family {
        // What waits for the world costs nothing itself.
        for node in nodes.iter().filter(|node| node.plugin.is_some() && counts(node)) {
            spent.add(BudgetKind::Steps, 1);
            spent.add(BudgetKind::ModelCalls, calls(node, effects));
            spent.add(BudgetKind::Tokens, node.contribution.metrics.total_tokens);
            let bytes = node.output.as_ref().map_or(0, |output| output.as_str().len());
            spent.add(BudgetKind::Output, u64::try_from(bytes).unwrap_or(u64::MAX));
            times.push((node.started_at, node.finished_at.unwrap_or(node.started_at)));
        }
    }
    spent.add(BudgetKind::Wall, u64::try_from(covered(times).as_millis()).unwrap_or(u64::MAX));
    Ok(spent)
}

/// How many calls of models an attempt has made, as noted before each of them.
fn calls(node: &NodeExecution, effects: &[EffectNote]) -> u64 {
    let models = [Axis::ModelInfer.name(), Axis::ModelEmbed.name()];
    let own = effects.iter().filter(|effect| {
        let place = (&effect.step, effect.index, effect.attempt);
        place == (&node.node.step, node.node.index, node.attempt) && models.contains(&effect.capability.as_str())
    });
    u64::try_from(own.count()).unwrap_or(u64::MAX)
}

/// How long something was under way.
fn covered(mut times: Vec<(Timestamp, Timestamp)>) -> Duration {
    times.sort();
    let mut total = Duration::ZERO;
    let mut until: Option<Timestamp> = None;
    for (from, to) in times {
        let from = until.map_or(from, |until| until.max(from));
        total += to.since(from);
        until = Some(until.map_or(to, |until| until.max(to)));
    }
    total
}

impl Driver<'_> {
    /// Whether the run ends at once. If a person may let it go on, steps that run may end first, since they spend no more
    /// than is there: stopped, they would have to be paid for again, and of steps that run side by side none might ever
    /// come to its end. Only time goes on while they do.
    pub(super) fn is_to_stop(&self, exceeded: &Exceeded) -> bool {
        let asks = exceeded.on_exceeded == OnExceeded::Ask;
        !asks || exceeded.kind == BudgetKind::Wall || self.attempts.is_empty()
    }

    /// Ends the run because a budget is used up: running steps are stopped.
    pub(super) async fn stop(&mut self, exceeded: Exceeded) -> Result<(), EngineError> {
        let asks = exceeded.on_exceeded == OnExceeded::Ask;
        self.drop_what_would_begin();
        if asks {
            self.let_children_rest().await?;
        } else {
            self.give_up_waiting().await?;
        }
        self.tasks.shutdown().await;
        let mut attempts: Vec<_> = std::mem::take(&mut self.attempts).into_values().collect();
        if asks {
            for attempt in std::mem::take(&mut self.held) {
                // Such a row says until when the budget was used up.
                self.change.events.push(attempt.begin(&self.envelope())?.1);
                attempts.push(attempt);
            }
        }
        for attempt in &attempts {
            let envelope = self.envelope();
            let ((row, event), result) = if asks {
                (attempt.stopped(&envelope, mark(&exceeded))?, NodeState::Interrupted)
            } else {
                (attempt.cancelled(&envelope)?, NodeState::Cancelled)
            };
            self.news.push(RunUpdateKind::NodeFinished {
                node: attempt.node.clone(),
                attempt: attempt.number,
                result,
                error: row.error.clone(),
                will_retry: false,
            });
            self.change.nodes.push(row);
            self.change.events.push(event);
        }
        let remedy = exceeded.remedy();
        let ending = if asks {
            let job = approvals::root(&self.inner.services, self.job.clone()).await?.job_id;
            let reason = format!(
                "{exceeded}; `handshake jobs resume {job}` grants it once more, `handshake jobs cancel {job}` gives the \
                 job up; for the next one {remedy}"
            );
            Ending::AskUser { reason, by: Actor::system(), wake_at: None }
        } else {
            Ending::Failed(format!("{exceeded}; {remedy}"))
        };
        self.end(ending).await
    }

    /// Waits until the workflows that steps run have seen it too, and wait for the same person.
    async fn let_children_rest(&mut self) -> Result<(), EngineError> {
        while runs_a_child(&self.pending) {
            let Some(done) = self.tasks.join_next().await else { break };
            self.take(done)?;
        }
        // What these have made ready does not begin.
        self.drop_what_would_begin();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_during_which_several_attempts_ran_counts_once() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let times = vec![(at(10), at(20)), (at(0), at(5)), (at(12), at(15)), (at(18), at(30))];
        assert_eq!(covered(times), Duration::from_secs(25));
        assert_eq!(covered(Vec::new()), Duration::ZERO);
    }
}
