//! Copies of the texts that decide: policies, manifests, profiles, each under the SHA-256 that decisions name it by.
//!
//! A decision can then be explained when the file has long been changed. A text is kept for as long as decisions that
//! name it can be shown: whatever is in force is noted as such with each run, and what was not in force for longer than
//! events are kept is removed when a process takes the data directory.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use handshake_core::step::{Descriptor, Plugin, PluginError, StepExecutor, StepFailure, StepInvocation, StepOutcome};
use handshake_core::{Clock, Digest, Timestamp};
use handshake_runtime::WasmRuntime;
use handshake_runtime::manifest::MANIFEST;

use crate::directory::DataDirectory;
use crate::error::CliError;

/// How long a note that a text is in force is good for.
const FRESH: Duration = Duration::from_secs(3600);
/// A text that was in force within this of the end of retention is kept: the note may be an hour old.
const SLACK: Duration = Duration::from_secs(24 * 3600);
/// The largest text: a manifest has 256 KiB at most, a policy 1 MiB.
const LARGEST: u64 = 1 << 20;

/// The kept texts of a data directory.
pub(crate) struct Evidence {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    /// When each text was last noted to be in force by this process.
    noted: Mutex<HashMap<Digest, Timestamp>>,
    /// What decides besides manifests: the policy, and each profile, by what it is.
    in_force: Mutex<HashMap<String, (Digest, String)>>,
}

impl Evidence {
    /// Those of this data directory.
    pub(crate) fn open(directory: &DataDirectory, clock: Arc<dyn Clock>) -> Result<Self, CliError> {
        let folder = directory.file("evidence");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| CliError::file("create", &folder, &error))?;
        Ok(Self { folder, clock, noted: Mutex::default(), in_force: Mutex::default() })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    fn is_noted(&self, digest: Digest) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(&digest).is_some_and(|at| self.clock.now().since(*at) < FRESH)
    }

    /// Keeps a text, and notes that it is in force.
    pub(crate) fn keep(&self, text: &str) -> io::Result<Digest> {
        let digest = Digest::of(text.as_bytes());
        if self.is_noted(digest) {
            return Ok(digest);
        }
        let path = self.path(digest);
        if self.text(digest).is_none() {
            let part = path.with_extension(format!("part-{}", std::process::id()));
            let _ = fs::remove_file(&part);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
        }
        let now = self.clock.now();
        File::options().append(true).open(&path)?.set_modified(system_time(now))?;
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, now);
        Ok(digest)
    }

    /// Keeps a text that decides from now on, in the place of the one that has decided as `what`. Whoever puts it in
    /// force does this first.
    pub(crate) fn put_in_force(&self, what: &str, text: String) -> Result<(), CliError> {
        let digest =
            self.keep(&text).map_err(|error| CliError::file("keep a copy of what decides in", &self.folder, &error))?;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        in_force.insert(what.to_owned(), (digest, text));
        Ok(())
    }

    /// Notes that what is in force still is.
    fn note_in_force(&self) {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, text) in in_force.values().filter(|(digest, _)| !self.is_noted(*digest)) {
            if let Err(error) = self.keep(text) {
                tracing::warn!(%error, "what decides could not be noted as being in force");
            }
        }
    }

    /// A text; none when it was not kept, is not kept any more, or is not what was kept.
    pub(crate) fn text(&self, digest: Digest) -> Option<String> {
        let path = self.path(digest);
        if fs::metadata(&path).ok()?.len() > LARGEST {
            return None;
        }
        let text = fs::read_to_string(&path).ok()?;
        (Digest::of(text.as_bytes()) == digest).then_some(text)
    }

    /// Removes what was not in force for so long that no decision can name it.
    pub(crate) fn expire(&self, retention: Duration) {
        let oldest = system_time(self.clock.now().minus(retention + SLACK));
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|data| data.modified());
            if modified.is_ok_and(|modified| modified < oldest)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(%error, file = %entry.path().display(), "a text that decided long ago cannot be removed");
            }
        }
    }

    fn keep_manifest(&self, plugin: &Plugin) {
        if self.is_noted(plugin.manifest_sha256) {
            return;
        }
        let kept = fs::read_to_string(plugin.folder.join(MANIFEST)).and_then(|text| {
            // Somebody has changed it since it was read; the next look sees that.
            if Digest::of(text.as_bytes()) == plugin.manifest_sha256 { self.keep(&text).map(drop) } else { Ok(()) }
        });
        if let Err(error) = kept {
            tracing::warn!(%error, plugin = %plugin.label(), "no copy of the manifest could be kept; decisions name its hash alone");
        }
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(time.micros()).unwrap_or(0))
}

/// The executor of the engine: the runtime, and a copy of the manifest of every plugin that it finds.
pub(crate) struct Witness {
    runtime: Arc<WasmRuntime>,
    evidence: Arc<Evidence>,
}

impl Witness {
    /// Watches a runtime.
    pub(crate) fn new(runtime: Arc<WasmRuntime>, evidence: Arc<Evidence>) -> Self {
        Self { runtime, evidence }
    }
}

#[async_trait]
impl StepExecutor for Witness {
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        let plugin = self.runtime.find(uses)?;
        self.evidence.keep_manifest(&plugin);
        self.evidence.note_in_force();
        Ok(plugin)
    }

    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        self.runtime.prepare(plugin).await
    }

    async fn execute(&self, invocation: StepInvocation) -> Result<StepOutcome, StepFailure> {
        self.runtime.execute(invocation).await
    }
}

/// What a project calls the file of a policy, for those who read its kept text.
pub(crate) fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| crate::policy::BUILT_IN.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use handshake_core::testing::FixedClock;

    use super::*;

    #[test]
    fn a_text_is_kept_under_its_hash_until_it_was_not_in_force_for_too_long() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let directory = DataDirectory::prepare(folder.path()).unwrap();
        let clock = Arc::new(FixedClock::default());
        let evidence = || Evidence::open(&directory, Arc::clone(&clock) as _).unwrap();
        let first = evidence();
        let kept = first.keep("schema = 1\n").unwrap();
        let other = first.keep("schema = 2\n").unwrap();
        assert_eq!(first.text(kept).as_deref(), Some("schema = 1\n"));
        assert_eq!(fs::metadata(first.path(kept)).unwrap().permissions().mode() & 0o777, 0o600);

        let week = Duration::from_secs(7 * 24 * 3600);
        clock.advance(week);
        first.keep("schema = 1\n").unwrap();
        clock.advance(SLACK + Duration::from_secs(1));
        let second = evidence();
        second.expire(week);
        assert_eq!((second.text(kept).is_some(), second.text(other)), (true, None));

        fs::write(second.path(kept), "schema = 3\n").unwrap();
        assert_eq!(second.text(kept), None, "what was changed is not what decided");
        second.keep("schema = 1\n").unwrap();
        assert_eq!(second.text(kept).as_deref(), Some("schema = 1\n"), "and is kept anew");
    }
}
