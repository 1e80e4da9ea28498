//! Finds plugins and reads their manifests.
//!
//! A plugin folder holds one folder for each plugin: `<folder>/<id>/`, either a source folder that
//! `handshake plugin build` gave a `dist/`, or a built plugin itself. The built form is `plugin.toml` with the
//! component's SHA-256, and the component beside it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use handshake_core::manifest::PluginManifest;
use handshake_core::step::{Plugin, PluginError, PluginRequest};
use handshake_core::{Clock, Digest};

use crate::stamp::Stamp;

/// Name of a manifest.
const MANIFEST: &str = "plugin.toml";
/// A manifest larger than this is none.
const MAX_MANIFEST_BYTES: u64 = 256 << 10;
/// A component larger than this is refused before it is read into memory.
const MAX_COMPONENT_BYTES: u64 = 128 << 20;

/// Reads and checks a manifest; the digest is of its text.
pub fn read_manifest(path: &Path) -> Result<(PluginManifest, Digest), PluginError> {
    read_manifest_stamped(path).map(|(manifest, digest, _)| (manifest, digest))
}

fn read_manifest_stamped(path: &Path) -> Result<(PluginManifest, Digest, Stamp), PluginError> {
    let refuse =
        |place: String, problem: String| PluginError::Manifest { file: format!("{}{place}", path.display()), problem };
    let (bytes, stamp) = read_bounded(path, MAX_MANIFEST_BYTES).map_err(|problem| refuse(String::new(), problem))?;
    let text = String::from_utf8(bytes).map_err(|_| refuse(String::new(), "is not UTF-8 text".into()))?;
    let manifest: PluginManifest = toml::from_str(&text).map_err(|error| {
        let place = error.span().map(|span| line_and_column(&text, span.start)).unwrap_or_default();
        refuse(place, error.message().to_owned())
    })?;
    manifest.validate().map_err(|problem| refuse(String::new(), problem))?;
    Ok((manifest, Digest::of(text.as_bytes()), stamp))
}

fn line_and_column(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    format!(":{line}:{column}")
}

