//! `handshake audit export`: events as a file, oldest first, page by page so that memory stays flat.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use handshake_core::terminal::escape_json;
use handshake_recorder::{EventPage, EventQuery, ParquetFile, RecordedEvent};
use serde::Serialize;

use super::filters::Filters;
use super::{csv, note_missing, path_of};
use crate::access::Access;
use crate::error::CliError;
use crate::output::Output;
use crate::unfinished::{self, Unfinished};

/// Events that are asked for at a time.
const PAGE: u32 = 1000;

/// Arguments of `handshake audit export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    filters: Filters,
    /// The form of the file
    #[arg(long, value_enum, default_value = "jsonl")]
    format: ExportFormat,
    /// The file; without it what is exported goes to standard output
    #[arg(long, short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "file")]
    force: bool,
}

/// Forms of export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line, as `audit events` has them
    Jsonl,
    /// For spreadsheets; no cell becomes a formula
    Csv,
    /// For analysis; needs a file
    Parquet,
}

/// What was exported, on standard output when that is not the export itself.
#[derive(Debug, Serialize)]
struct Exported {
    file: String,
    format: &'static str,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete_before: Option<handshake_core::Timestamp>,
}

impl ExportArgs {
    /// Refuses what could not be written in the end.
    pub(super) fn check(&self) -> Result<(), CliError> {
        match &self.file {
            None if self.format == ExportFormat::Parquet => {
                Err(CliError::usage("a Parquet file cannot go to standard output")
                    .hint("name a file: -o events.parquet"))
            }
            Some(file) => unfinished::check(file, self.force),
            None => Ok(()),
        }
    }
}

/// Exports.
pub(super) async fn export(access: Access, output: &Output, args: &ExportArgs) -> Result<(), CliError> {
    let written = write(&access, output, args).await;
    let exported = access.finish(output, written).await?;
    let Some(exported) = exported else { return Ok(()) };
    if output.is_json() {
        return output.json(&exported);
    }
    output.note(&format!("{} events in {}", exported.events, exported.file));
    Ok(())
}

async fn write(access: &Access, output: &Output, args: &ExportArgs) -> Result<Option<Exported>, CliError> {
    let mut target = Target::begin(output, args)?;
    let mut query = EventQuery { after: Some("0".to_owned()), limit: PAGE, ..args.filters.query() };
    let (mut events, mut incomplete_before, mut end) = (0, None, None);
    loop {
        let page = access.get::<EventPage>(&path_of("/api/v1/audit/events", &query)?).await?;
        if events == 0 {
            note_missing(output, page.incomplete_before);
            incomplete_before = page.incomplete_before;
        }
        // What comes in while this runs is not part of it; otherwise it might never end.
        let end = *end.get_or_insert_with(|| last_seq(&page.resume));
        let wanted: Vec<RecordedEvent> = page.events.into_iter().filter(|event| event.seq <= end).collect();
        events += wanted.len() as u64;
        target.add(&wanted)?;
        match page.next {
            Some(next) if !output.is_closed() && wanted.last().is_some_and(|last| last.seq < end) => {
                query.after = Some(next);
            }
            _ => break,
        }
    }
    target.finish(args)?;
    Ok(args.file.as_ref().map(|file| Exported {
        file: file.display().to_string(),
        format: match args.format {
            ExportFormat::Jsonl => "jsonl",
            ExportFormat::Csv => "csv",
            ExportFormat::Parquet => "parquet",
        },
        events,
        incomplete_before,
    }))
}

/// The sequence number in a place, which is `microseconds.seq.host`.
fn last_seq(resume: &str) -> u64 {
    resume.split('.').nth(1).and_then(|seq| seq.parse().ok()).unwrap_or(0)
}

/// Where it goes.
enum Target<'a> {
    Stdout { output: &'a Output, format: ExportFormat },
    Text { file: BufWriter<File>, unfinished: Unfinished, format: ExportFormat },
    Parquet { file: ParquetFile, unfinished: Unfinished },
}

impl<'a> Target<'a> {
    fn begin(output: &'a Output, args: &ExportArgs) -> Result<Self, CliError> {
        let Some(path) = &args.file else {
            if args.format == ExportFormat::Csv {
                output.raw(&csv::header().map_err(|error| unwritable(&error))?)?;
            }
            return Ok(Self::Stdout { output, format: args.format });
        };
        let unfinished = Unfinished::beside(path)?;
        if args.format == ExportFormat::Parquet {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let file = ParquetFile::begin(folder).map_err(|error| CliError::bad_input(&error))?;
            return Ok(Self::Parquet { file, unfinished });
        }
        let mut file = BufWriter::new(unfinished.create().map_err(|error| CliError::file("write", path, &error))?);
        if args.format == ExportFormat::Csv {
            let header = csv::header().map_err(|error| unwritable(&error))?;
            file.write_all(header.as_bytes()).map_err(|error| CliError::file("write", path, &error))?;
        }
        Ok(Self::Text { file, unfinished, format: args.format })
    }

    fn add(&mut self, events: &[RecordedEvent]) -> Result<(), CliError> {
        match self {
            Self::Stdout { output, format } => events.iter().try_for_each(|event| output.raw(&line(event, *format)?)),
            Self::Text { file, unfinished, format } => events.iter().try_for_each(|event| {
                file.write_all(line(event, *format)?.as_bytes())
                    .map_err(|error| CliError::file("write", unfinished.path(), &error))
            }),
            Self::Parquet { file, .. } => file.add(events).map_err(|error| CliError::bad_input(&error)),
        }
    }

    /// Gives the whole file its name.
    fn finish(self, args: &ExportArgs) -> Result<(), CliError> {
        let Some(path) = &args.file else { return Ok(()) };
        let failed = |error: &std::io::Error| CliError::file("write", path, error);
        let unfinished = match self {
            Self::Stdout { .. } => return Ok(()),
            Self::Text { file, unfinished, .. } => {
                let file = file.into_inner().map_err(|error| failed(error.error()))?;
                file.sync_all().map_err(|error| failed(&error))?;
                unfinished
            }
            Self::Parquet { file, unfinished } => {
                file.finish(unfinished.path()).map_err(|error| CliError::bad_input(&error))?;
                unfinished
            }
        };
        unfinished.publish(path, args.force)
    }
}

fn line(event: &RecordedEvent, format: ExportFormat) -> Result<String, CliError> {
    if format == ExportFormat::Csv {
        return csv::row(event).map_err(|error| unwritable(&error));
    }
    let json = serde_json::to_string(event).map_err(|error| unwritable(&error))?;
    Ok(escape_json(&json).into_owned() + "\n")
}

fn unwritable(error: &(dyn std::error::Error + 'static)) -> CliError {
    CliError::internal("an event cannot be written").because(error)
}
