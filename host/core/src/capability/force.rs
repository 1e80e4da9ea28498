//! What decides at this moment: the operator's policy, in a place where it can be replaced while steps run.

use std::sync::{Arc, PoisonError, RwLock};

use futures::channel::oneshot;

use super::axis::Axis;
use super::index::{MountIndex, RuleIndex};
use super::policy::{Policy, Ruling};
use super::resource::Resource;
use crate::PluginId;
use crate::mount::MountAccess;

/// A policy with its rules arranged for deciding. Whoever decides holds it until the answer is given.
#[derive(Debug)]
pub struct InForce {
    policy: Policy,
    rules: RuleIndex,
    mounts: MountIndex,
    /// Goes with the last one who holds this.
    _held: oneshot::Sender<()>,
}

impl InForce {
    fn new(policy: Policy) -> (Self, oneshot::Receiver<()>) {
        let (held, gone) = oneshot::channel();
        let (rules, mounts) = (RuleIndex::new(&policy.rules), MountIndex::new(&policy.mounts));
        (Self { policy, rules, mounts, _held: held }, gone)
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn ruling(&self, plugin: Option<&PluginId>, axis: Axis, resource: &Resource) -> Ruling<'_> {
        self.rules.ruling(plugin, axis, resource)
    }

    /// Whether the folder behind a mount is still listed for such access.
    pub(super) fn lists(&self, folder: &str, access: MountAccess) -> bool {
        self.mounts.lists(folder, access)
    }
}

/// The policy in force, shared by all who decide. Each decision reads it once.
#[derive(Debug, Clone)]
pub struct PolicyInForce(Arc<RwLock<Cell>>);

#[derive(Debug)]
struct Cell {
    now: Arc<InForce>,
    gone: oneshot::Receiver<()>,
}

impl PolicyInForce {
    /// Puts a first policy in force.
    pub fn new(policy: Policy) -> Self {
        let (now, gone) = InForce::new(policy);
        Self(Arc::new(RwLock::new(Cell { now: Arc::new(now), gone })))
    }

    /// What decides now.
    pub fn current(&self) -> Arc<InForce> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).now)
    }

    /// Puts another policy in force: every decision that begins from here on is made under it. Those that had begun end
    /// under the old one; [`Replaced::is_over`] waits for them.
    pub fn replace(&self, policy: Policy) -> Replaced {
        let (now, gone) = InForce::new(policy);
        let next = Cell { now: Arc::new(now), gone };
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), next);
        Replaced(before.gone)
    }
}

/// A policy that was in force.
#[derive(Debug)]
#[must_use = "calls may still be let through under it"]
pub struct Replaced(oneshot::Receiver<()>);

impl Replaced {
    /// Waits until nobody decides under it any more. From then on no permit is given that it allowed.
    pub async fn is_over(self) {
        // It never sends: it goes with whoever holds the old policy last.
        let _ = self.0.await;
    }
}
