//! Gates without a runtime around them.

use std::sync::Arc;

use handshake_core::capability::{
    Axis, CapabilityId, Effect, EffectiveRights, Mode, Policy, PolicyInForce, Profile, Resource, Rule, SourceRef,
};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::gate::{AttemptGate, AttemptIdentity, AttemptPlace, Call, GateServices};
use handshake_core::job::AccessMode;
use handshake_core::{Digest, PluginId, ProfileId, TraceId};

/// A policy whose rules, all of one effect, are for whole axes.
pub fn policy(effect: Effect, axes: &[Axis], name: &str) -> Policy {
    let source = SourceRef { file: name.into(), line: 1 };
    let rule = |axis: &Axis| Rule {
        effect,
        capability: CapabilityId::bare(*axis),
        plugins: Vec::new(),
        addresses: Vec::new(),
        source: source.clone(),
    };
    let rules = axes.iter().map(rule).collect();
    Policy { rules, ..Policy::empty(Mode::Enforce, Digest::of(name.as_bytes())) }
}

/// The gate of an attempt that has these axes, as far as the policy goes.
pub fn gate(policy: &PolicyInForce, axes: &[Axis], place: Option<AttemptPlace>, services: GateServices) -> AttemptGate {
    let all = || axes.iter().copied().map(CapabilityId::bare).collect();
    let rights = EffectiveRights {
        plugin: Some(PluginId::new("asker").unwrap()),
        declared: all(),
        granted: all(),
        profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: all() }),
        access_mode: AccessMode::ApplyScoped,
        policy: policy.clone(),
        manifest_sha256: Digest::ZERO,
        workspace: None,
    };
    let identity = AttemptIdentity {
        trace: TraceId::fresh(&*services.ids),
        actor: Actor { kind: ActorKind::Agent, id: "asker@0.1.0".into() },
        component_sha256: None,
        span: None,
        place,
    };
    AttemptGate::new(identity, Arc::new(rights), services)
}

/// A call that needs an axis.
pub fn call(axis: Axis) -> Call {
    let resource = Resource::name("default");
    Call { interface: "test:test/test@0.1.0", function: "test", axis, resource, arguments: Digest::ZERO }
}
