//! `policy.toml`: the operator's rules, each with the line it stands on; and the built-in policy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use handshake_core::capability::{AXES, Axis, CapabilityId, Effect, Mode, MountRule, Policy, Rule, SourceRef};
use handshake_core::mount::MountAccess;
use handshake_core::{Digest, PluginId};
use serde::Deserialize;
use toml::Spanned;

use crate::error::CliError;
use crate::settings::Settings;
use crate::toml_file::TomlFile;

/// What records show as the file of the built-in policy.
const BUILT_IN: &str = "built-in";

/// `policy.toml` as written. Unknown keys fail.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyFile {
    /// Version of this form: 1.
    #[schemars(with = "u32", range(min = 1, max = 1))]
    schema: Spanned<u32>,
    /// `enforce`, or `observe` to let pass and record what the policy would deny; default `enforce`.
    #[serde(default = "enforce")]
    mode: Mode,
    /// Host folders that workflows may mount, themselves or any folder below.
    #[serde(default)]
    mount: Vec<MountEntry>,
    /// What is allowed; what no rule allows is denied.
    #[serde(default)]
    allow: Vec<RuleEntry>,
    /// What a person is asked for, whatever is allowed.
    #[serde(default)]
    ask: Vec<RuleEntry>,
    /// What is denied, whatever is allowed or granted.
    #[serde(default)]
    deny: Vec<RuleEntry>,
}

fn enforce() -> Mode {
    Mode::Enforce
}

/// A folder that may be mounted.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct MountEntry {
    /// Relative to this file.
    #[schemars(with = "PathBuf")]
    path: Spanned<PathBuf>,
    /// The most that a mount may ask for.
    access: MountAccess,
}

/// A rule on one capability.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    /// Which capability.
    #[schemars(with = "CapabilityId")]
    capability: Spanned<CapabilityId>,
    /// For which plugins; left out: for all.
    #[schemars(with = "Option<Vec<PluginId>>")]
    plugins: Option<Spanned<Vec<PluginId>>>,
}

/// The policy of a project: its file, or the built-in one.
pub(crate) fn load(settings: &Settings) -> Result<Policy, CliError> {
    match &settings.policy {
        Some(path) => read(path),
        None => parse(&TomlFile { name: BUILT_IN.to_owned(), text: policy_text(&[]) }, &settings.project),
    }
}

/// The policy in a file.
pub(crate) fn read(path: &Path) -> Result<Policy, CliError> {
    let file = TomlFile::read(path)
        .map_err(|error| error.hint("`handshake init` writes one; `policy` in handshake.toml names it"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parse(&file, folder)
}

fn parse(file: &TomlFile, folder: &Path) -> Result<Policy, CliError> {
    let parsed: PolicyFile = file.parse().map_err(|error| {
        error.hint("`handshake schema policy` shows every key, `handshake capabilities list` every id")
    })?;
    if *parsed.schema.get_ref() != 1 {
        return Err(
            file.error_at(parsed.schema.span(), &format!("this host reads schema 1, not {}", parsed.schema.get_ref()))
        );
    }
    let name: Arc<str> = Arc::from(file.name.as_str());
    let at = |offset: usize| SourceRef { file: Arc::clone(&name), line: file.line(offset) };

    let mut mounts = Vec::with_capacity(parsed.mount.len());
    for entry in parsed.mount {
        let wanted = folder.join(entry.path.get_ref());
        let path = wanted.canonicalize().map_err(|error| {
            file.error_at(entry.path.span(), &format!("cannot open folder `{}`", wanted.display()))
                .because(&error)
                .hint("create the folder or take the [[mount]] out")
        })?;
        if !path.is_dir() {
            return Err(file.error_at(entry.path.span(), &format!("`{}` is not a folder", wanted.display())));
        }
        mounts.push(MountRule { path, access: entry.access, source: at(entry.path.span().start) });
    }

    let sections = [(Effect::Allow, parsed.allow), (Effect::Ask, parsed.ask), (Effect::Deny, parsed.deny)];
    let mut rules = Vec::with_capacity(sections.iter().map(|(_, entries)| entries.len()).sum());
    let entries =
        sections.into_iter().flat_map(|(effect, entries)| entries.into_iter().map(move |entry| (effect, entry)));
    for (effect, entry) in entries {
        let plugins = match entry.plugins {
            None => Vec::new(),
            // An empty list reads like "for nobody"; taking it for "all" would turn it into its opposite.
            Some(list) if list.get_ref().is_empty() => {
                return Err(file.error_at(list.span(), "`plugins` is empty; leave it out to mean every plugin"));
            }
            Some(list) => list.into_inner(),
        };
        let source = at(entry.capability.span().start);
        rules.push(Rule { effect, capability: entry.capability.into_inner(), plugins, source });
    }
    rules.sort_by_key(|rule| rule.source.line);
    Ok(Policy { mode: parsed.mode, rules, mounts, digest: Digest::of(file.text.as_bytes()) })
}

/// The text of a policy with these mounts, or the project folder when there are none. It is what `init` writes,
/// and without mounts it is the built-in policy, so that `built-in:12` names a line that a person can look at.
pub(crate) fn policy_text(mounts: &[(String, MountAccess)]) -> String {
    let mut text = String::from(
        "# The operator's policy. What a step may do is what its plugin's manifest declares, the workflow\n\
         # grants, the job's profile lists and this file allows: all four. Deny beats allow, and what no\n\
         # rule allows is denied. Every decision is recorded with the line of the rule that made it.\n\
         schema = 1\n\
         \n\
         # \"enforce\", or \"observe\" to let pass and record as would-deny what this file would deny.\n\
         mode = \"enforce\"\n\
         \n\
         # Folders that workflows may mount, themselves or any folder below; relative to this file. The data\n\
         # directory and the folders it lies in are never mounted.\n",
    );
    let project = [(".".to_owned(), MountAccess::Write)];
    for (path, access) in if mounts.is_empty() { &project[..] } else { mounts } {
        let access = match access {
            MountAccess::Read => "read",
            MountAccess::Write => "write",
        };
        text.push_str(&format!("[[mount]]\npath = {}\naccess = \"{access}\"\n\n", toml::Value::String(path.clone())));
    }
    text.push_str("# What steps may ask for. `plugins = [\"…\"]` limits a rule to some; `handshake capabilities list` has every id.\n");
    for axis in allowed_by_default() {
        text.push_str(&format!("# {}\n[[allow]]\ncapability = \"{axis}\"\n\n", axis.summary()));
    }
    text.push_str(
        "# Secrets are allowed one by one:\n\
         # [[allow]]\n\
         # capability = \"secrets.use:NAME\"\n\
         # plugins = [\"PLUGIN\"]\n\
         \n\
         # A person can be asked, job by job; asking beats allowing:\n\
         # [[ask]]\n\
         # capability = \"model.infer\"\n\
         # plugins = [\"PLUGIN\"]\n\
         \n\
         # Denials look the same, and beat both:\n\
         # [[deny]]\n\
         # capability = \"fs.write\"\n\
         # plugins = [\"PLUGIN\"]\n",
    );
    text
}

/// Everything that can be granted, except secrets: those are worth a line of their own.
fn allowed_by_default() -> impl Iterator<Item = Axis> {
    AXES.iter().copied().filter(|axis| axis.is_grantable() && *axis != Axis::SecretsUse)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
