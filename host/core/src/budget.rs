//! Budgets while a job runs: what is used, what is left, and the refusal when nothing is.
//!
//! One meter is shared by all attempts of a run. The meter of a workflow that a step runs has that of its parent behind
//! it: whatever it takes is taken from both.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::workflow::{Budget, OnExceeded, Period};

/// Tokens that an answer without a bound of its own may take at least, as long as they are there.
const SMALLEST_SHARE: u64 = 1024;

/// What is budgeted, in the unit of its amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetKind {
    /// Tokens.
    Tokens,
    /// Calls.
    ModelCalls,
    /// Milliseconds.
    Wall,
    /// Attempts.
    Steps,
    /// Bytes.
    Output,
}

impl BudgetKind {
    const COUNT: usize = 5;

    /// The key in files.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::ModelCalls => "model_calls",
            Self::Wall => "wall",
            Self::Steps => "steps",
            Self::Output => "output_kb",
        }
    }
}

/// Who set a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetBy {
    Workflow,
    Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    most: u64,
    by: SetBy,
}

/// Limits of one job: the smaller of what the workflow and the operator say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    of: [Option<Limit>; BudgetKind::COUNT],
    on_exceeded: OnExceeded,
}

impl Limits {
    /// The smaller ones win; what happens then is the workflow's to say.
    pub fn of(workflow: &Budget, operator: &Budget) -> Self {
        let amounts = |budget: &Budget| {
            let wall = budget.wall.map(|wall| u64::try_from(wall.0.as_millis()).unwrap_or(u64::MAX));
            let bytes = budget.output_kb.map(|kb| kb.saturating_mul(1024));
            // In the order of the kinds.
            [budget.tokens, budget.model_calls, wall, budget.steps, bytes]
        };
        let mut of = amounts(workflow).map(|most| most.map(|most| Limit { most, by: SetBy::Workflow }));
        for (limit, most) in of.iter_mut().zip(amounts(operator)) {
            let Some(most) = most else { continue };
            if limit.is_none_or(|limit| most < limit.most) {
                *limit = Some(Limit { most, by: SetBy::Operator });
            }
        }
        Self { of, on_exceeded: workflow.on_exceeded }
    }

    fn get(&self, kind: BudgetKind) -> Option<Limit> {
        self.of[kind as usize]
    }

    /// The most of one kind, if that is limited.
    pub fn most(&self, kind: BudgetKind) -> Option<u64> {
        self.get(kind).map(|limit| limit.most)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.of.iter().all(Option::is_none)
    }
}

/// A budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub kind: BudgetKind,
    /// How much was used.
    pub used: u64,
    /// How much there was.
    pub most: u64,
    /// What happens to the job.
    pub on_exceeded: OnExceeded,
    by: SetBy,
}

impl Exceeded {
    /// The stable code that its sentence begins with (R8.6).
    pub const CODE: &'static str = "HSK-402-BUDGET-EXCEEDED";

    /// What to change.
    pub fn remedy(&self) -> String {
        let key = self.kind.key();
        match self.by {
            SetBy::Workflow => format!("raise `budget.{key}` in the workflow file, or give it less to do"),
            SetBy::Operator => format!("the operator can raise `{key}` in [budget] of handshake.toml"),
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, most) = (self.used, self.most);
        write!(f, "{}: budget `{}` is used up: ", Self::CODE, self.kind.key())?;
        let time = |ms| Period(Duration::from_millis(ms));
        match self.kind {
            BudgetKind::Tokens => write!(f, "{used} of {most} tokens"),
            BudgetKind::ModelCalls => write!(f, "{used} of {most} calls of models"),
            BudgetKind::Wall => write!(f, "{} of {}", time(used), time(most)),
            BudgetKind::Steps => write!(f, "{used} of {most} attempts of steps"),
            BudgetKind::Output => write!(f, "{} of {} KiB of results", used.div_ceil(1024), most / 1024),
        }
    }
}

/// How much was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage([u64; BudgetKind::COUNT]);

