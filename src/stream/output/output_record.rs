//! A record of an output topic before it is written, and the reasons why it was not.

use rdkafka::message::OwnedHeaders;

use crate::stream::error::StreamError;

/// A record to be written.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The key. It determines the partition, as with Java's default partitioner.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub payload: &'a [u8],
    /// The headers.
    pub headers: OwnedHeaders,
}

/// A record to be written later, in a transaction.
#[derive(Debug, Clone)]
pub(crate) struct OutputRecord {
    pub(crate) topic: String,
    /// `None` lets the key determine the partition.
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: OwnedHeaders,
}

/// The reason why a record was not written, by remedy.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The record exceeds a size limit of the client, the topic or the broker.
    #[error(
        "the record is larger than {topic} accepts; raise kafka.message_bytes_max and the topic's \
         max.message.bytes"
    )]
    TooLarge {
        /// The topic.
        topic: String,
    },
    /// Sending again would not help.
    #[error(transparent)]
    Permanent(#[from] StreamError),
}

impl Outgoing<'_> {
    /// Copies the record, so that it can wait for its transaction.
    pub(crate) fn into_record(self) -> OutputRecord {
        let Outgoing { topic, key, payload, headers } = self;
        OutputRecord {
            topic: topic.to_owned(),
            partition: None,
            key: key.map(<[u8]>::to_vec),
            payload: Some(payload.to_vec()),
            headers,
        }
    }
}
