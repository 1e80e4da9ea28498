//! What the host as a service costs: submitting over the network, pages, listeners, and doing nothing.
//!
//! `just bench serve` runs it in a release build against the real binary. Each figure stands beside a floor of the same
//! run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use handshake_tests::binary::Project;
use handshake_tests::figures::{Figure, idle, percentile, report};
use handshake_tests::service::Service;
use reqwest::Client;
use serde_json::{Value, json};

/// Clients that submit at the same time.
const CLIENTS: usize = 8;
/// Jobs that each submits.
const EACH: usize = 60;
/// Who follows the record while runs execute, and how many runs that are.
const LISTENERS: usize = 500;
const RUNS: usize = 64;

fn submission() -> Value {
    let text = "name: nap\nsteps:\n  - { id: a, sleep: 1ms }\n  - { id: b, needs: [a], sleep: 1ms }\n  - { id: c, needs: [b], sleep: 1ms }\n";
    json!({ "workflow": { "file": "nap.yaml", "text": text } })
}

/// Submits from several clients at once: how long all of it takes, and each of them.
async fn submit(client: &Client, url: &str, token: Option<&str>) -> (Duration, Vec<Duration>) {
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, url, token) = (client.clone(), url.to_owned(), token.map(str::to_owned));
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(EACH);
                for _ in 0..EACH {
                    let start = Instant::now();
                    let request = client.post(&url).json(&submission());
                    let request = match &token {
                        Some(token) => request.bearer_auth(token),
                        None => request,
                    };
                    let answer = request.send().await.unwrap();
                    assert_eq!(answer.status(), 201);
                    answer.bytes().await.unwrap();
                    took.push(start.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    (start.elapsed(), took)
}

async fn submitting(service: &Service, token: &str) -> Figure {
    let socket = service.project.path(".handshake/handshake.sock");
    let local = Client::builder().unix_socket(socket).build().unwrap();
    let remote = Client::new();
    let (mut ours, mut floor, mut latencies) = (Duration::ZERO, Duration::ZERO, Vec::new());
    for _ in 0..3 {
        floor += submit(&local, "http://localhost/api/v1/jobs", None).await.0;
        settle(service, token).await;
        let (took, each) = submit(&remote, &service.url("/api/v1/jobs"), Some(token)).await;
        settle(service, token).await;
        ours += took;
        latencies.extend(each);
    }
    let rate = |took: Duration| (3 * CLIENTS * EACH) as f64 / took.as_secs_f64();
    let share = rate(ours) / rate(floor);
    Figure {
        what: "submitting over the network".into(),
        value: format!("{:.0} % ({:.0}/s), p99 {:?}", share * 100.0, rate(ours), percentile(latencies, 99)),
        floor: format!("the socket, as commands do, {:.0}/s", rate(floor)),
        budget: "≥ 50 %",
        met: share >= 0.5,
    }
}

/// Waits until nothing executes.
async fn settle(service: &Service, token: &str) {
    loop {
        let numbers = Client::new().get(service.url("/metrics")).bearer_auth(token).send().await.unwrap();
        if numbers.text().await.unwrap().contains("handshake_runs_executing 0") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Executes runs at once, and returns when all are over.
async fn runs(service: &Service, token: &str) -> Duration {
    let client = Client::new();
    let start = Instant::now();
    let all: Vec<_> = (0..RUNS)
        .map(|_| {
            let request = client.post(service.url("/api/v1/jobs?watch=true")).bearer_auth(token).json(&submission());
            tokio::spawn(async move { request.send().await.unwrap().bytes().await.unwrap().len() })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap() > 0);
    }
    start.elapsed()
}

/// The number of the last record.
async fn recorded(service: &Service, token: &str) -> u64 {
    let numbers = Client::new().get(service.url("/metrics")).bearer_auth(token).send().await.unwrap();
    let numbers = numbers.text().await.unwrap();
    let line = numbers.lines().find(|line| line.starts_with("handshake_events_recorded ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Follows the record behind a number up to another; fails when one is missing or doubled.
async fn listen(url: String, token: String, after: u64, up_to: tokio::sync::watch::Receiver<u64>) {
    let mut answer = Client::new().get(url).bearer_auth(token).send().await.unwrap().error_for_status().unwrap();
    // As cheap as it can be, since the listeners share the machine with what is measured.
    let (mut seen, mut rest) = (after, Vec::new());
    while *up_to.borrow() == 0 || seen < *up_to.borrow() {
        let piece = tokio::time::timeout(Duration::from_secs(60), answer.chunk()).await.unwrap().unwrap().unwrap();
        rest.extend_from_slice(&piece);
        let Some(end) = memchr::memmem::rfind(&rest, b"\n\n") else { continue };
        for at in memchr::memmem::find_iter(&rest[..end], b"id: ") {
            if at > 0 && rest[at - 1] != b'\n' {
                continue;
            }
            let id = rest[at + 4..].split(|byte| *byte == b'\n').next().unwrap();
            let id: u64 = std::str::from_utf8(id).unwrap().parse().unwrap();
            assert_eq!(id, seen + 1, "an event is missing or doubled");
            seen = id;
        }
        rest.drain(..end + 2);
    }
}

async fn listeners(service: &Service, token: &str) -> Figure {
    const ROUNDS: u32 = 5;
    runs(service, token).await;
    let mut alone = Duration::ZERO;
    for _ in 0..ROUNDS {
        alone += runs(service, token).await;
    }
    let after = recorded(service, token).await;
    let (tell, told) = tokio::sync::watch::channel(0);
    let url = service.url(&format!("/api/v1/recorder/live?after={after}"));
    let followers: Vec<_> =
        (0..LISTENERS).map(|_| tokio::spawn(listen(url.clone(), token.to_owned(), after, told.clone()))).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut together = Duration::ZERO;
    for _ in 0..ROUNDS {
        together += runs(service, token).await;
    }
    let events = recorded(service, token).await;
    tell.send(events).unwrap();
    // One more event, so that those who have seen everything wake up.
    runs(service, token).await;
    for follower in followers {
        follower.await.unwrap();
    }
    let slower = together.as_secs_f64() / alone.as_secs_f64() - 1.0;
    Figure {
        what: format!("{RUNS} runs with {LISTENERS} listeners, none misses one"),
        value: format!("{:+.0} % ({:?}, {} events)", slower * 100.0, together / ROUNDS, events - after),
        floor: format!("without listeners {:?}", alone / ROUNDS),
        budget: "≤ +10 %",
        met: slower <= 0.1,
    }
}

async fn pages(service: &Service, token: &str) -> Vec<Figure> {
    let client = Client::new();
    let events = recorded(service, token).await;
    let list = client.get(service.url("/api/v1/jobs?limit=1")).bearer_auth(token).send().await.unwrap();
    let list: Value = list.json().await.unwrap();
    let job = list["jobs"][0]["job_id"].as_str().unwrap();
    let paths = ["/".to_owned(), "/recorder".into(), "/approvals".into(), "/documents".into(), format!("/jobs/{job}")];
    let (mut largest, mut which) = (0, String::new());
    for path in &paths {
        let request = client.get(service.url(path)).bearer_auth(token).header("accept-encoding", "gzip");
        let bytes = request.send().await.unwrap().bytes().await.unwrap().len();
        if bytes > largest {
            (largest, which) = (bytes, path.clone());
        }
    }
    let mut first = Vec::new();
    for _ in 0..30 {
        let start = Instant::now();
        let answer = client.get(service.url("/recorder")).bearer_auth(token).send().await.unwrap();
        first.push(start.elapsed());
        answer.bytes().await.unwrap();
    }
    let (median, slowest) = (percentile(first.clone(), 50), percentile(first, 100));
    vec![
        Figure {
            what: "the recorder's page, first byte, median".into(),
            value: format!("{median:?}, slowest {slowest:?}"),
            floor: format!("over {events} events"),
            budget: "≤ 150 ms",
            met: median <= Duration::from_millis(150),
        },
        Figure {
            what: "the largest page, compressed".into(),
            value: format!("{:.1} kB ({which})", largest as f64 / 1e3),
            floor: format!("{} pages", paths.len()),
            budget: "≤ 100 kB",
            met: largest <= 100_000,
        },
    ]
}

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions) {
        println!("the benchmark runs in a release build: just bench serve");
        return ExitCode::SUCCESS;
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let service = Service::of(Project::new());
    let mut figures = vec![idle("idle, with the network open", service.running().id())];
    let token = service.token("operator", "bench");
    tokio.block_on(async {
        figures.push(submitting(&service, &token).await);
        figures.push(listeners(&service, &token).await);
        figures.extend(pages(&service, &token).await);
    });
    report(&figures)
}
