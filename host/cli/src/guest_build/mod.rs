//! Builds plugins: each with the tools of its language, then a `dist/` folder with the component and its manifest.

mod rust;
mod scripts;
mod watch;

use std::path::{Path, PathBuf};

use handshake_core::Digest;
use handshake_core::manifest::PluginManifest;
use handshake_runtime::manifest::{DIST, MANIFEST, read_manifest};
use serde::Serialize;

use crate::directory::canonical;
use crate::error::CliError;

pub(crate) use rust::{INSTALL, Toolchain};
pub(crate) use watch::Sources;

/// A language that plugins can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    /// Rust, compiled for wasm32-wasip2
    Rust,
    /// Python, with componentize-py
    Python,
    /// JavaScript, with componentize-js
    #[value(name = "javascript")]
    JavaScript,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::JavaScript];

    /// The file by which a plugin's language is told.
    pub(crate) const fn main_file(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "step.py",
            Self::JavaScript => "step.js",
        }
    }

    /// The language of the plugin in a folder.
    fn of(folder: &Path) -> Result<Self, CliError> {
        let found: Vec<_> = Self::ALL.into_iter().filter(|one| folder.join(one.main_file()).is_file()).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(CliError::usage(format!("there is nothing to build in `{}`", folder.display())).hint(
                "beside plugin.toml stands Cargo.toml, step.py or step.js; `handshake plugin new` makes such a folder",
            )),
            [one, other, ..] => Err(CliError::usage(format!(
                "`{}` holds both {} and {}",
                folder.display(),
                one.main_file(),
                other.main_file()
            ))
            .hint("a plugin is written in one language; move the other into a folder of its own")),
        }
    }
}

/// A plugin's source.
struct Source {
    folder: PathBuf,
    manifest: PluginManifest,
    language: Language,
}

/// A plugin that was built.
#[derive(Debug, Serialize)]
pub(crate) struct Built {
    /// Its id.
    pub(crate) id: String,
    /// Its version.
    pub(crate) version: String,
    /// Where its manifest and component are.
    pub(crate) folder: PathBuf,
    /// Size of the component.
    pub(crate) bytes: u64,
    /// SHA-256 of the component.
    pub(crate) sha256: String,
}

/// How to install what builds plugins of a language, unless it is there.
pub(crate) fn missing_tool(language: Language, folder: &Path) -> Option<String> {
    match language {
        Language::Rust => Toolchain::find(folder).is_none().then(|| INSTALL.to_owned()),
        Language::Python | Language::JavaScript => scripts::missing(language, folder),
    }
}

/// Builds the plugins in some folders.
pub(crate) fn build(folders: &[PathBuf], quiet: bool, note: &dyn Fn(&str)) -> Result<Vec<Built>, CliError> {
    let sources = folders.iter().map(|folder| source(folder)).collect::<Result<Vec<_>, _>>()?;
    let in_rust = sources.iter().filter(|source| source.language == Language::Rust);
    let packages = in_rust.map(|source| rust::Package::of(&source.folder)).collect::<Result<Vec<_>, _>>()?;
    let compiled = rust::compile(&packages, quiet, note)?;
    let scratch = tempfile::tempdir()
        .map_err(|error| CliError::internal("cannot make a folder for temporary files").because(&error))?;
    let mut built = Vec::with_capacity(sources.len());
    for source in &sources {
        if let Some(component) = compiled.get(&source.folder) {
            built.push(lay_out(source, component)?);
            continue;
        }
        note(&format!("building `{}`, which takes some seconds", source.manifest.id));
        let component = scratch.path().join(&source.manifest.component.path);
        scripts::compile(source.language, &source.folder, &component)?;
        built.push(lay_out(source, &component)?);
    }
    Ok(built)
}

