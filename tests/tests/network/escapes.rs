//! Ways around a rule: other spellings, other addresses, other hosts. All are refused, and all are on record.

use handshake_core::event::Outcome;
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::{Value, json};

use super::server::{Server, with_headers};
use super::{attempt, call, on, only_decision, only_outcome, request};

fn under(id: &str, addresses: &'static [&'static str]) -> Rights {
    Rights::granting(&["net.http"]).under(&[(id, addresses)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_a_guarded_address_is_not_connected_to() {
    let server = Server::saying("hello");
    let authority = format!("intranet.example:{}", server.port);
    let id = format!("net.http:http://{authority}");
    for answer in [
        &["127.0.0.1"][..],
        &["::ffff:127.0.0.1"],
        &["::1"],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["64:ff9b::7f00:1"],
        &["0.0.0.0"],
        &["10.0.0.1", "::1", "100.64.0.1"],
    ] {
        let runtime = TestRuntime::new();
        runtime.names.set("intranet.example", &[answer]);
        let done = call(&runtime, &under(&id, &[]), request(&authority, "/")).await;
        assert_eq!(done["error"], "DestinationIpProhibited", "{answer:?}: {done}");
        only_decision(&runtime, "net.http", Outcome::Allow);
        assert_eq!(only_outcome(&runtime, "net.http").result, "address-prohibited");
        assert!(
            runtime.watcher.lines().iter().any(|line| line.contains("addresses = [")),
            "{:?}",
            runtime.watcher.lines()
        );
    }
    assert_eq!(server.requests().len(), 0);

    let runtime = TestRuntime::new();
    runtime.names.set("intranet.example", &[&["127.0.0.1"]]);
    let done = call(&runtime, &under(&id, &["127.0.0.0/8"]), request(&authority, "/")).await;
    assert_eq!(done["text"], "hello", "the operator may name it: {done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_that_was_checked_is_the_one_that_is_connected_to() {
    let server = Server::saying("hello");
    let authority = format!("rebinding.example:{}", server.port);
    let rights = under(&format!("net.http:http://{authority}"), &["127.0.0.1"]);
    let runtime = TestRuntime::new();
    // A second look-up for the same request would give what is not allowed, or let pass what was refused.
    runtime.names.set("rebinding.example", &[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.2"], &["127.0.0.1"]]);
    let calls: Vec<_> = (0..4).map(|_| request(&authority, "/")).collect();
    let done = attempt(&runtime, &rights, json!(calls)).await.unwrap();
    let errors: Vec<_> = done.iter().map(|done| done["error"].as_str().unwrap_or("none")).collect();
    assert_eq!(errors, ["none", "DestinationIpProhibited", "DestinationIpProhibited", "none"]);
    assert_eq!((runtime.names.asked(), server.requests().len()), (4, 2));
    // One of several.
    runtime.names.set("rebinding.example", &[&["169.254.169.254", "127.0.0.1"]]);
    assert_eq!(call(&runtime, &rights, request(&authority, "/")).await["text"], "hello");
    assert_eq!(on(&runtime, "net.http").len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_an_address_gets_around_its_rule() {
    let (runtime, server) = (TestRuntime::new(), Server::saying("hello"));
    let port = server.port;
    // Wide open, but for the guarded addresses.
    let rights = under("net.http", &[]);
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "0",
        "user@127.0.0.1",
        "user:hunter22secret@127.0.0.1",
        "127.0.0.1@public.example",
        "%31%32%37.0.0.1",
    ];
    let mut refused = 0;
    for host in hosts {
        let done = call(&runtime, &rights, request(&format!("{host}:{port}"), "/")).await;
        assert_eq!(done["ok"], false, "{host}: {done}");
        // What is no authority at all for the bindings never becomes a request.
        if done["error"] != "not a request" {
            assert_eq!(done["error"], "HttpRequestDenied", "{host}: {done}");
            refused += 1;
        }
    }
    assert_eq!(server.requests().len(), 0);
    let decisions = on(&runtime, "net.http");
    assert_eq!(decisions.len(), refused);
    assert!(refused >= 15, "{refused}");
    assert!(decisions.iter().all(|decision| decision.decision_outcome == Outcome::Deny));
    assert!(!format!("{decisions:?}").contains("hunter22secret"), "a password is not for the record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_lines_cannot_be_injected() {
    let (runtime, server) = (TestRuntime::new(), Server::saying("hello"));
    let rights = under(&format!("net.http:{}", server.origin()), &[]);
    let with = |headers: Value| json!({ "do": "request", "scheme": "http", "authority": server.authority(), "path": "/", "headers": headers });
    for headers in [
        json!([["x-test", "1\r\nx-evil: 1"]]),
        json!([["x-test", "1\nx-evil: 1"]]),
        json!([["x-test\r\nx-evil", "1"]]),
        json!([["x-test", "1\u{0}"]]),
        json!([["host", "other.example"]]),
        json!([["transfer-encoding", "chunked"]]),
        json!([["connection", "upgrade"]]),
    ] {
        let done = call(&runtime, &rights, with(headers.clone())).await;
        assert_eq!(done["ok"], false, "{headers}: {done}");
    }
    for path in ["/ HTTP/1.1\r\nx-evil: 1\r\n\r\n", "/a b", "http://other.example/", "//other.example/\r\n"] {
        let done = call(&runtime, &rights, request(&server.authority(), path)).await;
        assert_eq!(done["ok"], false, "{path}: {done}");
    }
    for method in ["GET / HTTP/1.1\r\nx-evil: 1\r\n\r\nGET", "get", "CONNECT"] {
        let mut wanted = with(json!([]));
        wanted["method"] = method.into();
        assert_eq!(call(&runtime, &rights, wanted).await["ok"], false, "{method}");
    }
    assert_eq!(server.requests().len(), 0);
    // Nothing of it became a request that was allowed.
    assert!(on(&runtime, "net.http").iter().all(|decision| decision.decision_outcome == Outcome::Deny));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_another_decision() {
    let inner = Server::saying("inner");
    let location = format!("{}/secret", inner.origin());
    let outer = Server::answering(move |_| vec![with_headers("302 Found", &[("location", &location)], "")]);
    let mut wanted = request(&outer.authority(), "/");
    wanted["follow"] = true.into();

    let runtime = TestRuntime::new();
    let done = call(&runtime, &under(&format!("net.http:{}", outer.origin()), &[]), wanted.clone()).await;
    assert_eq!(done["error"], "HttpRequestDenied", "{done}");
    assert_eq!((outer.requests().len(), inner.requests().len()), (1, 0), "the host follows nothing by itself");
    let decided: Vec<_> = on(&runtime, "net.http").iter().map(|decision| decision.decision_outcome).collect();
    assert_eq!(decided, [Outcome::Allow, Outcome::Deny]);

    let runtime = TestRuntime::new();
    let (one, other) = (format!("net.http:{}", outer.origin()), format!("net.http:{}", inner.origin()));
    let both = Rights::granting(&["net.http"]).under(&[(&one, &[]), (&other, &[])]);
    assert_eq!(call(&runtime, &both, wanted).await["text"], "inner");
    assert_eq!(on(&runtime, "net.http").len(), 2);
}
