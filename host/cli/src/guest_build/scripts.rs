//! Plugins in Python and JavaScript: componentize-py and componentize-js, which put the language's interpreter and the
//! plugin's code into one component. Both are asked for the one world that the plugin's `wit` folder has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Language;
use crate::database::DATABASE_URL;
use crate::error::CliError;

/// The versions that this release is tested with.
const COMPONENTIZE_PY: &str = "0.25.1";
const COMPONENTIZE_JS: &str = "0.23.0";
/// componentize-js imports it and does not say so.
const PREVIEW2_SHIM: &str = "0.25.0";

/// A program that builds plugins of one language.
struct Tool {
    name: &'static str,
    /// Where a project's own copy of it is, seen from the plugin's folder. Folders above are not looked into: they may be
    /// writable for others.
    local: &'static str,
    /// What to do when it is missing.
    install: String,
}

impl Tool {
    fn of(language: Language) -> Option<Self> {
        match language {
            Language::Rust => None,
            Language::Python => Some(Self {
                name: "componentize-py",
                local: ".venv/bin",
                install: format!(
                    "with Python 3.10 or later, in the plugin's folder: python3 -m venv .venv && .venv/bin/pip install componentize-py=={COMPONENTIZE_PY}"
                ),
            }),
            Language::JavaScript => Some(Self {
                name: "componentize-js",
                local: "node_modules/.bin",
                install: format!(
                    "with Node.js 20 or later, in the plugin's folder: npm install --save-dev @bytecodealliance/componentize-js@{COMPONENTIZE_JS} @bytecodealliance/preview2-shim@{PREVIEW2_SHIM}"
                ),
            }),
        }
    }

    /// The project's own, or the one on the path.
    fn program(&self, folder: &Path) -> PathBuf {
        let own = folder.join(self.local).join(self.name);
        if own.is_file() { own } else { PathBuf::from(self.name) }
    }
}

/// How to install what builds plugins of a language, unless it is there.
pub(super) fn missing(language: Language, folder: &Path) -> Option<String> {
    let tool = Tool::of(language)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).chain([folder.join(tool.local)]).any(|at| at.join(tool.name).is_file());
    (!is_there).then_some(tool.install)
}

/// Compiles the plugin in a folder into a component.
pub(super) fn compile(language: Language, folder: &Path, component: &Path) -> Result<(), CliError> {
    let Some(tool) = Tool::of(language) else { return Ok(()) };
    if !folder.join("wit").is_dir() {
        return Err(CliError::usage(format!("`{}` has no folder `wit`", folder.display()))
            .hint("it holds the interface that the plugin is built against; `handshake plugin new` writes it"));
    }
    let mut command = Command::new(tool.program(folder));
    match language {
        Language::JavaScript => {
            check_syntax(folder)?;
            command.args(["--wit", "wit", "--out"]).arg(component).arg(language.main_file());
        }
        _ => {
            command
                .args(["--wit-path", "wit", "componentize", "step", "--python-path", ".", "--output"])
                .arg(component);
        }
    }
    // Backtraces of the tool tell about itself only. What a build runs is the plugin's author's code.
    command.env("RUST_BACKTRACE", "0").env_remove(DATABASE_URL);
    let answer = command.current_dir(folder).stdin(Stdio::null()).output().map_err(|error| {
        CliError::usage(format!("cannot start {}", tool.name)).code("no_toolchain").because(&error).hint(&tool.install)
    })?;
    if answer.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.stderr);
    let said = match language {
        Language::JavaScript => javascript_error(&said),
        _ => python_error(&said),
    };
    Err(failed(folder, &said))
}

fn failed(folder: &Path, said: &str) -> CliError {
    CliError::usage(format!("building in `{}` failed", folder.display()))
        .code("build_failed")
        .because(&std::io::Error::other(said.to_owned()))
}

/// componentize-js says only that there are errors in the syntax; Node.js says where.
fn check_syntax(folder: &Path) -> Result<(), CliError> {
    let unread = |error: std::io::Error| CliError::usage("cannot read the plugin's folder").because(&error);
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.extension().is_none_or(|extension| extension != "js") {
            continue;
        }
        let source = std::fs::File::open(&path).map_err(|error| CliError::file("read", &path, &error))?;
        let mut node = Command::new("node");
        node.args(["--input-type=module", "--check", "-"]).stdin(source).env_remove(DATABASE_URL);
        let answer = node.current_dir(folder).output().map_err(|error| {
            let hint = "install Node.js 20 or later: https://nodejs.org; on Debian: apt-get install nodejs npm";
            CliError::usage("cannot start node").code("no_toolchain").because(&error).hint(hint)
        })?;
        if !answer.status.success() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let said = String::from_utf8_lossy(&answer.stderr).replace("[stdin]", &name);
            return Err(failed(folder, said.split("\n    at ").next().unwrap_or_default().trim()));
        }
    }
    Ok(())
}

/// What Python said, without what componentize-py says about itself.
fn python_error(said: &str) -> String {
    let from = said.split_once("AssertionError: ").map_or(said, |(_, rest)| rest);
    let until = from.split("\n\nCaused by:").next().unwrap_or_default();
    // The folder, as the interpreter in the component sees it.
    until.replace("\"/0/", "\"").trim().to_owned()
}

/// What the engine said, without the stack of componentize-js.
fn javascript_error(said: &str) -> String {
    let from = said.split_once("\nError: ").map_or(said, |(_, rest)| rest);
    let until = from.split("\n    at ").next().unwrap_or_default();
    let lines = until.lines().filter(|line| !line.starts_with("Failed to initialize component (wizer"));
    // It names every source so.
    lines.collect::<Vec<_>>().join("\n").replace("\"source.js\"", "step.js").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_pythons_errors_the_authors_part_is_left() {
        let said = "Traceback (most recent call last):\n  File \"/usr/bin/componentize-py\", line 8, in <module>\nAssertionError: Traceback (most recent call last):\n  File \"/0/step.py\", line 1, in <module>\n    import nothere\nModuleNotFoundError: No module named 'nothere'\n\n\nCaused by:\n    ModuleNotFoundError: No module named 'nothere'\n";
        let left = "Traceback (most recent call last):\n  File \"step.py\", line 1, in <module>\n    import nothere\nModuleNotFoundError: No module named 'nothere'";
        assert_eq!(python_error(said), left);
        assert_eq!(python_error("error: no such option"), "error: no such option");
    }

    #[test]
    fn of_javascripts_errors_the_authors_part_is_left() {
        let said = "file:///n/componentize.js:365\n    throw new Error(err);\n          ^\n\nError: Failed to initialize component (wizer (/n/wizer)):\nException while evaluating top-level script\nstep.js:1:7 Error: x\n    at componentize (file:///n/componentize.js:365:11)\n";
        assert_eq!(javascript_error(said), "Exception while evaluating top-level script\nstep.js:1:7 Error: x");
    }
}
