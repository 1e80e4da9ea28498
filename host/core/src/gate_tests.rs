//! The gate: what is on record, when, and what happens when it cannot be.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use async_trait::async_trait;
use futures::FutureExt;

use super::*;
use crate::budget::{BudgetKind, Limits, Usage};
use crate::capability::{CapabilitySet, Effect, Mode, MountRule, Policy, PolicyInForce, Profile, Rule, SourceRef};
use crate::event::AdmittedEvent;
use crate::job::AccessMode;
use crate::mount::MountAccess;
use crate::testing::{Behaviour, FixedClock, MemoryRecorder, SequentialIds};
use crate::workflow::Budget;
use crate::{PluginId, ProfileId};

struct Bench {
    recorder: Arc<MemoryRecorder>,
    clock: Arc<FixedClock>,
    gate: AttemptGate,
}

fn rights(ids: &[&str]) -> EffectiveRights {
    let set: CapabilitySet = ids.iter().map(|id| id.parse().unwrap()).collect();
    let rule = |(id, line): (&&str, u32)| Rule {
        effect: Effect::Allow,
        capability: id.parse().unwrap(),
        plugins: Vec::new(),
        addresses: Vec::new(),
        source: SourceRef { file: "policy.toml".into(), line },
    };
    EffectiveRights {
        plugin: Some(PluginId::new("summarize").unwrap()),
        declared: set.clone(),
        granted: set.clone(),
        profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: set }),
        access_mode: AccessMode::ApplyScoped,
        policy: PolicyInForce::new(Policy {
            mode: Mode::Enforce,
            rules: ids.iter().zip(1..).map(rule).collect(),
            mounts: vec![MountRule {
                path: "/".into(),
                access: MountAccess::Write,
                source: SourceRef { file: "policy.toml".into(), line: 99 },
            }],
            secrets: Vec::new(),
            digest: Digest::of(b"policy"),
        }),
        manifest_sha256: Digest::of(b"manifest"),
        workspace: None,
    }
}

fn place() -> AttemptPlace {
    let ids = SequentialIds::default();
    ids.uuid();
    AttemptPlace {
        job: JobId::fresh(&ids),
        run: RunId::fresh(&ids),
        step: StepId::new("summarize").unwrap(),
        index: Some(3),
        attempt: 2,
        fence: FencingToken(5),
    }
}

fn identity() -> AttemptIdentity {
    let ids = SequentialIds::default();
    AttemptIdentity {
        trace: TraceId::fresh(&ids),
        actor: Actor { kind: crate::event::ActorKind::Agent, id: "summarize@0.1.0".into() },
        component_sha256: Some(Digest::of(b"component")),
        span: Some(SpanId::fresh(&ids)),
        place: Some(place()),
    }
}

fn gate_over(recorder: Arc<dyn FlightRecorder>, clock: Arc<dyn Clock>, rights: EffectiveRights) -> AttemptGate {
    let services = GateServices { recorder, clock, ids: Arc::new(SequentialIds::default()) };
    AttemptGate::new(identity(), Arc::new(rights), services)
}

fn bench(ids: &[&str]) -> Bench {
    let recorder = Arc::new(MemoryRecorder::default());
    let clock = Arc::new(FixedClock::default());
    let gate = gate_over(recorder.clone(), clock.clone(), rights(ids));
    Bench { recorder, clock, gate }
}

fn read_call() -> Call {
    Call {
        interface: "wasi:filesystem/types@0.2.6",
        function: "open-at",
        axis: Axis::FsRead,
        resource: Resource::Path { mount: "in".into(), path: "a.md".into(), host: "/srv/in".into() },
        arguments: Digest::of(b"arguments"),
    }
}

fn model_call() -> Call {
    Call {
        interface: "handshake:step/models@0.1.0",
        function: "generate",
        axis: Axis::ModelInfer,
        resource: Resource::name("default"),
        arguments: Digest::of(b"arguments"),
    }
}

/// Polls once: what is not ready then waits for something.
fn ready<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap_or_else(|| panic!("it waits"))
}

fn decision(event: &Event) -> &DecisionRecord {
    match &event.body {
        EventBody::CapabilityAction(record) => record,
        other => panic!("not a decision: {other:?}"),
    }
}

fn outcome(event: &Event) -> &OutcomeRecord {
    match &event.body {
        EventBody::CapabilityOutcome(record) => record,
        other => panic!("not an outcome: {other:?}"),
    }
}

