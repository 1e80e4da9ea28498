//! The JSON Schema of events, and the rule by which it may change.
//!
//! The version grows by one digit behind the point when something is added, and never any other way: readers pass
//! over what they do not know, so all versions 0.x can be read by whoever knows 0.1.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use super::{EventType, StoredEvent};

/// Version of the types of events. `0.2` would have more of them, or more optional fields.
pub const EVENTS_VERSION: &str = "0.1";

/// One document for all types: what every stored event conforms to.
pub fn events_schema() -> Schema {
    let mut schema = SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<StoredEvent>();
    schema.insert("title".to_owned(), Value::from("Events of the Handshake flight recorder"));
    schema.insert("version".to_owned(), Value::from(EVENTS_VERSION));
    let aliases = EventType::ALL.iter().map(|kind| (kind.as_str().to_owned(), Value::from(kind.alias())));
    schema.insert("x-aliases".to_owned(), Value::Object(aliases.collect()));
    schema
}
