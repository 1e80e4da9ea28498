//! One step without a workflow: a workflow of one step is made on the fly, so that everything about it is decided and
//! recorded as for any other. And what the record says of such a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use handshake_core::JobId;
use handshake_core::capability::{Axis, CapabilityId, DenialLabel, Layer};
use handshake_core::event::{EventBody, Outcome};
use handshake_core::job::AccessMode;
use handshake_core::mount::MountAccess;
use handshake_core::step::{Plugin, StepExecutor};
use handshake_core::storage::EventOutbox;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::jobs::SubmitRequest;
use crate::api::plugins::CheckRequest;
use crate::api::workflows::WorkflowText;
use crate::error::CliError;
use crate::host::HostState;

/// What such a workflow is called where its mistakes are told.
const FILE: &str = "plugin run";
/// Its one step.
const STEP: &str = "run";
/// The widest of the profiles that are built in: what a step may do is for its grants and the policy to say.
const PROFILE: &str = "integrator";
/// Records that are looked at together, and how often: a run is looked for among the latest million.
const PAGE: u32 = 1_000;
const MOST_PAGES: u32 = 1_000;

/// A step to be run.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SingleRequest {
    /// The plugin.
    pub(crate) plugin: CheckRequest,
    /// Its input.
    pub(crate) input: Map<String, Value>,
    /// What it is granted.
    #[serde(default)]
    pub(crate) grants: Vec<String>,
    /// Its folders.
    #[serde(default)]
    pub(crate) mounts: Vec<SingleMount>,
    /// Capability profile.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// What it may do with the world.
    #[serde(default)]
    pub(crate) access_mode: Option<AccessMode>,
    /// Folder that relative mount paths start from; absolute.
    pub(crate) base: PathBuf,
}

/// A folder for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SingleMount {
    /// Name in grants.
    pub(crate) name: String,
    /// Folder.
    pub(crate) path: String,
    /// Reading or writing.
    pub(crate) access: MountAccess,
}

/// Finds the plugin, and makes the workflow.
pub(crate) fn submission(host: &HostState, request: SingleRequest) -> Result<SubmitRequest, CliError> {
    let (plugin, uses) = match &request.plugin {
        CheckRequest::Uses(uses) => (host.runtime.find(uses)?, uses.clone()),
        CheckRequest::Folder(folder) => {
            let plugin = host.runtime.lend(&crate::api::plugins::source_folder(folder)?)?;
            let uses = format!("{}@sha256:{}", plugin.manifest.id, plugin.manifest_sha256);
            (plugin, uses)
        }
    };
    let (workflow, inputs) = workflow(&plugin, &uses, &request);
    let text = serde_json::to_string_pretty(&workflow)
        .map_err(|error| CliError::internal("the workflow cannot be written as JSON").because(&error))?;
    let workflow = WorkflowText { file: FILE.to_owned(), text };
    Ok(SubmitRequest {
        workflow,
        inputs,
        text_inputs: BTreeMap::new(),
        base: Some(request.base),
        idempotency_key: None,
    })
}

/// Values come in as inputs and are referred to by number, so that nothing in them is taken for an expression.
fn workflow(plugin: &Plugin, uses: &str, request: &SingleRequest) -> (Value, BTreeMap<String, Value>) {
    let refer = |list: &str, at: usize| Value::String(format!("${{inputs.{list}[{at}]}}"));
    let keys = request.input.keys().enumerate();
    let with: Map<String, Value> = keys.map(|(at, key)| (key.clone(), refer("values", at))).collect();
    let folders = request.mounts.iter().enumerate();
    let mounts: Map<String, Value> = folders
        .map(|(at, mount)| (mount.name.clone(), json!({ "path": refer("folders", at), "access": mount.access })))
        .collect();
    let workflow = json!({
        "name": format!("plugin run {}", plugin.label()),
        "job": {
            "profile": request.profile.as_deref().unwrap_or(PROFILE),
            "access_mode": request.access_mode.unwrap_or(AccessMode::ApplyScoped),
        },
        "inputs": { "values": { "type": "list" }, "folders": { "type": "list" } },
        "mounts": mounts,
        "steps": [{ "id": STEP, "uses": uses, "with": with, "grants": request.grants }],
        "outputs": { "output": format!("${{steps.{STEP}.output}}") },
    });
    let values: Vec<&Value> = request.input.values().collect();
    let folders: Vec<&str> = request.mounts.iter().map(|mount| mount.path.as_str()).collect();
    (workflow, [("values".to_owned(), json!(values)), ("folders".to_owned(), json!(folders))].into())
}

/// A decision of such a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Call {
    /// Number of the call.
    pub(crate) call: u64,
    /// Allow or deny.
    pub(crate) outcome: Outcome,
    /// The capability.
    pub(crate) capability: String,
    /// What it was about.
    pub(crate) resource: String,
    /// Why it was denied.
    pub(crate) reason: Option<DenialLabel>,
    /// Which layer decided.
    pub(crate) layer: Layer,
    /// The rule that decided.
    pub(crate) rule: Option<String>,
}