#[test]
fn the_decision_is_on_record_before_the_permit_is_there_and_the_outcome_after() {
    for call in [read_call(), model_call()] {
        let bench = bench(&["fs.read", "model.infer"]);
        let permit = ready(bench.gate.permit(call)).unwrap();
        let events = bench.recorder.events();
        assert_eq!(events.len(), 1);
        assert_eq!(decision(&events[0]).decision_outcome, Outcome::Allow);
        assert_eq!(permit.decision(), events[0].event_id);

        bench.clock.advance(Duration::from_millis(3));
        permit.succeeded(10, 20);
        let events = bench.recorder.events();
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].policy_decision_id, Some(events[0].event_id));
        let record = outcome(&events[1]);
        assert_eq!((record.decision, record.call), (events[0].event_id, decision(&events[0]).call));
        assert_eq!((record.result.as_str(), record.bytes_in, record.bytes_out), ("ok", 10, 20));
        assert_eq!(record.duration_us, 3_000);
    }
}

#[test]
fn an_allowed_call_is_recorded_with_all_its_fields() {
    let bench = bench(&["fs.read:in"]);
    drop(ready(bench.gate.permit(read_call())).unwrap());
    let events = bench.recorder.events();
    let (event, identity, place) = (&events[0], identity(), place());
    assert_eq!(event.trace_id, identity.trace);
    assert_eq!(event.actor, identity.actor);
    assert_eq!(event.activity_span_id, identity.span);
    assert_eq!((event.job_id, event.workflow_run_id), (Some(place.job), Some(place.run)));
    assert_eq!(event.step_id, Some(place.step));
    assert_eq!(event.capability_id.as_deref(), Some("fs.read"));
    assert_eq!(event.timestamp, FixedClock::default().now());
    let expected = DecisionRecord {
        capability_id: "fs.read".into(),
        actor_id: "summarize@0.1.0".into(),
        job_id: Some(place.job),
        decision_outcome: Outcome::Allow,
        index: Some(3),
        attempt: 2,
        call: 1,
        component_sha256: Some(Digest::of(b"component")),
        interface: "wasi:filesystem/types@0.2.6".into(),
        function: "open-at".into(),
        resource: "in/a.md".into(),
        host_path: Some("/srv/in".into()),
        secrets: Vec::new(),
        reason: None,
        layer: Layer::Policy,
        rule: Some(SourceRef { file: "policy.toml".into(), line: 1 }),
        mode: Mode::Enforce,
        would_deny: false,
        grant: None,
        policy_sha256: Digest::of(b"policy"),
        manifest_sha256: Digest::of(b"manifest"),
        arguments_sha256: Digest::of(b"arguments"),
        evaluation_ns: 0,
    };
    assert_eq!(*decision(event), expected);
}

#[test]
fn a_denied_call_gets_no_permit_and_is_on_record_with_its_reason() {
    for call in [read_call(), model_call()] {
        let bench = bench(&[]);
        let denial = ready(bench.gate.permit(call.clone())).unwrap_err();
        assert_eq!((denial.reason, denial.layer), (DenialLabel::NotDeclared, Layer::Manifest));
        let events = bench.recorder.events();
        assert_eq!(events.len(), 1, "a decision and nothing else");
        let record = decision(&events[0]);
        assert_eq!(record.decision_outcome, Outcome::Deny);
        assert_eq!((record.reason, record.layer), (Some(DenialLabel::NotDeclared), Layer::Manifest));
        assert_eq!((record.function.as_str(), &record.resource), (call.function, &call.resource.to_string()));
        assert!(bench.recorder.effects().is_empty());
    }
}

#[test]
fn an_observed_denial_passes_and_is_recorded_as_would_deny() {
    let recorder = Arc::new(MemoryRecorder::default());
    let mut rights = rights(&["fs.read"]);
    let policy = Policy { mode: Mode::Observe, rules: Vec::new(), ..rights.policy.current().policy().clone() };
    rights.policy = PolicyInForce::new(policy);
    let gate = gate_over(recorder.clone(), Arc::new(FixedClock::default()), rights);
    drop(ready(gate.permit(read_call())).unwrap());
    let events = recorder.events();
    let record = decision(&events[0]);
    assert_eq!((record.decision_outcome, record.would_deny, record.mode), (Outcome::Allow, true, Mode::Observe));
}

fn request_call() -> Call {
    Call {
        interface: "wasi:http/outgoing-handler@0.2",
        function: "handle",
        axis: Axis::NetHttp,
        resource: Resource::request("GET", "https://api.example.com/"),
        arguments: Digest::of(b"arguments"),
    }
}

