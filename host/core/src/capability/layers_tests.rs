#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::super::PolicyInForce;
use super::super::axis::AXES;
use super::super::policy::{Effect, Mode, MountRule, Policy, Rule};
use super::*;
use crate::mount::MountAccess;
use crate::{Digest, PluginId, ProfileId};

fn set(ids: &[&str]) -> CapabilitySet {
    ids.iter().map(|id| id.parse::<CapabilityId>().unwrap()).collect()
}

fn rule(effect: Effect, capability: &str, line: u32) -> Rule {
    let source = SourceRef { file: "policy.toml".into(), line };
    Rule { effect, capability: capability.parse().unwrap(), plugins: Vec::new(), addresses: Vec::new(), source }
}

fn rights(declared: &[&str], granted: &[&str], profile: &[&str], mode: AccessMode, policy: Policy) -> EffectiveRights {
    EffectiveRights {
        plugin: Some(PluginId::new("probe").unwrap()),
        declared: set(declared),
        granted: set(granted),
        profile: Arc::new(Profile { id: ProfileId::new("p").unwrap(), capabilities: set(profile) }),
        access_mode: mode,
        policy: PolicyInForce::new(policy),
        manifest_sha256: Digest::ZERO,
        workspace: None,
    }
}

fn policy(mode: Mode, rules: Vec<Rule>) -> Policy {
    let source = SourceRef { file: "policy.toml".into(), line: 99 };
    let mounts = vec![MountRule { path: "/h".into(), access: MountAccess::Write, source }];
    Policy { mode, rules, mounts, secrets: Vec::new(), digest: Digest::ZERO }
}

fn path(mount: &str, path: &str) -> Resource {
    Resource::Path { mount: mount.into(), path: path.into(), host: "/h".into() }
}

#[test]
fn every_layer_that_refuses_is_told_with_what_would_change_it() {
    let denies =
        policy(Mode::Enforce, vec![rule(Effect::Allow, "fs.write", 3), rule(Effect::Deny, "fs.write:out/x", 9)]);
    let rights = rights(&[], &["fs.write:in"], &["fs.read"], AccessMode::AnalysisOnly, denies);
    let answers = rights.layers(Axis::FsWrite, &path("out", "x"));
    let told: Vec<_> = answers.iter().map(|answer| (answer.layer, answer.refusal.map(DenialLabel::label))).collect();
    assert_eq!(
        told,
        [
            (Layer::Registry, None),
            (Layer::Manifest, Some("not-declared")),
            (Layer::Grant, Some("not-granted")),
            (Layer::Profile, Some("not-in-profile")),
            (Layer::AccessMode, Some("access-mode")),
            (Layer::Policy, Some("operator-denied")),
        ]
    );
    assert!(answers[1..].iter().all(|answer| answer.remedy.is_some()), "{answers:?}");
    assert_eq!(answers[5].rule.as_ref().unwrap().line, 9);
}

#[test]
fn the_first_refusal_is_the_decision_for_all_rights_and_resources() {
    let none: &[&str] = &[];
    let modes = [Mode::Enforce, Mode::Observe];
    for axis in AXES {
        let name = axis.name();
        let scoped = [format!("{name}:in"), format!("{name}:default")];
        let scoped: Vec<&str> =
            scoped.iter().map(String::as_str).filter(|id| id.parse::<CapabilityId>().is_ok()).collect();
        let choices = [none, &[name], &scoped];
        for at in 0..choices.len().pow(3) * 3 * modes.len() * 3 {
            let (declared, granted, listed) = (choices[at % 3], choices[at / 3 % 3], choices[at / 9 % 3]);
            let (mode, access) = (modes[at / 27 % 2], AccessMode::ALL[at / 54 % 3]);
            let rules = match at / 162 % 3 {
                0 => vec![rule(Effect::Allow, name, 1)],
                1 => vec![rule(Effect::Ask, name, 3)],
                _ => vec![rule(Effect::Deny, name, 2)],
            };
            let rights = rights(declared, granted, listed, access, policy(mode, rules));
            let outside = Resource::OutsidePath { path: "../x".into() };
            for resource in [path("in", "a"), path("out", "a"), Resource::name("default"), Resource::Whole, outside] {
                let answers = rights.layers(*axis, &resource);
                let first = answers.iter().find(|answer| answer.refusal.is_some() && !answer.observed);
                match rights.decide(*axis, &resource) {
                    Verdict::Allowed { rule, observed, .. } => {
                        assert_eq!(first, None, "{axis} {resource:?}");
                        assert_eq!(answers[5].rule, rule);
                        assert_eq!(answers[5].observed, observed == Observed::WouldDeny);
                    }
                    Verdict::Asks { denial, asked } => {
                        assert_eq!(first.map(|answer| answer.layer), Some(Layer::Policy), "{axis} {resource:?}");
                        assert_eq!(answers[5].refusal, Some(denial.reason));
                        assert_eq!(answers[5].rule.as_ref(), Some(&asked.rule));
                    }
                    Verdict::Denied { denial, rule } => {
                        let refusing = answers.iter().find(|answer| answer.layer == denial.layer).unwrap();
                        assert_eq!(refusing.refusal, Some(denial.reason), "{axis} {resource:?}");
                        assert_eq!((&refusing.rule, refusing.remedy.as_ref()), (&rule, Some(&denial.remedy)));
                    }
                }
            }
        }
    }
}

#[test]
fn a_policy_that_only_watches_is_told_as_such() {
    let rights =
        rights(&["fs.read"], &["fs.read"], &["fs.read"], AccessMode::ApplyScoped, policy(Mode::Observe, vec![]));
    let answers = rights.layers(Axis::FsRead, &path("in", "a"));
    assert!(answers[5].observed && answers[5].refusal == Some(DenialLabel::OperatorDenied), "{answers:?}");
    assert_eq!(answers[2].by.as_ref().map(CapabilityId::as_str), Some("fs.read"));
}
