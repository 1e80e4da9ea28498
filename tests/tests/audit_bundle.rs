//! `audit bundle` on the real binary: the same bytes each time, and no more than its mode shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use handshake_tests::binary::Project;
use serde_json::{Value, json};

/// Secrets in a document, and what of each must not be seen.
const PLANTED: [(&str, &str); 4] = [
    ("sk-proj-Zx81Kq02Lm93Np74Qr65", "Zx81Kq02"),
    ("password: Tr0ub4dor&3horse", "Tr0ub4dor"),
    ("ann.confidential@mail.example.org", "ann.confidential"),
    ("AKIAQ7WERTY2UIOP4ASD", "Q7WERTY2UIOP"),
];
const HARMLESS: &str = "The quick brown fox is harmless.";

/// A project with a job over a document that holds secrets, and the job's id.
fn project() -> (Project, String) {
    let project = Project::new();
    let planted = PLANTED.map(|(secret, _)| secret).join(". ");
    project.write("docs/a.md", format!("# A\n\n{HARMLESS} {planted}.\n"));
    project.summarize(&["--quiet"]).success();
    let jobs = project.run(&["jobs", "list", "--output", "json"]).success().json();
    let job = jobs["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    (project, job)
}

/// Unpacks with another program than the one that packed, which also checks the checksums of the ZIP file itself.
fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
                  assert z.namelist() == sorted(z.namelist())\n\
                  assert all(i.date_time == (1980, 1, 1, 0, 0, 0) and not i.extra for i in z.infolist())\nz.extractall(sys.argv[2])";
    let status = Command::new("python3").args(["-c", script]).arg(archive).arg(folder.path()).status();
    assert!(status.expect("python3 runs").success());
    let check = ["--check", "--strict", "--quiet", "SHA256SUMS"];
    let status = Command::new("sha256sum").args(check).current_dir(folder.path()).status();
    assert!(status.expect("sha256sum runs").success());
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    files.map(|file| (file.file_name().into_string().unwrap(), read(&file.path()))).collect()
}

fn json_of(files: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&files[name]).unwrap()
}

fn lines(files: &BTreeMap<String, String>, name: &str) -> Vec<Value> {
    files[name].lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_bundle_holds_what_is_known_and_twice_the_same_bytes() {
    let (project, job) = project();
    let first = project.run(&["audit", "bundle", &job, "-o", "first.zip", "--output", "json"]).success().json();
    let second = project.run(&["audit", "bundle", &job, "-o", "second.zip", "--output", "json"]).success().json();
    let bytes = fs::read(project.path("first.zip")).unwrap();
    assert_eq!(bytes, fs::read(project.path("second.zip")).unwrap());
    assert_eq!((&first["sha256"], &first["bytes"]), (&second["sha256"], &json!(bytes.len())));
    assert_ne!(first["bundle_id"], second["bundle_id"]);
    // Sealed or not, by the owner of the data directory or through it.
    project.run(&["recorder", "seal"]).success();
    let mut serving = project.start(&["serve"]);
    serving.wait_for("serv");
    project.run(&["audit", "bundle", &job, "-o", "third.zip"]).success();
    assert_eq!(bytes, fs::read(project.path("third.zip")).unwrap());
    serving.signal(rustix::process::Signal::TERM);
    serving.finish();

    let files = unpacked(&project.path("first.zip"));
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "SHA256SUMS",
        "decisions.jsonl",
        "environment.json",
        "events.jsonl",
        "job.json",
        "manifest.json",
        "redaction-report.json",
        "retention-report.json",
        "runs.json",
    ];
    assert_eq!(names, expected);
    let recorded =
        project.run(&["audit", "events", "--job", &job, "--limit", "1000", "--output", "json"]).success().json();
    let recorded = recorded["events"].as_array().unwrap();
    let exports: Vec<&Value> =
        recorded.iter().filter(|event| event["event"]["event_type"] == "debug_bundle_export").collect();
    let events = lines(&files, "events.jsonl");
    assert_eq!((exports.len(), events.len()), (3, recorded.len() - 3));
    let oldest = &exports[2]["event"];
    assert_eq!(
        oldest["payload"],
        json!({ "bundle_id": first["bundle_id"], "scope": "job", "redaction_mode": "SAFE_DEFAULT", "bundle_sha256": first["sha256"] })
    );
    assert_eq!(oldest["actor"]["kind"], "human");
    let decided = |event: &&Value| {
        ["capability_action", "capability_outcome"].contains(&event["event"]["event_type"].as_str().unwrap())
    };
    let decisions: Vec<&Value> = events.iter().filter(decided).collect();
    assert_eq!(lines(&files, "decisions.jsonl").iter().collect::<Vec<_>>(), decisions);
    let manifest = json_of(&files, "manifest.json");
    assert_eq!((&manifest["job_id"], &manifest["mode"]), (&json!(job), &json!("SAFE_DEFAULT")));
    assert_eq!(manifest["events"], events.len());
    assert_eq!(json_of(&files, "job.json")["job_id"], job.as_str());
    assert_eq!(json_of(&files, "runs.json")["runs"][0]["run"]["state"], "completed");
    assert_eq!(json_of(&files, "environment.json")["database"]["backend"], "sqlite");
    assert_eq!(json_of(&files, "retention-report.json")["retention_days"], 7);
}

