//! What a person sees who got something wrong: what, where, why and what to do, and an exit code that scripts can
//! tell apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use handshake_tests::binary::Project;

/// A workflow of one step; `{}` takes more lines for the step.
fn one_step(uses: &str, more: &str) -> String {
    format!("name: test\nsteps:\n  - id: one\n    uses: {uses}\n{more}")
}

/// Runs the workflow and checks exit code and message. Nothing may be printed that looks like a crash of the host.
fn refused(project: &Project, workflow: &str, more: &[&str], code: i32, says: &[&str]) {
    let result = project.run_workflow(workflow, more);
    let said = format!("{}{}", result.stdout, result.stderr);
    assert_eq!(result.code, code, "{said}\n{workflow}");
    for text in says {
        assert!(said.contains(text), "`{text}` is missing:\n{said}");
    }
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
}

#[test]
fn a_workflow_file_that_is_not_there_or_not_one() {
    let project = Project::new();
    for (arguments, says) in [
        (&["run", "nowhere.yaml"][..], "nowhere.yaml"),
        (&["run", "docs"], "docs"),
        (&["run"], "FILE"),
        (&["runn"], "run"),
    ] {
        let result = project.run(arguments);
        assert_eq!(result.code, 2, "{result:?}");
        assert!(result.stderr.contains(says), "{result:?}");
    }
    project.write("workflow.yaml", [0xff, 0xfe, 0x00]);
    assert_eq!(project.run(&["run", "workflow.yaml"]).code, 2);
}

#[test]
fn mistakes_in_the_workflow_file_name_their_line_and_column() {
    let project = Project::new();
    let check = |workflow: &str, says: &[&str]| refused(&project, workflow, &[], 2, says);
    check("name: [unclosed\n", &["workflow.yaml:"]);
    check(&one_step("summarize", "    wth: { a: 1 }\n"), &["workflow.yaml:5:5", "wth", "with"]);
    check(&one_step("summarise", ""), &["workflow.yaml:4:11", "summarise", "summarize"]);
    check(
        "name: t\nsteps:\n  - { id: a, uses: summarize, needs: [b] }\n  - { id: b, uses: summarize, needs: [a] }\n",
        &["workflow.yaml:", "cycle", "a", "b"],
    );
    check(
        &one_step("summarize", "    with: { document: \"${steps.nowhere.output}\" }\n"),
        &["workflow.yaml:5", "nowhere"],
    );
    check(&one_step("summarize", "    with: { document: \"${inputs.nothing}\" }\n"), &["workflow.yaml:5", "nothing"]);
    check(&one_step("summarize", "    when: \"1 +\"\n"), &["workflow.yaml:5"]);
    // Types of expressions show when they are evaluated: the job fails, and says which step and why.
    refused(
        &project,
        &one_step("summarize", "    when: \"1 + 1\"\n"),
        &[],
        1,
        &["`one`", "`when` must give true or false"],
    );
    refused(&project, &one_step("summarize", "    for_each: \"3\"\n"), &[], 1, &["`one`", "`for_each`", "list"]);
    check(&one_step("summarize", "    max_parallel: many\n"), &["workflow.yaml:5"]);
    check(&one_step("summarize", "    timeout: soon\n"), &["workflow.yaml:5", "soon"]);
    check(&one_step("summarize", "    grants: [\"fs.rede:in\"]\n"), &["workflow.yaml:5", "HSK-4001", "fs.rede"]);
    check(&one_step("summarize", "    grants: [\"model.infer:*\"]\n"), &["workflow.yaml:5", "model.infer:*"]);
    check(&one_step("summarize", "    grants: [\"net.http\"]\n"), &["workflow.yaml:5", "net.http"]);
    check(&one_step("summarize", "    grants: [\"fs.read:nowhere\"]\n"), &["workflow.yaml:5", "nowhere"]);
    check(
        "name: t\njob: { kind: doc_ingest }\nsteps:\n  - { id: a, uses: summarize }\n",
        &["doc_ingest", "workflow_run"],
    );
    check(
        "name: t\njob: { kind: doc_edit }\nsteps:\n  - { id: a, uses: summarize }\n",
        &["doc_edit", "doc: { type: object }"],
    );
    check("name: t\njob: { kind: cooking }\nsteps: []\n", &["workflow.yaml:2", "cooking"]);
    check(
        "name: t\njob: { profile: nobody }\nsteps:\n  - { id: a, uses: summarize }\n",
        &["workflow.yaml:2", "nobody"],
    );
}

