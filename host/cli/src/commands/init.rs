//! `handshake init`: an annotated configuration and policy to start from.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use handshake_core::mount::MountAccess;
use serde::Serialize;

use super::Context;
use crate::error::{CliError, Exit};
use crate::policy::policy_text;
use crate::settings::{POLICY_FILE, SETTINGS_FILE};

/// Arguments of `handshake init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// A folder that workflows may mount, for reading or, with `:write`, for
    /// writing too; may be repeated [default: this folder, for writing]
    #[arg(long, value_name = "PATH[:write]", value_parser = parse_mount)]
    mount: Vec<(String, MountAccess)>,
}

fn parse_mount(text: &str) -> Result<(String, MountAccess), String> {
    let (path, access) = match text.strip_suffix(":write") {
        Some(path) => (path, MountAccess::Write),
        None => (text.strip_suffix(":read").unwrap_or(text), MountAccess::Read),
    };
    if path.is_empty() { Err("a folder is missing".to_owned()) } else { Ok((path.to_owned(), access)) }
}

const SETTINGS_TEXT: &str = r#"# Configuration of Handshake. Every key may be left out; what is commented out shows the default or an example.
# `handshake schema config` prints the whole form, `handshake doctor` checks that all is well.

# Folders with plugins, relative to this file.
plugins = ["plugins"]

# What workflows may do at most, decided by you; see the file itself.
policy = "policy.toml"

# Jobs, audit log, compiled code and keys; one process at a time owns it.
# data_dir = ".handshake"

# How many steps run at the same time, over all jobs.
# max_parallel = 8

# The database, if it is to be another than an SQLite file in the data directory. DATABASE_URL wins over it.
# [database]
# url_file = "database.url"        # or url = "sqlite:jobs.db", relative to this file
# connect_timeout = "10s"

# The most that any job may spend; workflows can say less.
# [budget]
# tokens = 1000000
# model_calls = 1000

# How long the record of what happened is kept, and where its signed head goes: best to where this
# machine cannot change it afterwards.
# [recorder]
# retention_days = 7
# head_file = "/mnt/elsewhere/head.json"
# signing_key_file = "recorder.pem" # made if it does not exist; default in the data directory
# seal_records = 50000
# seal_after = "1h"

# Which finished jobs are deleted. Pinned ones stay.
# [retention]
# interval = "1h"                  # 0s for never; `handshake db prune` does it at once
# days = 30
# keep = 3                         # the newest of each workflow
# disk_quota = 10000000000         # bytes of artifacts
# dry_run = false

# Runs, steps and calls of models as OpenTelemetry traces (OTLP/HTTP). OTEL_EXPORTER_OTLP_ENDPOINT wins over it.
# [telemetry]
# otlp_endpoint = "http://127.0.0.1:4318"
# headers_env = "OTEL_EXPORTER_OTLP_HEADERS"

# Where `handshake serve` listens besides the Unix socket. Who comes in shows a token: `handshake token new`.
# [serve]
# listen = "127.0.0.1:7420"        # or "off"; other addresses take TLS, or plain_http behind a proxy that has it
# hosts = ["handshake.example.com"] # names by which clients call it
# tls_certificate = "fullchain.pem"
# tls_key = "privkey.pem"
# plain_http = false
# grace = "30s"                    # for running steps, when it is asked to end

# Who is told when a job waits for people or has failed: a program, which reads one JSON document.
# [notify]
# command = ["curl", "--json", "@-", "https://hooks.example.com/handshake"]
# on = ["waiting", "failed"]

# Models by name. Steps ask for a name; which model that is, and its key, is known only here.
[models.default]
provider = "builtin/extractive"    # picks the most telling sentences; offline, the same result every time

# Any server that speaks the OpenAI protocol: Ollama, llama.cpp, vLLM, OpenAI.
# [models.local]
# provider = "openai"
# base_url = "http://127.0.0.1:11434/v1"
# model = "llama3.2"
# key_env = "OPENAI_API_KEY"       # or key_file; local servers need none
# timeout = "60s"

