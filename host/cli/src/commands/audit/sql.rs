//! `handshake audit sql`: a SELECT over copies of the record, answered by a process of its own.

use std::time::Duration;

use clap::{Args, ValueEnum};
use handshake_core::terminal::{escape, escape_json};
use handshake_recorder::{QueryColumn, QueryLine, QueryRequest, RecordCopy, VIEWS};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::csv;
use super::query::{Next, RunningQuery};
use crate::access::{Access, Need};
use crate::api::recorder::CopyRequest;
use crate::commands::Context;
use crate::copies::CopiesFolder;
use crate::directory::DataDirectory;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::system::SystemIds;

/// Rows of one table in text, and bytes of them. A layout needs all of its rows; what comes then has a table of its own.
const TABLE_ROWS: usize = 1000;
const TABLE_BYTES: usize = 4 << 20;
/// Characters of a cell in text. Nobody reads more in a table, and laying out millions takes longer than the query.
const LONGEST_CELL: usize = 4000;

/// Arguments of `handshake audit sql`.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// One SELECT over the views that --tables lists
    #[arg(required_unless_present = "tables", value_name = "SELECT")]
    query: Option<String>,
    /// Lists the views and their columns
    #[arg(long, conflicts_with_all = ["query", "format", "limit", "timeout"])]
    tables: bool,
    /// At most so many rows; 0 for all
    #[arg(long, default_value_t = 1000, value_name = "ROWS")]
    limit: u64,
    /// The query is ended after so many seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    timeout: u64,
    /// Another form of the rows than a table or, with --output json, one document
    #[arg(long, value_enum)]
    format: Option<RowFormat>,
}

/// Forms of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RowFormat {
    /// One JSON object a line
    Jsonl,
    /// For spreadsheets; no cell becomes a formula
    Csv,
}

/// Answers a query, or lists the views.
pub(super) async fn sql(context: &Context<'_>, args: &SqlArgs) -> Result<(), CliError> {
    let output = context.output;
    let Some(query) = args.query.as_deref().filter(|_| !args.tables) else { return tables(output) };
    let settings = context.settings()?;
    let folder = CopiesFolder::create(&DataDirectory::prepare(&settings.data_dir)?, &SystemIds)?;
    let access = Access::open(&settings, Need::Answers, output).await?;
    let copied = access.post::<RecordCopy>("/api/v1/recorder/copies", &CopyRequest { folder: folder.name() }).await;
    // The query itself needs nobody: whoever wants the data directory can have it meanwhile.
    let copied = access.finish(output, copied).await?;
    for missing in &copied.missing {
        output.note(&format!("not part of the answer: {missing}"));
    }
    let request = QueryRequest {
        sql: query.to_owned(),
        folder: folder.path().to_owned(),
        files: copied.files,
        retained: copied.retained.micros(),
        limit: args.limit,
        seconds: args.timeout,
    };
    let mut running = RunningQuery::start(&request, Duration::from_secs(args.timeout)).await?;
    let answered = tokio::select! {
        answered = answer(&mut running, output, args) => answered,
        // Ended here, so that the copies go as well.
        _ = tokio::signal::ctrl_c() => Err(CliError::new(Exit::Interrupted, "interrupted", "the query was interrupted")),
    };
    running.end().await;
    if answered? {
        output.note(&format!("more rows than {}; --limit shows more of them, 0 all", args.limit));
    }
    Ok(())
}

/// Shows all rows; returns whether there are more than were asked for.
async fn answer(running: &mut RunningQuery, output: &Output, args: &SqlArgs) -> Result<bool, CliError> {
    let Next::Line(QueryLine::Columns(columns)) = running.next().await? else {
        return Err(CliError::internal("the answer does not begin with its columns"));
    };
    let mut rows = Rows::begin(output, args.format, columns)?;
    loop {
        match running.next().await? {
            Next::Row(row) => rows.add(row)?,
            Next::Line(QueryLine::End { more }) => {
                rows.finish(more)?;
                return Ok(more);
            }
            Next::Line(_) => return Err(CliError::internal("the answer has columns where a row should be")),
        }
        if output.is_closed() {
            return Ok(false);
        }
    }
}

/// Where rows go.
struct Rows<'a> {
    output: &'a Output,
    columns: Vec<QueryColumn>,
    form: Form,
}