#[test]
fn what_the_host_refuses_is_one_decision_and_the_rights_come_first() {
    for (ids, expected) in [
        (&["net.http"][..], (DenialLabel::OperatorDenied, Layer::Policy)),
        (&[][..], (DenialLabel::NotDeclared, Layer::Manifest)),
    ] {
        let bench = bench(ids);
        let (reason, layer) = (DenialLabel::OperatorDenied, Layer::Policy);
        let denial = ready(bench.gate.refuse_call(request_call(), reason, layer, "a placeholder in the URL"));
        let events = bench.recorder.events();
        assert_eq!(events.len(), 1);
        let record = decision(&events[0]);
        assert_eq!(record.decision_outcome, Outcome::Deny);
        assert_eq!((record.reason.unwrap(), record.layer), expected);
        assert_eq!((denial.reason, denial.layer), expected);
        assert!(bench.recorder.effects().is_empty());
    }
}

#[test]
fn a_decision_names_the_secrets_that_go_along_unless_nothing_goes() {
    let bench = bench(&["net.http"]);
    drop(ready(bench.gate.permit_with(request_call(), vec!["github".into()])).unwrap());
    bench.recorder.behave(Behaviour::Fenced);
    ready(bench.gate.permit_with(request_call(), vec!["github".into()])).unwrap_err();
    bench.recorder.behave(Behaviour::Accept);
    assert_eq!(decision(&bench.recorder.events()[0]).secrets, ["github"]);
    assert_eq!(bench.recorder.effects().len(), 1);
    let other = self::bench(&[]);
    ready(other.gate.permit_with(request_call(), vec!["github".into()])).unwrap_err();
    assert_eq!(decision(&other.recorder.events()[0]).secrets, [] as [String; 0]);
}

#[test]
fn an_effect_is_noted_with_its_attempt_and_token_and_reading_is_not() {
    let bench = bench(&["fs.read", "model.infer"]);
    drop(ready(bench.gate.permit(read_call())).unwrap());
    assert!(bench.recorder.effects().is_empty());
    drop(ready(bench.gate.permit(model_call())).unwrap());
    let place = place();
    let expected = EffectNote {
        run: place.run,
        step: place.step,
        index: Some(3),
        attempt: 2,
        fence: FencingToken(5),
        call: 2,
        capability: "model.infer".into(),
        resource: "default".into(),
    };
    assert_eq!(bench.recorder.effects(), [expected]);
}

