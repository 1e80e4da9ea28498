//! What `handshake plugin new` writes: a small step in each language, with the library and the interface that it is built
//! with, so that a project needs nothing of this repository.

use handshake_core::PluginId;

use crate::guest_build::Language;

/// Stands for the plugin's id.
const NAME: &str = "PLUGIN-NAME";
/// Stands for what only one language has, in the README.
const LANGUAGE_FILES: &str = "LANGUAGE-FILES\n";

macro_rules! files {
    ($($to:literal = $from:literal),* $(,)?) => {
        &[$(($to, include_str!(concat!("../../../", $from)))),*]
    };
}

const COMMON: &[(&str, &str)] = files! {
    "plugin.toml" = "host/cli/templates/plugin.toml",
    ".gitignore" = "host/cli/templates/gitignore",
    "tests/summarizes.toml" = "host/cli/templates/tests/summarizes.toml",
    "tests/says-what-was-refused.toml" = "host/cli/templates/tests/says-what-was-refused.toml",
};

const README: &str = include_str!("../templates/README.md");

const RUST: &[(&str, &str)] = files! {
    "Cargo.toml" = "host/cli/templates/rust/Cargo.toml",
    // Cargo drops what this project does not use, and keeps the versions that are known to work together.
    "Cargo.lock" = "plugins/Cargo.lock",
    "src/lib.rs" = "host/cli/templates/rust/lib.rs",
    "vendor/sdk/Cargo.toml" = "plugins/sdk/Cargo.toml",
    "vendor/sdk/src/artifacts.rs" = "plugins/sdk/src/artifacts.rs",
    "vendor/sdk/src/bindings.rs" = "plugins/sdk/src/bindings.rs",
    "vendor/sdk/src/config.rs" = "plugins/sdk/src/config.rs",
    "vendor/sdk/src/context.rs" = "plugins/sdk/src/context.rs",
    "vendor/sdk/src/documents.rs" = "plugins/sdk/src/documents.rs",
    "vendor/sdk/src/error.rs" = "plugins/sdk/src/error.rs",
    "vendor/sdk/src/lib.rs" = "plugins/sdk/src/lib.rs",
    "vendor/sdk/src/log.rs" = "plugins/sdk/src/log.rs",
    "vendor/sdk/src/models.rs" = "plugins/sdk/src/models.rs",
    "vendor/sdk/src/output.rs" = "plugins/sdk/src/output.rs",
    "vendor/sdk/src/progress.rs" = "plugins/sdk/src/progress.rs",
    "vendor/sdk/src/secrets.rs" = "plugins/sdk/src/secrets.rs",
    "vendor/sdk/src/step.rs" = "plugins/sdk/src/step.rs",
    "vendor/sdk/wit/step.wit" = "wit/step-0.1.0/step.wit",
    "vendor/sdk-macros/Cargo.toml" = "plugins/sdk-macros/Cargo.toml",
    "vendor/sdk-macros/src/lib.rs" = "plugins/sdk-macros/src/lib.rs",
};

const PYTHON: &[(&str, &str)] = files! {
    "step.py" = "host/cli/templates/python/step.py",
    "requirements.txt" = "host/cli/templates/python/requirements.txt",
    "handshake_step.py" = "plugins/sdk-python/handshake_step.py",
    "handshake_http.py" = "plugins/sdk-python/handshake_http.py",
    "wit/world.wit" = "plugins/sdk-python/world.wit",
};

const JAVASCRIPT: &[(&str, &str)] = files! {
    "step.js" = "host/cli/templates/javascript/step.js",
    "package.json" = "host/cli/templates/javascript/package.json",
    "handshake-step.js" = "plugins/sdk-javascript/handshake-step.js",
    "handshake-files.js" = "plugins/sdk-javascript/handshake-files.js",
    "wit/world.wit" = "plugins/sdk-javascript/world.wit",
};

/// What the worlds of Python and JavaScript can import.
const WIT: &[(&str, &str)] = files! {
    "wit/deps/step.wit" = "wit/step-0.1.0/step.wit",
    "wit/deps/cli.wit" = "wit/wasi-0.2.12/cli.wit",
    "wit/deps/clocks.wit" = "wit/wasi-0.2.12/clocks.wit",
    "wit/deps/filesystem.wit" = "wit/wasi-0.2.12/filesystem.wit",
    "wit/deps/http.wit" = "wit/wasi-0.2.12/http.wit",
    "wit/deps/io.wit" = "wit/wasi-0.2.12/io.wit",
    "wit/deps/random.wit" = "wit/wasi-0.2.12/random.wit",
    "wit/deps/sockets.wit" = "wit/wasi-0.2.12/sockets.wit",
};

/// The files of a new plugin: path within its folder, and content.
pub(crate) fn files(language: Language, id: &PluginId) -> Vec<(&'static str, String)> {
    let (own, wit, about): (_, &[_], _) = match language {
        Language::Rust => (RUST, &[], include_str!("../templates/rust/README.md")),
        Language::Python => (PYTHON, WIT, include_str!("../templates/python/README.md")),
        Language::JavaScript => (JAVASCRIPT, WIT, include_str!("../templates/javascript/README.md")),
    };
    let readme = README.replace(LANGUAGE_FILES, about);
    let texts = COMMON.iter().chain(own).chain(wit).map(|(path, text)| (*path, (*text).to_owned()));
    let texts = texts.chain(std::iter::once(("README.md", readme)));
    texts.map(|(path, text)| (path, text.replace(NAME, id.as_str()))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_source_of_the_rust_library_is_part_of_a_new_plugin() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        for package in ["sdk", "sdk-macros"] {
            for entry in std::fs::read_dir(plugins.join(package).join("src")).unwrap() {
                let path = format!("vendor/{package}/src/{}", entry.unwrap().file_name().to_str().unwrap());
                assert!(RUST.iter().any(|(listed, _)| *listed == path), "{path} is not in the list");
            }
        }
    }

    #[test]
    fn the_name_is_filled_in_everywhere() {
        let id = PluginId::new("word-count").unwrap();
        for language in [Language::Rust, Language::Python, Language::JavaScript] {
            let files = files(language, &id);
            assert!(files.iter().any(|(path, _)| *path == language.main_file()));
            assert!(files.iter().all(|(_, text)| !text.contains(NAME) && !text.contains(LANGUAGE_FILES)));
            assert!(files.iter().any(|(path, text)| *path == "plugin.toml" && text.contains("id = \"word-count\"")));
        }
    }
}
