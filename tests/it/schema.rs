//! The files in `schemas/` equal the code's schemas, and messages are valid. An independent crate
//! validates them.

use std::fs;
use std::path::{Path, PathBuf};

use dog_iqa::event::{Headers, QualityEvent, cloudevent_headers, reference, schema};
use dog_iqa::serve;
use jsonschema::Validator;
use serde_json::{Value, json};

const WRITE_COMMAND: &str = "write the files again with `cargo run -- schema --write schemas`";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

/// Returns all documents of `schemas`.
fn documents() -> Vec<(String, Value)> {
    let openapi = ("openapi.json".to_owned(), serve::openapi());
    schema::documents().into_iter().chain([openapi]).collect()
}

fn document(name: &str) -> Value {
    let found = documents().into_iter().find(|(candidate, _)| candidate == name);
    found.unwrap_or_else(|| panic!("no document {name}")).1
}

fn validator(schema: &Value) -> Validator {
    let options = jsonschema::options().should_validate_formats(true);
    options.build(schema).expect("the schema is a schema")
}

fn check(schema: &Value, message: &Value, is_valid: bool) {
    let errors: Vec<String> =
        validator(schema).iter_errors(message).map(|error| error.to_string()).collect();
    assert_eq!(errors.is_empty(), is_valid, "{errors:#?} in {message:#}");
}

#[test]
fn the_files_equal_the_schemas_of_the_code() {
    let mut written = Vec::new();
    for (name, document) in documents() {
        let path = folder().join(&name);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("schemas/{name}: {error}; {WRITE_COMMAND}"));
        let file: Value = serde_json::from_str(&text).unwrap();
        assert!(file == document, "schemas/{name} differs from the code; {WRITE_COMMAND}");
        written.push(path);
    }
    for path in [folder(), folder().join("examples")] {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let is_document = path.extension().is_some_and(|extension| extension == "json");
            assert!(
                !is_document || written.contains(&path),
                "the code does not write {}",
                path.display()
            );
        }
    }
}

#[test]
fn every_schema_is_valid_in_its_dialect() {
    for (name, document) in schema::documents() {
        if name.ends_with(".schema.json") {
            assert!(jsonschema::draft202012::meta::is_valid(&document), "{name}");
        }
    }
}

#[test]
fn the_examples_are_valid_messages() {
    for (schema, example) in [
        ("image-reference.schema.json", "examples/image-reference-smallest.json"),
        ("image-reference.schema.json", "examples/image-reference.json"),
        ("quality-event.schema.json", "examples/quality-event.json"),
        ("quality-event-headers.schema.json", "examples/quality-event-headers.json"),
        ("dead-letter-headers.schema.json", "examples/dead-letter-headers.json"),
    ] {
        check(&document(schema), &document(example), true);
    }
}

#[test]
fn the_readers_accept_the_examples() {
    for name in ["image-reference-smallest", "image-reference"] {
        let payload = document(&format!("examples/{name}.json")).to_string();
        let reference = reference::parse(&Headers::default(), payload.as_bytes()).unwrap();
        assert_eq!(reference.uri, "s3://photos/2026/coffee.jpg");
    }
    let structured = [("content-type".to_owned(), "application/cloudevents+json".to_owned())];
    let payload = document("examples/image-reference-cloudevent.json").to_string();
    let reference =
        reference::parse(&structured.into_iter().collect(), payload.as_bytes()).unwrap();
    assert_eq!(reference.id, "upload-4711");

    let example = document("examples/quality-event.json");
    let event: QualityEvent = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(json!(event), example);
}

#[test]
fn the_reader_refuses_every_reference_that_the_schema_refuses() {
    let schema = document("image-reference.schema.json");
    for bad in [
        json!("s3://a/b"),
        json!({}),
        json!({ "uri": null }),
        json!({ "uri": "" }),
        json!({ "uri": 7 }),
        json!({ "uri": "s3://a/b", "id": 7 }),
        json!({ "uri": "s3://a/b", "id": "" }),
        json!({ "uri": "s3://a/b", "sha256": "abc" }),
        json!({ "uri": "s3://a/b", "metadata": [] }),
        json!({ "uri": "s3://a/b", "policy": "x".repeat(129) }),
        json!({ "uri": "x".repeat(8193) }),
    ] {
        check(&schema, &bad, false);
        let parsed = reference::parse(&Headers::default(), bad.to_string().as_bytes());
        assert!(parsed.is_err(), "{bad}");
    }
    for good in [
        json!({ "uri": "s3://a/b", "id": null, "etag": null, "sha256": null, "policy": null }),
        json!({ "uri": "s3://a/b", "metadata": { "a": [1, {}] }, "of the future": true }),
        json!({ "uri": "é".repeat(8192) }),
    ] {
        check(&schema, &good, true);
        assert!(reference::parse(&Headers::default(), good.to_string().as_bytes()).is_ok());
    }
}

