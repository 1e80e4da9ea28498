//! Jobs that were interrupted or failed, at the command line: what the next process does by itself, what it asks, and
//! what a person can do.

#![allow(clippy::unwrap_used)]

use handshake_tests::binary::{Finished, Project};

/// A step that is done at once, then one that writes a file, and one that sleeps for a second.
fn workflow(more: &str) -> String {
    format!(
        "name: interrupted\njob: {{ access_mode: apply_scoped }}\nmounts:\n  out: {{ path: report, access: write }}\nsteps:\n  \
         - {{ id: write, uses: hostile, with: {{ behaviour: write-file }}, grants: ['fs.write:out'] }}\n  \
         - {{ id: sleep, uses: hostile, needs: [write], with: {{ behaviour: sleep-forever, count: 1 }}{more} }}\n"
    )
}

/// Runs a workflow until it sleeps, and kills its host there. Returns the job.
fn kill(project: &Project, workflow: &str) -> String {
    project.write("flow.yaml", workflow);
    let mut running = project.start(&["run", "flow.yaml"]);
    running.wait_for("sleep: started");
    running.kill();
    let listed = project.run(&["jobs", "list", "--output", "json"]).success().json();
    listed["jobs"][0]["job_id"].as_str().unwrap().to_owned()
}

fn show(project: &Project, job: &str) -> serde_json::Value {
    project.run(&["jobs", "show", job, "--output", "json"]).success().json()
}

fn attempts(details: &serde_json::Value) -> Vec<String> {
    let runs = details["runs"].as_array().unwrap();
    let nodes = runs.iter().flat_map(|run| run["nodes"].as_array().unwrap());
    let words = nodes.map(|node| {
        let step = node["node"]["step"].as_str().unwrap();
        format!("{step} {} {}", node["attempt"], node["state"].as_str().unwrap())
    });
    words.collect()
}

fn says(result: &Finished, code: i32, text: &str) {
    assert_eq!(result.code, code, "{result:?}");
    assert!(result.stderr.contains(text), "`{text}` is missing: {result:?}");
}

#[test]
fn an_interrupted_job_goes_on_with_the_next_process_that_takes_jobs() {
    let project = Project::new();
    let job = kill(&project, &workflow(""));
    assert_eq!(show(&project, &job)["job"]["state"], "stalled", "a command that only looks does not execute");
    project.write("other.yaml", "name: other\nsteps:\n  - { id: one, uses: hostile, with: { behaviour: clock } }\n");
    project.run(&["run", "other.yaml"]).success();
    let details = show(&project, &job);
    assert_eq!(details["job"]["state"], "completed");
    assert_eq!(attempts(&details), ["sleep 1 interrupted", "sleep 2 completed", "write 1 completed"]);
    let recoveries = project.events("workflow_recovery");
    assert_eq!(recoveries.len(), 1);
    assert_eq!(recoveries[0]["actor"]["kind"], "system");
}

#[test]
fn a_step_that_says_so_waits_for_a_person_who_lets_it_go_on() {
    let project = Project::new();
    let job = kill(&project, &workflow(", recovery: manual"));
    let details = show(&project, &job);
    assert_eq!(details["job"]["state"], "awaiting_user");
    let reason = details["job"]["status_reason"].as_str().unwrap();
    assert!(reason.contains("`sleep`") && reason.contains(&format!("handshake jobs resume {job}")), "{reason}");
    project.write("other.yaml", "name: other\nsteps:\n  - { id: one, uses: hostile, with: { behaviour: clock } }\n");
    project.run(&["run", "other.yaml"]).success();
    assert_eq!(show(&project, &job)["job"]["state"], "awaiting_user", "nobody has decided");

    project.run(&["jobs", "resume", &job]).success();
    let details = show(&project, &job);
    assert_eq!(details["job"]["state"], "completed");
    let moves = project.events("job_transition");
    let resumed = moves.iter().find(|event| event["payload"]["from_state"] == "awaiting_user").unwrap();
    assert_eq!(resumed["actor"]["kind"], "human", "it is on record who let it go on");
    says(&project.run(&["jobs", "resume", &job]), 2, "only a job that waits or was interrupted goes on");
    says(&project.run(&["jobs", "cancel", &job]), 2, "has ended already");
    says(&project.run(&["jobs", "retry", &job]), 2, "a job that is `completed` cannot `retry`");
}

#[test]
fn a_waiting_job_can_be_cancelled_and_then_tried_again() {
    let project = Project::new();
    let job = kill(&project, &workflow(", recovery: manual"));
    project.run(&["jobs", "cancel", &job]).success();
    assert_eq!(show(&project, &job)["job"]["state"], "cancelled");
    says(&project.run(&["jobs", "resume", &job]), 2, "`cancelled`");
    says(&project.run(&["jobs", "retry", &job, "--from", "wirte"]), 2, "it has write, sleep");

    let again = project.run(&["jobs", "retry", &job, "--output", "json"]).success().json();
    assert_eq!(again["job"]["state"], "completed");
    assert_eq!(again["runs"].as_array().unwrap().len(), 2);
    let expected = ["sleep 1 interrupted", "write 1 completed", "sleep 1 completed", "write 1 completed"];
    assert_eq!(attempts(&again), expected);
    let writes = project.run(&["audit", "decisions", "--capability", "fs.write", "--output", "json"]).success().json();
    let runs: std::collections::BTreeSet<_> = writes["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"]["workflow_run_id"].to_string())
        .collect();
    assert_eq!(runs.len(), 1, "what was completed is not run again");
}

#[test]
fn a_job_is_paused_and_watched_from_another_terminal() {
    let project = Project::new();
    let text = "name: slow\nsteps:\n  - { id: nap, uses: hostile, for_each: '[1, 2, 3, 4, 5, 6]', max_parallel: 1, \
                with: { behaviour: sleep-forever, count: 1 } }\n";
    project.write("flow.yaml", text);
    let mut running = project.start(&["run", "flow.yaml"]);
    running.wait_for("nap: started");
    let listed = project.run(&["jobs", "list", "--output", "json"]).success().json();
    let job = listed["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    let watching = project.start(&["jobs", "watch", &job]);
    project.run(&["jobs", "pause", &job]).success();
    let ran = running.finish();
    assert_eq!(ran.code, 4, "it waits for a person: {ran:?}");
    assert!(watching.finish().stdout.contains("awaiting_user"));
    let done = attempts(&show(&project, &job));
    assert!(!done.is_empty() && done.len() < 6 && done.iter().all(|node| node == "nap 1 completed"), "{done:?}");

    let resumed = project.run(&["jobs", "resume", &job]).success();
    assert!(resumed.stdout.contains("completed"), "{resumed:?}");
    let over = project.run(&["jobs", "watch", &job]).success();
    assert!(over.stdout.contains("completed"), "{over:?}");
    says(&project.run(&["jobs", "pause", &job]), 2, "only a job that is executed here can be paused");
}

#[test]
fn typing_errors_in_the_commands_for_jobs() {
    let project = Project::new();
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    for command in ["resume", "retry", "cancel", "pause", "watch"] {
        says(&project.run(&["jobs", command, "not-an-id"]), 2, "not-an-id");
        says(&project.run(&["jobs", command, unknown]), 2, unknown);
        says(&project.run(&["jobs", command]), 2, "ID");
    }
    says(&project.run(&["jobs", "retry", unknown, "--from", "Not A Step"]), 2, "Not A Step");
    says(&project.run(&["jobs", "resum", unknown]), 2, "resume");
}
