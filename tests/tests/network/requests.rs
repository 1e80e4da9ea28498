//! HTTP: the decision, the effect, the outcome.

use handshake_core::capability::Layer;
use handshake_core::event::{EventBody, Outcome};
use handshake_core::job::AccessMode;
use handshake_core::testing::Behaviour;
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::json;

use super::server::{Server, with_headers};
use super::{attempt, call, on, only_decision, only_outcome, outcomes, request};

fn allowed(id: &str) -> Rights {
    Rights::granting(&["net.http"]).under(&[(&format!("net.http:{id}"), &[])])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_request_is_one_decision_one_connection_and_one_outcome() {
    let (runtime, server) = (TestRuntime::new(), Server::saying("hello"));
    let wanted = json!({
        "do": "request", "method": "POST", "scheme": "http", "authority": server.authority(), "path": "/a/../v1?q=1",
        "headers": [["x-test", "1"], ["traceparent", "00-forged"], ["tracestate", "forged=1"]], "body": "twelve bytes",
    });
    let done = call(&runtime, &allowed(&server.origin()), wanted).await;
    assert_eq!((&done["status"], &done["text"]), (&json!(200), &json!("hello")), "{done}");

    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let seen = &requests[0];
    assert!(seen.starts_with("POST /v1?q=1 HTTP/1.1\r\n"), "what was decided on is what is sent: {seen}");
    assert!(seen.contains(&format!("host: {}\r\n", server.authority())), "{seen}");
    assert!(seen.contains("x-test: 1\r\n") && seen.ends_with("twelve bytes"), "{seen}");
    assert!(seen.contains("traceparent: 00-00000000000000000000000000007ace-"), "{seen}");
    assert!(!seen.contains("forged"), "{seen}");

    let decision = only_decision(&runtime, "net.http", Outcome::Allow);
    assert_eq!(decision.resource, format!("POST {}/v1?q=1", server.origin()));
    assert_eq!(decision.interface, "wasi:http/outgoing-handler@0.2");
    let outcome = only_outcome(&runtime, "net.http");
    assert_eq!((outcome.result.as_str(), outcome.bytes_in, outcome.bytes_out), ("ok", 5, 12));
    assert_eq!(outcome.call, decision.call);
    // It was noted with the attempt, for whoever recovers the run.
    assert_eq!(runtime.recorder.effects().len(), 1);
    let events = runtime.recorder.events();
    let is_decision = |body: &EventBody| matches!(body, EventBody::CapabilityAction(_));
    assert!(is_decision(&events[0].body), "the decision comes first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_layer_refuses_a_request_it_reaches_nobody() {
    let server = Server::saying("hello");
    let full = || allowed(&server.origin());
    for (rights, layer) in [
        (Rights { declared: Some(vec![]), ..full() }, Layer::Manifest),
        (Rights { granted: vec![], ..full() }, Layer::Grant),
        (Rights { granted: vec!["net.http:https://example.com"], ..full() }, Layer::Grant),
        (Rights { profile: Some(vec!["net.dns"]), ..full() }, Layer::Profile),
        (Rights { access_mode: AccessMode::PreviewOnly, ..full() }, Layer::AccessMode),
        (full().under(&[]), Layer::Policy),
        (allowed("http://127.0.0.1:1"), Layer::Policy),
        (allowed(&format!("{}/v2", server.origin())), Layer::Policy),
        (allowed(&format!("POST {}", server.origin())), Layer::Policy),
        (allowed(&format!("https://127.0.0.1:{}", server.port)), Layer::Policy),
        // A bare axis names no address of this machine.
        (full().under(&[("net.http", &[])]), Layer::Policy),
    ] {
        let runtime = TestRuntime::new();
        let done = call(&runtime, &rights, request(&server.authority(), "/v1")).await;
        assert_eq!(done["error"], "HttpRequestDenied", "{layer}: {done}");
        assert_eq!(only_decision(&runtime, "net.http", Outcome::Deny).layer, layer);
        assert_eq!(outcomes(&runtime, "net.http"), []);
        assert!(!runtime.watcher.lines().is_empty(), "whoever watches is told which line is missing");
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_record_there_is_no_request() {
    for behaviour in [Behaviour::Full, Behaviour::Fenced] {
        let (runtime, server) = (TestRuntime::new(), Server::saying("hello"));
        runtime.recorder.behave(behaviour);
        let done = call(&runtime, &allowed(&server.origin()), request(&server.authority(), "/")).await;
        assert_eq!(done["error"], "HttpRequestDenied");
        assert_eq!(server.requests(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_with_method_and_path_lets_nothing_else_through() {
    let (runtime, server) = (TestRuntime::new(), Server::saying("hello"));
    let rights = allowed(&format!("GET,HEAD {}/v1/", server.origin()));
    let paths =
        ["/v1/x", "/v1/../admin", "/v1/%2e%2e/admin", "/v1/..%2fadmin", "/v1/..%5Cadmin", "/v1x", "/V1/x", "/v1//x"];
    let calls: Vec<_> = paths.iter().map(|path| request(&server.authority(), path)).collect();
    let done = attempt(&runtime, &rights, json!(calls)).await.unwrap();
    let passed: Vec<_> = done.iter().map(|done| done["ok"].as_bool().unwrap()).collect();
    assert_eq!(passed, [true, false, false, false, false, false, false, false], "{done:#?}");
    let delete = json!({ "do": "request", "method": "DELETE", "scheme": "http", "authority": server.authority(), "path": "/v1/x" });
    assert_eq!(call(&runtime, &rights, delete).await["error"], "HttpRequestDenied");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(on(&runtime, "net.http").len(), paths.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_an_allowed_request_is_on_record() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let cut = Server::answering(|_| vec![b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".to_vec()]);
    let wrong = Server::answering(|_| vec![b"this is no HTTP\r\n\r\n".to_vec()]);
    let long = Server::answering(|_| vec![with_headers("200 OK", &[("x-long", &"x".repeat(80 << 10))], "hello")]);
    let endless = Server::answering(|_| vec![b"HTTP/1.1 200 OK\r\ncontent-length: 300000000\r\n\r\nhello".to_vec()]);
    for (port, error, label) in [
        (endless.port, "HttpResponseBodySize", "response-too-large"),
        (gone, "ConnectionRefused", "connection-refused"),
        (wrong.port, "HttpProtocolError", "protocol-error"),
        (long.port, "HttpResponseHeaderSectionSize", "response-headers-too-large"),
    ] {
        let runtime = TestRuntime::new();
        let rights = allowed(&format!("http://127.0.0.1:{port}"));
        let done = call(&runtime, &rights, request(&format!("127.0.0.1:{port}"), "/")).await;
        assert_eq!(done["error"], error, "{label}: {done}");
        only_decision(&runtime, "net.http", Outcome::Allow);
        assert_eq!(only_outcome(&runtime, "net.http").result, label);
    }
    let runtime = TestRuntime::new();
    let done = call(&runtime, &allowed(&cut.origin()), request(&cut.authority(), "/")).await;
    assert_eq!((&done["ok"], &done["text"]), (&json!(false), &json!("hello")), "{done}");
    let outcome = only_outcome(&runtime, "net.http");
    assert_eq!((outcome.result.as_str(), outcome.bytes_in), ("response-incomplete", 5));

    // A guest that reads no further.
    let (runtime, server) = (
        TestRuntime::new(),
        Server::answering(|_| {
            vec![
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec(),
                b"5\r\nworld\r\n".to_vec(),
            ]
        }),
    );
    let mut wanted = request(&server.authority(), "/");
    wanted["read"] = json!(5);
    call(&runtime, &allowed(&server.origin()), wanted).await;
    assert_eq!(only_outcome(&runtime, "net.http").result, "abandoned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nobody_has_and_a_server_that_says_nothing_are_errors_of_their_own() {
    let runtime = TestRuntime::new();
    let done = call(&runtime, &allowed("http://nobody.example"), request("nobody.example", "/")).await;
    assert_eq!(done["error"], "DnsError", "{done}");
    assert_eq!(only_outcome(&runtime, "net.http").result, "name-unresolved");

    let silent = Server::answering(|_| {
        std::thread::sleep(std::time::Duration::from_secs(3));
        vec![]
    });
    let runtime = TestRuntime::new();
    let mut wanted = request(&silent.authority(), "/");
    wanted["patience_ms"] = json!(200);
    let done = call(&runtime, &allowed(&silent.origin()), wanted).await;
    assert_eq!(done["error"], "ConnectionReadTimeout", "{done}");
    assert_eq!(only_outcome(&runtime, "net.http").result, "response-timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_ends_takes_its_requests_with_it() {
    let (runtime, server) = (
        TestRuntime::new(),
        Server::answering(|_| {
            std::thread::sleep(std::time::Duration::from_secs(5));
            vec![]
        }),
    );
    let calls = json!({ "calls": [request(&server.authority(), "/")] });
    let shorten = |invocation: &mut handshake_core::step::StepInvocation| {
        invocation.wall = std::time::Duration::from_millis(700);
    };
    let failure = runtime.run_with("client", calls, &allowed(&server.origin()), shorten).await.unwrap_err();
    assert!(matches!(failure, handshake_core::step::StepFailure::Timeout(_)), "{failure:?}");
    // The task that waits for the answer is aborted, and its permit says so.
    for _ in 0..100 {
        if !outcomes(&runtime, "net.http").is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(only_outcome(&runtime, "net.http").result, "abandoned");
}