#[test]
fn everything_that_is_wrong_before_a_run_is_told_at_once_and_nothing_is_run() {
    let project = Project::new();
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let server = "[models.paid]\nprovider = \"openai\"\nbase_url = \"https://127.0.0.1:1/v1\"\nmodel = \"m\"\nkey_env = \"NO_SUCH_KEY\"\n";
    project.write("handshake.toml", format!("{config}\n{server}"));
    let workflow = "name: t\nbudget: { tokens: 0 }\njob: { profile: reader }\nmounts:\n  out: { path: report, access: write }\nsteps:\n  \
         - { id: a, uses: summarize, grants: ['model.infer:paid', 'model.infer:cheap'] }\n  \
         - { id: b, uses: summarize, grants: ['fs.write:out'], when: 'steps.c.output' }\n  \
         - { id: d, uses: sumarize }\n";
    let says = [
        "10 problems",
        "workflow.yaml:2:19: budget.tokens:",
        "workflow.yaml:7:40: steps[0].grants[0]: `model.infer:paid` is granted, but profile `reader` does not list it",
        "environment variable `NO_SUCH_KEY` is not set",
        "workflow.yaml:7:60: steps[0].grants[1]: `model.infer:cheap` names a model that is not configured",
        "workflow.yaml:8:40: steps[1].grants[0]: `fs.write:out` is granted, but plugin `summarize@0.1.0` does not declare it",
        "access mode `analysis_only` excludes `fs.write`",
        "workflow.yaml:8:70: steps[1].when: step `c` is not defined",
        "workflow.yaml:9:20: steps[2].uses: plugin `sumarize` was not found",
        "nothing was run",
    ];
    refused(&project, workflow, &[], 2, &says);
    let checked = project.run(&["workflow", "check", "workflow.yaml"]);
    assert_eq!(checked.code, 2, "{checked:?}");
    assert!(says.iter().all(|text| checked.stderr.contains(text)), "{checked:?}");
    let jobs = project.run(&["jobs", "list", "--output", "json"]).success().json();
    assert_eq!(jobs["jobs"], serde_json::json!([]));
}

#[test]
fn inputs_that_are_unknown_missing_or_of_the_wrong_type() {
    let project = Project::new();
    let workflow = format!("inputs:\n  count: {{ type: integer }}\n{}", one_step("summarize", ""));
    refused(&project, &workflow, &[], 2, &["count"]);
    refused(&project, &workflow, &["-i", "count=many"], 2, &["count", "integer", "many"]);
    refused(&project, &workflow, &["-i", "count=1", "-i", "colour=red"], 2, &["colour", "count"]);
    refused(&project, &workflow, &["-i", "count"], 2, &["NAME=VALUE"]);
    refused(&project, &workflow, &["-i", "count=1", "-i", "count=2"], 2, &["given twice"]);
}

#[test]
fn mounts_that_are_missing_forbidden_or_the_data_directory() {
    let project = Project::new();
    project.write("file.txt", "text");
    fs::create_dir(project.path("secret")).unwrap();
    let mount = |path: &str| {
        format!(
            "mounts:\n  in: {{ path: {path:?}, access: read }}\n{}",
            one_step("read-folder", "    with: { mount: in }\n    grants: [\"fs.read:in\"]\n")
        )
    };
    refused(&project, &mount("docs/none"), &[], 2, &["none"]);
    refused(&project, &mount("file.txt"), &[], 2, &["not a folder"]);
    refused(&project, &mount(".handshake"), &[], 3, &["data directory"]);
    refused(&project, &mount("."), &[], 3, &["data directory"]);
    refused(&project, &mount("/"), &[], 3, &["data directory"]);
    refused(&project, &mount("secret"), &[], 3, &["policy", "secret"]);
    refused(&project, &mount("/etc"), &[], 3, &["policy", "/etc"]);
}

