//! The published registry against the axes of this version.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::{AXES, ScopeForm};

/// Capability ids are published with a version: readers of records and other tools rely on them.
const REGISTRY: &str = include_str!("../../registry/capabilities-1.json");

#[test]
fn the_registry_says_what_the_axes_are() {
    let registry: Value = serde_json::from_str(REGISTRY).unwrap();
    let axes = AXES.iter().map(|axis| {
        json!({
            "id": axis.name(),
            "summary": axis.summary().trim(),
            "effectful": axis.is_effectful(),
            "grantable": axis.is_grantable(),
            "scope": match axis.scope_form() {
                ScopeForm::Mount => "mount",
                ScopeForm::Name => "name",
                ScopeForm::Http => "http",
                ScopeForm::Socket => "socket",
                ScopeForm::Host => "host",
                ScopeForm::Variable => "variable",
                ScopeForm::Bare => "bare",
            },
        })
    });
    let expected = json!({ "version": 1, "capabilities": axes.collect::<Vec<_>>() });
    assert_eq!(registry, expected, "host/core/registry/capabilities-1.json and the axes differ");
}