# Lists of capabilities that a workflow can name in job.profile, besides reader, analyst and integrator.
# [profiles.summarizer]
# capabilities = ["fs.read", "model.infer:default"]

# Variables of this process that steps can be granted to read (env.read); no other is ever shown to them.
# [environment]
# variables = ["LANG", "TZ"]

# Secrets: steps get placeholders, never values. Where values may go is for policy.toml to say.
# [secrets.api-token]
# env = "API_TOKEN"                # or file = "token.txt", or an entry of the system's keyring:
# keyring = { service = "example.com", account = "robot" }

# Settings for one plugin; it reads them with the capability config.read.
# [plugin.summarize]
# language = "en"
"#;

#[derive(Serialize)]
struct Written {
    written: [PathBuf; 2],
}

/// Writes both files; overwrites nothing.
pub(crate) fn init(context: &Context<'_>, args: &InitArgs) -> Result<Exit, CliError> {
    let settings_path = context.global.config.clone().unwrap_or_else(|| PathBuf::from(SETTINGS_FILE));
    let folder = settings_path.parent().unwrap_or(Path::new("")).to_owned();
    let policy_path = folder.join(POLICY_FILE);
    for path in [&settings_path, &policy_path] {
        if path.symlink_metadata().is_ok() {
            return Err(CliError::usage(format!("`{}` is there already; nothing was written", path.display()))
                .hint("move it away first, or name another place with --config"));
        }
    }
    for (path, _) in &args.mount {
        let wanted = folder.join(path);
        if !wanted.is_dir() {
            return Err(CliError::usage(format!("`{}` is not a folder that could be mounted", wanted.display()))
                .hint("paths after --mount are relative to the configuration; create the folder first"));
        }
    }
    write_new(&settings_path, SETTINGS_TEXT)?;
    write_new(&policy_path, &policy_text(&args.mount))?;
    if context.output.is_json() {
        context.output.json(&Written { written: [settings_path, policy_path] })?;
    } else if !context.output.quiet {
        context.output.line(&format!("wrote {} and {}", settings_path.display(), policy_path.display()))?;
        context.output.line("next: handshake doctor, then handshake run FILE")?;
    }
    Ok(Exit::Done)
}

fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let write = || OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes());
    write().map_err(|error| CliError::file("write", path, &error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_for_reading_unless_writing_is_asked_for() {
        assert_eq!(parse_mount("docs").unwrap(), ("docs".into(), MountAccess::Read));
        assert_eq!(parse_mount("docs:read").unwrap(), ("docs".into(), MountAccess::Read));
        assert_eq!(parse_mount("a:b:write").unwrap(), ("a:b".into(), MountAccess::Write));
        assert!(parse_mount(":write").is_err());
    }

    #[test]
    fn what_init_writes_is_understood_and_so_are_its_examples() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SETTINGS_FILE);
        std::fs::write(folder.path().join(POLICY_FILE), policy_text(&[])).unwrap();
        std::fs::write(folder.path().join("database.url"), "postgres://h/d\n").unwrap();
        // A comment that is a line of TOML becomes one; prose stays a comment.
        let is_example = |line: &str| line.starts_with("# [") || line.starts_with("# ") && line.contains(" = ");
        let uncommented: String = SETTINGS_TEXT
            .lines()
            .map(|line| {
                if is_example(line) { line.trim_start_matches("# ").to_owned() + "\n" } else { line.to_owned() + "\n" }
            })
            .collect();
        // Plain keys must come before the first table, which is where they stand.
        for text in [SETTINGS_TEXT, &uncommented] {
            std::fs::write(&path, text).unwrap();
            let settings = crate::settings::Settings::load(Some(&path), None).unwrap();
            crate::policy::load(&settings).unwrap();
        }
    }
}
