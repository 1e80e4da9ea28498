//! Guests that try what they must not do. Each ends its step with a clear error, within its limits, and the host
//! goes on with other work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use handshake_core::event::Outcome;
use handshake_core::step::{PluginError, StepExecutor, StepFailure, StepOutcome};
use handshake_core::{Clock, RunId};
use handshake_tests::backends::RunningClock;
use handshake_tests::runtime::{Rights, TestRuntime, install};
use serde_json::{Value, json};

const FILES: [&str; 2] = ["fs.read", "fs.write"];

async fn behave(runtime: &TestRuntime, behaviour: &str, rights: &Rights) -> Result<StepOutcome, StepFailure> {
    runtime.run("hostile", json!({ "behaviour": behaviour }), rights).await
}

/// The limit that ended it. Afterwards the same runtime still serves others.
async fn limit_of(behaviour: &str) -> &'static str {
    let runtime = TestRuntime::new();
    // Time enough to get to the limit in an unoptimised build.
    let patiently = |invocation: &mut handshake_core::step::StepInvocation| invocation.wall = Duration::from_secs(60);
    let input = json!({ "behaviour": behaviour });
    let failure = runtime.run_with("hostile", input, &Rights::granting(&FILES), patiently).await.expect_err(behaviour);
    serves_others(&runtime).await;
    match failure {
        StepFailure::Limit { limit, .. } => limit,
        other => panic!("{behaviour}: {other:?}"),
    }
}

async fn serves_others(runtime: &TestRuntime) {
    let clock = behave(runtime, "clock", &Rights::granting(&[])).await.unwrap();
    assert!(clock.output["attempts"].is_array());
}

fn outcomes(outcome: &StepOutcome) -> BTreeMap<String, String> {
    let attempts = outcome.output["attempts"].as_array().unwrap();
    attempts
        .iter()
        .map(|attempt| (attempt["what"].as_str().unwrap().to_owned(), attempt["outcome"].as_str().unwrap().to_owned()))
        .collect()
}

