//! Grants: what people have answered to `ask` rules, and how far each answer reaches (R8.4).

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::axis::Axis;
use super::id::CapabilityId;
use super::policy::SourceRef;
use super::resource::Resource;
use crate::gate::AttemptPlace;
use crate::workflow::Period;
use crate::{ApprovalId, GrantId, JobId, PluginId, RunId, StepId, Timestamp};

/// The longest that a grant for a period holds; whoever means more says so with `until_revoked`.
pub const LONGEST_PERIOD: Period = Period(std::time::Duration::from_secs(24 * 3600));

/// How far somebody's yes reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// The attempt that follows the question, and no other.
    Once,
    /// The job that asked.
    #[default]
    Job,
    /// Every job of the same workspace, for so long.
    For(Period),
    /// Every job, until it is taken back.
    UntilRevoked,
}

/// What a grant was given for: the question that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantTerms {
    /// How far it reaches.
    pub extent: Extent,
    /// The question.
    pub approval_id: ApprovalId,
    /// The job that asked.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// The step that asked.
    pub step_id: StepId,
    /// Position within `for_each`.
    pub index: Option<u32>,
    /// The attempt that asked.
    pub attempt: u32,
    /// The folder that the job's relative paths start from.
    pub workspace: String,
    /// Who said yes.
    pub granted_by: String,
    /// Why.
    pub reason: Option<String>,
}

/// A person's yes to what an `ask` rule covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its id.
    pub grant_id: GrantId,
    /// For which plugin.
    pub plugin: PluginId,
    /// Which capability, with its scope. For models it names the model.
    pub capability: CapabilityId,
    /// How far it reaches, and where it comes from.
    pub terms: GrantTerms,
    /// From when on it does not hold any more; none when its job or a person ends it.
    pub expires_at: Option<Timestamp>,
    /// Given.
    pub created_at: Timestamp,
    /// Taken back.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
}

/// For which attempt a call is decided, and when: what grants are bound to.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The attempt; none for a person at the command line.
    pub place: Option<&'a AttemptPlace>,
    /// The folder that the job's relative paths start from.
    pub workspace: Option<&'a str>,
    /// When the attempt began.
    pub began: Timestamp,
    /// Now.
    pub now: Timestamp,
}

impl Grant {
    /// Whether it was neither taken back nor has run out.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| expires > now)
    }

    /// Whether it reaches as far as whoever asks, were it not taken back.
    fn reaches(&self, asking: &Asking<'_>) -> bool {
        let Some(place) = asking.place else { return false };
        let terms = &self.terms;
        let within = match terms.extent {
            Extent::Once => {
                (place.run, &place.step, place.index, place.attempt)
                    == (terms.run_id, &terms.step_id, terms.index, terms.attempt.saturating_add(1))
            }
            Extent::Job => place.job == terms.job_id,
            Extent::For(_) => asking.workspace == Some(terms.workspace.as_str()),
            Extent::UntilRevoked => true,
        };
        within && self.expires_at.is_none_or(|expires| expires > asking.now)
    }
}

/// What the grants say of a call that an `ask` rule covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Somebody said yes.
    Granted(GrantId),
    /// Somebody took it back while the attempt was under way.
    Revoked,
    /// Nobody was asked.
    Unasked,
}

/// The grants that may still count, by plugin.
#[derive(Debug, Clone, Default)]
pub struct Grants(Arc<HashMap<PluginId, Vec<Grant>>>);

impl Grants {
    pub(super) fn standing(&self, plugin: &PluginId, axis: Axis, resource: &Resource, asking: &Asking<'_>) -> Standing {
        let own = self.0.get(plugin).map_or(&[][..], Vec::as_slice).iter();
        let mut found = Standing::Unasked;
        for grant in own.filter(|grant| grant.capability.covers(axis, resource) && grant.reaches(asking)) {
            match grant.revoked_at {
                None => return Standing::Granted(grant.grant_id),
                // An attempt that begins later asks anew.
                Some(revoked) if revoked >= asking.began => found = Standing::Revoked,
                Some(_) => {}
            }
        }
        found
    }
}

impl Grants {
    /// Whether a question about a capability was answered since the attempt began that asks it: what was granted before did
    /// not help it.
    pub(super) fn answers(&self, plugin: &PluginId, capability: &CapabilityId, asking: &Asking<'_>) -> bool {
        let same = |grant: &&Grant| {
            let bare = grant.capability.as_str() == grant.capability.axis().name();
            grant.capability == *capability || bare && grant.capability.axis() == capability.axis()
        };
        let mut own = self.0.get(plugin).into_iter().flatten().filter(same);
        own.any(|grant| grant.created_at > asking.began && grant.is_live(asking.now) && grant.reaches(asking))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        let mut all: HashMap<PluginId, Vec<Grant>> = HashMap::new();
        for grant in grants {
            all.entry(grant.plugin.clone()).or_default().push(grant);
        }
        Self(Arc::new(all))
    }
}

/// What an attempt has come to ask a person for: the call did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Asked {
    /// The capability, as narrow as the rule and the resource allow.
    pub capability: CapabilityId,
    /// The resource in canonical form.
    pub resource: String,
    /// The rule that wants a person asked.
    pub rule: SourceRef,
}

/// What a question about a capability tells the person who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PermissionRequest {
    /// Who asks.
    pub plugin: PluginId,
    /// In which version.
    pub version: String,
    /// What for.
    pub asked: Asked,
    /// Why, as its manifest says; none if that gives no reason.
    pub reason: Option<String>,
    /// The attempt that asked.
    pub attempt: u32,
    /// The folder that the job's relative paths start from.
    pub workspace: String,
    /// What the attempt had done before it asked and that outlasts it: a yes runs the step from its beginning, and may
    /// do it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
}

#[cfg(test)]
#[path = "grant_tests.rs"]
mod tests;
