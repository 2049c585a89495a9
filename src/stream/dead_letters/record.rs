//! Records of the dead-letter topic: the record as it came, and why it ended there.

use rdkafka::message::OwnedHeaders;
use tokio_util::sync::CancellationToken;

use crate::event::dead_letter::{LEFT_OUT_HEADER, REPLAY_COUNT_HEADER};
use crate::event::{DeadLetterReason, Headers, ImageReference, reference};

use crate::stream::clients::topic_reader::{Next, POLL, Start, Tail};
use crate::stream::error::StreamError;
use crate::stream::record::delivery::Record;
use crate::stream::record::headers;
use crate::stream::settings::Settings;

/// A record that could not be answered with an event.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its partition of the dead-letter topic.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was written there, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Why it ended there.
    pub reason: DeadLetterReason,
    /// How often it was sent again before.
    pub replays: u64,
    /// What of the record did not fit, if anything.
    pub left_out: Option<String>,
    /// The record's key as it came.
    pub key: Option<Vec<u8>>,
    /// The record's value as it came.
    pub payload: Option<Vec<u8>>,
    /// The headers of the dead letter whose names are text, in their order.
    pub headers: Headers,
    native: Option<OwnedHeaders>,
}

impl DeadLetter {
    /// Reads a record.
    ///
    /// # Errors
    /// Why it is no dead letter of this service.
    pub(crate) fn read(record: Record) -> Result<Self, String> {
        let Record { partition, offset, timestamp_ms, key, payload, headers: native } = record;
        // A name that is not text is the record's own: the reason stands behind it.
        let headers = Headers::new(headers::readable(native.as_ref()));
        let reason = DeadLetterReason::from_headers(&headers).map_err(|error| error.to_string())?;
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
            native,
        })
    }

    /// The reference in it, if it can be read.
    pub fn reference(&self) -> Option<ImageReference> {
        reference::parse(&self.headers, self.payload.as_deref()?).ok()
    }

    /// What a person calls it: the reference's id, else the key as text, else where it came from.
    pub fn name(&self) -> String {
        if let Some(reference) = self.reference() {
            return reference.id;
        }
        match self.key.as_deref().filter(|key| !key.is_empty()) {
            Some(key) => String::from_utf8_lossy(key).into_owned(),
            None => self.origin(),
        }
    }

    /// Where the record came from: topic, partition and offset.
    pub fn origin(&self) -> String {
        let original = &self.reason.original;
        format!("{}/{}@{}", original.topic, original.partition, original.offset)
    }

    /// Its size: key, value and headers.
    pub(crate) fn bytes(&self) -> usize {
        let headers =
            self.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
        let (key, payload) = (self.key.as_deref(), self.payload.as_deref());
        key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len) + headers.sum::<usize>()
    }

    /// The headers of its replay.
    pub(crate) fn replay_headers(&self) -> OwnedHeaders {
        headers::for_replay(self.native.as_ref(), self.replays + 1)
    }
}

/// The dead letters that are there now.
pub struct DeadLetters {
    tail: Tail,
    foreign: u64,
}

impl DeadLetters {
    /// Finds the dead-letter topic of the settings and begins to read it. Blocks.
    ///
    /// # Errors
    /// When no broker answers, or the topic does not exist or may not be read.
    pub fn open(settings: &Settings, start: Start) -> Result<Self, StreamError> {
        let tail = Tail::to_end(settings, &settings.dead_letter_topic, start)?;
        Ok(Self { tail, foreign: 0 })
    }

    /// The next one, in the order of its partition; none at the end, or on `stop`. Blocks.
    ///
    /// # Errors
    /// When the topic can no longer be read.
    pub fn next(&mut self, stop: &CancellationToken) -> Result<Option<DeadLetter>, StreamError> {
        while !stop.is_cancelled() {
            let record = match self.tail.next(POLL)? {
                Next::Record(_, record) => record,
                Next::Nothing => continue,
                Next::End => return Ok(None),
            };
            match DeadLetter::read(record) {
                Ok(letter) => return Ok(Some(letter)),
                Err(reason) => {
                    tracing::debug!(reason, "a record is no dead letter of this service");
                    self.foreign += 1;
                }
            }
        }
        Ok(None)
    }

    /// Records so far that are no dead letters of this service.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DeadLetters")
            .field("foreign", &self.foreign)
            .finish_non_exhaustive()
    }
}
