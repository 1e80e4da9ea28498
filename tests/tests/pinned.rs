//! `jobs pin` keeps a job from the janitor, and it is on record who said so.

#![allow(clippy::unwrap_used)]

use handshake_tests::binary::Project;
use serde_json::json;

#[test]
fn a_pinned_job_is_kept_until_somebody_lets_go_of_it() {
    let project = Project::new();
    let flow = "name: one\nsteps:\n  - { id: one, uses: hostile, with: { behaviour: clock } }\n";
    let result = project.run_workflow(flow, &["--output", "json"]).success().json();
    let job = result["job"]["job_id"].as_str().unwrap().to_owned();
    let show = || project.run(&["jobs", "show", &job]).success().stdout;
    assert!(!show().contains("pinned"));
    let pinned = project.run(&["jobs", "pin", &job, "--output", "json"]).success().json();
    assert_eq!(pinned["job"]["is_pinned"], true);
    assert!(show().contains("pinned"));
    // A second time changes nothing, and is no news.
    project.run(&["jobs", "pin", &job]).success();
    let freed = project.run(&["jobs", "unpin", &job, "--output", "json"]).success().json();
    assert_eq!(freed["job"]["is_pinned"], false);
    assert!(!show().contains("pinned"));
    assert_eq!(project.run(&["jobs", "pin", "00000000-0000-0000-0000-0000000000ff"]).code, 2);

    let events = project.events("system");
    let of_job: Vec<_> = events.iter().filter(|event| event["job_id"] == json!(job)).collect();
    let kinds: Vec<_> = of_job.iter().map(|event| event["payload"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["job_pinned", "job_unpinned"]);
    assert!(of_job.iter().all(|event| event["actor"]["kind"] == "human"), "{of_job:?}");
}
