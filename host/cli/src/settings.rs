//! `handshake.toml`: where plugins, policy and data are, which models, profiles and secrets there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handshake_core::capability::{CapabilityId, Profile, builtin_profiles};
use handshake_core::workflow::Budget;
use handshake_core::{PluginId, ProfileId};
use handshake_models::{ModelSettings, OpenAiSettings};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::budget::BudgetFile;
use crate::database::{DATABASE_URL, DatabaseFile, DatabaseSettings};
use crate::environment::EnvironmentFile;
use crate::error::CliError;
use crate::network::{NetworkFile, NetworkSettings};
use crate::notify::{Notify, NotifyFile};
use crate::recorder::{RecorderFile, RecorderSettings};
use crate::retention::{RetentionFile, RetentionSettings};
use crate::secrets::SecretSource;
use crate::telemetry::{TelemetryFile, TelemetrySettings};
use crate::toml_file::TomlFile;

/// The name looked for in the current folder.
pub(crate) const SETTINGS_FILE: &str = "handshake.toml";
/// The policy looked for beside it.
pub(crate) const POLICY_FILE: &str = "policy.toml";
/// The data directory, unless something else is said.
pub(crate) const DATA_DIR: &str = ".handshake";
/// The most steps at the same time; each has an instance with memory of its own.
const MOST_PARALLEL: u32 = 256;

/// `handshake.toml` as written. Unknown keys fail.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SettingsFile {
    /// Folders with plugins, relative to this file; default `["plugins"]`.
    plugins: Option<Vec<PathBuf>>,
    /// The operator's policy, relative to this file; default `policy.toml` if there is one, else the built-in.
    policy: Option<PathBuf>,
    /// The data directory, relative to this file; default `.handshake`.
    data_dir: Option<PathBuf>,
    /// How many steps run at the same time, over all jobs; 1 to 256, default 8.
    #[schemars(range(min = 1, max = 256))]
    max_parallel: Option<u32>,
    /// The database, if it is not the SQLite file in the data directory.
    database: DatabaseFile,
    /// What the janitor deletes.
    retention: RetentionFile,
    /// How long the flight recorder keeps its record, and where the signed head goes.
    recorder: RecorderFile,
    /// The most that any job may spend.
    budget: BudgetFile,
    /// Where traces are exported to.
    telemetry: TelemetryFile,
    /// Where `handshake serve` listens.
    serve: NetworkFile,
    /// Who is told when a job waits for people or has failed.
    notify: NotifyFile,
    /// Models by name; `default` is the built-in extractive one unless given here.
    models: BTreeMap<String, ModelSettings>,
    /// Capability profiles besides `reader`, `analyst` and `integrator`.
    #[schemars(with = "BTreeMap<String, ProfileSettings>")]
    profiles: BTreeMap<ProfileId, ProfileSettings>,
    /// Environment variables that steps may be granted to read.
    environment: EnvironmentFile,
    /// Secrets that steps may get placeholders for.
    secrets: BTreeMap<String, SecretSource>,
    /// Settings for plugins, by plugin id.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Value>>")]
    plugin: BTreeMap<PluginId, BTreeMap<String, toml::Value>>,
}

/// A capability profile.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfileSettings {
    /// What it lists.
    capabilities: Vec<CapabilityId>,
}

/// Settings given to plugins, by plugin.
pub(crate) type PluginSettings = BTreeMap<PluginId, Arc<BTreeMap<String, Value>>>;

/// What the settings file says, checked, with paths from the project folder.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The folder that the file is in, else the current one; absolute.
    pub(crate) project: PathBuf,
    /// The file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Folders with plugins, absolute.
    pub(crate) plugin_folders: Vec<PathBuf>,
    /// The policy file, if one was named or is there.
    pub(crate) policy: Option<PathBuf>,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// How many steps run at the same time.
    pub(crate) max_parallel: u32,
    /// The database.
    pub(crate) database: DatabaseSettings,
    /// What the janitor deletes.
    pub(crate) retention: RetentionSettings,
    /// The flight recorder.
    pub(crate) recorder: RecorderSettings,
    /// The most that any job may spend.
    pub(crate) budget: Budget,
    /// Where traces are exported to.
    pub(crate) telemetry: TelemetrySettings,
    /// Where `handshake serve` listens.
    pub(crate) network: NetworkSettings,
    /// Who is told when a job waits for people or has failed.
    pub(crate) notify: Option<Notify>,
    /// Models by name.
    pub(crate) models: BTreeMap<String, ModelSettings>,
    /// The built-in profiles and those of the file.
    pub(crate) profiles: Vec<Arc<Profile>>,
    /// Environment variables for steps.
    pub(crate) environment: EnvironmentFile,
    /// Secrets by name.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Settings of plugins.
    pub(crate) plugin_settings: Arc<PluginSettings>,
}

impl Settings {
    /// What the host reads and no guest may write: plugins, configuration, policy, secrets, database.
    pub(crate) fn trusted_paths(&self) -> Vec<PathBuf> {
        let secrets = self.secrets.values().filter_map(|source| source.file.as_deref());
        let files = secrets.chain(self.database.url.file()).chain(self.recorder.files()).chain(self.network.files());
        let paths = self.plugin_folders.iter().map(PathBuf::as_path).chain(files);
        // These two are named from the current folder on, all others from the project's.
        let named = self.file.iter().chain(&self.policy).filter_map(|path| std::path::absolute(path).ok());
        paths.map(|path| self.project.join(path)).chain(named).collect()
    }

