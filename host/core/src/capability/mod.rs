//! Capabilities: what can be asked for, who may have it, and the decision itself.
//!
//! Effective rights are what the plugin's manifest declares, the workflow step grants, the job's profile lists
//! and the operator's policy allows, all four at once; deny beats allow (R8.3).

mod axis;
mod decision;
mod id;
mod layers;
mod policy;
mod profile;
mod replay;
mod resource;

pub use axis::{AXES, Axis, ScopeForm};
pub use decision::{Denial, DenialLabel, EffectiveRights, Layer, Observed, Verdict};
pub use id::{CapabilityId, CapabilitySet, InvalidCapability};
pub use layers::{LAYERS, LayerAnswer, PolicyAnswer};
pub use policy::{Effect, Mode, MountRule, Policy, Rule, SourceRef};
pub use profile::{Profile, builtin_profiles};
pub use replay::{DecidedCalls, Fate, Flips, Replay};
pub use resource::Resource;
