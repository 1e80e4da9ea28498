//! The forms that are looked for in the first place (R6.7): one table.
//!
//! A hexadecimal digest or a UUID that stands alone is none of them: records are full of both.

use handshake_core::event::RedactionScope::{self, Identity, Metadata, Text};

/// What a regular expression cannot say about the value.
pub(super) type Condition = fn(&str) -> bool;

/// One form.
pub(super) struct Form {
    pub(super) rule: &'static str,
    pub(super) category: &'static str,
    /// The narrowest scope in which it is looked for.
    pub(super) scope: RedactionScope,
    /// Every text of this form has one of these in it, in any case. Only then is the expression tried.
    pub(super) near: &'static [&'static str],
    /// The group `value` is replaced, or everything without one.
    pub(super) expression: &'static str,
    pub(super) accepts: Condition,
    /// Whether a text is worth the expression: cheaper than it, and never wrong about a text that it would match.
    pub(super) worth: Condition,
    /// Whether letters, digits and `.%+-` before what was found belong to it, [`LONGEST_GROWTH`] characters at most.
    pub(super) grows: bool,
}

/// The longest local part that an address may have.
pub(super) const LONGEST_GROWTH: usize = 64;

const fn form(
    rule: &'static str,
    category: &'static str,
    scope: RedactionScope,
    near: &'static [&'static str],
    expression: &'static str,
    accepts: Condition,
) -> Form {
    Form { rule, category, scope, near, expression, accepts, worth: any, grows: false }
}

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

/// In the order in which overlapping findings are named.
pub(super) const TABLE: &[Form] = &[
    // A truncated block has no end: everything behind its beginning goes.
    form(
        "secret_private_key",
        "private_key",
        Identity,
        &["private key"],
        r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)",
        any,
    ),
    // AWS: access key ids, and secrets by their name.
    form(
        "secret_aws",
        "aws",
        Identity,
        &["akia", "asia", "abia", "acca"],
        concat!(border!(), r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?:(?-u:\b)|_)"),
        any,
    ),
    form(
        "secret_aws",
        "aws",
        Identity,
        &["aws"],
        concat!(r"(?i)aws[_-]?(?:secret[_-]?access[_-]?key|secret[_-]?key|session[_-]?token)", assigned!(), value!()),
        said,
    ),
    // User and password of a URL. In databases' URLs the password may hold a `/` although it should not.
    form(
        "secret_db_url",
        "db_url",
        Identity,
        &["://"],
        r"(?i)(?:postgres|postgresql|mysql|mariadb|mongodb|redis|rediss|amqp|amqps|mssql|sqlserver|clickhouse|oracle)(?:\+[a-z0-9]{1,20})?://(?P<value>[^\s:@/]*:[^\s]*)@",
        filled_in,
    ),
    form(
        "secret_db_url",
        "db_url",
        Identity,
        &["://"],
        r"(?i)[a-z][a-z0-9+.-]{1,30}://(?P<value>[^\s/:@]*:[^\s/]*)@",
        filled_in,
    ),
    // Keys of well-known providers, by their prefixes.
    form("secret_api_key", "api_key", Identity, &["sk-"], concat!(border!(), r"sk-[A-Za-z0-9_-]{20,}"), mixed),
    form(
        "secret_api_key",
        "api_key",
        Identity,
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"],
        concat!(border!(), r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,})"),
        any,
    ),
    form(
        "secret_api_key",
        "api_key",
        Identity,
        &["k_live_", "k_test_", "whsec_"],
        concat!(border!(), r"(?:(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,})"),
        any,
    ),
    form(
        "secret_api_key",
        "api_key",
        Identity,
        &["aiza", "ya29.", "xox", "xapp-"],
        concat!(
            border!(),
            r"(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,})"
        ),
        any,
    ),
    form(
        "secret_api_key",
        "api_key",
        Identity,
        &["hf_", "gsk_", "r8_", "xai-", "nvapi-", "pplx-"],
        concat!(
            border!(),
            r"(?:hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{20,}|nvapi-[A-Za-z0-9_-]{20,}|pplx-[A-Za-z0-9]{20,})"
        ),
        any,
    ),
    form(
        "secret_api_key",
        "api_key",
        Identity,
        &["npm_", "pypi-", "dckr_pat_", "dop_v1_", "sg."],
        concat!(
            border!(),
            r"(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|dckr_pat_[A-Za-z0-9_-]{20,}|dop_v1_[0-9a-f]{64}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"
        ),
        any,
    ),
    form(
        "secret_api_key",
        "api_key",
        Identity,
        &["key", "secret"],
        concat!(
            r"(?i)(?:api[_-]?key|access[_-]?key|client[_-]?secret|secret[_-]?key|encryption[_-]?key|signing[_-]?key)",
            assigned!(),
            value!()
        ),
        said,
    ),
    // Passwords, by their name.
    form(
        "secret_password",
        "password",
        Identity,
        &["password", "passwd", "passphrase", "passcode", "passwort", "pwd"],
        concat!(r"(?i)(?:password|passwd|passphrase|passcode|passwort|pwd)", assigned!(), value!()),
        said,
    ),
    // Tokens: headers, JSON web tokens, and by their name.
    form(
        "secret_token",
        "token",
        Identity,
        &["authorization"],
        concat!(
            r"(?i)authorization",
            assigned!(),
            r#"[\\"']{0,4}(?:(?:basic|bearer|digest|token|negotiate)[ \t]+)?"#,
            value!()
        ),
        said,
    ),
    form(
        "secret_token",
        "token",
        Identity,
        &["bearer"],
        concat!(r"(?i)", border!(), r"bearer[ \t]+(?P<value>[A-Za-z0-9._~+/=-]{8,})"),
        mixed,
    ),
    form(
        "secret_token",
        "token",
        Identity,
        &["eyj"],
        concat!(border!(), r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.?[A-Za-z0-9_-]*"),
        any,
    ),
    form(
        "secret_token",
        "token",
        Identity,
        &["token"],
        concat!(r"(?i)(?:access|refresh|id|auth|session|bot|csrf|bearer)[_-]?token", assigned!(), value!()),
        said,
    ),
    form(
        "secret_token",
        "token",
        Identity,
        &["token", "secret"],
        concat!(r"(?i)", border!(), r"(?:token|secret)", assigned!(), value!()),
        long,
    ),
    // Personal data. A plugin's `name@0.1.0` has no top-level domain. What stands before the `@` is added afterwards: so
    // the search can jump from one `@` to the next.
    Form {
        worth: address,
        grows: true,
        ..form(
            "pii_email",
            "pii",
            Text,
            &["@"],
            r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?-u:\b)",
            longer_than_its_domain,
        )
    },
    Form {
        worth: |text| digits(text, 8),
        ..form(
            "pii_phone",
            "pii",
            Text,
            &["+"],
            r"(?:^|[^\w+.-])(?P<value>\+[1-9][0-9]{0,2}(?:[ .()/-]{0,2}[0-9]){7,12})(?:$|[^\w-])",
            any,
        )
    },
    Form {
        worth: |text| digits(text, 10) && text.len() != UUID,
        ..form(
            "pii_phone",
            "pii",
            Text,
            &["-"],
            r"(?:^|[^\w+./-])(?P<value>(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}-)[2-9][0-9]{2}-[0-9]{4})(?:$|[^\w-])",
            any,
        )
    },
    form(
        "pii_phone",
        "pii",
        Text,
        &["phone", "mobile", "fax", "tel"],
        concat!(
            r"(?i)(?:phone|mobile|fax|(?-u:\b)tel)(?:[ _-]?(?:number|no))?\.?",
            assigned!(),
            r#"[\\"']{0,4}(?P<value>[+(]?[0-9](?:[ .()/-]{0,2}[0-9]){6,14})"#
        ),
        any,
    ),
    // Variables with their values, as shells and `env` write them. Their names are no secret.
    form(
        "env_var",
        "env",
        Metadata,
        &["="],
        r#"(?:^|[\s"'`({\[,;])[A-Z][A-Z0-9_]{2,}=(?P<value>"[^"\r\n]*"?|'[^'\r\n]*'?|[^\s"'`;,)\]}]+)"#,
        any,
    ),
    // Absolute paths: of two parts at least, since `/x` is prose, a JSON pointer or a route. In quotes they may have
    // spaces. What follows a scheme and a host is not absolute, `file://` aside.
    form("path_absolute", "path", Metadata, &["`/"], r"`(?P<value>/[^/`\r\n]+/[^`\r\n]*)`", any),
    form("path_absolute", "path", Metadata, &["\"/"], r#""(?P<value>/[^/"\r\n]+/[^"\r\n]*)""#, any),
    form("path_absolute", "path", Metadata, &["'/"], r"'(?P<value>/[^/'\r\n]+/[^'\r\n]*)'", any),
    Form {
        worth: rooted,
        ..form(
            "path_absolute",
            "path",
            Metadata,
            &["/"],
            r#"(?:^|[\s"'`(\[{<>=:,;|]|(?i:file://))(?P<value>(?:~|/[^\s/"'`()\[\]{}<>:,;|]+)/[^\s"'`()\[\]{}<>:,;|]+)"#,
            any,
        )
    },
    form(
        "path_absolute",
        "path",
        Metadata,
        &[":\\", "\\\\"],
        r#"(?:^|[\s"'`(\[{<>=,;|])(?P<value>(?:[A-Za-z]:\\|\\\\)[^"'`<>|\r\n]*)"#,
        any,
    ),
    form(
        "path_absolute",
        "path",
        Metadata,
        &[":/"],
        r#"(?:^|[\s"'`(\[{<>=,;|])(?P<value>[A-Za-z]:/[^\s/"'`<>|][^\s"'`<>|]*)"#,
        any,
    ),
];