#[test]
fn an_empty_folder_gives_an_empty_report() {
    let project = Project::new();
    let result = project.summarize(&["--output", "json"]).success().json();
    assert_eq!(result["job"]["job_outputs"]["documents"], 0, "{result}");
    assert!(project.path("report/report.md").exists());
}

#[test]
fn configuration_and_policy_with_mistakes_name_file_line_and_column() {
    let project = Project::new();
    let policy = fs::read_to_string(project.path("policy.toml")).unwrap();
    for (text, says) in [
        ("schema = 1\nmode = \"enforce\"\n[[alow]]\ncapability = \"fs.read\"\n", &["policy.toml:3:", "alow"][..]),
        ("schema = 1\n[[allow]]\ncapability = \"fs.rede\"\n", &["policy.toml:3:", "HSK-4001"]),
        ("schema = 1\n[[allow]]\ncapability = \"net.http:https://example.com/*\"\n", &["policy.toml:3:", "net.http"]),
        ("schema = 1\n[[allow]]\ncapability = \"net.tcp:10.1.2.3/8:80\"\n", &["policy.toml:3:", "10.0.0.0/8:5432"]),
        (
            "schema = 1\n[[secret]]\nname = \"x\"\nhosts = [\"http://api.example.com\"]\n",
            &["policy.toml:4:", "`https` only"],
        ),
        (
            "schema = 1\n[[allow]]\ncapability = \"fs.read\"\naddresses = [\"10.0.0.0/8\"]\n",
            &["policy.toml:4:", "belongs to an allow rule of the network"],
        ),
        ("schema = 1\n[[mount]]\npath = \"nowhere\"\naccess = \"read\"\n", &["policy.toml:", "nowhere"]),
        ("schema = \n", &["policy.toml:1:"]),
    ] {
        project.write("policy.toml", text);
        refused(&project, &one_step("summarize", ""), &[], 2, says);
    }
    project.write("policy.toml", policy);
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", format!("{config}\nplugin_folder = 3\n"));
    refused(&project, &one_step("summarize", ""), &[], 2, &["handshake.toml:", "plugin_folder"]);
    let result = project.run(&["--config", "nowhere.toml", "db", "status"]);
    assert_eq!(result.code, 2, "{result:?}");
    assert!(result.stderr.contains("nowhere.toml"));
}

#[test]
fn a_second_init_overwrites_nothing() {
    let project = Project::new();
    let before = fs::read(project.path("handshake.toml")).unwrap();
    let result = project.run(&["init"]);
    assert_eq!(result.code, 2, "{result:?}");
    assert_eq!(fs::read(project.path("handshake.toml")).unwrap(), before);
}

#[test]
fn a_data_directory_that_others_may_write_to() {
    let project = Project::new();
    project.run(&["db", "status"]).success();
    fs::set_permissions(project.path(".handshake"), fs::Permissions::from_mode(0o777)).unwrap();
    let result = project.run(&["db", "status"]);
    assert_eq!(result.code, 2, "{result:?}");
    assert!(result.stderr.contains(".handshake") && result.stderr.contains("chmod"), "{result:?}");
}

