//! The API as an `OpenAPI` 3.1 document. Its schemas are those of the types that are read and
//! written.

use std::sync::LazyLock;

use bytes::Bytes;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::event::{ImageReference, QualityEvent};
use crate::serve::problem::{PROBLEM_TYPE, Problem};
use crate::serve::request::{API_KEY, DEADLINE};
use crate::serve::request_context::REQUEST_ID;

/// Path of the schemas within the document.
const SCHEMAS: &str = "/components/schemas";

/// The problems of a request: their status and their cause.
const PROBLEMS: [(u16, &str); 13] = [
    (400, "The query, a header, the reference or the policy is not usable."),
    (401, "The key is missing or unknown."),
    (404, "The object of the reference does not exist."),
    (408, "Nothing of the body arrived for 10 seconds, or it was slower than the server allows."),
    (413, "The body, the object or the picture is too large."),
    (415, "The body is not an image of a supported format, or is encoded."),
    (421, "Without keys, the server answers requests to names of its own machine only."),
    (422, "The image is damaged, or the reference may not be read."),
    (429, "Too many requests wait. `retry-after` has the seconds after which to try again."),
    (431, "The head of the request is larger than 32 KiB. This response has no body."),
    (500, "The model failed on this image."),
    (503, "A store, the scoring server or this server is unavailable; see `retry-after`."),
    (504, "The deadline has passed, or a stage took longer than its limit."),
];

/// The document as it is sent. Generating it takes milliseconds.
pub(crate) static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// Returns the document.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Dog-IQA",
            "version": "1.0.0",
            "description": "Scores an image as a whole and each object in it. The response is the \
                            quality event that the worker publishes for a reference from Kafka.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "key": [] }, {}],
        "paths": {
            "/v1/score": { "post": score() },
            "/v1/openapi.json": { "get": {
                "operationId": "openapi",
                "summary": "This document",
                "security": [{}],
                "responses": { "200": {
                    "description": "An OpenAPI 3.1 document.",
                    "content": { "application/json": { "schema": { "type": "object" } } }
                } }
            } }
        },
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": API_KEY.as_str() }
            }
        }
    })
}

fn score() -> Value {
    let parameter = |place: &str, name: &str, description: &str, schema: Value| json!({ "in": place, "name": name, "description": description, "schema": schema });
    let text = || json!({ "type": "string", "minLength": 1 });
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({
            "description": "The quality event.",
            "headers": response_headers(),
            "content": { "application/json": { "schema": schema_of("QualityEvent") } }
        }),
    );
    for (status, description) in PROBLEMS {
        let mut response = json!({ "description": description });
        if status != 431 {
            response["headers"] = response_headers();
            response["content"] = json!({ PROBLEM_TYPE: { "schema": schema_of("Problem") } });
        }
        responses.insert(status.to_string(), response);
    }
    json!({
        "operationId": "score",
        "summary": "Score one image",
        "description": "The body is an image reference as JSON, or the bytes of an image with any \
                        other content type. Send `expect: 100-continue` with a large image, so that \
                        it is not sent in vain.",
        "parameters": [
            parameter("query", "policy", "Policy that judges the image. Default: that of the \
                       reference, or the configured one.", text()),
            parameter("query", "id", "The sender's name for the image. Default: that of the \
                       reference, or the digest of the bytes.", text()),
            parameter("header", DEADLINE.as_str(), "Milliseconds after which the answer is not \
                       needed any more. `serve.deadline_max` bounds it. Default: `serve.deadline`.",
                       json!({ "type": "integer", "minimum": 1 })),
            parameter("header", REQUEST_ID.as_str(), "Id of the request, returned with the \
                       response and logged.", json!({ "type": "string", "maxLength": 128 })),
            parameter("header", "traceparent", "W3C trace context.", json!({ "type": "string" }))
        ],
        "requestBody": {
            "required": true,
            "content": {
                "application/json": { "schema": schema_of("ImageReference") },
                "application/cloudevents+json": { "schema": { "type": "object" } },
                "image/*": {},
                "application/octet-stream": {}
            }
        },
        "responses": responses
    })
}

fn response_headers() -> Value {
    let header =
        |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    json!({
        REQUEST_ID.as_str(): header("Id of the request."),
        "traceparent": header("The trace of the request, with the span of this service.")
    })
}

fn schema_of(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/{name}") })
}

/// Returns the schemas of the reference as it is read, and of event and problem as they are
/// written.
fn schemas() -> Map<String, Value> {
    let settings = || SchemaSettings::draft2020_12().with(|s| s.definitions_path = SCHEMAS.into());
    let mut read = settings().into_generator();
    read.subschema_for::<ImageReference>();
    let mut written = settings().for_serialize().into_generator();
    written.subschema_for::<QualityEvent>();
    written.subschema_for::<Problem>();
    let mut schemas = read.take_definitions(true);
    schemas.extend(written.take_definitions(true));
    schemas
}
