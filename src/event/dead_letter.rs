//! The reason why a record could not be answered, as headers of the unchanged record.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use thiserror::Error;

use crate::event::headers::Headers;
use crate::event::quality_event::Source;
use crate::redact;

/// Prefix of every header of a reason. A second failure replaces these headers, and a replay
/// removes them.
pub const HEADER_PREFIX: &str = "dogiqa.error.";

/// Header with the number of replays of a dead letter.
pub const REPLAY_COUNT_HEADER: &str = "dogiqa.replay.count";

/// Header that lists the parts of the record that did not fit into its dead letter.
pub const LEFT_OUT_HEADER: &str = "dogiqa.error.left_out";

/// Header of a dead letter whose record had no key: the key is topic, partition and offset of the
/// record instead, because a compacted topic refuses a record without one. A replay removes it.
pub const GENERATED_KEY_HEADER: &str = "dogiqa.error.generated_key";

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Longest header value that an error repeats, in characters.
const QUOTED_CHARS_MAX: usize = 80;

pub(crate) const CODE: &str = "dogiqa.error.code";
pub(crate) const MESSAGE: &str = "dogiqa.error.message";
pub(crate) const STAGE: &str = "dogiqa.error.stage";
pub(crate) const ATTEMPTS: &str = "dogiqa.error.attempts";
pub(crate) const TIME: &str = "dogiqa.error.time";
pub(crate) const GROUP: &str = "dogiqa.error.group";
pub(crate) const VERSION: &str = "dogiqa.error.version";
pub(crate) const TOPIC: &str = "dogiqa.error.original.topic";
pub(crate) const PARTITION: &str = "dogiqa.error.original.partition";
pub(crate) const OFFSET: &str = "dogiqa.error.original.offset";
pub(crate) const TIMESTAMP: &str = "dogiqa.error.original.timestamp";
pub(crate) const INDEX: &str = "dogiqa.error.original.index";

/// The reason for a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterReason {
    /// Stable name of the error, such as `fetch.not_found`.
    pub code: String,
    /// Description of the error, for people. On the wire it has at most [`MESSAGE_BYTES_MAX`]
    /// bytes, and its URIs no query and no credentials.
    pub message: String,
    /// Stage that failed.
    pub stage: String,
    /// Number of attempts, at least 1.
    pub attempts: u32,
    /// Time of the failure.
    pub time: DateTime<Utc>,
    /// Consumer group of the worker.
    pub group: String,
    /// Version of this program.
    pub version: String,
    /// Position of the original record.
    pub original: Source,
}

/// The error of headers that are not those of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeadLetterError {
    /// A header is missing or not text.
    #[error("header {name} is missing or not text; is this a dead letter of this service?")]
    Missing {
        /// The header.
        name: &'static str,
    },
    /// A header is not a number or a time.
    #[error("header {name} cannot be read: {value:?}")]
    Invalid {
        /// The header.
        name: &'static str,
        /// The value, shortened.
        value: String,
    },
}

impl DeadLetterReason {
    /// Returns the headers to add to the record.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            (CODE, self.code.clone()),
            (MESSAGE, message_on_the_wire(&self.message)),
            (STAGE, self.stage.clone()),
            (ATTEMPTS, self.attempts.to_string()),
            (TIME, self.time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            (GROUP, self.group.clone()),
            (VERSION, self.version.clone()),
            (TOPIC, self.original.topic.clone()),
            (PARTITION, self.original.partition.to_string()),
            (OFFSET, self.original.offset.to_string()),
        ];
        if let Some(timestamp) = self.original.timestamp {
            headers.push((TIMESTAMP, timestamp.to_string()));
        }
        if let Some(index) = self.original.index {
            headers.push((INDEX, index.to_string()));
        }
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Parses the reason from the headers of a dead letter.
    ///
    /// # Errors
    /// Fails if a header is missing or malformed. Only the timestamp and the index may be missing.
    pub fn from_headers(headers: &Headers) -> Result<Self, DeadLetterError> {
        Ok(Self {
            code: text(headers, CODE)?.to_owned(),
            message: text(headers, MESSAGE)?.to_owned(),
            stage: text(headers, STAGE)?.to_owned(),
            attempts: parsed(headers, ATTEMPTS)?,
            time: parsed(headers, TIME)?,
            group: text(headers, GROUP)?.to_owned(),
            version: text(headers, VERSION)?.to_owned(),
            original: Source {
                topic: text(headers, TOPIC)?.to_owned(),
                partition: parsed(headers, PARTITION)?,
                offset: parsed(headers, OFFSET)?,
                timestamp: optional(headers, TIMESTAMP)?,
                index: optional(headers, INDEX)?,
            },
        })
    }
}

