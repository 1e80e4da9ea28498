//! The policy of a host at work: read again when its file changes or somebody says so, on record, and in force from the
//! answer on.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::capability::{Mode, PolicyInForce};
use handshake_core::event::{Actor, Event, EventBody, PolicyChange};
use handshake_core::gate::GateServices;
use handshake_core::{Digest, EventId, TraceId};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::error::{CliError, store_failure};
use crate::host::HostState;
use crate::policy;
use crate::review::evidence::Evidence;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A file that changed is read once it has stayed the same for so long: half of a policy may be a wider one.
const SETTLE: Duration = Duration::from_millis(250);

/// What became of reading the policy again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Reloaded {
    /// Whether another policy decides now than before.
    pub(crate) changed: bool,
    /// SHA-256 of the policy before.
    pub(crate) old_sha256: Digest,
    /// SHA-256 of the policy that decides now.
    pub(crate) new_sha256: Digest,
    /// Enforce or observe.
    pub(crate) mode: Mode,
    /// How many rules it has.
    pub(crate) rules: usize,
    /// How many folders it lists.
    pub(crate) mounts: usize,
}

/// Looks after the policy in force.
pub(crate) struct PolicyKeeper {
    /// The file that the host began with; none for the built-in policy.
    file: Option<PathBuf>,
    in_force: PolicyInForce,
    evidence: Arc<Evidence>,
    gate: GateServices,
    /// Remembers from start to start which policy decided last.
    notes: PathBuf,
    /// One change at a time, so that each names the one before.
    changing: Mutex<()>,
}

impl PolicyKeeper {
    pub(crate) fn new(
        file: Option<PathBuf>,
        in_force: PolicyInForce,
        evidence: Arc<Evidence>,
        gate: GateServices,
        notes: PathBuf,
    ) -> Self {
        Self { file, in_force, evidence, gate, notes, changing: Mutex::new(()) }
    }

    /// Records which policy a host begins with, if it is not the one that decided last.
    pub(crate) async fn begin(&self) -> Result<(), CliError> {
        let _one = self.changing.lock().await;
        let now = self.in_force.current().policy().digest;
        let before = std::fs::read_to_string(&self.notes).ok().and_then(|text| text.trim().parse::<Digest>().ok());
        if before == Some(now) {
            return Ok(());
        }
        self.record(before, now, Actor::system()).await
    }

    /// Reads the file again. When this returns, no call is let through any more that only the policy before allowed.
    /// A file that cannot be read or understood changes nothing.
    pub(crate) async fn reload(&self, by: Actor) -> Result<Reloaded, CliError> {
        let Some(file) = self.file.clone() else {
            return Err(CliError::usage("the built-in policy is in force, and no file of it could be read again").hint(
                "`handshake init` writes a policy; it holds when the process that has the data directory is started again",
            ));
        };
        let _one = self.changing.lock().await;
        let read = tokio::task::spawn_blocking(move || policy::read(&file)).await;
        let (new, text) = read.map_err(|error| CliError::internal("reading the policy failed").because(&error))??;
        let old = self.in_force.current();
        let (old_sha256, new_sha256) = (old.policy().digest, new.digest);
        // The same text can list other folders, because links are resolved when it is read.
        let same_folders =
            old.policy().mounts.iter().map(|mount| &mount.path).eq(new.mounts.iter().map(|mount| &mount.path));
        drop(old);
        let answer = Reloaded {
            changed: old_sha256 != new_sha256 || !same_folders,
            old_sha256,
            new_sha256,
            mode: new.mode,
            rules: new.rules.len(),
            mounts: new.mounts.len(),
        };
        if answer.changed {
            self.evidence.put_in_force("policy", text)?;
            // On record first: nothing is decided under a policy that the record does not know.
            self.record(Some(old_sha256), new_sha256, by).await?;
            self.in_force.replace(new).is_over().await;
        }
        Ok(answer)
    }

    async fn record(&self, old_sha256: Option<Digest>, new_sha256: Digest, by: Actor) -> Result<(), CliError> {
        let GateServices { recorder, clock, ids } = &self.gate;
        let change = PolicyChange { old_sha256, new_sha256, cause: None };
        let (id, trace) = (EventId::fresh(&**ids), TraceId::fresh(&**ids));
        let event = Event::new(id, trace, clock.now(), by, EventBody::PolicyChange(change));
        recorder.record_event(&event).await.map_err(|error| store_failure(&error))?;
        // Lost in a crash, it is recorded once more at the next start.
        let next = self.notes.with_extension("new");
        let noted = std::fs::write(&next, format!("{new_sha256}\n")).and_then(|()| std::fs::rename(&next, &self.notes));
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot note which policy is in force");
        }
        Ok(())
    }

    fn stamp(&self) -> Option<Stamp> {
        std::fs::metadata(self.file.as_ref()?).ok().map(|metadata| Stamp::of(&metadata))
    }
}

/// What tells that a file was written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([i64; 4], [u64; 3]);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self(
            [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
            [metadata.dev(), metadata.ino(), metadata.len()],
        )
    }
}

/// Reads the policy again whenever its file has changed, and grants that other hosts may have changed. What is wrong with it is logged, and the policy before stays.
pub(crate) async fn watch(state: Arc<HostState>) {
    let keeper = &state.policy_keeper;
    // The first look reads it in any case: it may have changed while the host began.
    let mut seen = None;
    loop {
        tokio::time::sleep(LOOK).await;
        if state.url.file().is_none()
            && let Err(error) = state.engine.refresh_grants().await
        {
            // On a shared database other hosts take grants back.
            tracing::warn!(%error, "cannot look for grants that other hosts have taken back");
        }
        let mut now = keeper.stamp();
        if now == seen {
            continue;
        }
        loop {
            tokio::time::sleep(SETTLE).await;
            let later = keeper.stamp();
            if later == now {
                break;
            }
            now = later;
        }
        match keeper.reload(Actor::system()).await {
            Ok(Reloaded { changed: true, old_sha256, new_sha256, .. }) => {
                tracing::warn!(old = %old_sha256, new = %new_sha256, "another policy is in force");
            }
            Ok(_) => {}
            Err(error) => {
                let why = error.why.join("; ");
                tracing::error!(why, "the policy of before stays in force: {}", error.message);
            }
        }
        seen = now;
    }
}
