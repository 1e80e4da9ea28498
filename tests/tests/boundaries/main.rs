//! Boundaries between the crates, checked on the real tree: who may depend on whom, which types public signatures
//! may show, and what may be called or written where. Every check is also shown a bad sample that it must refuse.

#![allow(clippy::unwrap_used, clippy::panic)]

mod dependencies;
mod signatures;
mod sources;

use std::path::{Path, PathBuf};

use sources::Source;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The library code of one host crate.
fn host(name: &str) -> Vec<Source> {
    Source::read_folder(&root(), &root().join("host").join(name).join("src")).unwrap()
}

const LIBRARIES: [&str; 7] = ["core", "storage", "recorder", "runtime", "models", "telemetry", "engine"];

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn dependencies_between_host_crates_follow_the_rule() {
    assert_none(&dependencies::Graph::read(&root()).unwrap().violations());
}

#[test]
fn driver_types_show_in_no_public_signature() {
    for name in ["storage", "recorder"] {
        assert_none(&signatures::mentions(&host(name), signatures::DRIVERS));
    }
}

#[test]
fn what_is_sent_to_collectors_and_how_shows_in_no_public_signature() {
    assert_none(&signatures::mentions(&host("telemetry"), &["reqwest", "opentelemetry_proto", "prost"]));
}

#[test]
fn errors_in_public_signatures_of_libraries_are_typed() {
    for name in LIBRARIES {
        assert_none(&signatures::mentions(&host(name), &["anyhow", "eyre"]));
    }
}

#[test]
fn untyped_json_stands_in_the_domain_only_where_it_is_exact_payload() {
    assert_none(&signatures::untyped_json(&host("core"), signatures::PAYLOADS));
}

#[test]
fn events_are_admitted_by_the_recorder_alone() {
    let mut violations = Vec::new();
    for name in LIBRARIES.iter().copied().chain(["cli"]).filter(|name| *name != "recorder") {
        let sources = host(name);
        let callers = sources.iter().filter(|source| source.path != "host/core/src/testing.rs");
        violations.extend(callers.filter(|source| source.admits_events()).map(|source| source.path.clone()));
    }
    assert_none(&violations);
    assert!(host("recorder").iter().any(Source::admits_events), "the recorder admits events");
}

#[test]
fn unsafe_code_stands_only_in_the_listed_files() {
    let folders = ["host", "plugins", "tests"].map(|folder| root().join(folder));
    let sources: Vec<_> = folders.iter().flat_map(|folder| Source::read_folder(&root(), folder).unwrap()).collect();
    assert!(sources.len() > 50, "the sources were found");
    let found: Vec<_> =
        sources.iter().filter(|source| source.has_unsafe()).map(|source| source.path.as_str()).collect();
    assert_eq!(found, sources::MAY_BE_UNSAFE, "left: files with unsafe code; right: files that may have it");
}
