//! Which database the host keeps its data in, and how patient it is with it: `DATABASE_URL`, and `[database]` in
//! `handshake.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use handshake_core::workflow::Period;
use handshake_storage::{DatabaseUrl, Limits};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::error::CliError;
use crate::secrets::read_secret;

/// The environment variable that names the database, whatever the settings say.
pub(crate) const DATABASE_URL: &str = "DATABASE_URL";
/// The SQLite file in the data directory that is the default.
const FILE: &str = "handshake.db";

/// `[database]` as written.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatabaseFile {
    /// Where the database is: `sqlite:FILE`, relative to this file, or `postgres://USER@HOST:PORT/DATABASE`; default
    /// `handshake.db` in the data directory. The environment variable DATABASE_URL wins over it. Over a network add
    /// `?sslmode=verify-full`: other modes take any server for the right one.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    url: Option<SecretString>,
    /// File that holds the URL, relative to this file, for a URL with a password. Instead of `url`.
    url_file: Option<PathBuf>,
    /// Connections for reading; 2 to 64, default 4. A read lasts milliseconds, so few are enough. On PostgreSQL each
    /// host opens up to two more, and the server's max_connections is shared by all hosts.
    #[schemars(range(min = 2, max = 64))]
    readers: Option<u32>,
    /// How long opening a connection, or waiting for a free one, may take; 1s to 5m, default 10s: longer than a
    /// server needs to start, short enough for a person to wait for the error.
    connect_timeout: Option<Period>,
    /// How long one statement may take, migrations apart; 1s to 1h, default 30s. Everything that the host says takes
    /// milliseconds, so a statement that lasts is stuck. PostgreSQL only.
    statement_timeout: Option<Period>,
    /// How long to wait for what another process has locked; 100ms to 5m, default 5s: longer than any transaction of
    /// another host. It is also how long a start waits for an earlier process of the same host to be gone.
    lock_timeout: Option<Period>,
    /// How long a start waits while another host migrates the database; 1s to 1h, default 60s. PostgreSQL only.
    migration_timeout: Option<Period>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// Which database, and how patient the host is with it.
#[derive(Debug)]
pub(crate) struct DatabaseSettings {
    /// Where it is; shows no password.
    pub(crate) url: DatabaseUrl,
    /// Connections and timeouts.
    pub(crate) limits: Limits,
}

impl DatabaseFile {
    /// Checks everything. `name` is the settings file as the person knows it, `project` its folder; `environment` is
    /// what [`DATABASE_URL`] holds.
    pub(crate) fn resolve(
        self,
        name: &str,
        project: &Path,
        data_dir: &Path,
        environment: Option<SecretString>,
    ) -> Result<DatabaseSettings, CliError> {
        let limits = self.limits(name)?;
        let parse = |place: &str, text: &SecretString| {
            let url = text.expose_secret().parse::<DatabaseUrl>();
            url.map_err(|error| {
                CliError::usage(format!("{place}: {error}"))
                    .code("database_url")
                    .hint("examples: sqlite:handshake.db, postgres://user:password@localhost:5432/handshake")
            })
        };
        let refuse = |problem: String| CliError::usage(format!("{name}: database.{problem}"));
        let environment = environment.filter(|text| !text.expose_secret().trim().is_empty());
        let url = match (environment, self.url, self.url_file) {
            (Some(text), ..) => parse(DATABASE_URL, &text)?.within(&absolute(Path::new("."))?),
            (None, Some(_), Some(_)) => {
                return Err(refuse("url and database.url_file: give either of them".to_owned()));
            }
            (None, Some(text), None) => parse(&format!("{name}: database.url"), &text)?.within(project),
            (None, None, Some(file)) => {
                let shown = file.display();
                let text = read_secret(&project.join(&file)).filter(|text| !text.is_empty());
                let text = text.ok_or_else(|| {
                    refuse(format!("url_file: `{shown}` is missing or empty, or cannot be read"))
                        .hint("write the URL into it, on one line, and make it readable for you alone: chmod 600")
                })?;
                parse(&format!("{shown}, which {name} names as database.url_file"), &text.into())?.within(project)
            }
            (None, None, None) => DatabaseUrl::sqlite(data_dir.join(FILE)),
        };
        Ok(DatabaseSettings { url, limits })
    }

