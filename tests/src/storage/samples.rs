//! Jobs, runs, attempts and events to store.

use std::collections::BTreeMap;

use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::job::{AccessMode, AiJob, EntityRef, JobKind, JobMetrics, JobState, PlannedOperation, SafetyMode};
use handshake_core::node::{Contribution, NodeExecution, NodeKey, NodeState};
use handshake_core::run::{FencingToken, PinnedDigests, PinnedPlugin, RunState, WorkflowRun};
use handshake_core::testing::NoRedaction;
use handshake_core::{Clock, Digest, EventId, Ids, JobId, Json, ProfileId, RunId, StepId, Timestamp, TraceId};
use serde_json::json;

use super::World;

impl World {
    /// A plain job with its first run, not stored yet.
    pub fn job(&self) -> (AiJob, WorkflowRun) {
        job(&*self.ids, self.clock.now())
    }

    /// The same with something in every field, the odder the better.
    pub fn full_job(&self) -> (AiJob, WorkflowRun) {
        let (job, run) = self.job();
        let odd = "“Größe” 漢字 🎉 \u{202e} \\u0000 '; DROP TABLE jobs; --\n";
        let job = AiJob {
            job_kind: JobKind::TerminalExec,
            state: JobState::CompletedWithIssues,
            protocol_id: odd.into(),
            profile_id: odd.into(),
            access_mode: AccessMode::ApplyScoped,
            safety_mode: SafetyMode::Strict,
            entity_refs: vec![EntityRef {
                artefact_type: "document".into(),
                artefact_id: odd.into(),
                selector: Some("§1".into()),
            }],
            planned_operations: vec![
                PlannedOperation::InsertBlock { after: None, kind: "paragraph".into(), content: odd.into() },
                PlannedOperation::UpdateMetadata { key: "k".into(), value: None },
            ],
            metrics: JobMetrics {
                duration_ms: 1,
                total_tokens: u64::MAX,
                input_tokens: 3,
                output_tokens: 4,
                tokens_planner: 5,
                tokens_executor: 6,
                entities_read: 7,
                entities_written: 8,
                validators_run_count: 9,
            },
            status_reason: odd.into(),
            updated_at: Timestamp::from_micros(-1),
            error_message: Some(String::new()),
            job_inputs: json!({ "z": odd, "a": [1.0, 0.1, -0.0, 1e300, u64::MAX, i64::MIN, null, true] }),
            job_outputs: Some(json!(null)),
            is_pinned: true,
            parent_job_id: Some(JobId::fresh(&*self.ids)),
            ..job
        };
        (job, run)
    }

    /// A running attempt, not stored yet.
    pub fn node(&self, run: RunId, step: &str, index: Option<u32>, attempt: u32) -> NodeExecution {
        node(run, NodeKey { step: StepId::new(step).unwrap(), index }, attempt, self.clock.now())
    }
}

/// A running attempt, not stored yet.
pub fn node(run_id: RunId, node: NodeKey, attempt: u32, started_at: Timestamp) -> NodeExecution {
    NodeExecution {
        run_id,
        node,
        attempt,
        state: NodeState::Running,
        plugin: None,
        component_sha256: None,
        input: Json::of(&json!({ "text": "x" })),
        output: None,
        contribution: Contribution::default(),
        log: Vec::new(),
        error: None,
        random_seed: "00".repeat(32),
        started_at,
        finished_at: None,
    }
}

/// A plain job with its first run, not stored yet.
pub fn job(ids: &dyn Ids, now: Timestamp) -> (AiJob, WorkflowRun) {
    let (job_id, trace_id, run_id) = (JobId::fresh(ids), TraceId::fresh(ids), RunId::fresh(ids));
    let job = AiJob {
        job_id,
        trace_id,
        workflow_run_id: Some(run_id),
        job_kind: JobKind::WorkflowRun,
        state: JobState::Queued,
        protocol_id: "summarize".into(),
        profile_id: "default".into(),
        capability_profile_id: ProfileId::analyst(),
        access_mode: AccessMode::AnalysisOnly,
        safety_mode: SafetyMode::Normal,
        entity_refs: Vec::new(),
        planned_operations: Vec::new(),
        metrics: JobMetrics::default(),
        status_reason: "submitted".into(),
        created_at: now,
        updated_at: now,
        error_message: None,
        job_inputs: json!({}),
        job_outputs: None,
        is_pinned: false,
        parent_job_id: None,
    };
    let digest = Digest::of(b"x");
    let run = WorkflowRun {
        run_id,
        job_id,
        trace_id,
        state: RunState::Queued,
        workflow: json!({ "name": "ä", "steps": [] }),
        pinned: PinnedDigests {
            workflow: digest,
            policy: digest,
            profile: Some(digest),
            plugins: BTreeMap::from([("p@1".into(), PinnedPlugin { manifest: digest, component: digest })]),
        },
        inputs: json!({ "z": 1, "a": [0.1, null] }),
        base: "/srv/bücher".into(),
        host: None,
        fence: FencingToken(0),
        recoveries: 0,
        wake_at: None,
        heartbeat_at: None,
        error: None,
        created_at: now,
        updated_at: now,
    };
    (job, run)
}

/// An event that may be recorded.
pub fn event(ids: &dyn Ids, detail: &str) -> AdmittedEvent {
    let body = EventBody::System { kind: "test".into(), detail: detail.into() };
    let event = Event::new(EventId::fresh(ids), TraceId::fresh(ids), Timestamp::from_micros(7), Actor::system(), body);
    AdmittedEvent::admit(&event, &NoRedaction, event.timestamp).unwrap()
}
