#![allow(clippy::unwrap_used)]

use super::*;

fn load(text: &str) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handshake.toml");
    std::fs::write(&path, text).unwrap();
    Settings::load(Some(&path), None)
        .map_err(|error| error.message.replace(&folder.path().display().to_string(), "DIR"))
}

#[test]
fn an_empty_file_means_the_defaults() {
    let settings = load("").unwrap();
    assert_eq!(settings.plugin_folders, [settings.project.join("plugins")]);
    assert_eq!(settings.data_dir, settings.project.join(".handshake"));
    assert_eq!((settings.policy, settings.max_parallel, settings.profiles.len()), (None, 8, 3));
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    insta::assert_snapshot!(load("max_parallel = 4\nplugin_dirs = []\n").unwrap_err(), @"DIR/handshake.toml:2:1: unknown field `plugin_dirs`, expected one of `plugins`, `policy`, `data_dir`, `max_parallel`, `database`, `retention`, `recorder`, `budget`, `telemetry`, `serve`, `notify`, `models`, `profiles`, `environment`, `secrets`, `plugin`");
}

#[test]
fn a_wrong_type_and_broken_syntax_are_named_with_their_place() {
    insta::assert_snapshot!(load("max_parallel = \"many\"\n").unwrap_err(), @r#"DIR/handshake.toml:1:16: invalid type: string "many", expected u32"#);
    insta::assert_snapshot!(load("plugins = [\n").unwrap_err(), @"DIR/handshake.toml:1:12: unclosed array, expected `]`");
}

#[test]
fn an_unknown_capability_in_a_profile_is_a_load_error() {
    insta::assert_snapshot!(load("[profiles.mine]\ncapabilities = [\"fs.read\", \"fs.peek\"]\n").unwrap_err(), @"DIR/handshake.toml:2:16: HSK-4001: UnknownCapability `fs.peek`; `handshake capabilities list` shows the ids there are");
}

#[test]
fn built_in_profiles_and_silly_numbers_are_refused() {
    insta::assert_snapshot!(load("[profiles.reader]\ncapabilities = []\n").unwrap_err(), @"DIR/handshake.toml: profiles.reader: built-in profiles cannot be changed; choose another name");
    insta::assert_snapshot!(load("max_parallel = 0\n").unwrap_err(), @"DIR/handshake.toml: max_parallel: 0 is not between 1 and 256");
}

#[test]
fn settings_of_plugins_become_json() {
    let settings = load("[plugin.summarize]\nlimit = 3\nsince = 2026-01-02\nwords = [\"a\", 1.5]\n").unwrap();
    let values = &settings.plugin_settings[&PluginId::new("summarize").unwrap()];
    assert_eq!(serde_json::to_string(&**values).unwrap(), r#"{"limit":3,"since":"2026-01-02","words":["a",1.5]}"#);
    assert!(load("[plugin.summarize]\nlimit = nan\n").is_err());
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let error = Settings::load(Some(Path::new("/nonexistent/handshake.toml")), None).unwrap_err();
    assert_eq!(error.message, "cannot read `/nonexistent/handshake.toml`");
}
