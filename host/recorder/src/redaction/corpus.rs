//! Rules that others maintain: the data file of gitleaks (`rules/gitleaks.toml`, MIT), byte for byte as published.
//!
//! The rules were written to find secrets in source files. Three things differ in records and logs, and are adapted when
//! the file is read: a secret ends at any character that cannot belong to it, not only at quotes and white space; `_` is
//! a border, as in file names; and quotes may be escaped, as in JSON within JSON. A rule that asks for a kind of file
//! applies everywhere. Rules that have no expression judge file names alone and are left out.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use regex::bytes::Regex;
use serde::Deserialize;

use super::rules::expression;

/// The file.
const FILE: &str = include_str!("../../rules/gitleaks.toml");

/// Idioms of upstream's expressions, and what stands for them here: the end of a secret, quotes behind a name and before
/// a value, and the borders that two rules have of their own.
const IDIOMS: [(&str, &str); 6] = [
    (r#"(?:[\x60'"\s;]|\\[nr]|$)"#, "(?:[^0-9A-Za-z+=-]|$)"),
    (r#"[\s'"]{0,3}"#, r#"[\s'"\\]{0,5}"#),
    (r#"[\x60'"\s=]{0,5}"#, r#"[\x60'"\s=\\]{0,7}"#),
    (r#"(?:^|[\\'"\x60\s>=:(,)])"#, "(?:^|[^0-9A-Za-z])"),
    (r#"(?:$|[\\'"\x60\s<),])"#, "(?:[^0-9A-Za-z+=-]|$)"),
    (r"(?:\s|\z)", r"(?:[^0-9A-Za-z+=-]|\z)"),
];

/// What upstream's expressions begin with where they look for a name. It takes part of the name along, which nothing here
/// needs, and keeps the search from jumping to the next occurrence of the rest: with it, some take a hundred times longer.
const PREFIX: &str = r"[\w.-]{0,50}?";
/// A border of words, and what stands for it here.
const BORDER: (&str, &str) = (r"\b", r"(?:\b|_)");

/// The one rule that looks for names such as `key` with any value behind them. It alone needs all that upstream does
/// against false alarms. With the others, what upstream knows to be harmless has the form of a secret all the same, and
/// hiding it costs nothing.
const GENERIC: &str = "generic-api-key";

/// One rule of the corpus.
pub(super) struct CorpusRule {
    /// Upstream's id.
    pub(super) id: String,
    /// Every text that it finds has one of these in it, in any case.
    pub(super) keywords: Vec<String>,
    /// Adapted.
    pub(super) expression: String,
    /// Bits for each byte that the secret must have at least.
    entropy: f64,
    harmless: Option<Harmless>,
}

/// What is not a secret although it has the form.
struct Harmless {
    expressions: Vec<String>,
    words: Vec<String>,
    compiled: OnceLock<(Vec<Regex>, Option<AhoCorasick>)>,
}

#[derive(Deserialize)]
struct File {
    allowlist: Allowlist,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
    regex: Option<String>,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    entropy: f64,
    #[serde(default)]
    allowlists: Vec<Allowlist>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allowlist {
    #[serde(default)]
    regexes: Vec<String>,
    /// What `regexes` are matched against; the secret by default.
    regex_target: Option<String>,
    #[serde(default)]
    stopwords: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
}

/// Reads the file. A test holds that it can be read and that every expression compiles.
pub(super) fn corpus() -> Vec<CorpusRule> {
    let Ok(file) = toml::from_str::<File>(FILE) else { return Vec::new() };
    let File { allowlist, rules } = file;
    let mut global = Some(allowlist);
    let read = |rule: Rule| {
        let expression = adapted(rule.regex?);
        let global = if rule.id == GENERIC { global.take() } else { None };
        Some(CorpusRule {
            harmless: harmless(rule.allowlists, global),
            id: rule.id,
            keywords: rule.keywords,
            expression,
            entropy: rule.entropy,
        })
    };
    rules.into_iter().filter_map(read).collect()
}

fn adapted(expression: String) -> String {
    let mut text = literal_braces(&expression).replace(PREFIX, "");
    for (from, to) in IDIOMS {
        text = text.replace(from, to);
    }
    text.replace(BORDER.0, BORDER.1)
}

/// Go takes a brace that begins no repetition for a brace; here it must be escaped.
fn literal_braces(expression: &str) -> String {
    let repeats = |rest: &str| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ',');
        rest.starts_with('}')
    };
    let mut text = String::with_capacity(expression.len());
    let mut is_escaped = false;
    for (at, c) in expression.char_indices() {
        if c == '{' && !is_escaped && !repeats(&expression[at + 1..]) {
            text.push('\\');
        }
        text.push(c);
        is_escaped = c == '\\' && !is_escaped;
    }
    text
}

fn harmless(own: Vec<Allowlist>, global: Option<Allowlist>) -> Option<Harmless> {
    let (mut expressions, mut words) = (Vec::new(), Vec::new());
    // Exceptions for files say nothing here, and what surrounds a secret does not make it harmless.
    let own = own.into_iter().filter(|list| list.paths.is_empty() && list.regex_target.is_none());
    for list in own.chain(global) {
        expressions.extend(list.regexes.iter().map(|text| literal_braces(text)));
        words.extend(list.stopwords);
    }
    let is_empty = expressions.is_empty() && words.is_empty();
    (!is_empty).then(|| Harmless { expressions, words, compiled: OnceLock::new() })
}

impl Harmless {
    fn has(&self, secret: &str) -> bool {
        let (expressions, words) = self.compiled.get_or_init(|| {
            let words = AhoCorasick::builder().ascii_case_insensitive(true).build(&self.words).ok();
            (self.expressions.iter().filter_map(|text| expression(text, false)).collect(), words)
        });
        expressions.iter().any(|known| known.is_match(secret.as_bytes()))
            || words.as_ref().is_some_and(|words| words.is_match(secret))
    }
}

impl CorpusRule {
    /// Whether what the expression found counts as a secret.
    pub(super) fn accepts(&self, secret: &str) -> bool {
        (self.entropy == 0.0 || entropy(secret) > self.entropy)
            && (self.id != GENERIC || is_random(secret))
            && !self.harmless.as_ref().is_some_and(|harmless| harmless.has(secret))
    }

    /// The category of R6.7 that it belongs to.
    pub(super) fn category(&self) -> &'static str {
        let has = |part: &str| self.id.contains(part);
        match () {
            () if has("private-key") && !has("plaid") || self.id == "age-secret-key" => "private_key",
            () if self.id.starts_with("aws") => "aws",
            () if has("password") || self.id == "curl-auth-user" => "password",
            () if has("token") || has("jwt") || has("-pat") || has("cookie") || has("auth-header") => "token",
            () => "api_key",
        }
    }

    #[cfg(test)]
    pub(super) fn harmless_expressions(&self) -> &[String] {
        self.harmless.as_ref().map_or(&[], |harmless| &harmless.expressions)
    }
}

/// Shannon's, in bits for each byte.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / length);
    -shares.map(|share| share * share.log2()).sum::<f64>()
}

/// Tells a made-up key from names, versions, digests and ids, which stand behind `key:` in many a record.
fn is_random(secret: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_digest = matches!(secret.len(), 32 | 40 | 64 | 96 | 128) && is_hex(secret);
    let is_uuid =
        secret.len() == 36 && secret.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && is_hex(&secret.replace('-', ""));
    let is_mixed = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        part.len() >= 8 && digits >= 2 && digits < part.len()
    };
    !is_digest && !is_uuid && secret.split(['-', '_', '.', '/']).any(is_mixed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_upstream_has_is_read_or_listed_here() {
        let file: File = toml::from_str(FILE).unwrap();
        let without: Vec<_> = file.rules.iter().filter(|rule| rule.regex.is_none()).map(|rule| &rule.id).collect();
        assert_eq!(without, ["pkcs12-file"], "rules that only judge names of files");
        let corpus = corpus();
        assert_eq!((file.rules.len(), corpus.len()), (213, 212));
        for rule in &corpus {
            assert!(!rule.keywords.is_empty(), "{} could never be tried", rule.id);
            assert!(expression(&rule.expression, false).is_some(), "{} does not compile", rule.id);
            for text in rule.harmless_expressions() {
                assert!(expression(text, false).is_some(), "{}: {text} does not compile", rule.id);
            }
        }
    }

    #[test]
    fn the_file_is_the_published_one() {
        use std::fmt::Write as _;
        let digest = handshake_core::Digest::of(FILE.as_bytes()).to_string();
        let readme = include_str!("../../rules/README.md");
        let mut said = String::new();
        write!(said, "`{digest}`").unwrap();
        assert!(readme.contains(&said), "{digest}");
    }

    #[test]
    fn upstreams_idioms_are_still_the_ones_that_are_adapted() {
        let file: File = toml::from_str(FILE).unwrap();
        let with = |part: &str| {
            let expressions = file.rules.iter().filter_map(|rule| rule.regex.as_ref());
            expressions.filter(|text| text.contains(part)).count()
        };
        let counts = IDIOMS.map(|(from, _)| with(from));
        assert_eq!((with(PREFIX), counts), (99, [146, 99, 99, 1, 1, 1]));
    }

    #[test]
    fn ids_digests_names_and_versions_are_not_random() {
        for innocent in [
            "019a0c1e-7f5e-7aa3-8b53-0242ac120002",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "claude-sonnet-4-5-20250929",
            "weather-service-2026",
            "handshake_step_models_v1",
        ] {
            assert!(!is_random(innocent), "{innocent}");
        }
        assert!(is_random("x7Gh29skQ0pLm3"));
    }
}
