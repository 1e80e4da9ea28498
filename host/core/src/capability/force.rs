//! What decides at this moment: the operator's policy, in a place where it can be replaced while steps run.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use futures::channel::oneshot;

use super::axis::Axis;
use super::grant::{Asking, Grants};
use super::id::CapabilityId;
use super::index::{MountIndex, RuleIndex};
use super::policy::{Policy, Ruling};
use super::resource::Resource;
use crate::PluginId;
use crate::mount::MountAccess;

/// A policy with its rules arranged for deciding, and what people have granted. Whoever decides holds it until the answer is given.
#[derive(Debug)]
pub struct InForce {
    compiled: Arc<Compiled>,
    grants: Grants,
    held: Arc<Held>,
}

/// Goes when nobody holds what it belongs to any more, nor anything that was in force before.
#[derive(Debug)]
struct Held {
    _gone: oneshot::Sender<()>,
    /// What came after it goes no sooner: whoever waits for that waits for this as well.
    next: OnceLock<Arc<Held>>,
}

/// What stays the same when somebody grants something.
#[derive(Debug)]
struct Compiled {
    policy: Policy,
    rules: RuleIndex,
    mounts: MountIndex,
}

impl Compiled {
    fn new(policy: Policy) -> Arc<Self> {
        let (rules, mounts) = (RuleIndex::new(&policy.rules), MountIndex::new(&policy.mounts));
        Arc::new(Self { policy, rules, mounts })
    }
}

impl InForce {
    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.compiled.policy
    }

    /// Whether a question about a capability has been answered with yes since the attempt began that asks it.
    pub fn answers(&self, plugin: &PluginId, capability: &CapabilityId, asking: &Asking<'_>) -> bool {
        self.grants.answers(plugin, capability, asking)
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    pub(super) fn ruling(&self, plugin: Option<&PluginId>, axis: Axis, resource: &Resource) -> Ruling<'_> {
        self.compiled.rules.ruling(plugin, axis, resource)
    }

    /// Whether the folder behind a mount is still listed for such access.
    pub(super) fn lists(&self, folder: &str, access: MountAccess) -> bool {
        self.compiled.mounts.lists(folder, access)
    }
}

/// The policy in force, shared by all who decide. Each decision reads it once.
#[derive(Debug, Clone)]
pub struct PolicyInForce(Arc<RwLock<Cell>>);

#[derive(Debug)]
struct Cell {
    now: Arc<InForce>,
    gone: oneshot::Receiver<()>,
    /// Counts changes of the grants.
    generation: u64,
}

impl PolicyInForce {
    /// Puts a first policy in force.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Cell::new(Compiled::new(policy), Grants::default(), 0))))
    }

    /// What decides now.
    pub fn current(&self) -> Arc<InForce> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).now)
    }

    /// Puts another policy in force: every decision that begins from here on is made under it. Those that had begun end
    /// under the old one; [`Replaced::is_over`] waits for them.
    pub fn replace(&self, policy: Policy) -> Replaced {
        let compiled = Compiled::new(policy);
        let mut cell = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (grants, generation) = (cell.now.grants.clone(), cell.generation);
        cell.follow(Cell::new(compiled, grants, generation))
    }

    /// Which grants are in force. To be asked before they are read from where they are stored.
    pub fn generation(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Puts other grants in force, likewise; none when others have come into force since that generation, because these
    /// may be older, and lack a revocation.
    pub fn grant(&self, generation: u64, grants: Grants) -> Option<Replaced> {
        let mut cell = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if cell.generation != generation {
            return None;
        }
        let compiled = Arc::clone(&cell.now.compiled);
        Some(cell.follow(Cell::new(compiled, grants, generation.wrapping_add(1))))
    }
}

impl Cell {
    fn new(compiled: Arc<Compiled>, grants: Grants, generation: u64) -> Self {
        let (sender, gone) = oneshot::channel();
        let held = Arc::new(Held { _gone: sender, next: OnceLock::new() });
        Self { now: Arc::new(InForce { compiled, grants, held }), gone, generation }
    }

    fn follow(&mut self, next: Self) -> Replaced {
        // Only here, once for each.
        let _ = self.now.held.next.set(Arc::clone(&next.now.held));
        Replaced(std::mem::replace(self, next).gone)
    }
}

/// What was in force.
#[derive(Debug)]
#[must_use = "calls may still be let through under it"]
pub struct Replaced(oneshot::Receiver<()>);

impl Replaced {
    /// Waits until nobody decides under it any more, nor under what was in force before it. From then on no permit is
    /// given that only one of them allowed.
    pub async fn is_over(self) {
        // It never sends: it goes with whoever holds the old policy last.
        let _ = self.0.await;
    }
}
