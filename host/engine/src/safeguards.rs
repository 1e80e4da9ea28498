//! What the operator's configuration says of jobs before they begin.

use std::sync::Arc;

use handshake_core::credential::Credentials;
use handshake_core::secret::SecretScanner;
use handshake_core::workflow::Budget;

use crate::engine::EngineServices;
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
}

impl EngineServices {
    /// What workflows are checked against.
    pub(crate) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            executor: &*self.executor,
            profiles: &self.profiles,
            credentials: self.safeguards.credentials.as_deref(),
        }
    }
}