fn nothing_ok(outcome: &StepOutcome) {
    let succeeded: Vec<_> = outcomes(outcome).into_iter().filter(|(_, outcome)| outcome == "ok").collect();
    assert!(succeeded.is_empty(), "{succeeded:?}");
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_deadline() {
    let runtime = TestRuntime::new();
    let shorten = |invocation: &mut handshake_core::step::StepInvocation| invocation.wall = Duration::from_millis(200);
    for behaviour in ["endless-loop", "sleep-forever"] {
        let input = json!({ "behaviour": behaviour });
        let failure = runtime.run_with("hostile", input, &Rights::granting(&[]), shorten).await.unwrap_err();
        assert_eq!(failure, StepFailure::Timeout(Duration::from_millis(200)), "{behaviour}");
    }
    serves_others(&runtime).await;
}

/// Calls that the host lets through at once, and how many a second beyond those while others are executed.
const AT_ONCE: u64 = 4_000;
const A_SECOND: u64 = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_floods_the_host_with_calls_beside_others_is_made_to_wait() {
    let runtime = TestRuntime::new();
    let rights = Rights::granting(&["config.read"]);
    let calls = AT_ONCE + 2 * A_SECOND;
    let patiently = |invocation: &mut handshake_core::step::StepInvocation| invocation.wall = Duration::from_secs(60);
    let flood = async {
        let (clock, input) = (RunningClock::default(), json!({ "behaviour": "host-calls-million", "count": calls }));
        let begun = clock.monotonic();
        (runtime.run_with("hostile", input, &rights, patiently).await.unwrap(), clock.monotonic() - begun)
    };
    let neighbour = async {
        let input = json!({ "behaviour": "sleep-forever", "count": 4 });
        runtime.run_with("hostile", input, &Rights::granting(&[]), patiently).await.unwrap();
    };
    let ((outcome, took), ()) = tokio::join!(flood, neighbour);
    assert!(took > Duration::from_millis(1_800), "{took:?}");
    assert_eq!(outcomes(&outcome).into_values().collect::<Vec<_>>(), ["ok"], "{outcome:?}");
    assert_eq!(runtime.decisions().len() as u64, calls);
}

#[tokio::test]
async fn a_fuel_limit_ends_a_loop_too() {
    let runtime = TestRuntime::new();
    let plugin = runtime.runtime.find("hostile").unwrap();
    let mut fueled = (*plugin).clone();
    fueled.manifest.limits.fuel = Some(10_000_000);
    let result = runtime
        .run_with("hostile", json!({ "behaviour": "endless-loop" }), &Rights::granting(&[]), |invocation| {
            invocation.limits.fuel = fueled.manifest.limits.fuel;
            invocation.plugin = std::sync::Arc::new(fueled);
        })
        .await;
    assert!(matches!(result, Err(StepFailure::Limit { limit: "fuel", .. })), "{result:?}");
}

#[tokio::test]
async fn endless_recursion_fills_the_stack_of_the_guest_only() {
    assert_eq!(limit_of("endless-recursion").await, "stack");
}

#[tokio::test]
async fn ten_gigabytes_of_memory_are_not_had() {
    let runtime = TestRuntime::new();
    // The guest asks politely and learns how much there is; one that does not ask ends with the limit, see below.
    let outcome = behave(&runtime, "memory-10gb", &Rights::granting(&[])).await.unwrap();
    nothing_ok(&outcome);
    let detail = outcome.output["attempts"][0]["detail"].as_str().unwrap();
    let taken: u64 = detail.split(' ').next().unwrap().parse().unwrap();
    assert!(taken < 32 << 20, "{detail}");
    serves_others(&runtime).await;
}

#[tokio::test]
async fn a_gigabyte_of_output_is_refused() {
    let limit = limit_of("output-1gb").await;
    assert!(["output_kb", "memory_mb"].contains(&limit), "{limit}");
    assert_eq!(limit_of("stdout-flood").await, "output_kb");
    // A result just past the limit fits into the guest's memory and is refused by the host.
    let runtime = TestRuntime::new();
    let input = json!({ "behaviour": "output-1gb", "count": 6 * 70 * 1024 });
    let failure = runtime.run("hostile", input, &Rights::granting(&[])).await.unwrap_err();
    assert!(matches!(failure, StepFailure::Limit { limit: "output_kb", .. }), "{failure:?}");
}

#[tokio::test]
async fn a_million_host_calls_exceed_the_quota() {
    for behaviour in ["host-calls-million", "log-million", "progress-million"] {
        assert_eq!(limit_of(behaviour).await, "host_calls", "{behaviour}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_handles_are_not_had() {
    let runtime = TestRuntime::new();
    fs::write(runtime.path("in/file.txt"), "text").unwrap();
    let input = json!({ "behaviour": "open-100000-handles" });
    let failure = runtime.run("hostile", input, &Rights::granting(&["fs.read"])).await.unwrap_err();
    assert!(matches!(failure, StepFailure::Limit { limit: "open_files", .. }), "{failure:?}");
    assert_eq!(limit_of("pollables-100000").await, "handles");
}

#[tokio::test]
async fn log_lines_are_bounded_in_number_and_the_rest_is_counted() {
    let runtime = TestRuntime::new();
    let input = json!({ "behaviour": "log-million", "count": 5_000 });
    runtime.run("hostile", input, &Rights::granting(&[])).await.unwrap();
    let lines = runtime.watcher.lines();
    assert!(lines.len() <= 1_001, "{}", lines.len());
    assert!(lines.last().unwrap().contains("log lines dropped"), "{:?}", lines.last());
}

#[tokio::test]
async fn a_flood_of_random_bytes_is_cut() {
    let runtime = TestRuntime::new();
    let failure = behave(&runtime, "random-flood", &Rights::granting(&[])).await.unwrap_err();
    assert!(
        matches!(failure, StepFailure::Trap(_) | StepFailure::Limit { .. } | StepFailure::Timeout(_)),
        "{failure:?}"
    );
    serves_others(&runtime).await;
}

#[tokio::test]
async fn host_memory_is_not_a_way_around_the_memory_limit() {
    let runtime = TestRuntime::new();
    let result = behave(&runtime, "host-memory", &Rights::granting(&[])).await;
    assert!(
        matches!(result, Err(StepFailure::Limit { .. } | StepFailure::Trap(_) | StepFailure::Timeout(_))),
        "{result:?}"
    );
    serves_others(&runtime).await;
}

#[tokio::test]
async fn paths_do_not_lead_out_of_a_mount() {
    for behaviour in ["escape-dotdot", "escape-absolute", "rename-out"] {
        let runtime = TestRuntime::new();
        fs::write(runtime.path("secret.txt"), "secret").unwrap();
        let outcome = behave(&runtime, behaviour, &Rights::granting(&FILES)).await.unwrap();
        assert!(!outcomes(&outcome).is_empty());
        nothing_ok(&outcome);
        assert_eq!(fs::read_to_string(runtime.path("secret.txt")).unwrap(), "secret");
        let mut left: Vec<_> =
            fs::read_dir(runtime.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["cache", "in", "out", "secret.txt"], "{behaviour}");
        let allowed_outside = runtime.decisions().into_iter().filter(|d| {
            d.decision_outcome == Outcome::Allow
                && (d.resource.split('/').any(|part| part == "..") || d.resource.starts_with('/'))
        });
        assert_eq!(allowed_outside.count(), 0, "{behaviour}");
    }
}

#[tokio::test]
async fn links_are_not_followed_even_within_a_mount() {
    let runtime = TestRuntime::new();
    fs::write(runtime.path("secret.txt"), "secret").unwrap();
    fs::create_dir(runtime.path("in/private")).unwrap();
    for mount in ["in", "out"] {
        symlink(runtime.path("secret.txt"), runtime.path(mount).join("link")).unwrap();
    }
    let outcome = behave(&runtime, "escape-symlink", &Rights::granting(&FILES)).await.unwrap();
    let reads: Vec<_> = outcomes(&outcome)
        .into_iter()
        .filter(|(what, outcome)| outcome == "ok" && what.contains("read") && !what.contains("readlink"))
        .collect();
    assert!(reads.is_empty(), "{reads:?}");
    assert!(!outcome.output.to_string().contains("secret\""), "{}", outcome.output);
    assert_eq!(fs::read_to_string(runtime.path("secret.txt")).unwrap(), "secret");

    // A pattern grants `public`, and a link inside the mount leads from there to `private`.
    fs::write(runtime.path("in/private/file.txt"), "secret").unwrap();
    fs::create_dir(runtime.path("in/public")).unwrap();
    symlink("../private", runtime.path("in/public/way")).unwrap();
    let input = json!({ "behaviour": "read-file", "target": "/in/public/way/file.txt" });
    let outcome = runtime.run("hostile", input, &Rights::granting(&["fs.read:in/public/**"])).await.unwrap();
    nothing_ok(&outcome);
}

#[tokio::test]
async fn no_links_are_made() {
    let runtime = TestRuntime::new();
    let outcome = behave(&runtime, "symlink-create", &Rights::granting(&FILES)).await.unwrap();
    let made: Vec<_> = outcomes(&outcome)
        .into_iter()
        .filter(|(what, outcome)| outcome == "ok" && (what.contains("symlink-at") || what.contains("through")))
        .collect();
    assert!(made.is_empty(), "{made:?}");
    for entry in fs::read_dir(runtime.path("out")).unwrap() {
        assert!(!entry.unwrap().file_type().unwrap().is_symlink());
    }
}

#[tokio::test]
async fn a_folder_put_in_the_place_of_a_mount_is_not_used() {
    let runtime = TestRuntime::new();
    fs::create_dir(runtime.path("secret")).unwrap();
    fs::write(runtime.path("secret/file.txt"), "secret").unwrap();
    let read = json!({ "behaviour": "read-file", "target": "/in/file.txt" });
    for put in [symlink as fn(_, _) -> _, |from, to| fs::rename(from, to)] {
        let result = runtime
            .run_with("hostile", read.clone(), &Rights::granting(&["fs.read"]), |_| {
                // After the mount was checked.
                fs::remove_dir(runtime.path("in")).or_else(|_| fs::remove_file(runtime.path("in"))).unwrap();
                put(runtime.path("secret"), runtime.path("in")).unwrap();
            })
            .await;
        assert!(matches!(&result, Err(StepFailure::Host(why)) if why.contains("mount `in`")), "{result:?}");
        fs::remove_file(runtime.path("in")).or_else(|_| fs::remove_dir_all(runtime.path("in"))).unwrap();
        fs::create_dir(runtime.path("in")).unwrap();
    }
}

#[tokio::test]
async fn long_names_do_not_fill_the_record() {
    let runtime = TestRuntime::new();
    let input = json!({ "behaviour": "config-read", "target": "k".repeat(1 << 20) });
    let rights = Rights::granting(&[]);
    let roomy = |invocation: &mut handshake_core::step::StepInvocation| invocation.limits.output_kb = 4096;
    runtime.run_with("hostile", input, &rights, roomy).await.unwrap();
    for event in runtime.recorder.events() {
        assert!(serde_json::to_string(&event).unwrap().len() < 8 << 10);
    }
    assert!(!runtime.recorder.events().is_empty());
}

#[tokio::test]
async fn special_files_are_not_opened() {
    let runtime = TestRuntime::new();
    let fifo = runtime.path("in/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let input = json!({ "behaviour": "read-file", "target": "/in/pipe" });
    // Without the check this would block a thread of the host for ever.
    let outcome = runtime.run("hostile", input, &Rights::granting(&["fs.read"])).await.unwrap();
    nothing_ok(&outcome);
}

#[tokio::test]
async fn the_context_cannot_be_forged() {
    let runtime = TestRuntime::new();
    let outcome = behave(&runtime, "forge-context", &Rights::granting(&["artifact.write"])).await.unwrap();
    let context = &outcome.output["extra"]["context"];
    assert_eq!(context["run"], handshake_tests::runtime::run_id().to_string());
    for event in runtime.recorder.events() {
        assert_eq!(event.workflow_run_id, Some(handshake_tests::runtime::run_id()));
        assert_eq!(event.actor.id, "hostile@0.1.0");
        assert_eq!(event.step_id.as_ref().unwrap().as_str(), "step");
    }
    assert!(!runtime.recorder.events().is_empty());
}

#[tokio::test]
async fn a_hash_alone_does_not_open_another_runs_artifact() {
    let runtime = TestRuntime::new();
    let other = RunId::from_uuid(uuid::Uuid::from_u128(0xdef));
    let id = runtime.backends.plant(other, b"another run's secret");
    let input = json!({ "behaviour": "read-foreign-artifact", "target": id.to_string() });
    let outcome = runtime.run("hostile", input, &Rights::granting(&["artifact.read"])).await.unwrap();
    nothing_ok(&outcome);
    assert!(!outcome.output.to_string().contains("secret"));
}

#[tokio::test]
async fn escape_codes_reach_nobodys_terminal() {
    let runtime = TestRuntime::new();
    let outcome = behave(&runtime, "terminal-escapes", &Rights::granting(&[])).await.unwrap();
    assert!(
        outcome.output.to_string().contains("\\u001b") || outcome.output.to_string().contains('\u{1b}'),
        "the guest did try"
    );
    let lines = runtime.watcher.lines();
    assert!(!lines.is_empty());
    for line in lines {
        assert!(!line.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{line:?}");
    }
}

#[tokio::test]
async fn a_trap_is_an_error_of_the_step() {
    let runtime = TestRuntime::new();
    for behaviour in ["trap-in-run", "panic-in-run", "exit-zero", "exit-one"] {
        let failure = behave(&runtime, behaviour, &Rights::granting(&[])).await.expect_err(behaviour);
        assert!(matches!(failure, StepFailure::Trap(_)), "{behaviour}: {failure:?}");
    }
    serves_others(&runtime).await;
}

#[tokio::test]
async fn results_that_are_none_are_refused() {
    let runtime = TestRuntime::new();
    let failure = behave(&runtime, "output-not-json", &Rights::granting(&[])).await.unwrap_err();
    assert!(matches!(failure, StepFailure::Contract(_)), "{failure:?}");
    let failure = behave(&runtime, "output-deep", &Rights::granting(&[])).await.unwrap_err();
    assert!(matches!(failure, StepFailure::Contract(_) | StepFailure::Limit { .. }), "{failure:?}");
    let measured = behave(&runtime, "metric-nan", &Rights::granting(&[])).await.unwrap();
    assert!(measured.measurements.values().all(|value| value.is_finite()));
}

/// Each behaviour that asks for one thing, the grant it needs, and the backend behind it.
const ASKING: [(&str, &str, Option<&str>); 11] = [
    ("model-denied", "model.infer", Some("generate")),
    ("embed-denied", "model.embed", Some("embed")),
    ("secret-denied", "secrets.use", Some("secret")),
    ("document-read", "doc.read", Some("document read")),
    ("write-artifact", "artifact.write", Some("artifact put")),
    ("read-foreign-artifact", "artifact.read", Some("artifact get")),
    ("config-read", "config.read", None),
    ("document-propose", "doc.propose", None),
    ("env-read", "env.read", None),
    ("http-request", "net.http", None),
    ("dns-lookup", "net.dns", None),
];

#[tokio::test]
async fn a_denied_call_has_no_effect_and_says_which_layer_denied_it() {
    for (behaviour, axis, backend) in ASKING {
        let without_manifest = Rights { declared: Some(vec![]), ..Rights::granting(&[axis]) };
        let without_grant = Rights::granting(&[]);
        let without_profile = Rights { profile: Some(vec![]), ..Rights::granting(&[axis]) };
        for (rights, layer, remedy) in [
            (without_manifest, "manifest", "plugin.toml"),
            (without_grant, "grant", "grants:"),
            (without_profile, "profile", "profile"),
        ] {
            let runtime = TestRuntime::new();
            let outcome =
                behave(&runtime, behaviour, &rights).await.unwrap_or_else(|failure| panic!("{behaviour}: {failure:?}"));
            nothing_ok_unless_empty(&outcome, axis);
            assert_eq!(runtime.backends.reached(), BTreeMap::new(), "{behaviour}");
            let denied: Vec<_> =
                runtime.decisions().into_iter().filter(|decision| decision.capability_id == axis).collect();
            assert!(!denied.is_empty(), "{behaviour}: no decision on {axis}");
            for decision in &denied {
                assert_eq!(decision.decision_outcome, Outcome::Deny, "{behaviour}");
                assert_eq!(decision.layer.label(), layer, "{behaviour}");
            }
            let lines = runtime.watcher.lines().join("\n");
            assert!(lines.contains(remedy), "{behaviour}: {lines}");
        }
        // The same guest with all layers agreeing does reach what is behind.
        if let Some(backend) = backend {
            let runtime = TestRuntime::new();
            behave(&runtime, behaviour, &Rights::granting(&[axis])).await.unwrap();
            assert!(
                runtime.backends.reached().get(backend).is_some_and(|count| *count > 0),
                "{behaviour} did not reach {backend}"
            );
        }
    }
}

/// An environment that is empty is no refusal that a guest could see.
fn nothing_ok_unless_empty(outcome: &StepOutcome, axis: &str) {
    if axis == "env.read" {
        assert!(!outcome.output.to_string().contains("PATH"), "{}", outcome.output);
    } else {
        nothing_ok(outcome);
    }
}

#[tokio::test]
async fn files_are_neither_read_nor_written_without_the_grant() {
    let runtime = TestRuntime::new();
    fs::write(runtime.path("in/file.txt"), "content").unwrap();
    let read = json!({ "behaviour": "read-file", "target": "/in/file.txt" });
    for grants in [&[][..], &["fs.write"][..], &["fs.read:out"][..], &["fs.read:in/other/**"][..]] {
        nothing_ok(&runtime.run("hostile", read.clone(), &Rights::granting(grants)).await.unwrap());
    }
    let outcome = runtime.run("hostile", read, &Rights::granting(&["fs.read:in"])).await.unwrap();
    assert_eq!(outcomes(&outcome).into_values().collect::<Vec<_>>(), ["ok"]);

    for grants in [&[][..], &["fs.read"][..], &["fs.write:out/sub/**"][..]] {
        nothing_ok(&behave(&runtime, "write-denied", &Rights::granting(grants)).await.unwrap());
    }
    // Granted, but the mount itself is read-only.
    let write = json!({ "behaviour": "write-file", "target": "/in/new.txt" });
    nothing_ok(&runtime.run("hostile", write, &Rights::granting(&FILES)).await.unwrap());
    assert!(!runtime.path("in/new.txt").exists());
    assert_eq!(fs::read_dir(runtime.path("out")).unwrap().count(), 0);

    let write = json!({ "behaviour": "write-file", "target": "/out/new.txt" });
    runtime.run("hostile", write, &Rights::granting(&["fs.write:out"])).await.unwrap();
    assert!(runtime.path("out/new.txt").exists());
    let effects = runtime.recorder.effects();
    assert!(
        effects.iter().any(|effect| effect.capability == "fs.write" && effect.resource == "out/new.txt"),
        "{effects:?}"
    );
}

#[tokio::test]
async fn sockets_reach_nobody_without_a_grant() {
    for (behaviour, axis) in [("tcp-connect", "net.tcp"), ("udp-send", "net.udp")] {
        let runtime = TestRuntime::new();
        nothing_ok(&behave(&runtime, behaviour, &Rights::granting(&[])).await.unwrap());
        assert!(
            runtime
                .decisions()
                .iter()
                .any(|decision| decision.capability_id == axis && decision.decision_outcome == Outcome::Deny),
            "{behaviour}"
        );
    }
}

fn wat(name: &str) -> Vec<u8> {
    wat::parse_file(handshake_tests::root().join("tests/guests/wat").join(name)).unwrap()
}

#[tokio::test]
async fn files_that_are_no_steps_are_refused_before_they_run() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = TestRuntime::with_folders(vec![folder.path().to_owned()]);
    for (file, says) in [
        ("core-module.wat", "core WebAssembly module"),
        ("no-exports.wat", "does not export `handshake:step/handler@0.1.0`"),
        ("wrong-export-name.wat", "does not export `handshake:step/handler@0.1.0`"),
        ("wrong-export-type.wat", "type mismatch"),
        ("wrong-version.wat", "this host supports handshake:step 0.1 (>=0.1.0, <0.2.0)"),
        ("unknown-import.wat", "imports something that this host does not have"),
    ] {
        let id = file.strip_suffix(".wat").unwrap();
        install(folder.path(), id, &wat(file));
        let plugin = runtime.runtime.find(id).unwrap();
        let error = runtime.runtime.prepare(&plugin).await.unwrap_err();
        assert!(matches!(error, PluginError::Component { .. }), "{file}: {error:?}");
        assert!(error.to_string().contains(says), "{file}: {error}");
        assert!(runtime.run(id, Value::Null, &Rights::granting(&[])).await.is_err(), "{file}");
    }
    install(folder.path(), "nonsense", b"not wasm at all");
    let plugin = runtime.runtime.find("nonsense").unwrap();
    assert!(runtime.runtime.prepare(&plugin).await.unwrap_err().to_string().contains("not a WebAssembly component"));
}

#[tokio::test]
async fn a_trap_in_describe_is_an_error_of_the_plugin() {
    let runtime = TestRuntime::new();
    let plugin = runtime.runtime.find("trap-in-describe").unwrap();
    let error = runtime.runtime.prepare(&plugin).await.unwrap_err();
    assert!(error.to_string().contains("`describe` failed"), "{error}");
    serves_others(&runtime).await;
}

#[tokio::test]
async fn a_component_whose_hash_changed_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = TestRuntime::with_folders(vec![folder.path().to_owned()]);
    install(folder.path(), "changed", &wat("no-exports.wat"));
    let plugin = runtime.runtime.find("changed").unwrap();
    let file = folder.path().join("changed/component.wasm");
    let mut bytes = fs::read(&file).unwrap();
    bytes.push(0);
    fs::write(&file, bytes).unwrap();
    for error in [runtime.runtime.find("changed").unwrap_err(), runtime.runtime.prepare(&plugin).await.unwrap_err()] {
        assert!(
            matches!(error, PluginError::ComponentTampered { .. }) && error.to_string().contains("its SHA-256 is"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_permit_that_is_shown_for_something_else_ends_the_attempt_as_a_violation() {
    let runtime = TestRuntime::new();
    runtime.backends.confuse();
    let failure = behave(&runtime, "write-artifact", &Rights::granting(&["artifact.write"])).await.unwrap_err();
    let StepFailure::Violation { kind, detail } = failure else { panic!("{failure:?}") };
    assert_eq!(kind, "wrong_permit");
    assert_eq!(detail, "a permit for `artifact.write` was shown where `fs.write` is needed");
    assert!(!runtime.backends.reached().contains_key("artifact put"), "nothing was stored");
    serves_others(&TestRuntime::new()).await;
}

#[tokio::test]
async fn a_component_that_changes_between_two_looks_is_a_violation() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = TestRuntime::with_folders(vec![folder.path().to_owned()]);
    install(folder.path(), "changed", &wat("no-exports.wat"));
    let plugin = runtime.runtime.find("changed").unwrap();
    // Consistent in itself, and not what was found a moment ago.
    install(folder.path(), "changed", &wat("core-module.wat"));
    let failure = runtime.run_found(&plugin, json!({}), &Rights::granting(&[])).await.unwrap_err();
    assert!(matches!(&failure, StepFailure::Violation { kind, .. } if kind == "component_tampered"), "{failure:?}");
}

#[tokio::test]
async fn no_state_survives_between_attempts_and_the_same_seed_gives_the_same_run() {
    let runtime = TestRuntime::new();
    fs::write(runtime.path("in/a.md"), "# Title\n\nText.\n").unwrap();
    let rights = Rights::granting(&["fs.read", "artifact.write"]);
    let first = runtime.run("read-folder", json!({ "mount": "in" }), &rights).await.unwrap();
    let second = runtime.run("read-folder", json!({ "mount": "in" }), &rights).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.output["documents"][0]["title"], "Title");
}
