//! Which database: the URL, of which the password is never shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use handshake_core::storage::StorageError;
use sqlx::postgres::PgConnectOptions;

/// Where the database is: `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…` (also
/// `postgresql:`). What is shown of it never includes the password or parameters.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(crate) target: Target,
    secrets: Vec<String>,
}

#[derive(Clone)]
pub(crate) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

/// Parameters of a PostgreSQL URL that mean something here. The driver would log any other, with its value.
const PARAMETERS: [&str; 10] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "dbname", "user", "password", "options"];

impl DatabaseUrl {
    /// An SQLite file.
    pub fn sqlite(path: PathBuf) -> Self {
        Self { target: Target::Sqlite(path), secrets: Vec::new() }
    }

    /// The SQLite file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.target {
            Target::Sqlite(path) => Some(path),
            Target::Postgres(_) => None,
        }
    }

    /// The same, with the relative path of an SQLite file counting from this folder.
    pub fn within(mut self, folder: &Path) -> Self {
        if let Target::Sqlite(path) = &mut self.target {
            *path = folder.join(&*path);
        }
        self
    }

    /// The password in every form in which it may turn up, so that it can be redacted.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

impl FromStr for DatabaseUrl {
    type Err = StorageError;

    /// Errors never repeat the URL: whatever is wrong with it, a password may be in it.
    fn from_str(url: &str) -> Result<Self, StorageError> {
        let url = url.trim();
        let Some((scheme, rest)) = url.split_once(':') else {
            return refuse("has no scheme: it must begin with `sqlite:` or `postgres:`");
        };
        match scheme {
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() || path.starts_with(':') || path.contains(['?', '#', '\0']) {
                    return refuse("must name a file after `sqlite:`, without parameters; memory is not durable");
                }
                Ok(Self::sqlite(path.into()))
            }
            "postgres" | "postgresql" => postgres(url, rest),
            // Schemes of databases are short words in small letters; anything else may be part of a password.
            other if (1..=12).contains(&other.len()) && other.bytes().all(|b| b.is_ascii_lowercase()) => {
                refuse(&format!("has the scheme `{other}`; it must be `sqlite`, `postgres` or `postgresql`"))
            }
            _ => refuse("has no scheme: it must begin with `sqlite:` or `postgres:`"),
        }
    }
}

fn refuse<T>(why: &str) -> Result<T, StorageError> {
    Err(StorageError::Validation(format!("the database URL {why}")))
}

fn postgres(url: &str, rest: &str) -> Result<DatabaseUrl, StorageError> {
    const FORM: &str = "cannot be read; it has the form postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE, with \
                        special characters in its parts percent-encoded";
    let Some(rest) = rest.strip_prefix("//") else { return refuse(FORM) };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A password with one of these would be taken for a host, a port or a database, and shown as such.
    if behind.contains(['#', '@']) {
        return refuse(FORM);
    }
    let parameters = behind.split_once('?').map_or("", |(_, parameters)| parameters);
    let mut secrets = Vec::new();
    for (name, value) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
        if name == "password" {
            secrets.push(value.replace('+', " "));
        }
    }
    let known = |name: &str| PARAMETERS.contains(&name) || name.starts_with("options[");
    let names = parameters.split('&').map(|parameter| parameter.split('=').next().unwrap_or_default());
    if !names.filter(|name| !name.is_empty()).all(known) {
        return refuse(&format!("has a parameter that is not known; there are: {}", PARAMETERS.join(", ")));
    }
    if let Some((_, password)) = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        secrets.push(password.to_owned());
    }
    if secrets.is_empty() {
        // What the driver takes instead.
        secrets.extend(std::env::var("PGPASSWORD").ok());
    }
    let decoded: Vec<_> = secrets.iter().map(|secret| percent_decoded(secret)).collect();
    secrets.extend(decoded);
    secrets.retain(|secret| !secret.is_empty());
    match PgConnectOptions::from_str(url) {
        Ok(options) => Ok(DatabaseUrl { target: Target::Postgres(Box::new(options)), secrets }),
        Err(_) => refuse(FORM),
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(number.unwrap_or(*first));
        rest = if number.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Target::Postgres(options) => {
                write!(f, "postgres://{}@", options.get_username())?;
                match options.get_socket() {
                    Some(socket) => write!(f, "{}", socket.display())?,
                    None => write!(f, "{}:{}", options.get_host(), options.get_port())?,
                }
                options.get_database().map_or(Ok(()), |database| write!(f, "/{database}"))
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_shown_without_its_secrets() {
        for (url, shown) in [
            ("sqlite:a/b.db", "sqlite:a/b.db"),
            ("sqlite://a.db", "sqlite:a.db"),
            ("sqlite:///srv/a.db", "sqlite:/srv/a.db"),
            ("postgres://u:s3cret@db.example:5433/x?sslmode=require", "postgres://u@db.example:5433/x"),
            ("postgresql://u:s3cret@db.example/x", "postgres://u@db.example:5432/x"),
            ("postgres://u:s3@cret@db.example/x", "postgres://u@db.example:5432/x"),
            ("postgres:///x?host=/run/pg&user=u&password=s3cret", "postgres://u@/run/pg/x"),
        ] {
            let parsed: DatabaseUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(format!("{parsed:?}"), shown);
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_repeating_it() {
        for url in [
            "",
            "s3cret",
            "mysql://u:s3cret@h/d",
            "s3cret@host:/x",
            "s3cret://h",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a?mode=ro",
            "postgres://u:s3cret@h:99999999/d",
            "postgres://u:s3cret@h/d?sslmode=s3cret",
            "Postgres",
            // Unencoded, these would be a port, a database, a fragment and a parameter.
            "postgres://u:12/s3cret@h/d",
            "postgres://u:12#s3cret@h/d",
            "postgres://u:12?s3cret@h/d",
            "postgres://u@h/d?pasword=s3cret",
            "postgres://u@h/d?s3cret",
        ] {
            let error = url.parse::<DatabaseUrl>().unwrap_err();
            assert!(matches!(error, StorageError::Validation(_)), "{url}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_known_as_written_and_decoded() {
        let secrets = |url: &str| url.parse::<DatabaseUrl>().unwrap().secrets().to_vec();
        assert_eq!(secrets("postgres://u:p%40%C3%A4%@h/d"), ["p%40%C3%A4%", "p@ä%"]);
        assert_eq!(secrets("postgres://u@h/d?password=a+b%21"), ["a b%21", "a b!"]);
        assert!(secrets("sqlite:x").is_empty());
    }

    #[test]
    fn a_relative_path_counts_from_the_folder_that_is_named() {
        let within = |url: &str| url.parse::<DatabaseUrl>().unwrap().within(Path::new("/srv")).to_string();
        assert_eq!(within("sqlite:a.db"), "sqlite:/srv/a.db");
        assert_eq!(within("sqlite:/a.db"), "sqlite:/a.db");
    }
}