/// Returns true if a header belongs to a reason.
pub fn is_reason_header(name: &str) -> bool {
    name.starts_with(HEADER_PREFIX)
}

fn text<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, DeadLetterError> {
    headers.get_text(name).ok_or(DeadLetterError::Missing { name })
}

fn optional<T: FromStr>(
    headers: &Headers,
    name: &'static str,
) -> Result<Option<T>, DeadLetterError> {
    headers.get(name).map(|_| parsed(headers, name)).transpose()
}

fn parsed<T: FromStr>(headers: &Headers, name: &'static str) -> Result<T, DeadLetterError> {
    let value = text(headers, name)?;
    value.parse().map_err(|_| {
        let value = value.chars().take(QUOTED_CHARS_MAX).collect();
        DeadLetterError::Invalid { name, value }
    })
}

/// Redacts a message and limits its length.
fn message_on_the_wire(message: &str) -> String {
    let mut redacted = redact::uris_in(message);
    redacted.truncate(redacted.floor_char_boundary(MESSAGE_BYTES_MAX));
    redacted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(message: &str) -> DeadLetterReason {
        DeadLetterReason {
            code: "fetch.not_found".to_owned(),
            message: message.to_owned(),
            stage: "fetch".to_owned(),
            attempts: 3,
            time: DateTime::from_timestamp_millis(1_790_000_000_123).unwrap(),
            group: "dogiqa".to_owned(),
            version: "0.1.0".to_owned(),
            original: Source {
                topic: "image-references".to_owned(),
                partition: 2,
                offset: 41,
                timestamp: Some(1_790_000_000_000),
                index: None,
            },
        }
    }

    #[test]
    fn a_reason_is_parsed_from_its_own_headers() {
        let mut reason = reason("there is no object at s3://photos/a.jpg");
        let headers: Headers = reason.headers().into_iter().collect();
        assert_eq!(DeadLetterReason::from_headers(&headers).unwrap(), reason);

        reason.original.timestamp = None;
        reason.original.index = Some(7);
        let headers: Headers = reason.headers().into_iter().collect();
        assert_eq!(DeadLetterReason::from_headers(&headers).unwrap(), reason);
    }

    #[test]
    fn every_header_of_a_reason_has_the_prefix() {
        assert!(reason("").headers().iter().all(|(name, _)| is_reason_header(name)));
        assert!(!is_reason_header(REPLAY_COUNT_HEADER));
    }

    #[test]
    fn the_last_reason_counts_if_there_are_two() {
        let mut headers = reason("first").headers();
        headers.extend(reason("second").headers());
        let headers: Headers = headers.into_iter().collect();
        assert_eq!(DeadLetterReason::from_headers(&headers).unwrap().message, "second");
    }

    #[test]
    fn a_message_reaches_the_topic_without_secrets_of_uris() {
        let message = "\"https://me:s3cret@a.com/b.jpg?s3cret\": status 403";
        assert_eq!(message_on_the_wire(message), "\"https:***@a.com/b.jpg…\": status 403");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = format!("x{}", "é".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(message_on_the_wire(&long).len(), MESSAGE_BYTES_MAX - 1);
    }

    #[test]
    fn the_error_names_the_missing_or_malformed_header() {
        let error = DeadLetterReason::from_headers(&Headers::default()).unwrap_err();
        assert_eq!(error, DeadLetterError::Missing { name: CODE });
        let mut headers = reason("").headers();
        headers.push((ATTEMPTS.to_owned(), "many".to_owned()));
        let error = DeadLetterReason::from_headers(&headers.into_iter().collect()).unwrap_err();
        assert!(matches!(error, DeadLetterError::Invalid { name: ATTEMPTS, .. }));
    }

    proptest! {
        #[test]
        fn no_message_makes_a_header_too_long(message in ".*") {
            prop_assert!(message_on_the_wire(&message).len() <= MESSAGE_BYTES_MAX);
        }
    }
}
