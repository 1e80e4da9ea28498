//! Whether a plugin is what its manifest says: contract, descriptor, and what its imports can ever need.

use std::collections::BTreeSet;
use std::path::Path;

use handshake_core::capability::{AXES, Axis, CapabilityId};
use handshake_core::manifest::PluginApi;
use handshake_core::step::{Descriptor, Plugin, PluginError};
use handshake_runtime::imports::{Side, imports};
use handshake_runtime::manifest::{DIST, MANIFEST, ManifestFile};
use handshake_runtime::{Imported, WasmRuntime};
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Why it should not be used; empty when all is well.
    pub(crate) problems: Vec<String>,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
}

/// An interface that a component imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ImportedInterface {
    /// Without version.
    pub(crate) interface: String,
    /// The version that it was built against.
    pub(crate) version: String,
    /// Its functions.
    pub(crate) functions: Vec<String>,
    /// Capabilities that calls of them can need; empty when all of them are ambient.
    pub(crate) axes: Vec<String>,
}

/// A plugin that was looked at.
pub(crate) struct Checked {
    pub(crate) descriptor: Descriptor,
    pub(crate) imports: Vec<ImportedInterface>,
    pub(crate) component_bytes: u64,
    pub(crate) findings: Findings,
}

/// Looks at a plugin. Errors are what makes looking further impossible. `manifest` is the one that its author wrote, to
/// which the lines of findings belong.
pub(crate) async fn check(
    runtime: &WasmRuntime,
    plugin: &Plugin,
    manifest: &ManifestFile,
) -> Result<Checked, CliError> {
    let descriptor = runtime.describe(plugin).await?;
    let imported = runtime.imported(plugin).await?;
    let mut findings = Findings::default();
    if !same_but_for_the_hash(plugin, manifest) {
        findings.problems.push(format!(
            "{}: the built plugin has another manifest; run `handshake plugin build` again",
            manifest.path.display()
        ));
    }
    compare(manifest, &descriptor, &mut findings);
    if manifest.manifest.api == PluginApi::Step {
        for (name, schema) in [("input", &descriptor.input_schema), ("output", &descriptor.output_schema)] {
            if let Err(problem) = jsonschema::meta::validate(schema) {
                findings.problems.push(format!(
                    "{}: its {name} schema is not a JSON Schema: {problem}; correct what `describe` returns",
                    component_of(plugin)
                ));
            }
        }
    }
    compare_imports(manifest, &imported, &mut findings);
    let component_bytes = std::fs::metadata(component_of(plugin)).map_or(0, |metadata| metadata.len());
    Ok(Checked { descriptor, imports: by_interface(imported), component_bytes, findings })
}

/// The folder of a plugin's source, which is the one around its built form, or of a plugin that has no source.
pub(crate) fn source_of(folder: &Path) -> &Path {
    let around = folder.parent().filter(|around| folder.ends_with(DIST) && around.join(MANIFEST).is_file());
    around.unwrap_or(folder)
}

/// The manifest that a plugin's author wrote: of the source folder if there is one, else the plugin's own.
pub(crate) fn written_manifest(plugin: &Plugin) -> Result<ManifestFile, PluginError> {
    ManifestFile::read(&source_of(&plugin.folder).join(MANIFEST))
}

fn component_of(plugin: &Plugin) -> String {
    plugin.folder.join(&plugin.manifest.component.path).display().to_string()
}

fn same_but_for_the_hash(plugin: &Plugin, manifest: &ManifestFile) -> bool {
    let mut written = manifest.manifest.clone();
    written.component.sha256 = plugin.manifest.component.sha256;
    written == plugin.manifest
}

/// A plugin in a folder of another name is not found by its id.
pub(crate) fn folder_name(source: &Path, manifest: &ManifestFile) -> Option<String> {
    let id = manifest.manifest.id.as_str();
    let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    (name != id).then(|| {
        let place = manifest.place("id");
        format!("{place}: id: is `{id}`, but the folder is named `{name}`; name both alike: plugins are found by their folder")
    })
}

