//! The process that runs one query: it reads a request, shuts everything off, and writes the rows.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use duckdb::arrow::array::{Array, StringArray};
use duckdb::{Config, Connection};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};

use super::statement;
use super::views::{RECORDS, VIEWS};

/// What DuckDB may hold in memory; more goes to temporary files.
const MEMORY_LIMIT: &str = "256MB";
/// What those may hold.
const SPILL_LIMIT: &str = "512MB";
/// The largest file that the process can write: the temporary ones.
const LARGEST_FILE: u64 = 1 << 30;
/// Address space, most of which is never memory: the program, its threads, and what DuckDB reserves.
const ADDRESS_SPACE: u64 = 3 << 30;
/// Open files besides the copies.
const OPEN_FILES: u64 = 64;
/// Processor time beyond the time limit, for the start, seconds. Who started the process ends it long before.
const GRACE: u64 = 5;
/// The longest request.
const LARGEST_REQUEST: u64 = 4 << 20;

/// A query, as it is given to the process on its standard input, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// The query.
    pub sql: String,
    /// Folder of the copies; the process writes its temporary files there, and nowhere else.
    pub folder: PathBuf,
    /// The copies: names of Parquet files in the folder.
    pub files: Vec<String>,
    /// What was recorded before is hidden: microseconds since 1970.
    pub retained: i64,
    /// At most so many rows; 0 for all.
    pub limit: u64,
    /// Processor time, seconds.
    pub seconds: u64,
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryColumn {
    /// Its name; no two are the same.
    pub name: String,
    /// Its type in DuckDB.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A line that the process writes to its standard output. Between columns and end come the rows, each an array of JSON
/// as long as the list of columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryLine {
    /// The first line.
    Columns(Vec<QueryColumn>),
    /// The last line.
    End {
        /// Whether there are more rows than the limit.
        more: bool,
    },
    /// The last line when there is no answer, or not all of it.
    Problem(QueryProblem),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryProblem {
    /// What is wrong, in one sentence.
    pub message: String,
    /// Whether the query is what is wrong; otherwise it is this program or its surroundings.
    pub in_query: bool,
}

impl QueryProblem {
    pub(super) fn query(message: impl Into<String>) -> Self {
        Self { message: message.into(), in_query: true }
    }

    fn internal(error: &dyn std::error::Error) -> Self {
        Self { message: crate::segments::told(error), in_query: false }
    }

    /// What DuckDB says, without the part that shows the statement around the query.
    pub(super) fn duckdb(error: &duckdb::Error) -> Self {
        let text = match error {
            duckdb::Error::DuckDBFailure(_, Some(text)) => text.clone(),
            other => other.to_string(),
        };
        let text = text.split("\n\nLINE ").next().unwrap_or_default();
        if text.starts_with("Out of Memory Error") {
            // DuckDB goes on with advice about settings that nobody can change here.
            return Self::query(format!(
                "the query needs more than {MEMORY_LIMIT} of memory, or {SPILL_LIMIT} of temporary files"
            ));
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let kinds =
            ["Binder Error: ", "Parser Error: ", "Catalog Error: ", "Conversion Error: ", "Invalid Input Error: "];
        let text = kinds.iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(&text);
        Self::query(text)
    }
}

/// Reads a [`QueryRequest`], answers it in [`QueryLine`]s and rows, and returns. Meant for a process that was started
/// for nothing else: it takes rights away from the process for good.
pub fn run_query(input: &mut dyn Read, output: &mut dyn Write) {
    let end = match answer(input, output) {
        Ok(more) => QueryLine::End { more },
        Err(problem) => QueryLine::Problem(problem),
    };
    // Whoever reads has gone when this fails.
    let _ = write_line(output, &end).and_then(|()| output.flush());
}

fn answer(input: &mut dyn Read, output: &mut dyn Write) -> Result<bool, QueryProblem> {
    let internal = |error: std::io::Error| QueryProblem::internal(&error);
    let mut text = String::new();
    input.take(LARGEST_REQUEST).read_to_string(&mut text).map_err(internal)?;
    let request: QueryRequest = serde_json::from_str(&text).map_err(|error| QueryProblem::internal(&error))?;
    confine(&request).map_err(internal)?;
    let connection =
        open(&request).map_err(|error| QueryProblem { in_query: false, ..QueryProblem::duckdb(&error) })?;
    statement::check(&connection, &request.sql)?;
    rows(&connection, &request, output)
}

/// Takes away what a query does not need, whatever DuckDB does.
fn confine(request: &QueryRequest) -> std::io::Result<()> {
    // It must not outlive whoever reads it.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let limit = |resource, most: u64| {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(std::io::Error::from)
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, request.seconds.saturating_add(GRACE))?;
    limit(Resource::Fsize, LARGEST_FILE)?;
    limit(Resource::Nofile, OPEN_FILES + request.files.len() as u64)?;
    limit(Resource::As, ADDRESS_SPACE)
}

/// A database in memory with the views, which opens the copies and no other file, and whose settings nobody can change.
fn open(request: &QueryRequest) -> Result<Connection, duckdb::Error> {
    let text = |path: &Path| path.to_str().map(quoted).ok_or_else(|| duckdb::Error::InvalidPath(path.to_owned()));
    let files = request.files.iter().map(|name| text(&request.folder.join(name)));
    let files = files.collect::<Result<Vec<_>, _>>()?.join(", ");
    let spill = request.folder.join("spill");
    let config = Config::default()
        .max_memory(MEMORY_LIMIT)?
        .threads(1)?
        .enable_autoload_extension(false)?
        .with("autoinstall_known_extensions", "false")?
        .with("allow_community_extensions", "false")?
        .with("allow_persistent_secrets", "false")?
        .with("temp_directory", spill.to_str().unwrap_or_default())?
        .with("max_temp_directory_size", SPILL_LIMIT)?;
    let connection = Connection::open_in_memory_with_flags(config)?;
    let mut sql = format!(
        "SET TimeZone = 'UTC'; CREATE VIEW records AS {RECORDS} \
         FROM read_parquet([{files}], union_by_name = true) WHERE recorded_at >= {};",
        request.retained
    );
    for view in &VIEWS {
        sql.push_str(&format!("CREATE VIEW {} AS {};", view.name, view.select));
    }
    sql.push_str(&format!(
        "SET allowed_paths = [{files}]; SET enable_external_access = false; SET lock_configuration = true"
    ));
    connection.execute_batch(&sql)?;
    Ok(connection)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Writes columns and rows; returns whether there are more than were asked for.
fn rows(connection: &Connection, request: &QueryRequest, output: &mut dyn Write) -> Result<bool, QueryProblem> {
    let failed = |error: duckdb::Error| QueryProblem::duckdb(&error);
    // DuckDB takes the text as one SELECT here, and as nothing else.
    let query = format!("query({})", quoted(&request.sql));
    let columns = columns(connection, &query).map_err(failed)?;
    gone(write_line(output, &QueryLine::Columns(columns.clone())))?;
    let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
    let cells: Vec<String> = names.iter().zip(&columns).map(|(name, column)| cell(name, &column.kind)).collect();
    let sql = format!(
        "SELECT CAST(json_array({}) AS VARCHAR) FROM {query} AS answer({})",
        cells.join(", "),
        names.join(", ")
    );
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    // Rows come as they are made; the iterator itself would panic where `step` returns an error.
    drop(statement.stream_arrow([]).map_err(failed)?);
    let mut written = 0;
    while let Some(batch) = statement.step().map_err(failed)? {
        let texts = batch.column(0).as_any().downcast_ref::<StringArray>();
        let texts = texts.ok_or_else(|| QueryProblem { message: "rows are no text".into(), in_query: false })?;
        for text in texts.iter().flatten() {
            if request.limit > 0 && written == request.limit {
                return Ok(true);
            }
            gone(output.write_all(text.as_bytes()).and_then(|()| output.write_all(b"\n")))?;
            written += 1;
        }
    }
    Ok(false)
}

fn columns(connection: &Connection, query: &str) -> Result<Vec<QueryColumn>, duckdb::Error> {
    let mut statement = connection.prepare(&format!("DESCRIBE SELECT * FROM {query}"))?;
    let columns = statement.query_map([], |row| Ok(QueryColumn { name: row.get(0)?, kind: row.get(1)? }))?;
    columns.collect()
}

/// A value as JSON that every reader understands: what is no number of JSON, or has more digits than a double keeps,
/// becomes text.
fn cell(name: &str, kind: &str) -> String {
    let precise =
        |most: &str| format!("CASE WHEN {most} THEN to_json({name}) ELSE to_json(CAST({name} AS VARCHAR)) END");
    match kind {
        "DOUBLE" | "FLOAT" => precise(&format!("isfinite({name})")),
        "HUGEINT" => precise(&format!("{name} BETWEEN -9223372036854775808 AND 18446744073709551615")),
        "UHUGEINT" => precise(&format!("{name} <= 18446744073709551615")),
        kind if kind.starts_with("DECIMAL") => format!("to_json(CAST({name} AS VARCHAR))"),
        _ => name.to_owned(),
    }
}

fn write_line(output: &mut dyn Write, line: &QueryLine) -> std::io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}

fn gone(written: std::io::Result<()>) -> Result<(), QueryProblem> {
    written.map_err(|error| QueryProblem::internal(&error))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
