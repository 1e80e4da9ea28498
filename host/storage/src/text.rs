//! What may be stored as text: no U+0000, which PostgreSQL cannot hold, so that both backends refuse the same.
//!
//! NaN needs no check of its own: a `serde_json::Value` cannot hold one, and no stored type has a bare float.

use handshake_core::Json;
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::StorageError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::unreadable;

/// Refuses a text with U+0000.
pub(crate) fn check(what: &'static str, text: &str) -> Result<(), StorageError> {
    if text.contains('\0') { Err(refused(what)) } else { Ok(()) }
}

/// The text, if it may be stored.
pub(crate) fn plain(what: &'static str, text: &str) -> Result<String, StorageError> {
    check(what, text)?;
    Ok(text.to_owned())
}

/// The optional text, if it may be stored.
pub(crate) fn optional(what: &'static str, text: Option<&str>) -> Result<Option<String>, StorageError> {
    text.map(|text| plain(what, text)).transpose()
}

/// JSON of a value, if it may be stored.
pub(crate) fn json<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<String, StorageError> {
    let json = serde_json::to_string(value).map_err(unreadable(what))?;
    if holds_nul(&json) { Err(refused(what)) } else { Ok(json) }
}

/// Refuses JSON that holds U+0000.
pub(crate) fn check_json(what: &'static str, json: &Json) -> Result<(), StorageError> {
    if holds_nul(json.as_str()) { Err(refused(what)) } else { Ok(()) }
}

/// A value from stored JSON.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, StorageError> {
    serde_json::from_str(json).map_err(unreadable(what))
}

/// Refuses events whose JSON holds U+0000.
pub(crate) fn check_events(events: &[AdmittedEvent]) -> Result<(), StorageError> {
    if events.iter().any(|event| holds_nul(event.json())) { Err(refused("event")) } else { Ok(()) }
}

fn refused(what: &'static str) -> StorageError {
    StorageError::Validation(format!("{what}: text with the character U+0000 cannot be stored"))
}

/// Whether JSON text holds U+0000, which serializers write as an escape. A backslash that is itself escaped does
/// not begin one.
fn holds_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = json.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        before % 2 == 0
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_found_behind_any_number_of_backslashes() {
        for text in ["\0", "a\0", "\\\0", "\\\\\0b"] {
            assert!(matches!(json("x", text), Err(StorageError::Validation(_))), "{text:?}");
            assert!(check("x", text).is_err());
        }
        for text in ["\\u0000", "\\\\u0000", "u0000", "\u{1}", "ä漢🎉"] {
            assert_eq!(parse::<String>("x", &json("x", text).unwrap()).unwrap(), text);
        }
        assert!(json("x", &serde_json::json!({ "key\0": 1 })).is_err());
    }

    #[test]
    fn numbers_come_back_exactly() {
        for number in [0.1 + 0.2, 1e308, -5e-324, 9_007_199_254_740_993.0, 123_456.789_012_345_67] {
            let text = json("x", &serde_json::json!(number)).unwrap();
            assert_eq!(parse::<serde_json::Value>("x", &text).unwrap(), serde_json::json!(number));
        }
        let big = serde_json::json!([u64::MAX, i64::MIN]);
        assert_eq!(parse::<serde_json::Value>("x", &json("x", &big).unwrap()).unwrap(), big);
    }
}