#[test]
fn a_data_directory_whose_owner_does_not_answer() {
    let project = Project::new();
    project.run(&["db", "status"]).success();
    project.write("slow.yaml", one_step("hostile", "    with: { behaviour: sleep-forever }\n    timeout: 60s\n"));
    let mut running = project.start(&["run", "slow.yaml"]);
    running.wait_for("one");
    running.signal(rustix::process::Signal::STOP);
    let result = project.run(&["jobs", "list"]);
    running.signal(rustix::process::Signal::CONT);
    assert_eq!(result.code, 2, "{result:?}");
    assert!(result.stderr.contains(&running.id().to_string()), "{result:?}");
    running.kill();
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let project = Project::new();
    project.write("docs/a.md", "# A\n\nText.\n");
    // /dev/full stands in for a full disk: the database cannot be made there.
    let result = project.run(&["--data-dir", "/dev/full/data", "db", "status"]);
    assert_eq!(result.code, 2, "{result:?}");
    assert!(result.stderr.contains("/dev/full"), "{result:?}");
    // A limit on file size makes every write past it fail, as a full disk does.
    project.run(&["db", "status"]).success();
    let binary = handshake_tests::binary::handshake().display().to_string();
    let workflow = handshake_tests::root().join("workflows/summarize-folder.yaml").display().to_string();
    for number in 0..300 {
        project.write(&format!("docs/{number}.md"), format!("# {number}\n\nText of {number}.\n"));
    }
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$0\" run \"$1\" -i folder=docs", &binary, &workflow]);
    let output = limited.current_dir(project.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_ne!(output.status.code(), Some(0), "{said}");
    assert!(output.status.code().is_some() && !said.contains("panicked"), "{said}");
    // With room again everything opens, and work goes on.
    project.run(&["db", "status"]).success();
    project.summarize(&[]).success();
}

#[test]
fn tampered_compiled_code_is_not_loaded() {
    let project = Project::new();
    project.write("docs/a.md", "# A\n\nText.\n");
    project.summarize(&[]).success();
    let cache = project.path(".handshake/cache");
    let entries: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!entries.is_empty());
    for entry in entries {
        let mut bytes = fs::read(&entry).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&entry, bytes).unwrap();
    }
    let result = project.summarize(&[]);
    assert_eq!(result.code, 2, "{result:?}");
    assert!(result.stderr.contains(".cwasm") && result.stderr.contains("authentication"), "{result:?}");
}

#[test]
fn a_model_server_that_cannot_be_reached() {
    let project = Project::new();
    project.write("docs/a.md", "# A\n\nText.\n");
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    // Port 1 on loopback: nobody listens there.
    let config = config.replace(
        "[models.default]\nprovider = \"builtin/extractive\"",
        "[models.other]\nprovider = \"builtin/extractive\"",
    );
    project.write("handshake.toml", format!("{config}\n[models.default]\nprovider = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\nattempts = 1\n"));
    let workflow = fs::read_to_string(handshake_tests::root().join("workflows/summarize-folder.yaml"))
        .unwrap()
        .replace("attempts: 3", "attempts: 1");
    refused(&project, &workflow, &["-i", "folder=docs"], 1, &["HSK-500-LLM", "127.0.0.1:1"]);
    assert_eq!(project.events("llm_inference").len(), 1);
    let result = project.run(&["models", "test", "default"]);
    assert!(result.code == 1 || result.code == 2, "{result:?}");
    assert!(result.stderr.contains("HSK-500-LLM"), "{result:?}");
    assert_eq!(project.run(&["models", "test", "nosuch"]).code, 2);
}

#[test]
fn typos_in_arguments() {
    let project = Project::new();
    for (arguments, says) in [
        (&["jobs", "show", "not-an-id"][..], "not-an-id"),
        (&["jobs", "list", "--state", "done"], "done"),
        (&["audit", "decisions", "--outcome", "maybe"], "maybe"),
        (&["audit", "decisions", "--from", "yesterday"], "yesterday"),
        (&["plugin", "check", "nosuch"], "nosuch"),
        (&["schema", "everything"], "everything"),
        (&["--output", "xml", "jobs", "list"], "xml"),
        (&["workflow", "check", "nowhere.yaml"], "nowhere.yaml"),
    ] {
        let result = project.run(arguments);
        assert_eq!(result.code, 2, "{arguments:?}: {result:?}");
        assert!(result.stderr.contains(says), "{arguments:?}: {result:?}");
    }
    let missing = project.run(&["jobs", "show", "01890a5d-ac96-774b-bcce-b302099a8057"]);
    assert_eq!(missing.code, 2, "{missing:?}");
}

