//! The system's keyring: Secret Service on Linux (GNOME Keyring, KWallet), Keychain on macOS, Credential Manager on Windows.

use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;

/// How long its answer may take: the keyring may ask its owner for a password first.
const PATIENCE: Duration = Duration::from_secs(30);

/// An entry of the keyring.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyringEntry {
    /// What it is for, as its owner named it: the attribute `service` of the Secret Service.
    pub(crate) service: String,
    /// Whose it is: the attribute `username` of the Secret Service.
    pub(crate) account: String,
}

impl fmt::Display for KeyringEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the keyring's entry `{}` of `{}`", self.account, self.service)
    }
}

/// Reads an entry. Blocks for at most half a minute.
pub(crate) fn read(entry: &KeyringEntry) -> Result<String, String> {
    let KeyringEntry { service, account } = entry.clone();
    let (sender, receiver) = mpsc::sync_channel(1);
    // A thread of its own, because the client waits in a way that does not go with being waited for.
    std::thread::spawn(move || {
        let read = || keyring::Entry::new(&service, &account)?.get_password();
        // Nobody waits any more when it took too long.
        let _ = sender.send(read().map_err(|error| problem(&error)));
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| Err("it does not answer".to_owned()))
}

fn problem(error: &keyring::Error) -> String {
    match (error, keyring::Entry::store_status()) {
        (keyring::Error::NoDefaultStore, Err(cause)) => cause.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever keyring there is here, or none: it says so, and does not end the process.
    #[test]
    fn an_entry_that_is_not_there_is_a_problem_in_words() {
        let entry = KeyringEntry { service: "handshake-test".into(), account: "nobody".into() };
        assert!(read(&entry).is_err_and(|problem| !problem.is_empty()));
    }
}
