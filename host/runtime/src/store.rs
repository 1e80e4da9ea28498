//! Plugins that were added to the data directory: `<id>/<version>@<SHA-256 of the manifest>/`, with the manifest and the
//! component that its hash covers. What is in such a folder and has another hash is not used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use handshake_core::step::{Plugin, PluginError};
use handshake_core::{Digest, PluginId};
use tempfile::TempDir;

use crate::catalog::{MAX_COMPONENT_BYTES, built_folder, read_plugin};
use crate::manifest::{MANIFEST, ManifestFile, read_bounded};

/// Where added plugins lie. Only the data directory's owner writes there.
#[derive(Debug, Clone)]
pub struct PluginStore {
    folder: PathBuf,
}

/// A version that was added, by the name of its folder.
#[derive(Debug, Clone)]
pub struct Added {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Digest,
    folder: PathBuf,
}

/// A plugin in a folder of its own in the store, not found by anybody yet. It is removed unless it is kept.
#[derive(Debug)]
pub struct Staged {
    folder: TempDir,
    /// The plugin, read from there.
    pub plugin: Plugin,
}

impl Added {
    /// Its folder, if the manifest there is the one that was added. The component is checked when it is read.
    pub(crate) fn checked(&self) -> Result<PathBuf, PluginError> {
        let manifest = ManifestFile::read(&self.folder.join(MANIFEST))?;
        if manifest.sha256 == self.manifest_sha256 {
            return Ok(self.folder.clone());
        }
        let problem = format!(
            "its SHA-256 is {}, but {} was added; find out who changed it, then remove the plugin and add it again",
            manifest.sha256, self.manifest_sha256
        );
        Err(PluginError::Manifest { file: manifest.path.display().to_string(), problem })
    }
}

impl Staged {
    /// The folder that holds it under its id, as a folder of plugins does.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl PluginStore {
    /// The store in this folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The ids of which there is a version.
    pub(crate) fn ids(&self) -> Vec<String> {
        let ids = entries(&self.folder).filter(|name| PluginId::new(name.as_str()).is_ok());
        ids.filter(|id| !self.versions(id).is_empty()).collect()
    }

    /// All versions of a plugin, newest first.
    pub fn versions(&self, id: &str) -> Vec<Added> {
        // An id is one part of a path, and nothing else may be looked up here.
        if PluginId::new(id).is_err() {
            return Vec::new();
        }
        let folder = self.folder.join(id);
        let mut versions: Vec<Added> = entries(&folder)
            .filter_map(|name| {
                let (version, digest) = name.split_once('@')?;
                let (version, manifest_sha256) = (version.to_owned(), digest.parse().ok()?);
                Some(Added { id: id.to_owned(), version, manifest_sha256, folder: folder.join(&name) })
            })
            .collect();
        versions.sort_by_key(|added| std::cmp::Reverse(numbers(&added.version)));
        versions
    }

