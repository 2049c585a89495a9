//! Notifications of object stores: the shapes that their documents describe, and hostile ones.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dog_iqa::event::notification::{
    self, CreatedObject, Entry, InputFormat, OBJECTS_MAX, RecordEntry, SkipReason,
};
use dog_iqa::event::{Headers, ReferenceError};
use proptest::prelude::*;
use serde_json::{Value, json};

/// All formats but that of references, whose records are not counted.
pub(crate) const FORMATS: [InputFormat; 5] = [
    InputFormat::Auto,
    InputFormat::S3,
    InputFormat::Gcs,
    InputFormat::Azure,
    InputFormat::CloudEvents,
];

pub(crate) fn parse_with(
    headers: &[(&str, &str)],
    payload: &Value,
    format: InputFormat,
) -> Result<Vec<RecordEntry>, ReferenceError> {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    notification::parse(&headers.collect(), payload.to_string().as_bytes(), format)
}

pub(crate) fn entries(payload: &Value) -> Vec<Entry> {
    let parsed = parse_with(&[], payload, InputFormat::Auto).unwrap();
    parsed.into_iter().map(|parsed| parsed.entry).collect()
}

pub(crate) fn entry(payload: &Value) -> Entry {
    let mut entries = entries(payload);
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

pub(crate) fn object(payload: &Value) -> CreatedObject {
    created(entry(payload))
}

pub(crate) fn created(entry: Entry) -> CreatedObject {
    match entry {
        Entry::Object(object) => *object,
        other => panic!("no object: {other:?}"),
    }
}

pub(crate) fn skip(payload: &Value) -> SkipReason {
    match entry(payload) {
        Entry::Skipped { reason, .. } => reason,
        other => panic!("not skipped: {other:?}"),
    }
}

pub(crate) fn code(payload: &Value) -> &'static str {
    match entry(payload) {
        Entry::Invalid(error) => error.code(),
        other => panic!("valid: {other:?}"),
    }
}

/// An element of `Records`, with the fields of Amazon's document.
pub(crate) fn s3_record(name: &str, object: &Value) -> Value {
    json!({
        "eventVersion": "2.5",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-11-29T06:00:00.000Z",
        "eventName": name,
        "userIdentity": {"principalId": "AWS:EXAMPLE"},
        "requestParameters": {"sourceIPAddress": "192.0.2.7"},
        "responseElements": {"x-amz-request-id": "R1", "x-amz-id-2": "H1"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "images",
            "bucket": {
                "name": "photos",
                "ownerIdentity": {"principalId": "O1"},
                "arn": "arn:aws:s3:::photos"
            },
            "object": object
        }
    })
}

pub(crate) fn put(key: &str) -> Value {
    s3_record("ObjectCreated:Put", &json!({"key": key, "size": 1024}))
}

#[test]
fn a_record_of_s3_names_the_decoded_object_with_its_version_and_size() {
    let object = object(&json!({"Records": [s3_record(
        "ObjectCreated:CompleteMultipartUpload",
        &json!({
            "key": "uploads%2F2026/my+cup+%281%29+caf%C3%A9.jpg",
            "size": 137_847,
            "eTag": "8f2c00aa-2",
            "versionId": "3/L4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY",
            "sequencer": "0055AED6DCD90281E5"
        }),
    )]}));
    assert_eq!(object.key, "uploads/2026/my cup (1) café.jpg");
    let reference = object.reference;
    assert_eq!(reference.uri, "s3://photos/uploads/2026/my cup (1) café.jpg");
    assert_eq!(reference.id, reference.uri);
    assert_eq!(reference.etag.as_deref(), Some("8f2c00aa-2"));
    assert_eq!(reference.version_id.as_deref(), Some("3/L4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"));
    assert_eq!(reference.declared_bytes, Some(137_847));
    assert!(object.sequencer.is_some() && object.content_type.is_none());
}

