//! `/v1/openapi.json`: the API described for programs, OpenAPI 3.1.
//!
//! What is answered is described by the very types that are written as the answer; what may be asked stands in a table (`paths`). A test
//! holds the table against the routes, method by method, so that neither can have what the other has not.

mod paths;

use std::sync::OnceLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use self::paths::{Answer, Operation, Place, Shape};
use super::backend::{ConsumerView, LetterView, Settled, StreamView};
use super::operations::{ClientDetail, ClientView, Logging, RetainedView, Status, TopicsView};
use crate::admin::problem::Document;
use crate::admin::{Reloaded, SinkStatus};
use crate::event_view::EventView;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) async fn show() -> Response {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let text = DOCUMENT.get_or_init(|| document().to_string());
    ([(header::CONTENT_TYPE, JSON)], text.as_str()).into_response()
}

/// The whole description.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in paths::all() {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(operation.method.to_owned(), described(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gateway admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Clients, streams, consumers, dead letters and sinks of a running gateway. There is no authentication: who \
                            reaches the admin listener may do everything. What changes something is on stable storage before it is \
                            answered. A request that is not done is answered with a problem document (RFC 9457).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn schemas() -> Value {
    let mut all: Vec<(String, RefOr<Schema>)> = Vec::new();
    add::<ClientDetail>(&mut all);
    add::<ClientView>(&mut all);
    add::<ConsumerView>(&mut all);
    add::<Document>(&mut all);
    add::<EventView>(&mut all);
    add::<LetterView>(&mut all);
    add::<Logging>(&mut all);
    add::<Reloaded>(&mut all);
    add::<RetainedView>(&mut all);
    add::<Settled>(&mut all);
    add::<SinkStatus>(&mut all);
    add::<Status>(&mut all);
    add::<StreamView>(&mut all);
    add::<TopicsView>(&mut all);
    let schemas =
        all.into_iter().map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()));
    Value::Object(schemas.collect())
}

/// A type, and those it is made of.
fn add<T: ToSchema>(all: &mut Vec<(String, RefOr<Schema>)>) {
    all.push((T::name().into_owned(), <T as PartialSchema>::schema()));
    T::schemas(all);
}

fn described(operation: &Operation) -> Value {
    let names = operation.path.split(['{', '}']).skip(1).step_by(2);
    let in_path = names.map(|name| {
        let shape = if name == "offset" { Shape::Integer } else { Shape::Text };
        json!({ "name": name, "in": "path", "required": true, "schema": shape.schema() })
    });
    let in_query = operation.fields.iter().filter(|_| operation.place == Place::Query).map(|field| {
        let (name, schema) = (field.name, field.shape.schema());
        json!({ "name": name, "in": "query", "required": field.required, "description": field.meaning, "schema": schema })
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let mut responses = Map::new();
    for status in operation.statuses {
        let mut response = json!({ "description": operation.summary });
        if let Some(content) = content(&operation.answer)
            && let Some(response) = response.as_object_mut()
        {
            response.insert("content".to_owned(), content);
        }
        responses.insert(status.to_string(), response);
    }
    responses.insert(
        "default".to_owned(),
        json!({
            "description": "It was not done; the document says why.",
            "content": { "application/problem+json": { "schema": reference("Document") } },
        }),
    );
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": responses,
    });
    if operation.place == Place::Body
        && let Some(described) = described.as_object_mut()
    {
        described.insert("requestBody".to_owned(), body(operation));
    }
    described
}

fn body(operation: &Operation) -> Value {
    let properties = operation.fields.iter().map(|field| {
        let mut schema = field.shape.schema();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), field.meaning.into());
        }
        (field.name.to_owned(), schema)
    });
    let required: Vec<&str> =
        operation.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({
        "required": !required.is_empty(),
        "content": { "application/json": { "schema": {
            "type": "object",
            "properties": Value::Object(properties.collect()),
            "required": required,
            "additionalProperties": false,
        } } },
    })
}

fn content(answer: &Answer) -> Option<Value> {
    Some(match answer {
        Answer::Nothing => return None,
        Answer::One(name) => json!({ "application/json": { "schema": reference(name) } }),
        Answer::Page(key, name) => json!({ "application/json": { "schema": {
            "type": "object",
            "properties": {
                *key: { "type": "array", "items": reference(name) },
                "next": { "type": ["string", "null"], "description": "What to say as `after` for the next page; null: there is none." },
            },
            "required": [key],
        } } }),
        Answer::Draining => json!({ "application/json": { "schema": {
            "type": "object",
            "properties": {
                "draining": { "type": "boolean" },
                "connections": { "type": "integer", "minimum": 0, "description": "How many are open just now." },
                "server_reference": { "type": ["string", "null"] },
            },
            "required": ["draining", "connections", "server_reference"],
        } } }),
        Answer::Count(key) => json!({ "application/json": { "schema": {
            "type": "object",
            "properties": { *key: { "type": "integer", "minimum": 0 } },
            "required": [key],
        } } }),
        Answer::Word(key) => json!({ "application/json": { "schema": {
            "type": "object",
            "properties": { *key: { "type": "string" } },
            "required": [key],
        } } }),
        Answer::Events => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
        Answer::Lines => json!({ "application/x-ndjson": { "schema": { "type": "string" } } }),
        Answer::Description => json!({ "application/json": { "schema": { "type": "object" } } }),
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

#[cfg(test)]
mod tests;
