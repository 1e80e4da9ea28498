//! Everything that decides about a job's proposals: them, the documents as they are now, and who proposed with what
//! rights today.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use handshake_core::DocumentId;
use handshake_core::capability::Axis;
use handshake_core::docs_profile::DocsProfile;
use handshake_core::document::Proposal;
use handshake_core::event::AdmittedEvent;
use handshake_core::job::AiJob;
use handshake_core::node::{NodeExecution, NodeKey, NodeState};
use handshake_core::run::WorkflowRun;
use handshake_core::storage::{ContentStore, Payloads, StorageError};
use handshake_core::workflow::Review;

use super::capability::{self, Occasion, Proposer};
use super::validators::{Finding, Material, validate};
use super::verdicts;
use crate::documents::State;
use crate::engine::{EngineError, EngineServices};
use crate::run::{compile, rights};
use crate::workflow::{Plan, PlannedStep};

/// A proposal and who made it.
pub(crate) struct Proposed {
    pub(crate) proposal: Proposal,
    pub(crate) proposer: Arc<Proposer>,
}

/// All that decides.
pub(crate) struct Gathered {
    pub(crate) run: WorkflowRun,
    pub(crate) review: Review,
    pub(crate) profile: Option<DocsProfile>,
    pub(crate) documents: BTreeMap<String, State>,
    /// In the order of steps and items.
    pub(crate) proposed: Vec<Proposed>,
    /// What those validators have said of it that are plugins.
    verdicts: Vec<Finding>,
}

/// A document with its blocks, if it exists.
pub(crate) async fn state(content: &dyn ContentStore, id: DocumentId) -> Result<Option<State>, StorageError> {
    let document = match content.document(id).await {
        Ok(document) => document,
        Err(StorageError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(State { document, blocks: content.blocks(id).await? }))
}

/// Reads it all.
pub(crate) async fn gather(services: &EngineServices, job: &AiJob) -> Result<Gathered, EngineError> {
    let run = services.database.run(crate::control::latest_run(services, job).await?).await?;
    let plan = compile(&run)?;
    let nodes = services.database.nodes(run.run_id, Payloads::Read).await?;
    let verdicts = verdicts::findings(&plan, &nodes, |planned| label(services, planned));
    let proposed = proposed(services, (job, &run.base), &plan, nodes);
    let mut documents = BTreeMap::new();
    for named in proposed.iter().map(|proposed| &proposed.proposal.document) {
        if documents.contains_key(named) {
            continue;
        }
        // What is no id, or not in the form that ids are shown in, is no document that a step has read.
        let id = named.parse::<DocumentId>().ok().filter(|id| id.to_string() == *named);
        if let Some(id) = id
            && let Some(state) = state(&*services.content, id).await?
        {
            documents.insert(named.clone(), state);
        }
    }
    let profile = if job.job_kind.has_docs_profile() { DocsProfile::of_inputs(&job.job_inputs).ok() } else { None };
    Ok(Gathered { review: plan.workflow.job.review, run, profile, documents, proposed, verdicts })
}

/// Plugin id and version; the plugin as the file names it when it cannot be found any more.
fn label(services: &EngineServices, planned: &PlannedStep) -> String {
    let uses = planned.step.plugin().unwrap_or_default();
    services.executor.find(uses).map_or_else(|_| uses.to_owned(), |plugin| plugin.label())
}

/// The proposals of what was completed, in the order of steps and items.
fn proposed(
    services: &EngineServices,
    (job, base): (&AiJob, &Path),
    plan: &Plan,
    nodes: Vec<NodeExecution>,
) -> Vec<Proposed> {
    let position = |node: &NodeKey| plan.steps.iter().position(|planned| planned.step.id == node.step);
    let mut found: Vec<_> = nodes
        .into_iter()
        .filter(|node| node.state == NodeState::Completed && !node.contribution.proposals.is_empty())
        .filter_map(|node| Some((position(&node.node)?, node)))
        .collect();
    found.sort_by(|(one, node), (other, another)| (one, node.node.index).cmp(&(other, another.node.index)));
    let mut all = Vec::new();
    for (at, node) in found {
        let Some(planned) = plan.steps.get(at).and_then(|planned| proposing(plan, planned)) else { continue };
        let profile = services.profiles.iter().find(|profile| profile.id == job.capability_profile_id);
        let uses = planned.step.plugin().unwrap_or_default();
        let plugin = services.executor.find(uses);
        let label = plugin.as_ref().map_or_else(|_| uses.to_owned(), |plugin| plugin.label());
        let rights = match (plugin, profile) {
            (Ok(plugin), Some(profile)) => Ok(rights(services, &planned.step, &plugin, profile, job, base)),
            (Err(error), _) => Err(format!("step `{}`: {error}", node.node)),
            (_, None) => Err(format!("profile `{}` does not exist any more", job.capability_profile_id)),
        };
        let (attempt, component_sha256) = (node.attempt, node.component_sha256);
        let proposer = Arc::new(Proposer { node: node.node, attempt, label, component_sha256, rights });
        all.extend(
            node.contribution
                .proposals
                .into_iter()
                .map(|proposal| Proposed { proposal, proposer: Arc::clone(&proposer) }),
        );
    }
    all
}

/// The step that proposed: for one that runs a workflow, the first of that workflow's steps that may propose.
fn proposing<'p>(plan: &'p Plan, planned: &'p PlannedStep) -> Option<&'p PlannedStep> {
    let Some(name) = &planned.step.workflow else { return Some(planned) };
    let child = plan.children.iter().find(|(known, _)| known == name).map(|(_, child)| child)?;
    let may = |planned: &&PlannedStep| planned.step.grants.iter().any(|grant| grant.axis() == Axis::DocPropose);
    let direct = child.steps.iter().find(may);
    // Workflows do not run each other in circles, so this ends.
    direct
        .or_else(|| child.steps.iter().find_map(|step| step.step.workflow.as_ref().and_then(|_| proposing(plan, step))))
}

impl Gathered {
    /// Has every validator look.
    pub(crate) fn validate(
        &self,
        services: &EngineServices,
        job: &AiJob,
    ) -> Result<(Vec<Finding>, Vec<AdmittedEvent>), EngineError> {
        let proposals: Vec<_> = self.proposed.iter().map(|proposed| &proposed.proposal).collect();
        let material = Material {
            entities: &job.entity_refs,
            profile: self.profile.as_ref(),
            documents: &self.documents,
            proposals: &proposals,
        };
        let mut findings = validate(&material);
        findings.extend(self.verdicts.iter().cloned());
        let (refused, events) =
            capability::decide(services, job, self, Occasion::Validation, &services.policy.current())?;
        findings.extend(refused);
        Ok((findings, events))
    }

    /// Who proposed, in one line.
    pub(crate) fn labels(&self) -> String {
        let mut labels: Vec<_> = self.proposed.iter().map(|proposed| proposed.proposer.label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.join(", ")
    }
}
