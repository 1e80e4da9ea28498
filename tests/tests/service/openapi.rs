//! The API's description: the one on file, the one that is served, and the documentation say the same.

use std::collections::BTreeSet;

use handshake_tests::binary::Project;
use handshake_tests::service::Service;
use reqwest::Client;
use serde_json::Value;

/// Every method and path, as the documentation writes them.
fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    let methods = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    methods.collect()
}

/// Every reference within the document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found.insert(reference.clone());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_description_is_the_one_on_file() {
    let printed = Project::bare().run(&["schema", "api"]).success().stdout;
    let file = handshake_tests::root().join("docs/openapi.json");
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(printed == kept, "the API has changed; write it down with: handshake schema api > docs/openapi.json");
}

#[test]
fn everything_that_it_refers_to_is_there_and_every_operation_is_documented() {
    let document = Project::bare().run(&["schema", "api"]).success().json();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let documented = std::fs::read_to_string(handshake_tests::root().join("docs/api.md")).unwrap();
    for operation in operations(&document) {
        let (method, path) = operation.split_once(' ').unwrap();
        // A row may name several: `POST /api/v1/jobs/{id}/pin`, `/unpin`.
        let last = format!("`/{}`", path.rsplit('/').next().unwrap());
        let of_method = |line: &&str| line.contains(&format!("`{method} ")) || line.contains(&format!("`{method}`"));
        let named = documented.lines().filter(of_method).any(|line| line.contains(path) || line.contains(&last));
        assert!(named, "{operation} is not in docs/api.md");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_served() {
    let service = Service::of(Project::bare());
    let token = service.token("submitter", "sam");
    let served = Client::new().get(service.url("/api/v1/openapi.json")).bearer_auth(token).send().await.unwrap();
    let served: Value = served.json().await.unwrap();
    let printed = service.project.run(&["schema", "api"]).success().json();
    assert_eq!(served, printed);
    assert_eq!(served["openapi"], "3.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_has_three_names() {
    let service = Service::of(Project::bare());
    let token = service.token("reviewer", "rex");
    let mut answers = Vec::new();
    for name in ["audit/events", "events", "flight_recorder"] {
        let url = service.url(&format!("/api/v1/{name}?limit=3&event_type=system"));
        let answer = Client::new().get(url).bearer_auth(&token).send().await.unwrap().error_for_status().unwrap();
        answers.push(answer.json::<Value>().await.unwrap()["events"].clone());
    }
    assert!(!answers[0].as_array().unwrap().is_empty());
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}
