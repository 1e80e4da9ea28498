//! The real binary, in a project folder and with a data directory of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};

use handshake_core::HostId;
use handshake_core::storage::{Database, EventOutbox};
use handshake_core::testing::SequentialIds;
use handshake_storage::DatabaseUrl;
use serde_json::Value;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::backends::RunningClock;
use crate::postgres::TestDatabase;
use crate::storage;

/// The binary under test: the one that `HANDSHAKE_BIN` names, or the one that cargo builds now.
pub fn handshake() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("HANDSHAKE_BIN") {
            return PathBuf::from(binary);
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--bins", "--tests", "--message-format=json"])
            .current_dir(crate::root())
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "the binary does not build");
        let messages = String::from_utf8(built.stdout).expect("cargo prints UTF-8");
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "handshake" && message["profile"]["test"] == false)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .expect("cargo names the binary")
    })
}

/// A project: `handshake.toml` and `policy.toml` as `init` writes them, `docs/` to read and `report/` to write.
pub struct Project {
    folder: tempfile::TempDir,
    database: Option<String>,
}

/// What a finished command left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
    /// Fails the test unless the command ended with 0.
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Project {
    /// A project whose plugins are those of this checkout.
    pub fn new() -> Self {
        let project = Self::bare();
        for folder in ["docs", "report"] {
            std::fs::create_dir(project.path(folder)).unwrap();
        }
        project.run(&["init", "--mount", "docs", "--mount", "report:write"]).success();
        let root = crate::root();
        let folders = format!("plugins = [{:?}, {:?}]", root.join("plugins"), root.join("tests/guests"));
        let config = std::fs::read_to_string(project.path("handshake.toml")).unwrap();
        let lines = config.lines().map(|line| if line.starts_with("plugins = ") { folders.as_str() } else { line });
        std::fs::write(project.path("handshake.toml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
        project
    }

    /// An empty folder.
    pub fn bare() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: None }
    }

    /// The same as a host on a database that it shares with others.
    pub fn on(mut self, database: &TestDatabase) -> Self {
        self.database = Some(database.url.clone());
        self
    }

    /// A path in the project.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The command, in the project and without anything of the tester's environment that it would listen to.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(handshake());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
            .env_remove("HANDSHAKE_DATA_DIR")
            .env_remove("HANDSHAKE_LOG")
            // Any free port: tests run side by side.
            .env("HANDSHAKE_LISTEN", "127.0.0.1:0")
            .env_remove("NO_COLOR")
            .env_remove("DATABASE_URL")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .env_remove("OTEL_EXPORTER_OTLP_HEADERS");
        command.envs(self.database.iter().map(|url| ("DATABASE_URL", url)));
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.command(arguments).output().expect("the binary runs").into()
    }

    /// Runs `handshake run` on a workflow text.
    pub fn run_workflow(&self, workflow: &str, more: &[&str]) -> Finished {
        self.write("workflow.yaml", workflow);
        self.run(&[&["run", "workflow.yaml"], more].concat())
    }

    /// Starts the command and leaves it running.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let child =
            self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        Running { child: Some(child) }
    }

    /// Every recorded event of a type, oldest first, straight from the outbox of a host that is not running. Fails
    /// the test when the chain of records does not verify.
    pub fn events(&self, event_type: &str) -> Vec<Value> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let records = runtime.block_on(async {
            let url = DatabaseUrl::sqlite(self.path(".handshake/handshake.db"));
            let clock = Arc::new(RunningClock::default());
            let database = storage::open(&url, HostId::fresh(&SequentialIds::default()), clock).await;
            let (head, records) = storage::records(&*database).await;
            assert_eq!(head, database.flush().await.unwrap());
            database.close().await.unwrap();
            records
        });
        let events =
            records.iter().map(|record| serde_json::from_str::<Value>(&record.record).unwrap()["event"].take());
        events.filter(|event| event["event_type"] == event_type).collect()
    }

    /// Recorded events of a type in the outbox behind a record, which was sealed with all before it; oldest first.
    pub fn events_behind(&self, seq: u64, event_type: &str) -> Vec<Value> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let records = runtime.block_on(async {
            let url = DatabaseUrl::sqlite(self.path(".handshake/handshake.db"));
            let clock = Arc::new(RunningClock::default());
            let database = storage::open(&url, HostId::fresh(&SequentialIds::default()), clock).await;
            let records = database.read_after(seq, 10_000).await.unwrap();
            database.close().await.unwrap();
            records
        });
        let events =
            records.iter().map(|record| serde_json::from_str::<Value>(&record.record).unwrap()["event"].take());
        events.filter(|event| event["event_type"] == event_type).collect()
    }

    /// What `audit replay` says when the recorded calls are decided again under the same policy. Nothing where there is
    /// no record, or where not all of it was decided under the `policy.toml` that is there now.
    pub fn replayed(&self) -> Option<Value> {
        let policies = decided_under(&self.path(".handshake/handshake.db"));
        if policies.len() != 1 || !self.path("policy.toml").exists() {
            return None;
        }
        let replayed = self.run(&["audit", "replay", "--policy", "policy.toml", "--output", "json"]).success().json();
        (replayed["policy_sha256"] == policies[0].as_str()).then_some(replayed)
    }

    /// The workflow that summarizes `docs/`.
    pub fn summarize(&self, more: &[&str]) -> Finished {
        let workflow = crate::root().join("workflows/summarize-folder.yaml");
        self.run(&[&["run", workflow.to_str().unwrap(), "-i", "folder=docs"], more].concat())
    }
}

