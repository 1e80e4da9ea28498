//! Trying out in another process whether a file can be opened: a log that was torn by a crash can abort the process
//! that reads it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use handshake_core::HostId;

use super::file::{FileError, connect};
use super::schema;

/// What the child prints before what is wrong with the file.
const DAMAGED: &str = "damaged: ";
/// How long it may take. A log is written back long before it is so large that replaying it takes a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Reads every column of the newest 200,000 rows, which were written around the crash, and with them the checksums of
/// their blocks. Those of older blocks are checked when they are read.
const READ_NEWEST: &str = "SELECT count(hash(events)) FROM events \
     WHERE rowid > (SELECT coalesce(max(rowid), 0) FROM events) - 200000";
/// How often to look whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A command that calls [`probe_file`] with the path that is given as its last argument and prints what that returns.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The program.
    pub program: std::path::PathBuf,
    /// Its arguments before the path.
    pub arguments: Vec<String>,
}

/// Opens a file as the recorder would and closes it again. Called in a process of its own, which prints the answer on
/// its standard output: empty, or what is wrong with the file.
pub fn probe_file(path: &Path) -> String {
    match try_open(path) {
        Err(FileError::Damaged(problem)) => format!("{DAMAGED}{problem}"),
        // What is not the file's fault is found out again, and told, by whoever opens it next.
        Err(_) | Ok(()) => String::new(),
    }
}

fn try_open(path: &Path) -> Result<(), FileError> {
    let damaged = super::file::damaged_unless_surroundings;
    let connection = connect(path).map_err(damaged)?;
    if schema::version(&connection).map_err(damaged)?.is_none() {
        // A later version's; whether its rows are right is for that one to say.
        return Ok(());
    }
    let counted = connection.query_row(READ_NEWEST, [], |row| row.get::<_, i64>(0));
    counted.map(drop).map_err(damaged)?;
    connection.close().map_err(|(_, source)| damaged(source))
}

impl Probe {
    /// What is wrong with the file; none if it can be opened, or if it cannot be tried out.
    pub(super) fn ask(&self, path: &Path, host: HostId) -> Option<String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!(%error, %host, "the recorder's file cannot be tried out before it is opened");
                return None;
            }
        };
        let mut waited = Duration::ZERO;
        loop {
            match child.try_wait() {
                Ok(Some(_)) => break,
                Ok(None) if waited < PATIENCE => {
                    std::thread::sleep(LOOK);
                    waited += LOOK;
                }
                Ok(None) => {
                    // It ends now; that it did not by itself is the answer.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Some(format!("opening it takes longer than {} s", PATIENCE.as_secs()));
                }
                Err(error) => {
                    tracing::warn!(%error, "whether the recorder's file can be opened is not known");
                    return None;
                }
            }
        }
        let output = child.wait_with_output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim().strip_prefix(DAMAGED) {
            Some(problem) => Some(problem.to_owned()),
            None if output.status.success() => None,
            None => Some(format!("the process that tried to open it ended with {}", output.status)),
        }
    }
}
