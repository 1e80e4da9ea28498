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
    let updated = project.run(&["plugin", "test", &folder, "--update"]);
    assert_eq!(updated.code, 1, "no expectation stands for a missing answer: {updated:?}");
    assert!(
        report.stdout.contains("no answer is left for it") && report.stdout.contains("was asked for 1 times, not 2"),
        "{report:?}"
    );
}

/// The cases of a test guest, with its own manifest.
fn of_guest(project: &Project, id: &str, cases: &[(&str, &str)]) -> Finished {
    let folder = with_cases(project, id, &[], &component("tests/guests", id), cases);
    let own = handshake_tests::root().join("tests/guests").join(id).join("dist/plugin.toml");
    fs::copy(own, std::path::Path::new(&folder).join("plugin.toml")).unwrap();
    project.run(&["plugin", "test", &folder, "--output", "json"])
}

#[test]
fn requests_are_decided_and_answered_from_the_case_and_sockets_are_denied() {
    let project = Project::new();
    let call = |scheme: &str, authority: &str| {
        format!(
            "input = {{ calls = [{{ do = \"request\", scheme = \"{scheme}\", authority = \"{authority}\", path = \"/words\", headers = [[\"authorization\", \"Bearer {{key}}\"]] }}] }}\n"
        )
    };
    let secret = "[secrets.key]\nvalue = \"made-up-value\"\nhosts = [\"https://api.example.com\"]\n";
    let answer = "[[http]]\nrequest = \"GET https://api.example.com/words\"\nsent = { Authorization = \"Bearer made-up-value\" }\nstatus = 201\nbody = \"three\"\n";
    let decided = "decisions = [\"allow secrets.use key\", \"allow net.http GET https://api.example.com:443/words\"]\n";
    let expect = format!("[expect]\n{decided}");
    let call = |scheme: &str, authority: &str, more: &str| format!("{}{more}", call(scheme, authority));
    let https = |more: &str| call("https", "api.example.com", &format!("{more}{secret}{answer}{expect}"));
    let allowed = https("");
    let wrong = https("").replace("Bearer made-up-value", "Bearer another-value");
    let refused = call(
        "https",
        "api.example.com",
        &format!(
            "deny = [\"net.http\"]\n{secret}[expect]\n{}",
            decided.replace(
                "allow net.http GET https://api.example.com:443/words",
                "deny net.http GET https://api.example.com:443/words (operator-denied)"
            )
        ),
    );
    // The value is for this server and `https` alone.
    let elsewhere = call(
        "https",
        "evil.example.com",
        &format!(
            "{secret}[expect]\ndecisions = [\"allow secrets.use key\", \"deny net.http GET https://evil.example.com:443/words (not-listed)\"]\n"
        ),
    );
    let tcp = "input = { calls = [{ do = \"connect\", to = \"203.0.113.1:80\" }] }\n[expect]\ndecisions = [\"deny net.tcp 203.0.113.1:80 (operator-denied)\"]\n";
    let cases = [("a", &*allowed), ("b", &*wrong), ("c", &*refused), ("d", &*elsewhere), ("e", tcp)];
    let names: Vec<_> = cases.iter().map(|(name, _)| format!("{name}.toml")).collect();
    let cases: Vec<_> = cases.iter().zip(&names).map(|((_, text), name)| (name.as_str(), *text)).collect();
    let report = of_guest(&project, "client", &cases);
    let cases = report.json()["cases"].clone();
    let passed: Vec<_> = cases.as_array().unwrap().iter().map(|case| case["passed"] == true).collect();
    assert_eq!(passed, [true, false, true, true, true], "{cases:#}");
    assert!(
        cases[1]["mismatches"][0]["what"].as_str().unwrap().contains("header `authorization` arrived as"),
        "{cases:#}"
    );
    // The step has seen the answer, and never the value.
    assert!(cases[0]["expect"].as_str().unwrap().contains("allow net.http"), "{cases:#}");
}

#[test]
fn files_that_are_written_are_compared_and_the_folder_of_the_case_stays_as_it_was() {
    let project = Project::new();
    let case = "input = { behaviour = \"write-file\", target = \"/out/new.txt\" }\n[mounts]\nout = \"docs\"\n[expect]\nfiles = {}\n";
    let report = of_guest(&project, "hostile", &[("a.toml", case)]);
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
