//! The commands for authors of plugins, on the real binary: check and its messages, run, test, add and remove, and which
//! versions of the contract work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adding;
mod cases;
mod errors;
mod single;
mod versions;

use std::path::{Path, PathBuf};

use handshake_core::Digest;
use handshake_tests::binary::Project;

/// A built guest of the tests, or a built plugin: its component.
fn component(folder: &str, id: &str) -> Vec<u8> {
    let path = handshake_tests::root().join(folder).join(id).join("dist").join(format!("{id}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run ./justw guests", path.display()))
}

/// Puts a plugin into the project, in the folder of its id: manifest and component as a build lays them out. `{sha256}`
/// in the manifest becomes the component's.
fn put(project: &Project, id: &str, manifest: &str, component: &[u8]) -> PathBuf {
    let folder = project.path("own").join(id);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{id}.wasm")), component).unwrap();
    let manifest = manifest.replace("{sha256}", &Digest::of(component).to_string());
    std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
    folder
}

/// The manifest of a plugin that asks for these.
fn manifest(id: &str, version: &str, capabilities: &[&str]) -> String {
    let mut text = format!(
        "schema = 1\nid = \"{id}\"\nversion = \"{version}\"\napi = \"handshake:step@0.1\"\ndescription = \"A test.\"\n\n[component]\npath = \"{id}.wasm\"\nsha256 = \"{{sha256}}\"\n"
    );
    for id in capabilities {
        text.push_str(&format!("\n[[capability]]\nid = \"{id}\"\nreason = \"wants {id}\"\n"));
    }
    text
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}
