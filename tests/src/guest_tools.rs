//! The tools that build plugins in Python and JavaScript: on the path, or where `./justw` has put them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::binary::handshake;

/// Where `./justw` installs them, within its cache folder.
const INSTALLED: [(&str, &str); 2] = [("componentize-py-", "bin"), ("componentize-js-", "node_modules/.bin")];

/// The path, with the folders of those that `./justw` has installed.
pub fn path() -> OsString {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = set("HANDSHAKE_CACHE").or_else(|| {
        set("XDG_CACHE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .map(|caches| caches.join("handshake"))
    });
    let mut folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    for entry in cache.and_then(|cache| cache.read_dir().ok()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let installed = INSTALLED.iter().find(|(begins, _)| name.to_string_lossy().starts_with(begins));
        folders.extend(installed.map(|(_, folder)| entry.path().join(folder)));
    }
    std::env::join_paths(folders).unwrap_or_default()
}

/// Whether a tool is there. Where it is not, its tests are left out, which is said here.
#[allow(clippy::print_stderr, reason = "a test that is left out says so")]
pub fn is_installed(tool: &str) -> bool {
    let found = std::env::split_paths(&path()).any(|folder| folder.join(tool).is_file());
    if !found {
        eprintln!("NOT RUN: {tool} was not found; ./justw setup installs it");
    }
    found
}

/// Has a command find the tools, and share what was compiled with other builds of guests.
pub fn with_tools(command: &mut Command) -> &mut Command {
    let target = handshake().parent().and_then(|folder| folder.parent()).unwrap_or(crate::root().as_path()).to_owned();
    command.env("PATH", path()).env("CARGO_TARGET_DIR", target)
}
