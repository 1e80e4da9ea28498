//! Canonical JSON (RFC 8785) of what is recorded.
//!
//! Every event goes through here, so it is written straight from the tree; `serde_jcs`, which takes whatever can be
//! serialised, needs ten times as long. A property test holds that both write the same bytes.

use std::cmp::Ordering;

use serde::ser::Error as _;
use serde_json::{Map, Value};

/// Integers up to here are the same as double-precision numbers; the RFC knows only those.
const EXACT: u64 = 1 << 53;

/// The canonical form of an object.
///
/// Integers beyond ±2^53 become the nearest double-precision number, as the RFC asks. Fails for a number that is none
/// of JSON's.
pub(crate) fn to_string(fields: &Map<String, Value>) -> Result<String, serde_json::Error> {
    let mut text = Vec::with_capacity(1536);
    write_object(&mut text, fields)?;
    String::from_utf8(text).map_err(serde_json::Error::custom)
}

fn write(text: &mut Vec<u8>, value: &Value) -> Result<(), serde_json::Error> {
    match value {
        Value::Object(fields) => return write_object(text, fields),
        Value::Array(items) => {
            text.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                write(text, item)?;
            }
            text.push(b']');
        }
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(integer), ..) if integer <= EXACT => serde_json::to_writer(text, &integer)?,
            (_, Some(integer), _) if integer.unsigned_abs() <= EXACT => serde_json::to_writer(text, &integer)?,
            (.., Some(real)) if real.is_finite() => {
                text.extend_from_slice(ryu_js::Buffer::new().format_finite(real).as_bytes());
            }
            _ => return Err(serde_json::Error::custom("a number has no canonical form")),
        },
        // The escapes of serde_json are those of the RFC.
        Value::String(_) | Value::Null | Value::Bool(_) => serde_json::to_writer(text, value)?,
    }
    Ok(())
}

fn write_object(text: &mut Vec<u8>, fields: &Map<String, Value>) -> Result<(), serde_json::Error> {
    let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
    sorted.sort_unstable_by(|(one, _), (other, _)| order(one, other));
    text.push(b'{');
    for (at, (name, value)) in sorted.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, name)?;
        text.push(b':');
        write(text, value)?;
    }
    text.push(b'}');
    Ok(())
}

/// The RFC sorts names by their UTF-16 code units, which differs from the order of UTF-8 beyond U+D7FF.
fn order(one: &str, other: &str) -> Ordering {
    if one.is_ascii() && other.is_ascii() { one.cmp(other) } else { one.encode_utf16().cmp(other.encode_utf16()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn canonical(value: &Value) -> String {
        let fields = Map::from_iter([("value".to_owned(), value.clone())]);
        let written = to_string(&fields).unwrap();
        assert_eq!(written, serde_jcs::to_string(&fields).unwrap());
        written
    }

    fn text() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            '\u{d7ff}',
            '\u{e000}',
            '\u{ffff}',
            '\u{10000}',
            '"',
            '\\',
            '\u{7f}',
            '\u{2028}',
        ]);
        let char = prop_oneof![any::<char>(), odd, prop::char::range('\0', ' '), prop::char::range('a', 'c')];
        prop::collection::vec(char, 0..6).prop_map(String::from_iter)
    }

    fn tree() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-4_i64..4, 50_u32..64).prop_map(|(near, power)| Value::from((1_u64 << power).wrapping_add_signed(near))),
            any::<f64>().prop_map(Value::from),
            any::<i16>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ];
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, text().prop_map(Value::from)];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((text(), inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_tree_is_written_as_serde_jcs_writes_it(value in tree()) {
            canonical(&value);
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_written_as_it_says() {
        let numbers = json!([333_333_333.333_333_3, 1e30, 4.50, 2e-3, 0.000_000_000_000_000_000_000_000_001, -0.0]);
        assert_eq!(canonical(&numbers), r#"{"value":[333333333.3333333,1e+30,4.5,0.002,1e-27,0]}"#);
        let names = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        assert_eq!(
            canonical(&names),
            "{\"value\":{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}}"
        );
        let largest = json!([9_007_199_254_740_993_u64, u64::MAX, i64::MIN]);
        assert_eq!(canonical(&largest), r#"{"value":[9007199254740992,18446744073709552000,-9223372036854776000]}"#);
        assert_eq!(canonical(&json!("\u{0}\u{1f}\t\u{7f}/\"\\")), "{\"value\":\"\\u0000\\u001f\\t\u{7f}/\\\"\\\\\"}");
    }
}
