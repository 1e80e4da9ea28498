//! What must be true of an event besides its types: who can cause it, which ids it names, and what it says twice.
//!
//! Breaking a rule is a fault of the host, since it makes all envelopes; so the event is refused, and with it what
//! it would have been the record of. What guests choose is never a reason to refuse: that is normalised.

use uuid::Uuid;

use super::{ActorKind, Event, EventBody, EventType, Outcome};
use crate::Timestamp;

/// Who can cause an event of a type.
const fn actors(kind: EventType) -> &'static [ActorKind] {
    use ActorKind::{Agent, Human, System};
    match kind {
        EventType::CapabilityAction
        | EventType::CapabilityOutcome
        | EventType::LlmInference
        | EventType::TerminalCommand
        | EventType::EditorEdit => &[Human, Agent],
        // Programs act too, with tokens of their own.
        EventType::ContentMutation
        | EventType::SecurityViolation
        | EventType::System
        | EventType::SpanStart
        | EventType::SpanEnd
        | EventType::JobTransition
        | EventType::Approval
        | EventType::Diagnostic
        | EventType::DebugBundleExport
        | EventType::AuthRefusal
        | EventType::Simulation => &[Human, Agent, System],
        EventType::GcSummary | EventType::PolicyChange => &[Human, System],
        EventType::WorkflowRecovery | EventType::Gap => &[System],
        EventType::SignOff => &[Human],
    }
}

/// Paths of the fields that hold stable labels, which people filter and count by.
pub(super) const fn labels(kind: EventType) -> &'static [&'static str] {
    match kind {
        EventType::System | EventType::SecurityViolation => &["payload.kind"],
        EventType::SpanStart => &["payload.span"],
        EventType::SpanEnd => &["payload.span", "payload.result"],
        EventType::CapabilityOutcome => &["payload.result"],
        EventType::LlmInference => &["payload.error"],
        EventType::Approval => &["payload.decision"],
        EventType::EditorEdit => &["payload.editor_surface"],
        EventType::Diagnostic => &["payload.source", "payload.code"],
        EventType::AuthRefusal => &["payload.reason"],
        _ => &[],
    }
}

/// The first rule that the event breaks.
pub(super) fn check(event: &Event) -> Result<(), &'static str> {
    if let Some((_, problem)) = ids(event).into_iter().find(|(id, _)| id.is_some_and(|id| id.is_nil())) {
        return Err(problem);
    }
    if event.wsids.iter().any(|id| id.is_empty() || Uuid::parse_str(id).is_ok_and(|id| id.is_nil())) {
        return Err("a workspace id is empty or nil");
    }
    if event.actor.id.is_empty() {
        return Err("actor id is empty");
    }
    if !actors(event.body.kind()).contains(&event.actor.kind) {
        return Err("this kind of actor cannot cause it");
    }
    check_body(event)
}

fn require(holds: bool, problem: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(problem) }
}

/// What a payload says again must be what the envelope says.
fn check_body(event: &Event) -> Result<(), &'static str> {
    match &event.body {
        EventBody::CapabilityAction(record) => {
            require(
                event.capability_id.as_ref() == Some(&record.capability_id),
                "capability_id is not the envelope's",
            )?;
            require(record.actor_id == event.actor.id, "actor_id is not the envelope's")?;
            require(record.job_id == event.job_id, "job_id is not the envelope's")?;
            let denied = record.decision_outcome == Outcome::Deny;
            require(denied == record.reason.is_some(), "a denial has a reason, and only a denial has")
        }
        EventBody::CapabilityOutcome(record) => {
            require(
                event.capability_id.as_ref() == Some(&record.capability_id),
                "capability_id is not the envelope's",
            )?;
            require(event.policy_decision_id == Some(record.decision), "decision is not the envelope's")
        }
        EventBody::LlmInference { trace_id, model_id, .. } => {
            require(*trace_id == event.trace_id, "trace_id is not the envelope's")?;
            require(event.model_id.as_ref() == Some(model_id), "model_id is not the envelope's")
        }
        EventBody::WorkflowRecovery { workflow_run_id, last_heartbeat_ts, .. } => {
            require(event.workflow_run_id == Some(*workflow_run_id), "workflow_run_id is not the envelope's")?;
            require(last_heartbeat_ts.is_none_or(Timestamp::is_rfc3339), "last_heartbeat_ts has no RFC 3339 form")
        }
        EventBody::SpanEnd { metrics, .. } => {
            // JSON would turn it into null, and the stored event could not be read any more.
            require(metrics.values().all(|value| value.is_finite()), "a metric is not a finite number")
        }
        EventBody::ContentMutation(record) => {
            require(record.edit.edit_event_id == event.event_id, "edit_event_id is not the envelope's event_id")?;
            require(record.edit.last_actor_id == event.actor.id, "last_actor_id is not the envelope's")?;
            require(record.edit.last_job_id == event.job_id, "last_job_id is not the envelope's")
        }
        EventBody::Simulation(record) => {
            let denied = record.outcome == Outcome::Deny;
            require(denied == record.reason.is_some(), "a denial has a reason, and only a denial has")
        }
        EventBody::Gap(gap) => require(
            gap.first_seq >= 1 && gap.first_seq <= gap.last_seq,
            "a gap begins at 1 or later and does not end before it begins",
        ),
        _ => Ok(()),
    }
}

/// Every id of the event, beside what to say when it is nil.
fn ids(event: &Event) -> Vec<(Option<Uuid>, &'static str)> {
    let mut ids = vec![
        (Some(event.event_id.uuid()), "event_id is nil"),
        (Some(event.trace_id.uuid()), "trace_id is nil"),
        (event.job_id.map(|id| id.uuid()), "job_id is nil"),
        (event.workflow_run_id.map(|id| id.uuid()), "workflow_run_id is nil"),
        (event.activity_span_id.map(|id| id.uuid()), "activity_span_id is nil"),
        (event.session_span_id.map(|id| id.uuid()), "session_span_id is nil"),
        (event.policy_decision_id.map(|id| id.uuid()), "policy_decision_id is nil"),
    ];
    // Ids that must be the envelope's are checked there.
    ids.extend(match &event.body {
        EventBody::CapabilityOutcome(record) => vec![(Some(record.decision.uuid()), "decision is nil")],
        EventBody::GcSummary { report_id, .. } => vec![(Some(report_id.uuid()), "report_id is nil")],
        EventBody::Approval { approval_id, .. } => vec![(approval_id.map(|id| id.uuid()), "approval_id is nil")],
        EventBody::ContentMutation(record) => vec![
            (record.edit.last_workflow_id.map(|id| id.uuid()), "last_workflow_id is nil"),
            (record.previous.map(|id| id.uuid()), "previous is nil"),
        ],
        EventBody::TerminalCommand(command) => vec![(Some(command.session_id.uuid()), "session_id is nil")],
        EventBody::Diagnostic(diagnostic) => vec![(Some(diagnostic.diagnostic_id.uuid()), "diagnostic_id is nil")],
        EventBody::DebugBundleExport(export) => vec![(Some(export.bundle_id.uuid()), "bundle_id is nil")],
        EventBody::PolicyChange(change) => vec![(change.cause.map(|id| id.uuid()), "cause is nil")],
        EventBody::Simulation(record) => vec![(record.decision.map(|id| id.uuid()), "decision is nil")],
        EventBody::Gap(gap) => vec![(Some(gap.host.uuid()), "host is nil")],
        _ => Vec::new(),
    });
    ids
}
