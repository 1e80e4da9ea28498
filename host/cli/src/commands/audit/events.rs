//! `handshake audit events`: events of all types, listed or followed.

use std::time::Duration;

use clap::Args;
use handshake_recorder::{EventPage, EventQuery};

use super::filters::Filters;
use super::{note_elsewhere, note_missing, path_of};
use crate::access::Need;
use crate::api::audit::RecordPage;
use crate::commands::Context;
use crate::error::CliError;
use crate::output::Output;
use crate::review::summary;
use crate::signals::Signals;

/// How often following asks for more.
const PAUSE: Duration = Duration::from_secs(1);

/// How often in a row it may get no answer.
const PATIENCE: u32 = 5;

/// Arguments of `handshake audit events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    filters: Filters,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "follow")]
    limit: u32,
    /// Continue where an earlier page ended
    #[arg(long, value_name = "PLACE", conflicts_with = "follow")]
    before: Option<String>,
    /// Show events as they come, one a line, until Ctrl-C; with --from also the earlier ones
    #[arg(long)]
    follow: bool,
}

/// Lists or follows.
pub(super) async fn events(context: &Context<'_>, args: &EventsArgs) -> Result<(), CliError> {
    if args.follow {
        return follow(context, args).await;
    }
    let query = EventQuery { limit: args.limit, before: args.before.clone(), ..args.filters.query() };
    show(context.output, &ask(context, &query).await?)
}

async fn ask(context: &Context<'_>, query: &EventQuery) -> Result<RecordPage, CliError> {
    let path = path_of("/api/v1/audit/events", query)?;
    let access = context.access(Need::Answers).await?;
    let page = access.get::<RecordPage>(&path).await;
    access.finish(context.output, page).await
}

fn show(output: &Output, found: &RecordPage) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(found);
    }
    let page = &found.page;
    note_elsewhere(output, &found.elsewhere);
    note_missing(output, page.incomplete_before);
    if page.events.is_empty() {
        output.note("no events");
        return Ok(());
    }
    output.table(&["TIME", "WHO", "TYPE", "STEP", "WHAT"], page.events.iter().map(summary::row).collect())?;
    if let Some(next) = &page.next {
        output.note(&format!("more: the same with --before {next}"));
    }
    Ok(())
}

/// Each question finds its own way to the data directory: a process that owned it all the time would keep others from
/// running jobs, and events go on to come when its owner changes.
async fn follow(context: &Context<'_>, args: &EventsArgs) -> Result<(), CliError> {
    let output = context.output;
    let mut signals = Signals::new()?;
    let mut query = args.filters.query();
    if query.from.is_some() {
        query.after = Some("0".to_owned());
    } else {
        let newest = EventQuery { limit: 1, ..EventQuery::default() };
        query.after = Some(ask(context, &newest).await?.page.resume);
    }
    query.limit = 1000;
    output.note("following; Ctrl-C ends it");
    let mut refused = 0;
    loop {
        let page = match ask(context, &query).await {
            Ok(page) => {
                refused = 0;
                page.page
            }
            // Its owner ended in the middle of the answer.
            Err(error) if error.code == "busy" && refused < PATIENCE => {
                refused += 1;
                output.note(&format!("{error}; trying again"));
                EventPage { events: Vec::new(), next: None, resume: String::new(), incomplete_before: None }
            }
            Err(error) => return Err(error),
        };
        note_missing(output, page.incomplete_before);
        for event in &page.events {
            if output.is_json() {
                output.json_line(event)?;
            } else {
                output.line(&summary::line(event))?;
            }
        }
        let more = page.next.is_some();
        if let Some(place) = page.next.or(Some(page.resume)).filter(|place| !place.is_empty()) {
            query.after = Some(place);
        }
        if output.is_closed() {
            return Ok(());
        }
        let pause = if more { Duration::ZERO } else { PAUSE };
        tokio::select! {
            () = signals.next() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
