//! A PostgreSQL for tests: the one that `POSTGRES_TEST_URL` names, or one that is started here and goes with the
//! process, and the choice of the storage backends to test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tokio::runtime::{Handle, RuntimeFlavor};

/// What a developer without PostgreSQL can do.
const ADVICE: &str = "install PostgreSQL (Debian and Ubuntu: apt-get install postgresql; macOS: brew install \
    postgresql), it need not be running; or name the folder of its programs in PG_BIN; or name a running server in \
    POSTGRES_TEST_URL (postgres://user:password@host:port/database); or test one backend alone and say so: \
    HANDSHAKE_TEST_BACKEND=sqlite";

/// A storage backend that tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file in a temporary folder.
    Sqlite,
    /// A fresh database on [`server`].
    Postgres,
}

/// The backends to test: both, unless `HANDSHAKE_TEST_BACKEND` names one. A backend is never left out for want of a
/// server, so a run that tested one alone was asked to.
pub fn backends() -> Vec<Backend> {
    match std::env::var("HANDSHAKE_TEST_BACKEND").as_deref() {
        Err(std::env::VarError::NotPresent) => vec![Backend::Sqlite, Backend::Postgres],
        Ok("sqlite") => vec![Backend::Sqlite],
        Ok("postgres") => vec![Backend::Postgres],
        other => panic!("HANDSHAKE_TEST_BACKEND is {other:?}; it may be `sqlite`, `postgres` or unset for both"),
    }
}

/// The server that all tests of this process share, started when it is first asked for.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("POSTGRES_TEST_URL") {
        Ok(url) => {
            if let Err(error) = block_on(async { connect(&url).await?.close().await }) {
                panic!("the server that POSTGRES_TEST_URL names cannot be reached: {error}");
            }
            Server { url, own: None }
        }
        Err(_) => Server::private(Options::default()),
    })
}

/// How a private server is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// With a certificate for `localhost` and `127.0.0.1`, and refusing everyone who comes without TLS.
    pub tls: bool,
    /// Whether commits survive a power cut, which is what they cost most for: for measuring.
    pub durable: bool,
}

/// How a database sorts text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// By the bytes, as SQLite does.
    Bytes,
    /// As English dictionaries do, which is what most installations have in some form. Needs PostgreSQL 15.
    English,
}

/// A PostgreSQL server. One that was started here ends when this is dropped or the process ends, however it ends.
pub struct Server {
    url: String,
    own: Option<Own>,
}

/// A server that was started here.
struct Own {
    folder: PathBuf,
    port: u16,
    supervisor: Mutex<Supervisor>,
}

