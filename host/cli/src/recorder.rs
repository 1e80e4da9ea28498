//! The flight recorder's files: `[recorder]` in `handshake.toml`, and looking after them while a process has them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handshake_core::workflow::Period;
use handshake_recorder::signing::KeyError;
use handshake_recorder::{KeeperPolicy, Probe};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::copies;
use crate::directory::DataDirectory;
use crate::error::CliError;
use crate::host::HostState;

/// How often to look whether there is something to seal or to drop, and the longest time between two signed heads
/// while the record grows.
const LOOK: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The most days: a hundred years.
const MOST_DAYS: u32 = 36_500;
/// A segment of fewer records costs more in files than it holds; one of more takes long to check at once.
const SEAL_RECORDS: std::ops::RangeInclusive<u32> = 100..=500_000;

/// `[recorder]` as written.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RecorderFile {
    /// Days that events are kept; 1 to 36500, default 7. Queries hide older ones at once, and their files are deleted
    /// within 24 hours while a process has the data directory.
    #[schemars(range(min = 1, max = 36_500))]
    retention_days: Option<u32>,
    /// The key that signs the record: Ed25519, PKCS#8 in PEM, relative to this file; made if the file does not exist.
    /// Default `keys/recorder.pem` in the data directory.
    signing_key_file: Option<PathBuf>,
    /// Where the signed head of the record is written every minute, relative to this file. A place that this host
    /// cannot change afterwards makes the record tamper-evident up to there; default `recorder/head.json` in the data
    /// directory.
    head_file: Option<PathBuf>,
    /// So many events are sealed into a file at once, whatever their age; 100 to 500000, default 50000.
    #[schemars(range(min = 100, max = 500_000))]
    seal_records: Option<u32>,
    /// An event that is older is sealed, with all after it; 1m to 24h, default 1h.
    seal_after: Option<Period>,
}

/// How the flight recorder's files are looked after.
#[derive(Debug, Clone)]
pub(crate) struct RecorderSettings {
    signing_key_file: Option<PathBuf>,
    head_file: Option<PathBuf>,
    /// When records are sealed and dropped.
    pub(crate) policy: KeeperPolicy,
}

impl RecorderSettings {
    /// The signing key's file.
    pub(crate) fn signing_key(&self, directory: &DataDirectory) -> PathBuf {
        self.signing_key_file.clone().unwrap_or_else(|| directory.file("keys").join("recorder.pem"))
    }

    /// The signed head's file.
    pub(crate) fn head_file(&self, directory: &DataDirectory) -> PathBuf {
        self.head_file.clone().unwrap_or_else(|| directory.file("recorder").join("head.json"))
    }

    /// Files that lie elsewhere than in the data directory, and that no guest may write.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.signing_key_file.iter().chain(&self.head_file).map(PathBuf::as_path)
    }
}

impl RecorderFile {
    /// Checks everything. `name` is the settings file as the person knows it, `project` its folder.
    pub(crate) fn resolve(self, name: &str, project: &Path) -> Result<RecorderSettings, CliError> {
        let refuse = |problem: String| CliError::usage(format!("{name}: recorder.{problem}"));
        let days = self.retention_days.unwrap_or(7);
        if !(1..=MOST_DAYS).contains(&days) {
            return Err(refuse(format!("retention_days: {days} is not between 1 and {MOST_DAYS}")));
        }
        let seal_records = self.seal_records.unwrap_or(50_000);
        if !SEAL_RECORDS.contains(&seal_records) {
            let (least, most) = SEAL_RECORDS.into_inner();
            return Err(refuse(format!("seal_records: {seal_records} is not between {least} and {most}")));
        }
        let seal_after = self.seal_after.map_or(DAY / 24, |period| period.0);
        if !(LOOK..=DAY).contains(&seal_after) {
            return Err(refuse(format!("seal_after: {} is not between 1m and 24h", Period(seal_after))));
        }
        let within = |path: Option<PathBuf>| path.map(|path| project.join(path));
        Ok(RecorderSettings {
            signing_key_file: within(self.signing_key_file),
            head_file: within(self.head_file),
            policy: KeeperPolicy { retention: DAY * days, seal_records, seal_after },
        })
    }
}

