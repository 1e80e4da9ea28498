//! How `uses` names a plugin, and which failures may be retried.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_request_accepts_the_versions_that_begin_with_its_own() {
    let request = |text: &str| text.parse::<PluginRequest>().unwrap();
    assert!(request("summarize").accepts("3.2.1", Digest::ZERO));
    assert!(request("summarize@0").accepts("0.9.9", Digest::ZERO));
    assert!(request("summarize@0.1").accepts("0.1.7", Digest::ZERO));
    assert!(!request("summarize@0.1").accepts("0.10.0", Digest::ZERO));
    assert!(!request("summarize@0.1").accepts("1.1.0", Digest::ZERO));
    assert!(request("summarize@0.1.0").accepts("0.1.0", Digest::ZERO));
    assert!(!request("summarize@0.1.0").accepts("0.1.1", Digest::ZERO));
}

#[test]
fn a_longer_version_than_the_plugin_has_is_not_accepted() {
    assert!(!"summarize@1.2.3".parse::<PluginRequest>().unwrap().accepts("1.2", Digest::ZERO));
}

#[test]
fn a_request_for_one_build_accepts_no_other() {
    let digest = Digest::of(b"manifest");
    let request: PluginRequest = format!("summarize@sha256:{digest}").parse().unwrap();
    assert!(request.accepts("0.1.0", digest));
    assert!(!request.accepts("0.1.0", Digest::of(b"another")));
    assert!("summarize@sha256:abc".parse::<PluginRequest>().is_err());
}

#[test]
fn what_is_no_request_is_refused_with_the_forms_there_are() {
    for bad in
        ["", "@1", "Summarize", "summarize@", "summarize@x", "summarize@1.2.3.4", "summarize@1..2", "../evil", "a@1@2"]
    {
        let error = bad.parse::<PluginRequest>().unwrap_err();
        assert!(error.contains('`'), "{bad}: {error}");
    }
}

#[test]
fn only_failures_that_may_pass_are_retried() {
    assert!(StepFailure::Transient("later".into()).is_retryable());
    assert!(StepFailure::Timeout(Duration::from_secs(1)).is_retryable());
    for failure in [
        StepFailure::InvalidInput(String::new()),
        StepFailure::Permanent(String::new()),
        StepFailure::Trap(String::new()),
        StepFailure::Limit { limit: "memory_mb", detail: String::new() },
        StepFailure::Contract(String::new()),
        StepFailure::Cancelled,
        StepFailure::Violation { kind: String::new(), detail: String::new() },
        StepFailure::Host(String::new()),
    ] {
        assert!(!failure.is_retryable(), "{}", failure.label());
    }
}
