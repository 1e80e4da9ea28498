//! `handshake db`: how the databases stand, and looking after them.

use clap::{Args, Subcommand};
use handshake_core::storage::{PruneReason, PruneReport, Schema};
use handshake_storage::SqlDatabase;
use serde::Serialize;

use super::Context;
use crate::access::Need;
use crate::api::database::{DatabaseStatus, PruneRequest, RecorderStatus};
use crate::directory::{DataDirectory, Ownership};
use crate::error::{CliError, Exit};
use crate::fault::not_opened;
use crate::output::{Output, Tone};
use crate::settings::Settings;

/// `handshake db …`
#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Shows where the database is, its schema and size, and how far the flight
    /// recorder is
    Status,
    /// Brings the database to the schema of this version; whatever opens it does
    /// the same
    Migrate(LookArgs),
    /// Deletes finished jobs that need not be kept, and artifacts that no job
    /// lists any more; the settings `retention` in handshake.toml say which
    Prune(LookArgs),
}

/// Arguments of commands that can be tried out.
#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    /// Only shows what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Does what was asked.
pub(crate) async fn db(context: &Context<'_>, command: &DbCommand) -> Result<Exit, CliError> {
    match command {
        DbCommand::Status => status(context).await,
        DbCommand::Migrate(args) => migrate(context, args.dry_run).await,
        DbCommand::Prune(args) => prune(context, args.dry_run).await,
    }
}

/// The data directory, if it is nobody else's, and how the schema of the database stands.
async fn look(settings: &Settings) -> Result<Option<(Ownership, Schema)>, CliError> {
    let Some(ownership) = DataDirectory::prepare(&settings.data_dir)?.try_own()? else { return Ok(None) };
    let database = &settings.database;
    let schema = SqlDatabase::schema(database.url.clone(), database.limits).await;
    Ok(Some((ownership, schema.map_err(|error| not_opened(&database.url, error))?)))
}

async fn status(context: &Context<'_>) -> Result<Exit, CliError> {
    let settings = context.settings()?;
    // Opening an older database migrates it, and one of a later version cannot be opened: both are only looked at.
    if let Some((_ownership, schema)) = look(&settings).await?
        && schema.version.is_some()
        && (schema.is_newer() || !schema.pending.is_empty())
    {
        let status = DatabaseStatus {
            data_dir: settings.data_dir,
            owner_pid: std::process::id(),
            url: settings.database.url.to_string(),
            migration_version: schema.version,
            schema,
            host: None,
            statistics: None,
            recorder: None,
        };
        show_status(context.output, &status)?;
        return Ok(Exit::Done);
    }
    let access = context.access(Need::Answers).await?;
    let status = access.get::<DatabaseStatus>("/api/v1/db").await;
    let status = access.finish(context.output, status).await?;
    show_status(context.output, &status)?;
    Ok(Exit::Done)
}

fn show_status(output: &Output, status: &DatabaseStatus) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(status);
    }
    output.field("directory", &status.data_dir.display().to_string())?;
    output.field("owner", &format!("process {}", status.owner_pid))?;
    output.field("database", &status.url)?;
    let schema = &status.schema;
    let version = schema.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    let pending = schema.pending.len();
    if schema.is_newer() {
        let known = schema.known;
        output.toned_field("schema", &format!("{version}, later than this version knows ({known})"), Tone::Bad)?;
        output.field("next", "use the version of handshake that migrated it, or a later one")?;
    } else if pending > 0 {
        output.toned_field("schema", &format!("{version} of {}, {pending} to be applied", schema.known), Tone::Odd)?;
        output.field("next", "handshake db migrate")?;
    } else {
        output.field("schema", &format!("{version}, up to date"))?;
    }
    if let Some(host) = status.host {
        output.field("host", &host.to_string())?;
    }
    if let Some(statistics) = &status.statistics {
        output.field("backend", &statistics.backend)?;
        output.field(
            "jobs",
            &format!("{} jobs, {} runs, {} attempts", statistics.jobs, statistics.runs, statistics.node_executions),
        )?;
        output.field("events", &statistics.outbox_events.to_string())?;
        output.field("size", &format!("{} kB", statistics.bytes.div_ceil(1000)))?;
        output.field(
            "last event",
            &statistics.last_recorded_at.map_or_else(|| "-".to_owned(), |time| time.to_string()),
        )?;
    }
    match &status.recorder {
        Some(RecorderStatus::Open(recorder)) => {
            let recorded = recorder.recorded.unwrap_or(recorder.projected);
            let lag = recorded.saturating_sub(recorder.projected);
            output.field(
                "recorder",
                &format!(
                    "{} of {recorded} records can be queried, {lag} to come, {} kB",
                    recorder.projected,
                    recorder.bytes.div_ceil(1000)
                ),
            )?;
            if let Some(problem) = &recorder.problem {
                output.field("problem", problem)?;
            }
            if let Some(file) = &recorder.set_aside {
                output.field("set aside", file)?;
            }
        }
        Some(RecorderStatus::Failed(error)) => {
            output.field("recorder", &format!("cannot be opened: {}", error.message))?;
        }
        None => {}
    }
    Ok(())
}

