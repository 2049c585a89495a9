//! Lists of the events of stores: batches of CloudEvents, of Event Grid, of the event bus, and
//! mixed ones.

use dog_iqa::event::notification::{
    self, CreatedObject, Entry, InputFormat, OBJECTS_MAX, RecordEntry, SkipReason,
};
use dog_iqa::event::{Headers, ReferenceError};
use serde_json::{Value, json};

use crate::event_notification::{
    FORMATS, azure_data, azure_event, created, entries, entry, gcs_resource, object, parse_with,
    put, s3_record, skip,
};

const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json; charset=utf-8");

/// An event of Microsoft's document "Azure Blob Storage as an Event Grid source", with its fields.
fn azure_cloud_event(kind: &str, api: &str, blob: &str) -> Value {
    json!({
        "source": "/subscriptions/s/resourceGroups/Storage/providers/Microsoft.Storage/storageAccounts/shop",
        "subject": format!("/blobServices/default/containers/photos/blobs/{blob}"),
        "type": kind,
        "time": "2026-11-29T18:41:00.9584103Z",
        "id": format!("831e1650-001e-001b-66ab-{blob}"),
        "data": {
            "api": api,
            "clientRequestId": "6d79dbfb-0e37-4fc4-981f-442c9ca65760",
            "requestId": "831e1650-001e-001b-66ab-eeb76e000000",
            "eTag": "\"0x8D4BCC2E4835CD0\"",
            "contentType": "image/jpeg",
            "contentLength": 524_288,
            "blobType": "BlockBlob",
            "accessTier": "Default",
            "url": format!("https://shop.blob.core.windows.net/photos/{blob}"),
            "sequencer": "00000000000004420000000000028963",
            "storageDiagnostics": {"batchId": "b68529f3-68cd-4744-baa4-3c0498ec19f0"}
        },
        "specversion": "1.0"
    })
}

fn blob_created(blob: &str) -> Value {
    azure_cloud_event("Microsoft.Storage.BlobCreated", "PutBlockList", blob)
}

fn blob_deleted(blob: &str) -> Value {
    azure_cloud_event("Microsoft.Storage.BlobDeleted", "DeleteBlob", blob)
}

fn bridged(kind: &str, key: &str) -> Value {
    json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": kind,
        "source": "aws.s3", "account": "111122223333", "time": "2026-11-29T06:00:00Z",
        "region": "eu-central-1", "resources": ["arn:aws:s3:::photos"],
        "detail": {"version": "0", "bucket": {"name": "photos"},
            "object": {"key": key, "size": 5, "etag": "b1946ac9", "sequencer": "00617F08299329D189"},
            "request-id": "N4N7GDK58NMKJ12R", "requester": "123456789012", "reason": "PutObject"}
    })
}

fn flat(key: &str) -> Value {
    json!({"account": "3f4b", "action": "PutObject", "bucket": "photos",
        "object": {"key": key, "size": 65_536, "eTag": "c846"},
        "eventTime": "2026-11-29T06:00:00.000Z"})
}

fn grid(blob: &str) -> Value {
    let url = format!("https://shop.blob.core.windows.net/photos/{blob}");
    azure_event("Microsoft.Storage.BlobCreated", &azure_data(&url))
}

fn reference_event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "photo.uploaded",
        "data": {"uri": "s3://photos/a.jpg", "metadata": {"price": 1.50}}})
}

/// Every shape that can be an element of a list, with the format that accepts it.
fn shapes() -> Vec<(InputFormat, Value)> {
    let message = json!({"attributes": {"eventType": "OBJECT_FINALIZE", "bucketId": "photos",
        "objectId": "a.jpg"}});
    let connector =
        json!({"eventType": "OBJECT_FINALIZE", "bucketId": "photos", "objectId": "a.jpg"});
    vec![
        (InputFormat::S3, put("a.jpg")),
        (InputFormat::S3, json!({"Records": [put("a.jpg")]})),
        (InputFormat::S3, bridged("Object Created", "a.jpg")),
        (InputFormat::S3, flat("a.jpg")),
        (InputFormat::Gcs, gcs_resource()),
        (InputFormat::Gcs, message),
        (InputFormat::Gcs, connector),
        (InputFormat::Azure, grid("a.jpg")),
        (InputFormat::Azure, blob_created("a.jpg")),
    ]
}

