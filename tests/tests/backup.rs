//! Backups on the real binary: made while a host works, restored elsewhere, and what was unfinished waits for a person.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use handshake_tests::binary::{Finished, Project, Running};
use rustix::process::Signal;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const BACK: [&str; 2] = ["--data-dir", "back"];

fn back(project: &Project, arguments: &[&str]) -> Finished {
    project.run(&[arguments, &BACK].concat())
}

fn serve(project: &Project, more: &[&str]) -> Running {
    let mut serving = project.start(&[&["serve", "--listen", "off"], more].concat());
    serving.wait_for("serves");
    serving
}

fn jobs(listed: &Value) -> BTreeSet<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    listed["jobs"].as_array().unwrap().iter().map(|job| (word(&job["job_id"]), word(&job["state"]))).collect()
}

fn listed(finished: Finished) -> BTreeSet<(String, String)> {
    jobs(&finished.success().json())
}

#[test]
fn a_backup_that_is_made_under_load_holds_everything_until_then_and_is_untouched() {
    let project = Project::new();
    project.write("docs/a.md", "Gates decide.\n");
    project.summarize(&[]).success();
    project.run(&["recorder", "seal"]).success();
    project.write("nap.yaml", "name: nap\nsteps:\n  - { id: nap, sleep: 1ms }\n");
    let serving = serve(&project, &[]);
    let before = listed(project.run(&["jobs", "list", "--output", "json"]));
    let mut files = Vec::new();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| (0..12).for_each(|_| drop(project.run(&["run", "nap.yaml"]).success())));
        while !load.is_finished() {
            let file = format!("backup-{}.zip", files.len());
            project.run(&["backup", &file]).success();
            files.push(file);
        }
    });
    serving.signal(Signal::TERM);
    serving.finish();
    let after = listed(project.run(&["jobs", "list", "--output", "json"]));
    assert!(files.len() > 1);
    for file in &files {
        assert_eq!(project.path(file).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let _ = std::fs::remove_dir_all(project.path("back"));
        back(&project, &["restore", file]).success();
        let verified = back(&project, &["audit", "verify", "--output", "json"]).success().json();
        assert!(verified["seq"].as_u64().is_some_and(|seq| seq > 10), "{verified}");
        // What had ended by then is there, and nothing that the host does not know.
        let restored = listed(back(&project, &["jobs", "list", "--output", "json"]));
        assert!(restored.is_superset(&before), "{restored:?} {before:?}");
        let ids = |jobs: &BTreeSet<(String, String)>| jobs.iter().map(|job| job.0.clone()).collect::<BTreeSet<_>>();
        assert!(ids(&restored).is_subset(&ids(&after)));
        // Values, segments and decisions: sealed ones come back from their files, since DuckDB's is made anew.
        for (job, state) in before.iter().filter(|job| job.1 == "completed") {
            let (here, there) =
                (["jobs", "show", job, "--output", "json"], project.run(&["jobs", "show", job, "--output", "json"]));
            assert_eq!(back(&project, &here).json()["runs"], there.json()["runs"], "{state}");
        }
        let decided = ["audit", "events", "--type", "capability_action", "--output", "json"];
        let decisions = |finished: Finished| finished.success().json()["events"].clone();
        let here = decisions(project.run(&decided));
        assert!(here.as_array().is_some_and(|here| here.len() > 2), "{here}");
        assert_eq!(decisions(back(&project, &decided)), here);
        // Made and restored, it says so itself.
        let said = back(&project, &["audit", "events", "--type", "system", "--output", "json"]).success().stdout;
        assert!(said.contains("\"backup\"") && said.contains("\"restored\""), "{said}");
    }
}

#[test]
fn what_was_unfinished_and_what_is_due_waits_until_a_person_says_so() {
    let project = Project::new();
    project.write(
        "flow.yaml",
        "name: flow\nsteps:\n  - { id: nap, sleep: 4s }\n  - { id: end, sleep: 1ms, needs: [nap] }\n",
    );
    project
        .write("tick.yaml", "name: tick\ntrigger: { every: 1s, missed: skip }\nsteps:\n  - { id: nap, sleep: 1ms }\n");
    let serving = serve(&project, &[]);
    let mut run = project.start(&["run", "flow.yaml"]);
    run.wait_for("nap");
    project.run(&["triggers", "add", "tick.yaml"]).success();
    project.run(&["backup", "b.zip"]).success();
    serving.signal(Signal::TERM);
    serving.finish();
    drop(run);

    back(&project, &["restore", "b.zip"]).success();
    let unfinished = |project: &Project| {
        let jobs = listed(back(project, &["jobs", "list", "--limit", "1000", "--output", "json"]));
        jobs.into_iter().map(|job| job.1).filter(|state| state != "completed").count()
    };
    let count =
        |project: &Project| listed(back(project, &["jobs", "list", "--limit", "1000", "--output", "json"])).len();
    let mut serving = serve(&project, &BACK);
    let (jobs, waiting) = (count(&project), unfinished(&project));
    assert!(waiting > 0);
    // Longer than the step sleeps, and than a host needs to look around.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!((count(&project), unfinished(&project)), (jobs, waiting), "nothing went on by itself");
    // New work does, and another start holds it all the same.
    project.write("nap.yaml", "name: nap\nsteps:\n  - { id: nap, sleep: 1ms }\n");
    back(&project, &["run", "nap.yaml"]).success();
    serving.signal(Signal::TERM);
    serving.finish();
    serving = serve(&project, &BACK);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((count(&project), unfinished(&project)), (jobs + 1, waiting));

    back(&project, &["restore", "--release"]).success();
    let start = Instant::now();
    while unfinished(&project) > 0 || count(&project) < jobs + 2 {
        assert!(start.elapsed() < Duration::from_secs(120), "it does not go on");
        std::thread::sleep(Duration::from_millis(100));
    }
    let again = back(&project, &["restore", "--release"]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("nothing is held"), "{again:?}");
    serving.signal(Signal::TERM);
    serving.finish();
}