/// What was migrated, or would be.
#[derive(Serialize)]
struct Migrated {
    url: String,
    dry_run: bool,
    from: Option<i64>,
    to: i64,
    migrations: Vec<handshake_core::storage::Migration>,
}

async fn migrate(context: &Context<'_>, dry_run: bool) -> Result<Exit, CliError> {
    let settings = context.settings()?;
    let database = &settings.database;
    let failed = |error| not_opened(&database.url, error);
    let before = match look(&settings).await? {
        // Whoever owns the directory has migrated the database.
        None => {
            let access = context.access(Need::Answers).await?;
            let status = access.get::<DatabaseStatus>("/api/v1/db").await;
            access.finish(context.output, status).await?.schema
        }
        // A look does not refuse a database of a later version.
        Some((_ownership, schema)) if dry_run && !schema.is_newer() => schema,
        Some((_ownership, _)) => SqlDatabase::migrate(database.url.clone(), database.limits).await.map_err(failed)?,
    };
    let (from, to) = (before.version, before.known);
    let migrated = Migrated { url: database.url.to_string(), dry_run, from, to, migrations: before.pending };
    let output = context.output;
    if output.is_json() {
        output.json(&migrated)?;
        return Ok(Exit::Done);
    }
    let from = from.map_or_else(|| "nothing".to_owned(), |version| format!("schema {version}"));
    if migrated.migrations.is_empty() {
        output.line(&format!("{} has {from} and is up to date", migrated.url))?;
    } else {
        let done = if dry_run { "would go" } else { "went" };
        output.line(&format!("{} {done} from {from} to schema {to}:", migrated.url))?;
        let rows = migrated.migrations.into_iter();
        let rows = rows.map(|migration| vec![migration.version.to_string(), migration.description]).collect();
        output.table(&["MIGRATION", "ABOUT"], rows)?;
    }
    Ok(Exit::Done)
}

async fn prune(context: &Context<'_>, dry_run: bool) -> Result<Exit, CliError> {
    let dry_run = dry_run || context.settings()?.retention.dry_run;
    let access = context.access(Need::Answers).await?;
    let report = access.post::<PruneReport>("/api/v1/db/prune", &PruneRequest { dry_run }).await;
    let report = access.finish(context.output, report).await?;
    let output = context.output;
    if output.is_json() {
        output.json(&report)?;
        return Ok(Exit::Done);
    }
    let rows = report.candidates.iter().map(|job| {
        let why = match job.reason {
            PruneReason::Window => "age",
            PruneReason::Quota => "quota",
        };
        let changed = job.updated_at.to_string();
        let changed = changed.split_once('T').map_or(changed.as_str(), |(day, _)| day).to_owned();
        vec![job.job_id.to_string(), job.protocol_id.clone(), changed, why.to_owned()]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() && !output.quiet {
        output.table(&["JOB", "WORKFLOW", "CHANGED", "WHY"], rows)?;
    }
    output.line(&summary(&report))?;
    Ok(Exit::Done)
}

fn summary(report: &PruneReport) -> String {
    let count = |number: u64, one: &str| if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") };
    let PruneReport { candidates, pruned, swept, .. } = report;
    let found = candidates.len() as u64;
    if report.dry_run {
        let bytes = candidates.iter().map(|job| job.artifact_bytes).sum::<u64>() + swept.bytes;
        return format!("would delete {} and {} kB of artifacts", count(found, "job"), bytes.div_ceil(1000));
    }
    let kept = match found.saturating_sub(pruned.jobs) {
        0 => String::new(),
        kept => format!("; {} changed meanwhile and stayed", count(kept, "job")),
    };
    let (jobs, runs) = (count(pruned.jobs, "job"), count(pruned.runs, "run"));
    let files = count(swept.files, "artifact");
    format!("deleted {jobs} with {runs}, and {files} of {} kB{kept}", swept.bytes.div_ceil(1000))
}
