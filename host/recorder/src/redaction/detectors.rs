//! The forms that secrets have: one table.
//!
//! A hexadecimal digest or a UUID that stands alone is none of them: records are full of both.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use regex::Regex;

/// Recognises one form.
pub(super) struct Detector {
    pub(super) rule: &'static str,
    pub(super) category: &'static str,
    pub(super) expression: &'static str,
    /// Compiled when the first pass finds it for the first time: most processes never need it, and starting them
    /// must be quick.
    regex: OnceLock<Option<Regex>>,
    /// What a regular expression cannot say about the value.
    accepts: Condition,
}

type Condition = fn(&str) -> bool;

/// What may stand between a name and its value: `=`, `:`, `=>`, with quotes (escaped or not) around the name.
macro_rules! assigned {
    () => {
        r#"[\\"']{0,4}[ \t]*(?:=>|[:=])[ \t]*"#
    };
}

/// A value: quoted (escaped or not) or up to the next white space. An unterminated quote runs to the end of the
/// line: hiding too much beats showing the second half of a pass phrase.
macro_rules! value {
    () => {
        r#"(?P<value>\\"[^"\\\r\n]*\\"|\\"[^\r\n]*|"(?:[^"\\\r\n]|\\.)*"?|'(?:[^'\\\r\n]|\\.)*'?|\S+)"#
    };
}

/// Where a token may begin: not in the middle of a word. `_` counts as a border, so `KEY_AKIA…` is found.
macro_rules! border {
    () => {
        r"(?:(?-u:\b)|_)"
    };
}

