//! What a person is told who has trouble with the database: a stable code, and what to do.

use std::error::Error;

use handshake_core::storage::{FaultKind, StorageError};
use handshake_storage::DatabaseUrl;

use crate::error::{CliError, Exit};

/// The stable code of a fault, and what to do about it. None is the host's own, so all of them end with 2.
pub(crate) fn remedy(kind: FaultKind) -> (&'static str, &'static str) {
    match kind {
        FaultKind::Unreachable => (
            "database_unreachable",
            "check that the server runs, and host and port in DATABASE_URL or in [database] of handshake.toml",
        ),
        FaultKind::Busy => ("database_busy", "try again; on PostgreSQL, pg_stat_activity shows who is connected"),
        FaultKind::Tls => (
            "database_tls",
            "check sslmode and sslrootcert in the URL; sslmode=disable is for a server on this machine",
        ),
        FaultKind::Login => {
            ("database_login", "check user and password in DATABASE_URL or in [database] of handshake.toml")
        }
        FaultKind::UnknownDatabase => ("database_unknown", "create it with createdb, or correct its name in the URL"),
        FaultKind::Permission => (
            "database_permission",
            "its user needs USAGE and CREATE on the schema and must own the tables: GRANT ALL ON SCHEMA public TO …",
        ),
        FaultKind::CannotOpen => ("database_file", "create its folder, or correct the path in the URL"),
        FaultKind::ReadOnly => (
            "read_only",
            "make it and its folder writable for you, or choose another place, for example with --data-dir; a server \
             that is a standby takes no writes",
        ),
        FaultKind::Full => {
            ("disk_full", "free some space on the disk, or choose another place, for example with --data-dir")
        }
        FaultKind::Corrupt => (
            "database_corrupt",
            "move it aside and restore a backup; for an SQLite file, `sqlite3 FILE .recover` saves what can be read",
        ),
        FaultKind::Newer { .. } => {
            ("database_newer", "nothing was changed; use the version of handshake that migrated it, or a later one")
        }
        FaultKind::Changed { .. } => (
            "database_changed",
            "nothing was changed; use the build of handshake that migrated it, or another database",
        ),
        FaultKind::Migrating => (
            "database_migrating",
            "wait for the other host, or raise migration_timeout in [database] of handshake.toml",
        ),
    }
}

/// The database could not be opened.
pub(crate) fn not_opened(url: &DatabaseUrl, error: StorageError) -> CliError {
    if let StorageError::Conflict(problem) = &error {
        let hint = if url.file().is_some() {
            "wait until that process has ended, or use another database"
        } else {
            "if a process of this data directory has just ended, try again: the server will notice; if the directory \
             is a copy, delete its file host-id"
        };
        return CliError::usage(problem).code("database_in_use").hint(hint);
    }
    let Some(kind) = FaultKind::of(&error) else { return error.into() };
    let (code, hint) = remedy(kind);
    let new = CliError::new(Exit::Usage, code, format!("cannot use the database {url}: {kind}")).hint(hint);
    // Behind the fault stands the driver's own word.
    let mut causes = std::iter::successors(Error::source(&error), |&cause| cause.source());
    match causes.find(|cause| cause.to_string() == kind.to_string()).and_then(Error::source) {
        Some(cause) => new.because(cause),
        None => new,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::storage::Fault;

    use super::*;

    #[test]
    fn an_error_names_the_database_the_fault_and_the_drivers_word() {
        let url: DatabaseUrl = "postgres://u:s3cret@db.example/x".parse().unwrap();
        let driver = std::io::Error::other("connection refused");
        let fault = Fault { kind: FaultKind::Unreachable, source: Some(Box::new(driver)) };
        let error = StorageError::Unavailable { operation: "connect", source: Box::new(fault) };
        let shown = not_opened(&url, error);
        assert_eq!(shown.message, "cannot use the database postgres://u@db.example:5432/x: it does not answer");
        assert_eq!((shown.code.as_str(), shown.exit), ("database_unreachable", Exit::Usage));
        assert_eq!(shown.why, ["connection refused"]);
    }

    #[test]
    fn a_database_that_is_open_elsewhere_is_in_use() {
        let url: DatabaseUrl = "sqlite:x".parse().unwrap();
        assert_eq!(not_opened(&url, StorageError::Conflict("open".into())).code, "database_in_use");
        assert_eq!(not_opened(&url, StorageError::Overloaded { operation: "x" }).code, "HSK-500-DB");
    }
}
