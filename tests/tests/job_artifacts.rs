//! The large values of a job, for people: listed, written to a file, decided on and on record like any other reading.

#![allow(clippy::unwrap_used)]

use handshake_core::Digest;
use handshake_tests::binary::Project;
use handshake_tests::service::Service;
use reqwest::Client;
use serde_json::Value;

fn job(project: &Project, text: &str) -> String {
    project.write("docs/a.md", text);
    project.summarize(&[]).success();
    let listed = project.run(&["jobs", "list", "--limit", "1", "--output", "json"]).success().json();
    listed["jobs"][0]["job_id"].as_str().unwrap().to_owned()
}

fn artifacts(project: &Project, job: &str) -> Vec<Value> {
    let listed = project.run(&["jobs", "artifacts", job, "--output", "json"]).success().json();
    listed["artifacts"].as_array().unwrap().clone()
}

#[test]
fn artifacts_of_a_job_are_listed_and_written_to_a_file_and_of_no_other_job() {
    let project = Project::new();
    let (first, second) = (job(&project, "Gates decide.\n"), job(&project, "Records remember.\n"));
    let listed = artifacts(&project, &first);
    let digest = Digest::of(b"Gates decide.\n").to_string();
    assert!(listed.iter().any(|one| one["id"] == *digest && one["size"] == 14), "{listed:?}");
    let table = project.run(&["jobs", "artifacts", &first]).success();
    assert!(table.stdout.contains(&digest) && table.stdout.contains("text/markdown"), "{table:?}");

    let before = project.events("capability_action").len();
    project.run(&["jobs", "artifacts", &first, &digest, "-o", "out.md"]).success();
    assert_eq!(std::fs::read(project.path("out.md")).unwrap(), b"Gates decide.\n");
    let decided = project.events("capability_action");
    assert_eq!(decided.len(), before + 1);
    let decided = decided.iter().find(|event| event["actor"]["kind"] == "human").unwrap();
    assert_eq!(decided["capability_id"], "artifact.read");

    let refused = |arguments: &[&str], says: &str| {
        let finished = project.run(&[&["jobs", "artifacts"], arguments].concat());
        assert_eq!(finished.code, 2, "{finished:?}");
        assert!(finished.stderr.contains(says), "`{says}`: {finished:?}");
    };
    refused(&[&second, &digest, "-o", "other.md"], "artifact");
    refused(&[&first, &Digest::of(b"nothing").to_string(), "-o", "other.md"], "artifact");
    assert!(!project.path("other.md").exists());
    refused(&[&first, &digest, "-o", "out.md"], "exists");
    refused(&[&first, &digest], "--file");
    refused(&[&first, "abc", "-o", "other.md"], "abc");
    refused(&["0192c1d4-0000-7000-8000-000000000001"], "0192c1d4");
}

#[test]
fn a_policy_that_denies_reading_artifacts_denies_it_to_people_as_well() {
    let project = Project::new();
    let job = job(&project, "Gates decide.\n");
    let digest = artifacts(&project, &job)[0]["id"].as_str().unwrap().to_owned();
    let policy = std::fs::read_to_string(project.path("policy.toml")).unwrap();
    project.write("policy.toml", format!("{policy}\n[[deny]]\ncapability = \"artifact.read\"\n"));
    let denied = project.run(&["jobs", "artifacts", &job, &digest, "-o", "out.md"]);
    assert_eq!(denied.code, 3, "{denied:?}");
    assert!(denied.stderr.contains("artifact.read") && !project.path("out.md").exists(), "{denied:?}");
}

#[tokio::test]
async fn over_the_network_they_come_as_a_file_that_no_browser_shows() {
    let project = Project::new();
    let job = job(&project, "<script>alert(1)</script>\n");
    let service = Service::of(project);
    let token = service.token("submitter", "sub");
    let url = service.url(&format!("/api/v1/jobs/{job}/artifacts"));
    let client = Client::new();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    let list: Value = client.get(&url).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    let digest = Digest::of(b"<script>alert(1)</script>\n").to_string();
    assert!(list["artifacts"].as_array().unwrap().iter().any(|one| one["id"] == *digest), "{list}");
    let answer = client.get(format!("{url}/{digest}")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert!(header("content-disposition").starts_with("attachment"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("handshake-media-type").starts_with("text/markdown"));
    assert_eq!(answer.bytes().await.unwrap(), &b"<script>alert(1)</script>\n"[..]);
    for id in ["0", "..%2f..%2fkeys%2frecorder.pem"] {
        let status = client.get(format!("{url}/{id}")).bearer_auth(&token).send().await.unwrap().status();
        assert_eq!(status, 404, "{id}");
    }
}