fn uris(entries: &[Entry]) -> Vec<Result<String, &'static str>> {
    let uri = |entry: &Entry| match entry {
        Entry::Invalid(error) => Err(error.code()),
        Entry::Skipped { reason, .. } => Err(reason.name()),
        other => Ok(other.reference().unwrap().uri.clone()),
    };
    entries.iter().map(uri).collect()
}

fn parse(
    headers: &[(&str, &str)],
    payload: &Value,
    format: InputFormat,
) -> Result<Vec<Entry>, ReferenceError> {
    let parsed = parse_with(headers, payload, format)?;
    Ok(parsed.into_iter().map(|parsed| parsed.entry).collect())
}

#[test]
fn the_lists_of_cloud_events_in_the_documents_of_azure_are_read() {
    let expect = |object: CreatedObject| {
        assert_eq!(object.reference.uri, "az://photos/new-file.jpg");
        assert_eq!(object.reference.id, "831e1650-001e-001b-66ab-new-file.jpg");
        assert_eq!(object.reference.etag.as_deref(), Some("\"0x8D4BCC2E4835CD0\""));
        assert_eq!(object.reference.declared_bytes, Some(524_288));
        assert_eq!(object.account.as_deref(), Some("shop"));
        assert_eq!(object.content_type.as_deref(), Some("image/jpeg"));
    };
    expect(object(&json!([blob_created("new-file.jpg")])));
    assert_eq!(skip(&json!([blob_deleted("new-file.jpg")])), SkipReason::Removed);
    let sftp = |api| azure_cloud_event("Microsoft.Storage.BlobCreated", api, "new-file.jpg");
    let upload = entries(&json!([sftp("SftpCreate"), sftp("SftpCommit")]));
    assert_eq!(uris(&upload[..1]), [Err("other_event")]);
    expect(created(upload[1].clone()));
    for format in [InputFormat::Auto, InputFormat::Azure, InputFormat::CloudEvents] {
        let list = json!([blob_created("a.jpg"), blob_deleted("b.jpg"), blob_created("c.jpg")]);
        let parsed = parse(&[BATCH], &list, format).unwrap();
        let expected = [
            Ok("az://photos/a.jpg".to_owned()),
            Err("removed"),
            Ok("az://photos/c.jpg".to_owned()),
        ];
        assert_eq!(uris(&parsed), expected, "{format:?}");
    }
}

#[test]
fn each_event_of_a_batch_has_its_own_id_and_trace() {
    let parent = |digit: &str| format!("00-{}-0123456789012345-01", digit.repeat(32));
    let mut traced = reference_event("e1");
    traced["traceparent"] = json!(parent("1"));
    let list = json!([traced, reference_event("e2"), blob_created("a.jpg")]);
    let of_record = parent("2");
    let headers = [BATCH, ("traceparent", of_record.as_str())];
    let parsed = parse(&headers, &list, InputFormat::Auto).unwrap();
    let references: Vec<_> = parsed.iter().map(|entry| entry.reference().unwrap()).collect();
    let ids: Vec<_> = references.iter().map(|reference| reference.id.as_str()).collect();
    assert_eq!(ids, ["e1", "e2", "831e1650-001e-001b-66ab-a.jpg"]);
    let traces: Vec<_> =
        references.iter().map(|reference| reference.trace.as_ref().unwrap().trace_id()).collect();
    assert_eq!(traces, [&"1".repeat(32), &"2".repeat(32), &"2".repeat(32)].map(String::as_str));
    // Numbers of the metadata keep their digits, from the text of the element.
    let text = list.to_string().replace("1.5", "1.50");
    let parsed = notification::parse(&Headers::default(), text.as_bytes(), InputFormat::Auto);
    let Entry::Reference(reference) = &parsed.unwrap()[0].entry else { panic!("a reference") };
    assert_eq!(reference.metadata.as_ref().unwrap().as_str(), "{\"price\":1.50}");
}

