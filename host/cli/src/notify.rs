//! Tells somebody when a job waits for people or has failed: `[notify]` in `handshake.toml` names a command.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::event::{Event, EventBody};
use handshake_core::job::JobState;
use handshake_core::storage::EventOutbox as _;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::error::CliError;
use crate::host::HostState;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Commands at the same time; a thousand jobs that fail at once are told of one after the other.
const AT_ONCE: usize = 4;
/// Records that are read at a time.
const BATCH: u32 = 512;
/// Pause after the record could not be read.
const PAUSE: Duration = Duration::from_secs(5);

/// What somebody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Occasion {
    /// A job waits for a person.
    Waiting,
    /// A job has failed, or was poisoned.
    Failed,
}

/// `[notify]` as written.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NotifyFile {
    /// A program and its arguments. It is started for each occasion, in the project's folder, with one JSON document on its
    /// standard input: `job_id`, `workflow`, `state`, `reason`, `trace_id`. Default none.
    command: Vec<String>,
    /// Occasions; default `["waiting", "failed"]`.
    on: Option<Vec<Occasion>>,
}

/// Whom to tell of what.
#[derive(Debug, Clone)]
pub(crate) struct Notify {
    program: String,
    arguments: Vec<String>,
    on: Vec<Occasion>,
}

impl NotifyFile {
    /// Checks everything. `name` is the settings file as the person knows it.
    pub(crate) fn resolve(self, name: &str) -> Result<Option<Notify>, CliError> {
        let on = self.on.unwrap_or_else(|| vec![Occasion::Waiting, Occasion::Failed]);
        let mut command = self.command.into_iter();
        match command.next() {
            None => Ok(None),
            Some(program) if program.is_empty() => {
                Err(CliError::usage(format!("{name}: notify.command: the program has no name")))
            }
            Some(program) => Ok(Some(Notify { program, arguments: command.collect(), on })),
        }
    }
}

/// What the command reads.
#[derive(Debug, Serialize)]
struct Told<'a> {
    job_id: String,
    workflow: &'a str,
    state: &'a str,
    reason: &'a str,
    trace_id: String,
}

fn occasion(state: JobState) -> Option<Occasion> {
    match state {
        JobState::AwaitingUser => Some(Occasion::Waiting),
        JobState::Failed | JobState::Poisoned => Some(Occasion::Failed),
        _ => None,
    }
}

/// Tells of what is recorded from now on.
pub(crate) async fn keep_telling(host: Arc<HostState>, notify: Notify) {
    let notify = Arc::new(notify);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut seq = loop {
        match host.log.flush().await {
            Ok(head) => break head.seq,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    loop {
        host.log.grown_past(seq).await;
        let records = match host.log.read_after(seq, BATCH).await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%error, "the record cannot be read; nobody is told of jobs for a while");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        for record in &records {
            seq = record.seq;
            let Ok(event) = record.event() else { continue };
            let EventBody::JobTransition { to_state, .. } = &event.body else { continue };
            if occasion(*to_state).is_some_and(|occasion| notify.on.contains(&occasion)) {
                // Never closed.
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let (host, notify) = (Arc::clone(&host), Arc::clone(&notify));
                tokio::spawn(async move {
                    let _permit = permit;
                    tell(&host, &notify, &event).await;
                });
            }
        }
    }
}

async fn tell(host: &HostState, notify: &Notify, event: &Event) {
    let EventBody::JobTransition { to_state, reason, .. } = &event.body else { return };
    let Some(id) = event.job_id else { return };
    // A part of another job is told of with that.
    let Ok(job) = host.database.job(id).await else { return };
    if job.parent_job_id.is_some() {
        return;
    }
    let told = Told {
        job_id: id.to_string(),
        workflow: &job.protocol_id,
        state: to_state.as_str(),
        reason,
        trace_id: event.trace_id.to_string(),
    };
    let problem = match tokio::time::timeout(PATIENCE, run(host, notify, &told)).await {
        Ok(Ok(())) => return,
        Ok(Err(problem)) => problem,
        Err(_) => format!("it took longer than {PATIENCE:?}"),
    };
    tracing::warn!(job = %id, problem, "the command of notify.command did not tell of a job");
}

async fn run(host: &HostState, notify: &Notify, told: &Told<'_>) -> Result<(), String> {
    let mut document = serde_json::to_vec(told).map_err(|error| error.to_string())?;
    document.push(b'\n');
    let mut command = Command::new(&notify.program);
    command.args(&notify.arguments).current_dir(&host.project).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read what it is told is free not to.
        let _ = stdin.write_all(&document).await;
    }
    let ended = child.wait().await.map_err(|error| error.to_string())?;
    if ended.success() { Ok(()) } else { Err(ended.to_string()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_of_what_it_asks_for() {
        let resolve = |text: &str| toml::from_str::<NotifyFile>(text).unwrap().resolve("handshake.toml");
        assert!(resolve("").unwrap().is_none());
        let all = resolve("command = [\"tell\", \"me\"]").unwrap().unwrap();
        assert_eq!((all.program.as_str(), all.arguments.len(), all.on.len()), ("tell", 1, 2));
        let failed = resolve("command = [\"tell\"]\non = [\"failed\"]").unwrap().unwrap();
        assert_eq!(failed.on, [Occasion::Failed]);
        assert_eq!(
            resolve("command = [\"\"]").unwrap_err().message,
            "handshake.toml: notify.command: the program has no name"
        );
        assert!(toml::from_str::<NotifyFile>("on = [\"done\"]").is_err());
        assert_eq!(occasion(JobState::Poisoned), Some(Occasion::Failed));
        assert_eq!(occasion(JobState::Completed), None);
    }
}