#[test]
fn the_schema_refuses_invalid_events() {
    let schema = document("quality-event.schema.json");
    let example = document("examples/quality-event.json");
    for (pointer, value) in [
        ("/schema_version", json!(2)),
        ("/event_id", json!("not an id")),
        ("/event_time", json!("yesterday")),
        ("/score", json!("5")),
        ("/global/level", json!(10)),
        ("/global/probabilities", json!([1.0])),
        ("/global/probabilities/0", json!(1.5)),
        ("/objects/0/kind", json!("thing")),
        ("/objects/0/bbox", json!([0, 0, 10])),
        ("/objects/0/bbox/0", json!(-1)),
        ("/objects/0/area", json!(-1)),
        ("/objects/0/mask", json!({ "size": [480, 640] })),
        ("/verdict/outcome", json!("perhaps")),
        ("/image/sha256", json!("ABC")),
        ("/segmentation/coverage", json!(1.1)),
        ("/source/offset", json!("12")),
        ("/measures/0/better", json!("closer")),
        ("/measures/0/value", json!("3.62")),
        ("/measures/0/reason", json!("a reason next to a value")),
        ("/measures/0", json!({ "name": "niqe", "better": "lower", "version": "1" })),
        ("/timings_ms/measure", json!(-1)),
    ] {
        let mut broken = example.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match broken.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
            // The example lacks a field that must not be there.
            Value::Object(fields) => drop(fields.insert(field.to_owned(), value)),
            Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
            other => panic!("{parent} is {other}"),
        }
        check(&schema, &broken, false);
    }
    let required = schema["required"].as_array().unwrap();
    assert!(required.len() >= 12, "{required:?}");
    for field in required {
        let mut broken = example.clone();
        broken.as_object_mut().unwrap().remove(field.as_str().unwrap());
        check(&schema, &broken, false);
    }
}

#[test]
fn unknown_values_are_omitted_from_an_event() {
    let mut event: QualityEvent =
        serde_json::from_value(document("examples/quality-event.json")).unwrap();
    event.local = None;
    event.verdict = None;
    event.source = None;
    event.reference.metadata = None;
    event.objects.clear();
    event.measures.clear();
    event.timings_ms.measure = None;
    let bare = json!(event);
    assert!(!bare.to_string().contains("null"), "{bare:#}");
    check(&document("quality-event.schema.json"), &bare, true);
    assert_eq!(serde_json::from_value::<QualityEvent>(bare).unwrap(), event);
}

#[test]
fn the_schemas_refuse_incomplete_headers() {
    for (schema, example) in [
        ("quality-event-headers.schema.json", "examples/quality-event-headers.json"),
        ("dead-letter-headers.schema.json", "examples/dead-letter-headers.json"),
    ] {
        let schema = document(schema);
        for name in schema["required"].as_array().unwrap() {
            let mut broken = document(example);
            broken.as_object_mut().unwrap().remove(name.as_str().unwrap());
            check(&schema, &broken, false);
        }
    }
}

#[test]
fn the_headers_of_an_event_are_valid() {
    let event: QualityEvent =
        serde_json::from_value(document("examples/quality-event.json")).unwrap();
    let headers: serde_json::Map<String, Value> = cloudevent_headers::headers_for(&event, None)
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    check(&document("quality-event-headers.schema.json"), &Value::Object(headers), true);
}

#[test]
fn the_asyncapi_document_is_valid() {
    let meta: Value =
        serde_json::from_str(include_str!("../goldens/asyncapi/3.0.0-kafka.json")).unwrap();
    let document = document("asyncapi.json");
    check(&meta, &document, true);

    let mut broken = document.clone();
    broken["channels"]["imageQuality"]["bindings"]["kafka"]["partition"] = json!(3);
    check(&meta, &broken, false);
    let mut broken = document;
    broken["operations"]["sendQualityEvent"]["action"] = json!("publish");
    check(&meta, &broken, false);
}

#[test]
fn the_openapi_document_is_valid() {
    let meta: Value = serde_json::from_str(include_str!("../goldens/openapi/3.1.json")).unwrap();
    let document = document("openapi.json");
    check(&meta, &document, true);
    let mut broken = document.clone();
    broken["paths"]["/v1/score"]["post"]["parameters"][0]["in"] = json!("body");
    check(&meta, &broken, false);
    assert!(references_that_hold(&document) > 20);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
    }
}

/// The meta schema checks neither references nor examples: each reference must have a target, and
/// each example must be a valid message.
#[test]
fn references_and_examples_inside_the_asyncapi_document_hold() {
    let document = document("asyncapi.json");
    let references = references_that_hold(&document);
    assert!(references > 10, "only {references} references");

    for (name, message) in document["components"]["messages"].as_object().unwrap() {
        for part in ["payload", "headers"] {
            let Some(schema) = message.get(part) else { continue };
            let mut schema = schema.clone();
            schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
            if let Some(reference) = schema.as_object_mut().unwrap().remove("$ref") {
                // In draft 7 a `$ref` hides the other members of its object.
                schema["allOf"] = json!([{ "$ref": reference }]);
            }
            schema["components"] = document["components"].clone();
            let examples = message["examples"].as_array().unwrap();
            assert!(!examples.is_empty(), "{name}");
            for example in examples.iter().filter_map(|example| example.get(part)) {
                check(&schema, example, true);
            }
        }
    }
}

/// Asserts that each reference inside a document has a target, and returns their number.
fn references_that_hold(document: &Value) -> usize {
    let mut pending = vec![document];
    let mut references = 0;
    while let Some(node) = pending.pop() {
        match node {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} has no target");
                    references += 1;
                }
                pending.extend(fields.values());
            }
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
    references
}
