//! Before the host is ready, while its database is away, and when it is asked to end.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use handshake_tests::binary::Project;
use handshake_tests::postgres::{Backend, Options, Server, backends};
use handshake_tests::service::Service;
use reqwest::{Client, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};

const PATIENCE: Duration = Duration::from_secs(60);

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks until there is an answer like that.
async fn until(url: &str, fits: impl Fn(&Response) -> bool) -> Response {
    let start = Instant::now();
    loop {
        if let Ok(answer) = Client::new().get(url).send().await
            && fits(&answer)
        {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{url} does not answer like that");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn until_recovery_has_ended_health_answers_and_jobs_are_refused() {
    let project = Project::new();
    let token = project.run(&["token", "new", "--role", "operator", "--name", "ada", "--quiet"]).success();
    let token = token.stdout.trim();
    // Nobody can write, so the host cannot get ready.
    let file = project.path(".handshake/handshake.db");
    let mut lock = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut running = project.start(&["serve", "--listen", &address]);
    let health = until(&format!("http://{address}/health"), |_| true).await;
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
    let health: Value = health.json().await.unwrap();
    assert_eq!(health["status"], "starting");
    assert_eq!((&health["accepts_jobs"], &health["migration_version"]), (&json!(false), &Value::Null));
    let submit = || {
        let body = json!({ "workflow": { "file": "a.yaml", "text": "name: a\nsteps:\n  - { id: a, sleep: 1ms }\n" } });
        Client::new().post(format!("http://{address}/api/v1/jobs")).bearer_auth(token).json(&body).send()
    };
    let refused = submit().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");

    lock.execute("ROLLBACK").await.unwrap();
    lock.close().await.unwrap();
    running.wait_for("to come in with");
    let health = until(&format!("http://{address}/health"), |answer| answer.status() == StatusCode::OK).await;
    let health: Value = health.json().await.unwrap();
    assert_eq!((&health["status"], &health["db_status"]), (&json!("ok"), &json!("up")));
    assert!(health["migration_version"].as_i64().unwrap() >= 22 && health["component"] == "handshake", "{health}");
    assert_eq!(submit().await.unwrap().status(), StatusCode::CREATED);
}

/// What systemd is told with `Type=notify`.
#[test]
fn whoever_started_it_is_told_when_it_is_ready_and_when_it_ends() {
    let project = Project::bare();
    let socket = UnixDatagram::bind(project.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = project.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", project.path("notify")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut serving = command.spawn().unwrap();
    let told = |wanted: &str| {
        let mut buffer = [0; 1024];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            if std::str::from_utf8(&buffer[..length]).unwrap().lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    told("READY=1");
    assert!(project.path(".handshake/handshake.sock").exists());
    kill_process(Pid::from_child(&serving), Signal::TERM).unwrap();
    told("STOPPING=1");
    assert!(serving.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_not_200_while_the_database_is_down() {
    if !backends().contains(&Backend::Postgres) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let server = Server::private(Options::default());
    let project = Project::new();
    let mut command = project.command(&["serve"]);
    command.env("DATABASE_URL", server.url()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = handshake_tests::binary::Running::of(command.spawn().unwrap());
    let said = running.wait_for("to come in with");
    let url = format!("{}/health", said[said.find("http").unwrap()..].split(';').next().unwrap());
    until(&url, |answer| answer.status() == StatusCode::OK).await;
    server.kill();
    let down = until(&url, |answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    let down: Value = down.json().await.unwrap();
    assert_eq!((&down["status"], &down["db_status"]), (&json!("degraded"), &json!("down")));
    assert_eq!(down["migration_version"], Value::Null);
    server.start();
    until(&url, |answer| answer.status() == StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_job_is_lost_when_it_is_asked_to_end_under_load() {
    let mut service = Service::of(Project::new());
    let token = service.token("submitter", "load");
    let body = json!({ "workflow": { "file": "a.yaml", "text":
        "name: a\nsteps:\n  - { id: a, sleep: 20ms }\n  - { id: b, needs: [a], sleep: 20ms }\n" } });
    let (client, url) = (Client::new(), service.url("/api/v1/jobs"));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (client, url, token, body) = (client.clone(), url.clone(), token.clone(), body.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                // Until nobody is there any more.
                while let Ok(answer) = client.post(&url).bearer_auth(&token).json(&body).send().await {
                    match answer.status() {
                        StatusCode::CREATED => {
                            let Ok(answer) = answer.json::<Value>().await else { break };
                            acknowledged.push(answer["job_id"].as_str().unwrap().to_owned());
                        }
                        StatusCode::SERVICE_UNAVAILABLE => break,
                        status => panic!("{status}: {}", answer.text().await.unwrap()),
                    }
                }
                acknowledged
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ended = service.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut acknowledged = Vec::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    assert!(acknowledged.len() > 20, "only {} jobs", acknowledged.len());
    service.restart();
    let start = Instant::now();
    let mut left: Vec<String> = acknowledged;
    while !left.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} jobs do not come to their end, {} is one", left.len(), left[0]);
        let answer = client.get(service.url(&format!("/api/v1/jobs/{}", left[0]))).bearer_auth(&token).send();
        let job: Value = answer.await.unwrap().json().await.unwrap();
        match job["job"]["state"].as_str().unwrap() {
            "completed" => drop(left.swap_remove(0)),
            "queued" | "running" | "awaiting_user" | "stalled" => tokio::time::sleep(Duration::from_millis(20)).await,
            state => panic!("job {} is {state}", left[0]),
        }
    }
}

#[test]
fn somebody_is_told_of_jobs_that_wait_or_have_failed() {
    let project = Project::new();
    let config = std::fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", format!("{config}\n[notify]\ncommand = [\"sh\", \"-c\", \"cat >> told.jsonl\"]\n"));
    let service = Service::of(project);
    let run = |text: &str| service.project.run_workflow(text, &[]).code;
    assert_eq!(run("name: waits\nsteps:\n  - { id: ask, approval: { prompt: Shall it? } }\n"), 4);
    assert_eq!(run("name: done\nsteps:\n  - { id: nap, sleep: 1ms }\n"), 0);
    let fails = "name: fails\nmounts:\n  in: { path: docs, access: read }\nsteps:\n  - id: read\n    uses: read-folder\n    \
                 with: { mount: in }\n";
    assert_eq!(run(fails), 3);
    let start = Instant::now();
    let told = loop {
        let told = std::fs::read_to_string(service.project.path("told.jsonl")).unwrap_or_default();
        if told.lines().count() >= 2 {
            break told;
        }
        assert!(start.elapsed() < PATIENCE, "{told}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |workflow: &str| told.iter().find(|told| told["workflow"] == workflow).unwrap()["state"].clone();
    assert_eq!((of("waits"), of("fails"), told.len()), (json!("awaiting_user"), json!("failed"), 2));
}

#[test]
fn what_it_cannot_listen_on_is_told() {
    let project = Project::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let says = |arguments: &[&str], texts: &[&str]| {
        let said = project.run(arguments);
        assert_eq!(said.code, 2, "{said:?}");
        texts.iter().for_each(|text| assert!(said.stderr.contains(text), "`{text}` is missing: {said:?}"));
    };
    says(&["serve", "--listen", &taken], &[&format!("cannot listen on `{taken}`"), "127.0.0.1:0"]);
    says(&["serve", "--listen", "0.0.0.0:0"], &["there is no TLS for it", "plain_http"]);
    says(&["serve", "--listen", "localhost"], &["not an address with a port"]);
    let config = std::fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", format!("{config}\n[serve]\ntls_certificate = \"a.pem\"\ntls_key = \"b.pem\"\n"));
    says(&["serve"], &["cannot read", "a.pem"]);
    project.write("a.pem", "nothing");
    project.write("b.pem", "nothing");
    says(&["serve"], &["holds no private key in PEM", "b.pem"]);
}
