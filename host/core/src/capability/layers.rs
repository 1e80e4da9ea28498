//! What every layer says about a call, for whoever wants to know why: the decision itself stops at the first refusal.
//!
//! Nothing is decided twice here. Whatever refuses is found by asking [`EffectiveRights::decide`] again, each time with the
//! layer that has just refused set aside; so this cannot disagree with what the gate does.

use super::axis::Axis;
use super::decision::{DenialLabel, EffectiveRights, Layer, Observed, Verdict};
use super::id::{CapabilityId, CapabilitySet};
use super::policy::SourceRef;
use super::profile::Profile;
use super::resource::Resource;
use crate::job::AccessMode;

/// The layers that rights are made of, in the order in which they are asked.
pub const LAYERS: [Layer; 6] =
    [Layer::Registry, Layer::Manifest, Layer::Grant, Layer::Profile, Layer::AccessMode, Layer::Policy];

/// What one layer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerAnswer {
    /// The layer.
    pub layer: Layer,
    /// Why it refuses; none when it allows.
    pub refusal: Option<DenialLabel>,
    /// Whether it refuses and is only watching.
    pub observed: bool,
    /// The capability id of this layer that covers the call, if it is one that allows by ids.
    pub by: Option<CapabilityId>,
    /// The rule of the policy that allows or denies.
    pub rule: Option<SourceRef>,
    /// What would make it allow.
    pub remedy: Option<String>,
}

impl LayerAnswer {
    const fn of(layer: Layer) -> Self {
        Self { layer, refusal: None, observed: false, by: None, rule: None, remedy: None }
    }
}

impl EffectiveRights {
    /// What each layer says to a request, in the order of [`LAYERS`], whether or not an earlier one has refused.
    pub fn layers(&self, axis: Axis, resource: &Resource) -> Vec<LayerAnswer> {
        let mut answers = LAYERS.map(LayerAnswer::of);
        for answer in &mut answers {
            let ids = match answer.layer {
                Layer::Manifest => Some(&self.declared),
                Layer::Grant => Some(&self.granted),
                Layer::Profile => Some(&self.profile.capabilities),
                _ => None,
            };
            answer.by = ids.and_then(|ids| ids.covering(axis, resource)).cloned();
        }
        let mut rights = self.clone();
        for _ in LAYERS {
            match rights.decide(axis, resource) {
                Verdict::Allowed { rule, observed, .. } => {
                    if let Some(policy) = answers.last_mut().filter(|policy| policy.refusal.is_none()) {
                        policy.observed = observed == Observed::WouldDeny;
                        policy.refusal = policy.observed.then_some(DenialLabel::OperatorDenied);
                        policy.rule = rule;
                    }
                    break;
                }
                Verdict::Asks { denial, asked } => {
                    if let Some(policy) = answers.last_mut() {
                        policy.refusal = Some(denial.reason);
                        policy.rule = Some(asked.rule.clone());
                        policy.remedy = Some(denial.remedy);
                    }
                    break;
                }
                Verdict::Denied { denial, rule } => {
                    let Some(answer) = answers.iter_mut().find(|answer| answer.layer == denial.layer) else { break };
                    if answer.refusal.is_some() {
                        break;
                    }
                    answer.refusal = Some(denial.reason);
                    answer.rule = rule;
                    answer.remedy = Some(denial.remedy);
                    if !rights.set_aside(denial.layer, axis) {
                        break;
                    }
                }
            }
        }
        answers.into()
    }

    /// Lets a layer allow everything on this axis; says whether that is possible.
    fn set_aside(&mut self, layer: Layer, axis: Axis) -> bool {
        let all = || CapabilitySet::from_iter([CapabilityId::bare(axis)]);
        match layer {
            Layer::Manifest => self.declared = all(),
            Layer::Grant => self.granted = all(),
            Layer::Profile => self.profile = Profile { id: self.profile.id.clone(), capabilities: all() }.into(),
            Layer::AccessMode => self.access_mode = AccessMode::ApplyScoped,
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
