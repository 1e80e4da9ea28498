//! Look-up and refusal of plugins, without running any.

#![allow(clippy::unwrap_used)]

use handshake_core::Timestamp;
use handshake_core::testing::FixedClock;

use std::fs::File;

use super::*;

const MANIFEST: &str = r#"schema = 1
id = "demo"
version = "0.1.2"
api = "handshake:step@0.1"
description = "Does nothing."
[component]
path = "demo.wasm"
"#;

fn catalog(build: impl FnOnce(&Path)) -> (tempfile::TempDir, Catalog) {
    // Far in the future, so that files are remembered at once.
    catalog_at(Timestamp::from_micros(i64::MAX / 2), build)
}

fn catalog_at(now: Timestamp, build: impl FnOnce(&Path)) -> (tempfile::TempDir, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("demo/dist")).unwrap();
    build(&folder.path().join("demo"));
    let catalog = Catalog::new(vec![folder.path().to_owned()], None, Arc::new(FixedClock::at(now)));
    (folder, catalog)
}

fn built(folder: &Path) {
    fs::write(folder.join("plugin.toml"), MANIFEST).unwrap();
    fs::write(folder.join("dist/demo.wasm"), b"code").unwrap();
    let manifest = format!("{MANIFEST}sha256 = \"{}\"\n", Digest::of(b"code"));
    fs::write(folder.join("dist/plugin.toml"), manifest).unwrap();
}

#[test]
fn a_built_plugin_is_found_by_id_and_by_the_beginning_of_its_version() {
    let (_folder, catalog) = catalog(built);
    for uses in ["demo", "demo@0", "demo@0.1", "demo@0.1.2"] {
        assert_eq!(catalog.find(uses).unwrap().label(), "demo@0.1.2");
    }
    let other = catalog.find("demo@0.2").err().unwrap();
    assert!(other.to_string().contains("is version 0.1.2"), "{other}");
    assert_eq!(catalog.list().len(), 1);
}

#[test]
fn an_unknown_plugin_names_the_folders_and_what_there_is() {
    let (_folder, catalog) = catalog(built);
    let Err(PluginError::Unknown { looked_in, known, .. }) = catalog.find("demon") else { panic!() };
    assert_eq!((looked_in.len(), known), (1, vec!["demo".to_owned()]));
    assert!(matches!(catalog.find("../demo"), Err(PluginError::Manifest { .. })));
}

#[test]
fn a_lent_plugin_is_found_by_its_hash_alone() {
    let (folder, catalog) = catalog(built);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(folder.path().join("demo"), elsewhere.path().join("demo")).unwrap();
    assert!(matches!(catalog.find("demo"), Err(PluginError::Unknown { .. })));
    let lent = catalog.lend(&elsewhere.path().join("demo")).unwrap();
    assert!(matches!(catalog.find("demo"), Err(PluginError::Unknown { .. })));
    let exact = format!("demo@sha256:{}", lent.manifest_sha256);
    assert_eq!(catalog.find(&exact).unwrap().component_sha256, lent.component_sha256);
    let manifest = elsewhere.path().join("demo/dist/plugin.toml");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("0.1.2", "0.1.3")).unwrap();
    assert!(catalog.find(&exact).err().unwrap().to_string().contains("is another build"));
}

#[test]
fn a_source_that_was_not_built_says_how_to_build_it() {
    let (_folder, catalog) = catalog(|folder| fs::write(folder.join("plugin.toml"), MANIFEST).unwrap());
    let error = catalog.find("demo").err().unwrap().to_string();
    assert!(error.contains("handshake plugin build"), "{error}");
}

#[test]
fn a_plugin_is_remembered_until_either_file_is_touched() {
    let (folder, catalog) = catalog(built);
    let first = catalog.find("demo").unwrap();
    assert!(Arc::ptr_eq(&first, &catalog.find("demo@0.1").unwrap()));

    let component = folder.path().join("demo/dist/demo.wasm");
    let before = fs::metadata(&component).unwrap().modified().unwrap();
    fs::write(&component, b"c0de").unwrap();
    File::options().write(true).open(&component).unwrap().set_modified(before).unwrap();
    assert!(matches!(catalog.find("demo"), Err(PluginError::ComponentTampered { .. })), "size and time are as before");
    fs::write(&component, b"code").unwrap();
    assert_eq!(catalog.find("demo").unwrap().component_sha256, first.component_sha256);

    let manifest = folder.path().join("demo/dist/plugin.toml");
    let changed = fs::read_to_string(&manifest).unwrap().replace("0.1.2", "0.1.3");
    fs::write(&manifest, changed).unwrap();
    assert_eq!(catalog.find("demo").unwrap().label(), "demo@0.1.3");
    fs::remove_file(&component).unwrap();
    assert!(matches!(catalog.find("demo"), Err(PluginError::Component { .. })));
}

#[test]
fn a_plugin_that_was_changed_a_moment_ago_is_not_remembered() {
    let (_folder, catalog) = catalog_at(Timestamp::from_micros(0), built);
    let (first, second) = (catalog.find("demo").unwrap(), catalog.find("demo").unwrap());
    assert!(!Arc::ptr_eq(&first, &second));
}

#[test]
fn a_changed_component_and_a_wrong_manifest_are_refused() {
    let (folder, catalog) = catalog(built);
    fs::write(folder.path().join("demo/dist/demo.wasm"), b"c0de").unwrap();
    assert!(matches!(catalog.find("demo"), Err(PluginError::ComponentTampered { .. })));
    fs::write(folder.path().join("demo/dist/plugin.toml"), format!("{MANIFEST}[limits]\nmemory = 3\n")).unwrap();
    let error = catalog.find("demo").err().unwrap().to_string();
    assert!(error.contains("plugin.toml:9:1: unknown field `memory`"), "{error}");
    fs::write(folder.path().join("demo/dist/plugin.toml"), MANIFEST.replace("demo.wasm", "../x.wasm")).unwrap();
    assert!(catalog.find("demo").err().unwrap().to_string().contains("file name beside the manifest"));
}