/// An archive with these files, and a list of them.
fn archive(project: &Project, name: &str, files: &[(&str, &[u8])], change: impl FnOnce(&mut Value)) {
    let mut zip = ZipWriter::new(std::fs::File::create(project.path(name)).unwrap());
    let mut list = json!({
        "schema": 1, "version": "0.1.0", "host": "01a21df8-1af5-7661-bc8a-11fddf8daecd",
        "taken_at": "2026-01-01T00:00:00Z",
        "files": files.iter().map(|(path, content)| json!({
            "path": path, "bytes": content.len(), "sha256": handshake_core::Digest::of(content).to_string(),
        })).collect::<Vec<_>>(),
    });
    change(&mut list);
    for (path, content) in files {
        zip.start_file(*path, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.start_file("backup.json", SimpleFileOptions::default()).unwrap();
    zip.write_all(list.to_string().as_bytes()).unwrap();
    zip.finish().unwrap();
}

#[test]
fn what_is_no_backup_makes_no_data_directory_and_nothing_is_replaced() {
    let project = Project::new();
    let refused = |finished: Finished, says: &str| {
        assert_eq!(finished.code, 2, "{finished:?}");
        assert!(finished.stderr.contains(says), "`{says}`: {finished:?}");
        let left = std::fs::read_dir(project.path(".")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!left.iter().any(|name| name == "back" || name.starts_with(".restore-")), "{left:?}");
    };
    let restore = |file: &str| back(&project, &["restore", file]);
    refused(restore("nothing.zip"), "nothing.zip");
    project.write("text.zip", "this is no archive");
    refused(restore("text.zip"), "is no backup, or a damaged one");
    let db: (&str, &[u8]) = ("handshake.db", b"x");
    for (name, path) in [("up", "../evil"), ("root", "/tmp/evil"), ("lock", "owner.lock"), ("code", "cache/a.cwasm")] {
        let file = format!("{name}.zip");
        let mut files = vec![db, (path, b"evil" as &[u8])];
        files.sort();
        archive(&project, &file, &files, |_| {});
        refused(restore(&file), "cannot be part of one");
    }
    archive(&project, "none.zip", &[("host-id", b"x")], |_| {});
    refused(restore("none.zip"), "it has no database");
    archive(&project, "newer.zip", &[db], |list| list["schema"] = json!(2));
    refused(restore("newer.zip"), "its form is 2");
    archive(&project, "more.zip", &[db, ("keys/x", b"y")], |list| drop(list["files"].as_array_mut().unwrap().pop()));
    refused(restore("more.zip"), "other files than it lists");
    archive(&project, "longer.zip", &[db], |list| list["files"][0]["bytes"] = json!(0));
    refused(restore("longer.zip"), "`handshake.db` is not what it was");

    project.write("docs/a.md", "Gates decide.\n");
    project.summarize(&[]).success();
    let made = project.run(&["backup", "good.zip"]).success();
    assert!(made.stderr.contains("keep it as safe as"), "{made:?}");
    let again = project.run(&["backup", "good.zip"]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("exists") && again.stderr.contains("--force"), "{again:?}");
    project.run(&["backup", "good.zip", "--force"]).success();
    // Any byte of the database.
    let bytes = std::fs::read(project.path("good.zip")).unwrap();
    for at in [bytes.len() / 4, bytes.len() / 3, bytes.len() / 2] {
        let mut bad = bytes.clone();
        bad[at] ^= 0x40;
        project.write("bad.zip", bad);
        refused(restore("bad.zip"), "bad.zip");
    }
    project.write("short.zip", &bytes[..bytes.len() - 100]);
    refused(restore("short.zip"), "is no backup, or a damaged one");

    let taken = project.run(&["restore", "good.zip"]);
    assert_eq!(taken.code, 2);
    assert!(taken.stderr.contains("is there already, and nothing is replaced"), "{taken:?}");
    let nothing = project.run(&["restore"]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains("<FILE>"), "{nothing:?}");
    let postgres = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        Finished::from(command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none").output().unwrap())
    };
    let finished = postgres(&["restore", "good.zip", "--data-dir", "back"]);
    refused(finished, "the database is PostgreSQL");
    // And a good one is good, wherever its database lies.
    let mut command = project.command(&["restore", "good.zip", "--data-dir", "back"]);
    let url = format!("sqlite:{}", project.path("else/where.db").display());
    Finished::from(command.env("DATABASE_URL", &url).output().unwrap()).success();
    assert!(project.path("else/where.db").exists() && !project.path("back/handshake.db").exists());
    let mut command = project.command(&["audit", "verify", "--data-dir", "back"]);
    Finished::from(command.env("DATABASE_URL", &url).output().unwrap()).success();
}
