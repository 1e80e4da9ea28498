//! Tokens, hosts, origins, roles.

use std::time::Instant;

use handshake_tests::binary::Project;
use handshake_tests::service::Service;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

const WORKFLOW: &str = "name: nap\nsteps:\n  - { id: nap, sleep: 1ms }\n";

fn submission() -> Value {
    json!({ "workflow": { "file": "nap.yaml", "text": WORKFLOW } })
}

async fn ask(service: &Service, method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let mut request = Client::new().request(method, service.url(path)).json(&submission());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// How many jobs there are.
async fn jobs(service: &Service) -> usize {
    service.project.run(&["jobs", "list", "--output", "json"]).success().json()["jobs"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_does_nothing_and_is_on_record() {
    let service = Service::of(Project::new());
    let operator = service.token("operator", "ada");
    let bearer = format!("Bearer {operator}");
    let reviewer = format!("Bearer {}", service.token("reviewer", "rex"));
    let revoked = service.token("operator", "gone");
    assert_eq!(service.project.run(&["token", "revoke", "gone"]).code, 0);
    let wrong = format!("Bearer {}{}", &operator[..operator.len() - 2], "zz");
    let revoked = format!("Bearer {revoked}");
    let own = service.url("");
    let cookie = format!("handshake_session={operator}");
    // What it is, its headers, the status, and the reason on record.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let cases: &[Case<'_>] = &[
        ("no token", &[], 401, "no_token"),
        ("another scheme", &[("authorization", "Basic aGk=")], 401, "no_token"),
        ("no form of a token", &[("authorization", "Bearer letmein")], 401, "unknown_token"),
        ("a wrong secret", &[("authorization", &wrong)], 401, "unknown_token"),
        ("a revoked one", &[("authorization", &revoked)], 401, "revoked"),
        ("a lesser role", &[("authorization", &reviewer)], 403, "forbidden"),
        ("another host", &[("authorization", &bearer), ("host", "evil.example")], 403, "unknown_host"),
        ("another host with a port", &[("authorization", &bearer), ("host", "evil.example:7420")], 403, "unknown_host"),
        ("another origin", &[("authorization", &bearer), ("origin", "https://evil.example")], 403, "foreign_origin"),
        ("another port's origin", &[("cookie", &cookie), ("origin", "http://127.0.0.1:1")], 403, "foreign_origin"),
        ("a hidden origin", &[("cookie", &cookie), ("origin", "null")], 403, "foreign_origin"),
        ("another site's form", &[("cookie", &cookie), ("sec-fetch-site", "cross-site")], 403, "foreign_origin"),
    ];
    for (what, headers, status, _) in cases {
        let (got, body) = ask(&service, Method::POST, "/api/v1/jobs", headers).await;
        assert_eq!(got.as_u16(), *status, "{what}: {body}");
        let document: Value = serde_json::from_str(&body).unwrap();
        assert!(document["error"]["message"].is_string() && !body.contains(&operator), "{what}: {body}");
    }
    assert_eq!(jobs(&service).await, 0, "something was done");
    let refusals = service.events("auth_refusal");
    assert_eq!(refusals.len(), cases.len());
    for (event, (what, .., reason)) in refusals.iter().rev().zip(cases) {
        assert_eq!(event["payload"]["reason"], *reason, "{what}");
        assert_eq!(event["payload"]["attempted"], "POST /api/v1/jobs", "{what}");
        assert_eq!(event["payload"]["peer"], "127.0.0.1", "{what}");
    }
    let who: Vec<_> = refusals.iter().map(|event| event["actor"]["id"].as_str().unwrap()).collect();
    assert!(who.contains(&"token:gone") && who.contains(&"token:rex"), "{who:?}");

    // The same with what is right.
    for headers in [&[("authorization", bearer.as_str())][..], &[("cookie", &cookie), ("origin", &own)]] {
        let (status, body) = ask(&service, Method::POST, "/api/v1/jobs", headers).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    assert_eq!(jobs(&service).await, 2);
    let span = service.events("job_transition");
    assert!(
        span.iter().any(|event| event["actor"]["id"] == "token:ada" && event["actor"]["kind"] == "human"),
        "{span:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_is_its_own_and_nothing_else() {
    let service = Service::of(Project::new());
    let id = "01940000-0000-7000-8000-000000000000";
    let requests = [
        (Method::GET, "/api/v1/jobs".to_owned(), "submitter reviewer operator"),
        (Method::GET, "/api/v1/plugins".to_owned(), "submitter reviewer operator"),
        (Method::GET, "/api/v1/whoami".to_owned(), "submitter reviewer operator"),
        (Method::POST, "/api/v1/jobs".to_owned(), "submitter operator"),
        (Method::POST, format!("/api/v1/jobs/{id}/cancel"), "operator"),
        (Method::POST, format!("/api/v1/jobs/{id}/vote"), "reviewer operator"),
        (Method::GET, "/api/v1/audit/events".to_owned(), "reviewer operator"),
        (Method::GET, "/api/v1/documents".to_owned(), "reviewer operator"),
        (Method::POST, "/api/v1/documents".to_owned(), "operator"),
        (Method::POST, format!("/api/v1/audit/sign-offs/{id}"), "reviewer"),
        (Method::GET, "/api/v1/tokens".to_owned(), ""),
        (Method::POST, "/api/v1/tokens".to_owned(), ""),
        (Method::POST, "/api/v1/policy/reload".to_owned(), ""),
        (Method::POST, "/api/v1/plugins/check".to_owned(), ""),
        (Method::POST, "/api/v1/recorder/rebuild".to_owned(), ""),
    ];
    for role in ["submitter", "reviewer", "operator"] {
        let bearer = format!("Bearer {}", service.token(role, role));
        for (method, path, allowed) in &requests {
            let (status, body) = ask(&service, method.clone(), path, &[("authorization", &bearer)]).await;
            let expected = allowed.split(' ').any(|name| name == role);
            assert_eq!(status != StatusCode::FORBIDDEN, expected, "{role} {method} {path}: {status} {body}");
            assert_ne!(status, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_speaks_for_itself_and_for_nobody_else() {
    let service = Service::of(Project::new());
    let bot = service.project.run(&["token", "new", "--role", "submitter", "--name", "bot", "--agent", "--quiet"]);
    let bearer = format!("Bearer {}", bot.success().stdout.trim());
    let client = Client::new();
    let post = |body: Value| {
        let request = client.post(service.url("/api/v1/jobs")).header("authorization", &bearer).json(&body);
        async { request.send().await.unwrap() }
    };
    // Where paths start is the owner's to say.
    let mut elsewhere = submission();
    elsewhere["base"] = json!("/");
    assert_eq!(post(elsewhere).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(post(submission()).await.status(), StatusCode::CREATED);
    let submitted = service.events("job_transition");
    assert!(submitted.iter().any(|event| event["actor"]["id"] == "token:bot" && event["actor"]["kind"] == "agent"));

    // Programs answer for nobody.
    let clerk = service.project.run(&["token", "new", "--role", "operator", "--name", "clerk", "--agent", "--quiet"]);
    let id = "01940000-0000-7000-8000-000000000000";
    let vote = client.post(service.url(&format!("/api/v1/jobs/{id}/vote"))).bearer_auth(clerk.success().stdout.trim());
    assert_eq!(vote.json(&json!({ "approve": true })).send().await.unwrap().status(), StatusCode::FORBIDDEN);

    // One key, one job, whether it comes in the header or in the body.
    let keyed = |key: &'static str| {
        let request = client.post(service.url("/api/v1/jobs")).header("authorization", &bearer);
        let request = request.header("idempotency-key", key).json(&submission());
        async { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let (first, second, other) = (keyed("a").await, keyed("a").await, keyed("b").await);
    assert_eq!(first["job_id"], second["job_id"]);
    assert_eq!((&first["existing"], &second["existing"]), (&json!(false), &json!(true)));
    assert_ne!(first["job_id"], other["job_id"]);
    let mut body = submission();
    body["idempotency_key"] = json!("a");
    assert_eq!(post(body).await.json::<Value>().await.unwrap()["job_id"], first["job_id"]);

    // A reviewer signs with the own name.
    let who = client.get(service.url("/api/v1/whoami")).header("authorization", &bearer);
    let who: Value = who.send().await.unwrap().json().await.unwrap();
    assert_eq!(who, json!({ "actor": { "kind": "agent", "id": "token:bot" }, "role": "submitter" }));
    let rex = format!("Bearer {}", service.token("reviewer", "rex"));
    let run = &first["run_id"].as_str().unwrap();
    service.project.run(&["jobs", "watch", first["job_id"].as_str().unwrap()]).success();
    let sign = |body: Value| {
        let path = service.url(&format!("/api/v1/audit/sign-offs/{run}"));
        let request = client.post(path).header("authorization", &rex).json(&body);
        async { request.send().await.unwrap() }
    };
    let forged = sign(json!({ "name": "ada", "verdict": "accept" })).await;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    let signed: Value = sign(json!({ "verdict": "accept", "note": "looked at" })).await.json().await.unwrap();
    assert_eq!(signed["statement"]["name"], "token:rex", "{signed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_a_name_that_approvals_can_ask_for() {
    let service = Service::of(Project::new());
    let asks = "name: asks\nsteps:\n  - id: ask\n    approval: { by: reviewer, prompt: go on? }\n";
    service.project.write("asks.yaml", asks);
    let job = service.project.run(&["run", "asks.yaml", "--detach", "--output", "json"]).success().json();
    let job = job["job_id"].as_str().unwrap().to_owned();
    let vote = async |token: &str| {
        let path = service.url(&format!("/api/v1/jobs/{job}/vote"));
        let request = Client::new().post(path).bearer_auth(token).json(&json!({ "approve": true }));
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let (operator, reviewer) = (service.token("operator", "ada"), service.token("reviewer", "rex"));
    // It may still be on its way to the question.
    let refused = loop {
        let refused = vote(&operator).await;
        if !refused.1.contains("asks nothing") {
            break refused;
        }
    };
    assert!(refused.1.contains("token:ada"), "{refused:?}");
    assert_eq!(vote(&reviewer).await.0, StatusCode::OK);
    assert_eq!(service.project.run(&["jobs", "watch", &job]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_on_the_page_is_on_record_too() {
    let service = Service::of(Project::bare());
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let log_in = |token: String| {
        let form = format!("token={token}&next=/recorder");
        let request = client.post(service.url("/login")).header("content-type", "application/x-www-form-urlencoded");
        async { request.body(form).send().await.unwrap() }
    };
    assert_eq!(log_in("hsk_wrong".into()).await.status(), StatusCode::UNAUTHORIZED);
    let refused = service.events("auth_refusal");
    assert_eq!((refused.len(), &refused[0]["payload"]["attempted"]), (1, &json!("POST /login")));
    let right = log_in(service.token("reviewer", "rex")).await;
    assert_eq!((right.status(), right.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/recorder"));
    let cookie = right.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_is_revoked() {
    let service = Service::of(Project::bare());
    let token = service.token("reviewer", "rex");
    let mut stream = Client::new().get(service.url("/api/v1/recorder/live")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    assert_eq!(service.project.run(&["token", "revoke", "rex"]).code, 0);
    let ended = async { while stream.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.expect("the stream goes on");
}

/// Not how long it takes, which a busy machine decides, but how often one is told from the other by it.
#[tokio::test(flavor = "multi_thread")]
async fn time_does_not_tell_tokens_apart() {
    let service = Service::of(Project::bare());
    let token = service.token("operator", "ada");
    let known = format!("{}{}", &token[..token.len() - 2], if token.ends_with("AA") { "AE" } else { "AA" });
    let unknown = format!("hsk_{}_{}", "0".repeat(32), &known[known.len() - 43..]);
    let client = Client::new();
    let mut faster = 0;
    const ROUNDS: usize = 25;
    for round in 0..ROUNDS {
        let mut times = [0; 2];
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let token = [&known, &unknown][which];
            let start = Instant::now();
            let answer = client.get(service.url("/api/v1/whoami")).bearer_auth(token).send().await.unwrap();
            times[which] = start.elapsed().as_nanos();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        }
        faster += usize::from(times[0] < times[1]);
    }
    // With a coin, once in a million times outside of this.
    assert!((1..ROUNDS).contains(&faster), "a known id is faster in {faster} of {ROUNDS}");
}

#[test]
fn what_is_wrong_with_a_token_command_is_told() {
    let project = Project::new();
    let says = |arguments: &[&str], texts: &[&str]| {
        let said = project.run(arguments);
        assert_eq!(said.code, 2, "{said:?}");
        texts.iter().for_each(|text| assert!(said.stderr.contains(text), "`{text}` is missing: {said:?}"));
    };
    let new = |role, name| ["token", "new", "--role", role, "--name", name];
    says(&new("owner", "a"), &["roles are operator, reviewer and submitter"]);
    says(&new("admin", "a"), &["roles are operator, reviewer and submitter"]);
    says(&new("operator", "a b"), &["a token's name has 1 to 64 letters"]);
    says(&new("operator", ""), &["a token's name has 1 to 64 letters"]);
    says(&[&new("operator", "a")[..], &["--expires", "soon"]].concat(), &["`soon` is not a length of time", "never"]);
    says(&[&new("reviewer", "a")[..], &["--agent"]].concat(), &["a program cannot be a reviewer"]);
    project.run(&new("operator", "ada")).success();
    says(&new("reviewer", "ada"), &["token `ada` exists already"]);
    says(&["token", "revoke", "bob"], &["no token `bob`", "handshake token list"]);
    project.run(&["token", "revoke", "ada"]).success();
    says(&["token", "revoke", "ada"], &["no token `ada`"]);
    let listed = project.run(&["token", "list"]).success();
    assert!(listed.stdout.contains("revoked 2"), "{listed:?}");
    let events = project.events("system");
    let kinds: Vec<_> = events.iter().filter_map(|event| event["payload"]["kind"].as_str()).collect();
    assert!(kinds.contains(&"token_created") && kinds.contains(&"token_revoked"), "{kinds:?}");
}
