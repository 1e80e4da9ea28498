//! Capability profiles: whitelists that a job names (R8.2).

use super::axis::Axis;
use super::id::{CapabilityId, CapabilitySet, InvalidCapability};
use crate::{Digest, ProfileId};

/// A whitelist of capability ids under a name.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// What it lists.
    pub capabilities: CapabilitySet,
}

impl Profile {
    /// What it lists, one id a line, behind a line with its name. The same profile always has the same text.
    pub fn text(&self) -> String {
        let mut ids: Vec<&str> = self.capabilities.iter().map(CapabilityId::as_str).collect();
        ids.sort_unstable();
        ids.dedup();
        let lines = std::iter::once(format!("# profile {}", self.id)).chain(ids.into_iter().map(str::to_owned));
        lines.map(|line| line + "\n").collect()
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// Reads its text.
    pub fn from_text(id: ProfileId, text: &str) -> Result<Self, InvalidCapability> {
        let ids = text.lines().filter(|line| !line.starts_with('#'));
        Ok(Self { id, capabilities: ids.map(str::parse::<CapabilityId>).collect::<Result<_, _>>()? })
    }
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
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn a_profile_is_read_from_its_own_text() {
        for profile in super::builtin_profiles() {
            let read = super::Profile::from_text(profile.id.clone(), &profile.text()).unwrap();
            assert_eq!((read.text(), read.digest()), (profile.text(), profile.digest()));
        }
    }

    #[test]
    fn all_builtin_profiles_exist() {
        let names: Vec<_> = super::builtin_profiles().iter().map(|profile| profile.id.to_string()).collect();
        assert_eq!(names, ["reader", "analyst", "integrator"]);
    }
}
