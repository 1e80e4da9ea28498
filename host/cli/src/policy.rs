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
pub(crate) const BUILT_IN: &str = "built-in";

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
    /// What is denied, whatever is allowed.
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
    load_with_text(settings).map(|(policy, _)| policy)
}

/// The same beside its text, whose hash is the policy's digest.
pub(crate) fn load_with_text(settings: &Settings) -> Result<(Policy, String), CliError> {
    let (file, folder) = match &settings.policy {
        Some(path) => {
            let file = TomlFile::read(path)
                .map_err(|error| error.hint("`handshake init` writes one; `policy` in handshake.toml names it"))?;
            (file, path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        }
        None => (TomlFile { name: BUILT_IN.to_owned(), text: policy_text(&[]) }, settings.project.as_path()),
    };
    Ok((parse(&file, folder)?, file.text))
}

/// What a text says of calls, without the folders that it lets be mounted: those may not be there, or not any more.
pub(crate) fn rules_of(file: &TomlFile) -> Result<Policy, CliError> {
    read(file).map(|(policy, _)| policy)
}

fn parse(file: &TomlFile, folder: &Path) -> Result<Policy, CliError> {
    let (policy, entries) = read(file)?;
    let at = |offset: usize| SourceRef { file: Arc::from(file.name.as_str()), line: file.line(offset) };
    let mut mounts = Vec::with_capacity(entries.len());
    for entry in entries {
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
    Ok(Policy { mounts, ..policy })
}

fn read(file: &TomlFile) -> Result<(Policy, Vec<MountEntry>), CliError> {
    let parsed: PolicyFile = file.parse().map_err(|error| {
        error.hint("`handshake schema policy` shows every key, `handshake capabilities list` every id")
    })?;
    if *parsed.schema.get_ref() != 1 {
        return Err(
            file.error_at(parsed.schema.span(), &format!("this host reads schema 1, not {}", parsed.schema.get_ref()))
        );
    }
    let name: Arc<str> = Arc::from(file.name.as_str());
    let mut rules = Vec::with_capacity(parsed.allow.len() + parsed.deny.len());
    let denied = parsed.deny.into_iter().map(|entry| (Effect::Deny, entry));
    for (effect, entry) in parsed.allow.into_iter().map(|entry| (Effect::Allow, entry)).chain(denied) {
        let plugins = match entry.plugins {
            None => Vec::new(),
            // An empty list reads like "for nobody"; taking it for "all" would turn it into its opposite.
            Some(list) if list.get_ref().is_empty() => {
                return Err(file.error_at(list.span(), "`plugins` is empty; leave it out to mean every plugin"));
            }
            Some(list) => list.into_inner(),
        };
        let source = SourceRef { file: Arc::clone(&name), line: file.line(entry.capability.span().start) };
        rules.push(Rule { effect, capability: entry.capability.into_inner(), plugins, source });
    }
    rules.sort_by_key(|rule| rule.source.line);
    let policy = Policy { mode: parsed.mode, rules, mounts: Vec::new(), digest: Digest::of(file.text.as_bytes()) };
    Ok((policy, parsed.mount))
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
         # Denials look the same:\n\
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
