//! `[environment]` in handshake.toml: the variables of this process that steps may be granted to read. No other ever
//! leaves it.

use std::collections::BTreeMap;

use handshake_core::capability::is_variable;
use serde::Deserialize;

use crate::error::CliError;

/// Bytes of one value that are passed on.
const MAX_VALUE_BYTES: usize = 16 << 10;

/// `[environment]` as written.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EnvironmentFile {
    /// Names of variables, for example `["LANG", "TZ"]`.
    variables: Vec<String>,
}

impl EnvironmentFile {
    /// Checks the names.
    pub(crate) fn check(&self, file: &str) -> Result<(), CliError> {
        match self.variables.iter().find(|name| !is_variable(name)) {
            Some(name) => {
                Err(CliError::usage(format!("{file}: environment.variables: `{name}` is no name of a variable"))
                    .hint("write each name out; there are no patterns here"))
            }
            None => Ok(()),
        }
    }

    /// Those that are set, with their values. One that is not set is not there for steps either.
    pub(crate) fn values(&self, environment: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
        let set = self.variables.iter().filter_map(|name| Some((name.clone(), environment(name)?)));
        set.filter(|(name, value)| {
            let fits = value.len() <= MAX_VALUE_BYTES;
            if !fits {
                tracing::warn!(variable = %name, "a value of {} bytes is not passed on to steps", value.len());
            }
            fits
        })
        .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_one_by_one_and_only_those_that_are_set_are_passed_on() {
        let file: EnvironmentFile = toml::from_str("variables = ['LANG', 'TZ', 'LONG']").unwrap();
        file.check("handshake.toml").unwrap();
        let environment = |name: &str| match name {
            "LANG" => Some("C".to_owned()),
            "HOME" => Some("/srv/ann".to_owned()),
            "LONG" => Some("x".repeat(MAX_VALUE_BYTES + 1)),
            _ => None,
        };
        assert_eq!(file.values(&environment), BTreeMap::from([("LANG".to_owned(), "C".to_owned())]));

        let pattern: EnvironmentFile = toml::from_str("variables = ['APP_*']").unwrap();
        let error = pattern.check("handshake.toml").unwrap_err();
        assert_eq!(error.message, "handshake.toml: environment.variables: `APP_*` is no name of a variable");
    }
}
