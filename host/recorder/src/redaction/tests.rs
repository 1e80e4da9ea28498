#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use proptest::prelude::*;

use RedactionScope::{Identity, Metadata, Text};

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
    redaction().redact(Metadata, text).map_or_else(|| text.to_owned(), |(clean, _)| clean)
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
        "write `password:` before it, or (password=)",
        "http://localhost:8080/path/to?at=a@b",
        "in/reports/2026/a.md, or /text alone",
        "[method]descriptor.open-at of wasi:filesystem/types@0.2.12",
        "2026-11-25T17:44:02.123456Z +00:00",
        "019a0c1e-7f5e-7aa3-8b53-0242ac120002-1",
        "key: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "idempotency key 019a0c1e-7f5e-7aa3-8b53-0242ac120002",
        "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
        "sha512-Hk0hQHqgcOG+6hy4W8cMIuIVRQgA2PPjqOo2ryrlmsu0rOVM2wXAIpDTtsz82Ngx95UZnQMZTTsHUt5jfo0Fnw==",
        "secrets.use:weather-2026-key",
        "hsk-secret-00112233445566778899aabbccddeeff",
        "claude-sonnet-4-5-20250929 answered; gpt-4o-2024-08-06 did not",
        "the owner's lock is held by process 4711 (port 5432)",
        "https://medium.com/@user",
        "handshake:step/models@0.1.0",
        "short",
        "sk-this-is-only-a-very-long-file-name",
        "[REDACTED:token:secret_exact] and password=[REDACTED:password:secret_password]",
    ] {
        assert_eq!(redaction().redact(Metadata, text), None, "{text}");
    }
}

#[test]
fn personal_data_paths_and_variables_are_replaced_where_their_scope_says() {
    let email = ("ask ann.smith+x@mail.example.com now", "ask [REDACTED:pii:pii_email] now");
    let cases = [
        (Text, email.0, email.1),
        (Text, "call +49 (30) 1234-5678.", "call [REDACTED:pii:pii_phone]."),
        (Text, "call (555) 234-5678 or 555-234-5679", "call [REDACTED:pii:pii_phone] or [REDACTED:pii:pii_phone]"),
        (Text, "phone: 030 1234567", "phone: [REDACTED:pii:pii_phone]"),
        (Metadata, "cannot open `/home/alice/my notes/a.md`", "cannot open `[REDACTED:path:path_absolute]`"),
        (Metadata, "cannot open /srv/data/a.md: gone", "cannot open [REDACTED:path:path_absolute]: gone"),
        (Metadata, "see file:///srv/data/a.md", "see file://[REDACTED:path:path_absolute]"),
        (Metadata, "at ~/notes/a.md", "at [REDACTED:path:path_absolute]"),
        (Metadata, r"at C:\Users\bob\a.md", "at [REDACTED:path:path_absolute]"),
        (Metadata, "at D:/notes/a.md", "at [REDACTED:path:path_absolute]"),
        (Metadata, "with RUST_LOG=debug set", "with RUST_LOG=[REDACTED:env:env_var] set"),
        (Metadata, "SEARCH='/a/b:/c/d'", "SEARCH='[REDACTED:env:env_var]'"),
        // Secrets come first and name what they share with others.
        (
            Metadata,
            "DB=postgres://u:pw@h.example.org/x",
            "DB=postgres://[REDACTED:db_url:secret_db_url]@h.example.org/x",
        ),
        (Metadata, "AWS_SECRET_ACCESS_KEY=x", "AWS_SECRET_ACCESS_KEY=[REDACTED:aws:secret_aws]"),
    ];
    for (scope, text, expected) in cases {
        assert_eq!(redaction().clean(scope, text), expected);
        assert_eq!(redaction().redact(scope, expected), None, "twice: {expected}");
        let wider = if scope == Text { Identity } else { Text };
        let others = redaction().redact(wider, text).map(|(_, rules)| rules).unwrap_or_default();
        assert!(others.iter().all(|rule| rule.starts_with("secret_")), "{wider:?} {text}: {others:?}");
    }
}

#[test]
fn a_rule_of_the_corpus_names_itself() {
    assert_eq!(clean("see LTAI5tAbcDefGhiJklMnoPq7 there"), "see [REDACTED:api_key:alibaba-access-key-id] there");
    assert_eq!(redaction().redact(Identity, "x").map(|(_, rules)| rules), None);
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
    assert_eq!(redaction().redact(Metadata, "cafe\u{301}"), Some(("caf\u{e9}".into(), vec![])));
    assert_eq!(clean("x cafe\u{301}-secret y"), "x [REDACTED:token:secret_exact] y");
    // The accent behind the value would merge into its last letter.
    assert!(!clean("correct horse battery\u{301}").contains("correct horse"));
}

#[test]
fn overlapping_known_values_leave_no_rest() {
    let redaction = Redaction::new(vec!["aaaabbbb".into(), "bbbbcccc".into()]);
    assert_eq!(redaction.redact(Metadata, "xaaaabbbbccccx").unwrap().0, "x[REDACTED:token:secret_exact]x");
    assert_eq!(redaction.redact(Metadata, "aaaabbbb").unwrap().1, ["secret_exact"]);
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
        prop_assert_eq!(redaction().redact(Metadata, &text), None);
    }

    #[test]
    fn redacting_twice_changes_nothing((text, _) in secrets(), noise in "\\PC{0,40}") {
        let once = clean(&format!("{text} {noise}"));
        prop_assert_eq!(clean(&once), once);
    }

    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        redaction().redact(Metadata, &text);
    }
}
