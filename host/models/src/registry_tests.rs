#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use handshake_core::capability::{
    CapabilityId, CapabilitySet, EffectiveRights, Mode, Policy, PolicyInForce, Profile, Resource, Rule, SourceRef,
};
use handshake_core::event::{Actor, ActorKind, Event, EventBody};
use handshake_core::gate::{AttemptGate, AttemptIdentity, AttemptPlace, Call};
use handshake_core::job::AccessMode;
use handshake_core::model::{Message, Role, TokenUsage};
use handshake_core::run::FencingToken;
use handshake_core::testing::{Behaviour, FixedClock, MemoryRecorder, SequentialIds};
use handshake_core::{JobId, ProfileId, RunId, StepId, TraceId};
use serde_json::json;

use super::*;

struct Bench {
    recorder: Arc<MemoryRecorder>,
    clock: Arc<FixedClock>,
    gate: AttemptGate,
    services: GateServices,
}

impl Bench {
    fn new() -> Self {
        let recorder = Arc::new(MemoryRecorder::default());
        let clock = Arc::new(FixedClock::default());
        let ids = Arc::new(SequentialIds::default());
        let services = GateServices {
            recorder: Arc::clone(&recorder) as _,
            clock: Arc::clone(&clock) as _,
            ids: Arc::clone(&ids) as _,
        };
        let all =
            || -> CapabilitySet { [Axis::ModelInfer, Axis::ModelEmbed].into_iter().map(CapabilityId::bare).collect() };
        let rule = |axis| Rule {
            effect: handshake_core::capability::Effect::Allow,
            capability: CapabilityId::bare(axis),
            plugins: vec![],
            addresses: Vec::new(),
            source: SourceRef { file: "policy.toml".into(), line: 1 },
        };
        let policy = Policy {
            mode: Mode::Enforce,
            rules: vec![rule(Axis::ModelInfer), rule(Axis::ModelEmbed)],
            mounts: vec![],
            secrets: Vec::new(),
            digest: Digest::ZERO,
        };
        let rights = EffectiveRights {
            plugin: None,
            declared: all(),
            granted: all(),
            profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: all() }),
            access_mode: AccessMode::ApplyScoped,
            policy: PolicyInForce::new(policy),
            manifest_sha256: Digest::ZERO,
            workspace: None,
        };
        let identity = AttemptIdentity {
            trace: TraceId::fresh(&*ids),
            actor: Actor { kind: ActorKind::Agent, id: "summarize@0.1.0".into() },
            component_sha256: None,
            span: Some("00000000-0000-0000-0000-000000000abc".parse().unwrap()),
            place: Some(AttemptPlace {
                job: JobId::fresh(&*ids),
                run: RunId::fresh(&*ids),
                step: StepId::new("summarize").unwrap(),
                index: None,
                attempt: 1,
                fence: FencingToken(1),
            }),
        };
        let gate = AttemptGate::new(identity, Arc::new(rights), services.clone());
        Self { recorder, clock, gate, services }
    }

    async fn permit(&self, axis: Axis) -> Permit {
        let call = Call {
            interface: "handshake:step/models@0.1.0",
            function: "generate",
            axis,
            resource: Resource::name("default"),
            arguments: Digest::ZERO,
        };
        self.gate.permit(call).await.unwrap()
    }

    fn registry(&self, settings: serde_json::Value) -> ModelRegistry {
        let settings: BTreeMap<String, ModelSettings> = serde_json::from_value(settings).unwrap();
        let keys = crate::load_keys(&settings, &|_| None).unwrap();
        ModelRegistry::new(settings, keys, self.services.clone()).unwrap()
    }

    fn inferences(&self) -> Vec<Event> {
        self.recorder
            .events()
            .into_iter()
            .filter(|event| matches!(event.body, EventBody::LlmInference { .. }))
            .collect()
    }
}

fn request(model: &str, text: &str) -> GenerateRequest {
    GenerateRequest {
        model: model.into(),
        messages: vec![Message { role: Role::User, content: text.into() }],
        max_tokens: None,
        temperature: None,
        options: serde_json::Map::new(),
    }
}

