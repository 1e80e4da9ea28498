//! Recorded decisions, decided again under another policy.
//!
//! Only the policy is exchanged. What manifest, grant, profile or access mode refused stays refused whatever the policy
//! says; what a budget or the recorder refused was not carried out, and is not carried out under a policy that allows it
//! either. So only what the policy itself has decided can flip.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::decision::{DenialLabel, Layer, Said, narrowest, said};
use super::index::RuleIndex;
use super::policy::{Policy, SourceRef};
use super::resource::Resource;
use crate::PluginId;
use crate::event::Outcome;

/// Examples that each group of flips keeps.
const EXAMPLES: usize = 3;

/// Recorded calls that say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedCalls {
    /// The actor: of plugins id and version.
    pub actor: String,
    /// The plugin, if one asked.
    pub plugin: Option<PluginId>,
    /// The capability.
    pub capability: String,
    /// The resource as the record shows it.
    pub resource: String,
    /// The layer that decided.
    pub layer: String,
    /// How.
    pub outcome: Outcome,
    /// Why it was denied.
    pub reason: Option<String>,
    /// Whether the policy would have denied what observe mode let pass.
    pub would_deny: bool,
    /// Whether a person had granted them.
    pub granted: bool,
    /// How many calls.
    pub count: u64,
    /// Number of the first in the record.
    pub first: u64,
}

impl DecidedCalls {
    /// Whether the rules of the policy have decided. What that layer has denied for another reason than that a rule
    /// denies or none allows was not for the rules to say.
    fn is_by_rules(&self) -> bool {
        self.layer == Layer::Policy.label()
            && self.reason.as_deref().is_none_or(|reason| {
                reason == DenialLabel::OperatorDenied.label() || reason == DenialLabel::NeedsApproval.label()
            })
    }

    fn fate(&self) -> Fate {
        match (self.outcome, self.would_deny) {
            (Outcome::Deny, _) if self.reason.as_deref() == Some(DenialLabel::NeedsApproval.label()) => Fate::Ask,
            (Outcome::Deny, _) => Fate::Deny,
            (Outcome::Allow, true) => Fate::WouldDeny,
            (Outcome::Allow, false) => Fate::Allow,
        }
    }
}

crate::job::canonical_enum! {
    /// What became, or would become, of a call; from the mildest to the worst.
    #[derive(PartialOrd, Ord)]
    Fate, "fate of a call" {
        /// Allowed.
        Allow = "allow",
        /// Allowed by a policy that only watches.
        WouldDeny = "would_deny",
        /// Denied until a person has said yes.
        Ask = "ask",
        /// Denied.
        Deny = "deny",
    }
}

/// Calls that the other policy treats in another way, for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flips {
    /// The actor.
    pub actor: String,
    /// The capability.
    pub capability: String,
    /// What became of them.
    pub was: Fate,
    /// What would have become of them.
    pub becomes: Fate,
    /// The rule of the other policy that says so; none when it has no rule on them.
    pub rule: Option<SourceRef>,
    /// How many calls.
    pub count: u64,
    /// Some of their resources, each with the number of its first call in the record.
    pub examples: Vec<(String, u64)>,
}

/// What all recorded calls come to under another policy.
#[derive(Debug)]
pub struct Replay<'p> {
    policy: &'p Policy,
    rules: RuleIndex,
    /// Calls that the other policy was asked about.
    pub decided: u64,
    /// Calls that another layer had refused, which no policy changes.
    pub unaffected: u64,
    /// Calls whose record does not show the whole resource, although the policy looks at it.
    pub undecided: u64,
    flips: BTreeMap<Key, Flips>,
}

/// Actor, capability, what was and what becomes, and the line of the rule.
type Key = (String, String, &'static str, &'static str, Option<u32>);

impl<'p> Replay<'p> {
    /// Nothing decided yet.
    pub fn new(policy: &'p Policy) -> Self {
        let rules = RuleIndex::new(&policy.rules);
        Self { policy, rules, decided: 0, unaffected: 0, undecided: 0, flips: BTreeMap::new() }
    }

