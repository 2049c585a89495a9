//! Notifications of object stores, valid and invalid.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fastrand::Rng;

use super::campaign::{Target, run};
use super::json::{large, object};
use super::mutate::mutate;
use super::notification;

const KEYS: [&str; 9] = [
    r#""a.jpg""#,
    r#""my+cup+%281%29.jpg""#,
    r#""caf%C3%A9%2Fb.png""#,
    r#""%""#,
    r#""%ff""#,
    r#""..%2F..%2Fetc""#,
    r#""folder/""#,
    r#""""#,
    "7",
];
const NUMBERS: [&str; 7] =
    ["1024", r#""1024""#, "-1", "1e400", "18446744073709551616", "{}", "null"];
const TEXTS: [&str; 6] = [r#""abc""#, r#""0055AED6DCD90281E5""#, r#""""#, "null", "1", "[]"];
const BUCKETS: [&str; 4] = [r#""photos""#, r#""photos/../private""#, r#""""#, "{}"];
const DONOR: &[u8] = br#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{}}]}"#;
/// Elements of a list that are no events.
const OTHERS: [&str; 7] =
    ["1", "null", "{}", "[]", r#""a""#, r#"{"uri":"s3://photos/a.jpg"}"#, r#"{"s3":{}}"#];

#[test]
fn hostile_notifications() {
    let generate = |rng: &mut Rng| {
        let mut payload = match rng.u8(..40) {
            // Rarely, because each may have a megabyte.
            0 => large(rng),
            1..5 => bridged(rng).into_bytes(),
            5..9 => resource(rng).into_bytes(),
            9..13 => grid(rng).into_bytes(),
            13..17 => list(rng).into_bytes(),
            17..19 => nested(rng).into_bytes(),
            19..21 => connector(rng).into_bytes(),
            21..30 => regular(rng).into_bytes(),
            _ => records(rng).into_bytes(),
        };
        if rng.u8(..4) == 0 {
            mutate(rng, &mut payload, DONOR);
        }
        payload
    };
    run(&Target {
        name: "hostile_notifications",
        cost: 2,
        generate: &generate,
        check: &|payload: &Vec<u8>| notification::check(payload),
        memory_max: &|payload: &Vec<u8>| notification::memory_max(payload),
    });
}

/// Generates a notification with all its members, so that some are accepted.
fn regular(rng: &mut Rng) -> String {
    let mut pick = |values: &[&'static str]| values[rng.usize(..values.len())];
    let (bucket, key, number) = (pick(&BUCKETS), pick(&KEYS), pick(&NUMBERS));
    let object = format!(r#"{{"key":{key},"size":{number},"eTag":{}}}"#, pick(&TEXTS));
    let s3 = format!(r#"{{"bucket":{{"name":{bucket}}},"object":{object}}}"#);
    let record = format!(r#"{{"eventName":"ObjectCreated:Put","s3":{s3}}}"#);
    match pick(&["s3", "several", "gcs"]) {
        "s3" => format!(r#"{{"Records":[{record}]}}"#),
        "several" => format!("[{record},{record},{record}]"),
        _ => format!(r#"{{"kind":"storage#object","bucket":{bucket},"name":{key}}}"#),
    }
}

/// Generates a list of events of every kind, and of other values.
fn list(rng: &mut Rng) -> String {
    let count = if rng.u8(..100) == 0 { rng.usize(..600) } else { rng.usize(..6) };
    let elements: Vec<String> = (0..count).map(|_| element(rng)).collect();
    format!("[{}]", elements.join(","))
}

fn element(rng: &mut Rng) -> String {
    match rng.u8(..9) {
        0 => OTHERS[rng.usize(..OTHERS.len())].to_owned(),
        1 => record(rng),
        2 => bridged(rng),
        3 => resource(rng),
        4 => grid(rng),
        5 => connector(rng),
        6 => records(rng),
        7 => regular(rng),
        _ => {
            let data = regular(rng);
            cloud_event(rng, &data)
        }
    }
}

/// Generates lists in lists and in envelopes, a few or a hundred deep.
fn nested(rng: &mut Rng) -> String {
    let mut value = if rng.bool() { list(rng) } else { element(rng) };
    let depth = if rng.u8(..20) == 0 { 100 } else { rng.usize(1..6) };
    for _ in 0..depth {
        value = match rng.u8(..5) {
            0 => cloud_event(rng, &value),
            1 => format!(r#"{{"schema":{{"type":"struct"}},"payload":{value}}}"#),
            2 => format!(r#"{{"Records":[{value}]}}"#),
            3 => format!("[{value},{}]", OTHERS[rng.usize(..OTHERS.len())]),
            _ => format!("[{value}]"),
        };
    }
    value
}

fn cloud_event(rng: &mut Rng, data: &str) -> String {
    let kinds = [
        r#""Microsoft.Storage.BlobCreated""#,
        r#""google.cloud.storage.object.v1.finalized""#,
        r#""photo.uploaded""#,
        "1",
    ];
    let versions = [r#""1.0""#, r#""1.0""#, r#""1.0""#, r#""0.3""#, "1"];
    let members: [(&str, &[&str]); 4] =
        [("specversion", &versions), ("id", &TEXTS), ("type", &kinds), ("data", &[data])];
    object(rng, &members)
}

/// Generates a Pub/Sub message as the fields of one object, with data or without.
fn connector(rng: &mut Rng) -> String {
    let data = BASE64_STANDARD.encode(resource(rng));
    let (data, kinds) =
        (format!("\"{data}\""), [r#""OBJECT_FINALIZE""#, r#""OBJECT_DELETE""#, "1"]);
    let members: [(&str, &[&str]); 5] = [
        ("eventType", &kinds),
        ("bucketId", &BUCKETS),
        ("objectId", &KEYS),
        ("objectGeneration", &NUMBERS),
        ("message", &[&data, r#""%""#, "{}"]),
    ];
    object(rng, &members)
}

fn records(rng: &mut Rng) -> String {
    let count = if rng.u8(..100) == 0 { rng.usize(..600) } else { rng.usize(..4) };
    let entries: Vec<String> = (0..count).map(|_| record(rng)).collect();
    let list = format!("[{}]", entries.join(","));
    if rng.u8(..8) == 0 { list } else { object(rng, &[("Records", &[&list]), ("Key", &["1"])]) }
}

fn record(rng: &mut Rng) -> String {
    let stored = object(
        rng,
        &[
            ("key", &KEYS),
            ("size", &NUMBERS),
            ("eTag", &TEXTS),
            ("versionId", &TEXTS),
            ("sequencer", &TEXTS),
            ("contentType", &TEXTS),
        ],
    );
    let bucket = object(rng, &[("name", &BUCKETS)]);
    let s3 = object(rng, &[("bucket", &[&bucket]), ("object", &[&stored])]);
    let names =
        [r#""ObjectCreated:Put""#, r#""s3:ObjectCreated:Copy""#, r#""ObjectRemoved:Delete""#, "1"];
    object(rng, &[("eventName", &names), ("s3", &[&s3])])
}

fn bridged(rng: &mut Rng) -> String {
    let stored = object(
        rng,
        &[("key", &KEYS), ("size", &NUMBERS), ("etag", &TEXTS), ("version-id", &TEXTS)],
    );
    let bucket = object(rng, &[("name", &BUCKETS)]);
    let detail = object(rng, &[("bucket", &[&bucket]), ("object", &[&stored])]);
    let kinds = [r#""Object Created""#, r#""Object Deleted""#, "null"];
    object(rng, &[("source", &[r#""aws.s3""#]), ("detail-type", &kinds), ("detail", &[&detail])])
}

fn resource(rng: &mut Rng) -> String {
    object(
        rng,
        &[
            ("kind", &[r#""storage#object""#]),
            ("bucket", &BUCKETS),
            ("name", &KEYS),
            ("generation", &NUMBERS),
            ("size", &NUMBERS),
            ("contentType", &TEXTS),
        ],
    )
}

fn grid(rng: &mut Rng) -> String {
    let urls = [
        r#""https://shop.blob.core.windows.net/photos/a%20b.jpg""#,
        r#""https://shop.blob.core.windows.net/photos""#,
        r#""https://evil.example/photos/%""#,
        "7",
    ];
    let members: [(&str, &[&str]); 4] =
        [("url", &urls), ("eTag", &TEXTS), ("contentLength", &NUMBERS), ("sequencer", &TEXTS)];
    let data = object(rng, &members);
    let kinds = [r#""Microsoft.Storage.BlobCreated""#, r#""Microsoft.Storage.BlobDeleted""#, "1"];
    let event = object(rng, &[("eventType", &kinds), ("data", &[&data]), ("subject", &TEXTS)]);
    if rng.bool() { event } else { format!("[{event},{event}]") }
}