#[test]
fn calls_are_numbered_from_one_without_gaps_denied_ones_included() {
    let bench = bench(&["fs.read"]);
    for _ in 0..3 {
        drop(ready(bench.gate.permit(read_call())).unwrap());
        ready(bench.gate.permit(model_call())).unwrap_err();
    }
    let calls: Vec<_> = bench
        .recorder
        .events()
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::CapabilityAction(record) => Some(record.call),
            _ => None,
        })
        .collect();
    assert_eq!(calls, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_permit_that_is_dropped_is_recorded_as_abandoned() {
    let bench = bench(&["fs.read"]);
    drop(ready(bench.gate.permit(read_call())).unwrap());
    let events = bench.recorder.events();
    assert_eq!(outcome(&events[1]).result, "abandoned");
    assert_eq!(outcome(&events[1]).decision, events[0].event_id);
}

#[test]
fn a_permit_has_one_outcome() {
    let bench = bench(&["fs.read"]);
    ready(bench.gate.permit(read_call())).unwrap().failed("not-found");
    let events = bench.recorder.events();
    assert_eq!(events.len(), 2);
    assert_eq!(outcome(&events[1]).result, "not-found");
}

#[test]
fn a_full_recorder_denies_reading_and_effects_alike() {
    for call in [read_call(), model_call()] {
        let bench = bench(&["fs.read", "model.infer"]);
        bench.recorder.behave(Behaviour::Full);
        let denial = ready(bench.gate.permit(call)).unwrap_err();
        assert_eq!((denial.reason, denial.layer), (DenialLabel::RecorderUnavailable, Layer::Recorder));
        assert!(bench.recorder.events().is_empty(), "no outcome without a decision");
        assert!(bench.recorder.effects().is_empty());
    }
}

#[test]
fn a_denial_that_cannot_be_recorded_says_so() {
    let bench = bench(&[]);
    bench.recorder.behave(Behaviour::Full);
    let denial = ready(bench.gate.permit(model_call())).unwrap_err();
    assert_eq!((denial.reason, denial.layer), (DenialLabel::RecorderUnavailable, Layer::Recorder));
    assert!(denial.remedy.contains("queue is full"), "{}", denial.remedy);
}

#[test]
fn an_outdated_token_denies_the_effect_as_expired_and_that_is_on_record() {
    let recorder = Arc::new(Scripted { answer: Answer::Fenced, ..Scripted::default() });
    let gate = gate_over(recorder.clone(), Arc::new(FixedClock::default()), rights(&["model.infer"]));
    let denial = ready(gate.permit(model_call())).unwrap_err();
    assert_eq!((denial.reason, denial.layer), (DenialLabel::Expired, Layer::Recorder));
    let events = recorder.enqueued.lock().unwrap();
    assert_eq!(events.len(), 1);
    let record = decision(&events[0]);
    assert_eq!((record.decision_outcome, record.reason), (Outcome::Deny, Some(DenialLabel::Expired)));
    assert_eq!((record.layer, record.call), (Layer::Recorder, 1));
}

#[test]
fn an_effect_waits_until_its_decision_is_durable() {
    let recorder = Arc::new(Scripted { answer: Answer::Never, ..Scripted::default() });
    let gate = gate_over(recorder.clone(), Arc::new(FixedClock::default()), rights(&["fs.read", "model.infer"]));
    assert!(gate.permit(model_call()).now_or_never().is_none(), "a permit before the record");
    assert!(recorder.enqueued.lock().unwrap().is_empty(), "an effect's decision is not batched");
    // Reading need not wait: its record is queued.
    drop(ready(gate.permit(read_call())).unwrap());
}

#[test]
fn without_room_for_the_outcome_nothing_is_permitted() {
    for call in [read_call(), model_call()] {
        let recorder = Arc::new(Scripted { no_slots: true, ..Scripted::default() });
        let gate = gate_over(recorder.clone(), Arc::new(FixedClock::default()), rights(&["fs.read", "model.infer"]));
        let denial = ready(gate.permit(call)).unwrap_err();
        assert_eq!(denial.reason, DenialLabel::RecorderUnavailable);
    }
}

#[test]
fn whoever_asks_faster_than_the_disk_writes_waits_for_its_own_records() {
    let recorder = Arc::new(Scripted::default());
    let gate = gate_over(recorder.clone(), Arc::new(FixedClock::default()), rights(&["fs.read"]));
    // Denials are on record, too.
    for call in [read_call(), model_call()].into_iter().cycle().take(UNSETTLED_CALLS as usize) {
        let _ = ready(gate.permit(call));
    }
    assert!(gate.permit(read_call()).now_or_never().is_none(), "nothing was written yet");
    assert_eq!(recorder.enqueued.lock().unwrap().len() as u64, UNSETTLED_CALLS, "nothing was decided meanwhile");
    let neighbour = gate_over(recorder, Arc::new(FixedClock::default()), rights(&["fs.read"]));
    ready(neighbour.permit(read_call())).unwrap();
}

#[test]
fn a_person_without_a_run_is_recorded_and_notes_no_effect() {
    let recorder = Arc::new(MemoryRecorder::default());
    let services = GateServices {
        recorder: recorder.clone(),
        clock: Arc::new(FixedClock::default()),
        ids: Arc::new(SequentialIds::default()),
    };
    let identity = AttemptIdentity { component_sha256: None, place: None, ..identity() };
    let gate = AttemptGate::new(identity, Arc::new(rights(&["model.infer"])), services);
    ready(gate.permit(model_call())).unwrap().succeeded(0, 0);
    assert_eq!(recorder.events().len(), 2);
    assert!(recorder.effects().is_empty());
    assert_eq!(recorder.events()[0].job_id, None);
}

#[test]
fn a_permit_is_good_for_its_own_axis_alone() {
    let bench = bench(&["fs.read"]);
    let permit = ready(bench.gate.permit(read_call())).unwrap();
    assert_eq!(permit.require(Axis::FsRead), Ok(()));
    assert_eq!(bench.gate.violation(), None);
    let error = permit.require(Axis::FsWrite).unwrap_err();
    assert_eq!(error.to_string(), "a permit for `fs.read` was shown where `fs.write` is needed");
    assert_eq!(bench.gate.violation(), Some(&error), "whoever runs the attempt learns of it");
}

#[derive(Default, Clone, Copy)]
enum Answer {
    #[default]
    Never,
    Fenced,
}

/// A recorder whose effects are answered as scripted; everything else it takes.
#[derive(Default)]
struct Scripted {
    answer: Answer,
    no_slots: bool,
    enqueued: Mutex<Vec<Event>>,
}

struct Nowhere;

impl OutcomeSlot for Nowhere {
    fn fill(self: Box<Self>, _: Event) {}
}

#[async_trait]
impl FlightRecorder for Scripted {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError> {
        Ok(AdmittedEvent::admit(event, &crate::testing::NoRedaction, event.timestamp)?)
    }
    fn enqueue(&self, event: &Event) -> Result<(), RecorderError> {
        self.enqueued.lock().unwrap().push(event.clone());
        Ok(())
    }
    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError> {
        if self.no_slots { Err(RecorderError::Full) } else { Ok(Box::new(Nowhere)) }
    }
    async fn record_event(&self, _: &Event) -> Result<(), RecorderError> {
        Ok(())
    }
    async fn record_effect(&self, _: EffectNote, _: &Event) -> Result<(), RecorderError> {
        match self.answer {
            Answer::Never => futures::future::pending().await,
            Answer::Fenced => Err(RecorderError::Fenced),
        }
    }
    async fn flush(&self) -> Result<(), RecorderError> {
        match self.answer {
            Answer::Never => futures::future::pending().await,
            Answer::Fenced => Ok(()),
        }
    }
}

#[test]
fn servers_are_told_trace_and_span_of_the_attempt() {
    let span = SpanId::from_uuid(uuid::Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0abc));
    let identity = AttemptIdentity { span: Some(span), ..identity() };
    let expected = "00-00000000000000000000000000000001-8000000000000abc-01";
    assert_eq!(identity.traceparent().unwrap(), expected);
    assert_eq!(AttemptIdentity { span: None, ..identity }.traceparent(), None);
}

