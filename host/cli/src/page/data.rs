//! The decisions for the page's script: one table of texts, and rows of numbers that point into it, because the same
//! names come again and again.

use std::collections::HashMap;

use handshake_core::event::Outcome;
use serde::Serialize;

use super::shown;
use crate::error::CliError;
use crate::review::report::ReportData;

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    /// Every text once.
    texts: Vec<String>,
    /// Number, milliseconds after the start, actor, step, attempt, call, capability, resource, decision, reason, layer,
    /// rule.
    rows: Vec<[u64; 12]>,
    /// The events, as many as rows.
    ids: Vec<String>,
    /// The start, milliseconds since 1970.
    start: i64,
    /// The run, for hints.
    run: &'a str,
}

#[derive(Default)]
struct Texts {
    all: Vec<String>,
    known: HashMap<String, u64>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.known.get(text) {
            return *number;
        }
        let number = self.all.len() as u64;
        self.all.push(shown(text));
        self.known.insert(text.to_owned(), number);
        number
    }
}

/// The data as JSON that cannot end the block it stands in.
pub(super) fn json(report: &ReportData) -> Result<String, CliError> {
    let mut texts = Texts::default();
    let start = report.decisions.first().map_or(0, |line| line.recorded_at.micros() / 1000);
    let rows = report.decisions.iter().map(|line| {
        let decision = match (line.outcome, line.would_deny) {
            (Outcome::Deny, _) => 1,
            (Outcome::Allow, true) => 2,
            (Outcome::Allow, false) => 0,
        };
        [
            line.seq,
            u64::try_from(line.recorded_at.micros() / 1000 - start).unwrap_or(0),
            texts.number(&line.actor),
            texts.number(&line.step),
            line.attempt,
            line.call,
            texts.number(&line.capability),
            texts.number(&line.resource),
            decision,
            texts.number(line.reason.as_deref().unwrap_or_default()),
            texts.number(&line.layer),
            texts.number(line.rule.as_deref().unwrap_or_default()),
        ]
    });
    let rows = rows.collect();
    let ids = report.decisions.iter().map(|line| line.event_id.to_string()).collect();
    let run = report.run.run_id.to_string();
    let data = Data { texts: texts.all, rows, ids, start, run: &run };
    let json = serde_json::to_string(&data)
        .map_err(|error| CliError::internal("the report cannot be written").because(&error))?;
    // Inside of strings, which is where they stand, these mean the same to JSON and nothing to HTML.
    Ok(json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}
