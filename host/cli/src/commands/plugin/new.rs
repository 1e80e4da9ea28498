//! `handshake plugin new`: a small plugin to start from.

use std::path::PathBuf;

use clap::Args;
use handshake_core::PluginId;
use serde::Serialize;

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::guest_build::{Language, missing_tool};
use crate::templates;

/// Arguments of `handshake plugin new`.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The plugin's id: small letters, digits and hyphens
    #[arg(value_name = "NAME")]
    id: String,
    /// The language that it is written in
    #[arg(long, value_enum)]
    lang: Language,
    /// The folder in which its folder is made
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Serialize)]
struct Made {
    id: PluginId,
    folder: PathBuf,
    files: Vec<&'static str>,
    /// What has to be installed before it can be built.
    missing: Option<String>,
}

/// Writes the plugin's folder. What is there already is never touched.
pub(crate) fn new(context: &Context<'_>, args: &NewArgs) -> Result<Exit, CliError> {
    let id = PluginId::new(&args.id)
        .map_err(|error| CliError::usage(format!("`{}` cannot be a plugin's id", args.id)).because(&error))?;
    if args.lang == Language::Rust && !id.as_str().starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(CliError::usage(format!("`{id}` cannot be the name of a package in Rust"))
            .hint("let the name begin with a letter"));
    }
    let folder = args.dir.join(id.as_str());
    std::fs::create_dir_all(&args.dir).map_err(|error| CliError::file("create", &args.dir, &error))?;
    std::fs::create_dir(&folder).map_err(|error| {
        let failed = CliError::file("create", &folder, &error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failed.hint("choose another name, or remove what is there"),
            _ => failed,
        }
    })?;
    let files = templates::files(args.lang, &id);
    for (path, text) in &files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(|error| CliError::file("create", parent, &error))?;
        std::fs::write(&path, text).map_err(|error| CliError::file("write", &path, &error))?;
    }
    let missing = missing_tool(args.lang, &folder);
    let output = context.output;
    if output.is_json() {
        let files = files.iter().map(|(path, _)| *path).collect();
        output.json(&Made { id, folder, files, missing })?;
        return Ok(Exit::Done);
    }
    if !output.quiet {
        output.line(&format!("made {}", folder.display()))?;
        if let Some(missing) = missing {
            output.line(&format!("first: {missing}"))?;
        }
        output.line(&format!("next: handshake plugin build {0}, then handshake plugin test {0}", folder.display()))?;
    }
    Ok(Exit::Done)
}
