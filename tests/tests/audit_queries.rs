//! The review commands of the real binary: filters, pages, following, traces, exports, and what they say when
//! something is mistyped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use handshake_tests::binary::{Finished, Project};
use serde_json::Value;

/// A project in which three documents were summarized.
fn summarized() -> Project {
    let project = Project::new();
    for n in 0..3 {
        project.write(&format!("docs/{n}.md"), format!("# {n}\n\nThe first sentence. The second one. The third.\n"));
    }
    project.summarize(&["--quiet"]).success();
    project
}

fn events(project: &Project, more: &[&str]) -> Vec<Value> {
    let page = project.run(&[&["audit", "events", "--output", "json", "--limit", "1000"], more].concat());
    page.success().json()["events"].as_array().unwrap().clone()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_filter_leaves_exactly_what_matches_it() {
    let project = summarized();
    let all = events(&project, &[]);
    assert!(all.windows(2).all(|pair| pair[0]["seq"].as_u64() > pair[1]["seq"].as_u64()), "newest first");
    let picked = all.iter().find(|event| event["event"]["event_type"] == "capability_action").unwrap();
    let event = &picked["event"];
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    let recorded_at = picked["recorded_at"].as_str().unwrap().to_owned();
    let actor = event["actor"]["id"].as_str().unwrap().to_owned();
    type Matches = Box<dyn Fn(&Value) -> bool>;
    let same = |pointer: &'static str, value: String| -> Matches {
        Box::new(move |event| event.pointer(pointer).and_then(Value::as_str) == Some(value.as_str()))
    };
    let since = recorded_at.clone();
    let until = recorded_at.clone();
    let cases: Vec<(&str, String, Matches)> = vec![
        ("--event", text("event_id"), same("/event/event_id", text("event_id"))),
        ("--job", text("job_id"), same("/event/job_id", text("job_id"))),
        ("--run", text("workflow_run_id"), same("/event/workflow_run_id", text("workflow_run_id"))),
        ("--trace", text("trace_id"), same("/event/trace_id", text("trace_id"))),
        ("--step", text("step_id"), same("/event/step_id", text("step_id"))),
        ("--from", recorded_at.clone(), Box::new(move |event| event["recorded_at"].as_str() >= Some(&since))),
        ("--to", recorded_at, Box::new(move |event| event["recorded_at"].as_str() < Some(&until))),
        ("--actor", actor.clone(), same("/event/actor/id", actor)),
        ("--surface", "plugin".into(), same("/event/actor/kind", "agent".into())),
        ("--type", "span_end".into(), same("/event/event_type", "span_end".into())),
        ("--capability", text("capability_id"), same("/event/capability_id", text("capability_id"))),
        ("--outcome", "allow".into(), same("/event/payload/decision_outcome", "allow".into())),
        ("--workspace", "none".into(), Box::new(|_| false)),
    ];
    for (option, value, matches) in cases {
        let expected: Vec<&Value> = all.iter().filter(|event| matches(event)).collect();
        assert!(option == "--workspace" || !expected.is_empty(), "{option}");
        assert_eq!(events(&project, &[option, &value]).iter().collect::<Vec<_>>(), expected, "{option} {value}");
    }
}

#[test]
fn pages_follow_each_other_and_text_says_how() {
    let project = summarized();
    let all = events(&project, &[]);
    let mut seen = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let mut arguments = vec!["audit", "events", "--output", "json", "--limit", "7"];
        if let Some(place) = &before {
            arguments.extend(["--before", place]);
        }
        let page = project.run(&arguments).success().json();
        seen.extend(page["events"].as_array().unwrap().clone());
        before = page["next"].as_str().map(str::to_owned);
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, all);
    let text = project.run(&["audit", "events", "--limit", "2"]).success();
    assert!(text.stdout.contains("span_end") && text.stderr.contains("more: the same with --before "), "{text:?}");
    assert_eq!(text.stdout.lines().count(), 3, "{text:?}");
}

