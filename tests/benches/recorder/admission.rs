//! What admission costs: start of redaction, a clean event, the worst text.

use std::hint::black_box;
use std::time::{Duration, Instant};

use handshake_core::capability::{Layer, Mode, SourceRef};
use handshake_core::event::{
    Actor, ActorKind, AdmittedEvent, DecisionRecord, Event, EventBody, Outcome, RedactionScope, Redactor,
};
use handshake_core::testing::{NoRedaction, SequentialIds};
use handshake_core::{Digest, EventId, JobId, RunId, SpanId, StepId, Timestamp, TraceId};
use handshake_recorder::Redaction;
use handshake_tests::figures::Figure;

/// A decision as a run over a folder of documents makes most of.
pub(crate) fn decision() -> Event {
    let ids = SequentialIds::default();
    let job = JobId::fresh(&ids);
    let digest = |text: &str| Digest::of(text.as_bytes());
    let record = DecisionRecord {
        capability_id: "fs.read".into(),
        actor_id: "read-folder@0.1.0".into(),
        job_id: Some(job),
        decision_outcome: Outcome::Allow,
        index: Some(17),
        attempt: 1,
        call: 4,
        component_sha256: Some(digest("component")),
        interface: "wasi:filesystem/types@0.2.12".into(),
        function: "[method]descriptor.open-at".into(),
        resource: "in/reports/2026/november.md".into(),
        host_path: Some("/srv/documents".into()),
        secrets: Vec::new(),
        reason: None,
        layer: Layer::Policy,
        rule: Some(SourceRef { file: "policy.toml".into(), line: 12 }),
        mode: Mode::Enforce,
        would_deny: false,
        grant: None,
        policy_sha256: digest("policy"),
        manifest_sha256: digest("manifest"),
        arguments_sha256: digest("arguments"),
        evaluation_ns: 1_234,
    };
    let actor = Actor { kind: ActorKind::Agent, id: "read-folder@0.1.0".into() };
    let body = EventBody::CapabilityAction(Box::new(record));
    let mut event = Event::new(
        EventId::fresh(&ids),
        TraceId::fresh(&ids),
        Timestamp::parse("2026-11-25T17:44:02.123456Z").unwrap(),
        actor,
        body,
    );
    event.job_id = Some(job);
    event.workflow_run_id = Some(RunId::fresh(&ids));
    event.step_id = Some(StepId::new("read").unwrap());
    event.activity_span_id = Some(SpanId::fresh(&ids));
    event.capability_id = Some("fs.read".into());
    event
}

/// The median of what one of many calls takes, over rounds of a thousand.
fn median(mut call: impl FnMut()) -> Duration {
    let mut rounds: Vec<Duration> = (0..101)
        .map(|_| {
            let start = Instant::now();
            (0..1_000).for_each(|_| call());
            start.elapsed() / 1_000
        })
        .collect();
    rounds.sort();
    rounds[rounds.len() / 2]
}

/// The figures of admission.
pub(crate) fn figures() -> Vec<Figure> {
    let start = Instant::now();
    let redaction = Redaction::start();
    let returned = start.elapsed();
    redaction.redact(RedactionScope::Metadata, "first");
    let ready = start.elapsed();
    let started = Figure {
        what: "start of redaction".into(),
        value: format!("returns after {returned:?}"),
        floor: format!("rules are ready after {ready:?}"),
        budget: "≤ 1 ms",
        met: returned <= Duration::from_millis(1),
    };
    redaction.learn(["a-model's-key-1234567890", "an issued secret", "db-password-9876"].map(str::to_owned).to_vec());

    let event = decision();
    let size = AdmittedEvent::admit(&event, &redaction, event.timestamp).unwrap().json().len();
    let serialised = median(|| drop(black_box(serde_json::to_vec(black_box(&event)))));
    let without = median(|| drop(black_box(AdmittedEvent::admit(black_box(&event), &NoRedaction, event.timestamp))));
    let with = median(|| drop(black_box(AdmittedEvent::admit(black_box(&event), &redaction, event.timestamp))));
    let cost = with.saturating_sub(without);
    let clean = Figure {
        what: format!("redaction of a clean decision ({size} bytes)"),
        value: format!("{cost:?}"),
        floor: format!("serialising it {serialised:?}, admission without {without:?}"),
        budget: "≤ 10 µs",
        met: cost <= Duration::from_micros(10),
    };

    let whole = Figure {
        what: "admission of it, redaction included".into(),
        value: format!("{with:?}"),
        floor: format!("serialising it {serialised:?}"),
        budget: "none",
        met: true,
    };

    // All words that set off an expression, a megabyte of them, which is more than any text of an event may have.
    let words = "key= secret: token password=x auth aws akia sk- ghp_ :// @a.bc /x/y eyJ asana adobe jira discord ";
    let text = words.repeat((1 << 20) / words.len());
    redaction.redact(RedactionScope::Metadata, &text);
    let start = Instant::now();
    redaction.redact(RedactionScope::Metadata, &text);
    let took = start.elapsed();
    let start = Instant::now();
    black_box(text.bytes().filter(|byte| *byte == b'@').count());
    let worst = Figure {
        what: "redaction of 1 MiB full of keywords".into(),
        value: format!("{took:?}"),
        floor: format!("counting a byte in it {:?}", start.elapsed()),
        budget: "≤ 2 s",
        met: took <= Duration::from_secs(2),
    };
    vec![started, clean, whole, worst]
}