#[test]
fn compatible_stores_write_the_same_with_their_own_additions() {
    let mut record = s3_record(
        "s3:ObjectCreated:Put",
        &json!({
            "key": "a%2Fb.jpg", "size": 3, "eTag": "e", "contentType": "image/jpeg",
            "userMetadata": {"content-type": "image/jpeg"}, "sequencer": "15CFEDF8D5304D1A"
        }),
    );
    record["eventSource"] = json!("minio:s3");
    let with_root =
        json!({"EventName": "s3:ObjectCreated:Put", "Key": "photos/a/b.jpg", "Records": [record]});
    let object_of_minio = object(&with_root);
    assert_eq!(object_of_minio.reference.uri, "s3://photos/a/b.jpg");
    assert_eq!(object_of_minio.content_type.as_deref(), Some("image/jpeg"));

    let mut record = put("c.jpg");
    record["eventSource"] = json!("ceph:s3");
    record["s3"]["object"]["versionId"] = json!("");
    record["s3"]["object"]["tags"] = json!([]);
    record["opaqueData"] = json!("");
    let object_of_ceph = object(&json!({"Records": [record]}));
    assert_eq!(object_of_ceph.reference.version_id, None);

    // Versity's gateway writes `null` for what it does not have, and the literal key also into the
    // bucket's name; its older versions write the list alone.
    for key in ["d.jpg", "dir/my cup+(1) café.jpg", "p%25.jpg", "a+b.jpg", "%"] {
        let mut record = s3_record(
            "s3:ObjectCreated:Put",
            &json!({"key": key, "size": 5, "eTag": "\"5d41\"", "versionId": null, "sequencer": "2"}),
        );
        record["s3"]["bucket"]["arn"] = json!(format!("arn:aws:s3:::/photos/{key}"));
        for payload in [json!({"Records": [record]}), json!([record])] {
            assert_eq!(object(&payload).reference.uri, format!("s3://photos/{key}"));
        }
    }

    let r2 = |action: &str| {
        json!({"account": "3f4b", "action": action, "bucket": "photos",
            "object": {"key": "a+b%20c.jpg", "size": 65_536, "eTag": "c846"},
            "eventTime": "2026-11-29T06:00:00.000Z"})
    };
    let object_of_r2 = object(&r2("CompleteMultipartUpload"));
    assert_eq!(object_of_r2.reference.uri, "s3://photos/a+b%20c.jpg");
    assert_eq!(object_of_r2.reference.declared_bytes, Some(65_536));
    assert_eq!(skip(&r2("LifecycleDeletion")), SkipReason::Removed);
}

#[test]
fn a_record_has_an_entry_for_each_object_with_its_unchanged_text() {
    let text = format!(
        "{{\"note\": 1, \"Records\": [{}, {{\"eventName\":\"ObjectRemoved:Delete\" , \"x\": 1.10}}, {}]}}",
        put("a.jpg"),
        put("b%.jpg"),
    );
    let parsed =
        notification::parse(&Headers::default(), text.as_bytes(), InputFormat::Auto).unwrap();
    assert_eq!(parsed.len(), 3);
    assert_eq!(created(parsed[0].entry.clone()).key, "a.jpg");
    let removed = parsed[1].alone.as_deref().unwrap();
    let expected = b"{\"Records\":[{\"eventName\":\"ObjectRemoved:Delete\" , \"x\": 1.10}]}";
    assert_eq!(removed, expected);
    assert!(
        matches!(&parsed[2].entry, Entry::Invalid(error) if error.code() == "reference.invalid_key")
    );
    for entry in &parsed {
        let again = notification::parse(
            &Headers::default(),
            entry.alone.as_ref().unwrap(),
            InputFormat::S3,
        );
        let again = again.unwrap();
        assert_eq!((again.len(), &again[0].entry), (1, &entry.entry));
        assert_eq!(again[0].alone, None);
    }
}