fn any(_: &str) -> bool {
    true
}

/// Length of a UUID, which is full of digits and hyphens and the commonest text in events.
const UUID: usize = 36;

fn digits(text: &str, least: usize) -> bool {
    text.bytes().filter(u8::is_ascii_digit).count() >= least
}

/// Has a letter behind a dot, as every domain does and no version.
fn address(text: &str) -> bool {
    let mut pairs = text.as_bytes().windows(2);
    pairs.any(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic())
}

/// A domain alone is no address.
fn longer_than_its_domain(value: &str) -> bool {
    !value.starts_with('@')
}

/// Has a `/` that does not follow a word.
fn rooted(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (0..bytes.len()).any(|at| bytes[at] == b'/' && (at == 0 || !word(bytes[at - 1])))
}

/// Documentation writes `USER:PASSWORD@HOST`. Whoever has that for a password has none.
fn filled_in(value: &str) -> bool {
    !value.ends_with(":PASSWORD")
}

/// Tells a key from words joined by hyphens, and a token from prose.
fn mixed(value: &str) -> bool {
    let words = value.strip_prefix("sk-").unwrap_or(value);
    words.bytes().any(|byte| byte.is_ascii_digit()) || words.bytes().skip(1).any(|byte| byte.is_ascii_uppercase())
}

/// In prose about a form, the name is followed by a quote or a bracket and nothing else.
fn said(value: &str) -> bool {
    value.len() > 2 || value.chars().any(char::is_alphanumeric)
}

/// `token: expected` is prose.
fn long(value: &str) -> bool {
    value.len() >= 8 && mixed(value)
}