/// Digests of the policies that decided what a database has on record; none where it is missing or broken.
fn decided_under(database: &Path) -> Vec<String> {
    let read = async {
        let options = SqliteConnectOptions::new().filename(database).read_only(true);
        let mut connection = options.connect().await.ok()?;
        let digests = "SELECT DISTINCT json_extract(record, '$.event.payload.policy_sha256') FROM outbox
            WHERE json_extract(record, '$.event.event_type') = 'capability_action'";
        sqlx::query_scalar(digests).fetch_all(&mut connection).await.ok()
    };
    // Tests may have a runtime of their own, in which there cannot be another.
    std::thread::scope(|scope| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        scope.spawn(move || runtime.block_on(read)).join().unwrap().unwrap_or_default()
    })
}

impl Drop for Project {
    /// What every test has recorded is decided again: nothing ends otherwise.
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Some(replayed) = self.replayed()
        {
            assert_eq!(replayed["flipped"], 0, "{replayed:#}");
        }
    }
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

/// A command that is still running; killed when the test ends.
pub struct Running {
    child: Option<Child>,
}

impl Running {
    /// A command that was started in another way.
    pub fn of(child: Child) -> Self {
        Self { child: Some(child) }
    }

    /// Reads no more of its standard output.
    pub fn close_stdout(&mut self) {
        self.child.as_mut().unwrap().stdout = None;
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Reads its standard error, where progress is shown, until it holds a text. Fails the test when the output ends without it.
    pub fn wait_for(&mut self, text: &str) -> String {
        let stderr = self.child.as_mut().unwrap().stderr.as_mut().unwrap();
        let mut seen = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let read = stderr.read(&mut byte).unwrap();
            assert!(read > 0, "ended without `{text}`: {}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Reads its standard output until it has so many lines; what is read is no part of what it leaves behind.
    pub fn read_lines(&mut self, count: usize) -> Vec<String> {
        let stdout = self.child.as_mut().unwrap().stdout.as_mut().unwrap();
        let mut seen = Vec::new();
        let mut byte = [0];
        while seen.iter().filter(|byte| **byte == b'\n').count() < count {
            assert!(stdout.read(&mut byte).unwrap() > 0, "ended early: {}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).lines().map(str::to_owned).collect()
    }

    /// Kills it with SIGKILL, as a power cut would.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        self.child.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
