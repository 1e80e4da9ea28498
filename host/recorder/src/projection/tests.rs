#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use handshake_core::capability::{DenialLabel, Layer, Mode};
use handshake_core::event::{Actor, ActorKind, DecisionRecord, Event, EventBody, EventType, Outcome};
use handshake_core::recorder::FlightRecorder;
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};
use handshake_core::{Digest, EventId, JobId, RunId, StepId, Timestamp, TraceId};
use tempfile::TempDir;

use super::*;
use crate::Recorder;
use crate::memory_outbox::MemoryOutbox;
use crate::segments::Archive;
use crate::signing::SigningKey;

struct Bench {
    clock: Arc<FixedClock>,
    key: Arc<SigningKey>,
    folder: TempDir,
    outbox: Arc<MemoryOutbox>,
    recorder: Recorder,
    ids: SequentialIds,
}

impl Bench {
    fn new() -> Self {
        let outbox = Arc::new(MemoryOutbox::default());
        let folder = TempDir::new().unwrap();
        let key = SigningKey::load_or_create(&folder.path().join("key.pem"), &SequentialIds::default()).unwrap();
        let (clock, key) = (Arc::new(FixedClock::default()), Arc::new(key));
        let recorder = Recorder::new(Arc::clone(&outbox) as _, Arc::new(NoRedaction), Arc::clone(&clock) as _);
        Self { clock, key, folder, outbox, recorder, ids: SequentialIds::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("recorder.duckdb")
    }

    async fn open(&self) -> Projection {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Projection, RecorderError> {
        Projection::open(self.log().await, self.options()).await
    }

    fn options(&self) -> ProjectionOptions {
        let retention = Duration::from_secs(7 * 24 * 3600);
        ProjectionOptions { path: self.path(), clock: Arc::clone(&self.clock) as _, retention, probe: None }
    }

    async fn log(&self) -> Arc<RecordLog> {
        let host = self.outbox.flush().await.unwrap_or(ChainHead::empty(HostId::fresh(&self.ids))).host;
        let archive = Archive::open(self.folder.path().join("segments"), host, Arc::clone(&self.key)).unwrap();
        Arc::new(RecordLog::new(Arc::clone(&self.outbox) as _, Arc::new(archive)))
    }

    fn note(&self, detail: &str) -> Event {
        let body = EventBody::System { kind: "note".into(), detail: detail.into() };
        Event::new(
            EventId::fresh(&self.ids),
            TraceId::fresh(&self.ids),
            Timestamp::from_micros(7),
            Actor::system(),
            body,
        )
    }

    fn record(&self, event: &Event) {
        self.recorder.enqueue(event).unwrap();
    }

    fn notes(&self, count: usize) {
        for n in 0..count {
            self.record(&self.note(&format!("note {n}")));
        }
    }

    fn decision(
        &self,
        plugin: &str,
        capability: &str,
        outcome: Outcome,
        reason: Option<DenialLabel>,
        would_deny: bool,
    ) -> Event {
        let record = DecisionRecord {
            capability_id: capability.into(),
            actor_id: plugin.into(),
            job_id: None,
            decision_outcome: outcome,
            index: None,
            attempt: 1,
            call: 1,
            component_sha256: None,
            interface: "handshake:step/models@0.1.0".into(),
            function: "generate".into(),
            resource: "default".into(),
            host_path: None,
            secrets: Vec::new(),
            reason,
            layer: Layer::Policy,
            rule: None,
            mode: Mode::Enforce,
            would_deny,
            grant: None,
            policy_sha256: Digest::ZERO,
            manifest_sha256: Digest::ZERO,
            arguments_sha256: Digest::ZERO,
            evaluation_ns: 5,
        };
        let mut event = self.note("");
        event.body = EventBody::CapabilityAction(Box::new(record));
        event.actor = Actor { kind: ActorKind::Agent, id: plugin.into() };
        event.capability_id = Some(capability.into());
        event
    }
}

/// Puts a decision into a job, in its envelope and its payload.
fn of_job(event: &mut Event, job: JobId) {
    event.job_id = Some(job);
    if let EventBody::CapabilityAction(record) = &mut event.body {
        record.job_id = Some(job);
    }
}

async fn seqs(projection: &Projection, query: EventQuery) -> Vec<u64> {
    projection.events(&query).await.unwrap().events.iter().map(|event| event.seq).collect()
}

/// Every event there is, page by page.
async fn all(projection: &Projection, limit: u32) -> Vec<u64> {
    let mut query = EventQuery { limit, ..EventQuery::default() };
    let mut seqs = Vec::new();
    loop {
        let page = projection.events(&query).await.unwrap();
        seqs.extend(page.events.iter().map(|event| event.seq));
        let Some(next) = page.next else { return seqs };
        query.before = Some(next);
    }
}

fn down_from(seq: u64) -> Vec<u64> {
    (1..=seq).rev().collect()
}

#[tokio::test]
async fn events_come_back_as_they_were_recorded_newest_first() {
    let bench = Bench::new();
    let projection = bench.open().await;
    bench.notes(3);
    let page = projection.events(&EventQuery::default()).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(page.next, None);
    for (event, stamped) in page.events.iter().rev().zip(bench.outbox.records()) {
        assert_eq!((event.host, event.hash, event.recorded_at), (stamped.host, stamped.hash, stamped.recorded_at));
        assert_eq!(serde_json::from_value::<Event>(event.event.clone()).unwrap(), stamped.event().unwrap());
    }
}

#[tokio::test]
async fn each_event_is_projected_once_across_reopening() {
    let bench = Bench::new();
    for round in 1..=4 {
        bench.notes(700);
        let projection = bench.open().await;
        bench.notes(300);
        assert_eq!(all(&projection, 1000).await, down_from(round * 1000));
        projection.close().await.unwrap();
        projection.close().await.unwrap();
    }
}

#[tokio::test]
async fn each_event_is_projected_once_although_the_projector_is_stopped_midway() {
    let bench = Bench::new();
    let events = 3 * u64::from(BATCH) - 144;
    bench.notes(events as usize);
    let mut stopped_early = false;
    for batches in 0..3 {
        let projection = bench.open().await;
        projection.wait_for(batches * u64::from(BATCH)).await.unwrap();
        stopped_early |= projection.status().await.projected < events;
        // Dropped without a word in odd rounds, as a panic would.
        if batches != 1 {
            projection.close().await.unwrap();
        } else {
            let thread = projection.thread.clone();
            drop(projection);
            thread.call(ProjectionFile::close).await.unwrap().unwrap();
        }
    }
    assert!(stopped_early);
    assert_eq!(all(&bench.open().await, 0).await, down_from(events));
}

#[tokio::test]
async fn each_filter_filters_and_all_must_match() {
    let bench = Bench::new();
    let projection = bench.open().await;
    let (job, run, trace) = (JobId::fresh(&bench.ids), RunId::fresh(&bench.ids), TraceId::fresh(&bench.ids));
    bench.notes(1);
    let mut second = bench.note("job");
    (second.job_id, second.workflow_run_id, second.trace_id) = (Some(job), Some(run), trace);
    second.step_id = Some(StepId::new("read").unwrap());
    bench.record(&second);
    bench.record(&bench.decision("summarize@0.1.0", "model.infer", Outcome::Allow, None, false));
    bench.record(&bench.decision(
        "summarize@0.2.0",
        "model.infer",
        Outcome::Deny,
        Some(DenialLabel::NotGranted),
        false,
    ));
    let mut fifth = bench.decision("reader@0.1.0", "fs.read", Outcome::Deny, Some(DenialLabel::OperatorDenied), false);
    of_job(&mut fifth, job);
    bench.record(&fifth);
    let times: Vec<_> = bench.outbox.records().iter().map(|record| record.recorded_at).collect();

    let none = EventQuery::default;
    let cases = [
        (EventQuery { event_id: Some(second.event_id), ..none() }, vec![2]),
        (EventQuery { job_id: Some(job), ..none() }, vec![5, 2]),
        (EventQuery { run_id: Some(run), ..none() }, vec![2]),
        (EventQuery { trace_id: Some(trace), ..none() }, vec![2]),
        (EventQuery { step_id: second.step_id.clone(), ..none() }, vec![2]),
        (EventQuery { from: Some(times[1]), to: Some(times[3]), ..none() }, vec![3, 2]),
        (EventQuery { actor: Some("summarize".into()), ..none() }, vec![4, 3]),
        (EventQuery { actor: Some("summarize@0.2.0".into()), ..none() }, vec![4]),
        (EventQuery { actor: Some("summ".into()), ..none() }, vec![]),
        (EventQuery { actor: Some("handshake".into()), ..none() }, vec![2, 1]),
        (EventQuery { event_type: Some(EventType::System), ..none() }, vec![2, 1]),
        (EventQuery { capability_id: Some("model.infer".into()), ..none() }, vec![4, 3]),
        (EventQuery { decision_outcome: Some(Outcome::Deny), ..none() }, vec![5, 4]),
        (EventQuery { decision_outcome: Some(Outcome::Deny), job_id: Some(job), ..none() }, vec![5]),
    ];
    for (query, expected) in cases {
        assert_eq!(seqs(&projection, query.clone()).await, expected, "{query:?}");
    }
}

#[tokio::test]
async fn the_matrix_counts_decisions_by_plugin_and_capability() {
    let bench = Bench::new();
    let projection = bench.open().await;
    let run = RunId::fresh(&bench.ids);
    for (plugin, capability, outcome, reason, would_deny) in [
        ("b@1.0.0", "model.infer", Outcome::Allow, None, false),
        ("b@1.0.0", "model.infer", Outcome::Allow, None, true),
        ("b@1.0.0", "model.infer", Outcome::Deny, Some(DenialLabel::NotGranted), false),
        ("b@1.0.0", "model.infer", Outcome::Deny, Some(DenialLabel::NotGranted), false),
        ("a@1.0.0", "fs.read", Outcome::Deny, Some(DenialLabel::OperatorDenied), false),
    ] {
        let mut event = bench.decision(plugin, capability, outcome, reason, would_deny);
        event.workflow_run_id = Some(run);
        bench.record(&event);
    }
    bench.record(&bench.decision("b@1.0.0", "model.infer", Outcome::Allow, None, false));
    bench.notes(2);
    let reasons = |label: &str, count| BTreeMap::from([(label.to_owned(), count)]);
    let a = MatrixRow {
        plugin: "a@1.0.0".into(),
        capability: "fs.read".into(),
        allowed: 0,
        denied: 1,
        would_deny: 0,
        denied_reasons: reasons("operator-denied", 1),
    };
    let b = MatrixRow {
        plugin: "b@1.0.0".into(),
        capability: "model.infer".into(),
        allowed: 2,
        denied: 2,
        would_deny: 1,
        denied_reasons: reasons("not-granted", 2),
    };
    let of_run = projection.matrix(&MatrixQuery { run_id: Some(run), ..MatrixQuery::default() }).await.unwrap();
    assert_eq!(of_run, [a.clone(), b.clone()]);
    let of_b = projection.matrix(&MatrixQuery { plugin: Some("b".into()), ..MatrixQuery::default() }).await.unwrap();
    assert_eq!(of_b, [MatrixRow { allowed: 3, ..b }]);
    let since = bench.outbox.records()[4].recorded_at;
    let late = projection.matrix(&MatrixQuery { since: Some(since), ..MatrixQuery::default() }).await.unwrap();
    assert_eq!(late[0], a);
    assert_eq!(late[1].allowed, 1);
}

#[tokio::test]
async fn pages_have_no_gaps_and_no_doubles_while_events_arrive() {
    let bench = Bench::new();
    let projection = bench.open().await;
    bench.notes(1000);
    let mut query = EventQuery { limit: 90, ..EventQuery::default() };
    let mut seen = Vec::new();
    loop {
        let page = projection.events(&query).await.unwrap();
        assert!(page.events.len() <= 90);
        seen.extend(page.events.iter().map(|event| event.seq));
        bench.notes(50);
        let Some(next) = page.next else { break };
        query.before = Some(next);
    }
    assert_eq!(seen, down_from(1000));
}

#[tokio::test]
async fn pages_have_their_sizes_and_refuse_places_that_are_none() {
    let bench = Bench::new();
    let projection = bench.open().await;
    bench.notes(1200);
    assert_eq!(seqs(&projection, EventQuery::default()).await.len(), 200);
    assert_eq!(seqs(&projection, EventQuery { limit: 5000, ..EventQuery::default() }).await.len(), 1000);
    for before in [
        "",
        "1",
        "1.2",
        "1.2.x",
        "x.2.00000000-0000-0000-0000-000000000001",
        "1.2.00000000-0000-0000-0000-000000000001 OR true",
    ] {
        let query = EventQuery { before: Some(before.into()), ..EventQuery::default() };
        assert!(matches!(projection.events(&query).await, Err(RecorderError::Query(_))), "{before}");
    }
}

#[tokio::test]
async fn hostile_strings_stay_data() {
    let bench = Bench::new();
    let projection = bench.open().await;
    let hostile =
        ["'; DROP TABLE events; --", "\" OR \"\"=\"", "%", "?", "\u{1b}[31m", "\\'", "$1", "'||(SELECT 1)||'"];
    for text in hostile {
        bench.record(&bench.decision(text, text, Outcome::Deny, Some(DenialLabel::NotGranted), false));
    }
    for (text, seq) in hostile.iter().zip(1..) {
        assert_eq!(
            seqs(&projection, EventQuery { actor: Some((*text).into()), ..EventQuery::default() }).await,
            [seq],
            "{text:?}"
        );
        assert_eq!(
            seqs(&projection, EventQuery { capability_id: Some((*text).into()), ..EventQuery::default() }).await,
            [seq],
            "{text:?}"
        );
        for query in [
            EventQuery { surface: Some((*text).into()), ..EventQuery::default() },
            EventQuery { wsid: Some((*text).into()), ..EventQuery::default() },
        ] {
            assert!(seqs(&projection, query).await.is_empty());
        }
    }
    let plugins: BTreeSet<_> =
        projection.matrix(&MatrixQuery::default()).await.unwrap().into_iter().map(|row| row.plugin).collect();
    assert_eq!(plugins, hostile.iter().map(|text| (*text).to_owned()).collect());
}

#[tokio::test]
async fn duckdb_reaches_nothing_but_its_file() {
    let bench = Bench::new();
    std::fs::write(bench.folder.path().join("secret.csv"), "a,b\n1,2\n").unwrap();
    let projection = bench.open().await;
    let secret = bench.folder.path().join("secret.csv").display().to_string();
    let outcomes = projection
        .thread
        .call(move |file| {
            [
                format!("SELECT * FROM read_csv('{secret}')"),
                format!("COPY events TO '{secret}.out'"),
                format!("ATTACH '{secret}.db' AS other"),
                "INSTALL httpfs".to_owned(),
                "SET enable_external_access = true".to_owned(),
                "SET memory_limit = '8GB'".to_owned(),
            ]
            .map(|sql| (file.execute(&sql), sql))
        })
        .await
        .unwrap();
    for (refused, sql) in outcomes {
        assert!(refused.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_rebuilt() {
    for damage in [&b"this is no database at all, but long enough to look like one"[..], &[0; 20_000]] {
        let bench = Bench::new();
        bench.notes(50);
        std::fs::write(bench.path(), damage).unwrap();
        std::fs::write(bench.path().with_extension("duckdb.wal"), b"old log").unwrap();
        let projection = bench.open().await;
        assert_eq!(all(&projection, 0).await, down_from(50));
        let status = projection.status().await;
        let aside = format!("{}.damaged-1767225600000000", bench.path().display());
        assert_eq!(status.set_aside.as_deref(), Some(aside.as_str()));
        assert_eq!((status.projected, status.recorded, status.problem), (50, Some(50), None));
        assert_eq!(std::fs::read(&aside).unwrap(), damage);
        assert_eq!(std::fs::read(format!("{aside}.wal")).unwrap(), b"old log");
    }
}

#[tokio::test]
async fn a_file_whose_rows_do_not_match_its_cursor_is_rebuilt() {
    for sql in ["DELETE FROM events WHERE seq = 7", r#"UPDATE "cursor" SET seq = 3"#, r#"DELETE FROM "cursor""#] {
        let bench = Bench::new();
        bench.notes(20);
        let projection = bench.open().await;
        projection.wait_for(20).await.unwrap();
        projection.thread.call(move |file| file.execute(sql)).await.unwrap().unwrap();
        projection.close().await.unwrap();
        let projection = bench.open().await;
        assert_eq!(all(&projection, 0).await, down_from(20), "{sql}");
        assert!(projection.status().await.set_aside.is_some());
    }
}

#[tokio::test]
async fn an_edited_row_is_not_shown_and_the_file_is_rebuilt() {
    let bench = Bench::new();
    bench.notes(20);
    let projection = bench.open().await;
    projection.wait_for(20).await.unwrap();
    let sql = "UPDATE events SET record = replace(record, 'note 4', 'nothing') WHERE seq = 5";
    projection.thread.call(move |file| file.execute(sql)).await.unwrap().unwrap();
    let page = projection.events(&EventQuery::default()).await.unwrap();
    assert_eq!(page.events.len(), 20);
    assert_eq!(page.events[15].event["payload"]["detail"], "note 4");
    assert!(projection.status().await.set_aside.is_some());
}

#[tokio::test]
async fn a_record_that_was_changed_in_the_outbox_stops_the_projection_before_it() {
    let bench = Bench::new();
    bench.notes(10);
    bench.outbox.tamper(6, |record| {
        record.record = record.record.replace("note 5", "note X");
        record.hash = Digest::of(record.record.as_bytes());
    });
    let projection = bench.open().await;
    let error = projection.wait_for(10).await.unwrap_err();
    assert!(chain_of(&error).contains("record 7: it names another predecessor"), "{}", chain_of(&error));
    assert!(projection.events(&EventQuery::default()).await.is_err());
    let status = projection.status().await;
    assert_eq!((status.projected, status.recorded), (6, Some(10)));
    assert!(status.problem.unwrap().contains("record 7"));
    projection.close().await.unwrap();
}

#[tokio::test]
async fn what_was_projected_must_still_be_in_the_outbox() {
    let bench = Bench::new();
    bench.notes(10);
    let projection = bench.open().await;
    projection.wait_for(10).await.unwrap();
    projection.close().await.unwrap();
    bench.outbox.tamper(10, |record| record.hash = Digest::ZERO);
    let projection = bench.open().await;
    bench.notes(1);
    let error = projection.wait_for(11).await.unwrap_err();
    assert!(chain_of(&error).contains("record 10"), "{}", chain_of(&error));
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_alone() {
    let bench = Bench::new();
    let projection = bench.open().await;
    projection.thread.call(|file| file.execute("INSERT INTO recorder_versions VALUES (99)")).await.unwrap().unwrap();
    projection.close().await.unwrap();
    let before = std::fs::read(bench.path()).unwrap();
    let error = bench.try_open().await.err().unwrap();
    assert!(chain_of(&error).contains("schema version 99"), "{}", chain_of(&error));
    assert_eq!(std::fs::read(bench.path()).unwrap().len(), before.len());
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_not_called_damaged() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path()).unwrap();
    assert!(bench.try_open().await.is_err());
    assert!(bench.path().is_dir());
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_fails_for_a_while_is_caught_up_with() {
    let bench = Bench::new();
    bench.notes(5);
    let projection = bench.open().await;
    projection.wait_for(5).await.unwrap();
    bench.notes(5);
    bench.outbox.fail_with(|| StorageError::Guard("the disk is gone".into()));
    let error = projection.wait_for(10).await;
    bench.outbox.recover();
    if let Err(error) = error {
        assert!(chain_of(&error).contains("the disk is gone"), "{}", chain_of(&error));
    }
    let mut progress = projection.progress.subscribe();
    progress.wait_for(|now| now.seq == 10 && now.problem.is_none()).await.unwrap();
}

#[tokio::test]
async fn after_closing_everything_fails_politely() {
    let bench = Bench::new();
    bench.notes(3);
    let projection = bench.open().await;
    projection.close().await.unwrap();
    bench.notes(1);
    assert!(projection.events(&EventQuery::default()).await.is_err());
    assert!(projection.matrix(&MatrixQuery::default()).await.is_err());
    assert!(projection.wait_for(4).await.is_err());
    assert_eq!(projection.status().await.recorded, Some(4));
}

#[tokio::test]
async fn row_groups_are_small_because_a_checkpoint_holds_a_whole_one() {
    let bench = Bench::new();
    let projection = bench.open().await;
    bench.notes(18_000);
    projection.events(&EventQuery::default()).await.unwrap();
    let groups = "CHECKPOINT; SELECT CASE WHEN max(row_group_id) < 2 THEN error('row groups are too large') END \
                  FROM pragma_storage_info('events')";
    projection.thread.call(move |file| file.execute(groups)).await.unwrap().unwrap();
}

#[tokio::test]
async fn events_are_found_by_surface_and_workspace() {
    let bench = Bench::new();
    let projection = bench.open().await;
    let spaces: [&[&str]; 5] = [&[], &["w1"], &["w1", "w2"], &["w1\nw9", "\",\""], &["w11"]];
    for wsids in spaces {
        let mut event = bench.note("x");
        event.wsids = wsids.iter().map(|id| (*id).to_owned()).collect();
        bench.record(&event);
    }
    bench.record(&bench.decision("reader@0.1.0", "fs.read", Outcome::Allow, None, false));
    let mut person = bench.note("pinned");
    person.actor = Actor { kind: ActorKind::Human, id: "ann".into() };
    bench.record(&person);
    for event in handshake_core::testing::sample_events() {
        if matches!(event.body.kind(), EventType::EditorEdit | EventType::TerminalCommand) {
            bench.record(&event);
        }
    }
    let by_wsid = |id: &str| EventQuery { wsid: Some(id.into()), ..EventQuery::default() };
    let by_surface = |id: &str| EventQuery { surface: Some(id.into()), ..EventQuery::default() };
    let cases = [
        // The samples are in it, too.
        (by_wsid("w1"), vec![9, 8, 3, 2]),
        (by_wsid("w2"), vec![3]),
        (by_wsid("w9"), vec![]),
        (by_wsid("w1\nw9"), vec![4]),
        (by_wsid("\",\""), vec![4]),
        (by_wsid(","), vec![]),
        (by_wsid("w"), vec![]),
        (by_surface("plugin"), vec![6]),
        (by_surface("cli"), vec![7]),
        (by_surface("host"), vec![5, 4, 3, 2, 1]),
        (by_surface("terminal"), vec![8]),
        (by_surface("markdown"), vec![9]),
    ];
    for (query, expected) in cases {
        assert_eq!(seqs(&projection, query.clone()).await, expected, "{query:?}");
    }
}

/// Makes the open file one of version 1.
const BACK_TO_VERSION_1: &str = "
    CREATE TABLE events_1 AS SELECT * EXCLUDE (surface, wsids) REPLACE (
        event_id::VARCHAR AS event_id, trace_id::VARCHAR AS trace_id, job_id::VARCHAR AS job_id, run_id::VARCHAR AS run_id,
        activity_span_id::VARCHAR AS activity_span_id, session_span_id::VARCHAR AS session_span_id,
        policy_decision_id::VARCHAR AS policy_decision_id) FROM events;
    DROP TABLE events; ALTER TABLE events_1 RENAME TO events; DROP TABLE gaps; ALTER TABLE \"cursor\" DROP COLUMN first; \
    DELETE FROM recorder_versions WHERE version > 1";

#[tokio::test]
async fn an_older_file_opens_and_its_new_columns_are_filled_from_the_record() {
    let bench = Bench::new();
    for event in handshake_core::testing::sample_events() {
        bench.record(&event);
    }
    let mut odd = bench.note("x");
    odd.wsids = vec!["w\n\"ä\"".into(), "w2".into()];
    bench.record(&odd);
    bench.notes(9_000);
    let projection = bench.open().await;
    projection.wait_for(9_022).await.unwrap();
    let queries = || {
        let mut queries: Vec<EventQuery> = ["cli", "plugin", "host", "terminal", "markdown"]
            .map(|surface| EventQuery { surface: Some(surface.into()), limit: 1000, ..EventQuery::default() })
            .into();
        queries
            .extend(["w1", "w2", "w\n\"ä\""].map(|id| EventQuery { wsid: Some(id.into()), ..EventQuery::default() }));
        queries.push(EventQuery { event_id: Some(odd.event_id), ..EventQuery::default() });
        queries
    };
    let mut before = Vec::new();
    for query in queries() {
        before.push(projection.events(&query).await.unwrap());
    }
    assert!(before.iter().all(|page| !page.events.is_empty()));

    projection.thread.call(|file| file.execute(BACK_TO_VERSION_1)).await.unwrap().unwrap();
    projection.close().await.unwrap();
    let projection = bench.open().await;
    assert_eq!(projection.status().await.set_aside, None, "it was brought up, not rebuilt");
    for (query, before) in queries().into_iter().zip(before) {
        assert_eq!(projection.events(&query).await.unwrap(), before, "{query:?}");
    }
    bench.notes(3);
    assert_eq!(all(&projection, 1000).await, down_from(9_025));
}

#[tokio::test]
async fn going_on_after_an_answer_shows_each_later_event_once_and_in_order() {
    let bench = Bench::new();
    let projection = bench.open().await;
    let start = projection.events(&EventQuery::default()).await.unwrap().resume;
    assert_eq!(start, "0");
    bench.notes(10);
    let mut after = start;
    let mut seen = Vec::new();
    for _ in 0..5 {
        loop {
            let query = EventQuery { after: Some(after.clone()), limit: 7, ..EventQuery::default() };
            let page = projection.events(&query).await.unwrap();
            seen.extend(page.events.iter().map(|event| event.seq));
            after = page.next.clone().unwrap_or(page.resume);
            if page.next.is_none() {
                break;
            }
        }
        bench.notes(20);
    }
    assert_eq!(seen, (1..=90).collect::<Vec<u64>>());
}

#[tokio::test]
async fn queries_that_contradict_themselves_are_refused() {
    let bench = Bench::new();
    let projection = bench.open().await;
    bench.notes(1);
    let place = projection.events(&EventQuery::default()).await.unwrap().resume;
    let time = Timestamp::from_micros(5);
    for query in [
        EventQuery { before: Some(place.clone()), after: Some(place), ..EventQuery::default() },
        EventQuery { after: Some("x".into()), ..EventQuery::default() },
        EventQuery { from: Some(time), to: Some(time), ..EventQuery::default() },
    ] {
        assert!(matches!(projection.events(&query).await, Err(RecorderError::Query(_))), "{query:?}");
    }
}

#[tokio::test]
async fn a_page_says_when_what_was_asked_for_is_not_kept_any_more() {
    let bench = Bench::new();
    let projection = bench.open().await;
    bench.notes(10);
    let times: Vec<_> = bench.outbox.records().iter().map(|record| record.recorded_at).collect();
    assert_eq!(projection.events(&EventQuery::default()).await.unwrap().incomplete_before, None);
    projection.thread.call(|file| file.execute("DELETE FROM events WHERE seq < 4")).await.unwrap().unwrap();
    let since = |from: Option<Timestamp>| EventQuery { from, ..EventQuery::default() };
    for (from, expected) in [(None, Some(times[3])), (Some(times[2]), Some(times[3])), (Some(times[3]), None)] {
        assert_eq!(projection.events(&since(from)).await.unwrap().incomplete_before, expected, "{from:?}");
    }
}
