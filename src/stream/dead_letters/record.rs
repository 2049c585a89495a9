//! A record of the dead-letter topic: the input record as received, and the reason of its failure.

use rdkafka::message::OwnedHeaders;

use crate::event::dead_letter::{GENERATED_KEY_HEADER, LEFT_OUT_HEADER, REPLAY_COUNT_HEADER};
use crate::event::notification::{self, InputFormat};
use crate::event::{DeadLetterReason, Headers, ImageReference};
use crate::stream::record::delivery::Record;
use crate::stream::record::headers;

/// A record that could not be answered with an event.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
    /// Time at which it was written to the dead-letter topic, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The failure and the origin of the record.
    pub reason: DeadLetterReason,
    /// Number of times that the record was replayed before.
    pub replays: u64,
    /// Parts of the record that did not fit into the dead letter.
    pub left_out: Option<String>,
    /// The key of the record as received.
    pub key: Option<Vec<u8>>,
    /// The value of the record as received.
    pub payload: Option<Vec<u8>>,
    /// The headers of the dead letter whose names are UTF-8, in order.
    pub headers: Headers,
    native_headers: Option<OwnedHeaders>,
}

impl DeadLetter {
    /// Parses a record of the dead-letter topic.
    ///
    /// # Errors
    /// Fails if the record is not a dead letter of this service; the error is the reason.
    pub(crate) fn parse(record: Record) -> Result<Self, String> {
        let Record { partition, offset, timestamp_ms, key, payload, headers: native_headers } =
            record;
        // Only headers of the input record can have names that are not UTF-8, never the reason.
        let headers = Headers::new(headers::readable(native_headers.as_ref()));
        let reason = DeadLetterReason::from_headers(&headers).map_err(|error| error.to_string())?;
        let key = key.filter(|_| headers.get(GENERATED_KEY_HEADER).is_none());
        let replays = headers.get_text(REPLAY_COUNT_HEADER).and_then(|count| count.parse().ok());
        Ok(Self {
            partition,
            offset,
            timestamp_ms,
            reason,
            replays: replays.unwrap_or(0),
            left_out: headers.get_text(LEFT_OUT_HEADER).map(str::to_owned),
            key,
            payload,
            headers,
            native_headers,
        })
    }

    /// Returns the reference in the record, or that of its object. `None` if it cannot be parsed,
    /// or names several objects.
    pub fn reference(&self) -> Option<ImageReference> {
        let payload = self.payload.as_deref()?;
        let entries = notification::parse(&self.headers, payload, InputFormat::Auto).ok()?;
        let [only] = entries.as_slice() else { return None };
        only.entry.reference().cloned()
    }

    /// Returns a readable name: the id of the reference, else the key as text, else the origin.
    pub fn name(&self) -> String {
        if let Some(reference) = self.reference() {
            return reference.id;
        }
        match self.key.as_deref().filter(|key| !key.is_empty()) {
            Some(key) => String::from_utf8_lossy(key).into_owned(),
            None => self.origin(),
        }
    }

    /// Returns topic, partition and offset of the input record.
    pub fn origin(&self) -> String {
        let original = &self.reason.original;
        format!("{}/{}@{}", original.topic, original.partition, original.offset)
    }

    /// Returns the summed size of key, value and headers.
    pub(crate) fn bytes(&self) -> usize {
        let headers =
            self.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
        let (key, payload) = (self.key.as_deref(), self.payload.as_deref());
        key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len) + headers.sum::<usize>()
    }

    /// Returns the headers of the replayed record.
    pub(crate) fn replay_headers(&self) -> OwnedHeaders {
        headers::for_replay(self.native_headers.as_ref(), self.replays + 1)
    }
}
