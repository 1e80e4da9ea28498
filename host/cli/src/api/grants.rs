//! Grants: what people have said yes to, and taking it back.

use axum::Json;
use axum::extract::{Path, State};
use handshake_core::capability::{Grant, PermissionRequest};
use handshake_core::storage::{GrantFilter, Page};
use handshake_core::token::Right;
use handshake_core::{ApprovalId, GrantId};
use handshake_recorder::MatrixQuery;
use serde::{Deserialize, Serialize};

use super::{Answer, Caller, Document, Host, Parameters, Refusal, Routes};
use crate::error::CliError;
use crate::host::HostState;

pub(super) fn routes() -> Routes {
    Routes::new().get(Right::Audit, "/grants", "What people have granted, newest first", list).post(
        Right::Operate,
        "/grants/{id}/revoke",
        "Takes a grant back",
        revoke,
    )
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ListParameters {
    /// Those that do not hold any more as well.
    all: bool,
    limit: u32,
    after: Option<GrantId>,
}

/// Grants, newest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct GrantList {
    /// The grants.
    pub(crate) grants: Vec<Grant>,
    /// What to give as `after` for the next page.
    pub(crate) next: Option<GrantId>,
}

/// Why a grant is taken back.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RevokeRequest {
    /// At most 4 KiB.
    pub(crate) reason: Option<String>,
}

/// How a plugin and a capability have got on so far.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct PermissionHistory {
    /// The question that it is told with.
    pub(crate) approval_id: ApprovalId,
    /// How often a person had to be asked.
    pub(crate) asked: u64,
    /// How often somebody said yes.
    pub(crate) granted: u64,
    /// How often a call was let through.
    pub(crate) used: u64,
}

async fn list(State(host): Host, Parameters(parameters): Parameters<ListParameters>) -> Answer<GrantList> {
    let ListParameters { all, limit, after } = parameters;
    let page = Page { limit, after };
    let filter = GrantFilter { live_at: (!all).then(|| host.gate.clock.now()), plugin: None, page };
    let size = usize::try_from(filter.page.size()).unwrap_or(usize::MAX);
    let grants = host.database.grants(&filter).await?;
    let next = grants.last().filter(|_| grants.len() >= size).map(|grant| grant.grant_id);
    Ok(Json(GrantList { grants, next }))
}

/// Answers when no call is let through any more that only this grant allowed.
async fn revoke(
    State(host): Host,
    caller: Caller,
    Path(id): Path<String>,
    Document(request): Document<RevokeRequest>,
) -> Answer<Grant> {
    let id: GrantId = id.parse().map_err(|_| {
        let refused = CliError::usage(format!("`{id}` is not the id of a grant"));
        Refusal(refused.hint("handshake capabilities grants shows them"))
    })?;
    // It comes to that although whoever asked may go away.
    let revoked = tokio::spawn(async move { host.engine.revoke(id, request.reason, &caller.actor).await }).await;
    Ok(Json(revoked.map_err(|error| CliError::internal("taking the grant back failed").because(&error))??))
}

/// What is known of a plugin and a capability when somebody is asked, by the record as far as it is kept.
pub(super) async fn history(
    host: &HostState,
    approval_id: ApprovalId,
    request: &PermissionRequest,
) -> Result<PermissionHistory, CliError> {
    let (plugin, axis) = (&request.plugin, request.asked.capability.axis());
    let query = MatrixQuery { plugin: Some(plugin.to_string()), ..MatrixQuery::default() };
    let rows = host.projection().await?.matrix(&query).await?;
    let (mut asked, mut used) = (0, 0);
    for row in rows.iter().filter(|row| row.capability == axis.name()) {
        asked += row.denied_reasons.get("needs-approval").copied().unwrap_or(0);
        used += row.allowed;
    }
    let mut granted = 0;
    let mut filter = GrantFilter { plugin: Some(plugin.clone()), ..GrantFilter::default() };
    filter.page.limit = 1_000;
    loop {
        let page = host.database.grants(&filter).await?;
        let Some(last) = page.last() else { break };
        filter.page.after = Some(last.grant_id);
        granted += page.iter().filter(|grant| grant.capability.axis() == axis).count() as u64;
    }
    Ok(PermissionHistory { approval_id, asked, granted, used })
}
