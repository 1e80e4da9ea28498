//! Cron expressions, in UTC: there each day has 24 hours, so no time is skipped or comes twice.

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};
use handshake_core::Timestamp;

/// Longest expression, bytes; each field of five could list all its values.
const MAX_BYTES: usize = 1_024;

/// A cron expression that was understood, and that comes some day.
#[derive(Debug)]
pub(crate) struct Cron(croner::Cron);

impl Cron {
    /// Reads an expression of five fields; says what is wrong with it.
    pub(crate) fn parse(expression: &str) -> Result<Self, String> {
        let fields = expression.split_whitespace().count();
        if fields != 5 || expression.len() > MAX_BYTES {
            let (bytes, many) = (expression.len(), if fields == 1 { "field" } else { "fields" });
            return Err(if bytes > MAX_BYTES {
                format!("the cron expression has {bytes} bytes, and at most {MAX_BYTES} are read")
            } else {
                format!("`{expression}` has {fields} {many}, and a cron expression has five")
            });
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = Self(parser.parse(expression).map_err(|error| {
            let said = error.to_string();
            // In front of the colon stands which kind of error it is.
            let said = said.split_once(": ").map_or(said.as_str(), |(_, what)| what).trim_end_matches('.');
            format!("`{expression}` is not a cron expression: {said}")
        })?);
        // Any moment serves: the calendar repeats itself after 400 years, which is less than the search goes.
        match cron.after(Timestamp::from_micros(0)) {
            Some(_) => Ok(cron),
            None => Err(format!("`{expression}` never comes: no month has such a day")),
        }
    }

    /// Its first time after this one.
    pub(crate) fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let start = DateTime::<Utc>::from_timestamp_micros(time.micros())?;
        let found = self.0.find_next_occurrence(&start, false).ok()?;
        Some(Timestamp::from_micros(found.timestamp_micros())).filter(|found| *found > time)
    }

    /// Its last time that is not after this one.
    pub(crate) fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let start = DateTime::<Utc>::from_timestamp_micros(time.micros())?;
        let found = self.0.find_previous_occurrence(&start, true).ok()?;
        Some(Timestamp::from_micros(found.timestamp_micros())).filter(|found| *found <= time)
    }
}