    /// Decides calls again.
    pub fn decide(&mut self, calls: &DecidedCalls) {
        let Some(axis) = Axis::from_name(&calls.capability).filter(|_| calls.is_by_rules()) else {
            self.unaffected += calls.count;
            return;
        };
        // The policy was asked, so a path was one inside a mount; which folder that was makes no difference to a rule.
        let resource = match Resource::from_record(axis, &calls.resource, Some("")) {
            Some(resource) => resource,
            None if self.looks_at_scopes(axis) => {
                self.undecided += calls.count;
                return;
            }
            None => Resource::Whole,
        };
        self.decided += calls.count;
        let was = calls.fate();
        let fate = |resource: &Resource| fate(self.policy, &self.rules, calls, axis, resource);
        let (becomes, rule) = match &resource {
            // The worst of them is that of all, as when it was decided.
            Resource::Names { names } => {
                let fates = names.iter().map(|name| fate(&Resource::name(name)));
                let worst = fates.reduce(|worst, next| if next.0 > worst.0 { next } else { worst });
                worst.unwrap_or_else(|| fate(&Resource::Whole))
            }
            resource => fate(resource),
        };
        if was == becomes {
            return;
        }
        let line = rule.map(|rule| rule.line);
        let key = (calls.actor.clone(), calls.capability.clone(), was.as_str(), becomes.as_str(), line);
        let flips = self.flips.entry(key).or_insert_with(|| Flips {
            actor: calls.actor.clone(),
            capability: calls.capability.clone(),
            was,
            becomes,
            rule: rule.cloned(),
            count: 0,
            examples: Vec::new(),
        });
        flips.count += calls.count;
        if flips.examples.len() < EXAMPLES && flips.examples.iter().all(|(resource, _)| *resource != calls.resource) {
            flips.examples.push((calls.resource.clone(), calls.first));
        }
    }

    /// Whether the rules make a difference between resources of this axis.
    fn looks_at_scopes(&self, axis: Axis) -> bool {
        let scoped = |id: &str| id != axis.name();
        self.policy.rules.iter().any(|rule| rule.capability.axis() == axis && scoped(rule.capability.as_str()))
    }

    /// Everything that would have been different, the most calls first.
    pub fn flips(self) -> Vec<Flips> {
        let mut flips: Vec<_> = self.flips.into_values().collect();
        flips.sort_by_key(|flips| std::cmp::Reverse(flips.count));
        flips
    }
}

