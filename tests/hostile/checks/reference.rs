//! The contract of the references' reader: any record is a reference within the limits, or an error
//! with a message.

use dog_iqa::event::reference::{
    ETAG_CHARS_MAX, ID_CHARS_MAX, METADATA_BYTES_MAX, POLICY_CHARS_MAX, URI_CHARS_MAX, parse,
};
use dog_iqa::event::{Headers, ImageReference, TraceContext};

use crate::message;

/// A record's headers and its value.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    /// Names and values, as arbitrary bytes.
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The value.
    pub(crate) payload: Vec<u8>,
}

impl Record {
    /// Reads a record from bytes: one line per header, `name=value` or `name` for a header without
    /// a value, then an empty line, then the record's value.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut headers = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if line.is_empty() {
                break;
            }
            headers.push(match line.iter().position(|byte| *byte == b'=') {
                Some(at) => (line[..at].to_vec(), Some(line[at + 1..].to_vec())),
                None => (line.to_vec(), None),
            });
        }
        Self { headers, payload: rest.to_vec() }
    }

    /// Writes the form that [`Record::from_bytes`] reads. A header with a line feed is read as
    /// another record.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.headers {
            bytes.extend(name);
            if let Some(value) = value {
                bytes.push(b'=');
                bytes.extend(value);
            }
            bytes.push(b'\n');
        }
        bytes.push(b'\n');
        bytes.extend(&self.payload);
        bytes
    }
}

/// Returns true if the record is a reference. Panics if its reader violates its contract.
pub(crate) fn check(record: &Record) -> bool {
    let as_text = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| {
        Some((String::from_utf8(name.clone()).ok()?, value.clone()))
    };
    let Some(headers) = record.headers.iter().map(as_text).collect() else { return false };
    let reference = match parse(&Headers::new(headers), &record.payload) {
        Ok(reference) => reference,
        Err(error) => {
            message::check(error.code(), &["reference"], &error.to_string());
            return false;
        }
    };
    check_limits(&reference);
    if let Some(trace) = &reference.trace {
        let again = TraceContext::parse(&trace.header(), trace.state());
        assert_eq!(again.as_ref(), Some(trace), "a trace survives its headers");
    }
    // The default id is the URI, which may be longer than an explicit id.
    if reference.id != reference.uri {
        let json = serde_json::to_vec(&reference).expect("a reference is plain data");
        let again = parse(&Headers::default(), &json).expect("a reference can be sent again");
        // The JSON has neither the trace nor the fields that were ignored.
        let expected = ImageReference { trace: None, mistaken_fields: Vec::new(), ..reference };
        assert_eq!(again, expected);
    }
    true
}

fn check_limits(reference: &ImageReference) {
    let ImageReference { id, uri, etag, sha256, policy, metadata, .. } = reference;
    let is_within = |text: &str, chars_max| !text.is_empty() && text.chars().count() <= chars_max;
    assert!(id == uri || is_within(id, ID_CHARS_MAX), "the id has {} bytes", id.len());
    assert!(is_within(uri, URI_CHARS_MAX));
    assert!(etag.as_ref().is_none_or(|etag| is_within(etag, ETAG_CHARS_MAX)));
    assert!(policy.as_ref().is_none_or(|policy| is_within(policy, POLICY_CHARS_MAX)));
    let is_digest = |text: &String| {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    assert!(sha256.as_ref().is_none_or(is_digest));
    let metadata = serde_json::to_vec(metadata).expect("metadata is JSON");
    assert!(metadata.len() <= METADATA_BYTES_MAX);
}

/// Returns the memory limit for checking a record, in bytes. JSON of only brackets needs a hundred
/// times its length, and this check reads it twice.
pub(crate) fn memory_max(record: &Record) -> u64 {
    (64 << 10) + 256 * record.to_bytes().len() as u64
}