#[test]
fn no_mode_but_the_local_one_shows_secrets_or_host_paths_and_the_safe_one_no_payload() {
    let (project, job) = project();
    let home = project.path("").canonicalize().unwrap().display().to_string();
    let home = home.trim_end_matches('/');
    for (mode, payloads) in [("SAFE_DEFAULT", false), ("WORKSPACE", true)] {
        let file = format!("{mode}.zip");
        project.run(&["audit", "bundle", &job, "-o", &file, "--mode", mode]).success();
        let files = unpacked(&project.path(&file));
        for (name, text) in &files {
            for (_, piece) in PLANTED {
                assert!(!text.contains(piece), "{mode} {name}: {piece}");
            }
            assert!(!text.contains(home), "{mode} {name} shows {home}");
        }
        assert_eq!(files.values().any(|text| text.contains("quick brown fox")), payloads, "{mode}");
        let report = json_of(&files, "redaction-report.json");
        assert!(report["exported"]["events.jsonl"]["path_absolute"].as_u64() > Some(0), "{report}");
        assert_eq!(report["exported"]["runs.json"]["pii_email"].as_u64() > Some(0), payloads, "{report}");
    }
    let local = project.run(&["audit", "bundle", &job, "--mode", "FULL_LOCAL"]).success();
    assert!(local.stderr.contains("do not pass it on"), "{local:?}");
    let file = project.path(&format!("{job}.zip"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&file);
    for (secret, _) in PLANTED {
        assert!(files["runs.json"].contains(secret), "{secret}");
    }
    let modes: Vec<Value> = project
        .events("debug_bundle_export")
        .into_iter()
        .map(|mut event| event["payload"]["redaction_mode"].take())
        .collect();
    assert_eq!(modes, ["SAFE_DEFAULT", "WORKSPACE", "FULL_LOCAL"]);
}

#[test]
fn what_steps_logged_is_in_bundles_that_have_payloads() {
    let (project, _) = project();
    let leak = "name: leak\nmounts: { in: { path: docs, access: read } }\nsteps:\n  \
                - { id: leak, uses: hostile, with: { behaviour: leak-everywhere, target: /in/a.md }, grants: ['fs.read:in'] }\n";
    project.run_workflow(leak, &["--quiet"]);
    let jobs = project.run(&["jobs", "list", "--limit", "1", "--output", "json"]).success().json();
    let job = jobs["jobs"][0]["job_id"].as_str().unwrap();
    for (mode, logs) in [("SAFE_DEFAULT", false), ("WORKSPACE", true), ("FULL_LOCAL", true)] {
        let file = format!("{mode}.zip");
        project.run(&["audit", "bundle", job, "-o", &file, "--mode", mode]).success();
        let files = unpacked(&project.path(&file));
        let logged = files.get("logs.jsonl");
        assert_eq!(logged.is_some_and(|text| text.contains(HARMLESS)), logs, "{mode}: {logged:?}");
        assert!(PLANTED.iter().all(|(_, piece)| logged.is_none_or(|text| !text.contains(piece))), "{mode}: {logged:?}");
    }
}

#[test]
fn nothing_is_replaced_unless_asked_and_what_cannot_be_bundled_is_said() {
    let (project, job) = project();
    let kept = project.write("kept.zip", "mine");
    let finished = project.run(&["audit", "bundle", &job, "-o", "kept.zip"]);
    assert!(finished.code == 2 && finished.stderr.contains("`kept.zip` exists"), "{finished:?}");
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    project.run(&["audit", "bundle", &job, "-o", "kept.zip", "--force"]).success();
    unpacked(&kept);

    let unknown = "0198f3a2-7c11-7000-8000-0123456789ab";
    let finished = project.run(&["audit", "bundle", unknown, "-o", "none.zip"]);
    assert!(finished.code == 2 && finished.stderr.contains(unknown), "{finished:?}");
    let finished = project.run(&["audit", "bundle", "nonsense"]);
    assert!(finished.code == 2 && finished.stderr.contains("nonsense"), "{finished:?}");
    let finished = project.run(&["audit", "bundle", &job, "-o", "no/such/folder/x.zip"]);
    assert_eq!(finished.code, 2, "{finished:?}");
    let left: Vec<_> = fs::read_dir(project.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let left: Vec<_> = left
        .iter()
        .map(|name| name.to_string_lossy())
        .filter(|name| name.contains("part") || name.contains("none"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(project.events("debug_bundle_export").len(), 1);
}