#[test]
fn an_event_of_the_event_bus_has_a_literal_key() {
    let mut event = json!({
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-11-29T06:00:00Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:s3:::photos"],
        "detail": {
            "version": "0",
            "bucket": {"name": "photos"},
            "object": {
                "key": "a+b%20c:1.jpg", "size": 5, "etag": "b1946ac9", "version-id": "V7",
                "sequencer": "00617F08299329D189"
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "reason": "PutObject"
        }
    });
    let object = object(&event);
    assert_eq!(object.reference.uri, "s3://photos/a+b%20c:1.jpg");
    assert_eq!(object.reference.version_id.as_deref(), Some("V7"));
    assert_eq!(object.reference.etag.as_deref(), Some("b1946ac9"));
    assert_eq!(object.reference.declared_bytes, Some(5));
    event["detail-type"] = json!("Object Deleted");
    assert_eq!(skip(&event), SkipReason::Removed);
    event["detail-type"] = json!("Object Tags Added");
    assert_eq!(skip(&event), SkipReason::OtherEvent);
}

pub(crate) fn gcs_resource() -> Value {
    json!({
        "kind": "storage#object",
        "id": "photos/my cup.jpg/1700000000000001",
        "name": "my cup+1.jpg",
        "bucket": "photos",
        "generation": "1700000000000001",
        "metageneration": "1",
        "contentType": "image/jpeg",
        "timeCreated": "2026-11-29T06:00:00.000Z",
        "size": "1024",
        "md5Hash": "yv66vg==",
        "etag": "CIG4//n7"
    })
}

#[test]
fn the_resource_of_google_is_read_by_its_generation() {
    let expect = |object: CreatedObject| {
        assert_eq!(object.reference.uri, "gs://photos/my cup+1.jpg");
        assert_eq!(object.reference.version_id.as_deref(), Some("1700000000000001"));
        assert_eq!(object.reference.etag, None, "the etag of another interface");
        assert_eq!(object.reference.declared_bytes, Some(1024));
        assert_eq!(object.content_type.as_deref(), Some("image/jpeg"));
    };
    let resource = gcs_resource();
    expect(object(&resource));
    let with_event = |event| {
        let parsed = parse_with(&[("eventType", event)], &resource, InputFormat::Gcs).unwrap();
        parsed[0].entry.clone()
    };
    expect(created(with_event("OBJECT_FINALIZE")));
    assert!(matches!(
        with_event("OBJECT_DELETE"),
        Entry::Skipped { reason: SkipReason::Removed, removed: Some((uri, _)) }
            if uri == "gs://photos/my cup+1.jpg"
    ));
    let updated = with_event("OBJECT_METADATA_UPDATE");
    assert_eq!(updated, Entry::Skipped { reason: SkipReason::OtherEvent, removed: None });

    let message = json!({"message": {
        "attributes": {
            "notificationConfig": "projects/_/buckets/photos/notificationConfigs/1",
            "eventType": "OBJECT_FINALIZE", "payloadFormat": "JSON_API_V1",
            "bucketId": "photos", "objectId": "my cup+1.jpg",
            "objectGeneration": "1700000000000001"
        },
        "data": BASE64_STANDARD.encode(resource.to_string()),
        "messageId": "136969346945"
    }, "subscription": "projects/p/subscriptions/s"});
    expect(object(&message));
    let mut bare = message["message"].clone();
    expect(object(&bare));
    bare["data"] = Value::Null;
    let named = object(&bare);
    assert_eq!(named.reference.version_id.as_deref(), Some("1700000000000001"));
    bare["attributes"]["eventType"] = json!("OBJECT_ARCHIVE");
    assert_eq!(skip(&bare), SkipReason::Removed);

    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "//storage.googleapis.com/",
        "type": "google.cloud.storage.object.v1.finalized", "subject": "objects/my cup+1.jpg",
        "data": resource
    });
    assert_eq!(object(&event).reference.id, "e1");
    expect(object(&event));
}

pub(crate) fn azure_data(url: &str) -> Value {
    json!({
        "api": "PutBlockList",
        "clientRequestId": "c1",
        "requestId": "r1",
        "eTag": "0x8D4BCC2E4835CD0",
        "contentType": "image/jpeg",
        "contentLength": 524_288,
        "blobType": "BlockBlob",
        "url": url,
        "sequencer": "00000000000004420000000000028963",
        "storageDiagnostics": {"batchId": "b1"}
    })
}

pub(crate) fn azure_event(kind: &str, data: &Value) -> Value {
    json!({
        "topic": "/subscriptions/s/providers/Microsoft.Storage/storageAccounts/shop",
        "subject": "/blobServices/default/containers/photos/blobs/a b.jpg",
        "eventType": kind,
        "eventTime": "2026-11-29T06:00:00Z",
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": data,
        "dataVersion": "",
        "metadataVersion": "1"
    })
}

