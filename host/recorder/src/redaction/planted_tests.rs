//! Secrets of every rule, made from the rule's own expression, where secrets turn up; and the documents of this
//! repository, where there are none.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use regex_syntax::hir::{Class, Hir, HirKind};

use super::rules::{Rule, Rules};
use super::*;

/// Makes texts that an expression matches. The same seed makes the same text.
struct Maker {
    state: u64,
}

impl Maker {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX; the upper bits are the good ones.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).unwrap() % end
    }

    fn make(&mut self, hir: &Hir, text: &mut String) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).unwrap()),
            HirKind::Class(class) => text.push(self.pick(class)),
            HirKind::Repetition(repeated) => {
                let most = repeated.max.unwrap_or(repeated.min + 12).min(repeated.min + 12);
                let times = repeated.min as usize + self.below((most - repeated.min + 1) as usize);
                (0..times).for_each(|_| self.make(&repeated.sub, text));
            }
            HirKind::Capture(group) => self.make(&group.sub, text),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.make(part, text)),
            HirKind::Alternation(choices) => {
                let choice = self.below(choices.len());
                self.make(&choices[choice], text);
            }
        }
    }

    /// A letter or digit if the class has one.
    fn pick(&mut self, class: &Class) -> char {
        let has = |byte: &u8| match class {
            Class::Bytes(class) => class.iter().any(|range| (range.start()..=range.end()).contains(byte)),
            Class::Unicode(class) => {
                class.iter().any(|range| (range.start()..=range.end()).contains(&char::from(*byte)))
            }
        };
        let letters: Vec<u8> = (0..128).filter(u8::is_ascii_alphanumeric).filter(has).collect();
        let others: Vec<u8> = [b' '].into_iter().chain(33..127).chain([b'\n', b'\t', b'\r']).filter(has).collect();
        if letters.is_empty() { char::from(others[0]) } else { char::from(letters[self.below(letters.len())]) }
    }
}

/// A text that the rule finds something in, and what that is.
fn planted(rule: &Rule) -> (String, Vec<String>) {
    let (expression, unicode) = rule.source();
    let hir = regex_syntax::ParserBuilder::new().unicode(unicode).utf8(false).build().parse(expression).unwrap();
    for seed in 0..2_000 {
        let mut text = String::new();
        Maker { state: seed }.make(&hir, &mut text);
        // Some look for a provider's name anywhere in the text.
        let lower = text.to_ascii_lowercase();
        if !rule.keywords().any(|keyword| lower.contains(&keyword.to_ascii_lowercase())) {
            text = format!("{text} of {}", rule.keywords().next().unwrap());
        }
        if rule.name() == "pii_email" {
            text = format!("ann.smith{text}");
        }
        let masked = Masked::new(&text, &|_, _| false);
        let found: Vec<String> = rule.ranges(&text, &masked).map(|range| text[range].to_owned()).collect();
        if !found.is_empty() {
            return (text, found);
        }
    }
    panic!("{} finds no example of itself: {expression}", rule.name());
}

fn outside_marks(text: &str) -> String {
    regex::Regex::new(r"\[REDACTED:[a-z_]+:[a-z0-9_-]+\]").unwrap().replace_all(text, "\u{0}").into_owned()
}

/// Where secrets turn up, each with what is to be planted between its parts.
const PLACES: &[(&str, &str)] = &[
    ("", ""),
    ("2026-11-25T17:44:02Z  WARN step failed: ", " (attempt 3)"),
    ("the server said `", "`, and nothing else"),
    ("https://api.example.org/v1/things?page=2&", "&limit=5"),
    ("GET https://api.example.org/v1/things?q=", "#top"),
    ("X-Forwarded-Key: ", "\r\nAccept: */*"),
    ("in/reports/", ".json"),
    ("in/reports/key_", "_2026.json"),
    ("{\"config\":\"", "\"}"),
    ("{\\\"config\\\":\\\"", "\\\"}"),
    ("[", "]"),
    ("(", "), then"),
    ("<b>", "</b>"),
    ("a, ", ", b"),
    ("\u{00e4}\u{20ac}", "\u{00e4}\u{20ac}"),
];

