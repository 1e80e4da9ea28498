//! `plugin test`: cases over fakes, refusals among them; what differs is shown, and can be taken over.

use std::fs;

use handshake_tests::binary::{Finished, Project};

use super::{component, manifest, put, shown};

/// A plugin in the project, with these cases.
fn with_cases(project: &Project, id: &str, ids: &[&str], code: &[u8], cases: &[(&str, &str)]) -> String {
    let folder = put(project, id, &manifest(id, "0.1.0", ids), code);
    fs::create_dir_all(folder.join("tests/docs")).unwrap();
    fs::write(folder.join("tests/docs/notes.md"), "# Hello\n").unwrap();
    for (name, text) in cases {
        fs::write(folder.join("tests").join(name), text).unwrap();
    }
    shown(&folder).to_owned()
}

fn read_folder(project: &Project, cases: &[(&str, &str)]) -> String {
    with_cases(project, "read-folder", &["fs.read", "artifact.write"], &component("plugins", "read-folder"), cases)
}

#[test]
fn the_cases_of_the_plugins_that_ship_pass() {
    let project = Project::new();
    for id in ["read-folder", "summarize"] {
        let folder = handshake_tests::root().join("plugins").join(id);
        project.run(&["plugin", "test", shown(&folder)]).success();
    }
}

