//! One event of each type, valid and with every field set.

use std::collections::BTreeMap;

use super::SequentialIds;
use crate::capability::{DenialLabel, Layer, Mode, SourceRef};
use crate::content::ContentKind;
use crate::edit::{EditAction, EditMetadata, EditorKind};
use crate::event::{
    Actor, ActorKind, AuthRefusal, BundleScope, DebugBundleExport, DecisionRecord, Diagnostic, EditorEdit,
    EditorOperation, Event, EventBody, Gap, GapReason, Judgement, MutationRecord, Outcome, OutcomeRecord, PolicyChange,
    RedactionMode, Severity, SignOff, SimulationRecord, TerminalCommand,
};
use crate::job::JobState;
use crate::model::TokenUsage;
use crate::run::RunState;
use crate::{
    ApprovalId, BundleId, DiagnosticId, Digest, EventId, HostId, JobId, ReportId, RunId, SessionId, SpanId, StepId,
    Timestamp, TraceId,
};

/// A valid event of each type, in the order of the types.
pub fn sample_events() -> Vec<Event> {
    let ids = SequentialIds::default();
    let trace = TraceId::fresh(&ids);
    let mut events: Vec<Event> = bodies(&ids, trace)
        .into_iter()
        .map(|(kind, body)| {
            let id = if kind == ActorKind::Agent { "read-folder@0.1.0" } else { "ann" };
            let actor = Actor { kind, id: id.to_owned() };
            Event::new(EventId::fresh(&ids), trace, Timestamp::from_micros(1_767_225_600_000_001), actor, body)
        })
        .collect();
    let job = JobId::fresh(&ids);
    for event in &mut events {
        event.job_id = Some(job);
        event.workflow_run_id = Some(RunId::fresh(&ids));
        event.step_id = StepId::new("read").ok();
        event.activity_span_id = Some(SpanId::fresh(&ids));
        event.session_span_id = Some(SpanId::fresh(&ids));
        event.policy_decision_id = Some(EventId::fresh(&ids));
        event.wsids = vec!["w1".into()];
        agree(event);
    }
    events.sort_by_key(|event| event.body.kind().alias());
    events
}

/// Makes payload and envelope say the same where both speak.
fn agree(event: &mut Event) {
    match &mut event.body {
        EventBody::CapabilityAction(record) => {
            event.capability_id = Some(record.capability_id.clone());
            record.job_id = event.job_id;
        }
        EventBody::CapabilityOutcome(record) => {
            event.capability_id = Some(record.capability_id.clone());
            event.policy_decision_id = Some(record.decision);
        }
        EventBody::LlmInference { model_id, .. } => event.model_id = Some(model_id.clone()),
        EventBody::WorkflowRecovery { workflow_run_id, .. } => event.workflow_run_id = Some(*workflow_run_id),
        EventBody::ContentMutation(record) => {
            record.edit.edit_event_id = event.event_id;
            record.edit.last_job_id = event.job_id;
        }
        _ => {}
    }
}

