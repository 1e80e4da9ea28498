//! Grants: given by an answer to a question, in force before anybody goes on, and taken back at once.

use std::time::Duration;

use handshake_core::approval::{Approval, ApprovalError};
use handshake_core::capability::{Extent, Grant, GrantTerms, LONGEST_PERIOD, PermissionRequest};
use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody, GrantNote};
use handshake_core::storage::{GrantFilter, StorageError};
use handshake_core::{EventId, GrantId, TraceId};

use crate::engine::{EngineError, EngineServices};

/// For so long a grant that was taken back is known, so that attempts that were under way are told that it was. Later
/// they are told that nobody was asked, and wait for an answer.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Puts in force what people have granted, on whichever host. When this returns no call is let through any more that
/// only a grant allowed which was taken back.
pub(crate) async fn refresh(services: &EngineServices) -> Result<(), EngineError> {
    loop {
        let generation = services.policy.generation();
        let found = live(services).await?;
        // Whoever was faster has perhaps read less than is stored by now, or more.
        if let Some(replaced) = services.policy.grant(generation, found.into_iter().collect()) {
            replaced.is_over().await;
            return Ok(());
        }
    }
}

/// Those that hold, and those that were taken back lately.
async fn live(services: &EngineServices) -> Result<Vec<Grant>, EngineError> {
    let live_at = Some(services.clock.now().minus(REMEMBERED));
    let mut filter = GrantFilter { live_at, ..GrantFilter::default() };
    filter.page.limit = 1_000;
    let mut all = Vec::new();
    loop {
        let page = services.database.grants(&filter).await?;
        let Some(last) = page.last() else { return Ok(all) };
        filter.page.after = Some(last.grant_id);
        all.extend(page);
    }
}

/// Stores what a yes to a question grants. It is not in force yet.
pub(crate) async fn give(
    services: &EngineServices,
    approval: &Approval,
    request: &PermissionRequest,
    extent: Extent,
    reason: Option<String>,
    by: &Actor,
) -> Result<Grant, EngineError> {
    if let Extent::For(period) = extent
        && (period > LONGEST_PERIOD || period.0 < Duration::from_secs(1))
    {
        let problem = format!("a grant holds for 1s to {LONGEST_PERIOD}; `--until-revoked` says more");
        return Err(ApprovalError::Invalid(problem).into());
    }
    let now = services.clock.now();
    let grant = Grant {
        grant_id: GrantId::fresh(&*services.ids),
        plugin: request.plugin.clone(),
        capability: request.asked.capability.clone(),
        terms: GrantTerms {
            extent,
            approval_id: approval.approval_id,
            job_id: approval.job_id,
            run_id: approval.run_id,
            step_id: approval.step_id.clone(),
            index: approval.index,
            attempt: request.attempt,
            workspace: request.workspace.clone(),
            granted_by: by.id.clone(),
            reason: reason.clone(),
        },
        expires_at: match extent {
            Extent::For(period) => Some(now.plus(period.0)),
            Extent::Once | Extent::Job | Extent::UntilRevoked => None,
        },
        created_at: now,
        revoked_at: None,
        revoked_by: None,
    };
    let event = event(services, &grant, "granted", reason, by).await?;
    services.database.add_grant(grant.clone(), vec![event]).await?;
    Ok(grant)
}

/// Takes a grant back. When this returns no call is let through any more that only this grant allowed.
pub(crate) async fn revoke(
    services: &EngineServices,
    id: GrantId,
    reason: Option<String>,
    by: &Actor,
) -> Result<Grant, EngineError> {
    let mut grant = services.database.grant(id).await?;
    grant.revoked_at = Some(services.clock.now());
    grant.revoked_by = Some(by.id.clone());
    let event = event(services, &grant, "revoked", reason, by).await?;
    services.database.revoke_grant(grant.clone(), vec![event]).await?;
    refresh(services).await?;
    Ok(grant)
}

async fn event(
    services: &EngineServices,
    grant: &Grant,
    decision: &str,
    reason: Option<String>,
    by: &Actor,
) -> Result<AdmittedEvent, EngineError> {
    let terms = &grant.terms;
    // The job may have been deleted since; then the event stands for itself.
    let job = match services.database.job(terms.job_id).await {
        Ok(job) => Some(job),
        Err(StorageError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let body = EventBody::Approval {
        approval_id: Some(terms.approval_id),
        decision: decision.to_owned(),
        reason,
        grant: Some(Box::new(GrantNote {
            grant_id: grant.grant_id,
            plugin: grant.plugin.clone(),
            capability: grant.capability.clone(),
            extent: terms.extent,
            expires_at: grant.expires_at,
        })),
    };
    let trace = job.as_ref().map_or_else(|| TraceId::fresh(&*services.ids), |job| job.trace_id);
    let id = EventId::fresh(&*services.ids);
    let mut event = Event::new(id, trace, services.clock.now(), by.clone(), body);
    if job.is_some() {
        event.job_id = Some(terms.job_id);
        event.workflow_run_id = Some(terms.run_id);
        event.step_id = Some(terms.step_id.clone());
    }
    event.capability_id = Some(grant.capability.axis().name().to_owned());
    Ok(services.recorder.admit(&event)?)
}
