//! Sockets and names through the standard library of a guest.

use handshake_core::event::Outcome;
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::json;

use super::server::Server;
use super::{attempt, call, on, only_decision, only_outcome, outcomes};

const ALL: [&str; 3] = ["net.tcp", "net.udp", "net.dns"];

fn under(policy: &[(&str, &[&'static str])]) -> Rights {
    Rights::granting(&ALL).under(policy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_connection_is_one_decision_and_one_outcome_with_its_bytes() {
    let (runtime, server) = (TestRuntime::new(), Server::echoing());
    let id = format!("net.tcp:{}", server.authority());
    let done =
        call(&runtime, &under(&[(&id, &[])]), json!({ "do": "connect", "to": server.authority(), "send": "hello" }))
            .await;
    assert_eq!(done["text"], "hello", "{done}");
    let decision = only_decision(&runtime, "net.tcp", Outcome::Allow);
    assert_eq!(
        (decision.function.as_str(), decision.resource),
        ("[method]tcp-socket.start-connect", server.authority())
    );
    let outcome = only_outcome(&runtime, "net.tcp");
    assert_eq!((outcome.result.as_str(), outcome.bytes_in, outcome.bytes_out), ("ok", 5, 5));
    assert_eq!(server.requests(), ["hello"]);
    assert_eq!(runtime.recorder.effects().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_no_rule_names_reaches_nobody() {
    let server = Server::echoing();
    let elsewhere = format!("net.tcp:127.0.0.1:{}", server.port ^ 1);
    for rights in [
        Rights::granting(&[]),
        under(&[]),
        under(&[("net.tcp", &[])]),
        under(&[(&elsewhere, &[])]),
        under(&[("net.udp", &["127.0.0.1"])]),
    ] {
        let runtime = TestRuntime::new();
        let done = call(&runtime, &rights, json!({ "do": "connect", "to": server.authority(), "send": "hello" })).await;
        assert_eq!(done["error"], "PermissionDenied", "{done}");
        only_decision(&runtime, "net.tcp", Outcome::Deny);
        assert_eq!(outcomes(&runtime, "net.tcp"), []);
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_fails_says_how() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let runtime = TestRuntime::new();
    let id = format!("net.tcp:127.0.0.1:{port}");
    let done =
        call(&runtime, &under(&[(&id, &[])]), json!({ "do": "connect", "to": format!("127.0.0.1:{port}") })).await;
    assert_eq!(done["error"], "ConnectionRefused", "{done}");
    only_decision(&runtime, "net.tcp", Outcome::Allow);
    assert_eq!(only_outcome(&runtime, "net.tcp").result, "connection-refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_with_a_name_covers_the_addresses_that_were_looked_up() {
    let server = Server::echoing();
    let (name, literal) = (format!("db.example:{}", server.port), server.authority());
    let id = format!("net.tcp:{name}");
    let rights = under(&[(&id, &["127.0.0.1"]), ("net.dns:db.example", &[])]);

    let runtime = TestRuntime::new();
    runtime.names.set("db.example", &[&["127.0.0.1"]]);
    // The address alone is not what the rule names.
    let done = call(&runtime, &rights, json!({ "do": "connect", "to": literal })).await;
    assert_eq!(done["error"], "PermissionDenied", "{done}");

    let runtime = TestRuntime::new();
    runtime.names.set("db.example", &[&["127.0.0.1"]]);
    let done = call(&runtime, &rights, json!({ "do": "connect", "to": name, "send": "hello" })).await;
    assert_eq!(done["text"], "hello", "{done}");
    assert_eq!(only_decision(&runtime, "net.dns", Outcome::Allow).resource, "db.example");
    let decision = only_decision(&runtime, "net.tcp", Outcome::Allow);
    assert_eq!(decision.resource, format!("{literal} (db.example)"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_is_decided_with_the_address_that_was_asked_for() {
    let runtime = TestRuntime::new();
    let done = call(&runtime, &under(&[("net.tcp", &[])]), json!({ "do": "listen", "at": "127.0.0.1:0" })).await;
    assert_eq!(done["error"], "PermissionDenied", "{done}");
    let decision = only_decision(&runtime, "net.tcp", Outcome::Deny);
    assert_eq!(
        (decision.function.as_str(), decision.resource.as_str()),
        ("[method]tcp-socket.start-listen", "127.0.0.1:0")
    );

    let runtime = TestRuntime::new();
    let done =
        call(&runtime, &under(&[("net.tcp:127.0.0.1:0", &[])]), json!({ "do": "listen", "at": "127.0.0.1:0" })).await;
    assert_eq!(done["ok"], true, "{done}");
    only_decision(&runtime, "net.tcp", Outcome::Allow);
    assert_eq!(only_outcome(&runtime, "net.tcp").result, "ok");

    // A named port is taken by binding already.
    let runtime = TestRuntime::new();
    let done =
        call(&runtime, &under(&[("net.tcp:127.0.0.1:0", &[])]), json!({ "do": "listen", "at": "127.0.0.1:28471" }))
            .await;
    assert_eq!(done["error"], "PermissionDenied", "{done}");
    let decision = only_decision(&runtime, "net.tcp", Outcome::Deny);
    assert_eq!(
        (decision.function.as_str(), decision.resource.as_str()),
        ("[method]tcp-socket.start-bind", "127.0.0.1:28471")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_datagram_is_decided() {
    for connect in [false, true] {
        let (runtime, server) = (TestRuntime::new(), Server::echoing_datagrams());
        let id = format!("net.udp:{}", server.authority());
        let wanted =
            json!({ "do": "datagram", "to": server.authority(), "send": "hello", "connect": connect, "receive": true });
        let done = call(&runtime, &under(&[(&id, &[])]), wanted.clone()).await;
        assert_eq!(done["text"], "hello", "{done}");
        let decision = only_decision(&runtime, "net.udp", Outcome::Allow);
        assert_eq!(
            (decision.function.as_str(), decision.resource),
            ("[method]outgoing-datagram-stream.send", server.authority())
        );
        let outcome = only_outcome(&runtime, "net.udp");
        assert_eq!((outcome.result.as_str(), outcome.bytes_out), ("ok", 5));
        assert_eq!(server.requests(), ["hello"]);

        let runtime = TestRuntime::new();
        let mut silent = wanted;
        silent["receive"] = false.into();
        let done = call(&runtime, &under(&[("net.udp", &[])]), silent).await;
        assert_eq!(done["error"], "PermissionDenied", "{done}");
        only_decision(&runtime, "net.udp", Outcome::Deny);
        assert_eq!(server.requests().len(), 1);
    }
    let runtime = TestRuntime::new();
    let done = call(&runtime, &under(&[("net.udp", &[])]), json!({ "do": "bind", "at": "127.0.0.1:28472" })).await;
    assert_eq!(done["error"], "PermissionDenied", "{done}");
    assert_eq!(only_decision(&runtime, "net.udp", Outcome::Deny).resource, "127.0.0.1:28472");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_up_is_decided_and_gives_only_addresses_that_may_be_used() {
    let runtime = TestRuntime::new();
    runtime.names.set("mixed.example", &[&["10.0.0.1", "93.184.216.34", "::1"]]);
    runtime.names.set("inner.example", &[&["10.0.0.1"]]);
    let rights = under(&[("net.dns:*.example", &[])]);
    let look = |name: &str| json!({ "do": "lookup", "name": name });
    let done =
        attempt(&runtime, &rights, json!([look("Mixed.Example"), look("inner.example"), look("none.example")])).await;
    let done = done.unwrap();
    assert_eq!(done[0]["text"], "93.184.216.34", "{}", done[0]);
    assert_eq!((&done[1]["ok"], &done[2]["ok"]), (&json!(false), &json!(false)), "{done:?}");
    let results: Vec<_> = outcomes(&runtime, "net.dns").into_iter().map(|outcome| outcome.result).collect();
    assert_eq!(results, ["ok", "address-prohibited", "name-unresolved"]);
    assert_eq!(runtime.names.asked(), 3);

    let named = under(&[("net.dns:*.example", &[]), ("net.tcp:10.0.0.0/8:5432", &[])]);
    assert_eq!(call(&runtime, &named, look("inner.example")).await["text"], "10.0.0.1");

    let runtime = TestRuntime::new();
    let done = call(&runtime, &under(&[("net.dns:db.example", &[])]), look("other.example")).await;
    assert_eq!(done["ok"], false);
    only_decision(&runtime, "net.dns", Outcome::Deny);
    assert_eq!(runtime.names.asked(), 0, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_no_way_to_use_up_the_hosts_descriptors() {
    let runtime = TestRuntime::new();
    let done = call(&runtime, &Rights::granting(&[]), json!({ "do": "sockets" })).await;
    assert_eq!(done["text"], "64 new-socket-limit", "{done}");
    assert_eq!(on(&runtime, "net.tcp").len(), 0, "none of them reached anything");
}
