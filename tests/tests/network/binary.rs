//! The whole way with the real binary: settings, policy, a job, and what is left in the data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use handshake_tests::binary::{Finished, Project};
use serde_json::{Value, json};

use super::server::{Server, ok};

const VALUE: &str = "value-of-the-token-4471-xyz";

/// A project whose policy allows requests to this server and lets the secret `token` go there.
fn project(origin: &str, more: &str) -> Project {
    project_with(origin, more, "env = 'THE_TOKEN'")
}

/// The same with the secret from there.
fn project_with(origin: &str, more: &str, source: &str) -> Project {
    let project = Project::new();
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let added = format!("\n[secrets.token]\n{source}\n[environment]\nvariables = ['APP_MODE', 'APP_UNSET']\n");
    project.write("handshake.toml", settings + &added);
    let policy = fs::read_to_string(project.path("policy.toml")).unwrap();
    let rules = format!(
        "\n[[allow]]\ncapability = 'net.http:{origin}'\n{more}\n[[allow]]\ncapability = 'secrets.use:token'\n\
         [[allow]]\ncapability = 'env.read:APP_*'\n[[secret]]\nname = 'token'\nhosts = ['{origin}']\n"
    );
    project.write("policy.toml", policy + &rules);
    project
}

fn run(project: &Project, calls: &Value, environment: &[(&str, &str)]) -> Finished {
    let mut command = running(project, calls);
    command.env("THE_TOKEN", VALUE).envs(environment.iter().copied()).output().unwrap().into()
}

/// Runs a workflow whose one step makes these calls.
fn running(project: &Project, calls: &Value) -> Command {
    let workflow = json!({
        "name": "call",
        "job": { "access_mode": "apply_scoped", "profile": "integrator" },
        "steps": [{
            "id": "call", "uses": "client", "with": { "calls": calls },
            "grants": ["net.http", "secrets.use:token", "env.read"],
        }],
        "outputs": { "done": "${steps.call.output.done}" },
    });
    project.write("call.json", workflow.to_string());
    let mut command = project.command(&["run", "call.json", "--output", "json"]);
    command.env("HANDSHAKE_LOG", "trace");
    command
}

fn done(said: &Finished) -> Value {
    said.json()["job"]["job_outputs"]["done"].clone()
}