impl Server {
    /// Starts a server of one's own, for tests that stop it or need it set up in another way.
    pub fn private(options: Options) -> Self {
        let programs = programs().unwrap_or_else(|problem| panic!("{problem}; {ADVICE}"));
        // PostgreSQL refuses to run as root.
        let user = rustix::process::geteuid().is_root().then(|| {
            account("postgres")
                .unwrap_or_else(|| panic!("PostgreSQL does not run as root, and there is no user `postgres`; {ADVICE}"))
        });
        // The supervisor removes the folder.
        let folder = tempfile::Builder::new().prefix("handshake-postgres-").tempdir().unwrap().keep();
        // Others on this machine reach the port too.
        #[allow(clippy::disallowed_methods, reason = "a secret, not data")]
        let password = uuid::Uuid::new_v4().simple().to_string();
        let password_file = folder.join("password");
        let mut file =
            std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&password_file).unwrap();
        writeln!(file, "{password}").unwrap();
        if let Some((user, group)) = user {
            for path in [&folder, &password_file] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
            }
        }
        let mut supervisor = Supervisor::spawn(&programs, &folder, user, options);
        supervisor.order("init").unwrap_or_else(|log| panic!("initdb failed; {ADVICE}\n{log}"));
        if options.tls {
            supervisor.order("certify").unwrap_or_else(|log| panic!("openssl failed; is it installed?\n{log}"));
        }
        let start = |port: &u16| supervisor.order(&format!("start {port}")).is_ok();
        // Another process may take a port between the look and the start.
        let port = free_ports().take(5).find(start);
        let port = port.unwrap_or_else(|| panic!("PostgreSQL does not start:\n{}", supervisor.log()));
        let url = format!("postgres://handshake:{password}@127.0.0.1:{port}/postgres");
        Self { url, own: Some(Own { folder, port, supervisor: Mutex::new(supervisor) }) }
    }

    /// The address of its maintenance database, with user and password.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The certificate of the authority that a server with TLS has its own from, for `sslrootcert`.
    pub fn ca_file(&self) -> PathBuf {
        let file = self.own().folder.join("ca.crt");
        assert!(file.exists(), "the server has no TLS");
        file
    }

    /// The process id of the server.
    pub fn id(&self) -> u32 {
        let file = std::fs::read_to_string(self.own().folder.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// The folder that holds all of it.
    pub fn folder(&self) -> &Path {
        &self.own().folder
    }

    /// Kills all of its processes with SIGKILL. Returns when they are gone.
    pub fn kill(&self) {
        self.order("kill");
    }

    /// Stops it in an orderly way, whoever is connected. Returns when it is gone.
    pub fn stop(&self) {
        self.order("stop");
    }

    /// Starts it again, on the same port and data. Returns when it takes connections.
    pub fn start(&self) {
        self.order(&format!("start {}", self.own().port));
    }

    /// Creates a database that sorts by bytes.
    pub async fn fresh_database(&self) -> TestDatabase {
        self.fresh_database_with(Collation::Bytes).await
    }

    /// Creates a database.
    pub async fn fresh_database_with(&self, collation: Collation) -> TestDatabase {
        #[allow(clippy::disallowed_methods, reason = "other processes may share the server")]
        let name = format!("handshake_test_{}", uuid::Uuid::now_v7().simple());
        let collation = match collation {
            Collation::Bytes => "LC_COLLATE 'C' LC_CTYPE 'C'",
            Collation::English => "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LC_COLLATE 'C' LC_CTYPE 'C'",
        };
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' {collation}");
        execute(&self.url, create).await.unwrap_or_else(|error| panic!("cannot create a database: {error}"));
        TestDatabase { url: with_database(&self.url, &name), name, server: self.url.clone(), own: self.own.is_some() }
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a private server")
    }

    fn order(&self, order: &str) {
        let mut supervisor = self.own().supervisor.lock().unwrap();
        supervisor.order(order).unwrap_or_else(|log| panic!("`{order}` failed:\n{log}"));
    }
}

/// Everything that a database holds: the table's name and the row as text.
pub fn rows(url: &str) -> Vec<(String, String)> {
    let read = async {
        let mut connection = connect(url).await?;
        let tables = "SELECT table_name::TEXT FROM information_schema.tables WHERE table_schema = 'public'";
        let mut all = Vec::new();
        for table in sqlx::query(tables).fetch_all(&mut connection).await? {
            let table: String = table.get(0);
            let rows = sqlx::query(AssertSqlSafe(format!("SELECT t::TEXT FROM \"{table}\" t")));
            let rows = rows.fetch_all(&mut connection).await?;
            all.extend(rows.iter().map(|row| (table.clone(), row.get::<String, _>(0))));
        }
        Ok::<_, sqlx::Error>(all)
    };
    block_on(read).unwrap()
}

/// A database of one test; dropped with this value, whoever is still connected.
pub struct TestDatabase {
    /// Its address, with user and password.
    pub url: String,
    name: String,
    server: String,
    own: bool,
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop = || block_on(execute(&self.server, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)));
        // The server waits for all its connections, also for those that this process is just opening; so whoever
        // opens them must go on meanwhile.
        let dropped = match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(drop),
            _ => drop(),
        };
        // With a server that was started here, and may have been stopped by the test, its databases go anyway.
        assert!(dropped.is_ok() || self.own || std::thread::panicking(), "{} stays: {dropped:?}", self.name);
    }
}

