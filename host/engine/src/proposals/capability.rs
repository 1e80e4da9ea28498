//! The right to propose, decided again: when proposals are validated, and when they are committed (R1.11). The
//! decisions go on record in the transaction that they lead to.

use std::collections::BTreeSet;
use std::sync::Arc;

use handshake_core::capability::{
    Asking, Axis, EffectiveRights, InForce, Observed, Policy, Resource, Verdict as Decision,
};
use handshake_core::event::{
    Actor, ActorKind, AdmittedEvent, DecisionRecord, Event, EventBody, Outcome, OutcomeRecord,
};
use handshake_core::gate::AttemptPlace;
use handshake_core::job::AiJob;
use handshake_core::node::NodeKey;
use handshake_core::{Digest, EventId};

use super::gathering::Gathered;
use super::validators::{Finding, Verdict};
use crate::engine::{EngineError, EngineServices};

const VALIDATOR: &str = "capability";
/// What stands where a call of a step names its interface: nobody calls, the host looks again.
const INTERFACE: &str = "handshake:host/proposals";

/// Who proposed, with what it may do today.
pub(crate) struct Proposer {
    pub(crate) node: NodeKey,
    pub(crate) attempt: u32,
    /// Plugin id and version.
    pub(crate) label: String,
    pub(crate) component_sha256: Option<Digest>,
    /// Or why that cannot be told.
    pub(crate) rights: Result<Arc<EffectiveRights>, String>,
}

/// Why the decisions are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    Validation,
    Commit,
}

impl Occasion {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validate",
            Self::Commit => "commit",
        }
    }
}

/// Decides for every proposer and document once. What is refused is a finding; each decision is an event. What is in
/// force is held by the caller until what it decides is done.
pub(crate) fn decide(
    services: &EngineServices,
    job: &AiJob,
    gathered: &Gathered,
    occasion: Occasion,
    in_force: &InForce,
) -> Result<(Vec<Finding>, Vec<AdmittedEvent>), EngineError> {
    let (mut findings, mut events) = (Vec::new(), Vec::new());
    let mut decided = BTreeSet::new();
    for proposed in &gathered.proposed {
        let document = &proposed.proposal.document;
        let proposer = &proposed.proposer;
        if !decided.insert((&proposer.node, document)) {
            continue;
        }
        let rights = match &proposer.rights {
            Ok(rights) => rights,
            Err(why) => {
                findings.push(reject(why.clone()));
                continue;
            }
        };
        let resource = Resource::name(document.clone());
        let started = services.clock.monotonic();
        let place = AttemptPlace {
            job: job.job_id,
            run: gathered.run.run_id,
            step: proposer.node.step.clone(),
            index: proposer.node.index,
            attempt: proposer.attempt,
            fence: gathered.run.fence,
        };
        let now = services.clock.now();
        let asking = Asking { place: Some(&place), workspace: None, began: now, now };
        let decision = rights.decide_under(in_force, Axis::DocPropose, &resource, &asking);
        let lasted = services.clock.monotonic().saturating_sub(started);
        let mut record = record(job, proposer, (rights, in_force.policy()), &resource, occasion);
        record.evaluation_ns = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
        match decision {
            Decision::Allowed { rule, observed, grant } => {
                (record.rule, record.grant) = (rule, grant);
                record.would_deny = observed == Observed::WouldDeny;
            }
            Decision::Asks { denial, asked } => {
                record.decision_outcome = Outcome::Deny;
                (record.rule, record.layer, record.reason) = (Some(asked.rule), denial.layer, Some(denial.reason));
                findings.push(reject(format!("step `{}`: {denial}", proposer.node)));
            }
            Decision::Denied { denial, rule } => {
                record.decision_outcome = Outcome::Deny;
                (record.rule, record.layer, record.reason) = (rule, denial.layer, Some(denial.reason));
                findings.push(reject(format!("step `{}`: {denial}", proposer.node)));
            }
        }
        let allowed = record.decision_outcome == Outcome::Allow;
        let event = event(services, job, proposer, EventBody::CapabilityAction(Box::new(record)));
        events.push(services.recorder.admit(&event)?);
        if allowed {
            let body = EventBody::CapabilityOutcome(OutcomeRecord {
                decision: event.event_id,
                capability_id: Axis::DocPropose.name().to_owned(),
                call: 0,
                result: "ok".to_owned(),
                bytes_in: 0,
                bytes_out: 0,
                duration_us: u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX),
            });
            let mut outcome = self::event(services, job, proposer, body);
            outcome.policy_decision_id = Some(event.event_id);
            events.push(services.recorder.admit(&outcome)?);
        }
    }
    Ok((findings, events))
}

fn reject(why: String) -> Finding {
    Finding { validator: VALIDATOR.into(), verdict: Verdict::Reject, why }
}

fn record(
    job: &AiJob,
    proposer: &Proposer,
    (rights, policy): (&EffectiveRights, &Policy),
    resource: &Resource,
    occasion: Occasion,
) -> DecisionRecord {
    DecisionRecord {
        capability_id: Axis::DocPropose.name().to_owned(),
        actor_id: proposer.label.clone(),
        job_id: Some(job.job_id),
        decision_outcome: Outcome::Allow,
        index: proposer.node.index,
        attempt: proposer.attempt,
        // The step's own calls count from 1.
        call: 0,
        component_sha256: proposer.component_sha256,
        interface: INTERFACE.to_owned(),
        function: occasion.as_str().to_owned(),
        resource: super::draft::short(&resource.to_string()),
        host_path: None,
        secrets: Vec::new(),
        reason: None,
        layer: handshake_core::capability::Layer::Policy,
        rule: None,
        mode: policy.mode,
        would_deny: false,
        grant: None,
        policy_sha256: policy.digest,
        manifest_sha256: rights.manifest_sha256,
        arguments_sha256: Digest::of_parts(&[resource.to_string().as_bytes()]),
        evaluation_ns: 0,
    }
}

fn event(services: &EngineServices, job: &AiJob, proposer: &Proposer, body: EventBody) -> Event {
    let actor = Actor { kind: ActorKind::Agent, id: proposer.label.clone() };
    let mut event = Event::new(EventId::fresh(&*services.ids), job.trace_id, services.clock.now(), actor, body);
    event.job_id = Some(job.job_id);
    event.workflow_run_id = job.workflow_run_id;
    event.step_id = Some(proposer.node.step.clone());
    event.capability_id = Some(Axis::DocPropose.name().to_owned());
    event
}
