//! `plugin add`, `list` and `remove`: what is added is what was shown, and what was added is what runs.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use handshake_tests::binary::Project;

use super::{component, manifest, put, shown};

#[test]
fn nothing_is_added_that_nobody_has_agreed_to() {
    let project = Project::new();
    let folder = put(&project, "bare", &manifest("bare", "0.1.0", &[]), &component("tests/guests", "bare"));
    let refused = project.run(&["plugin", "add", shown(&folder)]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("nobody has agreed") && refused.stderr.contains("--yes"), "{refused:?}");
    let left: Vec<_> = fs::read_dir(project.path(".handshake/plugins")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_a_plugin_asks_for_is_shown_and_a_newer_version_shows_what_is_new() {
    let project = Project::new();
    let summarize = component("plugins", "summarize");
    let ids = ["artifact.read", "model.infer"];
    let folder = put(&project, "summarize", &manifest("summarize", "0.1.0", &ids), &summarize);
    let added = project.run(&["plugin", "add", shown(&folder), "--yes"]).success();
    assert!(added.stdout.contains("artifact.read  wants artifact.read\n"), "{added:?}");
    assert!(!added.stdout.contains("(new)"), "{added:?}");

    // The component still says 0.1.0, so it is shown and not added.
    let text = manifest("summarize", "0.1.1", &["artifact.read", "model.infer", "env.read"])
        .replace("[component]", "[limits]\nmemory_mb = 128\n\n[component]");
    let folder = put(&project, "summarize", &text, &summarize);
    let offered = project.run(&["plugin", "add", shown(&folder)]);
    assert!(offered.stdout.contains("env.read  wants env.read  (new)"), "{offered:?}");
    assert!(offered.stdout.contains("1 more than summarize@0.1.0"), "{offered:?}");
    assert!(offered.stdout.contains("limits.memory_mb: 128 instead of 64"), "{offered:?}");
}

#[test]
fn an_added_plugin_is_found_recorded_and_removed() {
    let project = Project::new();
    // Out of the project's own folders.
    let folder = put(&project, "bare", &manifest("bare", "0.1.0", &[]), &component("tests/guests", "bare"));
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let config: Vec<_> =
        config.lines().map(|line| if line.starts_with("plugins = ") { "plugins = []" } else { line }).collect();
    project.write("handshake.toml", config.join("\n"));
    let unknown = project.run(&["plugin", "run", "bare"]);
    assert!(unknown.stderr.contains("plugin `bare` was not found"), "{unknown:?}");

    project.run(&["plugin", "add", shown(&folder), "--yes"]).success();
    project.run(&["plugin", "add", shown(&folder), "--yes"]).success();
    let list = project.run(&["plugin", "list", "--output", "json"]).success().json();
    assert_eq!((&list["plugins"][0]["id"], &list["plugins"][0]["added"]), (&"bare".into(), &true.into()), "{list}");
    project.run_workflow("name: t\nsteps:\n  - { id: one, uses: bare@0.1 }\n", &[]).success();

    for (wanted, says) in
        [("nothing", "no plugin `nothing` was added"), ("../bare", "`../bare`"), ("bare@2", "there are: bare@0.1.0")]
    {
        let refused = project.run(&["plugin", "remove", wanted]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    project.run(&["plugin", "remove", "bare"]).success();
    assert_eq!(project.run(&["plugin", "run", "bare"]).code, 2);
    let events = project.events("system");
    let of = |kind: &str| events.iter().filter(|event| event["payload"]["kind"] == kind).count();
    assert_eq!((of("plugin_added"), of("plugin_removed")), (1, 1), "{events:?}");
}

#[test]
fn what_was_changed_behind_its_back_is_not_run() {
    let project = Project::new();
    let code = component("tests/guests", "bare");
    let folder = put(&project, "bare", &manifest("bare", "0.1.0", &[]), &code);
    project.run(&["plugin", "add", shown(&folder), "--yes"]).success();
    let home = project.path(".handshake/plugins/bare");
    let stored = fs::read_dir(&home).unwrap().next().unwrap().unwrap().path();
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let config: Vec<_> =
        config.lines().map(|line| if line.starts_with("plugins = ") { "plugins = []" } else { line }).collect();
    project.write("handshake.toml", config.join("\n"));

    fs::write(stored.join("bare.wasm"), [&code[..], &[0]].concat()).unwrap();
    let refused = project.run(&["plugin", "run", "bare"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("find out who did"), "{refused:?}");
    fs::write(stored.join("bare.wasm"), &code).unwrap();
    let text = fs::read_to_string(stored.join("plugin.toml")).unwrap();
    fs::write(stored.join("plugin.toml"), format!("{text}\n[[capability]]\nid = \"fs.read\"\nreason = \"r\"\n"))
        .unwrap();
    let refused = project.run(&["plugin", "run", "bare"]);
    assert!(refused.stderr.contains("find out who changed it"), "{refused:?}");

    // Another content under the same version is no newer version.
    let other = put(&project, "bare", &manifest("bare", "0.1.0", &[]).replace("A test.", "Another."), &code);
    let refused = project.run(&["plugin", "add", shown(&other), "--yes"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("with another content"), "{refused:?}");
}

/// Runs a command at a terminal of its own, where somebody types this. What it prints there and on standard output.
fn at_terminal(project: &Project, arguments: &[&str], typed: &[u8]) -> (i32, String, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = project.command(arguments);
    command.stdin(slave.try_clone().unwrap()).stderr(slave).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    // The command holds the terminal, and nobody else: then its end is the end of what can be read.
    drop(command);
    let mut master = fs::File::from(master);
    master.write_all(typed).unwrap();
    let output = child.wait_with_output().unwrap();
    let mut said = Vec::new();
    // Linux tells of a terminal that nobody holds any more with an error.
    let _ = master.read_to_end(&mut said);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap(), text(said), text(output.stdout))
}

#[test]
fn somebody_at_a_terminal_is_asked_and_only_yes_adds() {
    let project = Project::new();
    let folder = put(&project, "bare", &manifest("bare", "0.1.0", &[]), &component("tests/guests", "bare"));
    let add = ["plugin", "add", shown(&folder)];
    let added = || project.run(&["plugin", "list", "--output", "json"]).success().stdout.contains("\"added\": true");
    // The end of input is Ctrl-D at the beginning of a line.
    for typed in [&b"n\n"[..], b"\n", b"maybe\n", b"\x04"] {
        let (code, said, shown) = at_terminal(&project, &add, typed);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("add bare@0.1.0? [y/N]") && said.contains("is not added"), "{said}");
        assert!(shown.contains("asks for") && shown.contains("nothing"), "{shown}");
        assert!(!added(), "after {typed:?}");
    }
    let (code, said, _) = at_terminal(&project, &add, b"y\n");
    assert_eq!(code, 0, "{said}");
    assert!(added());
    // What is there already is not asked about.
    let (code, said, shown) = at_terminal(&project, &add, b"");
    assert!(code == 0 && !said.contains("[y/N]") && shown.contains("is there already"), "{said} {shown}");
}