fn bodies(ids: &SequentialIds, trace_id: TraceId) -> Vec<(ActorKind, EventBody)> {
    use ActorKind::{Agent, Human, System};
    let mut bodies = vec![
        (Agent, EventBody::CapabilityAction(Box::new(decision()))),
        (
            Agent,
            EventBody::CapabilityOutcome(OutcomeRecord {
                decision: EventId::fresh(ids),
                capability_id: "fs.read".into(),
                call: 7,
                result: "ok".into(),
                bytes_in: 1 << 40,
                bytes_out: 0,
                duration_us: 12,
            }),
        ),
        (
            Agent,
            EventBody::LlmInference {
                trace_id,
                model_id: "default".into(),
                token_usage: TokenUsage { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
                latency_ms: 5,
                prompt_hash: Digest::of(b"prompt"),
                response_hash: Some(Digest::of(b"answer")),
                error: Some("HSK-500-LLM".into()),
            },
        ),
        (
            System,
            EventBody::WorkflowRecovery {
                workflow_run_id: RunId::fresh(ids),
                from_state: RunState::Running,
                to_state: RunState::Stalled,
                reason: "the host went away".into(),
                last_heartbeat_ts: Some(Timestamp::from_micros(-1)),
                threshold_secs: 30,
            },
        ),
        (Agent, EventBody::ContentMutation(mutation(ids))),
    ];
    bodies.extend(host_bodies(ids).map(|body| (System, body)));
    bodies.extend(people_bodies(ids).map(|body| (Human, body)));
    bodies
}

fn decision() -> DecisionRecord {
    DecisionRecord {
        capability_id: "fs.read".into(),
        actor_id: "read-folder@0.1.0".into(),
        job_id: None,
        decision_outcome: Outcome::Deny,
        index: Some(0),
        attempt: 1,
        call: 7,
        component_sha256: Some(Digest::of(b"c")),
        interface: "wasi:filesystem/types@0.2.6".into(),
        function: "open-at".into(),
        resource: "in/a.md".into(),
        host_path: Some("/srv/in".into()),
        secrets: Vec::new(),
        reason: Some(DenialLabel::OperatorDenied),
        layer: Layer::Policy,
        rule: Some(SourceRef { file: "policy.toml".into(), line: 3 }),
        mode: Mode::Enforce,
        would_deny: false,
        grant: None,
        policy_sha256: Digest::of(b"p"),
        manifest_sha256: Digest::of(b"m"),
        arguments_sha256: Digest::of(b"a"),
        evaluation_ns: 480,
    }
}

fn mutation(ids: &SequentialIds) -> MutationRecord {
    MutationRecord {
        entity: ContentKind::CanvasNode,
        entity_id: "0198f3a2-7c11-7000-8000-0123456789ab".into(),
        action: EditAction::Update,
        edit: EditMetadata {
            last_actor_kind: EditorKind::Ai,
            last_actor_id: "read-folder@0.1.0".into(),
            last_job_id: None,
            last_workflow_id: Some(RunId::fresh(ids)),
            edit_event_id: EventId::fresh(ids),
        },
        previous: Some(EventId::fresh(ids)),
    }
}

fn host_bodies(ids: &SequentialIds) -> [EventBody; 9] {
    [
        EventBody::SecurityViolation { kind: "escape".into(), detail: "a path led out".into() },
        EventBody::System { kind: "host_started".into(), detail: "0.1.0".into() },
        EventBody::SpanStart { span: "step".into(), name: "read".into(), attempt: Some(1) },
        EventBody::SpanEnd {
            span: "step".into(),
            name: "read".into(),
            result: "ok".into(),
            duration_us: 9,
            metrics: BTreeMap::from([("documents".into(), 3.0), ("ratio".into(), 0.25)]),
        },
        EventBody::JobTransition {
            from_state: Some(JobState::Queued),
            to_state: JobState::Running,
            reason: "it is executed".into(),
        },
        EventBody::GcSummary {
            report_id: ReportId::fresh(ids),
            dry_run: false,
            candidates: 3,
            jobs: 2,
            runs: 2,
            artifacts: 5,
            bytes: 4096,
        },
        EventBody::Diagnostic(Diagnostic {
            diagnostic_id: DiagnosticId::fresh(ids),
            fingerprint: Digest::of(b"d"),
            severity: Severity::Warning,
            source: "engine".into(),
            code: Some("HSK-4001".into()),
        }),
        EventBody::PolicyChange(PolicyChange {
            old_sha256: Some(Digest::of(b"o")),
            new_sha256: Digest::of(b"n"),
            cause: Some(EventId::fresh(ids)),
        }),
        EventBody::Gap(Gap {
            host: HostId::fresh(ids),
            first_seq: 1,
            last_seq: 90,
            reason: GapReason::Retention,
            last_hash: Some(Digest::of(b"h")),
        }),
    ]
}

fn people_bodies(ids: &SequentialIds) -> [EventBody; 7] {
    [
        EventBody::Approval {
            approval_id: Some(ApprovalId::fresh(ids)),
            decision: "approved".into(),
            reason: Some("looks good".into()),
            grant: None,
        },
        EventBody::TerminalCommand(TerminalCommand {
            session_id: SessionId::fresh(ids),
            command: "ls -l".into(),
            output_sha256: Some(Digest::of(b"listing")),
            exit_code: Some(0),
        }),
        EventBody::EditorEdit(EditorEdit {
            editor_surface: "markdown".into(),
            ops: vec![EditorOperation {
                action: EditAction::Update,
                entity: ContentKind::Block,
                entity_id: "b1".into(),
                before_sha256: Some(Digest::of(b"1")),
                after_sha256: Some(Digest::of(b"2")),
            }],
        }),
        EventBody::DebugBundleExport(DebugBundleExport {
            bundle_id: BundleId::fresh(ids),
            scope: BundleScope::Job,
            redaction_mode: RedactionMode::SafeDefault,
            bundle_sha256: Some(Digest::of(b"zip")),
        }),
        EventBody::SignOff(SignOff {
            subject: "job:0198f3a2".into(),
            statement_sha256: Digest::of(b"s"),
            head_hash: Some(Digest::of(b"h")),
            verdict: Some(Judgement::Accept),
        }),
        EventBody::AuthRefusal(AuthRefusal {
            attempted: "POST /v1/jobs".into(),
            reason: "expired".into(),
            peer: Some("127.0.0.1".into()),
        }),
        EventBody::Simulation(SimulationRecord {
            capability_id: "fs.read".into(),
            resource: "in/a.md".into(),
            policy_sha256: Digest::of(b"p2"),
            outcome: Outcome::Deny,
            reason: Some(DenialLabel::OperatorDenied),
            decision: Some(EventId::fresh(ids)),
            plugin: Some("read-folder@0.1.0".into()),
            layer: Some(Layer::Policy),
        }),
    ]
}
