//! Which jobs `handshake jobs list` lists.

#![allow(clippy::unwrap_used)]

use handshake_tests::binary::Project;

#[test]
fn jobs_are_listed_by_workflow_workspace_and_time() {
    let project = Project::new();
    for (folder, name) in [("one", "alpha"), ("two", "alpha"), ("two", "beta")] {
        let file = project
            .write(&format!("{folder}/{name}.yaml"), format!("name: {name}\nsteps:\n  - {{ id: nap, sleep: 1ms }}\n"));
        let mut command = project.command(&[
            "run",
            file.to_str().unwrap(),
            "--config",
            project.path("handshake.toml").to_str().unwrap(),
        ]);
        command.current_dir(project.path(folder)).env("HANDSHAKE_DATA_DIR", project.path(".handshake"));
        assert!(command.output().unwrap().status.success());
    }
    let count = |more: &[&str]| {
        let listed = project.run(&[&["jobs", "list", "--output", "json"], more].concat()).success().json();
        listed["jobs"].as_array().unwrap().len()
    };
    assert_eq!((count(&[]), count(&["--workflow", "alpha"]), count(&["--workflow", "alph"])), (3, 2, 0));
    assert_eq!(
        (count(&["--workspace", "one"]), count(&["--workspace", "two"]), count(&["--workspace", "."])),
        (1, 2, 0)
    );
    assert_eq!(count(&["--workspace", "two", "--workflow", "beta"]), 1);
    assert_eq!((count(&["--from", "2020-01-01T00:00:00Z"]), count(&["--to", "2020-01-01T00:00:00Z"])), (3, 0));
    for (more, says) in [(["--workspace", "nowhere"], "nowhere"), (["--from", "yesterday"], "2026-01-31T12:00:00Z")] {
        let refused = project.run(&[&["jobs", "list"], &more[..]].concat());
        assert_eq!(refused.code, 2);
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
}
