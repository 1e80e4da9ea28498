//! How far grants reach, and what the gate makes of them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use uuid::Uuid;

use super::*;
use crate::capability::{
    CapabilitySet, Denial, DenialLabel, Effect, EffectiveRights, Layer, Mode, Policy, PolicyInForce, Profile, Rule,
};
use crate::event::{Actor, ActorKind, DecisionRecord, EventBody, Outcome};
use crate::gate::{AttemptGate, AttemptIdentity, Call, GateServices, Permit};
use crate::job::AccessMode;
use crate::run::FencingToken;
use crate::testing::{FixedClock, MemoryRecorder, SequentialIds};
use crate::{Clock, Digest, ProfileId, TraceId};

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn place(job: u128, attempt: u32) -> AttemptPlace {
    AttemptPlace {
        job: JobId::from_uuid(id(job)),
        run: RunId::from_uuid(id(job + 100)),
        step: StepId::new("ask").unwrap(),
        index: None,
        attempt,
        fence: FencingToken(1),
    }
}

/// What somebody granted when the first attempt of job 1 asked.
fn grant(extent: Extent) -> Grant {
    let asked = place(1, 1);
    let clock = FixedClock::default();
    Grant {
        grant_id: GrantId::from_uuid(id(7)),
        plugin: PluginId::new("asker").unwrap(),
        capability: "model.infer:default".parse().unwrap(),
        terms: GrantTerms {
            extent,
            approval_id: ApprovalId::from_uuid(id(8)),
            job_id: asked.job,
            run_id: asked.run,
            step_id: asked.step,
            index: asked.index,
            attempt: asked.attempt,
            workspace: "/srv".into(),
            granted_by: "ada".into(),
            reason: None,
        },
        expires_at: match extent {
            Extent::For(period) => Some(clock.now().plus(period.0)),
            _ => None,
        },
        created_at: clock.now(),
        revoked_at: None,
        revoked_by: None,
    }
}

const DAY: Extent = Extent::For(LONGEST_PERIOD);

struct Bench {
    recorder: Arc<MemoryRecorder>,
    clock: Arc<FixedClock>,
    policy: PolicyInForce,
}

/// A policy that allows all models and asks about them.
fn bench(mode: Mode, more: &[(Effect, &str)]) -> Bench {
    let rule = |(effect, id): &(Effect, &str)| Rule {
        effect: *effect,
        capability: id.parse().unwrap(),
        plugins: Vec::new(),
        addresses: Vec::new(),
        source: SourceRef { file: "policy.toml".into(), line: 3 },
    };
    let rules = [(Effect::Allow, "model.infer"), (Effect::Ask, "model.infer")];
    let rules = rules.iter().chain(more).map(rule).collect();
    let policy = Policy { rules, ..Policy::empty(mode, Digest::ZERO) };
    Bench { recorder: Arc::default(), clock: Arc::default(), policy: PolicyInForce::new(policy) }
}

impl Bench {
    fn grants(&self, grants: &[Grant]) {
        let replaced = self.policy.grant(self.policy.generation(), grants.iter().cloned().collect());
        replaced.unwrap().is_over().now_or_never().unwrap();
    }

    fn gate(&self, place: AttemptPlace, workspace: &str) -> AttemptGate {
        let all: CapabilitySet = ["model.infer".parse().unwrap()].into_iter().collect();
        let rights = EffectiveRights {
            plugin: Some(PluginId::new("asker").unwrap()),
            declared: all.clone(),
            granted: all.clone(),
            profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: all }),
            access_mode: AccessMode::ApplyScoped,
            policy: self.policy.clone(),
            manifest_sha256: Digest::ZERO,
            workspace: Some(workspace.into()),
        };
        let identity = AttemptIdentity {
            trace: TraceId::from_uuid(id(9)),
            actor: Actor { kind: ActorKind::Agent, id: "asker@0.1.0".into() },
            component_sha256: None,
            span: None,
            place: Some(place),
        };
        let (recorder, clock) = (Arc::clone(&self.recorder), Arc::clone(&self.clock));
        AttemptGate::new(
            identity,
            Arc::new(rights),
            GateServices { recorder, clock, ids: Arc::new(SequentialIds::default()) },
        )
    }

    fn last_decision(&self) -> DecisionRecord {
        let found = self.recorder.events().into_iter().rev().find_map(|event| match event.body {
            EventBody::CapabilityAction(record) => Some(*record),
            _ => None,
        });
        found.unwrap()
    }
}

fn ask(gate: &AttemptGate, model: &str) -> Result<Permit, Denial> {
    let call = Call {
        interface: "handshake:step/models@0.1.0",
        function: "generate",
        axis: Axis::ModelInfer,
        resource: Resource::name(model),
        arguments: Digest::ZERO,
    };
    gate.permit(call).now_or_never().unwrap()
}

#[test]
fn a_rule_that_asks_beats_one_that_allows_and_the_attempt_ends_with_the_question() {
    let bench = bench(Mode::Enforce, &[]);
    let gate = bench.gate(place(1, 1), "/srv");
    let denial = ask(&gate, "default").unwrap_err();
    assert_eq!((denial.reason, denial.layer), (DenialLabel::NeedsApproval, Layer::Policy));
    let asked = gate.asked().unwrap();
    assert_eq!((asked.capability.as_str(), asked.resource.as_str()), ("model.infer:default", "default"));
    let record = bench.last_decision();
    assert_eq!((record.decision_outcome, record.reason), (Outcome::Deny, Some(DenialLabel::NeedsApproval)));
    assert_eq!(record.rule.unwrap().to_string(), "policy.toml:3");
    assert!(bench.recorder.effects().is_empty(), "the call did not happen");
}