#[test]
fn a_blob_of_azure_is_named_by_its_url() {
    let kind = "Microsoft.Storage.BlobCreated";
    let url = "https://shop.blob.core.windows.net/photos/2026/a%20b+c%C3%A9.jpg";
    let event = azure_event(kind, &azure_data(url));
    let expect = |object: CreatedObject| {
        assert_eq!(object.reference.uri, "az://photos/2026/a b+cé.jpg");
        assert_eq!(object.reference.etag.as_deref(), Some("0x8D4BCC2E4835CD0"));
        assert_eq!(object.reference.declared_bytes, Some(524_288));
        assert_eq!(object.account.as_deref(), Some("shop"));
        assert!(object.sequencer.is_some());
    };
    expect(object(&event));
    let batch = entries(&json!([event, azure_event("Microsoft.Storage.BlobDeleted", &json!({}))]));
    expect(created(batch[0].clone()));
    assert_eq!(batch[1], Entry::Skipped { reason: SkipReason::Removed, removed: None });

    // The same in the schema of CloudEvents, structured and binary.
    let cloud = json!({
        "specversion": "1.0", "id": "e2", "type": kind, "source": "/subscriptions/s",
        "subject": "/blobServices/default/containers/photos/blobs/a b.jpg",
        "data": azure_data(url)
    });
    expect(object(&cloud));
    let binary =
        [("ce_specversion", "1.0"), ("ce_id", "e3"), ("ce_source", "/s"), ("ce_type", kind)];
    let parsed = parse_with(&binary, &azure_data(url), InputFormat::CloudEvents).unwrap();
    assert_eq!(created(parsed[0].entry.clone()).reference.id, "e3");

    let lake = "https://shop.dfs.core.windows.net/photos/a.jpg";
    let mut data = azure_data(lake);
    data["api"] = json!("FlushWithClose");
    assert_eq!(object(&azure_event(kind, &data)).reference.uri, "az://photos/a.jpg");
    for url in [
        "https://shop.blob.core.windows.net/",
        "https://shop.blob.core.windows.net/?a.jpg",
        "https://shop.dfs.core.windows.net/photos",
        "https://shop.z1.blob.storage.azure.net/photos/a.jpg",
        "https://shop.z123.blob.storage.azure.net/photos/a.jpg",
        "https://shop.evil.blob.storage.azure.net/photos/a.jpg",
        "https://shop.blob.core.windows.net/photos/",
        "https://evil.example/photos/a.jpg",
        "http://shop.blob.core.windows.net/photos/a.jpg",
        "https://blob.core.windows.net/photos/a.jpg",
        "https://shop.blob.core.windows.net/pho%2Ftos/a.jpg",
    ] {
        let code = code(&azure_event(kind, &azure_data(url)));
        assert_eq!(code, "reference.invalid_field", "{url}");
    }
}

#[test]
fn a_blob_of_a_zone_or_of_the_root_container_is_found() {
    let kind = "Microsoft.Storage.BlobCreated";
    for (url, uri) in [
        ("https://shop.z01.blob.storage.azure.net/photos/a.jpg", "az://photos/a.jpg"),
        ("https://shop.z50.dfs.storage.azure.net/photos/x/a.jpg", "az://photos/x/a.jpg"),
        ("https://shop.blob.core.windows.net/a%20b.jpg", "az://$root/a b.jpg"),
        ("https://shop.blob.core.windows.net/$root/a.jpg", "az://$root/a.jpg"),
        ("https://shop.blob.core.usgovcloudapi.net/photos/a.jpg?x=1", "az://photos/a.jpg"),
    ] {
        let object = object(&azure_event(kind, &azure_data(url)));
        assert_eq!((object.reference.uri.as_str(), object.account.as_deref()), (uri, Some("shop")));
    }
}

/// The events of an upload by SFTP: the first is of an empty blob.
#[test]
fn an_upload_to_azure_is_assessed_when_it_is_complete() {
    let event = |api: &str, bytes: u64| {
        let mut data = azure_data("https://shop.blob.core.windows.net/photos/a.jpg");
        data["api"] = json!(api);
        data["contentLength"] = json!(bytes);
        data["identity"] = json!("localuser");
        azure_event("Microsoft.Storage.BlobCreated", &data)
    };
    for api in ["SftpCreate", "CreateFile", "CreateFilePath"] {
        assert_eq!(skip(&event(api, 0)), SkipReason::OtherEvent, "{api}: it has no content yet");
    }
    for api in ["SftpCommit", "FlushWithClose", "PutBlob", "CopyBlob"] {
        assert_eq!(object(&event(api, 524_288)).reference.uri, "az://photos/a.jpg", "{api}");
    }
}

