//! The most that any job may spend: `[budget]` in `handshake.toml`.

use handshake_core::workflow::{Budget, OnExceeded, Period};
use serde::Deserialize;

use crate::error::CliError;

/// `[budget]` as written: the most that any job may spend in one run. Workflow files can ask for less.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BudgetFile {
    /// Tokens of models, of requests and answers together; default no bound.
    #[schemars(range(min = 1))]
    tokens: Option<u64>,
    /// Calls of models, those that fail included; default no bound.
    #[schemars(range(min = 1))]
    model_calls: Option<u64>,
    /// Time that a host executes it; default no bound.
    wall: Option<Period>,
    /// Attempts of steps that run plugins; default no bound.
    #[schemars(range(min = 1))]
    steps: Option<u64>,
    /// KiB of results of such steps; default no bound.
    #[schemars(range(min = 1))]
    output_kb: Option<u64>,
}

impl BudgetFile {
    /// Checks everything.
    pub(crate) fn resolve(self, name: &str) -> Result<Budget, CliError> {
        let Self { tokens, model_calls, wall, steps, output_kb } = self;
        let budget = Budget { tokens, model_calls, wall, steps, output_kb, on_exceeded: OnExceeded::Fail };
        match budget.zeros().first() {
            None => Ok(budget),
            Some(key) => Err(CliError::usage(format!("{name}: budget.{key}: with nothing no job could be run"))
                .hint("leave it out for no bound")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_bounded_unless_it_is_said_and_nothing_is_no_bound() {
        let resolve = |text: &str| toml::from_str::<BudgetFile>(text).unwrap().resolve("handshake.toml");
        assert_eq!(resolve("").unwrap(), Budget::default());
        assert_eq!(resolve("tokens = 7").unwrap().tokens, Some(7));
        let error = resolve("wall = '0s'").unwrap_err();
        assert_eq!(error.message, "handshake.toml: budget.wall: with nothing no job could be run");
        assert!(toml::from_str::<BudgetFile>("on_exceeded = 'ask'").is_err(), "that is the workflow's to say");
    }
}