/// What to do about a key that cannot be used.
pub(crate) fn key_refused(error: &KeyError) -> CliError {
    let hint = match error {
        KeyError::Exposed { path, .. } => {
            format!("find out who could have read it; then chmod 600 {}, or use another key", path.display())
        }
        KeyError::Malformed { .. } => {
            "restore it: what it has signed can be checked with its public key alone".to_owned()
        }
        KeyError::File { .. } | KeyError::NotMade => "recorder.signing_key_file in handshake.toml names it".to_owned(),
    };
    CliError::usage("the flight recorder has no key to sign with").code("recorder_key").because(error).hint(hint)
}

/// This program itself, which tries out a DuckDB file that was not closed.
pub(crate) fn probe() -> Option<Probe> {
    let program = std::env::current_exe().ok()?;
    Some(Probe { program, arguments: vec!["recorder".into(), "probe".into()] })
}

/// Publishes the head, seals and drops, at the start and while the process has the data directory. When it is told to
/// stop it ends what it is about.
pub(crate) async fn keep(state: Arc<HostState>, stop: CancellationToken) {
    loop {
        state.keeper.publish_head().await;
        let due = tend(&state).await;
        // What is full and could not be sealed, on a full disk for example, waits for the next look.
        let count = async {
            if due && state.keeper.seal_is_due().await.unwrap_or(true) {
                std::future::pending().await
            }
            state.keeper.full().await
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = count => {}
            () = stop.cancelled() => break,
        }
    }
    tend(&state).await;
}

/// Does what is due, and says whether anything was.
async fn tend(state: &HostState) -> bool {
    if let Err(error) = copies::clear(&state.directory) {
        tracing::warn!(%error, "copies of the record that nobody reads any more cannot be removed");
    }
    let due = match state.keeper.is_due().await {
        Ok(due) => due,
        Err(error) => {
            // The next look tries again.
            tracing::warn!(%error, "cannot find out whether the flight recorder must be looked after");
            false
        }
    };
    // A projection that was opened may have found gaps.
    if due || state.is_projecting() {
        match state.projection().await {
            Ok(projection) => state.keeper.tend(projection).await,
            Err(error) => tracing::warn!(error = error.message, "the flight recorder's projection cannot be opened"),
        }
    }
    due
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<RecorderSettings, String> {
        let file: RecorderFile = toml::from_str(text).unwrap();
        file.resolve("handshake.toml", Path::new("/srv/project")).map_err(|error| error.message)
    }

    #[test]
    fn events_are_kept_for_a_week_unless_something_else_is_said() {
        let settings = resolve("").unwrap();
        assert_eq!(
            settings.policy,
            KeeperPolicy { retention: 7 * DAY, seal_records: 50_000, seal_after: Duration::from_secs(3600) }
        );
        assert_eq!(settings.files().count(), 0);
        let text = "retention_days = 30\nsigning_key_file = 'k.pem'\nhead_file = '/mnt/head.json'\nseal_records = 100\n\
                    seal_after = '1m'";
        let settings = resolve(text).unwrap();
        assert_eq!(settings.policy.retention, 30 * DAY);
        let files: Vec<_> = settings.files().collect();
        assert_eq!(files, [Path::new("/srv/project/k.pem"), Path::new("/mnt/head.json")]);
    }

    #[test]
    fn silly_numbers_are_refused() {
        for text in [
            "retention_days = 0",
            "retention_days = 40000",
            "seal_records = 99",
            "seal_records = 500001",
            "seal_after = '59s'",
            "seal_after = '25h'",
        ] {
            assert!(resolve(text).unwrap_err().starts_with("handshake.toml: recorder."), "{text}");
        }
    }
}
