#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use handshake_core::storage::Fault;

use super::*;

fn exit_of(error: impl Into<CliError>) -> u8 {
    error.into().exit.code()
}

#[test]
fn a_mount_that_the_policy_refuses_is_a_denial_and_a_missing_one_is_wrong_input() {
    assert_eq!(exit_of(MountError::NotListed { name: "in".into(), path: "/etc".into(), access: "read" }), 3);
    assert_eq!(
        exit_of(MountError::DataDirectory { name: "in".into(), path: "/x".into(), data_dir: "/x/.handshake".into() }),
        3
    );
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    assert_eq!(exit_of(MountError::Unavailable { name: "in".into(), path: PathBuf::from("nope"), source: missing }), 2);
}

#[test]
fn stable_codes_are_taken_from_the_message() {
    let error = CliError::from(ModelError::RateLimit { model: "m".into(), reason: "slow down".into() });
    assert_eq!((error.code.as_str(), error.exit), ("HSK-429-RATE-LIMIT", Exit::Usage));
    assert_eq!(CliError::from(RecorderError::Full).code, "HSK-500-DB");
    assert_eq!(CliError::usage("policy.toml:3: HSK-4001: UnknownCapability `x`").code, "HSK-4001");
    assert_eq!(CliError::usage("plain").code, "invalid_input");
}

#[test]
fn a_full_or_read_only_disk_is_for_the_person_and_other_failures_are_the_hosts() {
    let broken =
        |source: Box<dyn Error + Send + Sync>| CliError::from(StorageError::Database { operation: "submit", source });
    let fault = |kind| broken(Box::new(Fault { kind, source: None }));
    assert_eq!((fault(FaultKind::Full).code.as_str(), fault(FaultKind::Full).exit), ("disk_full", Exit::Usage));
    assert_eq!(fault(FaultKind::ReadOnly).code, "read_only");
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(broken(Box::new(full)).code, "disk_full");
    assert_eq!(broken("IO Error: No space left on device".into()).code, "disk_full");
    assert_eq!(broken("something else".into()).exit, Exit::Internal);
    assert_eq!(exit_of(StorageError::NotFound { what: "job", id: "7".into() }), 2);
}

#[test]
fn an_error_survives_the_way_through_json() {
    let error = CliError::denied("no").hint("ask").because(&std::io::Error::other("inner"));
    let back: ErrorDocument = serde_json::from_str(&error.to_json()).unwrap();
    assert_eq!(back.error, error);
    assert_eq!(
        error.to_json(),
        r#"{"error":{"code":"denied","message":"no","why":["inner"],"hint":"ask","exit_code":3}}"#
    );
}