fn read_bounded(path: &Path, limit: u64) -> Result<(Vec<u8>, Stamp), String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    // Looked at before it is opened, because opening a pipe waits for whoever writes to it.
    if !fs::metadata(path).map_err(unread)?.is_file() {
        return Err("is not a file".into());
    }
    let file = File::open(path).map_err(unread)?;
    // Of the open file and before it is read: whatever is written from here on changes the stamp.
    let metadata = file.metadata().map_err(unread)?;
    if !metadata.is_file() {
        return Err("is not a file".into());
    }
    if metadata.len() > limit {
        return Err(format!("has {} bytes; at most {limit} are read", metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(limit).read_to_end(&mut bytes).map_err(unread)?;
    Ok((bytes, Stamp::of(&metadata)))
}

/// A plugin as read from its files.
pub(crate) struct PluginFiles {
    pub(crate) plugin: Plugin,
    /// The bytes of its component.
    pub(crate) component: Vec<u8>,
    /// Of the manifest and the component.
    stamps: [Stamp; 2],
}

/// Reads a built plugin: its manifest, and its component, whose hash must be the one in the manifest.
pub(crate) fn read_plugin(folder: &Path) -> Result<PluginFiles, PluginError> {
    let manifest_path = folder.join(MANIFEST);
    let (manifest, manifest_sha256, manifest_stamp) = read_manifest_stamped(&manifest_path)?;
    let component_path = folder.join(&manifest.component.path);
    let refuse = |problem: String| PluginError::Component { file: component_path.display().to_string(), problem };
    let Some(expected) = manifest.component.sha256 else {
        let problem = "component.sha256 is missing; `handshake plugin build` writes it".to_owned();
        return Err(PluginError::Manifest { file: manifest_path.display().to_string(), problem });
    };
    let (component, component_stamp) = read_bounded(&component_path, MAX_COMPONENT_BYTES).map_err(refuse)?;
    let component_sha256 = Digest::of(&component);
    if component_sha256 != expected {
        let problem = format!(
            "its SHA-256 is {component_sha256}, but plugin.toml names {expected}; if you changed it, build it again with `handshake plugin build`, otherwise find out who did"
        );
        let file = component_path.display().to_string();
        return Err(PluginError::ComponentTampered { file, problem, manifest_sha256 });
    }
    let plugin = Plugin { manifest, manifest_sha256, component_sha256, folder: folder.to_owned() };
    Ok(PluginFiles { plugin, component, stamps: [manifest_stamp, component_stamp] })
}

/// A plugin that was read before, and how its files looked then.
struct Known {
    plugin: Arc<Plugin>,
    stamps: [Stamp; 2],
}

/// The plugin folders of this host.
pub(crate) struct Catalog {
    folders: Vec<PathBuf>,
    clock: Arc<dyn Clock>,
    /// By the folder of the built form. Every submission and every run looks its plugins up, and hashing the components
    /// each time would cost more than most steps do.
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl Catalog {
    pub(crate) fn new(folders: Vec<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { folders, clock, known: Mutex::default() }
    }

    /// Reads a built plugin, or remembers it if its files are untouched since it was read.
    fn read(&self, built: &Path) -> Result<Arc<Plugin>, PluginError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = known().get(built).map(|known| (Arc::clone(&known.plugin), known.stamps));
        if let Some((plugin, stamps)) = remembered {
            let files = [built.join(MANIFEST), built.join(&plugin.manifest.component.path)];
            if files.iter().zip(stamps).all(|(file, stamp)| Stamp::now(file) == Some(stamp)) {
                return Ok(plugin);
            }
        }
        let now = self.clock.now();
        let PluginFiles { plugin, stamps, .. } = read_plugin(built)?;
        let plugin = Arc::new(plugin);
        if stamps.iter().all(|stamp| stamp.is_settled(now)) {
            known().insert(built.to_owned(), Known { plugin: Arc::clone(&plugin), stamps });
        }
        Ok(plugin)
    }

    /// Finds the plugin that `uses` names, in the first folder that has it.
    pub(crate) fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        let unknown = || PluginError::Unknown {
            wanted: uses.to_owned(),
            looked_in: self.folders.iter().map(|folder| folder.display().to_string()).collect(),
            known: self.ids(),
        };
        let request: PluginRequest =
            uses.parse().map_err(|problem| PluginError::Manifest { file: format!("uses: {uses}"), problem })?;
        let mut other_version = None;
        for folder in &self.folders {
            let source = folder.join(request.id.as_str());
            let Some(built) = built_folder(&source) else { continue };
            let plugin = self.read(&built?)?;
            if plugin.manifest.id != request.id {
                let problem = format!("its id is `{}`, but its folder is named `{}`", plugin.manifest.id, request.id);
                return Err(PluginError::Manifest {
                    file: plugin.folder.join(MANIFEST).display().to_string(),
                    problem,
                });
            }
            if request.accepts(&plugin.manifest.version) {
                return Ok(plugin);
            }
            other_version.get_or_insert(plugin);
        }
        match other_version {
            Some(plugin) => Err(PluginError::Manifest {
                file: plugin.folder.join(MANIFEST).display().to_string(),
                problem: format!("is version {}, but the workflow asks for `{uses}`", plugin.manifest.version),
            }),
            None => Err(unknown()),
        }
    }

    /// Every plugin there is, by id; those that cannot be used with the reason.
    pub(crate) fn list(&self) -> Vec<(String, Result<Arc<Plugin>, PluginError>)> {
        self.ids().into_iter().map(|id| (id.clone(), self.find(&id))).collect()
    }

    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self
            .folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join(MANIFEST).is_file() || entry.path().join("dist").join(MANIFEST).is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

/// The folder that holds the built form of a plugin; none when there is no plugin at all.
fn built_folder(source: &Path) -> Option<Result<PathBuf, PluginError>> {
    let dist = source.join("dist");
    if dist.join(MANIFEST).is_file() {
        return Some(Ok(dist));
    }
    let manifest = source.join(MANIFEST);
    if !manifest.is_file() {
        return None;
    }
    Some(match read_manifest(&manifest) {
        Ok((manifest, _)) if manifest.component.sha256.is_none() => {
            Err(PluginError::NotBuilt { id: manifest.id.to_string(), folder: source.display().to_string() })
        }
        // A manifest that cannot be read is reported where it is read.
        _ => Ok(source.to_owned()),
    })
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