/// What becomes of calls about one resource, and by which rule.
fn fate<'p>(
    policy: &Policy,
    rules: &'p RuleIndex,
    calls: &DecidedCalls,
    axis: Axis,
    resource: &Resource,
) -> (Fate, Option<&'p SourceRef>) {
    let plugin = calls.plugin.as_ref();
    match said(policy, rules.ruling(plugin, axis, resource), (plugin, axis, resource)) {
        Said::Allowed(rule) => (Fate::Allow, Some(rule)),
        Said::WouldDeny(rule) => (Fate::WouldDeny, rule),
        Said::Denied(rule, _) => (Fate::Deny, rule),
        // What a person has said to a question holds under another policy that asks it; and a person who asks is the
        // one who would be asked.
        Said::Asks(rule) if calls.granted || plugin.is_none() => (Fate::Allow, Some(&rule.source)),
        Said::Asks(rule) => match narrowest(&rule.capability, axis, resource) {
            Some(_) => (Fate::Ask, Some(&rule.source)),
            None => (Fate::Deny, Some(&rule.source)),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::policy::{Effect, Mode, Rule};
    use super::*;
    use crate::Digest;

    fn policy(mode: Mode, rules: &[(Effect, &str, &[&str])]) -> Policy {
        let rules = rules.iter().zip(1..).map(|((effect, capability, plugins), line)| Rule {
            effect: *effect,
            capability: capability.parse().unwrap(),
            plugins: plugins.iter().map(|id| PluginId::new(*id).unwrap()).collect(),
            addresses: Vec::new(),
            source: SourceRef { file: "new.toml".into(), line },
        });
        Policy { rules: rules.collect(), ..Policy::empty(mode, Digest::ZERO) }
    }

    fn calls(capability: &str, resource: &str, layer: Layer, outcome: Outcome, count: u64) -> DecidedCalls {
        DecidedCalls {
            actor: "probe@0.1.0".into(),
            plugin: PluginId::new("probe").ok(),
            capability: capability.into(),
            resource: resource.into(),
            layer: layer.label().into(),
            outcome,
            reason: (outcome == Outcome::Deny).then(|| "operator-denied".to_owned()),
            would_deny: false,
            granted: false,
            count,
            first: 7,
        }
    }

    #[test]
    fn only_what_the_policy_decided_flips_and_flips_are_grouped_by_rule() {
        let new = policy(
            Mode::Enforce,
            &[
                (Effect::Allow, "fs.read", &[]),
                (Effect::Deny, "fs.read:in/private/**", &[]),
                (Effect::Allow, "fs.write", &["other"]),
            ],
        );
        let mut replay = Replay::new(&new);
        for calls in [
            calls("fs.read", "in/a.md", Layer::Policy, Outcome::Allow, 10),
            calls("fs.read", "in/private/a.md", Layer::Policy, Outcome::Allow, 3),
            calls("fs.read", "in/private/b.md", Layer::Policy, Outcome::Allow, 2),
            calls("fs.write", "out/a", Layer::Policy, Outcome::Allow, 1),
            calls("fs.read", "out/x", Layer::Grant, Outcome::Deny, 5),
            calls("fs.peek", "x", Layer::Policy, Outcome::Allow, 1),
            DecidedCalls {
                reason: Some("revoked".into()),
                ..calls("fs.read", "in/a.md", Layer::Policy, Outcome::Deny, 1)
            },
        ] {
            replay.decide(&calls);
        }
        assert_eq!((replay.decided, replay.unaffected, replay.undecided), (16, 7, 0));
        let flips = replay.flips();
        let told: Vec<_> = flips
            .iter()
            .map(|flips| {
                (flips.capability.as_str(), flips.becomes, flips.rule.as_ref().map(|rule| rule.line), flips.count)
            })
            .collect();
        assert_eq!(told, [("fs.read", Fate::Deny, Some(2), 5), ("fs.write", Fate::Deny, None, 1)]);
        assert_eq!(flips[0].examples, [("in/private/a.md".to_owned(), 7), ("in/private/b.md".to_owned(), 7)]);
    }

    #[test]
    fn a_call_that_a_person_granted_is_asked_about_only_where_nobody_had_said_yes() {
        let asking = policy(Mode::Enforce, &[(Effect::Ask, "fs.write", &[])]);
        let mut replay = Replay::new(&asking);
        let allowed = calls("fs.write", "out/a", Layer::Policy, Outcome::Allow, 1);
        replay.decide(&DecidedCalls { granted: true, ..allowed.clone() });
        replay.decide(&DecidedCalls {
            reason: Some("needs-approval".into()),
            ..calls("fs.write", "out/a", Layer::Policy, Outcome::Deny, 1)
        });
        assert_eq!((replay.decided, replay.flips.len()), (2, 0));
        replay.decide(&allowed);
        let flips = replay.flips();
        assert_eq!((flips[0].was, flips[0].becomes, flips[0].count), (Fate::Allow, Fate::Ask, 1));
    }

    #[test]
    fn a_policy_that_only_watches_denies_nothing_and_says_what_it_would() {
        let watching = policy(Mode::Observe, &[]);
        let mut replay = Replay::new(&watching);
        replay.decide(&calls("fs.read", "in/a", Layer::Policy, Outcome::Deny, 2));
        assert_eq!(replay.flips()[0].becomes, Fate::WouldDeny);
        let mut replay = Replay::new(&watching);
        replay.decide(&DecidedCalls { would_deny: true, ..calls("fs.read", "in/a", Layer::Policy, Outcome::Allow, 2) });
        assert_eq!(replay.flips(), []);
    }

    #[test]
    fn a_resource_that_is_not_whole_is_decided_only_where_it_makes_no_difference() {
        let hidden = calls("fs.read", "in/[REDACTED:token:secret_token]", Layer::Policy, Outcome::Allow, 4);
        let (bare, scoped) = ([(Effect::Deny, "fs.read", &[][..])], [(Effect::Allow, "fs.read:in/**", &[][..])]);
        let new = policy(Mode::Enforce, &bare);
        let mut replay = Replay::new(&new);
        replay.decide(&hidden);
        assert_eq!((replay.decided, replay.undecided, replay.flips().len()), (4, 0, 1));
        let new = policy(Mode::Enforce, &scoped);
        let mut replay = Replay::new(&new);
        replay.decide(&hidden);
        assert_eq!((replay.decided, replay.undecided), (0, 4));
    }
}