/// The shell that runs a server and outlives this process long enough to end it.
struct Supervisor {
    folder: PathBuf,
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    fn spawn(programs: &Path, folder: &Path, user: Option<(u32, u32)>, options: Options) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.display()),
            "max_connections=300".to_owned(),
            "shared_buffers=32MB".to_owned(),
            // No test cuts the power, and whatever else is killed, the kernel keeps what was written.
            format!("fsync={}", if options.durable { "on" } else { "off" }),
            // In the folder, which is removed; the default would outlive a server that was killed.
            "dynamic_shared_memory_type=mmap".to_owned(),
        ];
        if options.tls {
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={}", path("server.crt")));
            settings.push(format!("ssl_key_file={}", path("server.key")));
        }
        // A copy, because the user may not be allowed to read the checkout.
        let script = folder.join("postgres.sh");
        std::fs::write(&script, include_str!("postgres.sh")).unwrap();
        let mut command = Command::new("sh");
        command.args([script.as_path(), programs, folder]);
        for setting in settings {
            command.args(["-c", &setting]);
        }
        // Of the tester's environment nothing but the search path: variables of PostgreSQL and locales would be
        // listened to.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        // Not in this process's group: an interrupt from the terminal would take the supervisor too.
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        let mut child = command.spawn().expect("sh runs");
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { folder: folder.to_owned(), child, answers }
    }

    /// Has an order carried out. The error is the end of the log.
    fn order(&mut self, order: &str) -> Result<(), String> {
        let sent = writeln!(self.child.stdin.as_mut().unwrap(), "{order}");
        let mut answer = String::new();
        match sent.and_then(|()| self.answers.read_line(&mut answer)) {
            Ok(_) if answer == "ok\n" => Ok(()),
            _ => Err(self.log()),
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Closes its standard input, which tells it to clean up.
        let _ = self.child.wait();
    }
}

/// One of PostgreSQL's programs, for example `pgbench`.
pub fn program(name: &str) -> PathBuf {
    programs().unwrap_or_else(|problem| panic!("{problem}; {ADVICE}")).join(name)
}

/// The folder of PostgreSQL's programs.
fn programs() -> Result<PathBuf, String> {
    let complete = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file());
    if let Some(folder) = std::env::var_os("PG_BIN").map(PathBuf::from) {
        let problem = format!("PG_BIN is {}, which does not hold initdb and postgres", folder.display());
        return Some(folder).filter(complete).ok_or(problem);
    }
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let version = |entry: &std::fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    versions.sort_by_key(version);
    folders.extend(versions.iter().rev().map(|entry| entry.path().join("bin")));
    let search = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&search));
    folders.into_iter().find(complete).ok_or_else(|| "PostgreSQL's programs initdb and postgres were not found".into())
}

/// User and group of an account of this machine.
fn account(name: &str) -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// Ports that nobody listens on, below those that systems give to outgoing connections: while a server is stopped
/// such a connection could take its port, and a client that keeps trying may even reach itself.
fn free_ports() -> impl Iterator<Item = u16> {
    let start = std::process::id() % 17_000;
    let ports = (0..17_000).filter_map(move |offset| u16::try_from(15_000 + (start + offset) % 17_000).ok());
    ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

/// The address of another database of a server.
fn with_database(url: &str, name: &str) -> String {
    let (address, parameters) =
        url.split_once('?').map_or((url, String::new()), |(address, rest)| (address, format!("?{rest}")));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    format!("{}/{name}{parameters}", &address[..end])
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    url.parse::<sqlx::postgres::PgConnectOptions>()?.disable_statement_logging().connect().await
}

async fn execute(url: &str, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// Waits for a future on a thread of its own, so that it works within async tests and their destructors too.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn the_database_of_an_address_is_replaced() {
    for (url, expected) in [
        ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/x"),
        ("postgres://u:p@h:1/postgres?sslmode=require", "postgres://u:p@h:1/x?sslmode=require"),
        ("postgres://h", "postgres://h/x"),
    ] {
        assert_eq!(with_database(url, "x"), expected);
    }
}