/// Holds what a component says about itself against its manifest.
fn compare(file: &ManifestFile, descriptor: &Descriptor, findings: &mut Findings) {
    let manifest = &file.manifest;
    let Findings { problems, notes } = findings;
    if descriptor.name != manifest.id.as_str() {
        let (place, says, id) = (file.place("id"), &descriptor.name, &manifest.id);
        problems.push(format!("{place}: id: is `{id}`, but the component calls itself `{says}`; use one name in both"));
    }
    if descriptor.version != manifest.version {
        let (place, says, version) = (file.place("version"), &descriptor.version, &manifest.version);
        problems.push(format!(
            "{place}: version: is {version}, but the component says {says}; use one version in both and build it again"
        ));
    }
    let mut wanted = Vec::new();
    for text in &descriptor.capabilities {
        match text.parse::<CapabilityId>() {
            Ok(id) => wanted.push(id),
            Err(error) => {
                problems.push(format!("{}: the component's `describe` asks for {error}", file.path.display()))
            }
        }
    }
    let declares = |axis: Axis| manifest.capabilities.iter().any(|declared| declared.id.axis() == axis);
    for id in wanted.iter().filter(|id| !declares(id.axis())) {
        problems.push(format!(
            "{}: capability: the component asks for `{id}`, which is not declared; add: [[capability]] id = \"{id}\" with a reason",
            file.place("capability")
        ));
    }
    for (at, declared) in manifest.capabilities.iter().enumerate() {
        let (axis, place) = (declared.id.axis(), file.place(&format!("capability[{at}].id")));
        if !axis.is_grantable() {
            notes.push(format!("{place}: `{}` is never granted by this version of the host", declared.id));
        } else if wanted.iter().all(|wanted| wanted.axis() != axis) {
            let id = &declared.id;
            notes.push(format!("{place}: `{id}` is declared, but the component does not say that it asks for it"));
        }
    }
}

/// Holds what a component's imports can ever need against what its manifest declares, both ways.
fn compare_imports(file: &ManifestFile, imported: &[Imported], findings: &mut Findings) {
    let needed: BTreeSet<&str> = imported.iter().flat_map(axes_of).map(Axis::name).collect();
    for (at, declared) in file.manifest.capabilities.iter().enumerate() {
        let axis = declared.id.axis();
        if axis.is_grantable() && !needed.contains(axis.name()) {
            findings.problems.push(format!(
                "{}: `{}` is declared, but no function that the component imports can need it; remove it, so that nobody grants it in vain",
                file.place(&format!("capability[{at}].id")),
                declared.id
            ));
        }
    }
    let declared: BTreeSet<&str> =
        file.manifest.capabilities.iter().map(|declared| declared.id.axis().name()).collect();
    let undeclared: Vec<_> =
        AXES.iter().map(|axis| axis.name()).filter(|axis| needed.contains(axis) && !declared.contains(axis)).collect();
    if !undeclared.is_empty() {
        findings.notes.push(format!(
            "{}: its imports could also need {}, which it does not declare: such calls are refused (not-declared). Standard libraries import more than programs use",
            file.path.display(),
            undeclared.join(", ")
        ));
    }
}

/// What calls of a function can need.
fn axes_of(import: &Imported) -> Vec<Axis> {
    let known = imports().filter(|known| known.interface == import.interface && known.function == import.function);
    let sides = known.flat_map(|known| known.sides().collect::<Vec<_>>());
    sides.flat_map(|side| if let Side::Decided(axes) = side { axes.to_vec() } else { Vec::new() }).collect()
}

fn by_interface(imported: Vec<Imported>) -> Vec<ImportedInterface> {
    let mut found: Vec<ImportedInterface> = Vec::new();
    for import in imported {
        let axes = axes_of(&import).into_iter().map(|axis| axis.name().to_owned());
        let Imported { interface, version, function } = import;
        let is_same = |last: &&mut ImportedInterface| last.interface == interface && last.version == version;
        if let Some(last) = found.last_mut().filter(is_same) {
            last.functions.push(function);
            last.axes.extend(axes);
        } else {
            found.push(ImportedInterface { interface, version, functions: vec![function], axes: axes.collect() });
        }
    }
    for interface in &mut found {
        interface.axes.sort();
        interface.axes.dedup();
    }
    found
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