/// The default of Google's connector: the attributes are fields of the value, with the payload as
/// bytes in `message`. `JsonConverter` adds the schema by default.
#[test]
fn a_message_of_the_connector_is_read_with_and_without_its_schema() {
    let fields = |event: &str, message: &str| {
        json!({
            "message": BASE64_STANDARD.encode(message),
            "notificationConfig": "projects/_/buckets/photos/notificationConfigs/1",
            "eventType": event, "payloadFormat": "JSON_API_V1",
            "bucketId": "photos", "objectId": "my cup+1.jpg",
            "objectGeneration": "1700000000000001", "eventTime": "2026-11-29T06:00:00.000000Z"
        })
    };
    let with_schema = |value: &Value| {
        let schema = json!({"type": "struct", "optional": false, "fields": [
            {"type": "bytes", "optional": false, "field": "message"},
            {"type": "string", "optional": false, "field": "eventType"}
        ]});
        json!({"schema": schema, "payload": value})
    };
    let resource = gcs_resource().to_string();
    for value in [fields("OBJECT_FINALIZE", &resource), fields("OBJECT_FINALIZE", "")] {
        for record in [value.clone(), with_schema(&value), json!([value])] {
            let object = object(&record);
            assert_eq!(object.reference.uri, "gs://photos/my cup+1.jpg");
            assert_eq!(object.reference.version_id.as_deref(), Some("1700000000000001"));
        }
    }
    // The attribute that is the key of the record is not in its value.
    for name in ["bucketId", "objectId"] {
        let mut value = fields("OBJECT_FINALIZE", &resource);
        value.as_object_mut().unwrap().remove(name);
        let typed = object(&value);
        assert_eq!(typed.content_type.as_deref(), Some("image/jpeg"));
    }
    for event in ["OBJECT_DELETE", "OBJECT_ARCHIVE"] {
        for record in [fields(event, &resource), with_schema(&fields(event, &resource))] {
            assert_eq!(skip(&record), SkipReason::Removed);
        }
    }
    assert_eq!(skip(&fields("OBJECT_METADATA_UPDATE", &resource)), SkipReason::OtherEvent);
    assert_eq!(code(&fields("OBJECT_FINALIZE", "{")), "reference.invalid_json");

    // With `kafka.record.headers` the value is the payload, in one of the converters' forms.
    let bytes = json!({"schema": {"type": "bytes", "optional": false},
        "payload": BASE64_STANDARD.encode(&resource)});
    let text = json!({"schema": {"type": "string", "optional": false}, "payload": resource});
    for value in [&bytes, &text] {
        let parse = |event| {
            let parsed = parse_with(&[("eventType", event)], value, InputFormat::Gcs).unwrap();
            parsed[0].entry.clone()
        };
        assert_eq!(created(parse("OBJECT_FINALIZE")).reference.uri, "gs://photos/my cup+1.jpg");
        assert!(matches!(parse("OBJECT_DELETE"), Entry::Skipped { .. }));
    }
    // A schema around anything else is no notification.
    for payload in [json!("*"), json!(1), json!({"uri": "gs://photos/a.jpg"}), json!([1, 2])] {
        let error = parse_with(&[], &with_schema(&payload), InputFormat::Auto).unwrap_err();
        assert_eq!(error.code(), "reference.missing_uri", "{payload}");
    }
    let several = with_schema(&json!({"Records": [put("a"), put("b")]}));
    let error = parse_with(&[], &several, InputFormat::Auto).unwrap_err();
    assert_eq!(error, ReferenceError::TooManyObjects { objects: 2, limit: 1 });
}