#[test]
fn the_content_type_of_a_batch_needs_a_list() {
    let element = blob_created("a.jpg");
    let error = parse(&[BATCH], &element, InputFormat::Auto).unwrap_err();
    assert_eq!(error.code(), "reference.invalid_field");
    assert!(error.to_string().contains("the batch of CloudEvents is an object"), "{error}");
    // Some producers name the type of a single event.
    let single = ("content-type", "application/cloudevents+json");
    let list = json!([element]);
    assert_eq!(parse(&[single], &list, InputFormat::Auto).unwrap().len(), 1);
    let code = |headers: &[(&str, &str)]| {
        parse(headers, &list, InputFormat::Reference).unwrap_err().code()
    };
    assert_eq!(code(&[BATCH]), "reference.unsupported_content_type");
    assert_eq!(code(&[single]), "reference.not_an_object");
}

#[test]
fn any_event_of_a_list_is_read_wherever_it_is() {
    let list = json!([
        1,
        {"uri": "s3://photos/bare.jpg"},
        bridged("Object Created", "b+c.jpg"),
        {"something": "else"},
        s3_record("ObjectRemoved:Delete", &json!({"key": "d.jpg"})),
        put("e+f.jpg"),
        [put("g.jpg")],
        {"Records": [put("h.jpg")]},
        {"Records": [put("i.jpg"), put("j.jpg")]},
        {"specversion": "0.3", "id": "old", "type": "x", "data": {}},
        bridged("Object Deleted", "k.jpg"),
        blob_created("l.jpg"),
        grid("m.jpg"),
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"},
        reference_event("r"),
        {"specversion": "1.0", "id": "c", "type": "x", "data": [flat("n.jpg")]},
        {"specversion": "1.0", "id": "c", "type": "x", "data": [blob_created("o.jpg")]},
    ]);
    let parsed = parse_with(&[], &list, InputFormat::Auto).unwrap();
    let found: Vec<Entry> = parsed.iter().map(|parsed| parsed.entry.clone()).collect();
    let uri = |text: &str| Ok(text.to_owned());
    let expected = [
        Err("reference.not_an_object"),
        Err("reference.not_an_object"),
        uri("s3://photos/b+c.jpg"),
        Err("reference.not_an_object"),
        Err("removed"),
        uri("s3://photos/e f.jpg"),
        Err("reference.not_an_object"),
        uri("s3://photos/h.jpg"),
        Err("reference.too_many_objects"),
        Err("reference.unsupported_specversion"),
        Err("removed"),
        uri("az://photos/l.jpg"),
        uri("az://photos/m.jpg"),
        Err("test"),
        uri("s3://photos/a.jpg"),
        uri("s3://photos/n.jpg"),
        Err("reference.not_an_object"),
    ];
    assert_eq!(uris(&found), expected);
    let Entry::Invalid(error) = &found[1] else { panic!("{:?}", found[1]) };
    assert!(error.to_string().contains("send references alone"), "{error}");
    for RecordEntry { entry, alone } in &parsed {
        let alone = alone.as_deref().unwrap();
        match notification::parse(&Headers::default(), alone, InputFormat::Auto) {
            Ok(again) => assert_eq!((again.len(), &again[0].entry), (1, entry)),
            Err(error) => assert!(
                matches!(entry, Entry::Invalid(earlier) if earlier.code() == error.code()),
                "{entry:?}, alone {error}"
            ),
        }
    }
}

#[test]
fn a_list_without_an_event_fails_as_a_whole() {
    for list in [
        json!([1, 2]),
        json!([null]),
        json!([{"uri": "s3://photos/a.jpg"}]),
        json!([[put("a.jpg")]]),
        json!([[]]),
        json!([{}, {"s3": {}}, {"eventName": "ObjectCreated:Put"}]),
    ] {
        let error = parse(&[], &list, InputFormat::Auto).unwrap_err();
        assert_eq!(error, ReferenceError::NotAnObject { found: "an array" }, "{list}");
        for format in FORMATS.into_iter().filter(|format| *format != InputFormat::Auto) {
            let error = parse(&[], &list, format).unwrap_err();
            assert_eq!(error.code(), "reference.unexpected_format", "{list} as {format:?}");
        }
    }
    for format in FORMATS {
        for headers in [&[][..], &[BATCH]] {
            let empty = parse(headers, &json!([]), format).unwrap();
            assert_eq!(uris(&empty), [Err("empty")], "{format:?}");
        }
    }
    for list in [json!([]), json!([put("a.jpg")]), json!([reference_event("r")])] {
        let error = parse(&[], &list, InputFormat::Reference).unwrap_err();
        assert_eq!(error.code(), "reference.not_an_object");
    }
}

