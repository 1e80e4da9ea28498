//! What the janitor deletes and when: `[retention]` in `handshake.toml`.

use std::time::Duration;

use handshake_core::storage::RetentionPolicy;
use handshake_core::workflow::Period;
use serde::Deserialize;

use crate::error::CliError;

const HOUR: Duration = Duration::from_secs(3600);
/// The most days: a hundred years.
const MOST_DAYS: u32 = 36_500;

/// `[retention]` as written.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionFile {
    /// How often the janitor looks, in processes that live so long; `0s` for never, else 1m to 30days, default 1h.
    /// `handshake db prune` does the same at once.
    interval: Option<Period>,
    /// Days that a finished job is kept after its last change; 1 to 36500, default 30.
    #[schemars(range(min = 1, max = 36_500))]
    days: Option<u32>,
    /// The newest jobs of each workflow are kept however old they are, so many; 0 to 10000, default 3.
    #[schemars(range(min = 0, max = 10_000))]
    keep: Option<u32>,
    /// Bytes that artifacts may take. Beyond that the oldest finished jobs go before their time; default no bound.
    disk_quota: Option<u64>,
    /// Only reports what would be deleted; default false.
    dry_run: bool,
}

/// What the janitor deletes and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetentionSettings {
    /// Which jobs are kept.
    pub(crate) policy: RetentionPolicy,
    /// How often it looks; none for never.
    pub(crate) interval: Option<Duration>,
    /// Whether it only looks.
    pub(crate) dry_run: bool,
}

impl RetentionFile {
    /// Checks everything.
    pub(crate) fn resolve(self, name: &str) -> Result<RetentionSettings, CliError> {
        let refuse = |problem: String| CliError::usage(format!("{name}: retention.{problem}"));
        let interval = self.interval.map_or(HOUR, |period| period.0);
        if !interval.is_zero() && !(HOUR / 60..=30 * 24 * HOUR).contains(&interval) {
            let interval = Period(interval);
            return Err(refuse(format!("interval: {interval} is neither `0s`, for never, nor between 1m and 30days")));
        }
        let (days, keep) = (self.days.unwrap_or(30), self.keep.unwrap_or(3));
        if !(1..=MOST_DAYS).contains(&days) {
            return Err(refuse(format!("days: {days} is not between 1 and {MOST_DAYS}")));
        }
        if keep > 10_000 {
            return Err(refuse(format!("keep: {keep} is more than 10000")));
        }
        Ok(RetentionSettings {
            policy: RetentionPolicy { days, keep, quota: self.disk_quota },
            interval: Some(interval).filter(|interval| !interval.is_zero()),
            dry_run: self.dry_run,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<RetentionSettings, String> {
        toml::from_str::<RetentionFile>(text).unwrap().resolve("handshake.toml").map_err(|error| error.message)
    }

    #[test]
    fn thirty_days_and_three_jobs_are_kept_unless_something_else_is_said() {
        let settings = resolve("").unwrap();
        assert_eq!(settings.policy, RetentionPolicy { days: 30, keep: 3, quota: None });
        assert_eq!((settings.interval, settings.dry_run), (Some(HOUR), false));
        let settings = resolve("interval = '0s'\ndays = 1\nkeep = 0\ndisk_quota = 7\ndry_run = true").unwrap();
        assert_eq!(settings.policy, RetentionPolicy { days: 1, keep: 0, quota: Some(7) });
        assert_eq!((settings.interval, settings.dry_run), (None, true));
    }

    #[test]
    fn silly_numbers_are_refused() {
        for text in ["interval = '1s'", "interval = '31days'", "days = 0", "days = 40000", "keep = 10001"] {
            assert!(resolve(text).unwrap_err().starts_with("handshake.toml: retention."), "{text}");
        }
    }
}
