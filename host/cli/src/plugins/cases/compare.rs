//! What happened beside what was expected.

use std::collections::BTreeMap;

use serde_json::Value;
use similar::TextDiff;

use super::Mismatch;
use super::execute::Happened;
use super::expect::{failure, proposals, shown};
use super::file::Case;
use crate::settings::json_of;

/// Lines around a difference.
const CONTEXT: usize = 3;

/// Everything that is not as expected.
pub(super) fn compare(case: &Case, happened: &Happened) -> Vec<Mismatch> {
    let expect = &case.expect;
    let mut found = happened.complaints.clone();
    if case.expect_at.is_none() {
        let what = "the case does not say what it expects; `--update` writes what happened".to_owned();
        found.push(Mismatch { place: case.file.place(case.file.text().len()), what, diff: None });
    }
    found.extend(result(case, happened));
    if let Some(decisions) = &expect.decisions {
        let place = case.file.place(decisions.span().start);
        let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let (expected, got) = (lines(decisions.get_ref()), lines(&happened.decisions));
        found.extend(differs(place, "decisions", &expected, &got));
    }
    if let Some(files) = &expect.files {
        let got: BTreeMap<_, _> = happened.files.iter().map(|(path, content)| (path.clone(), shown(content))).collect();
        found.extend(texts(&case.file.place(files.span().start), "files", files.get_ref(), &got));
    }
    if let Some(artifacts) = &expect.artifacts {
        let numbered = |texts: &mut dyn Iterator<Item = String>| -> BTreeMap<String, String> {
            texts.enumerate().map(|(at, text)| (at.to_string(), text)).collect()
        };
        let expected = numbered(&mut artifacts.get_ref().iter().cloned());
        let got = numbered(&mut happened.artifacts.iter().map(|content| shown(content)));
        found.extend(texts(&case.file.place(artifacts.span().start), "artifacts", &expected, &got));
    }
    if let Some(expected) = &expect.proposals {
        let place = case.file.place(expected.span().start);
        found.extend(
            json_of(expected.get_ref().clone())
                .ok()
                .and_then(|expected| differs_as_json(place, "proposals", &expected, &proposals(happened))),
        );
    }
    found
}

fn result(case: &Case, happened: &Happened) -> Option<Mismatch> {
    let expect = &case.expect;
    let output = match (&expect.output, &case.output_file, &expect.output_file) {
        (Some(value), ..) => {
            let place = case.file.place(value.span().start);
            Some((place, json_of(value.get_ref().clone()).ok()))
        }
        (None, Some((_, value)), Some(named)) => Some((case.file.place(named.span().start), value.clone())),
        _ => None,
    };
    match (&happened.result, output, &expect.error) {
        (Ok(got), Some((place, Some(expected))), _) => differs_as_json(place, "output", &expected, got),
        (Ok(_), Some((place, None)), _) => {
            let what = "there is no such file yet; `--update` writes it".to_owned();
            Some(Mismatch { place, what, diff: None })
        }
        (Ok(got), None, Some(expected)) => {
            let what = format!("the step should have failed with `{}`, and ended well", expected.get_ref());
            Some(Mismatch { place: case.file.place(expected.span().start), what, diff: Some(pretty(got)) })
        }
        (Err(error), _, Some(expected)) => {
            let got = failure(error);
            let what = format!("the step failed with `{got}`, not with `{}`", expected.get_ref());
            let mismatch = Mismatch { place: case.file.place(expected.span().start), what, diff: None };
            (!is_failure(expected.get_ref(), error.label(), &got, &error.to_string())).then_some(mismatch)
        }
        (Err(error), output, None) => {
            let place = output.map_or_else(|| case.file.place(case.expect_at.unwrap_or(0)), |(place, _)| place);
            let what = format!("the step failed with `{}`: {error}", failure(error));
            Some(Mismatch { place, what, diff: None })
        }
        (Ok(_), None, None) => None,
    }
}

/// Whether a failure is the one that is expected: its label, and behind a colon a part of its message.
fn is_failure(expected: &str, label: &str, shown: &str, message: &str) -> bool {
    match expected.split_once(": ") {
        None => expected == label,
        Some((wanted, part)) => wanted == label && (shown.contains(part) || message.contains(part)),
    }
}

/// Texts by name: those that should not be there, those that are not, those that differ.
fn texts(
    place: &str,
    what: &str,
    expected: &BTreeMap<String, String>,
    got: &BTreeMap<String, String>,
) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for name in expected.keys().chain(got.keys().filter(|name| !expected.contains_key(*name))) {
        let here = format!("{what}.\"{name}\"");
        found.extend(match (expected.get(name), got.get(name)) {
            (Some(expected), Some(got)) => differs(place.to_owned(), &here, expected, got),
            (Some(_), None) => {
                Some(Mismatch { place: place.to_owned(), what: format!("{here}: was not written"), diff: None })
            }
            (None, Some(got)) => Some(Mismatch {
                place: place.to_owned(),
                what: format!("{here}: was written and is not expected"),
                diff: Some(got.clone()),
            }),
            (None, None) => None,
        });
    }
    found
}

fn differs(place: String, what: &str, expected: &str, got: &str) -> Option<Mismatch> {
    if expected == got {
        return None;
    }
    let diff = TextDiff::from_lines(expected, got);
    let diff = diff.unified_diff().context_radius(CONTEXT).header("expected", "happened").to_string();
    Some(Mismatch { place, what: format!("{what}: not as expected"), diff: Some(diff) })
}

/// The order of keys makes no difference, and none is shown.
fn differs_as_json(place: String, what: &str, expected: &Value, got: &Value) -> Option<Mismatch> {
    if expected == got {
        return None;
    }
    differs(place, what, &pretty(expected), &pretty(got))
}

fn pretty(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_failure_is_a_label_and_a_part_of_the_message() {
        let is = |expected| is_failure(expected, "denied", "denied: fs.read on docs (not-granted)", "…; add it");
        assert!(is("denied") && is("denied: fs.read") && is("denied: add it"));
        assert!(!is("trap") && !is("denied: fs.write") && !is("den"));
    }

    #[test]
    fn the_order_of_keys_is_no_difference() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (one, other) = (json("{\"a\":1,\"b\":2}"), json("{\"b\":2,\"a\":1}"));
        assert_eq!(differs_as_json("p".into(), "output", &one, &other), None);
        let diff = differs_as_json("p".into(), "output", &one, &json("{\"b\":3,\"a\":1}")).and_then(|found| found.diff);
        assert!(diff.is_some_and(|diff| diff.contains("-  \"b\": 2\n+  \"b\": 3\n") && !diff.contains("-  \"a\"")));
    }

    #[test]
    fn a_difference_is_shown_with_the_lines_around_it() {
        let mismatch = differs("a.toml:3".into(), "decisions", "a\nb\n", "a\nc\n");
        let diff = mismatch.and_then(|mismatch| mismatch.diff).unwrap_or_default();
        assert_eq!(diff, "--- expected\n+++ happened\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
    }
}
