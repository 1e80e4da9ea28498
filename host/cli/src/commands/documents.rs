//! `handshake documents`: Markdown files come in as documents made of blocks, and go out again.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use handshake_core::DocumentId;
use handshake_engine::documents::{MAX_BLOCKS, split};

use super::Context;
use crate::access::{Access, Need, with_parameters};
use crate::api::documents::{DocumentDetails, DocumentList, Exported, ImportRequest, Imported, MAX_DOCUMENT_BYTES};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::review::history::DocumentHistory;
use crate::review::summary::second;

/// How much of a block's first line is shown.
const BEGINNING: usize = 60;

/// `handshake documents …`
#[derive(Debug, Subcommand)]
pub(crate) enum DocumentsCommand {
    /// Stores Markdown files as documents
    Import(ImportArgs),
    /// Lists documents, newest first
    List(ListArgs),
    /// Shows a document
    Show(ShowArgs),
    /// Tells who changed a document and its blocks, and through which job
    History(HistoryArgs),
    /// Writes a document as Markdown: what was not changed has the same bytes as the file that was imported
    Export(ExportArgs),
}

/// Arguments of `handshake documents import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Markdown files of at most 16 MiB and 998 blocks each
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The title, for a single file [default: the first heading, or the file's name]
    #[arg(long)]
    title: Option<String>,
    /// The workspace; a new one is made [default: default]
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,
}

/// Arguments of `handshake documents list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only documents of this workspace
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue behind this document
    #[arg(long, value_name = "ID")]
    after: Option<DocumentId>,
}

/// Arguments of `handshake documents show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The document
    id: DocumentId,
    /// With its blocks: their ids, and how they begin
    #[arg(long)]
    blocks: bool,
}

/// Arguments of `handshake documents history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The document
    id: DocumentId,
}

/// Arguments of `handshake documents export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The document
    id: DocumentId,
    /// Write to this file instead of standard output
    #[arg(short = 'o', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Does what was asked.
pub(crate) async fn documents(context: &Context<'_>, command: &DocumentsCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        DocumentsCommand::Import(args) => {
            let requests = read_all(args)?;
            let imported = ask(context, async |access| import(access, requests).await).await?;
            show_imported(output, &imported)?;
        }
        DocumentsCommand::List(args) => {
            let path = with_parameters(
                "/api/v1/documents",
                [
                    ("limit", Some(args.limit.to_string())),
                    ("after", args.after.map(|id| id.to_string())),
                    ("workspace", args.workspace.clone()),
                ],
            );
            show_list(output, &ask(context, async |access| access.get::<DocumentList>(&path).await).await?)?;
        }
        DocumentsCommand::Show(args) => {
            let path = format!("/api/v1/documents/{}", args.id);
            let details = ask(context, async |access| access.get::<DocumentDetails>(&path).await).await?;
            show_details(output, &details, args.blocks)?;
        }
        DocumentsCommand::History(args) => {
            let path = format!("/api/v1/documents/{}/history", args.id);
            show_history(output, &ask(context, async |access| access.get::<DocumentHistory>(&path).await).await?)?;
        }
        DocumentsCommand::Export(args) => {
            let path = format!("/api/v1/documents/{}/export", args.id);
            let exported = ask(context, async |access| access.get::<Exported>(&path).await).await?;
            write(output, &exported, args.file.as_deref())?;
        }
    }
    Ok(Exit::Done)
}

async fn ask<T>(
    context: &Context<'_>,
    request: impl AsyncFnOnce(&Access) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let access = context.access(Need::Answers).await?;
    let answer = request(&access).await;
    access.finish(context.output, answer).await
}

/// Reads every file before the first is stored: what can be wrong with one is found before anything happens.
fn read_all(args: &ImportArgs) -> Result<Vec<ImportRequest>, CliError> {
    if args.title.is_some() && args.files.len() > 1 {
        return Err(CliError::usage("--title is for a single file"));
    }
    let request = |path: &PathBuf| {
        let text = read(path)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(ImportRequest { text, title: args.title.clone(), name, workspace: args.workspace.clone() })
    };
    args.files.iter().map(request).collect()
}

