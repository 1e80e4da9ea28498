#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::capability::{DenialLabel, Layer, Mode};
use handshake_core::event::{Actor, ActorKind, DecisionRecord, Event, EventBody};
use handshake_core::recorder::FlightRecorder;
use handshake_core::storage::EventOutbox;
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};
use handshake_core::{Digest, TraceId};
use tempfile::TempDir;

use super::*;
use crate::memory_outbox::MemoryOutbox;
use crate::segments::Archive;
use crate::signing::SigningKey;
use crate::{ProjectionOptions, RecordLog, Recorder};

/// A record of decisions.
struct Record {
    folder: TempDir,
    clock: Arc<FixedClock>,
    outbox: Arc<MemoryOutbox>,
    recorder: Recorder,
    ids: SequentialIds,
}

impl Record {
    fn new() -> Self {
        let (outbox, clock) = (Arc::new(MemoryOutbox::default()), Arc::new(FixedClock::default()));
        let recorder = Recorder::new(Arc::clone(&outbox) as _, Arc::new(NoRedaction), Arc::clone(&clock) as _);
        Self { folder: TempDir::new().unwrap(), clock, outbox, recorder, ids: SequentialIds::default() }
    }

    async fn open(&self) -> Projection {
        let key = SigningKey::load_or_create(&self.folder.path().join("key.pem"), &self.ids).unwrap();
        let host = self.outbox.flush().await.unwrap().host;
        let archive = Archive::open(self.folder.path().join("segments"), host, Arc::new(key)).unwrap();
        let log = Arc::new(RecordLog::new(Arc::clone(&self.outbox) as _, Arc::new(archive)));
        let retention = Duration::from_secs(7 * 24 * 3600);
        let path = self.folder.path().join("recorder.duckdb");
        let options = ProjectionOptions { path, clock: Arc::clone(&self.clock) as _, retention, probe: None };
        Projection::open(log, options).await.unwrap()
    }

    /// Records a decision of call number `call`; denied by a grant when `reason` says so.
    fn decided(&self, run: RunId, plugin: &str, resource: &str, call: u64, reason: Option<DenialLabel>) -> EventId {
        let outcome = if reason.is_some() { Outcome::Deny } else { Outcome::Allow };
        let record = DecisionRecord {
            capability_id: "fs.read".into(),
            actor_id: plugin.into(),
            job_id: None,
            decision_outcome: outcome,
            index: Some(3),
            attempt: 1,
            call,
            component_sha256: None,
            interface: "wasi:filesystem/types@0.2".into(),
            function: "open-at".into(),
            resource: resource.into(),
            host_path: Some("/srv".into()),
            secrets: Vec::new(),
            grant: None,
            reason,
            layer: if reason.is_some() { Layer::Grant } else { Layer::Policy },
            rule: None,
            mode: Mode::Enforce,
            would_deny: false,
            policy_sha256: Digest::ZERO,
            manifest_sha256: Digest::ZERO,
            arguments_sha256: Digest::ZERO,
            evaluation_ns: 5,
        };
        let (id, trace) = (EventId::fresh(&self.ids), TraceId::fresh(&self.ids));
        let actor = Actor { kind: ActorKind::Agent, id: plugin.into() };
        let body = EventBody::CapabilityAction(Box::new(record));
        let mut event = Event::new(id, trace, Timestamp::from_micros(7), actor, body);
        event.capability_id = Some("fs.read".into());
        event.workflow_run_id = Some(run);
        event.step_id = StepId::new("read").ok();
        self.recorder.enqueue(&event).unwrap();
        id
    }
}