#[test]
fn events_without_an_image_are_skipped_with_their_reason() {
    let record = |name: &str| json!({"Records": [s3_record(name, &json!({"key": "a"}))]});
    for (payload, reason) in [
        (record("ObjectRemoved:Delete"), SkipReason::Removed),
        (record("s3:ObjectRemoved:DeleteMarkerCreated"), SkipReason::Removed),
        (record("LifecycleExpiration:Delete"), SkipReason::Removed),
        (record("ObjectTagging:Put"), SkipReason::OtherEvent),
        (record("s3:ObjectAccessed:Get"), SkipReason::OtherEvent),
        (json!({"Records": [put("folder/")]}), SkipReason::Folder),
        (json!({"Records": []}), SkipReason::Empty),
        (json!([]), SkipReason::Empty),
        (
            json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"}),
            SkipReason::Test,
        ),
        (
            azure_event("Microsoft.EventGrid.SubscriptionValidationEvent", &json!({})),
            SkipReason::Test,
        ),
        (azure_event("Microsoft.Storage.BlobTierChanged", &json!({})), SkipReason::OtherEvent),
    ] {
        assert_eq!(skip(&payload), reason, "{payload}");
    }
}

#[test]
fn references_stay_references() {
    for payload in [
        json!({"uri": "s3://photos/a.jpg"}),
        json!({"uri": "s3://photos/a.jpg", "Records": [put("b.jpg")]}),
        json!({"uri": "s3://photos/a.jpg", "specversion": "1.0", "kind": "storage#object"}),
        json!({"specversion": "1.0", "id": "e", "source": "/s", "type": "x",
               "data": {"uri": "s3://photos/a.jpg"}}),
    ] {
        let Entry::Reference(reference) = entry(&payload) else { panic!("{payload}") };
        assert_eq!(reference.uri, "s3://photos/a.jpg");
    }
    let error = parse_with(&[], &json!({"key": "a"}), InputFormat::Auto).unwrap_err();
    assert_eq!(error.code(), "reference.missing_uri");
}

#[test]
fn another_format_than_the_configured_one_is_refused() {
    let reference = json!({"uri": "s3://photos/a.jpg"});
    let s3 = json!({"Records": [put("a.jpg")]});
    let azure = azure_event("Microsoft.Storage.BlobCreated", &azure_data(""));
    let code = |payload: &Value, format| match parse_with(&[], payload, format) {
        Ok(_) => "accepted",
        Err(error) => error.code(),
    };
    let unexpected = "reference.unexpected_format";
    for format in [InputFormat::S3, InputFormat::Gcs, InputFormat::Azure, InputFormat::CloudEvents]
    {
        assert_eq!(code(&reference, format), unexpected, "{format:?}");
    }
    assert_eq!(code(&s3, InputFormat::S3), "accepted");
    assert_eq!(code(&s3, InputFormat::Azure), unexpected);
    assert_eq!(code(&azure, InputFormat::S3), unexpected);
    assert_eq!(code(&azure, InputFormat::Azure), "accepted");
    assert_eq!(code(&s3, InputFormat::Reference), "reference.missing_uri");
    assert_eq!(code(&reference, InputFormat::Reference), "accepted");
}

#[test]
fn wrong_types_and_malformed_keys_fail_alone() {
    let of = |object: Value| json!({"Records": [s3_record("ObjectCreated:Put", &object)]});
    for (object, expected) in [
        (json!({"key": "%"}), "reference.invalid_key"),
        (json!({"key": "a%2"}), "reference.invalid_key"),
        (json!({"key": "%ff"}), "reference.invalid_key"),
        (json!({"key": ""}), "reference.invalid_field"),
        (json!({"key": null}), "reference.invalid_field"),
        (json!({"key": 7}), "reference.invalid_field"),
        (json!({"key": ["a"]}), "reference.invalid_field"),
        (json!({}), "reference.invalid_field"),
        (json!([]), "reference.invalid_field"),
        (json!("a"), "reference.invalid_field"),
        (json!({"key": "a", "size": -1}), "reference.invalid_field"),
        (json!({"key": "a", "size": 1e300}), "reference.invalid_field"),
        (json!({"key": "a", "size": {}}), "reference.invalid_field"),
        (json!({"key": "a", "eTag": 1}), "reference.invalid_field"),
        (json!({"key": "a", "versionId": true}), "reference.invalid_field"),
        (json!({"key": "a", "sequencer": {}}), "reference.invalid_field"),
        (json!({"key": "a".repeat(9000)}), "reference.field_too_long"),
        (json!({"key": "%61".repeat(9000)}), "reference.field_too_long"),
        (json!({"key": "a", "eTag": "e".repeat(2000)}), "reference.field_too_long"),
    ] {
        assert_eq!(code(&of(object.clone())), expected, "{object}");
    }
    let mut record = put("a.jpg");
    for bucket in [json!("photos/../private"), json!(""), json!(7), json!("a b"), Value::Null] {
        record["s3"]["bucket"]["name"] = bucket.clone();
        assert_eq!(code(&json!({"Records": [record]})), "reference.invalid_field", "{bucket}");
    }
    for element in [json!(1), json!(null), json!([]), json!({}), json!({"eventName": {}})] {
        assert_eq!(code(&json!({"Records": [element]})), "reference.invalid_field");
    }
}

