//! An entry that somebody else touched is never loaded.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;

const COMPONENT: &str = "(component)";

struct Setup {
    engine: Engine,
    folder: tempfile::TempDir,
    cache: CodeCache,
    wasm: Vec<u8>,
    digest: Digest,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::new(folder.path().to_owned(), [7; 32]);
    let wasm = wat::parse_str(COMPONENT).unwrap();
    let digest = Digest::of(&wasm);
    Setup { engine: Engine::default(), folder, cache, wasm, digest }
}

impl Setup {
    fn load(&self) -> Result<Component, PluginError> {
        self.cache.load(&self.engine, self.digest, &self.wasm)
    }
    fn entry(&self) -> PathBuf {
        fs::read_dir(self.folder.path()).unwrap().next().unwrap().unwrap().path()
    }
    fn problem(&self) -> String {
        match self.load() {
            Err(PluginError::CacheTampered { problem, .. }) => problem,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was loaded"),
        }
    }
}

#[test]
fn a_second_load_comes_from_the_cache() {
    let setup = setup();
    setup.load().unwrap();
    // If it were compiled again, this nonsense would not compile.
    setup.cache.load(&setup.engine, setup.digest, b"nonsense").unwrap();
}

#[test]
fn a_changed_byte_a_cut_and_an_unauthenticated_entry_are_refused() {
    let setup = setup();
    setup.load().unwrap();
    let entry = setup.entry();
    let whole = fs::read(&entry).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&entry, &changed).unwrap();
    assert_eq!(setup.problem(), "its MAC does not match");
    fs::write(&entry, &whole[..10]).unwrap();
    assert_eq!(setup.problem(), "it is cut short");
    fs::write(&entry, &whole).unwrap();
    setup.load().unwrap();
}

#[test]
fn an_entry_of_another_component_is_refused_under_this_name() {
    let setup = setup();
    setup.load().unwrap();
    let entry = setup.entry();
    let other_wasm = wat::parse_str("(component (core module))").unwrap();
    let other = Digest::of(&other_wasm);
    setup.cache.load(&setup.engine, other, &other_wasm).unwrap();
    let other_entry =
        fs::read_dir(setup.folder.path()).unwrap().map(|e| e.unwrap().path()).find(|path| *path != entry).unwrap();
    fs::copy(other_entry, &entry).unwrap();
    assert_eq!(setup.problem(), "its MAC does not match");
}

#[test]
fn an_entry_that_others_may_write_and_a_link_are_refused() {
    let setup = setup();
    setup.load().unwrap();
    let entry = setup.entry();
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(setup.problem(), "others may write to it");
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o600)).unwrap();
    let moved = setup.folder.path().join("elsewhere");
    fs::rename(&entry, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &entry).unwrap();
    assert!(setup.problem().starts_with("it cannot be opened"));
}

#[test]
#[cfg(target_os = "linux")]
fn what_was_authenticated_cannot_be_changed_any_more() {
    let setup = setup();
    setup.load().unwrap();
    let entry = setup.entry();
    let compatibility = compatibility_of(&setup.engine);
    let code = setup.cache.read(&entry, setup.digest, compatibility).unwrap().unwrap();
    assert_eq!(code.metadata().unwrap().len() + MAC_BYTES as u64, entry.metadata().unwrap().len());
    assert!((&code).write_all(b"other").is_err());
    assert!(code.set_len(0).is_err());
}