#[test]
fn a_trace_is_a_tree_by_its_own_id_its_jobs_and_its_runs() {
    let project = summarized();
    let event = events(&project, &["--type", "llm_inference"]).remove(0)["event"].take();
    let id = |name: &str| event[name].as_str().unwrap().to_owned();
    let by_trace = project.run(&["audit", "trace", &id("trace_id"), "--output", "json"]).success().json();
    for name in ["job_id", "workflow_run_id"] {
        assert_eq!(project.run(&["audit", "trace", &id(name), "--output", "json"]).success().json(), by_trace);
    }
    let job = &by_trace["nodes"][0];
    assert_eq!((&job["kind"], &job["result"]), (&"job".into(), &"ok".into()), "{by_trace}");
    let run = job["children"].as_array().unwrap().iter().find(|node| node["kind"] == "run").unwrap();
    let steps: Vec<&Value> = run["children"].as_array().unwrap().iter().filter(|node| node["kind"] == "step").collect();
    assert_eq!(steps.len(), 5, "read, three summaries, write");
    assert!(steps.iter().all(|step| step["result"] == "ok" && step["duration_us"].as_u64() > Some(0)));
    let models = steps.iter().flat_map(|step| step["children"].as_array().into_iter().flatten()).filter(|decision| {
        decision["kind"] == "decision"
            && decision["children"]
                .as_array()
                .is_some_and(|inner| inner.iter().any(|node| node["kind"] == "model_call"))
    });
    assert_eq!(models.count(), 3);

    let text = project.command(&["audit", "trace", &id("job_id")]).env("COLUMNS", "80").output().unwrap();
    let text = Finished::from(text).success().stdout;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for part in ["BEGAN", "job ", "├ run ", "├ step read", "model.infer", "model default ok"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn exports_hold_every_event_in_order_and_overwrite_nothing() {
    let project = summarized();
    let mut all = events(&project, &[]);
    all.reverse();
    let printed = project.run(&["audit", "export"]).success();
    assert_eq!(lines(&printed.stdout), all);

    let path = project.path("events.jsonl");
    let export = |more: &[&str]| project.run(&[&["audit", "export", "-o", "events.jsonl"], more].concat());
    let done = export(&["--output", "json"]).success().json();
    assert_eq!((&done["events"], &done["format"]), (&all.len().into(), &"jsonl".into()));
    assert_eq!(lines(&std::fs::read_to_string(&path).unwrap()), all);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let refused = export(&[]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("exists") && refused.stderr.contains("--force"), "{refused:?}");
    export(&["--force", "--type", "span_end"]).success();
    assert!(
        lines(&std::fs::read_to_string(&path).unwrap()).iter().all(|event| event["event"]["event_type"] == "span_end")
    );

    let csv = project.run(&["audit", "export", "--format", "csv", "--type", "capability_action"]).success().stdout;
    let decisions = all.iter().filter(|event| event["event"]["event_type"] == "capability_action").count();
    assert_eq!(csv.lines().count(), decisions + 1);
    assert!(csv.starts_with("recorded_at,host,seq,hash,event_id,event_type,"), "{csv}");

    project.run(&["audit", "export", "--format", "parquet", "-o", "events.parquet"]).success();
    let parquet = std::fs::read(project.path("events.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    assert_eq!(std::fs::metadata(project.path("events.parquet")).unwrap().permissions().mode() & 0o777, 0o600);
    let left: BTreeSet<_> = std::fs::read_dir(project.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("export") || name.contains("part"))
        .collect();
    assert_eq!(left, BTreeSet::new(), "nothing is left behind");
}

#[test]
fn reading_and_following_work_while_a_workflow_is_executed_by_another_process() {
    let project = Project::new();
    for n in 0..60 {
        project.write(&format!("docs/{n}.md"), format!("# {n}\n\nThe first sentence. The second one. The third.\n"));
    }
    let mut serve = project.start(&["serve"]);
    serve.wait_for("serves");
    // It tells on standard error when it has begun, in text alone.
    let mut follow = project.start(&["audit", "events", "--follow", "--type", "llm_inference"]);
    follow.wait_for("following");
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml");
    let running = project.start(&["run", workflow.to_str().unwrap(), "-i", "folder=docs", "--quiet"]);
    let mut answers = Vec::new();
    while answers.last() != Some(&60) {
        let page = events(&project, &["--type", "llm_inference"]);
        answers.push(page.len());
    }
    assert!(answers.windows(2).all(|pair| pair[0] <= pair[1]), "{answers:?}");
    running.finish().success();
    let exported = project.run(&["audit", "export", "--type", "llm_inference"]).success();
    assert_eq!(lines(&exported.stdout).len(), 60);

    let seen = follow.read_lines(60);
    assert!(seen.iter().all(|line| line.contains("llm_inference") && line.contains("default")), "{seen:?}");
    follow.signal(rustix::process::Signal::INT);
    assert_eq!(follow.finish().code, 0);
    // From a time on it shows the earlier ones, too, and as JSON one a line.
    let begin = "2026-01-01T00:00:00Z";
    let arguments = ["audit", "events", "--follow", "--output", "json", "--type", "llm_inference", "--from", begin];
    let mut follow = project.start(&arguments);
    let seqs: Vec<u64> =
        lines(&follow.read_lines(60).join("\n")).iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    follow.signal(rustix::process::Signal::TERM);
    assert_eq!(follow.finish().code, 0);
    serve.signal(rustix::process::Signal::TERM);
    serve.finish();
}

#[test]
fn mistyped_arguments_are_told_with_what_would_be_right() {
    let project = Project::new();
    let cases: &[(&[&str], &[&str])] = &[
        (&["events", "--event", "1"], &["--event", "not the id of an event"]),
        (&["events", "--job", "x"], &["--job", "not the id of a job", "handshake jobs list"]),
        (&["events", "--run", "x"], &["not the id of a run"]),
        (&["events", "--trace", "x"], &["not the id of a trace"]),
        (&["events", "--step", "A B"], &["step id"]),
        (&["events", "--from", "yesterday"], &["--from", "2026-01-31T12:00:00Z"]),
        (&["events", "--to", "12:00"], &["--to", "2026-01-31T12:00:00Z"]),
        (&["events", "--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"], &["must lie before"]),
        (&["events", "--type", "span_ends"], &["span_ends", "span_end"]),
        (&["events", "--outcome", "maybe"], &["maybe", "allow, deny"]),
        (&["events", "--limit", "0"], &["1..=1000"]),
        (&["events", "--before", "5"], &["not where a page ended"]),
        (&["events", "--before", "5", "--follow"], &["--follow"]),
        (&["events", "--tpye", "x"], &["--type"]),
        (&["trace", "x"], &["not the id of a trace, a job or a run"]),
        (&["trace", "0198f3a2-7c11-7000-8000-0123456789ab"], &["nothing is on record about"]),
        (&["export", "--format", "jsn"], &["jsonl"]),
        (&["export", "--format", "parquet"], &["cannot go to standard output", "-o"]),
        (&["export", "-o", "docs"], &["is a folder"]),
        (&["export", "-o", "handshake.toml"], &["exists", "--force"]),
        (&["export", "-o", "nowhere/x.jsonl"], &["nowhere/x.jsonl"]),
        (&["export", "--force"], &["--file"]),
    ];
    for (arguments, says) in cases {
        let result = project.run(&[&["audit"], *arguments].concat());
        assert_eq!(result.code, 2, "{arguments:?}: {result:?}");
        for text in *says {
            assert!(result.stderr.contains(text), "{arguments:?}: `{text}` is missing: {}", result.stderr);
        }
    }
}
