//! What a job's proposals would change, for people: a diff of the documents' Markdown.

use std::time::Duration;

use handshake_core::job::{AccessMode, AiJob, JobState, PlannedOperation};
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::draft::Draft;
use super::gathering::gather;
use super::settling::APPLIED;
use super::validators::MOST_OPERATIONS;
use crate::documents::{State, markdown_of, version};
use crate::engine::{EngineError, EngineServices};

/// Lines around a change.
const CONTEXT: usize = 3;
/// How long a diff may look for the shortest form; after that it takes what it has.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProposalStatus {
    /// A validator or a person decides.
    Pending,
    /// They were applied.
    Applied,
    /// They were not, and will not be.
    NotApplied,
}

/// What a job proposes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Proposals {
    /// What became of it.
    pub status: ProposalStatus,
    /// By document.
    pub documents: Vec<ProposedDocument>,
}

/// What a job proposes for one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProposedDocument {
    /// Its id, as the step named it.
    pub document: String,
    /// Its title; none when it does not exist.
    pub title: Option<String>,
    /// The title that it would get, if it is another one.
    pub new_title: Option<String>,
    /// Who proposes, plugin id and version.
    pub by: Vec<String>,
    /// The version that was read.
    pub base_version: u64,
    /// The version that it has now.
    pub version: Option<u64>,
    /// Whether it changed since it was read. Then the diff is one of the document as it is now.
    pub changed: bool,
    /// The changes, in order.
    pub operations: Vec<PlannedOperation>,
    /// A unified diff of its Markdown, of proposals that were not applied.
    pub diff: Option<String>,
    /// Why there is no diff.
    pub problem: Option<String>,
}

fn status(job: &AiJob) -> ProposalStatus {
    match job.state {
        state if !state.is_final() => ProposalStatus::Pending,
        JobState::Completed | JobState::CompletedWithIssues
            if job.access_mode == AccessMode::ApplyScoped && job.status_reason.starts_with(APPLIED) =>
        {
            ProposalStatus::Applied
        }
        _ => ProposalStatus::NotApplied,
    }
}

/// What a job proposes; none if that is nothing.
pub(crate) async fn view(services: &EngineServices, job: &AiJob) -> Result<Option<Proposals>, EngineError> {
    if job.planned_operations.is_empty() || job.parent_job_id.is_some() {
        return Ok(None);
    }
    let gathered = gather(services, job).await?;
    let status = status(job);
    let mut documents: Vec<ProposedDocument> = Vec::new();
    for proposed in &gathered.proposed {
        let (proposal, by) = (&proposed.proposal, &proposed.proposer.label);
        if let Some(known) = documents.iter_mut().find(|known| known.document == proposal.document) {
            known.operations.extend(proposal.operations.iter().cloned());
            known.base_version = known.base_version.min(proposal.base_version);
            if !known.by.contains(by) {
                known.by.push(by.clone());
            }
            continue;
        }
        documents.push(ProposedDocument {
            document: proposal.document.clone(),
            title: None,
            new_title: None,
            by: vec![by.clone()],
            base_version: proposal.base_version,
            version: None,
            changed: false,
            operations: proposal.operations.clone(),
            diff: None,
            problem: None,
        });
    }
    for document in &mut documents {
        match gathered.documents.get(&document.document) {
            Some(state) => describe(document, state, status).await,
            None => document.problem = Some("the document does not exist".to_owned()),
        }
    }
    Ok(Some(Proposals { status, documents }))
}

async fn describe(document: &mut ProposedDocument, state: &State, status: ProposalStatus) {
    let now = version(state);
    document.title = Some(state.document.content.title.clone());
    document.version = Some(now);
    document.changed = now != document.base_version;
    if status == ProposalStatus::Applied {
        document.problem = Some("the changes were applied".to_owned());
        return;
    }
    if document.operations.len() > MOST_OPERATIONS {
        document.problem = Some(format!("more than {MOST_OPERATIONS} operations are not looked at"));
        return;
    }
    let mut draft = Draft::of(state);
    for operation in &document.operations {
        if let Err(why) = draft.apply(operation) {
            document.problem = Some(why);
            return;
        }
    }
    document.new_title = (draft.title != state.document.content.title).then(|| draft.title.clone());
    let (before, after) = (markdown_of(state), draft.markdown());
    // Long texts take a while; other work goes on meanwhile.
    match tokio::task::spawn_blocking(move || diff(&before, &after)).await {
        Ok(diff) => document.diff = Some(diff),
        Err(_) => document.problem = Some("the difference could not be worked out".to_owned()),
    }
}

/// The two texts' differences, line by line.
fn diff(before: &str, after: &str) -> String {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(before, after);
    diff.unified_diff().context_radius(CONTEXT).header("now", "proposed").to_string()
}
