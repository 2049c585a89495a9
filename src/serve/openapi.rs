//! The API as an `OpenAPI` 3.1 document. Its schemas are those of the types that are read and
//! written.

use std::sync::LazyLock;

use axum::http::header;
use bytes::Bytes;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::event::{ImageReference, QualityEvent};
use crate::http_server::HEAD_BYTES_MAX;
use crate::serve::problem::{PROBLEM_TYPE, Problem};
use crate::serve::request::{API_KEY, DEADLINE};
use crate::serve::request_context::{REQUEST_ID, TRACEPARENT, TRACESTATE};

/// Path of the schemas within the document.
const SCHEMAS: &str = "/components/schemas";

/// The problems of a request to score an image: their status and their cause.
const PROBLEMS: [(u16, &str); 12] = [
    (400, "Not HTTP/1.1 (then without a body), or an unusable query, header, reference or policy."),
    (401, "The key is missing or unknown."),
    (404, "The object of the reference does not exist."),
    (408, "Nothing of the body arrived for 10 seconds, or it was slower than the server allows."),
    (413, "The body, the object or the picture is too large."),
    (415, "The body is not an image of a supported format, or is encoded."),
    FOREIGN_HOST,
    (422, "The image is damaged, or the reference may not be read."),
    (429, "Too many requests wait."),
    (500, "The model failed on this image."),
    (503, "A store, the scoring server or this server is unavailable."),
    (504, "The deadline has passed, or a stage took longer than its limit."),
];
const FOREIGN_HOST: (u16, &str) =
    (421, "Without keys, the server answers requests to names of its own machine only.");

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
                            quality event that the worker publishes for a reference from Kafka. \
                            Other paths and methods are answered with the responses `NotFound` \
                            and `MethodNotAllowed`.",
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
                "responses": {
                    "200": {
                        "description": "An OpenAPI 3.1 document.",
                        "headers": headers(200),
                        "content": { "application/json": { "schema": { "type": "object" } } }
                    },
                    "421": problem(FOREIGN_HOST.0, FOREIGN_HOST.1),
                    "431": large_head()
                }
            } }
        },
        "components": {
            "schemas": schemas(),
            "responses": {
                "NotFound": problem(404, "There is no such path."),
                "MethodNotAllowed": problem(405, "The path has other methods.")
            },
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
            "headers": headers(200),
            "content": { "application/json": { "schema": schema_of("QualityEvent") } }
        }),
    );
    for (status, description) in PROBLEMS {
        responses.insert(status.to_string(), problem(status, description));
    }
    responses.insert("431".to_owned(), large_head());
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
            parameter("header", TRACEPARENT.as_str(), "W3C trace context.",
                       json!({ "type": "string" })),
            parameter("header", TRACESTATE.as_str(), "W3C trace context of the vendors, used with \
                       `traceparent` only.", json!({ "type": "string" }))
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

fn problem(status: u16, description: &str) -> Value {
    json!({
        "description": description,
        "headers": headers(status),
        "content": { PROBLEM_TYPE: { "schema": schema_of("Problem") } }
    })
}

/// Returns the response to headers that the connection refuses before they are a request.
fn large_head() -> Value {
    let size = HEAD_BYTES_MAX >> 10;
    json!({
        "description": format!(
            "The request headers are too large. Up to {size} KiB and 100 headers are always \
             accepted, more than {} KiB or 100 headers never. This response has no body.",
            2 * size
        )
    })
}

/// Returns the headers of a response besides those of HTTP itself.
fn headers(status: u16) -> Value {
    let text = json!({ "type": "string" });
    let header = |is_sent: bool, description: &str, schema: &Value| json!({ "description": description, "required": is_sent, "schema": schema });
    let mut headers = json!({
        REQUEST_ID.as_str(): header(true, "Id of the request.", &text),
        TRACEPARENT.as_str():
            header(true, "The trace of the request, with the span of this service.", &text),
        TRACESTATE.as_str(): header(false, "As the request had it.", &text)
    });
    let own = match status {
        401 => Some((header::WWW_AUTHENTICATE, "The scheme of the keys.", text)),
        405 => Some((header::ALLOW, "The methods of the path.", text)),
        429 | 503 => Some((
            header::RETRY_AFTER,
            "Seconds after which to try again.",
            json!({ "type": "integer", "minimum": 1 }),
        )),
        _ => None,
    };
    if let Some((name, description, schema)) = own {
        headers[name.as_str()] = header(true, description, &schema);
    }
    headers
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
