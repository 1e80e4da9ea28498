//! Every (state, event) pair against a table, and the canonical strings of the enums.

#![allow(clippy::unwrap_used)]

use super::*;

/// Rows: states in the order of `JobState::ALL`. Columns: events in the order of `JobEvent::ALL`.
/// q queued, r running, s stalled, v awaiting_validation, u awaiting_user, c completed,
/// i completed_with_issues, f failed, x cancelled, p poisoned, - illegal.
const TABLE: [&str; 10] = [
    "r------fx-p", // queued
    "-s-vucifx-p", // running
    "--r-u--fx-p", // stalled
    "----ucifx-p", // awaiting_validation
    "--r--cifx-p", // awaiting_user
    "-----------", // completed
    "---------q-", // completed_with_issues
    "---------q-", // failed
    "---------q-", // cancelled
    "-----------", // poisoned
];

#[test]
fn every_pair_of_state_and_event_has_the_answer_of_the_table() {
    let letters = "qrsvucifxp";
    for (row, state) in TABLE.iter().zip(JobState::ALL) {
        for (cell, event) in row.chars().zip(JobEvent::ALL) {
            let expected = letters.find(cell).map(|at| JobState::ALL[at]);
            match state.after(*event) {
                Ok(next) => assert_eq!(Some(next), expected, "{state} {event}"),
                Err(error) => {
                    assert_eq!(expected, None, "{state} {event}");
                    assert_eq!(error.to_string(), format!("a job that is `{state}` cannot `{event}`"));
                }
            }
        }
    }
}

#[test]
fn canonical_strings_round_trip_and_others_are_refused() {
    for kind in JobKind::ALL {
        assert_eq!(kind.as_str().parse::<JobKind>().unwrap(), *kind);
        let json = serde_json::to_string(kind).unwrap();
        assert_eq!(json, format!("\"{kind}\""));
        assert_eq!(serde_json::from_str::<JobKind>(&json).unwrap(), *kind);
    }
    assert_eq!("term_exec".parse::<JobKind>().unwrap().as_str(), "terminal_exec");
    assert!("doc".parse::<JobKind>().is_err());
    assert!(serde_json::from_str::<JobState>("\"done\"").is_err());
}

#[test]
fn analysis_only_reads_and_asks_models_but_never_writes() {
    assert!(AccessMode::AnalysisOnly.allows(Axis::FsRead));
    assert!(AccessMode::AnalysisOnly.allows(Axis::ArtifactWrite));
    assert!(!AccessMode::AnalysisOnly.allows(Axis::FsWrite));
    assert!(!AccessMode::AnalysisOnly.allows(Axis::DocPropose));
    assert!(AccessMode::PreviewOnly.allows(Axis::DocPropose));
    assert!(!AccessMode::PreviewOnly.allows(Axis::SecretsUse));
    assert!(AccessMode::ApplyScoped.allows(Axis::FsWrite));
}
