//! Steps that wait for the world: for people, for a moment, or for the workflow that they run.
//!
//! Such a node is written once when it begins and once when it is over. In between it is `waiting`, which a lost host
//! changes nothing about: what it waits for follows from its row and from the run, so whoever goes on waits for the
//! same. It takes no place among those that work.

use std::collections::BTreeMap;
use std::time::Duration;

use handshake_core::approval::{Approval, ApprovalState, Vote};
use handshake_core::event::{Actor, AdmittedEvent};
use handshake_core::node::{Contribution, NodeError, NodeExecution, NodeKey, NodeState};
use handshake_core::recorder::RecorderError;
use handshake_core::workflow::{Action, ApprovalSpec, OnExpiry};
use handshake_core::{ApprovalId, Digest, Json, RunId, SpanId, Timestamp};
use serde_json::{Value, json};

use super::Envelope;
use super::attempt::NO_SEED;
use super::child;
use super::driver::{Done, Driver, Position};
use super::history::Past;
use super::permission::Permission;
use super::progress::Happening;
use crate::approvals;
use crate::control::{self, Control};
use crate::engine::EngineError;
use crate::updates::RunUpdateKind;
use crate::workflow::{moment, sleep};

/// How long a timer sleeps at most before it looks at the clock again: a machine that was suspended, or a clock that
/// was set, must not make it late by more.
const LONGEST_NAP: Duration = Duration::from_secs(60);
/// How often a run that has other things to do looks for answers that another host has taken.
const LOOK: Duration = Duration::from_secs(10);

/// A node that waits.
pub(super) struct Pending {
    pub(super) node: NodeKey,
    pub(super) attempt: u32,
    pub(super) input: Json,
    pub(super) started_at: Timestamp,
    pub(super) on: WaitsOn,
}

/// What it waits for.
pub(super) enum WaitsOn {
    People {
        approval: ApprovalId,
        expires_at: Option<Timestamp>,
        on_expiry: OnExpiry,
    },
    /// A person's word about a capability.
    Permission(Box<Permission>),
    Moment(Timestamp),
    /// The run of another workflow; `parked` once that waits for people and nothing else.
    Child {
        control: Control,
        parked: Option<child::Parked>,
    },
}

impl Pending {
    fn row(&self, run_id: RunId, state: NodeState) -> NodeExecution {
        NodeExecution {
            run_id,
            node: self.node.clone(),
            attempt: self.attempt,
            state,
            plugin: None,
            component_sha256: None,
            input: self.input.clone(),
            output: None,
            contribution: Contribution::default(),
            log: Vec::new(),
            error: None,
            random_seed: NO_SEED.to_owned(),
            started_at: self.started_at,
            finished_at: None,
        }
    }

    /// Whether its row is as it stays: an attempt that has asked is over.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.on, WaitsOn::Permission(_))
    }

    /// The same for whoever goes on with the run.
    fn span(&self, run: RunId) -> SpanId {
        SpanId::from_uuid(named(run, &self.node, "span").uuid())
    }

    /// The row and event of its end.
    pub(super) fn ended(
        &self,
        envelope: &Envelope<'_>,
        state: NodeState,
        result: &str,
    ) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
        ended(envelope, self.row(envelope.run, state), result)
    }
}

/// The row of a node that nobody waits for any more, and its event.
pub(crate) fn given_up(
    envelope: &Envelope<'_>,
    row: NodeExecution,
) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
    ended(envelope, NodeExecution { state: NodeState::Cancelled, ..row }, "cancelled")
}

fn ended(
    envelope: &Envelope<'_>,
    mut row: NodeExecution,
    result: &str,
) -> Result<(NodeExecution, AdmittedEvent), RecorderError> {
    let now = envelope.services.clock.now();
    row.finished_at = Some(now);
    let span = SpanId::from_uuid(named(row.run_id, &row.node, "span").uuid());
    let event = envelope.step_span_end(span, &row.node, result, (now.since(row.started_at), None), BTreeMap::new())?;
    Ok((row, event))
}

/// What belongs to a node of a run for one purpose, whoever asks for it.
pub(super) fn named(run: RunId, node: &NodeKey, purpose: &str) -> Digest {
    let index = node.index.map_or_else(Vec::new, |index| index.to_le_bytes().to_vec());
    Digest::of_parts(&[run.uuid().as_bytes(), node.step.as_str().as_bytes(), &index, purpose.as_bytes()])
}

/// When a moment is reached.
async fn reached(clock: std::sync::Arc<dyn handshake_core::Clock>, moment: Timestamp) {
    loop {
        let left = moment.since(clock.now());
        tokio::time::sleep(left.min(LONGEST_NAP)).await;
        if left <= LONGEST_NAP {
            return;
        }
    }
}

