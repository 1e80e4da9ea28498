//! Placeholders become values in the headers of approved requests and nowhere else, and no value comes back.

use handshake_core::event::Outcome;
use handshake_core::step::StepFailure;
use handshake_tests::backends::secret_value;
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::{Value, json};

use super::server::{Server, ok, with_headers};
use super::{attempt, call, on, only_outcome};

fn value() -> String {
    secret_value("github")
}

/// Everything may be sent there, and the secret in `authorization`.
fn rights(server: &Server) -> Rights {
    let rights = Rights::granting(&["net.http", "secrets.use"]);
    let policy = [(format!("net.http:{}", server.origin()), &[][..]), ("secrets.use".to_owned(), &[][..])];
    let policy: Vec<_> = policy.iter().map(|(id, addresses)| (id.as_str(), *addresses)).collect();
    rights.under(&policy).with_secret("github", &server.origin(), "authorization")
}

fn with(server: &Server, headers: Value) -> Value {
    json!({ "do": "request", "method": "POST", "scheme": "http", "authority": server.authority(), "path": "/", "headers": headers })
}

fn is_nowhere(runtime: &TestRuntime, done: &Value) {
    let seen = format!("{:?} {:?} {done}", runtime.recorder.events(), runtime.watcher.lines());
    assert!(!seen.contains(&value()), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_server_gets_the_value_and_nobody_else_sees_it() {
    for (written, sent) in [
        ("Bearer {github}", format!("Bearer {}", value())),
        ("Basic {github}", format!("Basic {}", value())),
        ("token {github}", format!("token {}", value())),
        ("{github}", value()),
    ] {
        let (runtime, server) = (TestRuntime::new(), Server::saying("hello"));
        let done = call(&runtime, &rights(&server), with(&server, json!([["authorization", written]]))).await;
        assert_eq!(done["text"], "hello", "{done}");
        let request = server.requests().remove(0);
        assert!(request.contains(&format!("authorization: {sent}\r\n")), "{request}");
        // What is packed could not be looked through.
        assert!(request.contains("accept-encoding: identity\r\n"), "{request}");
        assert!(!request.contains("hsk-secret-"), "{request}");
        is_nowhere(&runtime, &done);
        assert_eq!(runtime.backends.reached()["secret value"], 1);
        let decided: Vec<_> = runtime.decisions().iter().map(|decision| decision.capability_id.clone()).collect();
        assert_eq!(decided, ["secrets.use", "net.http"]);
        assert_eq!(on(&runtime, "net.http")[0].secrets, ["github"], "the record names what went along");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placeholder_in_any_other_place_refuses_the_request_before_the_value_is_touched() {
    let server = Server::saying("hello");
    let unknown = format!("Bearer hsk-secret-{}", "0".repeat(32));
    let with_path =
        |path: &str| json!({ "do": "request", "scheme": "http", "authority": server.authority(), "path": path });
    for (wanted, says) in [
        (
            with(&server, json!([["x-api-key", "{github}"]])),
            "does not let secret `github` go to this server in header `x-api-key`",
        ),
        (with(&server, json!([["authorization", "Bearer x{github}"]])), "or more than the placeholder"),
        (with(&server, json!([["authorization", "Bearer {github} "]])), "or more than the placeholder"),
        (with(&server, json!([["authorization", "Digest {github}"]])), "or more than the placeholder"),
        (with(&server, json!([["authorization", unknown]])), "not of this attempt"),
        (with(&server, json!([["authorization", "Bearer {other}"]])), "no [[secret]] names it"),
        (with(&server, json!([["{github}", "x"]])), "is the name of a header"),
        (with_path("/?key={github}"), "stands in the URL"),
        (with_path("/{github}"), "stands in the URL"),
    ] {
        let runtime = TestRuntime::new();
        let done = call(&runtime, &rights(&server), wanted.clone()).await;
        assert_eq!(done["error"], "HttpRequestDenied", "{wanted}: {done}");
        let decisions = on(&runtime, "net.http");
        assert_eq!((decisions.len(), decisions[0].decision_outcome), (1, Outcome::Deny), "{wanted}");
        assert!(runtime.watcher.lines().join("\n").contains(says), "{wanted}: {:?}", runtime.watcher.lines());
        assert!(!runtime.backends.reached().contains_key("secret value"), "{wanted}");
        is_nowhere(&runtime, &done);
    }
    // Another server that is allowed, but not for the secret.
    let (runtime, other) = (TestRuntime::new(), Server::saying("hello"));
    let one = format!("net.http:{}", other.origin());
    let both = rights(&server).under(&[(&one, &[]), ("secrets.use", &[])]);
    let done = call(&runtime, &both, with(&other, json!([["authorization", "Bearer {github}"]]))).await;
    assert_eq!(done["error"], "HttpRequestDenied", "{done}");
    assert_eq!((server.requests().len(), other.requests().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placeholder_in_a_body_stays_one() {
    let (runtime, server) = (TestRuntime::new(), Server::saying("hello"));
    let mut wanted = with(&server, json!([["authorization", "Bearer {github}"]]));
    wanted["body"] = "my key is {github}".into();
    call(&runtime, &rights(&server), wanted).await;
    let request = server.requests().remove(0);
    let body = request.split_once("\r\n\r\n").unwrap().1;
    assert!(body.contains("my key is hsk-secret-") && !body.contains(&value()), "{request}");
}

async fn echoed(answer: impl Fn() -> Vec<Vec<u8>> + Send + 'static) {
    let (runtime, server) = (TestRuntime::new(), Server::answering(move |_| answer()));
    let calls = json!([with(&server, json!([["authorization", "Bearer {github}"]]))]);
    let failure = attempt(&runtime, &rights(&server), calls).await.unwrap_err();
    let StepFailure::Violation { kind, detail } = failure else { panic!("{failure:?}") };
    assert_eq!(kind, "secret_echoed");
    assert!(detail.contains("`github`") && !detail.contains(&value()), "{detail}");
    assert_eq!(only_outcome(&runtime, "net.http").result, "secret-echoed");
    is_nowhere(&runtime, &Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_sends_the_value_back_is_cut_off() {
    echoed(|| vec![ok(&format!("you sent {}", value()))]).await;
    echoed(|| vec![with_headers("200 OK", &[("x-echo", &value())], "hello")]).await;
    echoed(|| vec![with_headers("302 Found", &[("location", &format!("http://x.example/?k={}", value()))], "")]).await;
    // Byte by byte, in chunks of its own each.
    echoed(|| {
        let mut pieces = vec![b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
        pieces.extend(value().bytes().map(|byte| format!("1\r\n{}\r\n", char::from(byte)).into_bytes()));
        pieces.push(b"0\r\n\r\n".to_vec());
        pieces
    })
    .await;
    // In a trailer.
    echoed(|| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n";
        vec![format!("{head}5\r\nhello\r\n0\r\nx-echo: {}\r\n\r\n", value()).into_bytes()]
    })
    .await;
    echoed(|| vec![ok(&hex::encode(value()))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_answer_is_refused_once_a_value_was_sent() {
    let (runtime, server) = (
        TestRuntime::new(),
        Server::answering(|_| vec![with_headers("200 OK", &[("content-encoding", "gzip")], "hello")]),
    );
    let plain = call(&runtime, &rights(&server), with(&server, json!([]))).await;
    assert_eq!(plain["text"], "hello");
    let done = call(&runtime, &rights(&server), with(&server, json!([["authorization", "Bearer {github}"]]))).await;
    assert_eq!(done["error"], "HttpResponseContentCoding", "{done}");
}
