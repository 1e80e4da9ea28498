//! Server-sent events: nothing is missed, whoever comes back goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use handshake_tests::binary::Project;
use handshake_tests::service::Service;
use reqwest::{Client, Response};
use serde_json::Value;

const WORKFLOW: &str = "name: naps\nsteps:\n  - { id: a, sleep: 1ms }\n  - { id: b, needs: [a], sleep: 1ms }\n";

/// A stream, message by message.
struct Stream {
    answer: Response,
    buffer: String,
}

/// One message: its id, its name, its data.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    id: Option<u64>,
    event: String,
    data: String,
}

impl Stream {
    async fn open(url: &str, token: &str, last: Option<u64>) -> Self {
        let mut request = Client::new().get(url).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, buffer: String::new() }
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((message, rest)) = self.buffer.split_once("\n\n") {
                let (mut id, mut event, mut data) = (None, String::new(), String::new());
                for line in message.lines() {
                    match line.split_once(": ") {
                        Some(("id", value)) => id = Some(value.parse().unwrap()),
                        Some(("event", value)) => event = value.to_owned(),
                        Some(("data", value)) => data = value.to_owned(),
                        _ => {}
                    }
                }
                let said = Message { id, event, data };
                self.buffer = rest.to_owned();
                if !said.event.is_empty() {
                    return Some(said);
                }
                continue;
            }
            let piece = tokio::time::timeout(Duration::from_secs(60), self.answer.chunk()).await.unwrap().unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_stream_has_every_event_once_and_goes_on_where_it_stood() {
    let service = Service::of(Project::new());
    let token = service.token("reviewer", "rex");
    service.project.write("naps.yaml", WORKFLOW);
    let url = service.url("/api/v1/recorder/live");
    let mut first = Stream::open(&url, &token, Some(0)).await;
    let mut jobs = BTreeSet::new();
    for _ in 0..5 {
        let job = service.project.run(&["run", "naps.yaml", "--output", "json"]).success().json();
        jobs.insert(job["job"]["job_id"].as_str().unwrap().to_owned());
    }
    let mut seen = Vec::new();
    // One that goes away in between, twice, and comes back.
    let mut over = BTreeSet::new();
    while over.len() < jobs.len() {
        let message = first.next().await.unwrap();
        let told: Value = serde_json::from_str(&message.data).unwrap();
        assert_eq!(told["seq"].as_u64(), message.id);
        assert_eq!(told["event"]["event_type"], message.event.as_str());
        if message.event == "job_transition" && told["event"]["payload"]["to_state"] == "completed" {
            over.insert(told["event"]["job_id"].as_str().unwrap().to_owned());
        }
        seen.push(message.id.unwrap());
        if [7, 30].contains(&seen.len()) {
            first = Stream::open(&url, &token, seen.last().copied()).await;
        }
    }
    let expected: Vec<u64> = (1..=*seen.last().unwrap()).collect();
    assert_eq!(seen, expected, "an event is missing or doubled");
    assert_eq!(over, jobs);

    // Filters leave out, and say nothing of the rest.
    let job = jobs.first().unwrap();
    let mut filtered =
        Stream::open(&format!("{url}?job_id={job}&event_type=job_transition&after=0"), &token, None).await;
    let mut states = Vec::new();
    while states.last() != Some(&"completed".to_owned()) {
        let told: Value = serde_json::from_str(&filtered.next().await.unwrap().data).unwrap();
        assert_eq!(told["event"]["job_id"], job.as_str());
        states.push(told["event"]["payload"]["to_state"].as_str().unwrap().to_owned());
    }
    let wrong = Client::new().get(&url).bearer_auth(&token).header("last-event-id", "x").send().await.unwrap();
    assert_eq!(wrong.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_stream_tells_what_happens_and_how_it_ended() {
    let service = Service::of(Project::new());
    let token = service.token("submitter", "sam");
    let slow = "name: slow\nsteps:\n  - { id: a, sleep: 2s }\n  - { id: b, needs: [a], sleep: 1ms }\n";
    service.project.write("slow.yaml", slow);
    let job = service.project.run(&["run", "slow.yaml", "--detach", "--output", "json"]).success().json();
    let url = service.url(&format!("/api/v1/jobs/{}/live", job["job_id"].as_str().unwrap()));
    let mut stream = Stream::open(&url, &token, None).await;
    let mut names = Vec::new();
    while let Some(message) = stream.next().await {
        if message.event == "ended" {
            let ended: Value = serde_json::from_str(&message.data).unwrap();
            assert_eq!(ended["ended"]["job"]["state"], "completed");
        }
        names.push(message.event);
    }
    assert_eq!(names.first().map(String::as_str), Some("begun"));
    assert_eq!(names.last().map(String::as_str), Some("ended"));
    assert!(names.iter().filter(|name| *name == "update").count() > 1, "{names:?}");
    // One that is over tells its end at once.
    let mut late = Stream::open(&url, &token, None).await;
    assert_eq!(late.next().await.unwrap().event, "begun");
    assert_eq!(late.next().await.unwrap().event, "ended");
    assert_eq!(late.next().await, None);
}
