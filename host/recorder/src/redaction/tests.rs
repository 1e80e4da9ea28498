#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn redaction() -> &'static Redaction {
    static SHARED: LazyLock<Redaction> = LazyLock::new(|| {
        Redaction::new(vec![
            "correct horse battery".into(),
            "short".into(),
            "caf\u{e9}-secret".into(),
            "quote\"d-secret".into(),
        ])
    });
    &SHARED
}

fn clean(text: &str) -> String {
    redaction().redact(text).map_or_else(|| text.to_owned(), |(clean, _)| clean)
}

#[test]
fn known_forms_are_replaced_and_named() {
    let cases = [
        ("key sk-proj-abcDEF0123456789abcdef, then", "key [REDACTED:api_key:secret_api_key], then"),
        ("OPENAI_sk-ant-api03-AAAAbbbbCCCC111122223333", "OPENAI[REDACTED:api_key:secret_api_key]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[REDACTED:api_key:secret_api_key]"),
        ("api_key=hello-world next", "api_key=[REDACTED:api_key:secret_api_key] next"),
        ("id AKIAIOSFODNN7EXAMPLE.", "id [REDACTED:aws:secret_aws]."),
        ("postgres://app:p@ss/word@db:5432/x", "postgres://[REDACTED:db_url:secret_db_url]@db:5432/x"),
        ("https://me:secret@example.com/a@b", "https://[REDACTED:db_url:secret_db_url]@example.com/a@b"),
        ("password=hunter2", "password=[REDACTED:password:secret_password]"),
        ("{\"password\":\"a b\\\"c\",\"x\":1}", "{\"password\":\"[REDACTED:password:secret_password]\",\"x\":1}"),
        ("{\\\"passwd\\\": \\\"a b\\\", 1}", "{\\\"passwd\\\": \\\"[REDACTED:password:secret_password]\\\", 1}"),
        ("PGPASSWORD='two words", "PGPASSWORD='[REDACTED:password:secret_password]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [REDACTED:token:secret_token]"),
        ("bearer abcdef123456", "bearer [REDACTED:token:secret_token]"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "jwt [REDACTED:token:secret_token]"),
        (
            "pre -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- post",
            "pre [REDACTED:private_key:secret_private_key] post",
        ),
        ("cut -----BEGIN PRIVATE KEY-----\nMIIE", "cut [REDACTED:private_key:secret_private_key]"),
        ("say correct horse battery!", "say [REDACTED:token:secret_exact]!"),
        ("{\\\"k\\\":\\\"quote\\\"d-secret\\\"}", "{\\\"k\\\":\\\"[REDACTED:token:secret_exact]\\\"}"),
    ];
    for (text, expected) in cases {
        assert_eq!(clean(text), expected, "{text}");
    }
}

#[test]
fn records_own_values_and_prose_are_left_alone() {
    for text in [
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "019a0c1e-7f5e-7aa3-8b53-0242ac120002",
        "summarize@0.1.0",
        "in/reports/2026/task-force-and-risk-assessment-for-everybody.md",
        "the bearer of bad news; bearer instruments",
        "a token: expected one of these",
        "http://localhost:8080/path?at=a@b",
        "https://medium.com/@user",
        "handshake:step/models@0.1.0",
        "short",
        "sk-this-is-only-a-very-long-file-name",
        "[REDACTED:token:secret_exact] and password=[REDACTED:password:secret_password]",
    ] {
        assert_eq!(redaction().redact(text), None, "{text}");
    }
}

#[test]
fn a_forged_mark_does_not_hide_a_password() {
    for text in [
        "password=[REDACTED:hunter2]",
        "password=[REDACTED:password:secret_password]hunter2",
        "[REDACTED:password:secret_password]password=hunter2",
    ] {
        assert!(!clean(text).contains("hunter2"), "{text}");
    }
}

