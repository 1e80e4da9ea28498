//! Finds plugins and reads their manifests.
//!
//! A plugin folder holds one folder for each plugin: `<folder>/<id>/`, either a source folder that
//! `handshake plugin build` gave a `dist/`, or a built plugin itself. The built form is `plugin.toml` with the
//! component's SHA-256, and the component beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use handshake_core::step::{Plugin, PluginError, PluginRequest};
use handshake_core::{Clock, Digest};

use crate::manifest::{DIST, MANIFEST, ManifestFile, read_bounded};
use crate::stamp::Stamp;
use crate::store::PluginStore;

pub use crate::manifest::read_manifest;

/// A component larger than this is refused before it is read into memory.
pub(crate) const MAX_COMPONENT_BYTES: u64 = 128 << 20;

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
    let file = ManifestFile::read(&folder.join(MANIFEST))?;
    let component_path = folder.join(&file.manifest.component.path);
    let refuse = |problem: String| PluginError::Component { file: component_path.display().to_string(), problem };
    let Some(expected) = file.manifest.component.sha256 else {
        let problem = "component.sha256 is missing; `handshake plugin build` writes it".to_owned();
        return Err(PluginError::Manifest { file: file.place("component.sha256"), problem });
    };
    let (component, component_stamp) = read_bounded(&component_path, MAX_COMPONENT_BYTES).map_err(refuse)?;
    let component_sha256 = Digest::of(&component);
    if component_sha256 != expected {
        let problem = format!(
            "its SHA-256 is {component_sha256}, but plugin.toml names {expected}; if you changed it, build it again with `handshake plugin build`, otherwise find out who did"
        );
        let component = component_path.display().to_string();
        return Err(PluginError::ComponentTampered { file: component, problem, manifest_sha256: file.sha256 });
    }
    let ManifestFile { manifest, sha256: manifest_sha256, stamp, .. } = file;
    let plugin = Plugin { manifest, manifest_sha256, component_sha256, folder: folder.to_owned() };
    Ok(PluginFiles { plugin, component, stamps: [stamp, component_stamp] })
}

/// A plugin that was read before, and how its files looked then.
struct Known {
    plugin: Arc<Plugin>,
    stamps: [Stamp; 2],
}

/// The plugins of this host: those in its folders, then those that were added to its data directory.
pub(crate) struct Catalog {
    folders: Vec<PathBuf>,
    store: Option<PluginStore>,
    /// Folders of single plugins that are asked for by the SHA-256 of their manifest.
    lent: Mutex<BTreeMap<Digest, PathBuf>>,
    clock: Arc<dyn Clock>,
    /// By the folder of the built form. Every submission and every run looks its plugins up, and hashing the components
    /// each time would cost more than most steps do.
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl Catalog {
    pub(crate) fn new(folders: Vec<PathBuf>, store: Option<PluginStore>, clock: Arc<dyn Clock>) -> Self {
        Self { folders, store, lent: Mutex::default(), clock, known: Mutex::default() }
    }

    /// Makes a plugin known that is in none of the folders. It is found by the SHA-256 of its manifest alone, as long
    /// as this process lives, so that it stands in nobody's way.
    pub(crate) fn lend(&self, source: &Path) -> Result<Arc<Plugin>, PluginError> {
        let built = built_folder(source).unwrap_or_else(|| Ok(source.to_owned()))?;
        let plugin = self.read(&built)?;
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).insert(plugin.manifest_sha256, built);
        Ok(plugin)
    }

