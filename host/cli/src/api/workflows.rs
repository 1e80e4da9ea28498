//! Workflows: checking without running.

use axum::Json;
use axum::extract::State;
use handshake_core::token::Right;
use handshake_engine::{CheckedWorkflow, Format, WorkflowSource};
use serde::{Deserialize, Serialize};

use super::{Answer, Document, Host, Routes};

pub(super) fn routes() -> Routes {
    Routes::new().post(
        Right::Submit,
        "/workflows/check",
        "Finds mistakes in a workflow, and says what depends on what",
        check,
    )
}

/// A workflow's text on its way to the process that checks it.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkflowText {
    /// Name of the file, as messages show it; its extension tells the format: `.toml`, `.json`, else YAML.
    pub(crate) file: String,
    /// Content.
    pub(crate) text: String,
}

impl From<WorkflowText> for WorkflowSource {
    fn from(workflow: WorkflowText) -> Self {
        let format = Format::of_path(std::path::Path::new(&workflow.file));
        Self { file: workflow.file, text: workflow.text, format }
    }
}

/// A checked workflow, as [`CheckedWorkflow`] writes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Graph {
    /// Name.
    pub(crate) name: String,
    /// Steps in file order.
    pub(crate) steps: Vec<GraphStep>,
    /// Step ids, each after those it needs.
    pub(crate) order: Vec<String>,
}

/// One step of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GraphStep {
    /// Id.
    pub(crate) id: String,
    /// As the file names the plugin or workflow.
    pub(crate) uses: Option<String>,
    /// `id@version`, or what a built-in step does.
    pub(crate) plugin: String,
    /// Steps it directly needs.
    pub(crate) needs: Vec<String>,
    /// Condition.
    pub(crate) when: Option<String>,
    /// List, if it runs once per item.
    pub(crate) for_each: Option<String>,
    /// Capabilities it grants.
    pub(crate) grants: Vec<String>,
}

async fn check(State(host): Host, Document(workflow): Document<WorkflowText>) -> Answer<CheckedWorkflow> {
    Ok(Json(host.engine.check(&workflow.into())?))
}