#[tokio::test]
async fn a_call_is_one_event_with_its_envelope() {
    let bench = Bench::new();
    let registry = bench.registry(json!({}));
    let permit = bench.permit(Axis::ModelInfer).await;
    let request = request("default", "One sentence.");
    let response = registry.generate(&permit, &request).await.unwrap();
    assert_eq!(response.text, "One sentence.");

    let [event] = &bench.inferences()[..] else { panic!("{:?}", bench.recorder.events()) };
    let identity = bench.gate.identity();
    let place = identity.place.as_ref().unwrap();
    assert_eq!((event.trace_id, &event.actor), (identity.trace, &identity.actor));
    assert_eq!(
        (event.job_id, event.workflow_run_id, event.step_id.as_ref()),
        (Some(place.job), Some(place.run), Some(&place.step))
    );
    assert_eq!((event.policy_decision_id, event.model_id.as_deref()), (Some(permit.decision()), Some("default")));
    assert_eq!(event.capability_id.as_deref(), Some("model.infer"));
    let EventBody::LlmInference { trace_id, model_id, token_usage, latency_ms, prompt_hash, response_hash, error } =
        &event.body
    else {
        panic!()
    };
    assert_eq!((*trace_id, model_id.as_str(), *latency_ms, error), (identity.trace, "default", 0, &None));
    assert_eq!(*token_usage, TokenUsage { prompt_tokens: 2, completion_tokens: 2, total_tokens: 4 });
    assert_eq!(*prompt_hash, Digest::of(serde_jcs::to_string(&request).unwrap().as_bytes()));
    assert_eq!(*response_hash, Some(Digest::of(b"One sentence.")));
}