#[test]
fn no_part_of_a_secret_of_any_rule_survives_wherever_it_stands() {
    let redaction = Redaction::start();
    let mut failures = Vec::new();
    let all = &Rules::get().all;
    assert!(all.len() > 240);
    for rule in all {
        let (text, found) = planted(rule);
        for (before, after) in PLACES {
            // Personal data, paths and variables have borders; within other words they are something else.
            if !(rule.finds_secrets() || before.is_empty() || before.ends_with([' ', '`'])) {
                continue;
            }
            let clean = redaction.clean(RedactionScope::Metadata, &format!("{before}{text}{after}")).into_owned();
            let clean = outside_marks(&clean);
            let leaked = found.iter().any(|secret| {
                let pieces: Vec<&[u8]> = secret.as_bytes().windows(6.min(secret.len())).collect();
                let is_text = |piece: &&&[u8]| !piece.iter().all(u8::is_ascii_whitespace);
                pieces
                    .iter()
                    .filter(is_text)
                    .any(|piece| clean.as_bytes().windows(piece.len()).any(|window| window == *piece))
            });
            if leaked {
                failures.push(format!("{}: {before}{text}{after} -> {clean}", rule.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), all.len() * PLACES.len(), failures.join("\n"));
}

#[test]
fn rules_for_secrets_find_nothing_in_this_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().unwrap();
    assert!(listed.status.success());
    let redaction = Redaction::start();
    let mut failures = Vec::new();
    // The password of a database that lives as long as one run of the tests, on the machine that runs them.
    let known = [(".github/workflows/ci.yml", 2), ("docker-compose.test.yml", 2)];
    let mut found_known = std::collections::BTreeMap::new();
    let mut read = 0;
    for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        // What is planted on purpose.
        let is_planted = name.contains("rules/gitleaks.toml") || name.ends_with("_tests.rs") || name.contains("tests/");
        let Ok(text) = std::fs::read_to_string(root.join(name)) else { continue };
        // Code proves its detectors with examples; its documentation shows none.
        let text = if name.ends_with(".rs") { comments(&text) } else { text };
        if is_planted || name.contains("Cargo.lock") {
            continue;
        }
        read += 1;
        for (at, line) in text.lines().enumerate() {
            if let Some((clean, rules)) = redaction.redact(RedactionScope::Identity, line) {
                if let Some((known, _)) = known.iter().find(|(known, _)| *known == name) {
                    *found_known.entry(*known).or_insert(0) += 1;
                    continue;
                }
                failures.push(format!("{name}:{}: {rules:?}: {clean}", at + 1));
            }
        }
    }
    assert!(read > 100, "{read} files");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(found_known.into_iter().collect::<Vec<_>>(), known);
}

/// The lines of a source file that are comments, and blank ones in place of the others.
fn comments(source: &str) -> String {
    source
        .lines()
        .map(|line| if line.trim_start().starts_with("//") { line } else { "" })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_megabyte_of_anything_is_searched_in_bounded_time() {
    let keywords: Vec<String> =
        Rules::get().all.iter().flat_map(|rule| rule.keywords().map(str::to_owned).collect::<Vec<_>>()).collect();
    let texts = [
        ("one letter", "a".repeat(1 << 20)),
        ("digits and hyphens", "1-".repeat(1 << 19)),
        ("all keywords", keywords.join(" ").repeat((1 << 20) / keywords.join(" ").len())),
        ("assignments", "password=x ".repeat((1 << 20) / 11)),
        ("beginnings of marks", "[REDACTED:".repeat((1 << 20) / 10)),
        ("beginnings of keys", "-----BEGIN PRIVATE KEY-----".repeat((1 << 20) / 27)),
    ];
    let redaction = Redaction::new(vec!["aaaaaaaaaaaaaaaa".into()]);
    for (what, text) in texts {
        #[allow(clippy::disallowed_methods, reason = "it measures time")]
        let start = std::time::Instant::now();
        redaction.redact(RedactionScope::Metadata, &text);
        let took = start.elapsed();
        println!("{what}: {took:?}");
        // Linear, with a factor: the bound only tells it from quadratic on any machine and in any profile.
        assert!(took.as_secs() < 60, "{what}: {took:?}");
    }
}
