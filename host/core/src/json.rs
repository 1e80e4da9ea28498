//! JSON as text: what steps are given and what they return.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON value as its compact text, shared by its clones.
///
/// A run holds what all its steps returned, and a tree of a [`Value`] takes five to ten times the memory of its
/// text. Only what an expression looks into becomes a tree, and only while it does.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl schemars::JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!(true)
    }
}

impl Json {
    /// The text of a value.
    pub fn of(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// JSON that was text all along; it is checked and kept as it is.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(Self::raw)
    }

    fn raw(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }

    /// A list.
    pub fn list<'a>(items: impl IntoIterator<Item = &'a Self, IntoIter: Clone>) -> Self {
        let items = items.into_iter();
        let mut text = String::with_capacity(2 + items.clone().map(|item| item.0.len() + 1).sum::<usize>());
        text.push('[');
        for (at, item) in items.enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(&item.0);
        }
        text.push(']');
        Self(text.into())
    }

    /// An object; the names must differ.
    pub fn object(fields: &[(&str, Self)]) -> Self {
        let mut text = String::with_capacity(2 + fields.iter().map(|(_, field)| field.0.len() + 32).sum::<usize>());
        text.push('{');
        for (at, (name, field)) in fields.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(&Self::of(&Value::from(*name)).0);
            text.push(':');
            text.push_str(&field.0);
        }
        text.push('}');
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tree.
    pub fn value(&self) -> Value {
        // It is JSON, or it would not be here.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// A field, if this is an object that has it.
    pub fn field(&self, name: &str) -> Option<Self> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&self.0).ok()?;
        fields.get(name).map(|field| Self::raw(field))
    }

    /// The items, if this is a list.
    pub fn items(&self) -> Option<Vec<Self>> {
        let items: Vec<&RawValue> = serde_json::from_str(&self.0).ok()?;
        Some(items.into_iter().map(Self::raw).collect())
    }

    /// One item, if this is a list that has it.
    pub fn item(&self, index: usize) -> Option<Self> {
        let items: Vec<&RawValue> = serde_json::from_str(&self.0).ok()?;
        items.get(index).map(|item| Self::raw(item))
    }
}

impl Default for Json {
    /// Null.
    fn default() -> Self {
        Self("null".into())
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<Value> for Json {
    fn eq(&self, other: &Value) -> bool {
        self.value() == *other
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    // Through a tree, because raw text cannot be had from every deserializer, such as that of an untagged enum.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::of(&value)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_put_together_and_found_again() {
        let one = Json::of(&json!({ "ä \"": [1.5, null] }));
        let list = Json::list(&[one.clone(), Json::default()]);
        let all = Json::object(&[("a\n", list.clone()), ("b", Json::list(&[]))]);
        assert_eq!(all.as_str(), r#"{"a\n":[{"ä \"":[1.5,null]},null],"b":[]}"#);
        assert_eq!(all, json!({ "a\n": [{ "ä \"": [1.5, null] }, null], "b": [] }));
        assert_eq!(all.field("a\n"), Some(list.clone()));
        assert_eq!((all.field("c"), all.items(), all.item(0)), (None, None, None));
        assert_eq!(list.items(), Some(vec![one.clone(), Json::default()]));
        assert_eq!((list.item(0), list.item(2), list.field("a")), (Some(one), None, None));
    }

    #[test]
    fn it_is_written_and_read_like_the_value() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Either {
            Payload { payload: Json },
            Other(String),
        }
        let value = json!({ "payload": { "z": 1, "a": [0.1, "x"] } });
        let read: Either = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), value.to_string());
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
        assert!(Json::parse("{").is_err());
        assert_eq!(Json::parse("[1]").unwrap(), json!([1]));
    }
}
