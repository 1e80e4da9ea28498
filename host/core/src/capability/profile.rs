//! Capability profiles: whitelists that a job names (R8.2).

use super::axis::Axis;
use super::id::{CapabilityId, CapabilitySet};
use crate::ProfileId;

/// A whitelist of capability ids under a name.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// What it lists.
    pub capabilities: CapabilitySet,
}

/// The profiles that every host knows. Configuration can add others, not change these.
pub fn builtin_profiles() -> Vec<Profile> {
    let reading = [Axis::FsRead, Axis::DocRead, Axis::ArtifactRead, Axis::ConfigRead];
    let analyst = [Axis::FsWrite, Axis::ModelInfer, Axis::ModelEmbed, Axis::DocPropose, Axis::ArtifactWrite];
    let outside = [Axis::NetHttp, Axis::NetTcp, Axis::NetUdp, Axis::NetDns, Axis::EnvRead, Axis::SecretsUse];
    let profile = |name: &str, axes: &[Axis]| {
        // The names are literals of the right form; one that is not would drop out and fail the test below.
        ProfileId::new(name)
            .ok()
            .map(|id| Profile { id, capabilities: axes.iter().copied().map(CapabilityId::bare).collect() })
    };
    let with = |more: &[Axis]| [&reading[..], more].concat();
    [
        profile("reader", &reading),
        profile("analyst", &with(&analyst)),
        profile("integrator", &with(&[&analyst[..], &outside].concat())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_builtin_profiles_exist() {
        let names: Vec<_> = super::builtin_profiles().iter().map(|profile| profile.id.to_string()).collect();
        assert_eq!(names, ["reader", "analyst", "integrator"]);
    }
}
