//! Planted secrets reach nothing that is written: no record, log, error, export or file of the data directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};

use handshake_tests::binary::{Finished, Project};
use handshake_tests::postgres::{Backend, Options, Server, backends, rows};

/// A secret for each detector and for some rules of the corpus, as a guest would come upon it, and what of it must not
/// be seen again. `host/recorder` has one for every rule.
const PLANTED: &[(&str, &str)] = &[
    ("sk-proj-Zx81Kq02Lm93Np74Qr65", "Zx81Kq02"),
    ("api_key=Vw55-Tt19-Pp02", "Vw55-Tt19"),
    ("ghp_Ab0Cd1Ef2Gh3Ij4Kl5Mn6Op7Qr8St9Uv0Wx1", "Ab0Cd1Ef2Gh3"),
    ("AKIAQ7WERTY2UIOP4ASD", "Q7WERTY2UIOP"),
    ("aws_secret_access_key=wJa1rXUtn5FEMIK7MDENGbPxRfiCYzQWpLm4n6Bv", "wJa1rXUtn5FEMI"),
    ("postgres://app:Sesam0effneDich@db.example.org/x", "Sesam0effne"),
    ("-----BEGIN PRIVATE KEY-----MIIEvQIBADANBgkqhkiG9w0BAQEF-----END PRIVATE KEY-----", "MIIEvQIBADANBgkq"),
    ("password: Tr0ub4dor&3horse", "Tr0ub4dor"),
    ("Authorization: Bearer mF9xB5f4w1JqM", "mF9xB5f4w1"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dBjftJeZ4CVPmB92K27uhbUJU1p1r", "dBjftJeZ4CVP"),
    ("token=a1b2c3d4e5f6g7", "a1b2c3d4e5f6"),
    ("LTAI5tQwErTyUiOpAsDfGh12", "5tQwErTyUiOp"),
    ("glsa_Qw1Er2Ty3Ui4Op5As6Df7Gh8Jk9Lz0Xc_a1b2c3d4", "Qw1Er2Ty3Ui4"),
    ("ann.confidential@mail.example.org", "ann.confidential"),
    ("+49 (30) 9182-7364", "9182-7364"),
];

/// What the operator issues: one in the environment, one in a file, the key of a model.
const ISSUED: [&str; 3] = ["correct horse battery staple", "issued-in-a-file-5521", "the-key-of-a-model-8837"];

fn project(planted: &[String]) -> Project {
    let project = Project::new();
    project.write("docs/secrets.txt", planted.join("\n"));
    project.write("issued", ISSUED[1]);
    let policy = fs::read_to_string(project.path("policy.toml")).unwrap();
    project.write("policy.toml", policy + "\n[[allow]]\ncapability = \"secrets.use\"\n");
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    let more = "\n[secrets.spoken]\nenv = 'ISSUED_SECRET'\n[secrets.filed]\nfile = 'issued'\n\
                [models.remote]\nprovider = 'openai'\nbase_url = 'http://127.0.0.1:9/v1'\nmodel = 'm'\nkey_env = 'ISSUED_KEY'\n";
    project.write("handshake.toml", settings + more);
    project
}

fn leak(project: &Project, more: &[&str]) -> Finished {
    let workflow = "name: leak\nmounts:\n  in: { path: docs, access: read }\n  out: { path: report, access: write }\njob: { access_mode: apply_scoped }\nsteps:\n  \
                    - { id: leak, uses: hostile, with: { behaviour: leak-everywhere }, grants: ['fs.read:in', 'fs.write:out', 'model.infer'] }\n";
    project.write("leak.yaml", workflow);
    let arguments = [&["run", "leak.yaml"], more].concat();
    let mut command = project.command(&arguments);
    command.env("HANDSHAKE_LOG", "trace").env("ISSUED_SECRET", ISSUED[0]).env("ISSUED_KEY", ISSUED[2]);
    command.output().unwrap().into()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Where these pieces turn up: in what was said, in files of the data directory, raw or in the column text that a
/// reader of the record gets.
fn seen(project: &Project, said: &[&Finished], pieces: &[String]) -> Vec<String> {
    seen_in(&project.path(".handshake"), said, pieces)
}

fn seen_in(directory: &Path, said: &[&Finished], pieces: &[String]) -> Vec<String> {
    let mut places: Vec<(String, Vec<u8>)> = said
        .iter()
        .flat_map(|said| [("standard output".to_owned(), &said.stdout), ("standard error".to_owned(), &said.stderr)])
        .map(|(place, text)| (place, text.as_bytes().to_vec()))
        .collect();
    let files = files(directory).into_iter().filter(|path| path.extension().is_none_or(|it| it != "sock"));
    places.extend(files.map(|path| (path.display().to_string(), fs::read(&path).unwrap_or_default())));
    let mut seen = Vec::new();
    for (place, bytes) in &places {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        for piece in pieces {
            let numbers = format!("{:?}", piece.as_bytes());
            let numbers = numbers.trim_matches(['[', ']']);
            if text.contains(&piece.to_ascii_lowercase()) || text.contains(numbers) {
                seen.push(format!("{piece} in {place}"));
            }
        }
    }
    seen
}

#[test]
fn what_a_guest_leaks_on_every_way_is_in_no_file_record_or_log() {
    let lines: Vec<String> = PLANTED.iter().map(|(line, _)| (*line).to_owned()).collect();
    let project = project(&lines);
    let text = leak(&project, &[]);
    // Some of what it asked for was denied.
    assert_eq!(text.code, 3, "{text:#?}");
    assert!(text.stderr.contains("[REDACTED:api_key:secret_api_key]"), "{}", text.stderr);
    let json = leak(&project, &["--output", "json"]);
    let jobs = project.run(&["jobs", "list", "--output", "json"]).success();
    let job = jobs.json()["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    let show = project.run(&["jobs", "show", &job, "--output", "json"]).success();
    assert!(show.stdout.contains("[REDACTED:db_url:secret_db_url]"), "{}", show.stdout);
    let decisions = project.run(&["audit", "decisions", "--output", "json"]).success();
    assert!(decisions.stdout.contains("[REDACTED:pii:pii_email]"), "{}", decisions.stdout);

    let pieces: Vec<String> = PLANTED.iter().map(|(_, piece)| (*piece).to_owned()).collect();
    let seen = seen(&project, &[&text, &json, &jobs, &show, &decisions], &pieces);
    assert!(seen.is_empty(), "{}", seen.join("\n"));

    // All of it did arrive, and the record says where something was taken out by which rule.
    let events = project.events("capability_action");
    for rule in
        ["secret_private_key", "alibaba-access-key-id", "grafana-service-account-token", "pii_email", "pii_phone"]
    {
        let listed = |event: &serde_json::Value| {
            event["redactions"].as_array().is_some_and(|list| {
                list.iter().any(|entry| entry["field"] == "payload.resource" && entry["rule"] == rule)
            })
        };
        assert!(events.iter().any(listed), "{rule}");
    }
    // The path that it asked for stays, and so does the folder behind the mount.
    let docs = project.path("docs").canonicalize().unwrap();
    assert!(events.iter().any(|event| event["payload"]["host_path"] == docs.to_str().unwrap()));
}

#[test]
fn what_a_guest_leaks_is_in_no_table_and_no_file_of_a_postgresql_server() {
    if !backends().contains(&Backend::Postgres) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let server = Server::private(Options::default());
    let mut planted: Vec<(&str, &str)> = PLANTED.to_vec();
    planted.extend(ISSUED.map(|issued| (issued, issued)));
    let project = project(&planted.iter().map(|(line, _)| (*line).to_owned()).collect::<Vec<_>>());
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", format!("{settings}\n[database]\nurl = '{}'\n", server.url()));
    let said = leak(&project, &[]);
    assert_eq!(said.code, 3, "{said:#?}");

    let pieces: Vec<String> = planted.iter().map(|(_, piece)| (*piece).to_owned()).collect();
    // Long values are compressed in the server's files, but not in what it answers.
    let rows = rows(&server.url());
    let outbox = rows.iter().filter(|(table, row)| table == "outbox" && row.contains("[REDACTED:"));
    assert!(outbox.count() > 10, "{rows:#?}");
    let leaks = rows.iter().filter(|(_, row)| pieces.iter().any(|piece| row.contains(piece)));
    assert_eq!(leaks.collect::<Vec<_>>(), [] as [&(String, String); 0]);
    let (here, there) = (seen(&project, &[&said], &pieces), seen_in(server.folder(), &[], &pieces));
    assert!(here.is_empty() && there.is_empty(), "{}", [here, there].concat().join("\n"));
}

#[test]
fn what_the_operator_issued_is_nowhere_in_the_data_directory_in_no_encoding() {
    let base64 = |text: &str| {
        let mut encoded = String::new();
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for chunk in text.as_bytes().chunks(3) {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            (0..=chunk.len()).for_each(|at| encoded.push(char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize])));
        }
        encoded
    };
    let mut lines = Vec::new();
    let mut pieces = Vec::new();
    for issued in ISSUED {
        let encoded = [issued.to_owned(), issued.to_uppercase(), hex::encode(issued), issued.replace(' ', "%20")];
        pieces.extend(encoded.clone());
        lines.extend(encoded.map(|text| format!("found {text} there")));
        for before in ["", "x", "xy"] {
            let text = base64(&format!("{before}{issued}"));
            // The first and last letters depend on the neighbours.
            pieces.push(text[4..text.len() - 4].to_owned());
            lines.push(text);
        }
    }
    let project = project(&lines);
    let said = leak(&project, &[]);
    assert_eq!(said.code, 3, "{said:#?}");
    assert!(said.stderr.contains("[REDACTED:token:secret_exact]"), "{}", said.stderr);
    let decisions = project.run(&["audit", "decisions"]).success();
    let seen = seen(&project, &[&said, &decisions], &pieces);
    assert!(seen.is_empty(), "{}", seen.join("\n"));
}

#[test]
fn steps_get_a_placeholder_and_its_value_is_in_no_payload() {
    let project = project(&[]);
    let workflow = "name: ask\njob: { access_mode: apply_scoped, profile: integrator }\nsteps:\n  - { id: ask, uses: hostile, with: { behaviour: secret-denied, target: spoken }, \
                    grants: ['secrets.use:spoken'] }\n  - { id: look, uses: hostile, with: { behaviour: env-read } }\n\
                    outputs: { ask: '${steps.ask.output}', look: '${steps.look.output}' }\n";
    project.write("ask.yaml", workflow);
    let mut command = project.command(&["run", "ask.yaml", "--output", "json"]);
    command.env("HANDSHAKE_LOG", "trace").env("ISSUED_SECRET", ISSUED[0]).env("ISSUED_KEY", ISSUED[2]);
    let said: Finished = command.output().unwrap().into();
    assert_eq!(said.code, 0, "{said:#?}");
    let attempt = &said.json()["job"]["job_outputs"]["ask"]["attempts"][0];
    assert_eq!((&attempt["what"], &attempt["outcome"]), (&"secret spoken".into(), &"ok".into()), "{}", said.stdout);
    let seen = seen(&project, &[&said], &ISSUED.map(str::to_owned));
    assert!(seen.is_empty(), "{}", seen.join("\n"));
}

#[test]
fn errors_warnings_and_wrong_usage_show_no_secret() {
    let secret = "ghp_Ab0Cd1Ef2Gh3Ij4Kl5Mn6Op7Qr8St9Uv0Wx1";
    let project = Project::new();
    for arguments in [
        vec!["run", secret],
        vec!["run", secret, "--output", "json"],
        vec!["jobs", "show", secret],
        vec!["jobs", "list", "--state", secret],
        vec!["--output", "json", "jobs", "list", "--state", secret],
        vec!["documents", "show", secret, "--output", "json"],
    ] {
        let said = project.run(&arguments);
        assert_ne!(said.code, 0, "{arguments:?}");
        assert!(!said.stderr.contains(secret) && !said.stdout.contains(secret), "{arguments:?}: {said:#?}");
        assert!(said.stderr.contains("[REDACTED:"), "{arguments:?}: {said:#?}");
    }
    // A warning of the log.
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", format!("{settings}\n[secrets.{secret}]\nenv = 'NOT_SET_ANYWHERE'\n"));
    let said = project.run(&["jobs", "list"]);
    assert!(said.stderr.contains("secret=[REDACTED:"), "{said:#?}");
    assert!(!said.stderr.contains(secret), "{said:#?}");
}

#[test]
fn a_secret_that_is_too_short_to_be_kept_out_of_records_is_refused() {
    let project = Project::new();
    project.write("pin", "1234567");
    let settings = fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", settings + "\n[secrets.pin]\nfile = 'pin'\n");
    let said = project.run(&["jobs", "list"]);
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(
        said.stderr.contains("secret `pin` has fewer than 8 bytes") && !said.stderr.contains("1234567"),
        "{said:#?}"
    );
}