    /// Reads the named file, else `handshake.toml` in the current folder if there is one, else takes the defaults.
    pub(crate) fn load(config: Option<&Path>, data_dir: Option<&Path>) -> Result<Self, CliError> {
        let file = match config {
            Some(path) => Some(path.to_owned()),
            None => Some(PathBuf::from(SETTINGS_FILE)).filter(|path| path.exists()),
        };
        let read = match &file {
            Some(path) => {
                let text = TomlFile::read(path)
                    .map_err(|error| error.hint("`handshake init` writes one; --config names another"))?;
                let parsed: SettingsFile =
                    text.parse().map_err(|error| error.hint("`handshake schema config` shows every key"))?;
                parsed.check(&text)?;
                parsed
            }
            None => SettingsFile::default(),
        };
        let shown = file.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        let here = if shown.as_os_str().is_empty() { Path::new(".") } else { &shown };
        let project = here.canonicalize().map_err(|error| CliError::file("open the folder", here, &error))?;
        read.resolve(project, &shown, file, data_dir)
    }
}

impl SettingsFile {
    fn check(&self, file: &TomlFile) -> Result<(), CliError> {
        let refuse = |problem: String| Err(CliError::usage(format!("{}: {problem}", file.name)));
        if let Some(wanted) = self.max_parallel.filter(|wanted| !(1..=MOST_PARALLEL).contains(wanted)) {
            return refuse(format!("max_parallel: {wanted} is not between 1 and {MOST_PARALLEL}"));
        }
        self.environment.check(&file.name)?;
        let builtin = builtin_profiles();
        if let Some(id) = self.profiles.keys().find(|id| builtin.iter().any(|profile| profile.id == **id)) {
            return refuse(format!("profiles.{id}: built-in profiles cannot be changed; choose another name"));
        }
        Ok(())
    }

    fn resolve(
        self,
        project: PathBuf,
        shown: &Path,
        file: Option<PathBuf>,
        data_dir: Option<&Path>,
    ) -> Result<Settings, CliError> {
        let folders = self.plugins.unwrap_or_else(|| vec![PathBuf::from("plugins")]);
        let policy = match self.policy {
            Some(named) => Some(shown.join(named)),
            None => Some(shown.join(POLICY_FILE)).filter(|path| path.exists()),
        };
        let data_dir = match (data_dir, self.data_dir) {
            (Some(given), _) => std::path::absolute(given).map_err(|error| CliError::file("find", given, &error))?,
            (None, Some(configured)) => project.join(configured),
            (None, None) => project.join(DATA_DIR),
        };
        let added = self
            .profiles
            .into_iter()
            .map(|(id, settings)| Profile { id, capabilities: settings.capabilities.into_iter().collect() });
        let mut plugin_settings = PluginSettings::new();
        for (id, table) in self.plugin {
            let mut values = BTreeMap::new();
            for (key, value) in table {
                let value =
                    json_of(value).map_err(|problem| CliError::usage(format!("plugin.{id}.{key}: {problem}")))?;
                values.insert(key, value);
            }
            plugin_settings.insert(id, Arc::new(values));
        }
        let name = file.as_deref().map_or_else(|| SETTINGS_FILE.to_owned(), |file| file.display().to_string());
        let environment = std::env::var(DATABASE_URL).ok().map(SecretString::from);
        let database = self.database.resolve(&name, &project, &data_dir, environment)?;
        let retention = self.retention.resolve(&name)?;
        let recorder = self.recorder.resolve(&name, &project)?;
        let budget = self.budget.resolve(&name)?;
        let network = self.serve.resolve(&name, &project)?;
        let notify = self.notify.resolve(&name)?;
        let telemetry = self.telemetry.resolve(&name, &|variable| std::env::var(variable).ok())?;
        let mut models = self.models;
        for model in models.values_mut() {
            if let ModelSettings::OpenAi(OpenAiSettings { key_file: Some(file), .. }) = model {
                *file = project.join(&*file);
            }
        }
        Ok(Settings {
            plugin_folders: folders.iter().map(|folder| project.join(folder)).collect(),
            policy,
            data_dir,
            max_parallel: self.max_parallel.unwrap_or(8),
            database,
            retention,
            recorder,
            budget,
            telemetry,
            network,
            notify,
            models,
            profiles: builtin_profiles().into_iter().chain(added).map(Arc::new).collect(),
            environment: self.environment,
            secrets: self.secrets,
            plugin_settings: Arc::new(plugin_settings),
            project,
            file,
        })
    }
}

/// Whether a model's settings name a key.
pub(crate) fn wants_key(settings: &ModelSettings) -> bool {
    matches!(settings, ModelSettings::OpenAi(server) if server.key_env.is_some() || server.key_file.is_some())
}

/// TOML to JSON: dates become text, numbers that JSON does not have are refused.
pub(crate) fn json_of(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| format!("{number} is not a number that JSON has"))?,
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json_of).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => Value::Object(
            table.into_iter().map(|(key, value)| json_of(value).map(|value| (key, value))).collect::<Result<_, _>>()?,
        ),
    })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
