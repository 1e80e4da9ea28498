//! Pinning: a person keeps a job, and all that it started, from the janitor, or lets go of it again.

use handshake_core::JobId;
use handshake_core::event::{Actor, EventBody};
use handshake_core::job::AiJob;

use crate::approvals;
use crate::control::{latest_run, require_whole};
use crate::engine::{EngineError, EngineServices};
use crate::run::Envelope;

/// Pins a job or lets go of it. Who did is on record with it; what is so already stays as it is, without a record.
pub(crate) async fn pin(services: &EngineServices, id: JobId, pinned: bool, by: &Actor) -> Result<AiJob, EngineError> {
    let family = approvals::family(services, id).await?;
    if let Some(job) = family.first() {
        require_whole(services, job).await?;
    }
    let (kind, what) = if pinned { ("job_pinned", "is pinned") } else { ("job_unpinned", "is not pinned any more") };
    // The job itself last: while it is not, what a crash has left of the others can be done again.
    for job in family.iter().rev().filter(|job| job.is_pinned != pinned) {
        let run = latest_run(services, job).await?;
        let envelope = Envelope { services, job: job.job_id, run, trace: job.trace_id };
        let body = EventBody::System { kind: kind.to_owned(), detail: format!("job `{}` {what}", job.job_id) };
        services.database.pin(job.job_id, pinned, vec![envelope.admit(by.clone(), body)?]).await?;
    }
    Ok(services.database.job(id).await?)
}