fn read(path: &Path) -> Result<String, CliError> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| CliError::file("read", path, &error))?;
    if !metadata.is_file() {
        return Err(CliError::usage(format!("`{shown}` is not a file")).hint("name Markdown files, not their folder"));
    }
    let bytes = metadata.len();
    if bytes > MAX_DOCUMENT_BYTES as u64 {
        let problem = format!("`{shown}` has {bytes} bytes; at most {MAX_DOCUMENT_BYTES} are taken");
        return Err(CliError::usage(problem).code("too_large").hint("take it apart into several documents"));
    }
    let bytes = std::fs::read(path).map_err(|error| CliError::file("read", path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        CliError::usage(format!("{shown}:{line}: the file is not UTF-8 text")).hint("save it as UTF-8")
    })?;
    if let Some(at) = text.find('\0') {
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        return Err(CliError::usage(format!("{shown}:{line}: the character U+0000 cannot be stored")));
    }
    let blocks = split(&text).len();
    if blocks > MAX_BLOCKS {
        let problem = format!("`{shown}` has {blocks} blocks; at most {MAX_BLOCKS} can be imported as one document");
        return Err(CliError::usage(problem).hint("take it apart into several documents"));
    }
    Ok(text)
}

async fn import(access: &Access, requests: Vec<ImportRequest>) -> Result<Vec<Imported>, CliError> {
    let mut imported = Vec::new();
    for request in requests {
        let answer = access.post("/api/v1/documents", &request).await.map_err(|error: CliError| {
            let message = format!("`{}`: {}", request.name, error.message);
            CliError { message, ..error }
        });
        imported.push(answer?);
    }
    Ok(imported)
}

fn show_imported(output: &Output, imported: &[Imported]) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(&serde_json::json!({ "imported": imported }));
    }
    if output.quiet {
        return imported.iter().try_for_each(|document| output.line(&document.document_id.to_string()));
    }
    let row = |document: &Imported| {
        vec![document.document_id.to_string(), document.blocks.to_string(), document.title.clone()]
    };
    output.table(&["DOCUMENT", "BLOCKS", "TITLE"], imported.iter().map(row).collect())
}

fn show_list(output: &Output, list: &DocumentList) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(list);
    }
    if list.documents.is_empty() {
        output.note("no documents; handshake documents import FILE");
        return Ok(());
    }
    let rows = list.documents.iter().map(|document| {
        let changed = document.updated_at.to_string();
        let changed = changed.get(..16).map_or_else(|| changed.clone(), |short| short.replace('T', " ") + "Z");
        vec![document.content.document_id.to_string(), changed, document.content.title.clone()]
    });
    output.table(&["DOCUMENT", "CHANGED", "TITLE"], rows.collect())?;
    if let Some(next) = list.next {
        output.note(&format!("more: handshake documents list --after {next}"));
    }
    Ok(())
}

fn show_details(output: &Output, details: &DocumentDetails, blocks: bool) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(details);
    }
    let document = &details.document;
    output.field("document", &document.content.document_id.to_string())?;
    output.field("title", &document.content.title)?;
    output.field("workspace", &details.workspace.name)?;
    output.field("version", &details.version.to_string())?;
    output.field("blocks", &details.blocks.len().to_string())?;
    output.field("created", &document.created_at.to_string())?;
    output.field("changed", &document.updated_at.to_string())?;
    let edit = &document.edit;
    let job = edit.last_job_id.map_or_else(String::new, |job| format!(", job {job}"));
    output.field("by", &format!("{} {}{job}", edit.last_actor_kind, edit.last_actor_id))?;
    if blocks && !details.blocks.is_empty() {
        output.line("")?;
        let rows = details.blocks.iter().map(|block| {
            let block = &block.content;
            let line = block.raw_content.lines().next().unwrap_or_default();
            let beginning: String = line.chars().take(BEGINNING).collect();
            vec![block.block_id.to_string(), block.kind.clone(), beginning]
        });
        output.table(&["BLOCK", "KIND", "BEGINNING"], rows.collect())?;
    }
    Ok(())
}

fn show_history(output: &Output, history: &DocumentHistory) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(history);
    }
    let rows = history.edits.iter().map(|edit| {
        let by = &edit.edit;
        vec![
            second(edit.at),
            format!("{} {}", edit.action, edit.entity),
            format!("{} {}", by.last_actor_kind, by.last_actor_id),
            by.last_job_id.map_or_else(String::new, |job| job.to_string()),
        ]
    });
    output.table(&["CHANGED", "WHAT", "BY", "JOB"], rows.collect())?;
    if !history.complete {
        output.note("edits before these are not on record any more");
    }
    Ok(())
}

/// Text for a file and for a pipe goes out as it is; on a terminal nothing in it may act.
fn write(output: &Output, exported: &Exported, file: Option<&Path>) -> Result<(), CliError> {
    if let Some(file) = file {
        std::fs::write(file, &exported.text).map_err(|error| CliError::file("write", file, &error))?;
    }
    if output.is_json() {
        return output.json(exported);
    }
    match file {
        Some(file) => {
            output.note(&format!("wrote {}", file.display()));
            Ok(())
        }
        None => output.document(&exported.text),
    }
}
