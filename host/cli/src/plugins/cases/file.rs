//! A case as it is written: read, checked, and with every path inside the folder of the case.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use handshake_core::capability::{CapabilityId, HttpTarget, NetHost, Policy, Resource};
use handshake_core::job::AccessMode;
use handshake_core::mount::is_mount_name;
use handshake_core::terminal::escape;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use crate::error::CliError;
use crate::policy;
use crate::settings::json_of;
use crate::toml_file::TomlFile;

/// Files that a case takes its values from, in bytes: no artifact is larger.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The file. Unknown keys fail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    input: Option<toml::Table>,
    input_file: Option<Spanned<String>>,
    grants: Option<Vec<CapabilityId>>,
    #[serde(default)]
    deny: Vec<CapabilityId>,
    access_mode: Option<AccessMode>,
    #[serde(default)]
    mounts: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    artifacts: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    secrets: BTreeMap<Spanned<String>, SecretEntry>,
    #[serde(default)]
    config: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    document: Vec<DocumentEntry>,
    #[serde(default)]
    model: Vec<Spanned<ModelEntry>>,
    #[serde(default)]
    http: Vec<HttpEntry>,
    expect: Option<Spanned<Expect>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretEntry {
    value: Spanned<String>,
    #[serde(default)]
    hosts: Vec<String>,
    headers: Option<Vec<String>>,
}

/// A document of the case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentEntry {
    pub(super) id: String,
    pub(super) title: String,
    #[serde(default, rename = "block")]
    pub(super) blocks: Vec<BlockEntry>,
}

/// A block of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockEntry {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) content: String,
}

/// A canned answer of a model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelEntry {
    #[serde(default = "ModelEntry::default_name")]
    pub(super) name: String,
    pub(super) contains: Option<String>,
    pub(super) answer: Option<String>,
    pub(super) vectors: Option<Vec<Vec<f32>>>,
    pub(super) error: Option<ModelFault>,
    #[serde(default = "once")]
    pub(super) times: u32,
}

/// How a model fails.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum ModelFault {
    /// It wants to be asked later.
    #[serde(rename = "HSK-429-RATE-LIMIT")]
    RateLimit,
    /// Nothing is left to pay it with.
    #[serde(rename = "HSK-402-BUDGET-EXCEEDED")]
    BudgetExceeded,
    /// It is down.
    #[serde(rename = "HSK-500-LLM")]
    Failed,
}

impl ModelEntry {
    fn default_name() -> String {
        "default".to_owned()
    }
}

const fn once() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpEntry {
    request: Spanned<String>,
    #[serde(default)]
    sent: BTreeMap<String, String>,
    #[serde(default = "HttpEntry::ok")]
    status: Spanned<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_file: Option<Spanned<String>>,
    error: Option<HttpFault>,
    #[serde(default = "once")]
    times: u32,
}

impl HttpEntry {
    fn ok() -> Spanned<u16> {
        Spanned::new(0..0, 200)
    }
}

/// How a server fails.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HttpFault {
    /// Nobody listens.
    Refused,
}

/// A canned answer of a server.
#[derive(Debug, Clone)]
pub(super) struct HttpAnswer {
    pub(super) target: HttpTarget,
    pub(super) sent: BTreeMap<String, String>,
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    pub(super) error: Option<HttpFault>,
    pub(super) times: u32,
}

/// What is expected, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) output: Option<Spanned<toml::Value>>,
    pub(super) output_file: Option<Spanned<String>>,
    pub(super) error: Option<Spanned<String>>,
    pub(super) decisions: Option<Spanned<Vec<String>>>,
    pub(super) files: Option<Spanned<BTreeMap<String, String>>>,
    pub(super) artifacts: Option<Spanned<Vec<String>>>,
    pub(super) proposals: Option<Spanned<toml::Value>>,
}

impl Expect {
    /// A case that expects nothing cannot fail.
    const fn says_nothing(&self) -> bool {
        let Self { output, output_file, error, decisions, files, artifacts, proposals } = self;
        let result = output.is_some() || output_file.is_some() || error.is_some();
        !(result || decisions.is_some() || files.is_some() || artifacts.is_some() || proposals.is_some())
    }
}

/// A file that a case was read from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    file: TomlFile,
}

impl Source {
    /// `file:line` of a place.
    pub(super) fn place(&self, start: usize) -> String {
        format!("{}:{}", self.file.name, self.file.line(start))
    }

    pub(super) fn text(&self) -> &str {
        &self.file.text
    }
}

/// A case that can be run.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) file: Source,
    /// The folder that paths are relative to.
    pub(super) folder: PathBuf,
    pub(super) input: Value,
    /// None for everything that the manifest declares.
    pub(super) grants: Option<Vec<CapabilityId>>,
    pub(super) policy: Policy,
    pub(super) access_mode: AccessMode,
    /// Folders to copy; none for an empty one.
    pub(super) mounts: BTreeMap<String, Option<PathBuf>>,
    pub(super) artifacts: BTreeMap<String, (&'static str, Vec<u8>)>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) config: BTreeMap<String, Value>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) documents: Vec<DocumentEntry>,
    pub(super) models: Vec<(String, ModelEntry)>,
    pub(super) http: Vec<(String, HttpAnswer)>,
    pub(super) expect: Expect,
    /// Where `[expect]` stands; none when the case does not say yet what it expects.
    pub(super) expect_at: Option<usize>,
    /// What `output_file` holds.
    pub(super) output_file: Option<(PathBuf, Option<Value>)>,
}

