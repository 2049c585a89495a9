//! Records of the input topic: plain references, CloudEvents in both modes, and invalid ones.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fastrand::Rng;

use super::campaign::{Bytes, Target, run};
use super::json::{large, object, value};
use super::mutate::mutate;
use super::reference::{self, Record};
use super::text::{disturbed, text};

pub(crate) const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const SHA256: &str = r#""9F86D081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""#;

const MEMBERS: [(&str, &[&str]); 7] = [
    ("uri", &[r#""s3://photos/a.jpg""#, r#""file:///a%20b""#, r#""https://a.example/b?c#d""#]),
    ("id", &[r#""upload-1""#, "null", r#""\u0000""#]),
    ("etag", &[r#""abc""#, r#""W/\"abc\"""#, r#""\"""#]),
    ("sha256", &[SHA256, r#""00""#, "null"]),
    ("policy", &[r#""gallery""#, r#""""#]),
    ("metadata", &[r#"{"user":42,"list":[1.5,null,{"a":-0.0}]}"#, "{}", "[]"]),
    ("later", &["[[[[]]]]", "1e5"]),
];

impl Bytes for Record {
    fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.to_bytes())
    }
}

#[test]
fn hostile_references() {
    let generate = |rng: &mut Rng| {
        let mut payload = payload(rng);
        if rng.u8(..4) == 0 {
            mutate(rng, &mut payload, br#"{"uri":"s3://a/b","metadata":{"a":[]}}"#);
        }
        Record { headers: headers(rng), payload }
    };
    run(&Target {
        name: "hostile_references",
        cost: 1,
        generate: &generate,
        check: &reference::check,
        memory_max: &reference::memory_max,
    });
}

#[test]
fn a_record_survives_writing_and_reading() {
    let headers = vec![(b"a".to_vec(), None), (b"b".to_vec(), Some(b"c=d".to_vec()))];
    let record = Record { headers, payload: b"\n{}\n".to_vec() };
    assert_eq!(Record::from_bytes(&record.to_bytes()), record);
}

fn payload(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..40) {
        // Rarely, because each may have a megabyte.
        0 => return large(rng),
        1 => return value(rng, 0).into_bytes(),
        2 => return [b"\xef\xbb\xbf".as_slice(), object(rng, &MEMBERS).as_bytes()].concat(),
        _ => {}
    }
    let mut data = object(rng, &MEMBERS);
    let is_structured = rng.bool();
    if is_structured {
        if rng.u8(..4) == 0 {
            data = format!("\"{}\"", BASE64_STANDARD.encode(&data));
        }
        let parent = format!("{PARENT:?}");
        let members: [(&str, &[&str]); 8] = [
            ("specversion", &[r#""1.0""#, r#""1.1""#, r#""0.3""#, "1.0"]),
            ("id", &[r#""from-envelope""#, "7"]),
            ("source", &[r#""/uploads""#]),
            ("type", &[r#""uploaded""#]),
            ("data", &[&data]),
            ("data_base64", &[&data, r#""e30=""#, r#""***""#]),
            ("traceparent", &[&parent]),
            ("tracestate", &[r#""a=b""#]),
        ];
        // The data is in only one of the two members.
        let left_out = [4, 5][rng.usize(..2)];
        let kept: Vec<_> = members
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != left_out)
            .map(|(_, m)| *m)
            .collect();
        data = object(rng, &kept);
    }
    data.into_bytes()
}

/// Generates headers of every mode, complete and incomplete, with unusual names and values.
pub(crate) fn headers(rng: &mut Rng) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    const MARKS: [(&str, &str); 4] =
        [("ce_specversion", "1.0"), ("ce_id", "from-header"), ("ce_source", "/"), ("ce_type", "t")];
    const TYPES: [&str; 8] = [
        "application/cloudevents+json",
        "Application/CloudEvents+JSON; charset=UTF-8",
        "application/cloudevents",
        "application/cloudevents-batch+json",
        "application/cloudevents+avro\x1b[2J",
        "application/json",
        "application/cloudevents+\u{10ffff}",
        "",
    ];
    let mut headers: Vec<(String, Option<String>)> = Vec::new();
    if rng.bool() {
        let content_type = TYPES[rng.usize(..TYPES.len()).min(rng.usize(..TYPES.len()))];
        headers.push(("content-type".to_owned(), Some(content_type.to_owned())));
    }
    if rng.bool() {
        headers.extend(MARKS.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
    }
    if rng.bool() {
        let name = ["traceparent", "ce_traceparent"][rng.usize(..2)];
        headers.push((name.to_owned(), Some(PARENT.to_owned())));
        headers.push(("tracestate".to_owned(), Some("a=b,c=d".to_owned())));
    }
    for (name, value) in &mut headers {
        match rng.u8(..24) {
            0 => *value = None,
            1 => *value = Some(text(rng)),
            2 => *name = disturbed(rng, name),
            3 => *value = value.take().map(|value| disturbed(rng, &value)),
            _ => {}
        }
    }
    if rng.u8(..6) == 0 {
        headers.push((text(rng), Some(text(rng))));
    }
    rng.shuffle(&mut headers);
    let mut headers: Vec<_> = headers
        .into_iter()
        .map(|(name, value)| (name.into_bytes(), value.map(String::into_bytes)))
        .collect();
    if rng.u8(..16) == 0 {
        for (name, value) in &mut headers {
            let bytes = if rng.bool() { name } else { value.get_or_insert_default() };
            mutate(rng, bytes, b"\xff\xfe");
        }
    }
    headers
}