impl Usage {
    /// Adds to it.
    pub fn add(&mut self, kind: BudgetKind, amount: u64) {
        let used = &mut self.0[kind as usize];
        *used = used.saturating_add(amount);
    }

    /// How much of one kind.
    pub fn get(&self, kind: BudgetKind) -> u64 {
        self.0[kind as usize]
    }
}

/// What a call of a model is about to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An answer, with the bound that the request names.
    Answer(Option<u32>),
    /// Vectors: they have no tokens of their own.
    Vectors,
}

#[derive(Debug, Default)]
struct State {
    used: Usage,
    /// Tokens that calls under way may still use.
    reserved: u64,
    /// The last call that was refused.
    refused: Option<Exceeded>,
    /// Who waits for what is reserved; at the outermost meter only.
    waiting: Vec<Waker>,
}

/// Counts what a run uses. The default one limits nothing.
#[derive(Debug, Default)]
pub struct BudgetMeter {
    limits: Limits,
    parent: Option<Arc<BudgetMeter>>,
    // One lock for all numbers: a call is counted and its tokens are reserved together or not at all.
    state: Mutex<State>,
}

impl BudgetMeter {
    /// A meter that begins with what was used before, which those behind it have counted already.
    pub fn new(limits: Limits, used: Usage, parent: Option<Arc<Self>>) -> Self {
        Self { limits, parent, state: Mutex::new(State { used, ..State::default() }) }
    }

