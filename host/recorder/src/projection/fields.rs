//! The fields of a record that have columns, read in one pass without copying.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a field holds, as far as a column can hold it. Reading one never fails for what it holds.
#[derive(Debug, Default)]
pub(super) enum Field<'r> {
    /// It is missing, or of a kind that no column holds.
    #[default]
    Nothing,
    Text(Cow<'r, str>),
    Number(i64),
    Flag(bool),
    List(Vec<Field<'r>>),
}

impl Field<'_> {
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn number(&self) -> Option<i64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }
}

/// An object, or nothing where something else stands.
#[derive(Debug, Default)]
pub(super) struct Fields<T>(pub(super) T);

/// Declares objects with the fields that are read from them; all others are passed over. Where a name stands twice, the
/// last one counts, as everywhere.
macro_rules! objects {
    ($($(#[$meta:meta])* $object:ident { $($field:ident: $kind:ty = $name:literal),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(super) struct $object<'r> { $(pub(super) $field: $kind,)* }

        impl<'r> Deserialize<'r> for $object<'r> {
            fn deserialize<D: Deserializer<'r>>(deserializer: D) -> Result<Self, D::Error> {
                struct Names;
                impl<'r> Visitor<'r> for Names {
                    type Value = $object<'r>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut object = $object::default();
                        while let Some(Name(name)) = map.next_key()? {
                            match &*name {
                                $($name => object.$field = map.next_value()?,)*
                                _ => drop(map.next_value::<IgnoredAny>()?),
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Names)
            }
        }
    )*};
}

objects! {
    /// The whole record.
    Record { event: Fields<Event<'r>> = "event" }
    /// The event in it.
    Event {
        event_type: Field<'r> = "event_type",
        timestamp: Field<'r> = "timestamp",
        actor: Fields<Actor<'r>> = "actor",
        trace_id: Field<'r> = "trace_id",
        job_id: Field<'r> = "job_id",
        run_id: Field<'r> = "workflow_run_id",
        step_id: Field<'r> = "step_id",
        model_id: Field<'r> = "model_id",
        activity_span_id: Field<'r> = "activity_span_id",
        session_span_id: Field<'r> = "session_span_id",
        capability_id: Field<'r> = "capability_id",
        policy_decision_id: Field<'r> = "policy_decision_id",
        wsids: Field<'r> = "wsids",
        payload: Fields<Payload<'r>> = "payload",
    }
    /// Who did it.
    Actor { kind: Field<'r> = "kind", id: Field<'r> = "id" }
    /// What is particular to its type.
    Payload {
        decision_outcome: Field<'r> = "decision_outcome",
        reason: Field<'r> = "reason",
        layer: Field<'r> = "layer",
        would_deny: Field<'r> = "would_deny",
        interface: Field<'r> = "interface",
        function: Field<'r> = "function",
        resource: Field<'r> = "resource",
        attempt: Field<'r> = "attempt",
        call: Field<'r> = "call",
        result: Field<'r> = "result",
        error: Field<'r> = "error",
        duration_us: Field<'r> = "duration_us",
        editor_surface: Field<'r> = "editor_surface",
    }
}

/// The name of a field; borrowed when nothing in it is escaped.
struct Name<'r>(Cow<'r, str>);

impl<'r> Deserialize<'r> for Name<'r> {
    fn deserialize<D: Deserializer<'r>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'r> Visitor<'r> for Text {
            type Value = Name<'r>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'r str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Says what a visitor makes of everything that is not listed: nothing.
macro_rules! nothing {
    ($($visit:ident: $value:ty),*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        $(fn $visit<E>(self, _: $value) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })*
    };
}

impl<'r> Deserialize<'r> for Field<'r> {
    fn deserialize<D: Deserializer<'r>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'r> Visitor<'r> for Any {
            type Value = Field<'r>;
            nothing!(visit_f64: f64);
            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Field::Flag(flag))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Field::Number(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(i64::try_from(number).map_or(Field::Nothing, Field::Number))
            }
            fn visit_borrowed_str<E>(self, text: &'r str) -> Result<Self::Value, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'r>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Field::List(list))
            }
            fn visit_map<A: MapAccess<'r>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Nothing)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'r, T: Deserialize<'r> + Default> Deserialize<'r> for Fields<T> {
    fn deserialize<D: Deserializer<'r>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);
        impl<'r, T: Deserialize<'r> + Default> Visitor<'r> for Any<T> {
            type Value = Fields<T>;
            nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
            fn visit_seq<A: SeqAccess<'r>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Fields::default())
            }
            fn visit_map<A: MapAccess<'r>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Fields)
            }
        }
        deserializer.deserialize_any(Any(PhantomData))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Record<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_of_another_kind_than_its_column_is_nothing_and_what_stands_beside_it_is_read() {
        for odd in
            ["null", "true", "-7", "1e3", "18446744073709551615", r#""text""#, "[[1],{}]", r#"{"kind":{"id":[]}}"#]
        {
            let text = format!(
                r#"{{"seq":{odd},"event":{{"actor":{odd},"payload":{{"call":{odd},"x":{odd},"reason":"r"}},"wsids":["a",{odd}],"step_id":"s"}}}}"#
            );
            let Fields(event) = read(&text).event;
            assert_eq!((event.step_id.text(), event.payload.0.reason.text()), (Some("s"), Some("r")), "{odd}");
            assert_eq!(event.payload.0.call.number(), (odd == "-7").then_some(-7));
            assert_eq!(event.actor.0.id.text(), None);
            assert_eq!(event.wsids.list().unwrap()[0].text(), Some("a"));
            let whole = format!(r#"{{"event":{odd}}}"#);
            assert_eq!(read(&whole).event.0.step_id.text(), None);
        }
    }

    #[test]
    fn escapes_are_read_in_names_and_texts_and_the_last_of_a_name_counts() {
        let Fields(event) = read(r#"{"event":{"step_id":"one","st\u0065p_id":"t\nw\u00f6"}}"#).event;
        assert_eq!(event.step_id.text(), Some("t\nwö"));
    }
}