    fn limits(&self, name: &str) -> Result<Limits, CliError> {
        let defaults = Limits::default();
        let readers = self.readers.unwrap_or(defaults.readers);
        if !(2..=64).contains(&readers) {
            return Err(CliError::usage(format!("{name}: database.readers: {readers} is not between 2 and 64")));
        }
        let (second, minute, hour) = (Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(3600));
        let within = |key: &str, wanted: Option<Period>, default: Duration, least: Duration, most: Duration| {
            let wanted = wanted.map_or(default, |period| period.0);
            if (least..=most).contains(&wanted) {
                return Ok(wanted);
            }
            let [wanted, least, most] = [wanted, least, most].map(Period);
            Err(CliError::usage(format!("{name}: database.{key}: {wanted} is not between {least} and {most}")))
        };
        Ok(Limits {
            readers,
            connect_timeout: within(
                "connect_timeout",
                self.connect_timeout,
                defaults.connect_timeout,
                second,
                5 * minute,
            )?,
            statement_timeout: within(
                "statement_timeout",
                self.statement_timeout,
                defaults.statement_timeout,
                second,
                hour,
            )?,
            lock_timeout: within("lock_timeout", self.lock_timeout, defaults.lock_timeout, second / 10, 5 * minute)?,
            migration_timeout: within(
                "migration_timeout",
                self.migration_timeout,
                defaults.migration_timeout,
                second,
                hour,
            )?,
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| CliError::file("find", path, &error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(text: &str, environment: Option<&str>) -> Result<DatabaseSettings, String> {
        let file: DatabaseFile = toml::from_str(text).unwrap();
        let resolved =
            file.resolve("handshake.toml", Path::new("/srv/project"), Path::new("/data"), environment.map(Into::into));
        resolved.map_err(|error| error.message)
    }

    fn url(text: &str, environment: Option<&str>) -> String {
        resolve(text, environment).unwrap().url.to_string()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_that_over_the_default() {
        assert_eq!(url("", None), "sqlite:/data/handshake.db");
        assert_eq!(url("", Some(" ")), "sqlite:/data/handshake.db");
        assert_eq!(url("url = 'sqlite:a.db'", None), "sqlite:/srv/project/a.db");
        assert_eq!(url("url = 'sqlite:a.db'", Some("postgres://u:secret@h/d")), "postgres://u@h:5432/d");
        let here = std::env::current_dir().unwrap().join("a.db");
        assert_eq!(url("", Some("sqlite:a.db")), format!("sqlite:{}", here.display()));
    }

    #[test]
    fn a_url_with_a_mistake_is_named_by_its_place_and_not_shown() {
        for (text, environment, place) in [
            ("url = 'mysql://u:secret@h/d'", None, "handshake.toml: database.url: "),
            ("", Some("mysql://u:secret@h/d"), "DATABASE_URL: "),
        ] {
            let error = resolve(text, environment).unwrap_err();
            assert!(error.starts_with(place) && !error.contains("secret"), "{error}");
        }
        assert!(resolve("url = 'sqlite:a'\nurl_file = 'b'", None).is_err());
        assert!(resolve("url_file = 'nowhere'", None).unwrap_err().contains("nowhere"));
    }

    #[test]
    fn limits_have_ranges() {
        let limits = resolve("readers = 8\nconnect_timeout = '2s'\nlock_timeout = '200ms'", None).unwrap().limits;
        assert_eq!((limits.readers, limits.connect_timeout), (8, Duration::from_secs(2)));
        assert_eq!(limits.lock_timeout, Duration::from_millis(200));
        for text in ["readers = 1", "connect_timeout = '0s'", "statement_timeout = '2h'", "lock_timeout = '1ms'"] {
            assert!(resolve(text, None).unwrap_err().contains("is not between"), "{text}");
        }
    }
}
