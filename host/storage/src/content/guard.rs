//! Whether an edit may be made, asked within its transaction: a job that ends at the same time waits, or has ended.

use handshake_core::edit::EditContext;
use handshake_core::storage::StorageError;

use crate::error::{failed, unreadable};
use crate::operation::{Refusal, Step};
use crate::sql::query;

const STATE: &str = "SELECT state FROM jobs WHERE job_id = $1";
const JOB_OF: &str = "SELECT job_id FROM runs WHERE run_id = $1";

pub(super) async fn allow(step: &mut Step<'_>, context: &EditContext) -> Result<(), Refusal> {
    let operation = "look for the job of an edit";
    let mut state = None;
    if let Some(job) = context.job {
        let found = query(STATE).bind(job.to_string()).keep_rows().fetch_value::<String>(step.connection).await;
        let found = found.map_err(failed(operation))?;
        state = found.map(|state| state.parse()).transpose().map_err(unreadable("job state"))?;
    }
    let mut run_of = None;
    if let Some(run) = context.run {
        let found = query(JOB_OF).bind(run.to_string()).fetch_value::<String>(step.connection).await;
        let found = found.map_err(failed(operation))?;
        run_of = found.map(|job| job.parse()).transpose().map_err(unreadable("job id"))?;
    }
    context.allow(state, run_of).map_err(|refused| Refusal::Answer(StorageError::from(refused)))
}
