//! Which times of a schedule are due, and what becomes of those that were missed. Pure.

use std::time::Duration;

use handshake_core::Timestamp;
use handshake_core::trigger::{Missed, Schedule};

use super::cron::Cron;

/// Most runs that one look begins; with `all` the rest comes at the next look.
pub(crate) const MOST_AT_ONCE: usize = 100;
/// How long after its time a run is not late: looks are seconds apart, and a restart takes some.
pub(crate) const LATE: Duration = Duration::from_secs(60);
/// Missed times of a cron expression are counted up to here; one at a time, since months differ.
const MOST_COUNTED: u64 = 10_000;

/// What one look at a schedule finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// Times to fire now, oldest first; at most [`MOST_AT_ONCE`].
    pub(crate) fire: Vec<Timestamp>,
    /// The first time that was not looked at: after now, unless more than [`MOST_AT_ONCE`] had to be fired.
    pub(crate) next_at: Timestamp,
    /// How many times get no run of their own.
    pub(crate) left_out: u64,
    /// Whether there were more, which were not counted.
    pub(crate) uncounted: bool,
}

/// A schedule that was understood.
enum Times {
    Cron(Box<Cron>),
    /// Microseconds, at least 1.
    Every(i64),
}

impl Times {
    fn of(schedule: &Schedule) -> Result<Self, String> {
        Ok(match schedule {
            Schedule::Cron(expression) => Self::Cron(Box::new(Cron::parse(expression)?)),
            Schedule::Every(period) => Self::Every(i64::try_from(period.0.as_micros()).unwrap_or(i64::MAX).max(1)),
        })
    }

    /// The time after one of them.
    fn after(&self, time: Timestamp) -> Timestamp {
        let next = match self {
            Self::Cron(cron) => cron.after(time).unwrap_or(Timestamp::NEVER),
            Self::Every(micros) => Timestamp::from_micros(time.micros().saturating_add(*micros)),
        };
        next.min(Timestamp::NEVER)
    }

    /// The last one that is not after `now`, given the first, which is not.
    fn last(&self, first: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::Cron(cron) => cron.until(now).unwrap_or(first).max(first),
            Self::Every(micros) => {
                let gone = now.micros().saturating_sub(first.micros());
                Timestamp::from_micros(first.micros().saturating_add(gone - gone % micros))
            }
        }
    }

    /// How many there are from `from` up to and with `to`, which are two of them; and whether there are more, which
    /// were not counted.
    fn count(&self, from: Timestamp, to: Timestamp) -> (u64, bool) {
        if from > to {
            return (0, false);
        }
        match self {
            Self::Every(micros) => {
                let between = to.micros().saturating_sub(from.micros()) / micros;
                (u64::try_from(between).unwrap_or(0).saturating_add(1), false)
            }
            Self::Cron(_) => {
                let (mut time, mut count) = (from, 1);
                while time < to && count < MOST_COUNTED {
                    time = self.after(time);
                    count += 1;
                }
                (count, time < to)
            }
        }
    }

    /// Up to so many of them from `from` on that are not after `now`, and the one behind.
    fn some(&self, from: Timestamp, now: Timestamp) -> (Vec<Timestamp>, Timestamp) {
        let (mut time, mut found) = (from, Vec::new());
        while time <= now && time < Timestamp::NEVER && found.len() < MOST_AT_ONCE {
            found.push(time);
            time = self.after(time);
        }
        (found, time)
    }
}

/// The first time after `now`. For `every`, one period later.
pub(crate) fn first(schedule: &Schedule, now: Timestamp) -> Result<Timestamp, String> {
    Ok(Times::of(schedule)?.after(now))
}

/// What is due now of a schedule whose first time that was not looked at yet is `next_at`. An error says why the
/// schedule is not understood.
pub(crate) fn occurrences(
    schedule: &Schedule,
    missed: Missed,
    next_at: Timestamp,
    now: Timestamp,
) -> Result<Due, String> {
    let times = Times::of(schedule)?;
    if next_at > now || next_at >= Timestamp::NEVER {
        return Ok(Due { fire: Vec::new(), next_at, left_out: 0, uncounted: false });
    }
    let last = times.last(next_at, now);
    match missed {
        Missed::All => {
            let (fire, next_at) = times.some(next_at, now);
            Ok(Due { fire, next_at, left_out: 0, uncounted: false })
        }
        // The last of them, not the first: a run looks at how things stand now. And should this process be lost
        // before it is noted, those that are missed meanwhile get a run all the same.
        Missed::Once => {
            let (count, uncounted) = times.count(next_at, last);
            Ok(Due { fire: vec![last], next_at: times.after(last), left_out: count - 1, uncounted })
        }
        Missed::Skip => {
            // The first one that is not late: the one behind the last late one.
            let late = Timestamp::from_micros(now.micros().saturating_sub(micros(LATE)).saturating_sub(1));
            let (from, (left_out, uncounted)) = if next_at <= late {
                let last_late = times.last(next_at, late);
                (times.after(last_late), times.count(next_at, last_late))
            } else {
                (next_at, (0, false))
            };
            let (fire, next_at) = times.some(from, now);
            Ok(Due { fire, next_at, left_out, uncounted })
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "occurrences_tests.rs"]
mod tests;
