//! References in every form: plain, as CloudEvents in both modes, and invalid.

use base64::Engine as _;
use dog_iqa::event::reference::{
    METADATA_BYTES_MAX, METADATA_VALUES_MAX, PAYLOAD_BYTES_MAX, parse,
};
use dog_iqa::event::{Headers, ImageReference, ReferenceError};
use proptest::prelude::*;
use serde_json::{Value, json};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn binary(pairs: &[(&str, &str)]) -> Headers {
    let marks = [
        ("ce_specversion", "1.0"),
        ("ce_id", "from-envelope"),
        ("ce_source", "/uploads"),
        ("ce_type", "uploaded"),
    ];
    headers(&[&marks, pairs].concat())
}

fn bare(json: &Value) -> Result<ImageReference, ReferenceError> {
    parse(&Headers::default(), json.to_string().as_bytes())
}

fn structured(json: &Value) -> Result<ImageReference, ReferenceError> {
    let headers = headers(&[("content-type", "application/cloudevents+json; charset=UTF-8")]);
    parse(&headers, json.to_string().as_bytes())
}

fn envelope(data: &Value) -> Value {
    json!({ "specversion": "1.0", "id": "from-envelope", "source": "/", "type": "t", "data": data })
}

#[test]
fn a_uri_is_enough() {
    let reference = bare(&json!({ "uri": "s3://photos/a.jpg" })).unwrap();
    assert_eq!(reference, ImageReference::new("s3://photos/a.jpg"));
    assert_eq!(reference.id, "s3://photos/a.jpg");
}

#[test]
fn every_field_is_read_and_unknown_ones_are_ignored() {
    let json = json!({
        "uri": "s3://photos/a.jpg", "id": "a", "etag": "\"e\"", "sha256": "AB".repeat(32),
        "policy": "shop", "metadata": { "n": 1, "deep": { "list": [null] } }, "later": { "x": 1 },
    });
    let reference = bare(&json).unwrap();
    assert_eq!(reference.id, "a");
    assert_eq!(reference.etag.as_deref(), Some("\"e\""));
    assert_eq!(reference.sha256, Some("ab".repeat(32)), "lower case, for comparison");
    assert_eq!(reference.policy.as_deref(), Some("shop"));
    assert_eq!(Value::Object(reference.metadata.unwrap().to_map()), json["metadata"]);
    assert!(reference.mistaken_fields.is_empty());
}

#[test]
fn metadata_pass_through_digit_for_digit_in_every_envelope() {
    let metadata = r#"{"price":1.10,"id":123456789012345678901234567890,"e":1E5,"text":"a  b"}"#;
    let data = format!("{{\"uri\": \"s3://a/b\",\n \"metadata\" : {metadata} }}");
    let base64 = base64::prelude::BASE64_STANDARD.encode(&data);
    let event = |field: &str| format!("{{\"specversion\": \"1.0\", \"id\": \"i\", {field}}}");
    let structured = headers(&[("content-type", "application/cloudevents+json")]);
    for (headers, payload) in [
        (Headers::default(), data.clone()),
        (binary(&[]), data.clone()),
        (structured.clone(), event(&format!("\"data\": {data}"))),
        (structured, event(&format!("\"data_base64\": \"{base64}\""))),
    ] {
        let reference = parse(&headers, payload.as_bytes()).unwrap();
        assert_eq!(reference.metadata.unwrap().as_str(), metadata);
    }
}

#[test]
fn the_frame_of_a_schema_registry_is_skipped_in_every_envelope() {
    let framed = |json: Value| [&[0, 0, 0, 0, 9][..], json.to_string().as_bytes()].concat();
    let plain = json!({ "uri": "s3://a/b" });
    let structured = headers(&[("content-type", "application/cloudevents+json")]);
    for (headers, payload) in [
        (Headers::default(), framed(plain.clone())),
        (binary(&[]), framed(plain.clone())),
        (structured, framed(envelope(&plain))),
    ] {
        assert_eq!(parse(&headers, &payload).unwrap().uri, "s3://a/b");
    }
    let error = parse(&Headers::default(), b"\0\0\0\0\x09\x02\x10s3://a/b").unwrap_err();
    assert_eq!(error.code(), "reference.unsupported_encoding");
}

#[test]
fn a_field_that_looks_like_a_mistake_is_named() {
    for (json, named) in [
        (json!({ "url": "s3://a/b" }), "\"url\""),
        (json!({ "bucket": "a", "size": 7 }), "\"bucket\""),
        (json!({ "imageUrl": "s3://a/b" }), "\"imageUrl\""),
        (json!({ "URI": "s3://a/b" }), "\"URI\""),
    ] {
        let error = bare(&json).unwrap_err();
        assert_eq!(error.code(), "reference.missing_uri");
        assert!(error.to_string().contains(named), "{error}");
    }
    let json = json!({ "uri": "s3://a/b", "Bucket": "a", "e_tag": "x", "size": 7, "key": null });
    let mut mistaken = bare(&json).unwrap().mistaken_fields;
    mistaken.sort_unstable();
    assert_eq!(mistaken, ["bucket", "etag"]);
}

