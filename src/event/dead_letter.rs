//! Why a reference could not be answered: headers beside the record as it came.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use thiserror::Error;

use super::headers::Headers;
use super::quality_event::Source;
use crate::redact;

/// Every header of the reason begins with this; what carries it is replaced by a second failure
/// and stripped by a replay.
pub const HEADER_PREFIX: &str = "dogiqa.error.";

/// Counts how often a dead letter was sent again.
pub const REPLAY_COUNT_HEADER: &str = "dogiqa.replay.count";

/// Says which parts of the record did not fit into its dead letter.
pub const LEFT_OUT_HEADER: &str = "dogiqa.error.left_out";

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;

pub(super) const CODE: &str = "dogiqa.error.code";
pub(super) const MESSAGE: &str = "dogiqa.error.message";
pub(super) const STAGE: &str = "dogiqa.error.stage";
pub(super) const ATTEMPTS: &str = "dogiqa.error.attempts";
pub(super) const TIME: &str = "dogiqa.error.time";
pub(super) const GROUP: &str = "dogiqa.error.group";
pub(super) const VERSION: &str = "dogiqa.error.version";
pub(super) const TOPIC: &str = "dogiqa.error.original.topic";
pub(super) const PARTITION: &str = "dogiqa.error.original.partition";
pub(super) const OFFSET: &str = "dogiqa.error.original.offset";
pub(super) const TIMESTAMP: &str = "dogiqa.error.original.timestamp";

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterReason {
    /// Stable name of the error, such as `fetch.not_found`.
    pub code: String,
    /// What happened, for a person. On the wire it is cut to [`MESSAGE_BYTES_MAX`], and URIs in it
    /// lose their query and credentials.
    pub message: String,
    /// The station that gave up.
    pub stage: String,
    /// How often it tried, at least 1.
    pub attempts: u32,
    /// When it gave up.
    pub time: DateTime<Utc>,
    /// The consumer group that gave up.
    pub group: String,
    /// The version of this program.
    pub version: String,
    /// Where the record came from.
    pub original: Source,
}

/// A record whose headers are no dead letter's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeadLetterError {
    /// A header is not there, or is no text.
    #[error("header {name} is missing or no text; is this a dead letter of this service?")]
    Missing {
        /// The header.
        name: &'static str,
    },
    /// A header holds no number or time.
    #[error("header {name} cannot be read: {value:?}")]
    Invalid {
        /// The header.
        name: &'static str,
        /// What it holds, cut to a readable length.
        value: String,
    },
}

impl DeadLetterReason {
    /// The headers to add to the record.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            (CODE, self.code.clone()),
            (MESSAGE, readable(&self.message)),
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
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Reads the reason back from a dead letter's headers.
    ///
    /// # Errors
    /// A header that is missing or cannot be read; only the timestamp may be absent.
    pub fn from_headers(headers: &Headers) -> Result<Self, DeadLetterError> {
        let timestamp = match headers.get(TIMESTAMP) {
            Some(_) => Some(parsed(headers, TIMESTAMP)?),
            None => None,
        };
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
                timestamp,
            },
        })
    }
}

/// Whether a header belongs to a reason.
pub fn is_reason_header(name: &str) -> bool {
    name.starts_with(HEADER_PREFIX)
}

fn text<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, DeadLetterError> {
    headers.get_text(name).ok_or(DeadLetterError::Missing { name })
}

fn parsed<T: FromStr>(headers: &Headers, name: &'static str) -> Result<T, DeadLetterError> {
    let value = text(headers, name)?;
    value.parse().map_err(|_| {
        let value = value.chars().take(80).collect();
        DeadLetterError::Invalid { name, value }
    })
}

/// The message as it may stand in a topic: without secrets of URIs, and of bounded length.
fn readable(message: &str) -> String {
    let mut message = redact::uris_in(message);
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
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
            },
        }
    }

    #[test]
    fn a_reason_is_read_back_from_its_own_headers() {
        let mut reason = reason("there is no object at s3://photos/a.jpg");
        let headers: Headers = reason.headers().into_iter().collect();
        assert_eq!(DeadLetterReason::from_headers(&headers).unwrap(), reason);

        reason.original.timestamp = None;
        let headers: Headers = reason.headers().into_iter().collect();
        assert_eq!(DeadLetterReason::from_headers(&headers).unwrap(), reason);
    }

    #[test]
    fn every_header_of_a_reason_carries_the_prefix() {
        assert!(reason("").headers().iter().all(|(name, _)| is_reason_header(name)));
        assert!(!is_reason_header(REPLAY_COUNT_HEADER));
    }

    #[test]
    fn the_last_failure_counts_when_a_reason_stands_twice() {
        let mut headers = reason("first").headers();
        headers.extend(reason("second").headers());
        let headers: Headers = headers.into_iter().collect();
        assert_eq!(DeadLetterReason::from_headers(&headers).unwrap().message, "second");
    }

    #[test]
    fn a_message_reaches_the_topic_without_secrets_of_uris() {
        let message = "\"https://me:s3cret@a.com/b.jpg?s3cret\": status 403";
        assert_eq!(readable(message), "\"https:***@a.com/b.jpg…\": status 403");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = format!("x{}", "é".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(readable(&long).len(), MESSAGE_BYTES_MAX - 1);
    }

    #[test]
    fn a_record_without_a_reason_says_which_header_it_lacks() {
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
            prop_assert!(readable(&message).len() <= MESSAGE_BYTES_MAX);
        }
    }
}
