//! What a route takes and answers, read off its handler's types: a description that cannot differ from what it describes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use handshake_core::token::Right;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::request::{Document, IdempotencyKey, Parameters};
use super::{Caller, Refusal};

/// The type of JSON.
const JSON: &str = "application/json";

/// One operation of the API.
#[derive(Debug, Default)]
pub(crate) struct Operation {
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    pub(super) answer: Option<Value>,
    pub(super) status: Option<u16>,
}

/// An operation, where it is and who may.
pub(crate) struct Described {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) right: Right,
    pub(super) summary: &'static str,
    pub(super) describe: fn(&mut SchemaGenerator, &mut Operation),
}

/// A part of a request that a handler takes.
pub(crate) trait Takes {
    /// Adds what it takes.
    fn describe(_: &mut SchemaGenerator, _: &mut Operation) {}
}

impl<S> Takes for State<S> {}
impl<T> Takes for Extension<T> {}
impl Takes for Caller {}
// Named by the path itself.
impl<T> Takes for Path<T> {}

impl Takes for IdempotencyKey {
    fn describe(_: &mut SchemaGenerator, operation: &mut Operation) {
        operation.parameters.push(json!({
            "name": "idempotency-key", "in": "header", "required": false, "schema": { "type": "string" },
            "description": "The same key gives the same job.",
        }));
    }
}

impl<T: JsonSchema> Takes for Document<T> {
    fn describe(generator: &mut SchemaGenerator, operation: &mut Operation) {
        operation.body = Some(generator.subschema_for::<T>().into());
    }
}

impl<T: JsonSchema> Takes for Parameters<T> {
    fn describe(generator: &mut SchemaGenerator, operation: &mut Operation) {
        let schema = T::json_schema(generator);
        let required: Vec<_> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().cloned().collect();
        let Some(Value::Object(properties)) = schema.get("properties") else { return };
        for (name, schema) in properties {
            let schema = &given(schema);
            let description = schema.get("description").cloned();
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)), "schema": schema,
            });
            if let (Some(description), Some(parameter)) = (description, parameter.as_object_mut()) {
                parameter.insert("description".to_owned(), description);
            }
            operation.parameters.push(parameter);
        }
    }
}

/// The schema of a parameter that is given: one that is left out is not null, but left out.
fn given(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(members) = schema.as_object_mut() else { return schema };
    if members.get("default").is_some_and(Value::is_null) {
        members.remove("default");
    }
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|name| name != "null");
    }
    if let Some(Value::Array(any)) = members.get_mut("anyOf") {
        any.retain(|one| one["type"] != "null");
    }
    schema
}

/// What a handler answers.
pub(crate) trait Answers {
    /// Adds it.
    fn describe(_: &mut SchemaGenerator, _: &mut Operation) {}
}

/// Its form is told by words alone: a stream, a file.
impl Answers for Response {}

impl<T: JsonSchema> Answers for Json<T> {
    fn describe(generator: &mut SchemaGenerator, operation: &mut Operation) {
        operation.answer = Some(generator.subschema_for::<T>().into());
    }
}

impl<T: Answers> Answers for (StatusCode, T) {
    fn describe(generator: &mut SchemaGenerator, operation: &mut Operation) {
        operation.status = Some(StatusCode::CREATED.as_u16());
        T::describe(generator, operation);
    }
}

impl<T: Answers> Answers for Result<T, Refusal> {
    fn describe(generator: &mut SchemaGenerator, operation: &mut Operation) {
        T::describe(generator, operation);
    }
}

/// A handler whose types say what it takes and answers.
pub(crate) trait Documented<Taken> {
    /// Adds it.
    fn describe(generator: &mut SchemaGenerator, operation: &mut Operation);
}

macro_rules! documented {
    ($($taken:ident)*) => {
        impl<F, Answered, Given, $($taken,)*> Documented<($($taken,)*)> for F
        where
            F: Fn($($taken),*) -> Answered,
            Answered: Future<Output = Given>,
            Given: Answers,
            $($taken: Takes,)*
        {
            fn describe(generator: &mut SchemaGenerator, operation: &mut Operation) {
                $($taken::describe(generator, operation);)*
                Given::describe(generator, operation);
            }
        }
    };
}

documented!();
documented!(A);
documented!(A B);
documented!(A B C);
documented!(A B C D);
documented!(A B C D E);

impl Described {
    /// As OpenAPI writes an operation.
    pub(super) fn document(&self, generator: &mut SchemaGenerator) -> Value {
        let mut operation = Operation::default();
        (self.describe)(generator, &mut operation);
        for name in self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            operation.parameters.push(json!({
                "name": name, "in": "path", "required": true, "schema": { "type": "string" },
            }));
        }
        let answer = match &operation.answer {
            Some(schema) => json!({ "description": "Done", "content": { JSON: { "schema": schema } } }),
            None => json!({ "description": "Done; the form is told in the documentation" }),
        };
        // What answers in a form of its own says its status by itself.
        let status = match (&operation.answer, operation.status) {
            (None, None) => "2XX".to_owned(),
            (_, status) => status.unwrap_or(200).to_string(),
        };
        let mut responses = Map::from_iter([(status, answer)]);
        responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Refused" }));
        let mut document = json!({
            "summary": self.summary,
            "operationId": self.id(),
            "tags": [self.path.split('/').nth(1).unwrap_or_default()],
            "parameters": operation.parameters,
            "responses": responses,
            "x-roles": super::caller::roles_with(self.right),
        });
        if let (Some(schema), Some(document)) = (operation.body, document.as_object_mut()) {
            let body = json!({ "required": true, "content": { JSON: { "schema": schema } } });
            document.insert("requestBody".to_owned(), body);
        }
        document
    }

    /// For example `get_jobs_id`.
    fn id(&self) -> String {
        let path = self.path.replace(['{', '}'], "").replace(['/', '-'], "_");
        format!("{}{path}", self.method)
    }
}