#[tokio::test]
async fn a_failed_call_is_one_event_too() {
    let bench = Bench::new();
    let registry = bench.registry(
        json!({ "gone": { "provider": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "attempts": 1 } }),
    );
    let infer = bench.permit(Axis::ModelInfer).await;
    let embed = bench.permit(Axis::ModelEmbed).await;
    registry.generate(&infer, &request("gone", "x")).await.unwrap_err();
    registry.generate(&infer, &request("unknown", "x")).await.unwrap_err();
    registry.generate(&infer, &request("", "x")).await.unwrap_err();
    registry.generate(&infer, &GenerateRequest { messages: vec![], ..request("default", "") }).await.unwrap_err();
    registry.embed(&embed, "default", &["x".into()]).await.unwrap_err();
    let recorded: Vec<_> = bench
        .inferences()
        .into_iter()
        .map(|event| match event.body {
            EventBody::LlmInference { model_id, error, response_hash: None, .. } => (model_id, error.unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("gone", "HSK-500-LLM"),
        ("unknown", "unknown-model"),
        ("(none)", "unknown-model"),
        ("default", "invalid-request"),
        ("default", "invalid-request"),
    ];
    assert_eq!(recorded, expected.map(|(model, error)| (model.to_owned(), error.to_owned())));
}

#[tokio::test]
async fn a_cancelled_call_is_one_event_too() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bench = Bench::new();
    let registry = bench.registry(
        json!({ "slow": { "provider": "openai", "base_url": format!("http://{address}/v1"), "model": "m" } }),
    );
    let permit = bench.permit(Axis::ModelInfer).await;
    let request = request("slow", "x");
    tokio::select! {
        answer = registry.generate(&permit, &request) => panic!("{answer:?}"),
        // The call is under way once the server has its connection; it never answers.
        () = async { listener.accept().await.unwrap(); bench.clock.advance(Duration::from_millis(7)) } => {}
    }
    let [event] = &bench.inferences()[..] else { panic!() };
    assert!(
        matches!(&event.body, EventBody::LlmInference { error: Some(error), latency_ms: 7, .. } if error == "cancelled"),
        "{event:?}"
    );
}

#[tokio::test]
async fn a_call_that_cannot_be_recorded_or_has_the_wrong_permit_is_not_made() {
    let bench = Bench::new();
    let permit = bench.permit(Axis::ModelInfer).await;
    let full = Arc::new(MemoryRecorder::default());
    full.behave(Behaviour::Full);
    let full = GateServices { recorder: full, ..bench.services.clone() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = json!({ "m": { "provider": "openai", "base_url": format!("http://{}/v1", listener.local_addr().unwrap()), "model": "m" } });
    let registry = ModelRegistry::new(serde_json::from_value(settings).unwrap(), Keys::default(), full).unwrap();
    // The server would never answer, so returning at all shows that it was not asked.
    assert!(matches!(registry.generate(&permit, &request("m", "x")).await, Err(ModelError::NotMade { .. })));

    let registry = bench.registry(json!({}));
    assert!(matches!(registry.embed(&permit, "default", &["x".into()]).await, Err(ModelError::NotMade { .. })));
    let embed = bench.permit(Axis::ModelEmbed).await;
    assert!(matches!(registry.generate(&embed, &request("default", "x")).await, Err(ModelError::NotMade { .. })));
    assert!(bench.inferences().is_empty());
}

#[tokio::test]
async fn keys_are_in_no_event_and_no_list() {
    let key = "sk-secret-0123456789abcdef";
    let bench = Bench::new();
    let settings: BTreeMap<String, ModelSettings> =
        serde_json::from_value(json!({ "m": { "provider": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "x", "key_env": "K", "attempts": 1 } })).unwrap();
    let keys = crate::load_keys(&settings, &|name| (name == "K").then(|| key.to_owned())).unwrap();
    assert_eq!(keys.secret_values(), [key]);
    let registry = ModelRegistry::new(settings, keys, bench.services.clone()).unwrap();
    let permit = bench.permit(Axis::ModelInfer).await;
    let error = registry.generate(&permit, &request("m", "x")).await.unwrap_err();
    let list = registry.list();
    assert!(!format!("{error:?} {error} {list:?} {:?}", bench.recorder.events()).contains(key));
    assert!(list.iter().any(|model| model.name == "m" && model.has_key));
    assert!(list.iter().any(|model| model.name == "default" && model.provider == "builtin/extractive"));
}

#[tokio::test]
async fn a_server_is_told_trace_and_span_of_the_attempt() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let trace = request.headers().get("traceparent").map(|value| value.to_str().unwrap().to_owned());
        told.send(trace).unwrap();
        async { axum::http::StatusCode::BAD_REQUEST }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let bench = Bench::new();
    let registry = bench.registry(json!({ "m": { "provider": "openai", "base_url": base, "model": "m" } }));
    let expected = format!("00-{}-0000000000000abc-01", bench.gate.identity().trace.w3c());
    let permit = bench.permit(Axis::ModelInfer).await;
    assert!(registry.generate(&permit, &request("m", "Hello")).await.is_err());
    assert_eq!(heard.recv().await.unwrap().unwrap(), expected);
    let permit = bench.permit(Axis::ModelEmbed).await;
    assert!(registry.embed(&permit, "m", &["Hello".to_owned()]).await.is_err());
    assert_eq!(heard.recv().await.unwrap().unwrap(), expected);
}

#[test]
fn models_whose_key_is_missing_say_so_before_they_are_asked() {
    let bench = Bench::new();
    let server = |key: &str| json!({ "provider": "openai", "base_url": "https://h/v1", "model": "m", "key_env": key });
    let open = json!({ "provider": "openai", "base_url": "http://localhost/v1", "model": "m" });
    let usable = bench.registry(json!({ "paid": server("NO_SUCH_KEY"), "open": open })).usable();
    let told =
        usable.iter().map(|(name, missing)| (name.as_str(), missing.as_ref().map(|missing| missing.what.as_str())));
    let missing = Some("environment variable `NO_SUCH_KEY` is not set");
    assert_eq!(told.collect::<Vec<_>>(), [("default", None), ("open", None), ("paid", missing)]);
}