fn source(folder: &Path) -> Result<Source, CliError> {
    let folder = canonical(folder)?;
    let (manifest, _) = read_manifest(&folder.join(MANIFEST))?;
    if folder.file_name().and_then(|name| name.to_str()) != Some(manifest.id.as_str()) {
        return Err(CliError::usage(format!("plugin `{}` is in a folder named `{}`", manifest.id, folder.display()))
            .hint("give the folder the plugin's id as its name; that is how it is found"));
    }
    let language = Language::of(&folder)?;
    Ok(Source { folder, manifest, language })
}

/// Puts the component and a manifest that names its hash into `dist/`.
fn lay_out(source: &Source, component: &Path) -> Result<Built, CliError> {
    let bytes = std::fs::read(component).map_err(|error| CliError::file("read", component, &error))?;
    let sha256 = Digest::of(&bytes);
    let mut manifest = source.manifest.clone();
    manifest.component.sha256 = Some(sha256);
    let text = toml::to_string_pretty(&manifest)
        .map_err(|error| CliError::internal("the manifest cannot be written as TOML").because(&error))?;
    let text =
        format!("# Written by `handshake plugin build` from ../plugin.toml; change that and build again.\n{text}");

    let dist = source.folder.join(DIST);
    std::fs::create_dir_all(&dist).map_err(|error| CliError::file("create", &dist, &error))?;
    // The manifest goes first and comes last: a component without its manifest is not built, and one beside an older
    // manifest is taken for one that was tampered with.
    match std::fs::remove_file(dist.join(MANIFEST)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(CliError::file("replace", &dist.join(MANIFEST), &error));
        }
        _ => {}
    }
    for (name, content) in [(manifest.component.path.as_str(), bytes.as_slice()), (MANIFEST, text.as_bytes())] {
        replace(&dist.join(name), content)?;
    }
    Ok(Built {
        id: manifest.id.to_string(),
        version: manifest.version,
        folder: dist,
        bytes: bytes.len() as u64,
        sha256: sha256.to_string(),
    })
}

/// Writes a file beside its place and moves it there, so that a host that reads it never sees half of it.
fn replace(path: &Path, content: &[u8]) -> Result<(), CliError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    std::fs::write(&new, content)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| CliError::file("write", path, &error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_out_is_a_plugin_with_the_hash_of_its_component() {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("built.wasm");
        std::fs::write(&component, "component").unwrap();
        std::fs::write(
            folder.path().join("plugin.toml"),
            "schema = 1\nid = \"demo\"\nversion = \"0.1.0\"\napi = \"handshake:step@0.1\"\ndescription = \"d\"\n[component]\npath = \"demo.wasm\"\n[limits]\nmemory_mb = 32\n[[capability]]\nid = \"fs.read\"\nreason = \"r\"\n",
        )
        .unwrap();
        let (manifest, _) = read_manifest(&folder.path().join("plugin.toml")).unwrap();
        let source = Source { folder: folder.path().to_owned(), manifest: manifest.clone(), language: Language::Rust };
        let built = lay_out(&source, &component).unwrap();
        let (written, _) = read_manifest(&built.folder.join("plugin.toml")).unwrap();
        assert_eq!(written.component.sha256, Some(Digest::of(b"component")));
        assert_eq!((written.limits, written.capabilities), (manifest.limits, manifest.capabilities));
        assert_eq!(std::fs::read(built.folder.join("demo.wasm")).unwrap(), b"component");
    }

    #[test]
    fn a_plugin_in_a_folder_of_another_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = source(folder.path()).err().unwrap();
        assert_eq!(error.exit.code(), 2);
    }

    #[test]
    fn the_language_is_told_by_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Language::of(folder.path()).unwrap_err();
        assert!(error.hint.unwrap().contains("plugin new"));
        std::fs::write(folder.path().join("step.py"), "").unwrap();
        assert_eq!(Language::of(folder.path()).unwrap(), Language::Python);
        std::fs::write(folder.path().join("step.js"), "").unwrap();
        assert!(Language::of(folder.path()).unwrap_err().message.contains("both step.py and step.js"));
    }
}
