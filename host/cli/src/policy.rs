//! `policy.toml`: the operator's rules, each with the line it stands on; and the built-in policy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use handshake_core::capability::{
    AXES, Axis, CapabilityId, Effect, Mode, MountRule, Policy, Rule, SecretRule, SourceRef, addresses,
};
use handshake_core::mount::MountAccess;
use handshake_core::{Digest, PluginId};
use ipnet::IpNet;
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
    /// What a person is asked for, whatever is allowed.
    #[serde(default)]
    ask: Vec<RuleEntry>,
    /// What is denied, whatever is allowed or granted.
    #[serde(default)]
    deny: Vec<RuleEntry>,
    /// Where the values of secrets may go.
    #[serde(default)]
    secret: Vec<SecretEntry>,
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
    /// Addresses of this machine, of private networks and the like that an allow rule of the network may lead to although
    /// its capability names a host: `["10.0.0.0/8", "::1"]`.
    #[schemars(with = "Option<Vec<String>>")]
    addresses: Option<Spanned<Vec<String>>>,
}

/// Where the value of a secret may go.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecretEntry {
    /// The secret, as handshake.toml names it.
    #[schemars(with = "String")]
    name: Spanned<String>,
    /// To which servers, as the scopes of `net.http` are written: `["https://api.example.com"]`.
    #[schemars(with = "Vec<String>")]
    hosts: Spanned<Vec<String>>,
    /// In which headers; default `["authorization"]`.
    #[schemars(with = "Option<Vec<String>>")]
    headers: Option<Spanned<Vec<String>>>,
}

/// The policy of a project: its file, or the built-in one.
pub(crate) fn load(settings: &Settings) -> Result<Policy, CliError> {
    load_with_text(settings).map(|(policy, _)| policy)
}

/// The same beside its text, whose hash is the policy's digest.
pub(crate) fn load_with_text(settings: &Settings) -> Result<(Policy, String), CliError> {
    match &settings.policy {
        Some(path) => read(path),
        None => {
            let file = TomlFile { name: BUILT_IN.to_owned(), text: policy_text(&[]) };
            Ok((parse(&file, &settings.project)?, file.text))
        }
    }
}

/// What a text says of calls, without the folders that it lets be mounted: those may not be there, or not any more.
pub(crate) fn rules_of(file: &TomlFile) -> Result<Policy, CliError> {
    understood(file).map(|(policy, _)| policy)
}

/// The policy in a file, beside its text.
pub(crate) fn read(path: &Path) -> Result<(Policy, String), CliError> {
    let file = TomlFile::read(path)
        .map_err(|error| error.hint("`handshake init` writes one; `policy` in handshake.toml names it"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((parse(&file, folder)?, file.text))
}

fn parse(file: &TomlFile, folder: &Path) -> Result<Policy, CliError> {
    let (policy, entries) = understood(file)?;
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

/// Everything but the folders, which have to be looked at.
fn understood(file: &TomlFile) -> Result<(Policy, Vec<MountEntry>), CliError> {
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
        let capability = entry.capability.into_inner();
        let addresses = match entry.addresses {
            None => Vec::new(),
            Some(list) => guarded_addresses(&list, effect, &capability, file)?,
        };
        rules.push(Rule { effect, capability, plugins, addresses, source });
    }
    rules.sort_by_key(|rule| rule.source.line);
    let secrets = parsed.secret.into_iter().map(|entry| secret_rule(entry, file, &at)).collect::<Result<_, _>>()?;
    let digest = Digest::of(file.text.as_bytes());
    Ok((Policy { mode: parsed.mode, rules, mounts: Vec::new(), secrets, digest }, parsed.mount))
}

fn guarded_addresses(
    list: &Spanned<Vec<String>>,
    effect: Effect,
    capability: &CapabilityId,
    file: &TomlFile,
) -> Result<Vec<IpNet>, CliError> {
    let refuse = |problem: &str| Err(file.error_at(list.span(), problem));
    if effect == Effect::Deny
        || !matches!(capability.axis(), Axis::NetHttp | Axis::NetTcp | Axis::NetUdp | Axis::NetDns)
    {
        return refuse("`addresses` belongs to an allow rule of the network");
    }
    let mut networks = Vec::with_capacity(list.get_ref().len());
    for text in list.get_ref() {
        match addresses(text) {
            Some(network) => networks.push(network),
            None => {
                return refuse(&format!(
                    "`{text}` is no address and no network; write `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`"
                ));
            }
        }
    }
    Ok(networks)
}

/// Headers that say where a request goes or how long it is; a value has no place there.
const FRAMING: [&str; 6] = ["connection", "content-length", "host", "te", "transfer-encoding", "upgrade"];

fn secret_rule(entry: SecretEntry, file: &TomlFile, at: &dyn Fn(usize) -> SourceRef) -> Result<SecretRule, CliError> {
    let mut hosts = Vec::with_capacity(entry.hosts.get_ref().len());
    for host in entry.hosts.get_ref() {
        let refuse = |problem: String| Err(file.error_at(entry.hosts.span(), &problem));
        match format!("{}:{host}", Axis::NetHttp).parse::<CapabilityId>() {
            Ok(id) if id.is_readable_on_the_way() => {
                return refuse(format!(
                    "`{host}`: a secret is sent with `https` only, so that nobody on the way can read it"
                ));
            }
            Ok(id) => hosts.push(id),
            Err(error) => return refuse(error.to_string()),
        }
    }
    if hosts.is_empty() {
        return Err(file.error_at(entry.hosts.span(), "`hosts` is empty, so the secret could go nowhere"));
    }
    let headers = match entry.headers {
        None => vec!["authorization".to_owned()],
        Some(list) => {
            let headers: Vec<_> = list.get_ref().iter().map(|name| name.to_ascii_lowercase()).collect();
            let is_token = |name: &str| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            };
            if let Some(name) = headers.iter().find(|name| !is_token(name) || FRAMING.contains(&name.as_str())) {
                return Err(file.error_at(list.span(), &format!("`{name}` is no header that can carry a secret")));
            }
            if headers.is_empty() {
                return Err(file.error_at(list.span(), "`headers` is empty; leave it out to mean `authorization`"));
            }
            headers
        }
    };
    let source = at(entry.name.span().start);
    Ok(SecretRule { name: entry.name.into_inner(), hosts, headers, source })
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
        "# The network, variables and secrets are allowed one by one:\n\
         # [[allow]]\n\
         # capability = \"net.http:https://api.example.com\"\n\
         # plugins = [\"PLUGIN\"]\n\
         # addresses = [\"10.0.0.0/8\"]    # only if the host is in a private network, or is this machine\n\
         #\n\
         # [[allow]]\n\
         # capability = \"secrets.use:NAME\"\n\
         #\n\
         # [[secret]]                      # where the value may go\n\
         # name = \"NAME\"\n\
         # hosts = [\"https://api.example.com\"]\n\
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

/// Everything that can be granted, except what leads out of the host or brings something of it in: that is worth a line
/// of its own.
fn allowed_by_default() -> impl Iterator<Item = Axis> {
    let outside = [Axis::NetHttp, Axis::NetTcp, Axis::NetUdp, Axis::NetDns, Axis::EnvRead, Axis::SecretsUse];
    AXES.iter().copied().filter(move |axis| axis.is_grantable() && !outside.contains(axis))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