#[tokio::test]
async fn every_decision_is_gone_through_once_however_many_looks_it_takes() {
    let record = Record::new();
    let run = RunId::fresh(&record.ids);
    for call in 1..=300 {
        let denied = (call % 10 == 0).then_some(DenialLabel::NotGranted);
        record.decided(run, "probe@0.1.0", &format!("in/{}", call % 7), call, denied);
    }
    let projection = record.open().await;
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut looks = 0;
    projection
        .decided(None, true, |calls| {
            assert_eq!(calls.plugin.as_ref().map(PluginId::as_str), Some("probe"));
            looks = looks.max(calls.first);
            *counts.entry((calls.resource, calls.layer)).or_default() += calls.count;
        })
        .await
        .unwrap();
    assert!(looks > 4 * LOOK, "several looks were taken");
    let of = |layer: &str| counts.iter().filter(|((_, by), _)| by == layer).map(|(_, count)| count).sum::<u64>();
    assert_eq!((of("policy"), of("grant")), (270, 30));
    let since = handshake_core::Clock::now(&*record.clock).plus(Duration::from_secs(60));
    record.outbox.set_time(since);
    record.decided(run, "probe@0.1.0", "in/later", 301, None);
    let mut later = Vec::new();
    projection.decided(Some(since), false, |calls| later.push((calls.resource, calls.count))).await.unwrap();
    assert_eq!(later, [("in/later".to_owned(), 1)]);
    // Looks are added up; and what is new is not looked for in more than fits.
    let used = projection.resources(&MatrixQuery::default()).await.unwrap();
    assert_eq!(used.iter().map(|used| used.count).sum::<u64>(), 301);
    assert_eq!(used.len(), 7 + 7 + 1, "seven resources allowed, seven denied, and one later");
    for call in 302..900 {
        record.decided(run, "probe@0.1.0", "in/more", call, None);
    }
    assert_eq!(projection.new_resources(&MatrixQuery::default()).await.unwrap(), None);
    projection.close().await.unwrap();
}

#[tokio::test]
async fn new_is_what_no_version_of_the_plugin_was_let_at_before() {
    let record = Record::new();
    let (first, second) = (RunId::fresh(&record.ids), RunId::fresh(&record.ids));
    record.decided(first, "probe@0.1.0", "in/known", 1, None);
    record.decided(first, "probe@0.1.0", "in/refused", 2, Some(DenialLabel::NotGranted));
    record.decided(first, "other@0.1.0", "in/others", 1, None);
    for (call, resource) in
        ["in/known", "in/refused", "in/others", "in/new\n\"line\"", "in/new\n\"line\""].into_iter().enumerate()
    {
        record.decided(second, "probe@0.2.0", resource, call as u64 + 1, None);
    }
    let projection = record.open().await;
    let query = MatrixQuery { run_id: Some(second), ..MatrixQuery::default() };
    let new = projection.new_resources(&query).await.unwrap().unwrap();
    assert_eq!((new.len(), new[0].count, new[0].actor.as_str()), (1, 3, "probe@0.2.0"));
    assert_eq!(new[0].resources, ["in/refused", "in/others", "in/new\n\"line\""]);
    assert_eq!(projection.runs(&MatrixQuery::default()).await.unwrap(), (vec![second, first], false));
    projection.close().await.unwrap();
}

#[tokio::test]
async fn neighbours_are_the_calls_of_the_same_attempt() {
    let record = Record::new();
    let (run, other) = (RunId::fresh(&record.ids), RunId::fresh(&record.ids));
    let one = record.decided(run, "probe@0.1.0", "in/a", 1, None);
    record.decided(other, "probe@0.1.0", "in/a", 2, None);
    let two = record.decided(run, "probe@0.1.0", "in/b", 2, Some(DenialLabel::NotGranted));
    let projection = record.open().await;
    let step = StepId::new("read").unwrap();
    let at = async |index, call| projection.neighbour(run, &step, index, 1, call).await.unwrap();
    assert_eq!((at(Some(3), 1).await, at(Some(3), 2).await), (Some(one), Some(two)));
    assert_eq!((at(Some(3), 3).await, at(None, 1).await), (None, None));
    let (lines, all) = projection.decisions_of(run, 1).await.unwrap();
    assert_eq!((all, lines.len(), lines[0].event_id, lines[0].step.as_str()), (2, 1, one, "read[3]"));
    assert_eq!(projection.event_at(3).await.unwrap(), Some(two));
    let used = projection.resources(&MatrixQuery { run_id: Some(run), ..MatrixQuery::default() }).await.unwrap();
    let used: Vec<_> = used.iter().map(|used| (used.resource.as_str(), used.outcome, used.count)).collect();
    assert_eq!(used, [("in/a", Outcome::Allow, 1), ("in/b", Outcome::Deny, 1)]);
    projection.close().await.unwrap();
}