#[test]
fn a_denial_beats_a_question_and_every_grant() {
    let bench = bench(Mode::Enforce, &[(Effect::Deny, "model.infer:default")]);
    bench.grants(&[grant(Extent::UntilRevoked)]);
    let gate = bench.gate(place(1, 2), "/srv");
    assert_eq!(ask(&gate, "default").unwrap_err().reason, DenialLabel::OperatorDenied);
    assert!(gate.asked().is_none());
}

#[test]
fn watching_answers_no_questions() {
    let bench = bench(Mode::Observe, &[]);
    let gate = bench.gate(place(1, 1), "/srv");
    assert_eq!(ask(&gate, "default").unwrap_err().reason, DenialLabel::NeedsApproval);
    assert!(gate.asked().is_some());
}

#[test]
fn each_extent_reaches_as_far_as_it_says() {
    let bench = bench(Mode::Enforce, &[]);
    for (extent, reaches) in [
        // The next attempt, a later one, another job in the same folder, one elsewhere.
        (Extent::Once, [true, false, false, false]),
        (Extent::Job, [true, true, false, false]),
        (DAY, [true, true, true, false]),
        (Extent::UntilRevoked, [true, true, true, true]),
    ] {
        bench.grants(&[grant(extent)]);
        let gates = [(place(1, 2), "/srv"), (place(1, 3), "/srv"), (place(2, 1), "/srv"), (place(2, 1), "/elsewhere")];
        let found = gates.map(|(place, workspace)| ask(&bench.gate(place, workspace), "default").is_ok());
        assert_eq!(found, reaches, "{extent:?}");
        // For a model it is about that model.
        assert!(ask(&bench.gate(place(1, 2), "/srv"), "other").is_err(), "{extent:?}");
    }
    let record = bench.recorder.events().into_iter().find_map(|event| match event.body {
        EventBody::CapabilityAction(record) if record.decision_outcome == Outcome::Allow => Some(record),
        _ => None,
    });
    let record = record.unwrap();
    assert_eq!((record.grant, record.rule.unwrap().line), (Some(GrantId::from_uuid(id(7))), 3));
}

#[test]
fn a_grant_for_a_while_ends_by_the_clock() {
    let bench = bench(Mode::Enforce, &[]);
    bench.grants(&[grant(DAY)]);
    let gate = bench.gate(place(1, 2), "/srv");
    assert!(ask(&gate, "default").is_ok());
    bench.clock.advance(LONGEST_PERIOD.0 - Duration::from_micros(1));
    assert!(ask(&gate, "default").is_ok());
    bench.clock.advance(Duration::from_micros(1));
    assert_eq!(ask(&gate, "default").unwrap_err().reason, DenialLabel::NeedsApproval);
}

#[test]
fn an_attempt_under_way_is_told_that_a_grant_was_taken_back_and_a_later_one_asks() {
    let bench = bench(Mode::Enforce, &[]);
    bench.grants(&[grant(Extent::UntilRevoked)]);
    let gate = bench.gate(place(1, 2), "/srv");
    assert!(ask(&gate, "default").is_ok());
    bench.clock.advance(Duration::from_secs(1));
    let revoked =
        Grant { revoked_at: Some(bench.clock.now()), revoked_by: Some("bob".into()), ..grant(Extent::UntilRevoked) };
    bench.grants(&[revoked]);
    assert_eq!(ask(&gate, "default").unwrap_err().reason, DenialLabel::Revoked);
    assert!(gate.asked().is_none());
    bench.clock.advance(Duration::from_secs(1));
    let later = bench.gate(place(1, 3), "/srv");
    assert_eq!(ask(&later, "default").unwrap_err().reason, DenialLabel::NeedsApproval);
}

#[test]
fn a_name_that_no_id_can_say_is_denied_and_not_asked_for_as_everything() {
    let bench = bench(Mode::Enforce, &[]);
    let gate = bench.gate(place(1, 1), "/srv");
    for name in ["*", "a b", "", &"x".repeat(200)] {
        assert_eq!(ask(&gate, name).unwrap_err().reason, DenialLabel::OperatorDenied, "{name}");
    }
    assert!(gate.asked().is_none());
}

#[test]
fn grants_that_were_read_before_others_came_into_force_do_not_replace_them() {
    let bench = bench(Mode::Enforce, &[]);
    let read = bench.policy.generation();
    bench.grants(&[]);
    assert!(bench.policy.grant(read, [grant(Extent::UntilRevoked)].into_iter().collect()).is_none());
    assert_eq!(ask(&bench.gate(place(1, 1), "/srv"), "default").unwrap_err().reason, DenialLabel::NeedsApproval);
}

#[test]
fn what_is_asked_for_is_no_wider_than_the_rule() {
    let bench = bench(Mode::Enforce, &[]);
    let source = SourceRef { file: "policy.toml".into(), line: 1 };
    let rule = Rule {
        effect: Effect::Ask,
        capability: "model.infer:default".parse().unwrap(),
        plugins: vec![],
        addresses: vec![],
        source,
    };
    let policy = Policy { rules: vec![rule], ..bench.policy.current().policy().clone() };
    bench.policy.replace(policy).is_over().now_or_never().unwrap();
    let gate = bench.gate(place(1, 1), "/srv");
    assert!(ask(&gate, "default").is_err());
    assert_eq!(gate.asked().unwrap().capability.as_str(), "model.infer:default");
    assert_eq!(ask(&gate, "other").unwrap_err().reason, DenialLabel::OperatorDenied, "no rule mentions it");
}
