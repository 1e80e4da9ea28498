//! The process that answers a query: starting it, reading its lines, and ending it when its time is over.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use handshake_recorder::{QueryLine, QueryProblem, QueryRequest};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::Instant;

use crate::error::CliError;

/// The longest line; a row with as much text is no row that anybody reads.
const LONGEST_LINE: u64 = 16 << 20;

/// What came next.
pub(super) enum Next {
    /// Columns, end, or problem.
    Line(QueryLine),
    /// A row.
    Row(Vec<Value>),
}

/// A query that runs.
pub(super) struct RunningQuery {
    child: Child,
    lines: BufReader<ChildStdout>,
    deadline: Instant,
    patience: Duration,
}

impl RunningQuery {
    /// Starts this program again, with nothing of its environment, and gives it the query.
    pub(super) async fn start(request: &QueryRequest, patience: Duration) -> Result<Self, CliError> {
        let failed =
            |error: &(dyn std::error::Error + 'static)| CliError::internal("cannot start the query").because(error);
        let program: PathBuf = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut child = Command::new(program)
            .args(["recorder", "query"])
            .env_clear()
            .current_dir(&request.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let deadline = Instant::now() + patience;
        let text = serde_json::to_vec(request).map_err(|error| failed(&error))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A process that does not read it says why on its output, or how it ended.
            let _ = stdin.write_all(&text).await;
        }
        let stdout = child.stdout.take().ok_or_else(|| CliError::internal("the query has no output"))?;
        Ok(Self { child, lines: BufReader::new(stdout), deadline, patience })
    }

    /// What the process says next.
    pub(super) async fn next(&mut self) -> Result<Next, CliError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.lines).take(LONGEST_LINE + 1);
        let read = tokio::time::timeout_at(self.deadline, limited.read_until(b'\n', &mut line)).await;
        let Ok(read) = read else { return Err(self.out_of_time()) };
        let read = read.map_err(|error| CliError::internal("the answer did not arrive").because(&error))?;
        if read as u64 > LONGEST_LINE {
            return Err(CliError::usage(format!("a row of the answer has more than {} MB", LONGEST_LINE >> 20))
                .hint("select less of it, for example left(text, 1000)"));
        }
        if line.last() != Some(&b'\n') {
            return Err(self.ended().await);
        }
        let unreadable = |error| CliError::internal("the answer cannot be understood").because(&error);
        if line.first() == Some(&b'[') {
            return serde_json::from_slice(&line).map(Next::Row).map_err(|_| {
                CliError::usage("a value of the answer has no form in JSON").hint("cast it: CAST(… AS VARCHAR)")
            });
        }
        match serde_json::from_slice(&line).map_err(unreadable)? {
            QueryLine::Problem(QueryProblem { message, in_query: true }) => Err(CliError::usage(message)
                .code("invalid_query")
                .hint("handshake audit sql --tables lists what can be selected")),
            QueryLine::Problem(QueryProblem { message, .. }) => {
                Err(CliError::internal("the query could not be run").because(&std::io::Error::other(message)))
            }
            line => Ok(Next::Line(line)),
        }
    }

    fn out_of_time(&self) -> CliError {
        CliError::usage(format!("the query takes longer than {} s and was ended", self.patience.as_secs()))
            .code("query_limit")
            .hint("ask for less, or for longer with --timeout")
    }

    /// Why there is no more: a process that hits a limit of the operating system says nothing itself.
    async fn ended(&mut self) -> CliError {
        match tokio::time::timeout_at(self.deadline, self.child.wait()).await {
            Err(_) => self.out_of_time(),
            Ok(Ok(status)) => CliError::usage(format!("the query's process ended without an answer: {status}"))
                .code("query_limit")
                .hint("the query takes more memory, time or temporary space than it may; ask for less"),
            Ok(Err(error)) => CliError::internal("the query's process is lost").because(&error),
        }
    }

    /// Ends the process, whatever it is about, and waits until it is gone.
    pub(super) async fn end(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}
