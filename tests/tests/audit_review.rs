//! Reviewing with the real binary: what was granted and used, why something was decided, what another policy would have
//! done, and what would have been enough.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use handshake_tests::binary::{Finished, Project};
use serde_json::{Value, json};

/// Steps that do what they may, and steps that try what they may not.
const PROBES: &str = r#"
name: probes
job: { access_mode: apply_scoped }
mounts:
  in: { path: docs, access: read }
  out: { path: report, access: write }
steps:
  - id: reads
    uses: hostile
    with: { behaviour: read-file, target: /in/a.md }
    grants: ["fs.read:in", "fs.write:out"]
  - id: writes
    uses: hostile
    with: { behaviour: write-file, target: /out/file.txt }
    grants: ["fs.write:out"]
  - id: tries
    uses: hostile
    with: { behaviour: model-denied }
    needs: [reads, writes]
"#;

fn probed() -> (Project, Ids) {
    let project = Project::new();
    project.write("docs/a.md", "# A\n\nOne. Two.\n");
    let ids = probe(&project, PROBES);
    (project, ids)
}

struct Ids {
    job: String,
    run: String,
}

/// Runs a workflow to whatever end.
fn probe(project: &Project, workflow: &str) -> Ids {
    let finished = project.run_workflow(workflow, &["--output", "json"]);
    let json: Value = finished.json();
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    Ids { job: id(&json["job"]["job_id"]), run: id(&json["job"]["workflow_run_id"]) }
}

fn json_of(project: &Project, arguments: &[&str]) -> Value {
    project.run(&[arguments, &["--output", "json"]].concat()).success().json()
}

fn row<'a>(matrix: &'a Value, plugin: &str, capability: &str) -> &'a Value {
    let rows = matrix["rows"].as_array().unwrap();
    rows.iter()
        .find(|row| row["plugin"] == plugin && row["capability"] == capability)
        .unwrap_or_else(|| panic!("{matrix}"))
}

/// Decisions of a run that have this outcome and capability.
fn decision(project: &Project, run: &str, outcome: &str, capability: &str) -> Value {
    let page =
        json_of(project, &["audit", "decisions", "--run", run, "--outcome", outcome, "--capability", capability]);
    page["events"][0]["event"].clone()
}