#[test]
fn a_size_of_twenty_digits_is_no_size() {
    let text = json!({"Records": [put("a.jpg")]}).to_string();
    for (size, expected) in [("18446744073709551615", true), ("18446744073709551616", false)] {
        let payload = text.replace("\"size\":1024", &format!("\"size\":{size}"));
        let parsed =
            notification::parse(&Headers::default(), payload.as_bytes(), InputFormat::Auto);
        let entry = parsed.unwrap().remove(0).entry;
        assert_eq!(matches!(entry, Entry::Object(_)), expected, "{size}: {entry:?}");
    }
}

#[test]
fn a_record_with_too_many_objects_fails_as_a_whole() {
    let records = |count: usize| json!({"Records": vec![json!({"eventName": "x"}); count]});
    assert_eq!(entries(&records(OBJECTS_MAX)).len(), OBJECTS_MAX);
    for count in [OBJECTS_MAX + 1, 10_000] {
        let error = parse_with(&[], &records(count), InputFormat::Auto).unwrap_err();
        assert_eq!(error.code(), "reference.too_many_objects");
        assert!(error.to_string().contains(&count.to_string()), "{error}");
    }
    // A structured CloudEvent is one event: its list is not counted before it is parsed.
    let structured = json!({"specversion": "1.0", "id": "e", "type": "x", "data": records(2)});
    let error = parse_with(&[], &structured, InputFormat::Auto).unwrap_err();
    assert_eq!(error, ReferenceError::TooManyObjects { objects: 2, limit: 1 });
    let wrong = parse_with(&[], &json!({"Records": {"a": 1}}), InputFormat::Auto).unwrap_err();
    assert_eq!(wrong.code(), "reference.invalid_field");
}

#[test]
fn deep_json_is_refused_by_the_parser() {
    let deep = format!("{{\"Records\": {}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let error = notification::parse(&Headers::default(), deep.as_bytes(), InputFormat::Auto);
    assert_eq!(error.unwrap_err().code(), "reference.invalid_json");
}

/// Values of every kind, with the names that notifications use.
fn json_value() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "Records",
        "s3",
        "bucket",
        "name",
        "object",
        "key",
        "size",
        "eTag",
        "versionId",
        "sequencer",
        "eventName",
        "eventType",
        "data",
        "url",
        "detail",
        "detail-type",
        "source",
        "kind",
        "message",
        "action",
        "attributes",
        "bucketId",
        "schema",
        "payload",
        "specversion",
        "type",
        "id",
        "uri",
        "generation",
    ]);
    let text = prop::sample::select(vec![
        "",
        "ObjectCreated:Put",
        "aws.s3",
        "Object Created",
        "storage#object",
        "OBJECT_FINALIZE",
        "Microsoft.Storage.BlobCreated",
        "https://a.blob.x/c/d",
        "photos",
        "%2F",
        "%",
        "1.0",
        "../..",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_record_has_more_entries_than_were_counted(payload in json_value()) {
        let text = payload.to_string();
        for format in FORMATS {
            let parsed = notification::parse(&Headers::default(), text.as_bytes(), format);
            if let Ok(entries) = parsed {
                prop_assert!(!entries.is_empty());
                prop_assert!(entries.len() <= notification::count_objects(text.as_bytes()));
                for entry in &entries {
                    prop_assert_eq!(entry.alone.is_some(), entries.len() > 1);
                }
            }
        }
    }
}
