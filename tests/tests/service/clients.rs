//! Slow, huge, broken and many clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use handshake_tests::binary::Project;
use handshake_tests::service::Service;
use reqwest::{Client, StatusCode};

/// Sends bytes and reads what comes until the other side hangs up.
fn raw(service: &Service, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", service.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // It may hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn broken_and_huge_requests_are_refused_and_change_nothing() {
    let service = Service::of(Project::bare());
    let token = service.token("operator", "ada");
    let head = format!("POST /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n");
    let end = "connection: close\r\n\r\n";
    for (what, bytes, expected) in [
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "400"),
        ("a head that is too long", format!("{head}x: {}\r\n{end}", "y".repeat(200_000)).into_bytes(), "431"),
        ("two hosts", format!("{head}host: evil.example\r\ncontent-length: 0\r\n{end}").into_bytes(), "403"),
        ("no host", b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec(), "403"),
        ("two lengths", format!("{head}content-length: 1\r\ncontent-length: 2\r\n{end}a").into_bytes(), "400"),
        ("a length that is none", format!("{head}content-length: -1\r\n{end}").into_bytes(), "400"),
        (
            "a body that is too large",
            format!("{head}content-length: 5000000\r\n{end}{}", "x".repeat(5_000_000)).into_bytes(),
            "413",
        ),
        ("a body that is no JSON", format!("{head}content-length: 2\r\n{end}[]").into_bytes(), "400"),
        (
            "a path that climbs",
            format!("GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{end}")
                .into_bytes(),
            "404",
        ),
        (
            "another method",
            format!("BREW /api/v1/jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{end}")
                .into_bytes(),
            "405",
        ),
    ] {
        let answer = raw(&service, &bytes);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(status, expected, "{what}: {answer}");
    }
    assert!(raw(&service, format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{end}").as_bytes()).contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_the_same_form() {
    let service = Service::of(Project::bare());
    let token = service.token("operator", "ada");
    let client = Client::new();
    for (method, path, status) in [
        (reqwest::Method::DELETE, "/api/v1/jobs", 405),
        (reqwest::Method::GET, "/api/v1/jobs/%ff", 400),
        (reqwest::Method::GET, "/api/v1/jobs?limit=-1", 400),
        (reqwest::Method::GET, "/api/v1/jobs?nothing=1", 400),
        (reqwest::Method::POST, "/api/v1/recorder/proofs/0", 400),
        (reqwest::Method::GET, "/api/v1/nothing", 404),
    ] {
        let answer = client.request(method, service.url(path)).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let document: serde_json::Value = answer.json().await.unwrap();
        assert!(document["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{path}: {document}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_and_as_many_that_say_nothing_are_served() {
    let service = Service::of(Project::bare());
    let token = service.token("reviewer", "rex");
    // Those hold their connections open and never ask.
    let silent: Vec<_> = (0..1_000).map(|_| TcpStream::connect(("127.0.0.1", service.port())).unwrap()).collect();
    let client = Client::builder().pool_max_idle_per_host(1_000).build().unwrap();
    let asked: Vec<_> = (0..1_000)
        .map(|_| {
            let request = client.get(service.url("/api/v1/whoami")).bearer_auth(&token);
            tokio::spawn(async move { request.send().await.unwrap().status() })
        })
        .collect();
    let mut answered = 0;
    for answer in asked {
        match answer.await.unwrap() {
            StatusCode::OK => answered += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!(answered, 1_000);
    drop(silent);
}

#[test]
fn a_client_that_asks_too_slowly_is_hung_up_on() {
    let service = Service::of(Project::bare());
    let start = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", service.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: local").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_too_often_is_told_so_and_fills_no_record() {
    let service = Service::of(Project::bare());
    let client = Client::new();
    let mut told = [0, 0];
    for _ in 0..200 {
        match client.get(service.url("/api/v1/jobs")).bearer_auth("hsk_x").send().await.unwrap().status() {
            StatusCode::UNAUTHORIZED => told[0] += 1,
            StatusCode::TOO_MANY_REQUESTS => told[1] += 1,
            status => panic!("{status}"),
        }
    }
    assert!(told[0] >= 60 && told[1] >= 100, "{told:?}");
    assert_eq!(service.events("auth_refusal").len(), told[0]);
    // Who shows a token that counts is served all the same.
    let token = service.token("submitter", "sam");
    let served = client.get(service.url("/api/v1/jobs")).bearer_auth(token).send().await.unwrap();
    assert_eq!(served.status(), StatusCode::OK);
}
