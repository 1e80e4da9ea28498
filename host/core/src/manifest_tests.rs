//! Manifests that cannot be accepted, each with the key that is wrong.

#![allow(clippy::unwrap_used)]

use super::*;

fn manifest() -> PluginManifest {
    PluginManifest {
        schema: 1,
        id: PluginId::new("summarize").unwrap(),
        version: "0.1.0".into(),
        api: PluginApi::Step,
        description: "Summarizes.".into(),
        idempotent: false,
        component: ComponentRef { path: "summarize.wasm".into(), sha256: None },
        limits: Limits::default(),
        capabilities: vec![DeclaredCapability { id: "model.infer".parse().unwrap(), reason: "to summarize".into() }],
    }
}

fn problem(spoil: impl FnOnce(&mut PluginManifest)) -> String {
    let mut manifest = manifest();
    spoil(&mut manifest);
    manifest.validate().unwrap_err().to_string()
}

#[test]
fn a_complete_manifest_is_accepted_and_survives_json() {
    assert_eq!(manifest().validate(), Ok(()));
    let json = serde_json::to_string(&manifest()).unwrap();
    assert_eq!(serde_json::from_str::<PluginManifest>(&json).unwrap(), manifest());
}

#[test]
fn each_wrong_value_is_named_with_its_key() {
    assert!(problem(|m| m.schema = 2).starts_with("schema: "));
    for version in ["", "1", "1.0", "1.0.0.0", "1.0.x", "1.0.0-beta", "-1.0.0"] {
        assert!(problem(|m| m.version = version.into()).starts_with("version: "), "{version}");
    }
    assert!(problem(|m| m.limits.memory_mb = 0).starts_with("limits.memory_mb: "));
    assert!(problem(|m| m.limits.memory_mb = 1025).starts_with("limits.memory_mb: "));
    assert!(problem(|m| m.limits.wall_ms = 0).starts_with("limits.wall_ms: "));
    assert!(problem(|m| m.limits.wall_ms = 86_400_001).starts_with("limits.wall_ms: "));
    assert!(problem(|m| m.limits.output_kb = 65_537).starts_with("limits.output_kb: "));
    assert!(problem(|m| m.limits.host_calls = 0).starts_with("limits.host_calls: "));
    assert!(problem(|m| m.limits.fuel = Some(0)).starts_with("limits.fuel: "));
    assert!(problem(|m| m.description = " ".into()).starts_with("description: "));
    assert!(problem(|m| m.capabilities[0].reason.clear()).starts_with("capability[0].reason: "));
    assert!(problem(|m| m.capabilities.push(m.capabilities[0].clone())).starts_with("capability[1].id: "));
}

#[test]
fn the_component_is_a_file_beside_the_manifest() {
    for path in ["", ".", "..", "../evil.wasm", "/etc/passwd", "sub/x.wasm", "./x.wasm", "x.wasm/"] {
        assert!(problem(|m| m.component.path = path.into()).starts_with("component.path: "), "{path}");
    }
}

#[test]
fn unknown_keys_and_capabilities_are_refused() {
    let mut value = serde_json::to_value(manifest()).unwrap();
    value["surprise"] = true.into();
    assert!(serde_json::from_value::<PluginManifest>(value).unwrap_err().to_string().contains("surprise"));

    let mut value = serde_json::to_value(manifest()).unwrap();
    value["capability"][0]["id"] = "model.dream".into();
    assert!(serde_json::from_value::<PluginManifest>(value).unwrap_err().to_string().contains("HSK-4001"));
}