#[test]
fn the_matrix_tells_declared_granted_used_and_denied_apart_and_marks_what_is_new() {
    let (project, ids) = probed();
    let matrix = json_of(&project, &["audit", "matrix", "--run", &ids.run]);
    let read = row(&matrix, "hostile@0.1.0", "fs.read");
    assert_eq!((&read["declared"], &read["granted"]), (&json!(["fs.read"]), &json!(["fs.read:in"])), "{read}");
    assert!(read["allowed"].as_u64() > Some(0) && read["unused_grants"] == json!([]), "{read}");
    assert!(read["new_resources"].as_array().unwrap().contains(&json!("in/a.md")), "{read}");
    let model = row(&matrix, "hostile@0.1.0", "model.infer");
    assert_eq!((&model["granted"], &model["denied"]), (&json!([]), &json!(1)), "{model}");
    assert_eq!(model["denied_reasons"], json!({ "not-granted": 1 }));
    let never = row(&matrix, "hostile@0.1.0", "doc.propose");
    assert_eq!((&never["declared"], &never["allowed"]), (&json!(["doc.propose"]), &json!(0)));

    // What was touched before is not new to a later run of the same plugin.
    let again = probe(&project, PROBES);
    let matrix = json_of(&project, &["audit", "matrix", "--job", &again.job]);
    assert_eq!(row(&matrix, "hostile@0.1.0", "fs.read")["new_resources_total"], 0, "{matrix}");

    let text = project.run(&["audit", "matrix", "--run", &ids.run]).success().stdout;
    for part in ["DECLARED", "GRANTED", "✗ tried and denied: not-granted 1", "new: in"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn a_grant_that_nothing_needed_stands_out() {
    let project = Project::new();
    project.write("docs/a.md", "# A\n");
    let wide =
        PROBES.replace(r#"["fs.read:in", "fs.write:out"]"#, r#"["fs.read:in", "fs.read:out", "artifact.write"]"#);
    let ids = probe(&project, &wide);
    let matrix = json_of(&project, &["audit", "matrix", "--run", &ids.run]);
    assert_eq!(row(&matrix, "hostile@0.1.0", "fs.read")["unused_grants"], json!(["fs.read:out"]), "{matrix}");
    assert_eq!(row(&matrix, "hostile@0.1.0", "artifact.write")["unused_grants"], json!(["artifact.write"]));
    let text = project.run(&["audit", "matrix"]).success().stdout;
    assert!(text.contains("✗ granted, never used: all"), "{text}");
}

#[test]
fn a_decision_is_explained_by_every_layer_with_the_rules_own_text() {
    let (project, ids) = probed();
    let allowed = decision(&project, &ids.run, "allow", "fs.write");
    let explained = json_of(&project, &["audit", "explain", allowed["event_id"].as_str().unwrap()]);
    let layers = explained["layers"].as_array().unwrap();
    let names: Vec<_> = layers.iter().map(|layer| layer["layer"].as_str().unwrap()).collect();
    assert_eq!(names, ["registry", "manifest", "grant", "profile", "access-mode", "policy"]);
    assert!(layers.iter().all(|layer| layer["says"] == "allows"), "{explained:#}");
    assert_eq!(explained["notes"], json!([]));
    assert_eq!(layers[1]["source"]["file"], "plugin.toml");
    assert!(layers[1]["source"]["text"].as_str().unwrap().contains("reason = \"tries it\""), "{explained:#}");
    let rule = &layers[5]["source"];
    assert_eq!(
        (&rule["file"], &rule["line"]),
        (&allowed["payload"]["rule"]["file"], &allowed["payload"]["rule"]["line"])
    );
    assert!(rule["text"].as_str().unwrap().contains("capability = \"fs.write\""), "{rule}");
    assert_eq!(explained["consequences"][0]["event"]["event_type"], "capability_outcome");

    let denied = decision(&project, &ids.run, "deny", "model.infer");
    let id = denied["event_id"].as_str().unwrap();
    let text = project.run(&["audit", "explain", id]).success().stdout;
    for part in [
        "✗ denied: not-granted by grant",
        "✗ refuses",
        "what would have changed it:",
        "grants: [\"model.infer:default\"]",
        "audit trace ",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn an_old_decision_is_explained_by_the_text_that_decided_it() {
    let (project, ids) = probed();
    let allowed = decision(&project, &ids.run, "allow", "fs.write");
    let policy = project.path("policy.toml");
    let now = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, format!("# Something else.\n\n\n\n{now}")).unwrap();
    let explained = json_of(&project, &["audit", "explain", allowed["event_id"].as_str().unwrap()]);
    let rule = &explained["layers"][5]["source"];
    assert!(rule["text"].as_str().unwrap().contains("capability = \"fs.write\""), "{rule}");
    // A copy that was changed is not shown as what decided.
    let digest = allowed["payload"]["policy_sha256"].as_str().unwrap();
    fs::write(project.path(&format!(".handshake/evidence/{digest}")), "schema = 1\n").unwrap();
    let explained = json_of(&project, &["audit", "explain", allowed["event_id"].as_str().unwrap()]);
    assert_eq!(explained["layers"][5]["says"], "unknown");
    assert_eq!(explained["notes"], json!(["the policy's text was not kept"]));
}

#[test]
fn explaining_what_is_no_decision_says_what_to_do() {
    let (project, _) = probed();
    let unknown = project.run(&["audit", "explain", "0198f3a2-7c11-7000-8000-0123456789ab"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("not on record") && unknown.stderr.contains("audit decisions"), "{unknown:?}");
    let typo = project.run(&["audit", "explain", "yesterday"]);
    assert_eq!(typo.code, 2);
    assert!(typo.stderr.contains("it is not the id of an event"), "{typo:?}");
    let events = json_of(&project, &["audit", "events", "--type", "capability_outcome", "--limit", "1"]);
    let event = &events["events"][0]["event"];
    let other = project.run(&["audit", "explain", event["event_id"].as_str().unwrap()]);
    assert_eq!(other.code, 2);
    let decision = event["policy_decision_id"].as_str().unwrap();
    assert!(other.stderr.contains(&format!("audit explain {decision}")), "{other:?}");
}

#[test]
fn a_simulation_answers_like_the_gate_and_is_on_record() {
    let (project, ids) = probed();
    let simulate = |more: &[&str]| {
        json_of(&project, &[&["audit", "simulate", "--job", &ids.job, "--plugin", "hostile"], more].concat())
    };
    let allowed = simulate(&["--capability", "fs.read", "--resource", "in/a.md"]);
    assert_eq!(allowed["allowed"], true, "{allowed:#}");
    let outcomes: Vec<_> =
        allowed["steps"].as_array().unwrap().iter().map(|step| (&step["step"], &step["outcome"])).collect();
    let (allow, deny) = (json!("allow"), json!("deny"));
    assert_eq!(outcomes, [(&json!("reads"), &allow), (&json!("writes"), &deny), (&json!("tries"), &deny)]);
    let denied = simulate(&["--capability", "secrets.use:token"]);
    let step = &denied["steps"][0];
    assert_eq!(
        (&denied["allowed"], &step["reason"], &step["layer"]),
        (&json!(false), &json!("not-granted"), &json!("grant"))
    );
    let refusing = step["layers"].as_array().unwrap().iter().filter(|layer| !layer["refusal"].is_null()).count();
    assert_eq!(refusing, 3, "grant, profile, policy: {denied:#}");
    let unused = json_of(
        &project,
        &["audit", "simulate", "--job", &ids.job, "--plugin", "summarize", "--capability", "model.infer:default"],
    );
    assert_eq!((&unused["allowed"], &unused["steps"][0]["step"]), (&json!(false), &Value::Null));
    let outside = simulate(&["--capability", "fs.read", "--resource", "in/../../etc/passwd"]);
    assert_eq!(outside["steps"][0]["layer"], "grant");

    let recorded = json_of(&project, &["audit", "events", "--type", "simulation", "--job", &ids.job]);
    let recorded = recorded["events"].as_array().unwrap();
    assert_eq!(recorded.len(), 3 + 3 + 1 + 3);
    let first = recorded.last().unwrap();
    assert_eq!(first["event"]["payload"]["plugin"], "hostile@0.1.0");
    assert_eq!(first["event"]["payload"]["layer"], "policy");

    let wrong = |more: &[&str]| project.run(&[&["audit", "simulate", "--job", &ids.job], more].concat());
    for (arguments, message) in [
        (&["--plugin", "hostile", "--capability", "fs.peek"][..], "HSK-4001"),
        (&["--plugin", "nobody", "--capability", "fs.read"][..], "nobody"),
        (
            &["--plugin", "hostile", "--capability", "fs.read:in", "--resource", "out/a"][..],
            "`fs.read:in` does not cover `out/a`",
        ),
    ] {
        let refused = wrong(arguments);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(message), "{refused:?}");
    }
}

#[test]
fn the_same_policy_flips_nothing_and_another_one_flips_what_its_rules_say() {
    let (project, _) = probed();
    project.write("docs/b.md", "# B\n\nOne. Two.\n");
    project.summarize(&["--quiet"]).success();
    // Every axis, granted as far as the profile lists it: each has its own form of resource.
    let behaviours = [
        "escape-dotdot",
        "symlink-create",
        "rename-out",
        "http-request",
        "tcp-connect",
        "udp-send",
        "dns-lookup",
        "write-artifact",
        "model-denied",
        "embed-denied",
        "secret-denied",
        "config-read",
        "document-read",
        "document-propose",
        "env-read",
        "terminal-escapes",
    ];
    let grants = r#"["fs.read", "fs.write", "doc.read", "doc.propose", "artifact.read", "artifact.write", "config.read", "model.infer", "model.embed"]"#;
    let steps = behaviours.iter().map(|behaviour| {
        format!(
            "  - id: {behaviour}\n    uses: hostile\n    with: {{ behaviour: {behaviour} }}\n    grants: {grants}\n"
        )
    });
    let (head, _) = PROBES.split_once("steps:\n").unwrap();
    probe(&project, &format!("{head}steps:\n{}", steps.collect::<String>()));
    let document = json_of(&project, &["documents", "import", "docs/a.md"]);
    let document = format!("doc={}", document["imported"][0]["document_id"].as_str().unwrap());
    let rewrite = handshake_tests::root().join("workflows/rewrite-document.yaml");
    let waits = project.run(&["run", rewrite.to_str().unwrap(), "-i", &document, "--output", "json"]);
    let job = waits.json()["job"]["job_id"].as_str().unwrap().to_owned();
    project.run(&["jobs", "approve", &job]).success();
    let policy = project.path("policy.toml");
    let replay = |file: &str| json_of(&project, &["audit", "replay", "--policy", file]);
    let same = replay("policy.toml");
    assert_eq!((&same["flipped"], &same["undecided"], &same["flips"]), (&json!(0), &json!(0), &json!([])), "{same:#}");
    assert!(same["decided"].as_u64() > Some(40) && same["unaffected"].as_u64() > Some(0), "{same:#}");
    assert_eq!(project.replayed(), Some(same.clone()), "which is asked of every project when its test ends");

    let text = fs::read_to_string(&policy).unwrap();
    project
        .write("strict.toml", format!("{text}\n[[deny]]\ncapability = \"fs.read:in/a.md\"\nplugins = [\"hostile\"]\n"));
    let strict = replay("strict.toml");
    let flips = strict["flips"].as_array().unwrap();
    assert_eq!(flips.len(), 1, "{strict:#}");
    assert_eq!(
        (&flips[0]["plugin"], &flips[0]["was"], &flips[0]["becomes"]),
        (&json!("hostile@0.1.0"), &json!("allow"), &json!("deny"))
    );
    assert_eq!(flips[0]["examples"][0]["resource"], "in/a.md");
    assert!(flips[0]["rule"]["text"].as_str().unwrap().contains("[[deny]]"), "{strict:#}");
    let example = flips[0]["examples"][0]["event"].as_str().unwrap();
    project.run(&["audit", "explain", example]).success();
    let shown = project.run(&["audit", "replay", "--policy", "strict.toml"]).success().stdout;
    assert!(shown.contains("✗ deny") && shown.contains("strict.toml:"), "{shown}");

    // What other layers refused stays refused, however wide the policy is.
    project.write("nothing.toml", "schema = 1\n");
    let nothing = replay("nothing.toml");
    assert_eq!(nothing["unaffected"], same["unaffected"]);
    assert_eq!(nothing["flipped"], nothing["decided"], "everything that was allowed is not mentioned");
    project.write("watching.toml", "schema = 1\nmode = \"observe\"\n");
    let watching = replay("watching.toml");
    assert!(watching["flips"].as_array().unwrap().iter().all(|flip| flip["becomes"] == "would_deny"), "{watching:#}");

    let wrong = |file: &str| project.run(&["audit", "replay", "--policy", file]);
    let missing = wrong("no.toml");
    assert_eq!((missing.code, missing.stderr.contains("cannot read `no.toml`")), (2, true), "{missing:?}");
    project.write("bad.toml", "schema = 1\n[[allow]]\ncapability = \"fs.peek\"\n");
    let bad = wrong("bad.toml");
    assert_eq!((bad.code, bad.stderr.contains("bad.toml:3:14: HSK-4001")), (2, true), "{bad:?}");
}

/// Puts the suggested manifests beside the components that they are of.
fn install(project: &Project, folder: &str) {
    for plugin in fs::read_dir(project.path(&format!("{folder}/plugins"))).unwrap() {
        let plugin = plugin.unwrap().path();
        let id = plugin.file_name().unwrap().to_str().unwrap().to_owned();
        let root = handshake_tests::root();
        let built = ["plugins", "tests/guests"].map(|place| root.join(place).join(&id).join("dist"));
        let built = built.iter().find(|built| built.is_dir()).unwrap();
        for file in fs::read_dir(built).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "wasm") {
                fs::copy(&file, plugin.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("plugins = ") && !line.starts_with("policy = "));
    let own = format!("plugins = [\"{folder}/plugins\"]\npolicy = \"{folder}/policy.toml\"\n");
    fs::write(project.path("handshake.toml"), own + &lines.collect::<Vec<_>>().join("\n")).unwrap();
}

#[test]
fn what_is_suggested_is_enough_and_nothing_of_it_is_unused() {
    let project = Project::new();
    for n in 0..12 {
        project.write(&format!("docs/{}/{n}.md", n % 2), format!("# {n}\n\nThe first. The second. The third.\n"));
    }
    project.summarize(&["--quiet"]).success();
    let jobs = json_of(&project, &["jobs", "list"]);
    let run = jobs["jobs"][0]["workflow_run_id"].as_str().unwrap().to_owned();
    let suggested = json_of(&project, &["audit", "suggest", &run, "-o", "enough"]);
    assert_eq!(suggested["notes"], json!([]), "{suggested:#}");
    let again = project.run(&["audit", "suggest", &run, "-o", "enough"]);
    assert_eq!((again.code, again.stderr.contains("--force")), (2, true), "nothing is overwritten: {again:?}");
    install(&project, "enough");

    let workflow = project.path("enough/summarize-folder.json");
    let ran =
        project.run(&["run", workflow.to_str().unwrap(), "-i", "folder=docs", "--output", "json"]).success().json();
    let run = ran["job"]["workflow_run_id"].as_str().unwrap();
    let matrix = json_of(&project, &["audit", "matrix", "--run", run]);
    for row in matrix["rows"].as_array().unwrap() {
        assert_eq!((&row["denied"], &row["unused_grants"]), (&json!(0), &json!([])), "{row}");
        assert!(row["allowed"].as_u64() > Some(0), "nothing is declared that is not used: {row}");
    }
    // Suggested again, it is the same: there is nothing less.
    let fixed = json_of(&project, &["audit", "suggest", run]);
    for step in fixed["grants"].as_array().unwrap() {
        assert_eq!(step["now"], step["enough"], "{step}");
    }
}

#[test]
fn what_was_denied_is_let_through_when_that_is_asked_for() {
    let (project, ids) = probed();
    let without = json_of(&project, &["audit", "suggest", &ids.run]);
    let of = |suggested: &Value, step: &str| {
        let grants = suggested["grants"].as_array().unwrap().clone();
        grants.into_iter().find(|grants| grants["step"] == step).unwrap()["enough"].clone()
    };
    assert_eq!(of(&without, "tries"), json!([]));
    let with = json_of(&project, &["audit", "suggest", &ids.run, "--with-denied", "-o", "enough"]);
    assert_eq!(of(&with, "tries"), json!(["model.infer:default"]), "{with:#}");
    // What the component itself says that it asks for must be declared, or it is not run at all.
    let notes = with["notes"].to_string();
    assert!(notes.contains("net.http") && notes.contains("its component says"), "{notes}");
    install(&project, "enough");
    let workflow = project.path("enough/probes.json");
    let ran = project.run(&["run", workflow.to_str().unwrap(), "--output", "json"]).json();
    let run = ran["job"]["workflow_run_id"].as_str().unwrap();
    let matrix = json_of(&project, &["audit", "matrix", "--run", run]);
    assert!(matrix["rows"].as_array().unwrap().iter().all(|row| row["denied"] == 0), "{matrix:#}");
}

#[test]
fn two_runs_are_compared_by_what_they_asked_for() {
    let (project, one) = probed();
    let other =
        probe(&project, &PROBES.replace("target: /in/a.md", "target: /in/b.md").replace("model-denied", "clock"));
    let diff = json_of(&project, &["audit", "diff", &one.run, &other.run]);
    let found = |resource: &str| {
        let differences = diff["differences"].as_array().unwrap();
        differences.iter().find(|difference| difference["resource"] == resource).unwrap_or_else(|| panic!("{diff:#}"))
    };
    assert!(found("in/a.md")["b"].is_null() && found("in/b.md")["a"].is_null());
    assert_eq!(found("default")["a"], json!({ "allowed": 0, "denied": 1 }));
    assert!(diff["same"].as_u64() > Some(0), "{diff:#}");
    let same = project.run(&["audit", "diff", "hostile@0.1.0", "hostile@0.1.0"]).success();
    assert_eq!(same.stdout, "no difference\n");
    for (a, message) in
        [("hostile@9.9.9", "nothing is on record of `hostile@9.9.9`"), ("hostile", "neither the id of a run")]
    {
        let refused = project.run(&["audit", "diff", a, &one.run]);
        assert_eq!((refused.code, refused.stderr.contains(message)), (2, true), "{refused:?}");
    }
}

/// A plugin under another version, found before the others. A program is described by its manifest alone.
fn program(project: &Project, version: &str) {
    let built = handshake_tests::root().join("tests/guests/program/dist");
    let text = fs::read_to_string(built.join("plugin.toml")).unwrap();
    let folder = format!("own/{version}/program");
    project.write(
        &format!("{folder}/plugin.toml"),
        text.replace("version = \"0.1.0\"", &format!("version = \"{version}\"")),
    );
    project.write(&format!("{folder}/program.wasm"), fs::read(built.join("program.wasm")).unwrap());
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let others = config.lines().filter(|line| !line.starts_with("plugins = ")).collect::<Vec<_>>().join("\n");
    project.write("handshake.toml", format!("plugins = [\"own/{version}\"]\n{others}"));
}

#[test]
fn two_versions_of_a_plugin_are_compared_by_what_they_asked_for() {
    let project = Project::new();
    project.write("docs/a.txt", "one word\n");
    let copies = |granted: &str| {
        format!(
            "name: copies\njob: {{ access_mode: apply_scoped }}\nmounts:\n  in: {{ path: docs, access: read }}\n  \
             out: {{ path: report, access: write }}\nsteps:\n  - {{ id: copy, uses: program, with: {{ args: [copy, in, out] }}, \
             grants: [{granted}] }}\n"
        )
    };
    program(&project, "0.1.0");
    project.run_workflow(&copies("'fs.read:in', 'fs.read:out', 'fs.write:out'"), &[]).success();
    program(&project, "0.2.0");
    assert_eq!(project.run_workflow(&copies("'fs.write:out'"), &[]).code, 3);
    let diff = json_of(&project, &["audit", "diff", "program@0.1.0", "program@0.2.0"]);
    let differences = diff["differences"].as_array().unwrap();
    let reading = differences.iter().find(|found| found["capability"] == "fs.read" && found["resource"] == "in");
    let reading = reading.unwrap_or_else(|| panic!("{diff:#}"));
    assert!(reading["a"]["allowed"].as_u64() > Some(0) && reading["b"]["denied"].as_u64() > Some(0), "{reading}");
    let written =
        differences.iter().find(|found| found["capability"] == "fs.write").unwrap_or_else(|| panic!("{diff:#}"));
    assert!(written["a"]["allowed"].as_u64() > Some(0) && written["b"].is_null(), "{written}");
}

#[test]
fn a_sign_off_is_signed_recorded_and_refused_when_it_would_vouch_for_nothing() {
    let (project, ids) = probed();
    let sign = |more: &[&str]| project.run(&[&["audit", "sign-off", &ids.run], more].concat());
    let nobody = sign(&[]).success();
    assert!(nobody.stderr.contains("nobody has signed"), "{nobody:?}");
    let signed = sign(&["--as", "ann", "--verdict", "accept", "--note", "looked at all of it", "--output", "json"]);
    let signed = signed.success().json();
    assert_eq!((&signed["statement"]["name"], &signed["statement"]["verdict"]), (&json!("ann"), &json!("accept")));
    let events = json_of(&project, &["audit", "events", "--type", "sign_off"]);
    let event = &events["events"][0]["event"];
    assert_eq!((&event["payload"]["statement_sha256"], &event["actor"]["id"]), (&signed["sha256"], &json!("ann")));
    assert_eq!(event["payload"]["head_hash"], signed["statement"]["head_hash"]);
    let shown = sign(&[]).success().stdout;
    assert!(shown.contains("ann") && shown.contains("right, on record"), "{shown}");

    // A statement that was changed does not count.
    let file = format!(".handshake/recorder/sign-offs/{}/{}.json", ids.run, signed["sha256"].as_str().unwrap());
    let kept = fs::read_to_string(project.path(&file)).unwrap();
    fs::write(project.path(&file), kept.replace("looked at all of it", "looked at none of it")).unwrap();
    let shown = sign(&[]).success().stdout;
    assert!(shown.contains("✗ its signature does not match its content"), "{shown}");

    let refused = |finished: Finished, code: i32, message: &str| {
        assert_eq!((finished.code, finished.stderr.contains(message)), (code, true), "{finished:?}");
    };
    refused(sign(&["--as", "ann"]), 2, "--verdict");
    refused(sign(&["--as", "ann", "--verdict", "perhaps"]), 2, "perhaps");
    refused(sign(&["--as", " ", "--verdict", "accept"]), 2, "the name is empty");
    let waiting = "name: waits\nsteps:\n  - id: ask\n    approval: { by: ann }\n";
    let open = project.run_workflow(waiting, &["--output", "json"]);
    assert_eq!(open.code, 4, "{open:?}");
    let run = open.json()["job"]["workflow_run_id"].as_str().unwrap().to_owned();
    refused(project.run(&["audit", "sign-off", &run, "--as", "ann", "--verdict", "accept"]), 2, "and not over");

    // Nobody vouches for a record that is not what was recorded.
    project.run(&["recorder", "seal"]).success();
    let host = fs::read_dir(project.path(".handshake/recorder/segments")).unwrap().next().unwrap().unwrap().path();
    let mut segments = fs::read_dir(host).unwrap().map(|file| file.unwrap().path());
    let segment = segments.find(|path| path.extension().is_some_and(|extension| extension == "parquet")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    refused(sign(&["--as", "ann", "--verdict", "accept"]), 5, "the record does not verify");
}

#[test]
fn a_run_does_not_go_on_under_another_profile_than_it_was_made_with() {
    let project = Project::new();
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let with = |ids: &str| format!("{config}\n[profiles.mine]\ncapabilities = [{ids}]\n");
    project.write("handshake.toml", with("\"fs.read\""));
    let workflow = "name: waits\njob: { profile: mine }\nsteps:\n  - id: ask\n    approval: {}\n  - id: probe\n    uses: hostile\n    with: { behaviour: clock }\n    needs: [ask]\n";
    let waits = project.run_workflow(workflow, &["--output", "json"]);
    assert_eq!(waits.code, 4, "{waits:?}");
    let job = waits.json()["job"]["job_id"].as_str().unwrap().to_owned();
    project.write("handshake.toml", with("\"fs.read\", \"fs.write\""));
    let approved = project.run(&["jobs", "approve", &job]);
    assert_eq!(approved.code, 4, "{approved:?}");
    let shown = project.run(&["jobs", "show", &job]).success().stdout;
    assert!(shown.contains("its profile changed since the run was made"), "{shown}");
}