/// Takes what a case names from the folder that it is in.
struct Folder<'a> {
    path: &'a Path,
    file: &'a TomlFile,
}

impl Folder<'_> {
    /// A path that leads to nothing outside of the folder.
    fn inside(&self, named: &Spanned<String>) -> Result<PathBuf, CliError> {
        let path = Path::new(named.get_ref());
        let refuse = |problem: &str| {
            Err(self
                .file
                .error_at(named.span(), &format!("`{}` {problem}", named.get_ref()))
                .hint("name something in the folder of the case, or below"))
        };
        if named.get_ref().is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return refuse("is not a path inside the folder of the case");
        }
        let full = self.path.join(path);
        // A link could lead anywhere; whoever wants something from elsewhere copies it.
        match full.canonicalize() {
            Ok(real) if !real.starts_with(self.path) => refuse("leads out of the folder of the case"),
            Ok(real) => Ok(real),
            Err(_) => Ok(full),
        }
    }

    fn read(&self, named: &Spanned<String>) -> Result<Vec<u8>, CliError> {
        let path = self.inside(named)?;
        let failed = |error: &std::io::Error| {
            self.file.error_at(named.span(), &format!("cannot read `{}`", named.get_ref())).because(error)
        };
        let metadata = std::fs::metadata(&path).map_err(|error| failed(&error))?;
        if metadata.len() > MAX_FILE_BYTES {
            let what = format!("`{}` has more than {MAX_FILE_BYTES} bytes", named.get_ref());
            return Err(self.file.error_at(named.span(), &what));
        }
        std::fs::read(&path).map_err(|error| failed(&error))
    }

    fn json(&self, named: &Spanned<String>) -> Result<Value, CliError> {
        let bytes = self.read(named)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.file.error_at(named.span(), &format!("`{}` is not JSON", named.get_ref())).because(&error)
        })
    }
}

impl Case {
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let file = TomlFile::read(path)?;
        let parsed: CaseFile =
            file.parse().map_err(|error| error.hint("docs/plugins/testing.md lists every key of a case"))?;
        let above = path.parent().unwrap_or(Path::new("."));
        let folder = above.canonicalize().map_err(|error| CliError::file("open the folder", above, &error))?;
        let from = Folder { path: &folder, file: &file };

        let input = match (parsed.input, &parsed.input_file) {
            (Some(_), Some(named)) => return Err(file.error_at(named.span(), "give `input` or `input_file`, not both")),
            (Some(table), None) => json_of(toml::Value::Table(table)).map_err(CliError::usage)?,
            (None, Some(named)) => from.json(named)?,
            (None, None) => Value::Object(serde_json::Map::new()),
        };
        let mut mounts = BTreeMap::new();
        for (name, named) in parsed.mounts {
            if !is_mount_name(name.get_ref()) {
                let what = format!("`{}` is not a name for a mount: use `a-z`, `0-9`, `_` and `-`", name.get_ref());
                return Err(file.error_at(name.span(), &what));
            }
            let source = if named.get_ref().is_empty() { None } else { Some(from.inside(&named)?) };
            if source.as_ref().is_some_and(|source| !source.is_dir()) {
                let what =
                    format!("`{}` is not a folder beside the case; \"\" stands for an empty one", named.get_ref());
                return Err(file.error_at(named.span(), &what));
            }
            mounts.insert(name.into_inner(), source);
        }
        let mut artifacts = BTreeMap::new();
        for (name, named) in parsed.artifacts {
            artifacts.insert(name, (media_type(named.get_ref()), from.read(&named)?));
        }
        let mut config = BTreeMap::new();
        for (key, value) in parsed.config {
            let span = value.span();
            let value = json_of(value.into_inner()).map_err(|problem| file.error_at(span, &problem))?;
            config.insert(key, value);
        }
        let policy = policy_of(&file, &parsed.deny, &parsed.secrets)?;
        let secrets = parsed.secrets.into_iter();
        let secrets = secrets.map(|(name, entry)| (name.into_inner(), entry.value.into_inner())).collect();
        let mut http = Vec::new();
        for entry in parsed.http {
            let place = format!("{}:{}", file.name, file.line(entry.request.span().start));
            http.push((place, answer(entry, &from)?));
        }
        let mut models = Vec::new();
        for entry in parsed.model {
            let (start, span) = (entry.span().start, entry.span());
            let entry = entry.into_inner();
            let said = [entry.answer.is_some(), entry.vectors.is_some(), entry.error.is_some()];
            if said.iter().filter(|said| **said).count() != 1 {
                return Err(file.error_at(span, "[[model]] needs one of `answer`, `vectors` and `error`"));
            }
            models.push((format!("{}:{}", file.name, file.line(start)), entry));
        }
        let expect_at = parsed.expect.as_ref().map(|expect| expect.span().start);
        let expect = parsed.expect.map(Spanned::into_inner).unwrap_or_default();
        if let (Some(at), true) = (expect_at, expect.says_nothing()) {
            return Err(
                file.error_at(at..at, "[expect] says nothing; give one of its keys, or leave it out and `--update`")
            );
        }
        if let (Some(_), Some(named)) = (&expect.output, &expect.output_file) {
            return Err(file.error_at(named.span(), "give `output` or `output_file`, not both"));
        }
        if let (true, Some(error)) = (expect.output.is_some() || expect.output_file.is_some(), &expect.error) {
            return Err(file.error_at(error.span(), "a step that fails has no output: expect one of them"));
        }
        let output_file = match &expect.output_file {
            None => None,
            Some(named) => {
                let path = from.inside(named)?;
                let value = if path.exists() { Some(from.json(named)?) } else { None };
                Some((path, value))
            }
        };
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self {
            name: escape(&name, false).into_owned(),
            input,
            grants: parsed.grants,
            policy,
            access_mode: parsed.access_mode.unwrap_or(AccessMode::ApplyScoped),
            mounts,
            artifacts,
            secrets,
            config,
            environment: parsed.env,
            documents: parsed.document,
            models,
            http,
            expect,
            expect_at,
            output_file,
            folder: folder.clone(),
            file: Source { path: path.to_owned(), file },
        })
    }
}

