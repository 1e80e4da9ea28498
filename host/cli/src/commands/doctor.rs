//! `handshake doctor`: checks the installation, one line each, with what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::access::{Access, Need};
use crate::api::database::{DatabaseStatus, RecorderStatus};
use crate::api::models::ModelList;
use crate::api::plugins::{PluginList, PluginState};
use crate::directory::DataDirectory;
use crate::error::{CliError, Exit};
use crate::guest_build::{INSTALL, Toolchain};
use crate::output::Tone;
use crate::policy;
use crate::settings::Settings;

/// Records that may wait for the projection without a word: what a busy second leaves behind.
const ORDINARY_LAG: u64 = 30_000;

/// Arguments of `handshake doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    check: String,
    verdict: Verdict,
    finding: String,
    remedy: Option<String>,
}

#[derive(Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn add(&mut self, verdict: Verdict, check: &str, finding: impl Into<String>, remedy: Option<String>) {
        self.0.push(Check { check: check.to_owned(), verdict, finding: finding.into(), remedy });
    }

    fn ok(&mut self, check: &str, finding: impl Into<String>) {
        self.add(Verdict::Ok, check, finding, None);
    }

    fn failed(&mut self, check: &str, error: &CliError) {
        let mut finding = error.message.clone();
        for cause in &error.why {
            finding.push_str(": ");
            finding.push_str(cause);
        }
        self.add(Verdict::Fail, check, finding, error.hint.clone());
    }
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

/// Checks everything; fails (exit 2) when a check does.
pub(crate) async fn doctor(context: &Context<'_>, _: &DoctorArgs) -> Result<Exit, CliError> {
    let mut findings = Findings::default();
    match context.settings() {
        Ok(settings) => {
            let shown = settings.file.as_deref().map_or_else(
                || "no handshake.toml; the defaults hold".to_owned(),
                |file| format!("{} is fine", file.display()),
            );
            findings.ok("configuration", shown);
            let usable = check_policy(&settings, &mut findings) & check_directory(&settings, &mut findings);
            check_telemetry(&settings, &mut findings);
            check_toolchain(&settings.project, &mut findings);
            if usable {
                check_host(context, &settings, &mut findings).await;
            }
        }
        Err(error) => {
            findings.failed("configuration", &error);
            check_toolchain(Path::new("."), &mut findings);
        }
    }
    show(context, findings.0)
}

fn check_policy(settings: &Settings, findings: &mut Findings) -> bool {
    match policy::load(settings) {
        Ok(policy) => {
            let name = settings
                .policy
                .as_deref()
                .map_or_else(|| "the built-in policy holds".to_owned(), |file| format!("{} is fine", file.display()));
            findings.ok("policy", format!("{name}: {} rules, {} mounts", policy.rules.len(), policy.mounts.len()));
            if policy.mode == handshake_core::capability::Mode::Observe {
                let remedy =
                    "set mode = \"enforce\" when you have seen enough of `handshake audit decisions`".to_owned();
                findings.add(
                    Verdict::Warn,
                    "policy",
                    "it is in observe mode: what it would deny is allowed",
                    Some(remedy),
                );
            }
            true
        }
        Err(error) => {
            findings.failed("policy", &error);
            false
        }
    }
}

fn check_directory(settings: &Settings, findings: &mut Findings) -> bool {
    let shown = settings.data_dir.display();
    let Some(directory) = DataDirectory::existing(&settings.data_dir) else {
        // Looking must not change anything, so the databases wait until there is something to look at.
        findings.add(
            Verdict::Warn,
            "data directory",
            format!("`{shown}` is not there yet"),
            Some("the first command that needs it creates it".to_owned()),
        );
        return false;
    };
    if let Some((problem, remedy)) = directory.exposed() {
        findings.add(Verdict::Fail, "data directory", problem, Some(remedy));
        return false;
    }
    match std::fs::metadata(directory.path()).map(|metadata| metadata.permissions().mode() & 0o077) {
        Ok(0) => findings.ok("data directory", format!("`{shown}` belongs to you alone")),
        _ => findings.add(
            Verdict::Warn,
            "data directory",
            format!("other users can look into `{shown}`"),
            Some(format!("chmod 700 {shown}")),
        ),
    }
    true
}

/// Says where traces go, without going there.
fn check_telemetry(settings: &Settings, findings: &mut Findings) {
    let Some(collector) = &settings.telemetry.collector else { return };
    let finding = format!("traces are exported to {collector}");
    let missing = settings.telemetry.missing.as_ref();
    match missing.map(|variable| format!("set `{variable}`, which headers_env names, or remove headers_env")) {
        Some(remedy) => {
            findings.add(Verdict::Warn, "telemetry", format!("{finding}, without the headers"), Some(remedy))
        }
        None => findings.ok("telemetry", finding),
    }
}