    /// Its own limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How much of one kind was used.
    pub fn used(&self, kind: BudgetKind) -> u64 {
        self.state().used.get(kind)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This one and those behind it, always locked in this order.
    fn chain(&self) -> Vec<(&Self, MutexGuard<'_, State>)> {
        std::iter::successors(Some(self), |meter| meter.parent.as_deref()).map(|meter| (meter, meter.state())).collect()
    }

    fn exceeded(&self, kind: BudgetKind, used: u64, would: u64) -> Option<Exceeded> {
        let Limit { most, by } = self.limits.get(kind)?;
        (would > most).then_some(Exceeded { kind, used, most, by, on_exceeded: self.limits.on_exceeded })
    }

    /// Takes some of it, unless that is more than is left anywhere.
    pub fn take(&self, kind: BudgetKind, amount: u64) -> Result<(), Exceeded> {
        let mut chain = self.chain();
        let refused = chain.iter().find_map(|(meter, state)| {
            let used = state.used.get(kind);
            meter.exceeded(kind, used, used.saturating_add(amount))
        });
        if let Some(exceeded) = refused {
            return Err(exceeded);
        }
        chain.iter_mut().for_each(|(_, state)| state.used.add(kind, amount));
        Ok(())
    }

    /// Adds what was used already; an error when that is more than there was.
    pub fn add(&self, kind: BudgetKind, amount: u64) -> Result<(), Exceeded> {
        let mut chain = self.chain();
        chain.iter_mut().for_each(|(_, state)| state.used.add(kind, amount));
        let exceeded = chain.iter().find_map(|(meter, state)| {
            let used = state.used.get(kind);
            meter.exceeded(kind, used, used)
        });
        exceeded.map_or(Ok(()), Err)
    }

    /// How long it may still take; none when that is not limited. Only of its own limit: whoever drives the run behind
    /// it watches that one's.
    pub fn wall_left(&self, lasted: Duration) -> Option<Duration> {
        let most = self.limits.get(BudgetKind::Wall)?.most;
        let used = Duration::from_millis(self.used(BudgetKind::Wall)).saturating_add(lasted);
        Some(Duration::from_millis(most).saturating_sub(used))
    }

    /// The wall time that it has taken, if that is more than it may.
    pub fn wall_exceeded(&self, lasted: Duration) -> Option<Exceeded> {
        if !self.wall_left(lasted)?.is_zero() {
            return None;
        }
        let lasted = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        let used = self.used(BudgetKind::Wall).saturating_add(lasted);
        // A timer that fires a moment early has the same to say.
        self.exceeded(BudgetKind::Wall, used, u64::MAX)
    }

    /// The last call of a model that was refused because of it or of one behind it.
    pub fn refused(&self) -> Option<Exceeded> {
        self.chain().iter().find_map(|(_, state)| state.refused)
    }

    /// Counts a call of a model and reserves tokens for it. Waits while nothing is left but what calls under way have
    /// reserved and may give back.
    pub async fn reserve(self: &Arc<Self>, ask: Ask) -> Result<Reservation, Exceeded> {
        std::future::poll_fn(|context| match self.try_reserve(ask, context.waker()) {
            Ok(Some(tokens)) => {
                Poll::Ready(Ok(Reservation { meter: Arc::clone(self), tokens, was_made: false, is_open: true }))
            }
            Ok(None) => Poll::Pending,
            Err(exceeded) => Poll::Ready(Err(exceeded)),
        })
        .await
    }

    /// How many tokens the answer may have, if that is limited; none when the caller has to wait.
    fn try_reserve(&self, ask: Ask, waker: &Waker) -> Result<Option<Option<u64>>, Exceeded> {
        let mut chain = self.chain();
        for (meter, state) in &mut chain {
            let (calls, tokens) = (state.used.get(BudgetKind::ModelCalls), state.used.get(BudgetKind::Tokens));
            let exceeded = meter.exceeded(BudgetKind::ModelCalls, calls, calls.saturating_add(1));
            // With all of them used nothing is left to ask with.
            let exceeded = exceeded.or_else(|| meter.exceeded(BudgetKind::Tokens, tokens, tokens.saturating_add(1)));
            if let Some(exceeded) = exceeded {
                state.refused = Some(exceeded);
                return Err(exceeded);
            }
        }
        let free = chain.iter().filter_map(|(meter, state)| {
            let most = meter.limits.get(BudgetKind::Tokens)?.most;
            Some(most.saturating_sub(state.used.get(BudgetKind::Tokens)).saturating_sub(state.reserved))
        });
        let tokens = match (free.min(), ask) {
            (None, _) => None,
            (Some(_), Ask::Vectors) => Some(0),
            (Some(0), Ask::Answer(_)) => {
                if let Some((_, outermost)) = chain.last_mut() {
                    outermost.waiting.push(waker.clone());
                }
                return Ok(None);
            }
            (Some(free), Ask::Answer(Some(asked))) => Some(free.min(u64::from(asked))),
            // All of it would leave nothing for those who ask at the same time.
            (Some(free), Ask::Answer(None)) => Some((free / 4).max(free.min(SMALLEST_SHARE))),
        };
        for (_, state) in &mut chain {
            state.used.add(BudgetKind::ModelCalls, 1);
            state.reserved = state.reserved.saturating_add(tokens.unwrap_or(0));
        }
        Ok(Some(tokens))
    }
}

/// A call of a model that was counted, and the tokens that are kept for it. Dropped, it gives back what was not used, and
/// the call too if it was not made.
#[derive(Debug)]
pub struct Reservation {
    meter: Arc<BudgetMeter>,
    tokens: Option<u64>,
    was_made: bool,
    is_open: bool,
}

impl Reservation {
    /// The most tokens that the answer may have: what the request asks for, lowered to what is left.
    pub fn max_tokens(&self, asked: Option<u32>) -> Option<u32> {
        let left = self.tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        match (asked, left) {
            (Some(asked), Some(left)) => Some(asked.min(left)),
            (asked, left) => asked.or(left),
        }
    }

    /// From here on the call counts, whatever becomes of it.
    pub(crate) fn make(&mut self) {
        self.was_made = true;
    }

    /// Ends it with what was really used.
    pub fn settle(mut self, tokens: u64) {
        self.make();
        self.close(tokens);
    }

    fn close(&mut self, tokens: u64) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        let mut waiting = Vec::new();
        for (_, mut state) in self.meter.chain() {
            state.used.add(BudgetKind::Tokens, tokens);
            state.reserved = state.reserved.saturating_sub(self.tokens.unwrap_or(0));
            if !self.was_made {
                let calls = &mut state.used.0[BudgetKind::ModelCalls as usize];
                *calls = calls.saturating_sub(1);
            }
            waiting.append(&mut state.waiting);
        }
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close(0);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
