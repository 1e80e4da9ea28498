//! The runs that this process executes: started, followed, cancelled, waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use handshake_core::event::Actor;
use handshake_core::{JobId, RunId};
use handshake_engine::{Control, Engine, EngineError, Submission, SubmittedJob};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::error::CliError;

/// One run under way.
#[derive(Debug)]
pub(crate) struct Execution {
    job: JobId,
    control: Control,
    /// Fires when the run is over, however it ended.
    pub(crate) finished: CancellationToken,
    /// Why it could not be driven to its end.
    pub(crate) failure: OnceLock<CliError>,
}

/// All runs under way in this process.
#[derive(Debug)]
pub(crate) struct Executions {
    active: Mutex<BTreeMap<RunId, Arc<Execution>>>,
    accepting: AtomicBool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Takes a run out of the list when it is over, even if its task panicked.
struct Leave {
    executions: Arc<Executions>,
    run: RunId,
    execution: Arc<Execution>,
    _finished: DropGuard,
}

impl Leave {
    /// The run is over, or could not be driven to its end.
    fn ended(self, error: Option<EngineError>) {
        if let Some(error) = error {
            tracing::error!(run = %self.run, %error, "the run could not be driven to its end");
            // First write wins; there is only this one.
            let _ = self.execution.failure.set(error.into());
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.executions.active().remove(&self.run);
    }
}

impl Executions {
    /// None yet.
    pub(crate) fn new(accepting: bool) -> Self {
        Self {
            active: Mutex::default(),
            accepting: AtomicBool::new(accepting),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    fn active(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Arc<Execution>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new jobs are taken.
    pub(crate) fn accepts(&self) -> bool {
        self.accepting.load(Ordering::SeqCst) && !self.stop.is_cancelled()
    }

    /// Keeps the process from ending while a submission is under way; none when it takes no more jobs.
    pub(crate) fn admit(&self) -> Option<tokio_util::task::task_tracker::TaskTrackerToken> {
        // The token first: whoever closes sees either the token or a submission that sees the closing.
        let token = self.tasks.token();
        self.accepts().then_some(token)
    }

    /// Puts a run into the list, unless it is there.
    fn enter(self: &Arc<Self>, run: RunId, job: JobId, control: Control) -> Result<Leave, Arc<Execution>> {
        let mut active = self.active();
        if let Some(execution) = active.get(&run) {
            return Err(Arc::clone(execution));
        }
        let finished = CancellationToken::new();
        let execution = Arc::new(Execution { job, control, finished: finished.clone(), failure: OnceLock::new() });
        active.insert(run, Arc::clone(&execution));
        Ok(Leave { executions: Arc::clone(self), run, execution, _finished: finished.drop_guard() })
    }

    /// Executes a run in the background.
    pub(crate) fn start(self: &Arc<Self>, engine: Engine, run: RunId, job: JobId, by: Actor) -> Arc<Execution> {
        let entered = match self.enter(run, job, Control::new(self.stop.child_token())) {
            Ok(entered) => entered,
            Err(execution) => return execution,
        };
        let execution = Arc::clone(&entered.execution);
        self.tasks.spawn(async move {
            let driven = engine.resume(run, &by, &entered.execution.control).await;
            entered.ended(driven.err());
        });
        execution
    }

    /// Stores a job and executes it in the background. No execution when the idempotency key was used before. Whoever
    /// goes away meanwhile does not keep it from beginning.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        engine: Engine,
        submission: Submission,
    ) -> Result<(SubmittedJob, Option<Arc<Execution>>), EngineError> {
        let (told, begun) = oneshot::channel();
        let (executions, control) = (Arc::clone(self), Control::new(self.stop.child_token()));
        self.tasks.spawn(async move {
            let mut entered = None;
            let driven = engine.run(submission, &control, |submitted| {
                let answer = submitted.map(|submitted| {
                    if !submitted.existing {
                        entered = executions.enter(submitted.run_id, submitted.job_id, control.clone()).ok();
                    }
                    (submitted, entered.as_ref().map(|entered| Arc::clone(&entered.execution)))
                });
                // Nobody may be there any more.
                drop(told.send(answer));
            });
            let driven = driven.await;
            if let Some(entered) = entered {
                entered.ended(driven.err());
            }
        });
        let gone = |_| Err(EngineError::Internal("the submission was given up".to_owned()));
        begun.await.unwrap_or_else(gone)
    }

    /// A run under way.
    pub(crate) fn of_run(&self, run: RunId) -> Option<Arc<Execution>> {
        self.active().get(&run).cloned()
    }

    /// Cancels what runs of a job are under way; says whether there were any.
    pub(crate) fn cancel_job(&self, job: JobId) -> bool {
        self.each_of(job, Control::cancel)
    }

    /// Pauses what runs of a job are under way; says whether there were any.
    pub(crate) fn pause_job(&self, job: JobId, by: &Actor) -> bool {
        self.each_of(job, |control| control.pause(by.clone()))
    }

    fn each_of(&self, job: JobId, act: impl Fn(&Control)) -> bool {
        let mut any = false;
        for execution in self.active().values().filter(|execution| execution.job == job) {
            act(&execution.control);
            any = true;
        }
        any
    }

    /// Lets every run wait for the next process: what runs ends first, and nothing more begins.
    pub(crate) fn leave(&self) {
        self.refuse_more();
        self.active().values().for_each(|execution| execution.control.leave());
    }

    /// How many runs are under way.
    pub(crate) fn count(&self) -> usize {
        self.active().len()
    }

    /// Cancels everything and takes no more.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Takes no more jobs.
    pub(crate) fn refuse_more(&self) {
        self.accepting.store(false, Ordering::SeqCst);
        self.tasks.close();
    }

    /// Waits for everything under way.
    pub(crate) async fn finished(&self) {
        self.tasks.wait().await;
    }
}
