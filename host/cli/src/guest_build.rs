//! Builds plugins: cargo for wasm32-wasip2, then a `dist/` folder with the component and its manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use handshake_core::Digest;
use handshake_core::manifest::PluginManifest;
use handshake_runtime::catalog::read_manifest;
use serde::{Deserialize, Serialize};

use crate::database::DATABASE_URL;
use crate::error::CliError;

/// The target of every plugin.
pub(crate) const TARGET: &str = "wasm32-wasip2";
/// Debian's packages, for machines where rustup cannot fetch the target.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LINKER: &str = "/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/wasm-component-ld";
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";

/// A compiler that can build plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The one on the path, with the target installed.
    Installed,
    /// Debian's, which builds the standard library along.
    Debian,
}

impl Toolchain {
    /// Finds one, as seen from a folder (a `rust-toolchain.toml` there counts).
    pub(crate) fn find(folder: &Path) -> Option<Self> {
        let asked = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", TARGET])
            .current_dir(folder)
            .stderr(Stdio::null())
            .output()
            .ok();
        let library =
            asked.filter(|answer| answer.status.success()).and_then(|answer| String::from_utf8(answer.stdout).ok());
        if library.is_some_and(|folder| holds_std(Path::new(folder.trim()))) {
            return Some(Self::Installed);
        }
        let all_there =
            [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_LINKER, DEBIAN_LIBC].iter().all(|path| Path::new(path).exists());
        all_there.then_some(Self::Debian)
    }

    /// For people.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Installed => "the installed wasm32-wasip2 target",
            Self::Debian => "Debian's rustc-web, which builds the standard library along the first time",
        }
    }

    fn cargo(self) -> Command {
        let mut command = match self {
            Self::Installed => Command::new("cargo"),
            Self::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_WASIP2_LINKER", DEBIAN_LINKER);
                command
            }
        };
        // Whoever wrote the plugin may also have written code that the build runs.
        command.env_remove(DATABASE_URL);
        // Flags for the host's code have no meaning for a guest, and a plugin must not depend on who builds it.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
        if self == Self::Debian {
            command.env("RUSTFLAGS", format!("-C link-self-contained=no -L native={DEBIAN_LIBC}"));
        }
        // Host and guest may be built by different compilers; in one folder each would throw the other's work away.
        if let Some(shared) = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
            command.env("CARGO_TARGET_DIR", PathBuf::from(shared).join("guests"));
        }
        command
    }
}