#[test]
fn strings_are_composed_before_they_are_compared() {
    assert_eq!(redaction().redact("cafe\u{301}"), Some(("caf\u{e9}".into(), vec![])));
    assert_eq!(clean("x cafe\u{301}-secret y"), "x [REDACTED:token:secret_exact] y");
    // The accent behind the value would merge into its last letter.
    assert!(!clean("correct horse battery\u{301}").contains("correct horse"));
}

#[test]
fn overlapping_known_values_leave_no_rest() {
    let redaction = Redaction::new(vec!["aaaabbbb".into(), "bbbbcccc".into()]);
    assert_eq!(redaction.redact("xaaaabbbbccccx").unwrap().0, "x[REDACTED:token:secret_exact]x");
    assert_eq!(redaction.redact("aaaabbbb").unwrap().1, ["secret_exact"]);
}

#[test]
fn debug_output_shows_no_value() {
    assert!(!format!("{:?}", redaction()).contains("horse"));
}

/// A secret and a text around it in which nobody would miss it.
fn secrets() -> impl Strategy<Value = (String, String)> {
    let plain = |secret: String| (secret.clone(), secret);
    prop_oneof![
        "sk-(proj-|ant-)?[A-Z][0-9][A-Za-z0-9_-]{20,60}".prop_map(plain),
        "gh[pousr]_[A-Za-z0-9]{36}".prop_map(plain),
        "(AKIA|ASIA)[A-Z0-9]{16}".prop_map(plain),
        "[A-Za-z0-9+/]{40}".prop_map(|secret| (format!("AWS_SECRET_ACCESS_KEY={secret}"), secret)),
        "[A-Za-z0-9!$%^*()]{4,30}".prop_map(|secret| (format!("mysql://user:{secret}@db/x"), secret)),
        "[A-Za-z0-9@/!$]{4,30}".prop_map(|secret| (format!("postgresql+psycopg://user:{secret}@db/x"), secret)),
        "[!-~&&[^\"'\\\\]]{4,30}".prop_map(|secret| (format!("password: {secret}"), secret)),
        "[ -~&&[^\"\\\\]]{2}[!-~&&[^\"\\\\]]{6,30}".prop_map(|secret| (format!("\"passwd\" : \"{secret}\""), secret)),
        "[0-9][A-Za-z0-9._~+/=-]{10,60}".prop_map(|secret| (format!("Authorization: Bearer {secret}"), secret)),
        "[A-Za-z0-9+/=\n]{40,200}"
            .prop_map(|secret| (format!("-----BEGIN EC PRIVATE KEY-----{secret}-----END EC PRIVATE KEY-----"), secret)),
        Just(("correct horse battery".to_owned(), "correct horse battery".to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_secret_survives(before in "[a-zäöü .,]{0,20} ", (text, secret) in secrets(), after in " [a-zäöü .,]{0,20}") {
        let clean = clean(&format!("{before}{text}{after}"));
        // Marks themselves consist of such letters; what is left outside of them counts.
        let outside = regex::Regex::new(r"\[REDACTED:[a-z_]+:[a-z_]+\]").unwrap().replace_all(&clean, "\u{0}").into_owned();
        prop_assert!(!outside.contains(secret.trim()), "{clean}");
        prop_assert!(clean.contains("[REDACTED:"));
    }

    #[test]
    fn text_without_secrets_is_untouched(text in "([a-z]{1,9}|[0-9]{1,9}|[0-9a-f]{64}|[A-Z][a-z]{2,8})([ ./_,-]([a-z]{1,9}|[0-9]{1,9})){0,12}") {
        prop_assert_eq!(redaction().redact(&text), None);
    }

    #[test]
    fn redacting_twice_changes_nothing((text, _) in secrets(), noise in "\\PC{0,40}") {
        let once = clean(&format!("{text} {noise}"));
        prop_assert_eq!(clean(&once), once);
    }

    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        redaction().redact(&text);
    }
}