#[test]
fn a_budget_that_is_used_up_denies_the_call_and_ends_with_3() {
    let project = Project::new();
    for name in ["a", "b", "c"] {
        project.write(&format!("docs/{name}.md"), format!("# {name}\n\nText of {name}. It has two sentences.\n"));
    }
    // One after the other: a call that was allowed could be stopped together with its job before it is made.
    let workflow = fs::read_to_string(handshake_tests::root().join("workflows/summarize-folder.yaml"))
        .unwrap()
        .replace("max_parallel: 4", "max_parallel: 1");
    let within = |budget: &str| workflow.replace("steps:\n", &format!("budget: {budget}\nsteps:\n"));
    let says =
        ["HSK-402-BUDGET-EXCEEDED: budget `model_calls` is used up: 1 of 1 calls of models", "budget.model_calls"];
    refused(&project, &within("{ model_calls: 1 }"), &["-i", "folder=docs"], 3, &says);
    assert_eq!(project.events("llm_inference").len(), 1);
    let models = |event: &serde_json::Value| event["capability_id"] == "model.infer";
    let decisions: Vec<_> = project.events("capability_action").into_iter().filter(models).collect();
    let denied: Vec<_> = decisions.iter().filter(|event| event["payload"]["decision_outcome"] == "deny").collect();
    assert_eq!(decisions.len() - denied.len(), 1, "{decisions:#?}");
    assert!(!denied.is_empty());
    let by_budget = |event: &&serde_json::Value| {
        event["payload"]["reason"] == "budget-exceeded" && event["payload"]["layer"] == "budget"
    };
    assert!(denied.iter().all(by_budget), "{denied:#?}");

    // A person is asked instead, and each time grants one call more.
    let asks = within("{ model_calls: 1, on_exceeded: ask }");
    refused(&project, &asks, &["-i", "folder=docs"], 4, &["awaiting_user", "HSK-402-BUDGET-EXCEEDED"]);
    let jobs = project.run(&["jobs", "list", "--output", "json"]).success().json();
    let job = jobs["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    assert_eq!(project.run(&["jobs", "resume", &job]).code, 4);
    project.run(&["jobs", "resume", &job]).success();

    // What the operator says holds for every job.
    let config = fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", format!("{config}\n[budget]\ntokens = 5\n"));
    let says = ["budget `tokens` is used up", "the operator can raise `tokens` in [budget] of handshake.toml"];
    refused(&project, &workflow, &["-i", "folder=docs"], 3, &says);
}

#[test]
fn an_input_that_looks_like_a_secret_is_refused_or_warned_about_and_never_shown() {
    let project = Project::new();
    let secret = "sk-proj-abcDEF0123456789abcdef";
    let input = format!("key={secret}");
    let workflow = |mode: &str| {
        format!(
            "name: t\njob: {{ safety_mode: {mode} }}\ninputs:\n  key: {{ type: string }}\nsteps: [{{ id: one, sleep: 1ms }}]\n"
        )
    };
    let says = ["input `key` looks like a secret (`secret_api_key`)", "secrets.use"];
    for (mode, refuses) in [("strict", true), ("normal", false)] {
        let result = project.run_workflow(&workflow(mode), &["-i", &input]);
        let said = format!("{}{}", result.stdout, result.stderr);
        assert_eq!(result.code == 2, refuses, "{said}");
        assert!(says.iter().all(|text| said.contains(text)), "{said}");
        assert!(!said.contains(secret), "{said}");
        let jobs = project.run(&["jobs", "list", "--output", "json"]).success().json();
        assert_eq!(jobs["jobs"].as_array().unwrap().is_empty(), refuses);
    }
}
