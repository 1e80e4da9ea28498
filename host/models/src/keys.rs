//! Keys: read once at start, from the environment or from files, and shown to nobody but their server.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::settings::{self, ModelSettings, ModelSettingsError, OpenAiSettings};

/// Longer files are no keys.
const LONGEST_KEY: u64 = 16 * 1024;

/// The keys of all models that have one.
#[derive(Debug, Default)]
pub struct Keys(BTreeMap<String, SecretString>);

impl Keys {
    /// The values, for redaction and nothing else.
    pub fn secret_values(&self) -> Vec<String> {
        self.0.values().map(|key| key.expose_secret().to_owned()).collect()
    }

    pub(crate) fn take(&mut self, model: &str) -> Option<SecretString> {
        self.0.remove(model)
    }
}

/// Checks the settings and reads the keys that they name. A variable that is not set or a file that does not
/// exist leaves its model without key: other models work, and a call of this one says what is missing. A file
/// that others than its owner can access is refused.
pub fn load_keys(
    settings: &BTreeMap<String, ModelSettings>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Keys, ModelSettingsError> {
    settings::check(settings)?;
    let mut keys = BTreeMap::new();
    for (model, settings) in settings {
        let ModelSettings::OpenAi(settings) = settings else { continue };
        let key = match settings {
            OpenAiSettings { key_env: Some(variable), .. } => env(variable),
            OpenAiSettings { key_file: Some(path), .. } => read_key(model, path)?,
            _ => None,
        };
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if let Some(key) = key {
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                let problem = "its key holds characters that no HTTP header can carry".to_owned();
                return Err(ModelSettingsError::Invalid { model: model.clone(), problem });
            }
            keys.insert(model.clone(), SecretString::from(key));
        }
    }
    Ok(Keys(keys))
}

fn read_key(model: &str, path: &Path) -> Result<Option<String>, ModelSettingsError> {
    let failed = |source| ModelSettingsError::KeyFile { model: model.to_owned(), path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Of the open file, so that it cannot be exchanged in between.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ModelSettingsError::KeyFileMode { model: model.to_owned(), path: path.to_owned(), mode });
        }
    }
    let mut key = String::new();
    file.take(LONGEST_KEY).read_to_string(&mut key).map_err(failed)?;
    Ok(Some(key))
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn settings(key: serde_json::Value) -> BTreeMap<String, ModelSettings> {
        let mut value = json!({ "provider": "openai", "base_url": "https://h/v1", "model": "m" });
        value.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
        BTreeMap::from([("m".to_owned(), serde_json::from_value(value).unwrap())])
    }

    #[test]
    fn keys_come_from_the_environment_or_a_file() {
        let env = |name: &str| (name == "KEY").then(|| " sk-from-env\n".to_owned());
        assert_eq!(load_keys(&settings(json!({ "key_env": "KEY" })), &env).unwrap().secret_values(), ["sk-from-env"]);
        assert!(load_keys(&settings(json!({ "key_env": "OTHER" })), &env).unwrap().secret_values().is_empty());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let of_file = settings(json!({ "key_file": path }));
        assert!(load_keys(&of_file, &env).unwrap().secret_values().is_empty());
        std::fs::write(&path, "sk-from-file\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let keys = load_keys(&of_file, &env).unwrap();
        assert_eq!(keys.secret_values(), ["sk-from-file"]);
        assert!(!format!("{keys:?}").contains("sk-from-file"));
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-from-file").unwrap();
        for mode in [0o644, 0o640, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = load_keys(&settings(json!({ "key_file": path })), &|_| None).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && !error.contains("sk-from-file"), "{error}");
        }
    }

    #[test]
    fn a_key_that_would_break_the_header_is_refused_without_being_shown() {
        let error = load_keys(&settings(json!({ "key_env": "KEY" })), &|_| Some("sk-a\r\nX-Evil: 1".into()))
            .unwrap_err()
            .to_string();
        assert!(!error.contains("Evil"), "{error}");
    }
}