/// Rule, category, expression, further condition. The group `value` is replaced, or everything without one. In
/// the order in which overlapping findings are named.
const TABLE: &[(&str, &str, &str, Condition)] = &[
    // A truncated block has no end: everything behind its beginning goes.
    (
        "secret_private_key",
        "private_key",
        r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)",
        any,
    ),
    // AWS: access key ids, and secrets by their name.
    ("secret_aws", "aws", concat!(border!(), r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?-u:\b)"), any),
    (
        "secret_aws",
        "aws",
        concat!(r"(?i)aws[_-]?(?:secret[_-]?access[_-]?key|secret[_-]?key|session[_-]?token)", assigned!(), value!()),
        any,
    ),
    // User and password of a URL. In databases' URLs the password may hold a `/` although it should not.
    (
        "secret_db_url",
        "db_url",
        r"(?i)(?:postgres|postgresql|mysql|mariadb|mongodb|redis|rediss|amqp|amqps|mssql|sqlserver|clickhouse|oracle)(?:\+[a-z0-9]{1,20})?://(?P<value>[^\s:@/]*:[^\s]*)@",
        any,
    ),
    ("secret_db_url", "db_url", r"(?i)[a-z][a-z0-9+.-]{1,30}://(?P<value>[^\s/:@]*:[^\s/]*)@", any),
    // Keys of well-known providers, by their prefixes.
    ("secret_api_key", "api_key", concat!(border!(), r"sk-[A-Za-z0-9_-]{20,}"), mixed),
    (
        "secret_api_key",
        "api_key",
        concat!(border!(), r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,})"),
        any,
    ),
    (
        "secret_api_key",
        "api_key",
        concat!(border!(), r"(?:(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,})"),
        any,
    ),
    (
        "secret_api_key",
        "api_key",
        concat!(
            border!(),
            r"(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,})"
        ),
        any,
    ),
    (
        "secret_api_key",
        "api_key",
        concat!(
            border!(),
            r"(?:hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{20,}|nvapi-[A-Za-z0-9_-]{20,}|pplx-[A-Za-z0-9]{20,})"
        ),
        any,
    ),
    (
        "secret_api_key",
        "api_key",
        concat!(
            border!(),
            r"(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|dckr_pat_[A-Za-z0-9_-]{20,}|dop_v1_[0-9a-f]{64}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"
        ),
        any,
    ),
    (
        "secret_api_key",
        "api_key",
        concat!(
            r"(?i)(?:api[_-]?key|access[_-]?key|client[_-]?secret|secret[_-]?key|encryption[_-]?key|signing[_-]?key)",
            assigned!(),
            value!()
        ),
        any,
    ),
    // Passwords, by their name.
    (
        "secret_password",
        "password",
        concat!(r"(?i)(?:password|passwd|passphrase|passcode|passwort|pwd)", assigned!(), value!()),
        any,
    ),
    // Tokens: headers, JSON web tokens, and by their name.
    (
        "secret_token",
        "token",
        concat!(
            r"(?i)authorization",
            assigned!(),
            r#"[\\"']{0,4}(?:(?:basic|bearer|digest|token|negotiate)[ \t]+)?"#,
            value!()
        ),
        any,
    ),
    ("secret_token", "token", concat!(r"(?i)", border!(), r"bearer[ \t]+(?P<value>[A-Za-z0-9._~+/=-]{8,})"), mixed),
    ("secret_token", "token", concat!(border!(), r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.?[A-Za-z0-9_-]*"), any),
    (
        "secret_token",
        "token",
        concat!(r"(?i)(?:access|refresh|id|auth|session|bot|csrf|bearer)[_-]?token", assigned!(), value!()),
        any,
    ),
    ("secret_token", "token", concat!(r"(?i)", border!(), r"(?:token|secret)", assigned!(), value!()), long),
];

fn any(_: &str) -> bool {
    true
}

/// Tells a key from words joined by hyphens, and a token from prose.
fn mixed(value: &str) -> bool {
    let words = value.strip_prefix("sk-").unwrap_or(value);
    words.bytes().any(|byte| byte.is_ascii_digit()) || words.bytes().skip(1).any(|byte| byte.is_ascii_uppercase())
}

/// `token: expected` is prose.
fn long(value: &str) -> bool {
    value.len() >= 8 && mixed(value)
}

/// All detectors.
pub(super) fn detectors() -> Vec<Detector> {
    TABLE
        .iter()
        .map(|&(rule, category, expression, accepts)| Detector {
            rule,
            category,
            expression,
            regex: OnceLock::new(),
            accepts,
        })
        .collect()
}

impl Detector {
    /// The pieces to be replaced. `text` is the original with our own marks masked.
    pub(super) fn ranges<'a>(&'a self, text: &'a str, original: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        // A test holds that every expression of the table compiles.
        let regex = self.regex.get_or_init(|| Regex::new(self.expression).ok());
        regex.iter().flat_map(move |regex| regex.captures_iter(text)).filter_map(move |found| {
            let range = match found.name("value") {
                Some(value) => {
                    let inside = value.as_str().trim_start_matches(['"', '\'', '\\']);
                    let start = value.end() - inside.len();
                    start..start + inside.trim_end_matches(['"', '\'', '\\']).len()
                }
                None => found.get(0)?.range(),
            };
            let value = &original[range.clone()];
            (!value.is_empty() && mark_length(value) != Some(value.len()) && (self.accepts)(value)).then_some(range)
        })
    }
}

const MARK: &str = "[REDACTED:";

/// Masks our own marks, byte for byte, so that redacting twice changes nothing: `password:` within a mark would
/// look like the name of a value. What stands before and behind a mark is searched as ever.
pub(super) fn without_marks(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        masked.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match mark_length(rest) {
            Some(length) => {
                masked.push('[');
                masked.extend(std::iter::repeat_n('x', length - 2));
                masked.push(']');
                length
            }
            None => {
                masked.push('[');
                1
            }
        };
        rest = &rest[length..];
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

/// Length of the mark that the text begins with. Only marks that could be ours count: anything else might be a
/// secret dressed up as one.
fn mark_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix(MARK)?;
    let inside = &inside[..inside.find(']')?];
    let (category, rule) = inside.split_once(':')?;
    let ours =
        (category, rule) == ("token", "secret_exact") || TABLE.iter().any(|row| (row.1, row.0) == (category, rule));
    ours.then_some(MARK.len() + inside.len() + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_expression_of_the_table_compiles() {
        for (rule, _, expression, _) in super::TABLE {
            assert!(super::Regex::new(expression).is_ok(), "{rule}: {expression}");
        }
    }
}