    /// Copies a built plugin into a folder of its own and reads it there: whatever becomes of the original from now on
    /// changes nothing. `from` is a plugin's folder, its manifest, or a component beside its manifest. A manifest that
    /// names no hash, as whoever builds without `handshake plugin build` has it, gets the one of the component.
    pub fn stage(&self, from: &Path) -> Result<Staged, PluginError> {
        let built = if from.is_dir() {
            built_folder(from).unwrap_or_else(|| Ok(from.to_owned()))
        } else {
            Ok(from.parent().map(Path::to_owned).unwrap_or_default())
        };
        let manifest = match built {
            Ok(folder) => ManifestFile::read(&folder.join(MANIFEST))?,
            Err(error @ PluginError::NotBuilt { .. }) => with_component(from).ok_or(error)?,
            Err(error) => return Err(error),
        };
        let source = manifest.path.parent().unwrap_or(Path::new(".")).join(&manifest.manifest.component.path);
        let is_other =
            !from.is_dir() && from.file_name() != Some(MANIFEST.as_ref()) && from.file_name() != source.file_name();
        if is_other {
            let problem = format!("is `{}`, not `{}`", manifest.manifest.component.path, from.display());
            return Err(PluginError::Manifest { file: manifest.place("component.path"), problem });
        }
        let (component, _) = read_bounded(&source, MAX_COMPONENT_BYTES)
            .map_err(|problem| PluginError::Component { file: source.display().to_string(), problem })?;

        let cannot = |error: &dyn std::fmt::Display| {
            PluginError::Host(format!("cannot write to `{}`: {error}", self.folder.display()))
        };
        fs::create_dir_all(&self.folder).map_err(|error| cannot(&error))?;
        let folder =
            tempfile::Builder::new().prefix(".new-").tempdir_in(&self.folder).map_err(|error| cannot(&error))?;
        let inner = folder.path().join(manifest.manifest.id.as_str());
        let text = match manifest.manifest.component.sha256 {
            Some(_) => manifest.text,
            None => {
                let mut completed = manifest.manifest.clone();
                completed.component.sha256 = Some(Digest::of(&component));
                toml::to_string_pretty(&completed).map_err(|error| cannot(&error))?
            }
        };
        fs::create_dir(&inner)
            .and_then(|()| write_synced(&inner.join(&manifest.manifest.component.path), &component))
            .and_then(|()| write_synced(&inner.join(MANIFEST), text.as_bytes()))
            .map_err(|error| cannot(&error))?;
        let plugin = read_plugin(&inner)?.plugin;
        Ok(Staged { folder, plugin })
    }

    /// Puts a staged plugin in its place. The same again changes nothing; another one of the same version is refused.
    pub fn keep(&self, staged: Staged) -> Result<Plugin, PluginError> {
        let Staged { folder, mut plugin } = staged;
        let manifest = &plugin.manifest;
        let home = self.folder.join(manifest.id.as_str());
        let place = home.join(format!("{}@{}", manifest.version, plugin.manifest_sha256));
        if let Some(other) = self.conflict(&plugin) {
            return Err(PluginError::Manifest {
                file: other.folder.join(MANIFEST).display().to_string(),
                problem: format!(
                    "version {} of `{}` was added with another content; raise the version, or run `handshake plugin remove {}` first",
                    manifest.version,
                    manifest.id,
                    plugin.label()
                ),
            });
        }
        let cannot =
            |error: std::io::Error| PluginError::Host(format!("cannot write to `{}`: {error}", home.display()));
        if !place.exists() {
            fs::create_dir_all(&home).map_err(cannot)?;
            fs::rename(folder.path().join(manifest.id.as_str()), &place).map_err(cannot)?;
            for folder in [&place, &home] {
                fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
            }
        }
        plugin.folder = place;
        Ok(plugin)
    }

    /// An added plugin of the same version that is another one.
    pub fn conflict(&self, plugin: &Plugin) -> Option<Added> {
        let versions = self.versions(plugin.manifest.id.as_str()).into_iter();
        versions
            .filter(|added| added.manifest_sha256 != plugin.manifest_sha256)
            .find(|added| numbers(&added.version) == numbers(&plugin.manifest.version))
    }

    /// Removes an added version.
    pub fn remove(&self, added: &Added) -> Result<(), PluginError> {
        let cannot =
            |error: std::io::Error| PluginError::Host(format!("cannot remove `{}`: {error}", added.folder.display()));
        // Out of the way in one step, so that nobody finds half of it.
        let gone = tempfile::Builder::new().prefix(".old-").tempdir_in(&self.folder).map_err(cannot)?;
        fs::rename(&added.folder, gone.path().join("plugin")).map_err(cannot)?;
        // The folder of an id that has no version left; when it has one, this fails and should.
        let _ = fs::remove_dir(self.folder.join(&added.id));
        gone.close().map_err(cannot)
    }
}

/// The manifest in a folder that has the component, too.
fn with_component(folder: &Path) -> Option<ManifestFile> {
    let manifest = ManifestFile::read(&folder.join(MANIFEST)).ok();
    manifest.filter(|file| folder.join(&file.manifest.component.path).is_file())
}

fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    fs::write(path, content)?;
    let file = fs::File::open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.sync_all()
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// A version as numbers, so that 0.10 comes behind 0.9.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
