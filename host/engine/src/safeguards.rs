//! What the operator's configuration says of jobs before they begin.

use std::sync::Arc;

use handshake_core::capability::{Asked, Denial};
use handshake_core::credential::Credentials;
use handshake_core::event::{RedactionScope, Redactor};
use handshake_core::secret::SecretScanner;
use handshake_core::step::{LogLevel, StepFailure, StepObserver, Usage};
use handshake_core::workflow::Budget;

use crate::engine::EngineServices;
use crate::run::bounded;
use crate::workflow::Surroundings;

/// What the operator's configuration says of jobs before they begin. By default nothing is known and nothing limited.
#[derive(Clone, Default)]
pub struct Safeguards {
    /// What there are credentials for; none when nobody knows, and then no workflow is refused for want of one.
    pub credentials: Option<Arc<Credentials>>,
    /// The most that any job may spend. What happens when it is used up is the workflow's to say.
    pub budget: Budget,
    /// Finds secrets among inputs; none when nobody looks.
    pub scanner: Option<Arc<dyn SecretScanner>>,
    /// Keeps secrets out of what is stored and shown of steps besides their payloads: errors, log lines, progress; none
    /// when nothing is kept out.
    pub redactor: Option<Arc<dyn Redactor>>,
}

/// What guests and errors say, without secrets.
#[derive(Clone)]
pub(crate) struct Words(Option<Arc<dyn Redactor>>);

impl Words {
    pub(crate) fn clean(&self, text: String) -> String {
        let found = self.0.as_ref().and_then(|redactor| redactor.redact(RedactionScope::Text, &text));
        found.map_or(text, |(clean, _)| clean)
    }

    /// For an error message that is stored. Cleaned before it is cut: half a secret has no form.
    pub(crate) fn message(&self, text: String) -> String {
        bounded(self.clean(text))
    }

    pub(crate) fn failure(&self, failure: StepFailure) -> StepFailure {
        let clean = |text: String| self.clean(text);
        match failure {
            StepFailure::InvalidInput(text) => StepFailure::InvalidInput(clean(text)),
            StepFailure::Denied(denial) => StepFailure::Denied(Denial {
                capability: clean(denial.capability),
                resource: clean(denial.resource),
                remedy: clean(denial.remedy),
                ..denial
            }),
            StepFailure::Transient(text) => StepFailure::Transient(clean(text)),
            StepFailure::Permanent(text) => StepFailure::Permanent(clean(text)),
            StepFailure::Trap(text) => StepFailure::Trap(clean(text)),
            StepFailure::Limit { limit, detail } => StepFailure::Limit { limit, detail: clean(detail) },
            StepFailure::Contract(text) => StepFailure::Contract(clean(text)),
            StepFailure::Violation { kind, detail } => StepFailure::Violation { kind, detail: clean(detail) },
            StepFailure::Host(text) => StepFailure::Host(clean(text)),
            StepFailure::NeedsApproval(asked) => {
                StepFailure::NeedsApproval(Box::new(Asked { resource: clean(asked.resource.clone()), ..*asked }))
            }
            StepFailure::Timeout(_) | StepFailure::Cancelled => failure,
        }
    }
}

/// Passes on what a guest says, without secrets.
pub(crate) struct CleanObserver<O> {
    pub(crate) words: Words,
    pub(crate) observer: O,
}

impl<O: StepObserver> StepObserver for CleanObserver<O> {
    fn log(&self, level: LogLevel, line: &str) {
        self.observer.log(level, &self.words.clean(line.to_owned()));
    }

    fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        self.observer.progress(done, total, &self.words.clean(message.to_owned()));
    }

    fn used(&self, usage: Usage) {
        self.observer.used(usage);
    }
}

impl EngineServices {
    /// What may be said.
    pub(crate) fn words(&self) -> Words {
        Words(self.safeguards.redactor.clone())
    }

    /// What workflows are checked against.
    pub(crate) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            executor: &*self.executor,
            profiles: &self.profiles,
            credentials: self.safeguards.credentials.as_deref(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use handshake_core::capability::{DenialLabel, Layer};

    use super::*;

    struct Hider;

    impl Redactor for Hider {
        fn redact(&self, scope: RedactionScope, text: &str) -> Option<(String, Vec<&'static str>)> {
            assert_eq!(scope, RedactionScope::Text);
            text.contains("hunter2").then(|| (text.replace("hunter2", "…"), vec!["secret_password"]))
        }
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl StepObserver for &Heard {
        fn log(&self, _: LogLevel, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }

        fn progress(&self, _: u64, _: Option<u64>, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }

    #[test]
    fn whatever_a_failure_says_is_cleaned() {
        let words = Words(Some(Arc::new(Hider)));
        let secret = || "x hunter2".to_owned();
        let denial = Denial {
            capability: secret(),
            resource: secret(),
            reason: DenialLabel::NotGranted,
            layer: Layer::Grant,
            remedy: secret(),
        };
        for failure in [
            StepFailure::InvalidInput(secret()),
            StepFailure::Denied(denial),
            StepFailure::Transient(secret()),
            StepFailure::Permanent(secret()),
            StepFailure::Trap(secret()),
            StepFailure::Limit { limit: "fuel", detail: secret() },
            StepFailure::Contract(secret()),
            StepFailure::Violation { kind: "k".into(), detail: secret() },
            StepFailure::Host(secret()),
            StepFailure::Timeout(Duration::from_secs(1)),
            StepFailure::Cancelled,
        ] {
            let clean = format!("{:?}", words.failure(failure));
            assert!(!clean.contains("hunter2"), "{clean}");
        }
    }

    #[test]
    fn a_message_is_cleaned_before_it_is_cut() {
        let words = Words(Some(Arc::new(Hider)));
        let cut = words.message(format!("{}hunter2", "x".repeat(4_090)));
        assert!(!cut.contains("hunt"), "{cut}");
        assert_eq!(Words(None).message("hunter2".into()), "hunter2");
    }

    #[test]
    fn log_lines_and_progress_are_cleaned() {
        let heard = Heard::default();
        let observer = CleanObserver { words: Words(Some(Arc::new(Hider))), observer: &heard };
        observer.log(LogLevel::Info, "a hunter2");
        observer.progress(1, None, "b hunter2");
        assert_eq!(*heard.0.lock().unwrap(), ["a …", "b …"]);
    }
}