fn check_toolchain(folder: &Path, findings: &mut Findings) {
    match Toolchain::find(folder) {
        Some(toolchain) => findings.ok("compiler", format!("plugins can be built with {}", toolchain.describe())),
        None => findings.add(Verdict::Warn, "compiler", "plugins cannot be built here", Some(INSTALL.to_owned())),
    }
}

async fn check_host(context: &Context<'_>, settings: &Settings, findings: &mut Findings) {
    let access = match Access::open(settings, Need::Answers, context.output).await {
        Ok(access) => access,
        Err(error) => {
            let check = if error.code.starts_with("database_") { "database" } else { "host" };
            return findings.failed(check, &error);
        }
    };
    match access.get::<DatabaseStatus>("/api/v1/db").await {
        Ok(status) => check_databases(&status, findings),
        Err(error) => findings.failed("database", &error),
    }
    match access.get::<PluginList>("/api/v1/plugins").await {
        Ok(list) => check_plugins(&list, findings),
        Err(error) => findings.failed("plugins", &error),
    }
    match access.get::<ModelList>("/api/v1/models").await {
        Ok(list) => check_models(settings, &list, findings),
        Err(error) => findings.failed("models", &error),
    }
    if let Err(error) = access.close(context.output).await {
        findings.failed("host", &error);
    }
}

fn check_databases(status: &DatabaseStatus, findings: &mut Findings) {
    let version = status.migration_version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    let jobs = status.statistics.as_ref().map_or(0, |statistics| statistics.jobs);
    findings.ok("database", format!("{} opens, schema {version}, {jobs} jobs", status.url));
    match &status.recorder {
        None => {}
        Some(RecorderStatus::Failed(error)) => findings.failed("recorder", error),
        Some(RecorderStatus::Open(recorder)) => {
            let recorded = recorder.recorded.unwrap_or(recorder.projected);
            let lag = recorded.saturating_sub(recorder.projected);
            match &recorder.problem {
                Some(problem) => findings.add(
                    Verdict::Fail,
                    "recorder",
                    problem.clone(),
                    Some("the record itself is in the outbox; see the log with HANDSHAKE_LOG=debug".to_owned()),
                ),
                None if lag > ORDINARY_LAG => findings.add(
                    Verdict::Warn,
                    "recorder",
                    format!("{lag} records are still to be projected"),
                    Some("it catches up by itself; ask again".to_owned()),
                ),
                None => findings.ok("recorder", format!("{} of {recorded} records can be queried", recorder.projected)),
            }
        }
    }
}

fn check_plugins(list: &PluginList, findings: &mut Findings) {
    if list.plugins.is_empty() {
        findings.add(
            Verdict::Warn,
            "plugins",
            "none were found",
            Some("name their folders with `plugins` in handshake.toml".to_owned()),
        );
    }
    for plugin in &list.plugins {
        let name = format!("plugin {}", plugin.id);
        let problem = plugin.problem.clone().unwrap_or_default();
        match plugin.state {
            PluginState::Ready => findings.ok(&name, format!("version {}", plugin.version.as_deref().unwrap_or("?"))),
            PluginState::NotBuilt => findings.add(Verdict::Warn, &name, problem, None),
            PluginState::Broken => {
                findings.add(Verdict::Fail, &name, problem, Some(format!("handshake plugin check {}", plugin.id)))
            }
        }
    }
}

/// Says what is known without calling anybody: a doctor that spends tokens or leaves the machine is no doctor.
fn check_models(settings: &Settings, list: &ModelList, findings: &mut Findings) {
    for model in &list.models {
        let name = format!("model {}", model.name);
        let place = model.endpoint.as_deref().unwrap_or("part of this host");
        let wants_key = settings.models.get(&model.name).is_some_and(crate::settings::wants_key);
        if wants_key && !model.has_key {
            findings.add(
                Verdict::Warn,
                &name,
                format!("{} at {place}: its key is not there", model.model),
                Some("set the variable or file that key_env or key_file names".to_owned()),
            );
        } else if model.endpoint.is_some() {
            findings.ok(&name, format!("{} at {place}; to call it: handshake models test {}", model.model, model.name));
        } else {
            findings.ok(&name, format!("{}, {place}", model.model));
        }
    }
}

fn show(context: &Context<'_>, checks: Vec<Check>) -> Result<Exit, CliError> {
    let output = context.output;
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    let exit = if failed { Exit::Usage } else { Exit::Done };
    if output.is_json() {
        output.json(&Report { checks })?;
        return Ok(exit);
    }
    for check in &checks {
        let (word, tone) = match check.verdict {
            Verdict::Ok => ("ok  ", Tone::Good),
            Verdict::Warn => ("warn", Tone::Odd),
            Verdict::Fail => ("fail", Tone::Bad),
        };
        if output.quiet && check.verdict == Verdict::Ok {
            continue;
        }
        output.toned_line(word, tone, &format!("{}: {}", check.check, check.finding))?;
        if let Some(remedy) = &check.remedy {
            output.line(&format!("     do: {remedy}"))?;
        }
    }
    Ok(exit)
}
