//! What the store of one attempt holds.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use handshake_core::artifact::ArtifactStore;
use handshake_core::capability::{Axis, Denial, Resource};
use handshake_core::document::{DocumentReader, Proposal};
use handshake_core::gate::{AttemptGate, Call, Permit};
use handshake_core::job::JobMetrics;
use handshake_core::model::Models;
use handshake_core::mount::MountAccess;
use handshake_core::secret::SecretStore;
use handshake_core::step::LogLevel;
use handshake_core::{Digest, RunId};
use serde_json::Value;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::limits::{LimitExceeded, SummedMemory};
use crate::network::NameResolver;
use crate::observer::Voice;
use crate::secrets::{AttemptSecrets, Violation, Violations};
use crate::wasi::http::GatedRequests;
use crate::wasi::{AttemptSockets, Written};

/// What stands behind the interfaces of `handshake:step`.
#[derive(Clone)]
pub(crate) struct Backends {
    pub(crate) models: Arc<dyn Models>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) documents: Arc<dyn DocumentReader>,
    pub(crate) secrets: Arc<dyn SecretStore>,
}

/// A mount with its folder opened.
pub(crate) struct OpenMount {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) access: MountAccess,
    pub(crate) root: Arc<File>,
}

/// Where an open file or folder of the guest lies. wasmtime's descriptors do not hold their path.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Index into `StepState::mounts`.
    pub(crate) mount: usize,
    /// Path inside the mount.
    pub(crate) path: Vec<String>,
}

pub(crate) struct StepState {
    pub(crate) gate: Arc<AttemptGate>,
    pub(crate) run: Option<RunId>,
    pub(crate) backends: Backends,
    pub(crate) settings: Arc<BTreeMap<String, Value>>,
    pub(crate) voice: Voice,
    /// What a program is started with.
    pub(crate) arguments: Vec<String>,
    pub(crate) stdout: Written,
    pub(crate) stderr: Written,
    pub(crate) mounts: Vec<OpenMount>,
    pub(crate) places: HashMap<u32, Place>,
    /// Directory listings that are open: each holds all entries of its folder.
    pub(crate) open_listings: usize,
    pub(crate) memory: SummedMemory,
    pub(crate) host_calls: HostCalls,
    pub(crate) metrics: JobMetrics,
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) proposed_bytes: usize,
    /// The last refusal, which is most likely why a step that fails did.
    pub(crate) last_denial: LastDenial,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) requests: GatedRequests,
    pub(crate) sockets: AttemptSockets,
    pub(crate) resolver: Arc<dyn NameResolver>,
    pub(crate) issued: Arc<AttemptSecrets>,
    pub(crate) violations: Violations,
    /// Variables that the operator passes on.
    pub(crate) environment: Arc<BTreeMap<String, String>>,
}

/// Counts calls into the host, of whatever kind.
#[derive(Debug)]
pub(crate) struct HostCalls {
    pub(crate) left: u64,
    pub(crate) limit: u64,
}

impl HostCalls {
    /// How many were made.
    pub(crate) fn made(&self) -> u64 {
        self.limit - self.left
    }

    pub(crate) fn count(&mut self) -> Result<(), LimitExceeded> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(LimitExceeded::new(
                "host_calls",
                format!(
                    "{} calls into the host are allowed; raise limits.host_calls in plugin.toml if the plugin really needs more",
                    self.limit
                ),
            )),
        }
    }
}

/// The security violation that a wrong permit is.
const WRONG_PERMIT: &str = "wrong_permit";

impl StepState {
    /// What ends the attempt, whatever the guest makes of it.
    pub(crate) fn violation(&self) -> Option<Violation> {
        let wrong = self.gate.violation().map(|wrong| Violation { kind: WRONG_PERMIT, detail: wrong.to_string() });
        wrong.or_else(|| self.violations.get().cloned())
    }

    /// Asks the gate; what is not granted is also told to whoever watches, with the line that would grant it.
    ///
    /// The future holds nothing of the state, which cannot be shared between threads while it waits.
    pub(crate) fn permit(
        &self,
        (interface, function): (&'static str, &'static str),
        axis: Axis,
        resource: Resource,
        arguments: Digest,
    ) -> impl Future<Output = Result<Permit, Denial>> + Send + use<> {
        self.permit_answer(Call { interface, function, axis, resource, arguments }, None)
    }

    /// The same for an answer of a model, of at most so many tokens.
    pub(crate) fn permit_answer(
        &self,
        call: Call,
        max_tokens: Option<u32>,
    ) -> impl Future<Output = Result<Permit, Denial>> + Send + use<> {
        let (gate, voice, last) = (Arc::clone(&self.gate), self.voice.clone(), self.last_denial.clone());
        async move {
            let permit = gate.permit_answer(call, max_tokens).await;
            last.follow(permit.as_ref().err());
            permit.inspect_err(|denial| voice.log(LogLevel::Warn, &denial.to_string()))
        }
    }

    /// The same for a call that answers a refusal with nothing, so that the guest cannot tell one: it explains no failure.
    pub(crate) fn permit_unseen(
        &self,
        (interface, function): (&'static str, &'static str),
        axis: Axis,
        resource: Resource,
        arguments: Digest,
    ) -> impl Future<Output = Result<Permit, Denial>> + Send + use<> {
        let (gate, voice) = (Arc::clone(&self.gate), self.voice.clone());
        async move {
            let permit = gate.permit_answer(Call { interface, function, axis, resource, arguments }, None).await;
            permit.inspect_err(|denial| voice.log(LogLevel::Warn, &denial.to_string()))
        }
    }
}

/// The refusal that may explain why an attempt fails: one that the guest was told of, and after which it was allowed
/// nothing more. What it did then was not what the refusal kept it from.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastDenial(Arc<Mutex<Option<Denial>>>);

impl LastDenial {
    /// What became of the attempt's latest call.
    pub(crate) fn follow(&self, denial: Option<&Denial>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = denial.cloned();
    }

    /// What may explain a failure now.
    pub(crate) fn take(&self) -> Option<Denial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl WasiView for StepState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

#[cfg(test)]
mod tests {
    use handshake_core::capability::{DenialLabel, Layer};

    use super::*;

    #[test]
    fn a_refusal_explains_nothing_once_something_was_allowed_after_it() {
        let denial = Denial {
            capability: "fs.read:in".into(),
            resource: "in/a".into(),
            reason: DenialLabel::NotGranted,
            layer: Layer::Grant,
            remedy: "grant it".into(),
        };
        let last = LastDenial::default();
        last.follow(Some(&denial));
        assert_eq!(last.take(), Some(denial.clone()));
        last.follow(Some(&denial));
        last.follow(None);
        assert_eq!(last.take(), None);
    }
}
