//! What is found in manifests and descriptors, without any component.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const TEXT: &str = "schema = 1\nid = \"summarize\"\nversion = \"0.1.0\"\napi = \"handshake:step@0.1\"\ndescription = \"d\"\n[component]\npath = \"a.wasm\"\n[[capability]]\nid = \"model.infer\"\nreason = \"r\"\n";

fn manifest() -> (tempfile::TempDir, ManifestFile) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(MANIFEST), TEXT).unwrap();
    let file = ManifestFile::read(&folder.path().join(MANIFEST)).unwrap();
    (folder, file)
}

fn descriptor(capabilities: &[&str]) -> Descriptor {
    let capabilities = capabilities.iter().map(|id| (*id).to_owned()).collect();
    Descriptor {
        name: "summarize".into(),
        version: "0.1.0".into(),
        input_schema: json!({}),
        output_schema: json!({}),
        capabilities,
    }
}

fn compared(descriptor: &Descriptor) -> Findings {
    let (_folder, file) = manifest();
    let mut findings = Findings::default();
    compare(&file, descriptor, &mut findings);
    findings
}

#[test]
fn a_component_that_agrees_with_its_manifest_has_no_problems() {
    assert_eq!(compared(&descriptor(&["model.infer:default"])), Findings::default());
}

#[test]
fn an_undeclared_capability_another_name_and_an_unused_declaration_are_told() {
    let other = Descriptor { name: "other".into(), version: "0.2.0".into(), ..descriptor(&["fs.read", "fs.peek"]) };
    let Findings { problems, notes } = compared(&other);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems[0].contains("plugin.toml:2:6: id"), "{problems:?}");
    assert!(problems[2].contains("HSK-4001"), "{problems:?}");
    assert!(problems[3].contains("[[capability]] id = \"fs.read\""), "{problems:?}");
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn imports_are_held_against_the_declaration_in_both_directions() {
    let (_folder, file) = manifest();
    let import = |interface: &str, function: &str| Imported {
        interface: interface.into(),
        version: "0.1.0".into(),
        function: function.into(),
    };
    let mut findings = Findings::default();
    compare_imports(&file, &[import("handshake:step/models", "generate")], &mut findings);
    assert_eq!(findings, Findings::default());

    let imported = [import("handshake:step/secrets", "placeholder"), import("handshake:step/log", "write")];
    compare_imports(&file, &imported, &mut findings);
    assert!(
        findings.problems[0].contains("plugin.toml:9:6: `model.infer` is declared, but no function"),
        "{findings:?}"
    );
    assert!(findings.notes[0].contains("could also need secrets.use, which"), "{findings:?}");
}