fn request(scheme: &str, authority: &str) -> Value {
    json!([{
        "do": "request", "scheme": scheme, "authority": authority, "path": "/",
        "headers": [["authorization", "Bearer {token}"]],
    }])
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The value is in nothing that was said and in no file of the data directory.
fn is_nowhere(project: &Project, said: &Finished) {
    let contains = |text: &[u8]| text.windows(VALUE.len()).any(|window| window == VALUE.as_bytes());
    assert!(!contains(said.stdout.as_bytes()) && !contains(said.stderr.as_bytes()), "{said:#?}");
    let files = files_below(&project.path(".handshake"));
    let holding: Vec<_> = files.into_iter().filter(|file| contains(&fs::read(file).unwrap_or_default())).collect();
    assert_eq!(holding, Vec::<PathBuf>::new());
}

#[test]
fn a_secret_reaches_the_server_that_the_policy_names_and_no_file() {
    let server = Server::saying("welcome");
    let project = project(&server.origin(), "");
    let said = run(&project, &request("http", &server.authority()), &[]);
    assert_eq!((said.code, &done(&said)[0]["text"]), (0, &json!("welcome")), "{said:#?}");
    assert!(server.requests()[0].contains(&format!("authorization: Bearer {VALUE}\r\n")));
    is_nowhere(&project, &said);
    let decided = project.events("capability_action");
    let named: Vec<_> = decided.iter().map(|event| event["payload"]["resource"].as_str().unwrap()).collect();
    assert_eq!(named, ["token", &format!("GET {}/", server.origin())]);
    assert_eq!(decided[1]["payload"]["secrets"], json!(["token"]));
}

/// The Secret Service of a desktop, in a session of its own, where it is installed.
#[test]
fn a_secret_of_the_keyring_reaches_the_server_and_no_file() {
    let path = std::env::var_os("PATH").unwrap();
    let is_there = |program: &&str| std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if !["dbus-run-session", "gnome-keyring-daemon", "secret-tool"].iter().all(is_there) {
        eprintln!("NOT RUN: this needs dbus, gnome-keyring and libsecret-tools");
        return;
    }
    let server = Server::saying("welcome");
    let source = "keyring = { service = 'handshake-test', account = 'ann' }";
    let project = project_with(&server.origin(), "", source);
    let running = running(&project, &request("http", &server.authority()));
    let home = tempfile::tempdir().unwrap();
    let session = r#"
        eval "$(printf password | gnome-keyring-daemon --unlock --components=secrets 2>/dev/null)"
        printf %s "$VALUE" | secret-tool store --label=token service handshake-test username ann
        unset VALUE
        exec "$@"
    "#;
    let said: Finished = Command::new("dbus-run-session")
        .args(["--", "sh", "-e", "-c", session, "sh"])
        .arg(running.get_program())
        .args(running.get_args())
        .envs(running.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .envs([("HOME", home.path()), ("XDG_RUNTIME_DIR", home.path()), ("XDG_DATA_HOME", home.path())])
        .env("VALUE", VALUE)
        .current_dir(running.get_current_dir().unwrap())
        .output()
        .unwrap()
        .into();
    assert_eq!(said.code, 0, "{said:#?}");
    assert!(server.requests()[0].contains(&format!("authorization: Bearer {VALUE}\r\n")));
    is_nowhere(&project, &said);
}

#[test]
fn a_server_that_sends_a_secret_back_poisons_the_job_and_the_value_stays_nowhere() {
    let server = Server::answering(|request| vec![ok(request)]);
    let project = project(&server.origin(), "");
    let said = run(&project, &request("http", &server.authority()), &[]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert_eq!(said.json()["job"]["state"], "poisoned", "{said:#?}");
    let violations = project.events("security_violation");
    assert_eq!(violations.len(), 1, "{violations:#?}");
    assert_eq!(violations[0]["payload"]["kind"], "secret_echoed");
    is_nowhere(&project, &said);
    assert_eq!(server.requests().len(), 1, "it was never tried again");
}

#[test]
fn a_denied_request_ends_the_job_with_the_line_that_is_missing() {
    let server = Server::saying("welcome");
    let project = project("https://api.example.com", "");
    let said = run(&project, &request("http", &server.authority()), &[]);
    // The step goes on with the refusal and says so.
    assert_eq!((said.code, &done(&said)[0]["error"]), (0, &json!("HttpRequestDenied")), "{said:#?}");
    assert_eq!(server.requests().len(), 0);
    is_nowhere(&project, &said);
}

#[test]
fn steps_see_the_listed_variables_and_no_others() {
    let project = project("https://api.example.com", "");
    let said = run(&project, &json!([{ "do": "environment" }]), &[("APP_MODE", "test"), ("APP_OTHER", "hidden")]);
    assert_eq!((said.code, &done(&said)[0]["text"]), (0, &json!("APP_MODE=test")), "{said:#?}");

    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", settings.replace("'APP_MODE'", "'APP_*'"));
    let said = project.run(&["jobs", "list"]);
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(said.stderr.contains("environment.variables: `APP_*` is no name of a variable"), "{said:#?}");
    project.write("handshake.toml", settings);
}

#[test]
fn a_person_is_asked_before_a_variable_is_shown() {
    let project = project("https://api.example.com", "");
    let policy = fs::read_to_string(project.path("policy.toml")).unwrap();
    project.write("policy.toml", policy + "\n[[ask]]\ncapability = 'env.read:APP_MODE'\nplugins = ['client']\n");
    let calls = json!([{ "do": "environment" }]);
    let variables = [("APP_MODE", "test"), ("APP_UNSET", "set")];
    let said = run(&project, &calls, &variables);
    assert_eq!(said.code, 4, "{said:#?}");
    let job = said.json()["job"]["job_id"].as_str().unwrap().to_owned();
    let shown = project.run(&["jobs", "show", &job]).success().stdout;
    assert!(shown.contains("env.read") && shown.contains("APP_MODE"), "{shown}");
    // Until then it has seen none of them, not even the one that needs no question.
    let decided = || project.events("capability_action");
    assert!(decided().iter().all(|event| event["payload"]["decision_outcome"] == "deny"), "{:#?}", decided());

    let approve = |answer: &[&str]| -> Finished {
        let mut command = project.command(&[&["jobs", "approve", &job], answer, &["--output", "json"]].concat());
        command.envs(variables).output().unwrap().into()
    };
    let went_on = approve(&["--job"]);
    assert_eq!((went_on.code, &done(&went_on)[0]["text"]), (0, &json!("APP_MODE=test\nAPP_UNSET=set")), "{went_on:#?}");
    let allowed = decided().pop().unwrap()["payload"].clone();
    assert_eq!((&allowed["decision_outcome"], &allowed["resource"]), (&json!("allow"), &json!("APP_MODE, APP_UNSET")));
}

#[test]
fn what_is_suggested_for_the_network_is_enough_and_no_wider() {
    let server = Server::saying("welcome");
    // A rule for every server, which may be on this machine; what is suggested names the one.
    let project = project("https://api.example.com", "");
    let policy = fs::read_to_string(project.path("policy.toml")).unwrap();
    let rules = "\n[[allow]]\ncapability = 'net.http'\naddresses = ['127.0.0.0/8']\n\
                 \n[[secret]]\nname = 'other'\nhosts = ['https://other.example']\n";
    let policy = policy.replace("hosts = ['https://api.example.com']", &format!("hosts = ['{}']", server.origin()));
    project.write("policy.toml", policy + rules);
    let port = server.authority().rsplit_once(':').unwrap().1.to_owned();
    let mut calls = request("http", &server.authority());
    let by_name = format!("localhost:{port}");
    calls.as_array_mut().unwrap().push(json!({ "do": "request", "scheme": "http", "authority": by_name, "path": "/" }));
    let said = run(&project, &calls, &[]);
    let texts = |said: &Finished| [done(said)[0]["text"].clone(), done(said)[1]["text"].clone()];
    assert_eq!((said.code, texts(&said)), (0, [json!("welcome"), json!("welcome")]), "{said:#?}");
    let run = said.json()["job"]["workflow_run_id"].as_str().unwrap().to_owned();
    let suggested = project.run(&["audit", "suggest", &run, "-o", "enough", "--output", "json"]).success().json();
    let grants = &suggested["grants"][0]["enough"];
    let expected = [
        format!("net.http:GET {}/", server.origin()),
        format!("net.http:GET http://localhost:{port}/"),
        "secrets.use:token".to_owned(),
    ];
    assert_eq!(*grants, json!(expected), "{suggested:#}");

    let policy = fs::read_to_string(project.path("enough/policy.toml")).unwrap();
    assert!(policy.contains("127.0.0.0/8"), "{policy}");
    assert!(!policy.contains("other.example"), "{policy}");
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let lines = settings.lines().filter(|line| !line.starts_with("policy = ")).collect::<Vec<_>>().join("\n");
    project.write("handshake.toml", format!("policy = \"enough/policy.toml\"\n{lines}"));
    let mut command = project.command(&["run", "enough/call.json", "--output", "json"]);
    let again: Finished = command.env("THE_TOKEN", VALUE).output().unwrap().into();
    assert_eq!((again.code, texts(&again)), (0, [json!("welcome"), json!("welcome")]), "{again:#?}\n{policy}");
    let run = again.json()["job"]["workflow_run_id"].as_str().unwrap().to_owned();
    let matrix = project.run(&["audit", "matrix", "--run", &run, "--output", "json"]).success().json();
    for row in matrix["rows"].as_array().unwrap() {
        assert_eq!((&row["denied"], &row["unused_grants"]), (&json!(0), &json!([])), "{row}");
    }
}

#[test]
fn the_list_of_capabilities_shows_how_scopes_are_written() {
    let said = Project::bare().run(&["capabilities", "list", "--output", "json"]).success();
    let axes = said.json()["axes"].as_array().unwrap().clone();
    let scope = |name: &str| axes.iter().find(|axis| axis["axis"] == name).map(|axis| axis["scope"].clone()).unwrap();
    assert_eq!(scope("net.http"), "[METHOD ]scheme://host[:port][/path]");
    assert_eq!(
        (scope("net.tcp"), scope("net.dns"), scope("env.read")),
        ("host:port".into(), "host".into(), "NAME or PREFIX*".into())
    );
    assert!(
        axes.iter().all(|axis| axis["grantable"] == !["proc.exec", "device"].contains(&axis["axis"].as_str().unwrap()))
    );
}

/// A TLS server for `localhost` with a certificate of an authority of its own.
struct TlsServer {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl TlsServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            let status = command.args(arguments.split(' ')).current_dir(&folder).stderr(Stdio::null()).status();
            assert!(status.expect("openssl is installed").success(), "{arguments}");
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority");
        openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=localhost");
        fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        openssl("x509 -req -in csr.pem -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                &format!("127.0.0.1:{port}"),
                "-cert",
                "cert.pem",
                "-key",
                "key.pem",
                "-www",
                "-quiet",
            ])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let is_up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let up = (0..200).any(|_| {
            is_up() || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                false
            }
        });
        assert!(up, "openssl s_server does not start");
        Self { folder, port, process }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn certificates_are_judged_by_what_the_system_trusts_and_the_name_that_was_asked_for() {
    let server = TlsServer::start();
    let authority = format!("localhost:{}", server.port);
    let project = project(&format!("https://{authority}"), "addresses = ['127.0.0.1', '::1']");
    let wanted = request("https", &authority);
    let trusted = server.folder.path().join("ca.crt");
    let said = run(&project, &wanted, &[("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    assert_eq!((said.code, &done(&said)[0]["status"]), (0, &json!(200)), "{said:#?}");

    let said = run(&project, &wanted, &[]);
    assert_eq!(done(&said)[0]["error"], "TlsCertificateError", "{said:#?}");
    // The certificate is not for this name.
    let policy = fs::read_to_string(project.path("policy.toml")).unwrap();
    let by_address = format!("127.0.0.1:{}", server.port);
    project.write("policy.toml", policy.replace(&authority, &by_address));
    let said = run(&project, &request("https", &by_address), &[("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    assert_eq!(done(&said)[0]["error"], "TlsCertificateError", "{said:#?}");
    is_nowhere(&project, &said);
    let outcomes = project.events("capability_outcome");
    let results: Vec<_> = outcomes
        .iter()
        .filter(|event| event["capability_id"] == "net.http")
        .map(|event| event["payload"]["result"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["ok", "tls-certificate", "tls-certificate"]);
}