enum Form {
    Table { rows: Vec<Vec<String>>, bytes: usize, shown: bool },
    Document { first: bool },
    Lines,
    Csv,
}

impl<'a> Rows<'a> {
    fn begin(output: &'a Output, format: Option<RowFormat>, columns: Vec<QueryColumn>) -> Result<Self, CliError> {
        let form = match format {
            Some(RowFormat::Csv) => {
                let header = csv::record(columns.iter().map(|column| csv::harmless(&column.name)));
                output.raw(&header.map_err(|error| unwritable(&error))?)?;
                Form::Csv
            }
            Some(RowFormat::Jsonl) => Form::Lines,
            None if output.is_json() => {
                output.raw(&format!("{{\n\"columns\": {},\n\"rows\": [", compact(&columns)?))?;
                Form::Document { first: true }
            }
            None => Form::Table { rows: Vec::new(), bytes: 0, shown: false },
        };
        Ok(Self { output, columns, form })
    }

    fn add(&mut self, row: Vec<Value>) -> Result<(), CliError> {
        let columns = &self.columns;
        let object = |row: Vec<Value>| {
            let names = columns.iter().map(|column| column.name.clone());
            compact(&names.zip(row).collect::<Map<String, Value>>())
        };
        match &mut self.form {
            Form::Table { rows, bytes, .. } => {
                let row: Vec<String> = row.iter().map(|value| cut(text(value))).collect();
                *bytes += row.iter().map(String::len).sum::<usize>();
                rows.push(row);
                if rows.len() == TABLE_ROWS || *bytes > TABLE_BYTES { self.table() } else { Ok(()) }
            }
            Form::Document { first } => {
                let comma = if std::mem::take(first) { "" } else { "," };
                self.output.raw(&format!("{comma}{}", object(row)?))
            }
            Form::Lines => self.output.raw(&object(row)?),
            Form::Csv => {
                let cells = row.iter().map(|value| match value {
                    // What was a number stays one.
                    Value::Number(number) => number.to_string(),
                    value => csv::harmless(&text(value)),
                });
                self.output.raw(&csv::record(cells).map_err(|error| unwritable(&error))?)
            }
        }
    }

    fn table(&mut self) -> Result<(), CliError> {
        let Form::Table { rows, bytes, shown } = &mut self.form else { return Ok(()) };
        (*bytes, *shown) = (0, true);
        let header: Vec<String> = self.columns.iter().map(|column| escape(&column.name, false).into_owned()).collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        self.output.table(&header, std::mem::take(rows))
    }

    fn finish(mut self, more: bool) -> Result<(), CliError> {
        match &self.form {
            Form::Table { rows, shown, .. } if rows.is_empty() && *shown => Ok(()),
            Form::Table { .. } => self.table(),
            Form::Document { .. } => self.output.raw(&format!("],\n\"more\": {more}\n}}")),
            Form::Lines | Form::Csv => Ok(()),
        }
    }
}

/// A value in a cell: text as it is, the rest as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A cell that is too long ends with an ellipsis.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_CELL) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn compact(value: &impl Serialize) -> Result<String, CliError> {
    let text = serde_json::to_string(value).map_err(|error| unwritable(&error))?;
    Ok(escape_json(&text).into_owned())
}

fn unwritable(error: &(dyn std::error::Error + 'static)) -> CliError {
    CliError::internal("a row cannot be written").because(error)
}

/// Lists the views.
fn tables(output: &Output) -> Result<(), CliError> {
    if output.is_json() {
        let views: Vec<Value> = VIEWS
            .iter()
            .map(|view| {
                let columns = view
                    .columns
                    .iter()
                    .map(|column| json!({ "name": column.name, "type": column.kind, "about": column.about }));
                json!({ "name": view.name, "about": view.about, "columns": columns.collect::<Vec<_>>() })
            })
            .collect();
        return output.json(&json!({ "tables": views }));
    }
    for (at, view) in VIEWS.iter().enumerate() {
        if at > 0 {
            output.line("")?;
        }
        output.line(&format!("{}: {}", view.name, view.about))?;
        let rows = view.columns.iter().map(|column| vec![column.name.into(), column.kind.into(), column.about.into()]);
        output.table(&["column", "type", ""], rows.collect())?;
    }
    Ok(())
}
