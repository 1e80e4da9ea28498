//! Plugins in Rust: cargo for wasm32-wasip2, one call for all of a workspace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::database::DATABASE_URL;
use crate::error::CliError;

/// The target of every plugin.
const TARGET: &str = "wasm32-wasip2";
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

/// A cargo package whose component a plugin is.
pub(super) struct Package {
    name: String,
    folder: PathBuf,
    workspace: PathBuf,
}

impl Package {
    /// The package in a plugin's folder.
    pub(super) fn of(folder: &Path) -> Result<Self, CliError> {
        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Listed>,
            workspace_root: PathBuf,
        }
        #[derive(Deserialize)]
        struct Listed {
            name: String,
            manifest_path: PathBuf,
        }
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(folder);
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
        let manifest = folder.join("Cargo.toml");
        let package = metadata.packages.into_iter().find(|package| package.manifest_path == manifest);
        let package = package.ok_or_else(|| {
            CliError::usage(format!("`{}` holds no package, only a workspace", manifest.display()))
                .hint("a plugin's Cargo.toml has [package], beside plugin.toml")
        })?;
        Ok(Self { name: package.name, folder: folder.to_owned(), workspace: metadata.workspace_root })
    }
}

/// Compiles packages, one call of cargo for all of a workspace; gives the component of each by its folder.
pub(super) fn compile(
    packages: &[Package],
    quiet: bool,
    note: &dyn Fn(&str),
) -> Result<BTreeMap<PathBuf, PathBuf>, CliError> {
    let mut workspaces: BTreeMap<&Path, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        workspaces.entry(&package.workspace).or_default().push(package);
    }
    let mut built = BTreeMap::new();
    for (workspace, members) in workspaces {
        let toolchain = Toolchain::find(workspace).ok_or_else(|| {
            CliError::usage(format!("no compiler for {TARGET} was found")).code("no_toolchain").hint(INSTALL)
        })?;
        note(&format!("building with {}", toolchain.describe()));
        let mut components = compile_workspace(toolchain, workspace, &members, quiet)?;
        for member in members {
            let component = components.remove(&member.folder.join("Cargo.toml")).ok_or_else(|| {
                CliError::usage(format!("package `{}` gave no component", member.name))
                    .hint("its Cargo.toml needs: [lib] crate-type = [\"cdylib\"]")
            })?;
            built.insert(member.folder.clone(), component);
        }
    }
    Ok(built)
}

/// Runs cargo; gives the component of each package by the path of its Cargo.toml.
fn compile_workspace(
    toolchain: Toolchain,
    workspace: &Path,
    members: &[&Package],
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
        cargo.args(["-p", &member.name]);
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