impl Driver<'_> {
    /// Lets a node wait that does not run a plugin; from where it was, if it waited before.
    pub(super) fn wait(
        &mut self,
        position: Position,
        node: NodeKey,
        past: Option<&Past>,
        input: Json,
    ) -> Result<(), EngineError> {
        let waited = past.filter(|past| past.state == NodeState::Waiting);
        let attempt = waited.map_or_else(|| past.map_or(1, |past| past.attempt + 1), |past| past.attempt);
        let started_at = waited.map_or_else(|| self.inner.services.clock.now(), |past| past.started_at);
        let value = input.value();
        let told = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let planned = self.planned(position.0)?;
        let mut news = RunUpdateKind::NodeWaits { node: node.clone(), on: String::new(), until: None };
        let RunUpdateKind::NodeWaits { on: words, until, .. } = &mut news else { return Ok(()) };
        let on = match planned.step.actions().first() {
            Some(Action::Approval(spec)) => {
                let expires_at = spec.expires.map(|expires| started_at.plus(expires.0));
                *words = asks(spec, &told("prompt"));
                *until = expires_at;
                Ok(WaitsOn::People {
                    approval: ApprovalId::from_uuid(named(self.run.run_id, &node, "approval").uuid()),
                    expires_at,
                    on_expiry: spec.on_expiry,
                })
            }
            Some(Action::Sleep(_)) => sleep(&told("sleep")).map(|wait| WaitsOn::Moment(started_at.plus(wait))),
            Some(Action::SleepUntil(_)) => moment(&told("sleep_until")).map(WaitsOn::Moment),
            Some(Action::Workflow(name)) => {
                *words = format!("workflow `{name}`");
                Ok(WaitsOn::Child { control: self.control.child(), parked: None })
            }
            Some(Action::Plugin(_)) | None => Err("the step does not wait".to_owned()),
        };
        let on = match on {
            Ok(on) => on,
            Err(problem) => {
                self.failure.get_or_insert(format!("step `{node}`: {problem}; correct it in the workflow file"));
                return self.happened(Happening::Failed { step: position.0, item: position.1 });
            }
        };
        if let WaitsOn::Moment(moment) = &on {
            *until = Some(*moment);
        }
        let pending = Pending { node, attempt, input, started_at, on };
        if waited.is_none() {
            let span = pending.span(self.run.run_id);
            self.change.nodes.push(pending.row(self.run.run_id, NodeState::Waiting));
            self.change.events.push(self.envelope().step_span_start(span, &pending.node, attempt)?);
        }
        self.news.push(news);
        self.happened(Happening::Rested { step: position.0, item: position.1 })?;
        self.pending.insert(position, pending);
        self.begin_waits.push(position);
        Ok(())
    }

    /// Begins to wait, now that this is durable.
    pub(super) async fn begin_to_wait(&mut self) -> Result<(), EngineError> {
        for position in std::mem::take(&mut self.begin_waits) {
            let Some(pending) = self.pending.get(&position) else { continue };
            match &pending.on {
                WaitsOn::People { approval, expires_at, .. } => {
                    let (approval, expires_at) = (*approval, *expires_at);
                    self.ask(position, approval, expires_at).await?;
                }
                WaitsOn::Permission(_) => self.ask_for_permission(position).await?,
                WaitsOn::Moment(moment) => {
                    let (clock, moment) = (std::sync::Arc::clone(&self.inner.services.clock), *moment);
                    self.tasks.spawn(async move {
                        reached(clock, moment).await;
                        Done::Reached(position)
                    });
                }
                WaitsOn::Child { control, .. } => {
                    let Some(name) = self.planned(position.0)?.step.workflow.clone() else { continue };
                    let errand = child::Errand {
                        inner: std::sync::Arc::clone(self.inner),
                        workflow: name,
                        with: pending.input.clone(),
                        node: pending.node.clone(),
                        parent: self.run.clone(),
                        job: self.job.clone(),
                        by: self.by.clone(),
                        control: control.clone(),
                        budget: std::sync::Arc::clone(&self.budget),
                    };
                    self.tasks.spawn(async move { Done::Child(position, errand.run().await) });
                }
            }
        }
        Ok(())
    }

    /// Puts the question to people, unless an earlier process of the run has done so.
    async fn ask(
        &mut self,
        position: Position,
        approval_id: ApprovalId,
        expires_at: Option<Timestamp>,
    ) -> Result<(), EngineError> {
        let Some(pending) = self.pending.get(&position) else { return Ok(()) };
        let Some(spec) = self.planned(position.0)?.step.approval.clone() else { return Ok(()) };
        let prompt = pending.input.value().get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned();
        let approval = Approval {
            approval_id,
            job_id: self.run.job_id,
            run_id: self.run.run_id,
            step_id: pending.node.step.clone(),
            index: pending.node.index,
            state: ApprovalState::Pending,
            prompt,
            approvers: spec.by,
            quorum: spec.quorum.unwrap_or(1),
            votes: Vec::new(),
            expires_at,
            permission: None,
            created_at: pending.started_at,
            decided_at: None,
        };
        approvals::request(&self.inner.services, self.envelope(), approval).await?;
        self.look_at(position).await
    }

    /// Returns when people may have answered, or the time of a question is over.
    pub(super) fn answered(&self) -> impl Future<Output = ()> + use<> {
        let asks = self.pending.values().filter_map(|pending| match &pending.on {
            WaitsOn::People { expires_at, .. } => Some(*expires_at),
            WaitsOn::Permission(_) => Some(None),
            _ => None,
        });
        let now = self.inner.services.clock.now();
        let look = asks.map(|expires| expires.map_or(LOOK, |at| at.since(now).min(LOOK))).min();
        let mut decided = self.decided.clone();
        async move {
            let Some(look) = look else { return std::future::pending().await };
            tokio::select! {
                // The sender lives as long as the engine.
                _ = decided.changed() => {}
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// Looks at every question that is open.
    pub(super) async fn look(&mut self) -> Result<(), EngineError> {
        self.decided.mark_unchanged();
        for position in self.pending.keys().copied().collect::<Vec<_>>() {
            self.look_at(position).await?;
            self.look_for_permission(position).await?;
        }
        Ok(())
    }

    /// Whether people have answered what the run has come to wait for: somebody who was faster than its end to say so
    /// could not know that it has to be woken.
    pub(super) async fn was_answered(&self) -> Result<bool, EngineError> {
        for pending in self.pending.values() {
            let approval = match &pending.on {
                WaitsOn::People { approval, .. } => *approval,
                WaitsOn::Permission(permission) => permission.approval,
                WaitsOn::Moment(_) | WaitsOn::Child { .. } => continue,
            };
            if approvals::current(&self.inner.services, approval).await?.state != ApprovalState::Pending {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn look_at(&mut self, position: Position) -> Result<(), EngineError> {
        let Some(Pending { on: WaitsOn::People { approval, on_expiry, .. }, .. }) = self.pending.get(&position) else {
            return Ok(());
        };
        let (id, on_expiry) = (*approval, *on_expiry);
        let found = approvals::current(&self.inner.services, id).await?;
        match (found.state, on_expiry) {
            (ApprovalState::Pending, _) => Ok(()),
            (ApprovalState::Approved, _) | (ApprovalState::Expired, OnExpiry::Approve) => {
                self.waited(position, Contribution::default(), answer(&found))
            }
            (ApprovalState::Rejected | ApprovalState::Expired | ApprovalState::Cancelled, _) => {
                let error = NodeError { kind: found.state.to_string(), message: refusal(&found) };
                self.wait_failed(position, error)
            }
        }
    }

    /// The time has come.
    pub(super) fn moment_reached(&mut self, position: Position) -> Result<(), EngineError> {
        let Some(Pending { on: WaitsOn::Moment(moment), .. }) = self.pending.get(&position) else { return Ok(()) };
        let output = json!({ "until": moment });
        self.waited(position, Contribution::default(), output)
    }

    /// A workflow that a step runs has come to an end, or to where it waits for people.
    pub(super) fn child_returned(&mut self, position: Position, returned: child::Returned) -> Result<(), EngineError> {
        match returned {
            child::Returned::Done { contribution, outputs } => self.waited(position, contribution, outputs),
            child::Returned::Parked(how) => {
                if let Some(Pending { on: WaitsOn::Child { parked, .. }, .. }) = self.pending.get_mut(&position) {
                    *parked = Some(how);
                }
                Ok(())
            }
            child::Returned::Failed(error) => self.wait_failed(position, error),
            child::Returned::Violated(why) => self.child_is_poisoned(position, why),
        }
    }

    fn waited(&mut self, position: Position, contribution: Contribution, output: Value) -> Result<(), EngineError> {
        let Some(pending) = self.pending.remove(&position) else { return Ok(()) };
        let output = Json::of(&output);
        let (mut row, event) = pending.ended(&self.envelope(), NodeState::Completed, "ok")?;
        row.output = Some(output.clone());
        row.contribution = contribution.clone();
        self.over(row, event, None);
        self.done(position, contribution, output)
    }

    fn wait_failed(&mut self, position: Position, error: NodeError) -> Result<(), EngineError> {
        let Some(pending) = self.pending.remove(&position) else { return Ok(()) };
        let (mut row, event) = pending.ended(&self.envelope(), NodeState::Failed, &error.kind)?;
        let error = NodeError { message: self.inner.services.words().message(error.message), ..error };
        self.failure.get_or_insert(format!("step `{}`: {}", pending.node, error.message));
        row.error = Some(error.clone());
        self.over(row, event, Some(error));
        self.happened(Happening::Failed { step: position.0, item: position.1 })
    }

    pub(super) fn over(&mut self, row: NodeExecution, event: AdmittedEvent, error: Option<NodeError>) {
        self.news.push(RunUpdateKind::NodeFinished {
            node: row.node.clone(),
            attempt: row.attempt,
            result: row.state,
            error,
            will_retry: false,
        });
        self.change.nodes.push(row);
        self.change.events.push(event);
    }

    /// Has the workflows that are at work here end as cancelled, by their own drivers, and waits for that.
    pub(super) async fn stop_children(&mut self) {
        let mut children = 0;
        for pending in self.pending.values() {
            if let WaitsOn::Child { control, parked: None } = &pending.on {
                control.cancel();
                children += 1;
            }
        }
        while children > 0 {
            match self.tasks.join_next().await {
                Some(Ok(Done::Child(..))) => children -= 1,
                // It may have been a child's, which then has no end to wait for; an attempt that was aborted is none.
                Some(Err(error)) if error.is_panic() => children -= 1,
                Some(_) => {}
                None => break,
            }
        }
    }

    /// Gives up whatever still waits; what a step runs ends as cancelled, and is waited for.
    pub(super) async fn give_up_waiting(&mut self) -> Result<(), EngineError> {
        self.stop_children().await;
        if self.runs_workflows() {
            // Those that wait for people are executed by nobody who could be told.
            control::cancel_parts(&self.inner.services, self.run.job_id, &Actor::system()).await?;
        }
        for (_, pending) in std::mem::take(&mut self.pending) {
            if pending.has_ended() {
                continue;
            }
            let (row, event) = pending.ended(&self.envelope(), NodeState::Cancelled, "cancelled")?;
            self.over(row, event, None);
        }
        // What an earlier process was waiting for, and this one never came to.
        for row in self.history.take_waiting() {
            let (row, event) = given_up(&self.envelope(), row)?;
            self.over(row, event, None);
        }
        Ok(())
    }

    /// When nothing is left but waiting for people: what for, and when the run goes on by itself.
    pub(super) fn parked(&self) -> Option<child::Parked> {
        if self.pending.is_empty() || !self.attempts.is_empty() || !self.waiting.is_empty() {
            return None;
        }
        let mut asks = Vec::new();
        let mut wake = Timestamp::NEVER;
        for pending in self.pending.values() {
            match &pending.on {
                WaitsOn::People { expires_at, .. } => {
                    let prompt = pending.input.value();
                    let prompt = prompt.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned();
                    asks.push(if prompt.is_empty() {
                        format!("step `{}` waits for approval", pending.node)
                    } else {
                        format!("step `{}` waits for approval: {prompt}", pending.node)
                    });
                    wake = wake.min(expires_at.unwrap_or(wake));
                }
                WaitsOn::Permission(permission) => {
                    asks.push(format!("step `{}`: {}", pending.node, permission.words()));
                }
                WaitsOn::Child { parked: Some(parked), .. } => {
                    asks.push(parked.reason.clone());
                    wake = wake.min(parked.wake_at);
                }
                WaitsOn::Moment(_) | WaitsOn::Child { parked: None, .. } => return None,
            }
        }
        let reason = match asks.as_slice() {
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
            [] => return None,
        };
        Some(child::Parked { reason, wake_at: wake })
    }
}

fn asks(spec: &ApprovalSpec, prompt: &str) -> String {
    let whom =
        if spec.by.is_empty() { "anybody".to_owned() } else { spec.by.iter().cloned().collect::<Vec<_>>().join(", ") };
    let colon = if prompt.is_empty() { "" } else { ": " };
    format!("approval by {whom}{colon}{prompt}")
}

fn answer(approval: &Approval) -> Value {
    json!({
        "approved": true,
        "expired": approval.state == ApprovalState::Expired,
        "votes": approval.votes,
    })
}

pub(super) fn refusal(approval: &Approval) -> String {
    let no: Option<&Vote> = approval.votes.iter().find(|vote| !vote.approve);
    match (approval.state, no) {
        (ApprovalState::Expired, _) => "nobody answered in time".to_owned(),
        (_, Some(Vote { who, reason: Some(reason), .. })) => format!("rejected by {who}: {reason}"),
        (_, Some(Vote { who, .. })) => format!("rejected by {who}"),
        (state, None) => format!("the approval is {state}"),
    }
}