fn within(ids: &[&str], budget: Budget) -> (Bench, Arc<BudgetMeter>) {
    let meter = BudgetMeter::new(Limits::of(&budget, &Budget::default()), Usage::default(), None);
    let meter = Arc::new(meter);
    let Bench { recorder, clock, gate } = bench(ids);
    (Bench { recorder, clock, gate: gate.within(Arc::clone(&meter)) }, meter)
}

#[test]
fn a_call_beyond_the_budget_is_denied_with_one_decision_on_record() {
    let budget = Budget { model_calls: Some(1), ..Budget::default() };
    let (bench, _) = within(&["model.infer", "model.embed"], budget);
    ready(bench.gate.permit(model_call())).unwrap().succeeded(0, 0);
    let embed = Call { axis: Axis::ModelEmbed, function: "embed", ..model_call() };
    for call in [model_call(), embed] {
        let denial = ready(bench.gate.permit(call)).unwrap_err();
        assert_eq!((denial.reason, denial.layer), (DenialLabel::BudgetExceeded, Layer::Budget));
        assert!(denial.remedy.starts_with("HSK-402-BUDGET-EXCEEDED: budget `model_calls`"), "{denial}");
    }
    let events = bench.recorder.events();
    let denied: Vec<_> = events[2..].iter().map(decision).collect();
    assert_eq!(denied.iter().map(|record| record.call).collect::<Vec<_>>(), [2, 3], "one decision each");
    assert!(denied.iter().all(|record| record.reason == Some(DenialLabel::BudgetExceeded)));
    assert!(denied.iter().all(|record| record.layer == Layer::Budget && record.decision_outcome == Outcome::Deny));
    assert_eq!(bench.recorder.effects().len(), 1);
}

#[test]
fn tokens_are_what_calls_say_they_used_and_lower_what_the_next_may_ask_for() {
    let (bench, meter) = within(&["model.infer"], Budget { tokens: Some(100), ..Budget::default() });
    let mut permit = ready(bench.gate.permit_answer(model_call(), Some(80))).unwrap();
    assert_eq!(permit.max_tokens(Some(80)), Some(80));
    permit.spent(70);
    permit.succeeded(0, 0);
    let permit = ready(bench.gate.permit_answer(model_call(), Some(80))).unwrap();
    assert_eq!((permit.max_tokens(Some(80)), permit.max_tokens(None)), (Some(30), Some(30)));
    permit.failed("HSK-500-LLM");
    assert_eq!((meter.used(BudgetKind::Tokens), meter.used(BudgetKind::ModelCalls)), (70, 2));
}

#[test]
fn what_the_rights_or_the_recorder_refuse_uses_no_budget() {
    let budget = || Budget { model_calls: Some(1), ..Budget::default() };
    let (bench, meter) = within(&["fs.read"], budget());
    assert_eq!(ready(bench.gate.permit(model_call())).unwrap_err().reason, DenialLabel::NotDeclared);
    assert_eq!(meter.used(BudgetKind::ModelCalls), 0);
    let (bench, meter) = within(&["model.infer"], budget());
    bench.recorder.behave(Behaviour::Full);
    assert_eq!(ready(bench.gate.permit(model_call())).unwrap_err().layer, Layer::Recorder);
    assert_eq!(meter.used(BudgetKind::ModelCalls), 0);
}