fn holds_std(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// What to say when there is none.
pub(crate) const INSTALL: &str = "run: rustup target add wasm32-wasip2; or on Debian: apt-get install rustc-web cargo-web rust-web-src rust-web-llvm lld-22 wasi-libc";

/// A plugin's source, and the cargo package that builds it.
struct Source {
    folder: PathBuf,
    manifest: PluginManifest,
    package: String,
    workspace: PathBuf,
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

/// Builds the plugins in some folders: one call of cargo for all of a workspace.
pub(crate) fn build(folders: &[PathBuf], quiet: bool, note: &dyn Fn(&str)) -> Result<Vec<Built>, CliError> {
    let sources = folders.iter().map(|folder| source(folder)).collect::<Result<Vec<_>, _>>()?;
    let mut workspaces: BTreeMap<&Path, Vec<&Source>> = BTreeMap::new();
    for source in &sources {
        workspaces.entry(&source.workspace).or_default().push(source);
    }
    let mut built = Vec::with_capacity(sources.len());
    for (workspace, members) in workspaces {
        let toolchain = Toolchain::find(workspace).ok_or_else(|| {
            CliError::usage(format!("no compiler for {TARGET} was found")).code("no_toolchain").hint(INSTALL)
        })?;
        note(&format!("building with {}", toolchain.describe()));
        let components = compile(toolchain, workspace, &members, quiet)?;
        for member in members {
            let component = components.get(&member.folder.join("Cargo.toml")).ok_or_else(|| {
                CliError::usage(format!("package `{}` gave no component", member.package))
                    .hint("its Cargo.toml needs: [lib] crate-type = [\"cdylib\"]")
            })?;
            built.push(lay_out(member, component)?);
        }
    }
    Ok(built)
}

fn source(folder: &Path) -> Result<Source, CliError> {
    let folder = folder
        .canonicalize()
        .map_err(|error| CliError::usage(format!("cannot open folder `{}`", folder.display())).because(&error))?;
    let (manifest, _) = read_manifest(&folder.join("plugin.toml"))?;
    if folder.file_name().and_then(|name| name.to_str()) != Some(manifest.id.as_str()) {
        return Err(CliError::usage(format!("plugin `{}` is in a folder named `{}`", manifest.id, folder.display()))
            .hint("give the folder the plugin's id as its name; that is how it is found"));
    }

    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
        workspace_root: PathBuf,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        manifest_path: PathBuf,
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(&folder);
    let answer = cargo.output().map_err(|error| {
        CliError::usage("cannot start cargo").because(&error).hint("install Rust: https://rustup.rs")
    })?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        return Err(CliError::usage(format!("cargo does not understand the package in `{}`", folder.display()))
            .because(&std::io::Error::other(said)));
    }
    let metadata: Metadata = serde_json::from_slice(&answer.stdout)
        .map_err(|error| CliError::internal("cannot understand cargo's metadata").because(&error))?;
    let cargo_manifest = folder.join("Cargo.toml");
    let package = metadata.packages.into_iter().find(|package| package.manifest_path == cargo_manifest);
    let package = package.ok_or_else(|| {
        CliError::usage(format!("`{}` is not a cargo package", folder.display()))
            .hint("a plugin's folder holds Cargo.toml beside plugin.toml")
    })?;
    Ok(Source { folder, manifest, package: package.name, workspace: metadata.workspace_root })
}

/// Runs cargo; gives the component of each package by the path of its Cargo.toml.
fn compile(
    toolchain: Toolchain,
    workspace: &Path,
    members: &[&Source],
    quiet: bool,
) -> Result<BTreeMap<PathBuf, PathBuf>, CliError> {
    let mut cargo = toolchain.cargo();
    cargo.arg("build");
    if toolchain == Toolchain::Debian {
        cargo.args(["-Z", "build-std=std,panic_abort"]);
    }
    cargo.args(["--release", "--target", TARGET, "--message-format=json-render-diagnostics"]).current_dir(workspace);
    if quiet {
        cargo.arg("--quiet");
    }
    for member in members {
        cargo.args(["-p", &member.package]);
    }
    // Diagnostics go to standard error as cargo writes them; what it built comes on standard output.
    let answer = cargo
        .stderr(Stdio::inherit())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CliError::usage("cannot start cargo").because(&error))?;
    if !answer.status.success() {
        return Err(CliError::usage(format!("building in `{}` failed", workspace.display()))
            .code("build_failed")
            .hint("see cargo's messages above"));
    }

    #[derive(Deserialize)]
    struct Artifact {
        reason: String,
        manifest_path: Option<PathBuf>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let mut components = BTreeMap::new();
    for line in answer.stdout.split(|byte| *byte == b'\n') {
        let Ok(Artifact { reason, manifest_path: Some(manifest), filenames }) =
            serde_json::from_slice::<Artifact>(line)
        else {
            continue;
        };
        let component =
            filenames.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        if let ("compiler-artifact", Some(component)) = (reason.as_str(), component) {
            components.insert(manifest, component);
        }
    }
    Ok(components)
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

    let dist = source.folder.join("dist");
    std::fs::create_dir_all(&dist).map_err(|error| CliError::file("create", &dist, &error))?;
    // The manifest goes first and comes last: a component without its manifest is not built, and one beside an older
    // manifest is taken for one that was tampered with.
    match std::fs::remove_file(dist.join("plugin.toml")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(CliError::file("replace", &dist.join("plugin.toml"), &error));
        }
        _ => {}
    }
    for (name, content) in [(manifest.component.path.as_str(), bytes.as_slice()), ("plugin.toml", text.as_bytes())] {
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
        let source = Source {
            folder: folder.path().to_owned(),
            manifest: manifest.clone(),
            package: "demo".into(),
            workspace: folder.path().to_owned(),
        };
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
}