#[test]
fn what_differs_is_shown_taken_over_and_then_passes() {
    let project = Project::new();
    let case = "input = { mount = \"docs\" }\n\n[mounts]\ndocs = \"docs\"\n\n[expect]\nerror = \"trap\"\ndecisions = []\nartifacts = []\n";
    let folder = read_folder(
        &project,
        &[
            ("reads.toml", case),
            ("denied.toml", "input = { mount = \"docs\" }\ngrants = []\n[mounts]\ndocs = \"docs\"\n"),
        ],
    );
    let test = |more: &[&str]| project.run(&[&["plugin", "test", &folder], more].concat());
    let failed = test(&["--junit", "junit.xml"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    for text in [
        "failed reads",
        "should have failed with `trap`",
        "+allow fs.read docs/notes.md",
        "reads.toml:8: decisions",
        "does not say what it expects",
    ] {
        assert!(failed.stdout.contains(text), "`{text}` is missing: {failed:?}");
    }
    let junit = fs::read_to_string(project.path("junit.xml")).unwrap();
    assert!(junit.contains("tests=\"2\" failures=\"2\""), "{junit}");
    test(&["--update"]).success();
    test(&[]).success();
    let written = fs::read_to_string(project.path("own/read-folder/tests/denied.toml")).unwrap();
    assert!(written.contains("error = \"denied: fs.read"), "{written}");
    assert!(written.contains("\"deny fs.read docs (not-granted)\""), "{written}");
    let written = fs::read_to_string(project.path("own/read-folder/tests/reads.toml")).unwrap();
    assert!(written.contains("# Hello"), "artifacts are compared, too: {written}");
    let one = test(&["denied", "--output", "json"]).success().json();
    assert_eq!((one["cases"].as_array().unwrap().len(), &one["cases"][0]["name"]), (1, &"denied".into()));
}

#[test]
fn models_answer_what_the_case_says_and_nothing_else() {
    let project = Project::new();
    let case = |model: &str, expect: &str| {
        format!(
            "input = {{ document = {{ path = \"n.md\", title = \"N\", bytes = 8, artifact = \"${{artifacts.note}}\" }} }}\n[artifacts]\nnote = \"docs/notes.md\"\n{model}\n[expect]\n{expect}\n"
        )
    };
    let answered =
        case("[[model]]\nanswer = \"Hi.\"", "decisions = [\"allow artifact.read *\", \"allow model.infer default\"]");
    let down = case("[[model]]\nerror = \"HSK-500-LLM\"", "error = \"transient: HSK-500-LLM\"");
    let unanswered = case("", "decisions = [\"allow artifact.read *\", \"allow model.infer default\"]");
    let unused = case(
        "[[model]]\nanswer = \"Hi.\"\ntimes = 2",
        "decisions = [\"allow artifact.read *\", \"allow model.infer default\"]",
    );
    let cases = [
        ("a-answered.toml", &*answered),
        ("b-down.toml", &*down),
        ("c-unanswered.toml", &*unanswered),
        ("d-unused.toml", &*unused),
    ];
    let folder = with_cases(
        &project,
        "summarize",
        &["artifact.read", "model.infer"],
        &component("plugins", "summarize"),
        &cases,
    );
    let report = project.run(&["plugin", "test", &folder, "--output", "json"]);
    assert_eq!(report.code, 1, "{report:?}");
    let passed: Vec<_> =
        report.json()["cases"].as_array().unwrap().iter().map(|case| case["passed"].as_bool().unwrap()).collect();
    assert_eq!(passed, [true, true, false, false], "{report:?}");
    assert!(
        report.stdout.contains("no answer is left for it") && report.stdout.contains("was asked for 1 times, not 2"),
        "{report:?}"
    );
}

/// The hostile guest sends one request.
fn requests(project: &Project, cases: &[(&str, &str)]) -> Finished {
    let folder = with_cases(project, "hostile", &[], &component("tests/guests", "hostile"), cases);
    let own = handshake_tests::root().join("tests/guests/hostile/dist/plugin.toml");
    fs::copy(own, std::path::Path::new(&folder).join("plugin.toml")).unwrap();
    project.run(&["plugin", "test", &folder, "--output", "json"])
}

#[test]
fn requests_are_decided_and_answered_from_the_case_and_sockets_are_denied() {
    let project = Project::new();
    let request = "input = { behaviour = \"http-request\", target = \"api.example.com:80\" }\n";
    let answer = "[[http]]\nrequest = \"GET http://api.example.com/\"\nstatus = 204\n";
    let allowed = format!("{request}{answer}[expect]\ndecisions = [\"allow net.http GET http://api.example.com/\"]\n");
    let refused = format!(
        "{request}deny = [\"net.http\"]\n[expect]\ndecisions = [\"deny net.http GET http://api.example.com/ (operator-denied)\"]\n"
    );
    let tcp = "input = { behaviour = \"tcp-connect\", target = \"203.0.113.1:80\" }\n[expect]\ndecisions = [\"deny net.tcp 203.0.113.1:80 (operator-denied)\"]\n";
    let loopback = "input = { behaviour = \"http-request\", target = \"127.0.0.1:80\" }\n[[http]]\nrequest = \"GET http://127.0.0.1/\"\n";
    let report =
        requests(&project, &[("a.toml", &allowed), ("b.toml", &refused), ("c.toml", tcp), ("d.toml", loopback)]);
    let cases = report.json()["cases"].clone();
    for at in 0..3 {
        assert_eq!(cases[at]["passed"], true, "{cases:#}");
    }
    // Addresses are checked as always, and nothing answers for one that no rule names.
    assert_eq!(cases[3]["passed"], false, "{cases:#}");
    assert!(
        cases[3]["expect"].as_str().unwrap().contains("deny net.http GET http://127.0.0.1/ (not-listed)"),
        "{cases:#}"
    );
}

#[test]
fn files_that_are_written_are_compared_and_the_folder_of_the_case_stays_as_it_was() {
    let project = Project::new();
    let case = "input = { behaviour = \"write-file\", target = \"/out/new.txt\" }\n[mounts]\nout = \"docs\"\n[expect]\nfiles = {}\n";
    let report = requests(&project, &[("a.toml", case)]);
    assert_eq!(report.code, 1, "{report:?}");
    assert!(report.stdout.contains("out/new.txt"), "{report:?}");
    assert!(!project.path("own/hostile/tests/docs/new.txt").exists());
}

#[test]
fn cases_that_cannot_be_run_are_told_before_one_runs() {
    let project = Project::new();
    for (text, says) in [
        ("inputs = {}\n", "a.toml:1:1: unknown field `inputs`"),
        ("[mounts]\ndocs = \"../..\"\n", "a.toml:2:8: "),
        ("input_file = \"/etc/passwd\"\n", "a.toml:1:14: "),
        ("grants = [\"fs.rede\"]\n", "HSK-4001"),
    ] {
        let folder = read_folder(&project, &[("a.toml", text), ("b.toml", "")]);
        let refused = project.run(&["plugin", "test", &folder]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    let folder = read_folder(&project, &[("a.toml", "")]);
    let none = project.run(&["plugin", "test", &folder, "nothing"]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("no case in") && none.stderr.contains("testing.md"), "{none:?}");
}