#[test]
fn a_misspelt_version_is_refused() {
    let version = "3HL4kqtJlcpXroDTDmJ";
    let reference = bare(&json!({ "uri": "s3://a/b", "version_id": version })).unwrap();
    assert_eq!(reference.version_id.as_deref(), Some(version));
    for name in ["versionId", "version-id", "VersionId"] {
        let error = bare(&json!({ "uri": "s3://a/b", name: version })).unwrap_err();
        assert_eq!(error.code(), "reference.unsupported_field");
        assert!(error.to_string().contains(name), "{error}");
        assert!(bare(&json!({ "uri": "s3://a/b", name: null })).is_ok());
    }
}

#[test]
fn a_reference_survives_its_own_json() {
    let mut reference = ImageReference::new("file:///photos/é.png");
    reference.policy = Some("web".to_owned());
    assert_eq!(bare(&json!(reference)).unwrap(), reference);
}

#[test]
fn an_invalid_reference_has_a_code_and_a_message() {
    for (payload, code, words) in [
        ("", "reference.invalid_json", "EOF"),
        ("not json", "reference.invalid_json", "line 1"),
        ("{\"uri\": \"a\"} trailing", "reference.invalid_json", "trailing"),
        ("\"s3://a/b\"", "reference.not_an_object", "a string"),
        ("[]", "reference.not_an_object", "an array"),
        ("null", "reference.not_an_object", "null"),
        ("{}", "reference.missing_uri", "no uri"),
        ("{\"uri\": null}", "reference.missing_uri", "no uri"),
        ("{\"uri\": 5}", "reference.invalid_field", "uri is a number, it must be a string"),
        ("{\"uri\": \"\"}", "reference.invalid_field", "uri is empty"),
        ("{\"uri\": \"a\", \"id\": {}}", "reference.invalid_field", "id is an object"),
        ("{\"uri\": \"a\", \"etag\": [1]}", "reference.invalid_field", "etag is an array"),
        ("{\"uri\": \"a\", \"policy\": true}", "reference.invalid_field", "policy is a boolean"),
        (
            "{\"uri\": \"a\", \"metadata\": \"m\"}",
            "reference.invalid_field",
            "metadata is a string",
        ),
        ("{\"uri\": \"a\", \"sha256\": \"12\"}", "reference.invalid_sha256", "64 hexadecimal"),
    ] {
        let error = parse(&Headers::default(), payload.as_bytes()).unwrap_err();
        assert_eq!(error.code(), code, "{payload}");
        assert!(error.to_string().contains(words), "{payload}: {error}");
    }
    let error = parse(&Headers::default(), b"\xff\xfe").unwrap_err();
    assert_eq!(error.code(), "reference.invalid_json");
}

#[test]
fn a_reference_above_a_limit_is_refused() {
    let code = |json: Value| bare(&json).unwrap_err().code();
    assert_eq!(code(json!({ "uri": "x".repeat(8193) })), "reference.field_too_long");
    assert_eq!(code(json!({ "uri": "a", "id": "x".repeat(1025) })), "reference.field_too_long");
    let metadata = json!({ "m": "x".repeat(METADATA_BYTES_MAX) });
    assert_eq!(code(json!({ "uri": "a", "metadata": metadata })), "reference.field_too_long");
    // The limit counts a list and each of its values.
    let metadata = json!({ "m": vec![0; METADATA_VALUES_MAX] });
    assert_eq!(code(json!({ "uri": "a", "metadata": metadata })), "reference.field_too_long");
    assert_eq!(
        code(json!({ "uri": "a", "x": "x".repeat(PAYLOAD_BYTES_MAX) })),
        "reference.too_large"
    );
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = parse(&Headers::default(), nested.as_bytes()).unwrap_err();
    assert_eq!(error.code(), "reference.invalid_json", "{error}");
}