impl Call {
    /// The grant that would have let it pass the workflow's layer, if that refused it.
    pub(crate) fn missing_grant(&self) -> Option<String> {
        if self.reason != Some(DenialLabel::NotGranted) {
            return None;
        }
        let axis: Axis = self.capability.parse::<CapabilityId>().ok()?.axis();
        let scope = match axis {
            Axis::FsRead | Axis::FsWrite => self.resource.split('/').next().map(str::to_owned),
            Axis::NetHttp => {
                let url = self.resource.split_once(' ').map_or(self.resource.as_str(), |(_, url)| url);
                let end = url.find("://").and_then(|at| url[at + 3..].find('/').map(|end| at + 3 + end));
                Some(url[..end.unwrap_or(url.len())].to_owned())
            }
            Axis::ArtifactRead | Axis::ArtifactWrite => None,
            _ => Some(self.resource.clone()).filter(|resource| resource != "*"),
        };
        let grant = scope.map_or_else(|| axis.name().to_owned(), |scope| format!("{}:{scope}", axis.name()));
        // One that nobody could write is no help.
        grant.parse::<CapabilityId>().ok().map(|_| grant)
    }
}

/// What the record says of a run of one step.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Recorded {
    /// Every decision, in order.
    pub(crate) decisions: Vec<Call>,
    /// How long its attempts took together, microseconds.
    pub(crate) duration_us: u64,
    /// The host's own measurements of the last attempt, and the step's.
    pub(crate) metrics: BTreeMap<String, f64>,
}

/// Reads what was recorded of a job: from the record itself, since the projection may not have it yet, or not be open.
pub(crate) async fn recorded(host: &HostState, id: JobId) -> Result<Recorded, CliError> {
    let job = host.database.job(id).await?;
    let mut pages = Vec::new();
    let mut end = host.log.flush().await?.seq;
    for _ in 0..MOST_PAGES {
        let start = end.saturating_sub(u64::from(PAGE));
        let mut records = host.log.read_after(start, PAGE).await?;
        records.retain(|record| record.seq <= end);
        let is_older = records.first().is_none_or(|first| first.recorded_at < job.created_at);
        pages.push(records);
        end = start;
        if end == 0 || is_older {
            break;
        }
    }
    let mut recorded = Recorded::default();
    for record in pages.into_iter().rev().flatten() {
        let event = record.event().map_err(|error| CliError::internal("a record cannot be read").because(&error))?;
        if event.job_id != Some(id) {
            continue;
        }
        match event.body {
            EventBody::CapabilityAction(record) => recorded.decisions.push(Call {
                call: record.call,
                outcome: record.decision_outcome,
                capability: record.capability_id,
                resource: record.resource,
                reason: record.reason,
                layer: record.layer,
                rule: record.rule.map(|rule| rule.to_string()),
            }),
            EventBody::SpanEnd { span, duration_us, metrics, .. } if span == "step" => {
                recorded.duration_us += duration_us;
                recorded.metrics = metrics;
            }
            _ => {}
        }
    }
    Ok(recorded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn denied(capability: &str, resource: &str) -> Call {
        Call {
            call: 1,
            outcome: Outcome::Deny,
            capability: capability.into(),
            resource: resource.into(),
            reason: Some(DenialLabel::NotGranted),
            layer: Layer::Grant,
            rule: None,
        }
    }

    #[test]
    fn the_grant_that_is_missing_is_of_the_form_that_workflows_take() {
        for (capability, resource, grant) in [
            ("fs.read", "docs/a b.md", Some("fs.read:docs")),
            ("fs.write", "out", Some("fs.write:out")),
            ("model.infer", "default", Some("model.infer:default")),
            ("net.http", "GET https://api.example.com/v1?x=1", Some("net.http:https://api.example.com")),
            ("artifact.write", "text/markdown", Some("artifact.write")),
            ("env.read", "*", Some("env.read")),
            ("fs.read", "../etc", None),
        ] {
            assert_eq!(denied(capability, resource).missing_grant().as_deref(), grant, "{capability} {resource}");
        }
        let declared = Call { reason: Some(DenialLabel::NotDeclared), ..denied("fs.read", "docs") };
        assert_eq!(declared.missing_grant(), None);
    }

    #[test]
    fn nothing_in_an_input_is_taken_for_an_expression() {
        let plugin = handshake_core::testing::plugin(handshake_core::PluginId::new("demo").unwrap(), b"code");
        let input = json!({ "${x}": "${steps.y}", "n": null });
        let request = SingleRequest {
            plugin: CheckRequest::Uses("demo".into()),
            input: input.as_object().unwrap().clone(),
            grants: vec!["fs.read:in".into()],
            mounts: vec![SingleMount { name: "in".into(), path: "${a}".into(), access: MountAccess::Read }],
            profile: None,
            access_mode: None,
            base: "/".into(),
        };
        let (workflow, inputs) = workflow(&plugin, "demo", &request);
        assert_eq!(workflow["steps"][0]["with"]["n"], "${inputs.values[1]}");
        assert_eq!(workflow["mounts"]["in"]["path"], "${inputs.folders[0]}");
        assert_eq!(inputs["values"], json!(["${steps.y}", null]));
        assert_eq!(inputs["folders"], json!(["${a}"]));
    }
}
