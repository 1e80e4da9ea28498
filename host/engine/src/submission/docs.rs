//! Jobs about documents: which kinds can be executed, and the docs profile that says what they are about.

use std::collections::BTreeMap;

use handshake_core::DocumentId;
use handshake_core::docs_profile::{DOCS_INPUT, DocsProfile};
use handshake_core::job::{EntityRef, JobKind};
use handshake_core::storage::StorageError;
use handshake_core::workflow::{InputType, Workflow};
use serde_json::{Value, json};

use super::SubmitError;
use super::inputs::{InputError, InputValue};
use crate::documents::State;
use crate::engine::EngineServices;
use crate::workflow::{Place, Problem};

/// What a profile looks like, for those who got it wrong.
const FORM: &str = "write {\"doc_id\": ID, \"layer_scope\": \"document\"}, with `section` or `block` and a `selection` of \
     `start_block` and `end_block` for less, or the id alone for the whole document; `handshake documents list` shows the ids";

/// Whether there is something that executes jobs of this kind.
pub(crate) const fn is_executable(kind: JobKind) -> bool {
    matches!(kind, JobKind::WorkflowRun) || kind.has_docs_profile()
}

/// What to write instead of a kind that cannot be executed.
pub(crate) fn executable_kinds() -> String {
    let kinds = JobKind::ALL.iter().filter(|kind| is_executable(**kind));
    let kinds: Vec<_> = kinds.map(|kind| format!("`{kind}`")).collect();
    format!("write one of {} as `kind` in the workflow file", kinds.join(", "))
}

/// Refuses kinds that cannot be executed, and kinds that are about a document without an input that names it.
pub(crate) fn check_kind(workflow: &Workflow) -> Result<(), Problem> {
    let kind = workflow.job.kind;
    let place = Place::default().key("job").key("kind");
    if !is_executable(kind) {
        let what = format!("this version has no executor for jobs of kind `{kind}`");
        return Err(Problem::at(place, what, executable_kinds()));
    }
    let declared = workflow.inputs.get(DOCS_INPUT).map(|input| input.kind);
    if kind.has_docs_profile() && declared != Some(InputType::Object) {
        let what = format!("jobs of kind `{kind}` are about a document, and the workflow has no input for it");
        return Err(Problem::at(place, what, format!("declare it: `inputs: {{ {DOCS_INPUT}: {{ type: object }} }}`")));
    }
    Ok(())
}

/// A document's id alone means all of it. Ids get the form in which they are compared; what is no profile stays as it
/// is, and is refused later.
pub(super) fn expand(kind: JobKind, given: &mut BTreeMap<String, InputValue>) {
    if !kind.has_docs_profile() {
        return;
    }
    let profile = match given.get(DOCS_INPUT) {
        Some(InputValue::Text(text) | InputValue::Json(Value::String(text))) => {
            let whole = text.trim().parse::<DocumentId>().ok().map(DocsProfile::whole);
            whole.or_else(|| serde_json::from_str(text).ok())
        }
        Some(InputValue::Json(value)) => serde_json::from_value(value.clone()).ok(),
        None => None,
    };
    if let Some(profile) = profile {
        given.insert(DOCS_INPUT.to_owned(), InputValue::Json(json!(profile)));
    }
}

/// What a job is about: the document, which exists, as does what is selected in it.
pub(super) async fn entities(
    services: &EngineServices,
    kind: JobKind,
    inputs: &Value,
) -> Result<Vec<EntityRef>, SubmitError> {
    if !kind.has_docs_profile() {
        return Ok(Vec::new());
    }
    let refuse = |what: String, remedy: &str| InputError::new(DOCS_INPUT, what, remedy);
    let profile = DocsProfile::of_inputs(inputs).map_err(|error| refuse(error.to_string(), FORM))?;
    let id = profile.doc_id;
    let document = match services.content.document(id).await {
        Ok(document) => document,
        Err(StorageError::NotFound { .. }) => {
            let what = format!("document `{id}` does not exist");
            return Err(refuse(what, "`handshake documents list` shows those that do").into());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(selection) = profile.selection {
        let state = State { document, blocks: services.content.blocks(id).await? };
        if !crate::proposals::is_selectable(&state, selection) {
            let (start, end) = (selection.start_block, selection.end_block);
            let what = format!("document `{id}` has no blocks from `{start}` to `{end}`");
            let remedy = format!("`handshake documents show {id} --blocks` shows them in their order");
            return Err(refuse(what, &remedy).into());
        }
    }
    Ok(vec![profile.entity()])
}