    /// Reads a built plugin, or remembers it if its files are untouched since it was read.
    fn read(&self, built: &Path) -> Result<Arc<Plugin>, PluginError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = self.untouched(built) {
            return Ok(plugin);
        }
        let now = self.clock.now();
        let PluginFiles { plugin, stamps, .. } = read_plugin(built)?;
        let plugin = Arc::new(plugin);
        if stamps.iter().all(|stamp| stamp.is_settled(now)) {
            known().insert(built.to_owned(), Known { plugin: Arc::clone(&plugin), stamps });
        }
        Ok(plugin)
    }

    /// A plugin that was read before, if its files are untouched since.
    pub(crate) fn untouched(&self, built: &Path) -> Option<Arc<Plugin>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (plugin, stamps) = known.get(built).map(|known| (Arc::clone(&known.plugin), known.stamps))?;
        drop(known);
        let files = [built.join(MANIFEST), built.join(&plugin.manifest.component.path)];
        files.iter().zip(stamps).all(|(file, stamp)| Stamp::now(file) == Some(stamp)).then_some(plugin)
    }

    /// Finds the plugin that `uses` names, in the first place that has it.
    pub(crate) fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        let request: PluginRequest =
            uses.parse().map_err(|problem| PluginError::Manifest { file: format!("uses: {uses}"), problem })?;
        let mut other: Option<Arc<Plugin>> = None;
        for found in self.places(&request) {
            let plugin = named(self.read(&found?)?, request.id.as_str())?;
            if request.accepts(&plugin.manifest.version, plugin.manifest_sha256) {
                return Ok(plugin);
            }
            other.get_or_insert(plugin);
        }
        Err(match other {
            Some(plugin) => PluginError::Manifest {
                file: manifest_of(&plugin),
                problem: match request.exact {
                    Some(_) => format!("is another build than `{uses}` asks for"),
                    None => format!("is version {}, but the workflow asks for `{uses}`", plugin.manifest.version),
                },
            },
            None => PluginError::Unknown {
                wanted: uses.to_owned(),
                looked_in: self.looked_in(),
                known: self.ids().into_iter().collect(),
            },
        })
    }

    /// The built forms that may be what is asked for, in order: the lent one, those of the folders, those that were
    /// added, newest first. Each place is looked at when its turn comes: mostly the first one has it.
    fn places<'a>(
        &'a self,
        request: &'a PluginRequest,
    ) -> impl Iterator<Item = Result<PathBuf, PluginError>> + use<'a> {
        let lent = || self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = request.exact.and_then(|digest| lent().get(&digest).cloned());
        let id = request.id.as_str();
        let own = self.folders.iter().filter_map(move |folder| built_folder(&folder.join(id)));
        let added = self.store.iter().flat_map(move |store| store.versions(id)).map(|added| added.checked());
        lent.map(Ok).into_iter().chain(own).chain(added)
    }

    fn looked_in(&self) -> Vec<String> {
        let store = self.store.as_ref().map(PluginStore::folder);
        self.folders.iter().map(PathBuf::as_path).chain(store).map(|folder| folder.display().to_string()).collect()
    }

    /// Every plugin there is, by id, those of the folders first; those that cannot be used with the reason.
    pub(crate) fn list(&self) -> Vec<(String, Result<Arc<Plugin>, PluginError>)> {
        let mut found = Vec::new();
        for id in self.ids() {
            let own = self.folders.iter().find_map(|folder| built_folder(&folder.join(&id)));
            let added = self.store.iter().flat_map(|store| store.versions(&id)).map(|added| added.checked());
            for place in own.into_iter().chain(added) {
                let plugin = place.and_then(|built| self.read(&built));
                found.push((id.clone(), plugin.and_then(|plugin| named(plugin, &id))));
            }
        }
        found
    }

    fn ids(&self) -> BTreeSet<String> {
        let own = self
            .folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join(MANIFEST).is_file() || entry.path().join(DIST).join(MANIFEST).is_file())
            .filter_map(|entry| entry.file_name().into_string().ok());
        own.chain(self.store.iter().flat_map(PluginStore::ids)).collect()
    }
}

fn manifest_of(plugin: &Plugin) -> String {
    plugin.folder.join(MANIFEST).display().to_string()
}

fn named(plugin: Arc<Plugin>, id: &str) -> Result<Arc<Plugin>, PluginError> {
    if plugin.manifest.id.as_str() == id {
        return Ok(plugin);
    }
    let problem = format!("its id is `{}`, but its folder is named `{id}`", plugin.manifest.id);
    Err(PluginError::Manifest { file: manifest_of(&plugin), problem })
}

/// The folder that holds the built form of a plugin; none when there is no plugin at all.
pub(crate) fn built_folder(source: &Path) -> Option<Result<PathBuf, PluginError>> {
    let dist = source.join(DIST);
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
