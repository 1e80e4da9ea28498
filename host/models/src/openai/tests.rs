#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response as Answer;
use handshake_core::model::{Message, Role};
use serde_json::{Value, json};

use super::*;

const KEY: &str = "sk-very-secret-key-0123456789";

/// A server that gives the same answers in order, the last one for ever, and notes how often it was asked.
struct Server {
    base: String,
    asked: Arc<AtomicUsize>,
}

type Reply = Arc<dyn Fn(usize, Value) -> Answer<Body> + Send + Sync>;

async fn server(reply: impl Fn(usize, Value) -> Answer<Body> + Send + Sync + 'static) -> Server {
    let (asked, reply): (Arc<AtomicUsize>, Reply) = (Arc::default(), Arc::new(reply));
    let counter = Arc::clone(&asked);
    let app = Router::new().fallback(move |request: Request| {
        let (counter, reply) = (Arc::clone(&counter), Arc::clone(&reply));
        async move {
            let path = request.uri().path().to_owned();
            let authorization =
                request.headers().get("authorization").map(|value| value.to_str().unwrap_or("?").to_owned());
            let trace = request.headers().get("traceparent").map(|value| value.to_str().unwrap_or("?").to_owned());
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let seen = json!({ "path": path, "authorization": authorization, "trace": trace, "body": body });
            reply(counter.fetch_add(1, Ordering::SeqCst), seen)
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { base, asked }
}

fn answer(status: u16, body: impl Into<Body>) -> Answer<Body> {
    Answer::builder().status(status).body(body.into()).unwrap()
}

fn good(text: &str) -> Answer<Body> {
    let body = json!({
        "model": "llama3:8b",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9 },
    });
    answer(200, body.to_string())
}

fn client(base: &str, attempts: u32) -> OpenAi {
    let settings = json!({ "base_url": base, "model": "llama3", "timeout": "20s", "attempts": attempts, "max_tokens": 100, "key_env": "KEY" });
    let mut client =
        OpenAi::new("m", serde_json::from_value(settings).unwrap(), Some(SecretString::from(KEY))).unwrap();
    client.waits = Waits { first: Duration::from_millis(1), longest: Duration::from_millis(20) };
    client
}

fn request() -> GenerateRequest {
    GenerateRequest {
        model: "m".into(),
        messages: vec![Message { role: Role::User, content: "Hello".into() }],
        max_tokens: Some(500),
        temperature: Some(0.5),
        options: json!({ "sentences": 3 }).as_object().unwrap().clone(),
    }
}

async fn failure(server: &Server, attempts: u32) -> ModelError {
    let error = client(&server.base, attempts).generate(&request(), None).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
    error
}

#[tokio::test]
async fn an_answer_is_read_and_the_request_is_what_it_should_be() {
    let server = server(|_, seen| good(&seen.to_string())).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let response = client(&server.base, 3).generate(&request(), Some(trace)).await.unwrap();
    let seen: Value = serde_json::from_str(&response.text).unwrap();
    assert_eq!(seen["path"], "/v1/chat/completions");
    assert_eq!(seen["trace"], trace);
    assert_eq!(seen["authorization"], format!("Bearer {KEY}"));
    assert_eq!(
        seen["body"],
        json!({ "model": "llama3", "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 100, "temperature": 0.5 })
    );
    assert_eq!(
        (response.model.as_str(), response.finish_reason.as_str(), response.usage.total_tokens),
        ("llama3:8b", "stop", 9)
    );
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again() {
    let server = server(|nth, _| match nth {
        0 => Answer::builder().status(429).header("retry-after", "3600").body(Body::empty()).unwrap(),
        1 => answer(503, "later"),
        _ => good("done"),
    })
    .await;
    assert_eq!(client(&server.base, 3).generate(&request(), None).await.unwrap().text, "done");
    assert_eq!(server.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn attempts_end() {
    let busy = server(|_, _| answer(429, r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#)).await;
    let error = failure(&busy, 3).await;
    assert!(matches!(&error, ModelError::RateLimit { reason, .. } if reason.contains("slow down")), "{error}");
    assert!(error.to_string().starts_with("HSK-429-RATE-LIMIT"));
    assert_eq!(busy.asked.load(Ordering::SeqCst), 3);

    let broken = server(|_, _| answer(500, r#"{"error":"out of memory"}"#)).await;
    let error = failure(&broken, 2).await;
    assert!(
        matches!(&error, ModelError::Failed { transient: true, reason, .. } if reason.contains("out of memory")),
        "{error}"
    );
    assert_eq!(broken.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_empty_account_is_not_asked_again() {
    for reply in [
        || answer(402, ""),
        || answer(429, r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#),
    ] {
        let server = server(move |_, _| reply()).await;
        let error = failure(&server, 3).await;
        assert!(matches!(error, ModelError::BudgetExceeded { .. }), "{error}");
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn refusals_are_told_apart_and_their_messages_are_tamed() {
    let long = format!("bad \u{1b}[31m{KEY}\n {}", "x".repeat(5000));
    let body = json!({ "error": { "message": long } }).to_string();
    let server = server(move |nth, _| answer([400, 401, 404, 302][nth], body.clone())).await;
    let invalid = failure(&server, 3).await;
    assert!(matches!(&invalid, ModelError::Invalid { .. }), "{invalid}");
    let text = invalid.to_string();
    assert!(text.contains("bad \\u{1b}[31m[key] xxx") && text.chars().count() < 400 && text.ends_with('…'), "{text}");
    for hint in ["check the model's key", "has the model `llama3`", "redirects are not followed"] {
        let error = failure(&server, 3).await;
        assert!(
            matches!(&error, ModelError::Failed { transient: false, reason, .. } if reason.contains(hint)),
            "{error}"
        );
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_failures() {
    for body in ["", "<html>", "{}", r#"{"choices":[]}"#, r#"{"choices":[{"message":{"content":5}}]}"#] {
        let server = server(move |_, _| answer(200, body)).await;
        let error = failure(&server, 2).await;
        assert!(
            matches!(&error, ModelError::Failed { transient: false, reason, .. } if reason.contains("makes no sense")),
            "{body}: {error}"
        );
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn absurd_counts_of_tokens_are_bounded() {
    let body = json!({ "choices": [{ "message": { "content": null } }], "usage": { "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX } }).to_string();
    let server = server(move |_, _| answer(200, body.clone())).await;
    let response = client(&server.base, 1).generate(&request(), None).await.unwrap();
    assert_eq!((response.text.as_str(), response.usage.total_tokens), ("", 1 << 41));
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    // With its length announced, and without.
    for announced in [true, false] {
        let server = server(move |_, _| {
            if announced {
                return answer(200, vec![b' '; LARGEST_ANSWER + 1]);
            }
            let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
            answer(200, Body::from_stream(endless))
        })
        .await;
        let error = failure(&server, 3).await;
        assert!(error.to_string().contains("larger than 8 MiB"), "{error}");
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server =
        server(|_, _| answer(200, Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>())))
            .await;
    let mut client = client(&server.base, 3);
    client.settings.timeout.0 = Duration::from_millis(100);
    let error = client.generate(&request(), None).await.unwrap_err();
    assert!(
        matches!(&error, ModelError::Failed { transient: true, reason, .. } if reason.contains("did not answer within 100ms")),
        "{error}"
    );
}

#[tokio::test]
async fn an_unreachable_server_is_named_with_its_cause_and_a_remedy() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(&format!("http://{address}/v1"), 2).generate(&request(), None).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("HSK-500-LLM")
            && text.contains(&address.to_string())
            && text.contains("refused")
            && text.contains("start the server"),
        "{text}"
    );
    assert!(error.is_transient() && !text.contains(KEY));
}

#[tokio::test]
async fn a_missing_key_is_named_and_nothing_is_sent() {
    let server = server(|_, _| good("x")).await;
    let mut client = client(&server.base, 1);
    client.key = None;
    let error = client.generate(&request(), None).await.unwrap_err().to_string();
    assert!(error.contains("environment variable `KEY` is not set"), "{error}");
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    assert!(!client.info("m").has_key);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_before_they_are_sent() {
    let server = server(|_, _| good("x")).await;
    let client = client(&server.base, 1);
    let options = json!({ "top_k": 3 }).as_object().unwrap().clone();
    for request in [
        GenerateRequest { messages: vec![], ..request() },
        GenerateRequest { temperature: Some(f32::NAN), ..request() },
        GenerateRequest { temperature: Some(2.1), ..request() },
        GenerateRequest { options, ..request() },
    ] {
        assert!(matches!(client.generate(&request, None).await, Err(ModelError::Invalid { .. })), "{request:?}");
    }
    assert!(matches!(client.embed(&[], None).await, Err(ModelError::Invalid { .. })));
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn vectors_come_back_in_order_or_not_at_all() {
    let server = server(|nth, seen| {
        assert_eq!((&seen["path"], &seen["body"]["input"]), (&json!("/v1/embeddings"), &json!(["a", "b"])));
        let vector = |index: u64, embedding: Value| json!({ "index": index, "embedding": embedding });
        let data = match nth {
            0 => json!([vector(1, json!([0.5, 1.0])), vector(0, json!([2.0, 3.0]))]),
            1 => json!([vector(0, json!([2.0]))]),
            2 => json!([vector(0, json!([2.0])), vector(1, json!([2.0, 1.0]))]),
            3 => json!([vector(0, json!([])), vector(1, json!([]))]),
            _ => json!([vector(0, json!([1e300])), vector(1, json!([1.0]))]),
        };
        answer(200, json!({ "data": data, "usage": { "prompt_tokens": 4 } }).to_string())
    })
    .await;
    let client = client(&server.base, 1);
    let texts = ["a".to_owned(), "b".to_owned()];
    let response = client.embed(&texts, None).await.unwrap();
    assert_eq!((response.vectors, response.usage.total_tokens), (vec![vec![2.0, 3.0], vec![0.5, 1.0]], 4));
    for _ in 0..4 {
        assert!(matches!(client.embed(&texts, None).await, Err(ModelError::Failed { .. })));
    }
}

#[test]
fn the_key_is_in_no_debug_output_of_the_header() {
    let client = client("http://localhost:1/v1", 1);
    assert!(!format!("{:?}", client.authorization().unwrap()).contains(KEY));
}