#[test]
fn in_binary_mode_the_headers_give_the_default_id() {
    let named = parse(&binary(&[]), br#"{"uri": "s3://a/b"}"#).unwrap();
    assert_eq!(named.id, "from-envelope");
    let own = parse(&binary(&[]), br#"{"uri": "s3://a/b", "id": "own"}"#).unwrap();
    assert_eq!(own.id, "own");
}

#[test]
fn an_incomplete_envelope_in_headers_is_ignored() {
    let partial = headers(&[("ce_id", "x"), ("ce_type", "y"), ("CE_SOURCE", "z")]);
    assert_eq!(parse(&partial, br#"{"uri": "s3://a/b"}"#).unwrap().id, "s3://a/b");
}

#[test]
fn in_structured_mode_the_data_is_the_reference() {
    let data = json!({ "uri": "s3://a/b" });
    assert_eq!(structured(&envelope(&data)).unwrap().id, "from-envelope");
    let own = json!({ "uri": "s3://a/b", "id": "own" });
    assert_eq!(structured(&envelope(&own)).unwrap().id, "own");

    let mut event = envelope(&Value::Null);
    event["data_base64"] = json!("eyJ1cmkiOiAiczM6Ly9hL2IifQ==");
    assert_eq!(structured(&event).unwrap().uri, "s3://a/b");

    let upper_case = headers(&[("content-type", "Application/CloudEvents+JSON")]);
    assert!(parse(&upper_case, envelope(&data).to_string().as_bytes()).is_ok());
}

#[test]
fn each_invalid_envelope_has_its_code() {
    let data = json!({ "uri": "s3://a/b" });
    for content_type in [
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "application/cloudevents",
        "application/cloudevents-batch",
    ] {
        let headers = headers(&[("content-type", content_type)]);
        let error = parse(&headers, envelope(&data).to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code(), "reference.unsupported_content_type");
    }
    let with = |field: &str, value: Value| {
        let mut event = envelope(&data);
        event[field] = value;
        structured(&event).unwrap_err()
    };
    assert_eq!(with("specversion", json!("0.3")).code(), "reference.unsupported_specversion");
    assert_eq!(with("specversion", Value::Null).code(), "reference.unsupported_specversion");
    assert_eq!(with("specversion", json!(1.0)).code(), "reference.invalid_field");
    assert_eq!(with("data", Value::Null).code(), "reference.missing_data");
    assert_eq!(with("data", json!("text")).code(), "reference.not_an_object");
    assert_eq!(with("id", json!(12)).code(), "reference.invalid_field");
    assert_eq!(structured(&json!([])).unwrap_err().code(), "reference.not_an_object");
    let mut event = envelope(&Value::Null);
    event["data_base64"] = json!("***");
    assert_eq!(structured(&event).unwrap_err().code(), "reference.invalid_base64");
    event["data_base64"] = json!(7);
    assert_eq!(structured(&event).unwrap_err().code(), "reference.invalid_field");

    let old = binary(&[("ce_specversion", "0.2")]);
    let error = parse(&old, b"{}").unwrap_err();
    assert_eq!(error.code(), "reference.unsupported_specversion");
    let garbled = Headers::new(
        ["ce_specversion", "ce_id", "ce_source", "ce_type"]
            .map(|name| (name.to_owned(), Some(b"1.\xff".to_vec())))
            .to_vec(),
    );
    assert_eq!(parse(&garbled, b"{}").unwrap_err().code(), "reference.invalid_header");
}

#[test]
fn the_trace_comes_from_the_headers_or_from_the_envelope() {
    let payload = br#"{"uri": "s3://a/b"}"#;
    let trace_of = |headers: &Headers| parse(headers, payload).unwrap().trace;
    let written = |headers: &Headers| trace_of(headers).map(|trace| trace.header());
    assert_eq!(trace_of(&Headers::default()), None);

    let plain = headers(&[("traceparent", PARENT), ("tracestate", "a=b")]);
    assert_eq!(written(&plain).as_deref(), Some(PARENT));
    assert_eq!(trace_of(&plain).unwrap().state(), Some("a=b"));

    let in_attributes = binary(&[("ce_traceparent", PARENT), ("tracestate", "a=b")]);
    assert_eq!(written(&in_attributes).as_deref(), Some(PARENT));
    assert_eq!(
        trace_of(&in_attributes).unwrap().state(),
        None,
        "the state belongs to another parent"
    );

    let broken = binary(&[("traceparent", "00-no"), ("ce_traceparent", PARENT)]);
    assert_eq!(written(&broken).as_deref(), Some(PARENT));

    let other = PARENT.replace("0af7", "1111");
    let twice = headers(&[("traceparent", PARENT), ("traceparent", &other)]);
    assert_eq!(written(&twice), Some(other));

    let mut event = envelope(&json!({ "uri": "s3://a/b" }));
    event["traceparent"] = json!(PARENT);
    assert_eq!(structured(&event).unwrap().trace.unwrap().header(), PARENT);
}

proptest! {
    #[test]
    fn no_record_makes_the_reader_panic(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        names in prop::collection::vec("(ce_[a-z]{0,12}|content-type|traceparent)", 0..8),
        value in prop::collection::vec(any::<u8>(), 0..40),
        has_envelope: bool,
    ) {
        let mut pairs: Vec<(String, Option<Vec<u8>>)> =
            names.into_iter().map(|name| (name, Some(value.clone()))).collect();
        if has_envelope {
            let content_type = b"application/cloudevents+json".to_vec();
            pairs.push(("content-type".to_owned(), Some(content_type)));
        }
        let result = parse(&Headers::new(pairs), &payload);
        if let Err(error) = result {
            prop_assert!(error.code().starts_with("reference."));
            prop_assert!(error.to_string().len() < 1000);
        }
    }
}