#[test]
fn each_format_accepts_its_own_shapes_alone_and_in_lists() {
    let other = json!({"something": "else"});
    for (own, shape) in shapes() {
        let is_cloud_event = shape.get("specversion").is_some();
        for format in FORMATS {
            let is_accepted = match format {
                InputFormat::Auto => true,
                InputFormat::CloudEvents => is_cloud_event,
                fixed => fixed == own,
            };
            let alone = parse(&[], &shape, format).map(|entries| uris(&entries));
            let only = parse(&[], &json!([shape]), format).map(|entries| uris(&entries));
            assert_eq!(alone, only, "{shape} as {format:?}");
            let mixed = parse(&[], &json!([other, shape, shape]), format);
            if !is_accepted {
                for outcome in [alone.map(drop), mixed.map(drop)] {
                    let code = outcome.unwrap_err().code();
                    assert_eq!(code, "reference.unexpected_format", "{shape} as {format:?}");
                }
                continue;
            }
            let uri = alone.unwrap().remove(0);
            assert!(uri.is_ok(), "{shape} as {format:?}");
            let found = uris(&mixed.unwrap());
            assert_eq!(found[1..], [uri.clone(), uri], "{shape} as {format:?}");
            let refused = match format {
                InputFormat::Auto => "reference.not_an_object",
                _ => "reference.unexpected_format",
            };
            assert_eq!(found[0], Err(refused), "{format:?}");
        }
        let as_reference = parse(&[], &shape, InputFormat::Reference).unwrap_err();
        assert_eq!(as_reference.code(), "reference.missing_uri", "{shape}");
    }
}

#[test]
fn the_headers_of_a_cloud_event_name_an_object_only_if_it_is_the_only_one() {
    let binary = [
        ("ce_specversion", "1.0"),
        ("ce_id", "e"),
        ("ce_source", "/s"),
        ("ce_type", "com.example.batch"),
    ];
    for format in [InputFormat::Auto, InputFormat::CloudEvents] {
        let ids = |list: Value| -> Vec<String> {
            let parsed = parse(&binary, &list, format).unwrap();
            parsed.iter().map(|entry| entry.reference().unwrap().id.clone()).collect()
        };
        assert_eq!(ids(json!([put("a")])), ["e"]);
        assert_eq!(ids(json!([put("a"), flat("b")])), ["s3://photos/a", "s3://photos/b"]);
        assert_eq!(ids(json!([reference_event("own"), flat("b")])), ["own", "s3://photos/b"]);
    }
    let of_grid = parse(&binary, &json!([grid("a.jpg")]), InputFormat::Azure).unwrap();
    assert_eq!(uris(&of_grid), [Ok("az://photos/a.jpg".to_owned())]);
}

#[test]
fn a_long_list_and_a_nested_one_are_refused() {
    let of = |count: usize| Value::Array(vec![flat("a.jpg"); count]);
    assert_eq!(entries(&of(OBJECTS_MAX)).len(), OBJECTS_MAX);
    for (count, headers) in [(OBJECTS_MAX + 1, &[][..]), (OBJECTS_MAX + 1, &[BATCH])] {
        let error = parse(headers, &of(count), InputFormat::Auto).unwrap_err();
        assert_eq!(error, ReferenceError::TooManyObjects { objects: count, limit: OBJECTS_MAX });
    }
    let inside = |data: Value| json!({"specversion": "1.0", "id": "e", "type": "x", "data": data});
    let one = entry(&inside(json!([flat("a.jpg")])));
    assert_eq!(one.reference().unwrap().id, "e");
    let error = parse(&[], &inside(of(2)), InputFormat::Auto).unwrap_err();
    assert_eq!(error, ReferenceError::TooManyObjects { objects: 2, limit: 1 });
    assert_eq!(skip(&inside(json!([]))), SkipReason::Empty);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let error = notification::parse(&Headers::default(), deep.as_bytes(), InputFormat::S3);
    assert_eq!(error.unwrap_err().code(), "reference.invalid_json");
}
