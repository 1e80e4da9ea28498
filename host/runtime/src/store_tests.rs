//! What is added, found again, refused and removed, without running any of it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use handshake_core::testing::FixedClock;

use super::*;
use crate::catalog::Catalog;

struct Setup {
    folder: TempDir,
    store: PluginStore,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = PluginStore::new(folder.path().join("store"));
        Self { folder, store }
    }

    /// A built plugin of this version and content; its folder.
    fn plugin(&self, version: &str, component: &str) -> PathBuf {
        let folder = self.folder.path().join(format!("source-{version}-{component}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("demo.wasm"), component).unwrap();
        let manifest = format!(
            "schema = 1\nid = \"demo\"\nversion = \"{version}\"\napi = \"handshake:step@0.1\"\ndescription = \"d\"\n[component]\npath = \"demo.wasm\"\n"
        );
        fs::write(folder.join(MANIFEST), manifest).unwrap();
        folder
    }

    fn add(&self, version: &str, component: &str) -> Result<Plugin, PluginError> {
        self.store.keep(self.store.stage(&self.plugin(version, component))?)
    }

    fn catalog(&self) -> Catalog {
        let folders = vec![self.folder.path().join("plugins")];
        Catalog::new(folders, Some(self.store.clone()), Arc::new(FixedClock::default()))
    }
}

#[test]
fn the_newest_version_is_found_and_an_older_one_by_its_number() {
    let setup = Setup::new();
    for version in ["0.9.0", "0.10.0", "0.2.0"] {
        setup.add(version, "code").unwrap();
    }
    let catalog = setup.catalog();
    assert_eq!(catalog.find("demo").unwrap().manifest.version, "0.10.0");
    assert_eq!(catalog.find("demo@0.2").unwrap().manifest.version, "0.2.0");
    assert_eq!(catalog.list().len(), 3);
    let left: Vec<_> = entries(setup.store.folder()).collect();
    assert_eq!(left, ["demo"], "nothing that was staged is left");
}

#[test]
fn a_plugin_of_the_project_comes_before_one_that_was_added() {
    let setup = Setup::new();
    setup.add("0.9.0", "code").unwrap();
    let own = setup.store.stage(&setup.plugin("0.1.0", "own")).unwrap();
    fs::create_dir(setup.folder.path().join("plugins")).unwrap();
    fs::rename(own.folder().join("demo"), setup.folder.path().join("plugins/demo")).unwrap();
    let catalog = setup.catalog();
    assert_eq!(catalog.find("demo").unwrap().manifest.version, "0.1.0");
    assert_eq!(catalog.find("demo@0.9").unwrap().manifest.version, "0.9.0");
}

#[test]
fn the_same_again_changes_nothing_and_another_one_of_the_version_is_refused() {
    let setup = Setup::new();
    let first = setup.add("0.1.0", "code").unwrap();
    assert_eq!(setup.add("0.1.0", "code").unwrap().folder, first.folder);
    let refused = setup.add("0.1.0", "other").unwrap_err().to_string();
    assert!(refused.contains("was added with another content"), "{refused}");
    assert!(refused.contains("handshake plugin remove demo@0.1.0"), "{refused}");
}

#[test]
fn what_was_changed_after_it_was_added_is_not_found() {
    let setup = Setup::new();
    let plugin = setup.add("0.1.0", "code").unwrap();
    let manifest = plugin.folder.join(MANIFEST);
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("description = \"d\"", "description = \"e\"")).unwrap();
    let refused = setup.catalog().find("demo").err().unwrap().to_string();
    assert!(refused.contains("find out who changed it"), "{refused}");
    fs::write(&manifest, text).unwrap();
    fs::write(plugin.folder.join("demo.wasm"), "evil").unwrap();
    assert!(matches!(setup.catalog().find("demo"), Err(PluginError::ComponentTampered { .. })));
}

#[test]
fn what_is_staged_is_a_copy() {
    let setup = Setup::new();
    let source = setup.plugin("0.1.0", "code");
    let staged = setup.store.stage(&source).unwrap();
    fs::write(source.join("demo.wasm"), "swapped").unwrap();
    let kept = setup.store.keep(staged).unwrap();
    assert_eq!(fs::read(kept.folder.join("demo.wasm")).unwrap(), b"code");
    assert_eq!(kept.manifest.component.sha256, Some(Digest::of(b"code")));
}

#[test]
fn a_file_stands_for_the_plugin_that_it_belongs_to() {
    let setup = Setup::new();
    let source = setup.plugin("0.1.0", "code");
    fs::write(source.join("other.wasm"), "other").unwrap();
    for file in ["demo.wasm", MANIFEST] {
        assert_eq!(setup.store.stage(&source.join(file)).unwrap().plugin.component_sha256, Digest::of(b"code"));
    }
    let refused = setup.store.stage(&source.join("other.wasm")).unwrap_err().to_string();
    assert!(refused.contains("plugin.toml:7:8: is `demo.wasm`"), "{refused}");
}

#[test]
fn ids_lead_to_no_other_folder_and_a_removed_version_is_gone() {
    let setup = Setup::new();
    setup.add("0.1.0", "code").unwrap();
    for id in ["..", "../store/demo", "demo/..", ".", ""] {
        assert!(setup.store.versions(id).is_empty(), "{id}");
    }
    let added = setup.store.versions("demo").remove(0);
    setup.store.remove(&added).unwrap();
    assert!(matches!(setup.catalog().find("demo"), Err(PluginError::Unknown { .. })));
    assert_eq!(entries(setup.store.folder()).count(), 0);
}