/// The operator of a case: allows everything but what the case denies, and what has no fake.
fn policy_of(
    file: &TomlFile,
    deny: &[CapabilityId],
    secrets: &BTreeMap<Spanned<String>, SecretEntry>,
) -> Result<Policy, CliError> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = "schema = 1\n".to_owned();
    for axis in handshake_core::capability::AXES.iter().filter(|axis| axis.is_grantable()) {
        text.push_str(&format!("[[allow]]\ncapability = {}\n", quoted(axis.name())));
    }
    let unreachable = ["net.tcp", "net.udp"].map(str::to_owned);
    for id in unreachable.into_iter().chain(deny.iter().map(ToString::to_string)) {
        text.push_str(&format!("[[deny]]\ncapability = {}\n", quoted(&id)));
    }
    for (name, entry) in secrets {
        if entry.value.get_ref().len() < handshake_recorder::SHORTEST_EXACT {
            let what = format!("the value of a secret has at least {} bytes", handshake_recorder::SHORTEST_EXACT);
            return Err(file.error_at(entry.value.span(), &what));
        }
        if entry.hosts.is_empty() {
            continue;
        }
        let list = |items: &[String]| items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
        let mut rule = format!("[[secret]]\nname = {}\nhosts = [{}]\n", quoted(name.get_ref()), list(&entry.hosts));
        if let Some(headers) = &entry.headers {
            rule.push_str(&format!("headers = [{}]\n", list(headers)));
        }
        let alone = TomlFile { name: "case".to_owned(), text: format!("schema = 1\n{rule}") };
        if let Err(error) = policy::rules_of(&alone) {
            // Its own place is in a text that nobody has written.
            let problem = error.message.splitn(4, ':').last().unwrap_or_default().trim().to_owned();
            return Err(file.error_at(name.span(), &problem));
        }
        text.push_str(&rule);
    }
    policy::rules_of(&TomlFile { name: "case".to_owned(), text })
}

fn answer(entry: HttpEntry, from: &Folder<'_>) -> Result<HttpAnswer, CliError> {
    let refuse = |problem: &str| {
        Err(from
            .file
            .error_at(entry.request.span(), problem)
            .hint("write for example: \"GET https://example.com/words\""))
    };
    let Some((method, url)) = entry.request.get_ref().split_once(' ') else {
        return refuse("a request is a method, a space and a URL");
    };
    let target = match Resource::request(method, url) {
        Resource::Request(target) => target,
        Resource::NoTarget { problem, .. } => return refuse(&problem),
        _ => return refuse("it is no request"),
    };
    let body = match (entry.body, &entry.body_file) {
        (Some(_), Some(named)) => return Err(from.file.error_at(named.span(), "give `body` or `body_file`, not both")),
        (Some(text), None) => text.into_bytes(),
        (None, Some(named)) => from.read(named)?,
        (None, None) => Vec::new(),
    };
    if !(200..=599).contains(entry.status.get_ref()) {
        return Err(from.file.error_at(entry.status.span(), "the status of an answer lies between 200 and 599"));
    }
    let sent = entry.sent.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let status = *entry.status.get_ref();
    Ok(HttpAnswer { target, sent, status, headers: entry.headers, body, error: entry.error, times: entry.times })
}

/// Names of the servers that canned answers mention.
pub(super) fn names(http: &[(String, HttpAnswer)]) -> Vec<String> {
    let hosts = http.iter().map(|(_, answer)| &answer.target.origin.host);
    hosts.filter_map(|host| if let NetHost::Name(name) = host { Some(name.to_string()) } else { None }).collect()
}

fn media_type(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("md") => "text/markdown; charset=utf-8",
        Some("txt") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
