//! Capabilities: what can be asked for, who may have it, and the decision itself.
//!
//! Effective rights are what the plugin's manifest declares, the workflow step grants, the job's profile lists
//! and the operator's policy allows, all four at once; deny beats allow (R8.3).

mod address;
mod axis;
mod decision;
mod force;
mod grant;
mod guarded;
mod id;
mod index;
mod layers;
mod policy;
mod profile;
mod replay;
mod resource;
mod scope;

pub use address::{HostName, HttpTarget, NetHost, Origin, SocketTarget};
pub use axis::{AXES, Axis, ScopeForm};
pub use decision::{Denial, DenialLabel, EffectiveRights, Layer, Observed, Verdict};
pub use force::{InForce, PolicyInForce, Replaced};
pub use grant::{Asked, Asking, Extent, Grant, GrantTerms, Grants, LONGEST_PERIOD, PermissionRequest};
pub use guarded::guarded_range;
pub use id::{CapabilityId, CapabilitySet, InvalidCapability};
pub use layers::{LAYERS, LayerAnswer};
pub use policy::{Effect, GuardedAddress, Mode, MountRule, Policy, Rule, SecretRule, SourceRef};
pub use profile::{Profile, builtin_profiles};
pub use replay::{DecidedCalls, Fate, Flips, Replay};
pub use resource::Resource;
pub use scope::{addresses, is_variable};

#[cfg(test)]
#[path = "registry_tests.rs"]
mod registry_tests;
