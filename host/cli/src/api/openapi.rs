//! The API's description: OpenAPI 3.1, made from the routes.

use axum::Json;
use axum::extract::State;
use handshake_core::token::Right;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{PREFIX, Routes, everything};
use crate::error::ErrorDocument;

/// Where components are within the document.
const COMPONENTS: &str = "#/components/schemas";

pub(super) fn routes() -> Routes {
    Routes::new().get(Right::See, "/openapi.json", "This description", describe)
}

async fn describe(_: State<std::sync::Arc<crate::host::HostState>>) -> Json<Value> {
    Json(document())
}

/// The whole document.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = COMPONENTS.trim_start_matches('#').into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for described in everything().operations() {
        let path = paths.entry(format!("{PREFIX}{}", described.path)).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(described.method.to_owned(), described.document(&mut generator));
        }
    }
    let error: Value = generator.subschema_for::<ErrorDocument>().into();
    let refused = json!({
        "description": "It was refused, or failed: 400 wrong input, 401 no token that counts, 403 not allowed, 404 not there, \
                        409 not as things stand, 413 too large, 429 too often, 503 not now",
        "content": { "application/json": { "schema": error } },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Handshake",
            "version": crate::VERSION,
            "description": "Fields and operations are added over time, never renamed or given another meaning.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": { "Refused": refused },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "token": [] }],
    })
}
