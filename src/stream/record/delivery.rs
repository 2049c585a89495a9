//! A consumed record and its way through the worker.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, OwnedHeaders};
use tokio_util::sync::CancellationToken;

use crate::stream::offsets::tracker::SlotTicket;
use crate::stream::record::in_flight_budget::InFlightPermit;

/// A consumed record, copied out of librdkafka: a borrowed message would keep its whole fetch in
/// memory.
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    /// `None` for a tombstone.
    pub(crate) payload: Option<Vec<u8>>,
    /// A copy in librdkafka's format, which keeps header names that are not UTF-8.
    pub(crate) headers: Option<OwnedHeaders>,
}

/// A record in flight. Dropping it returns its budget. The record counts as answered only when its
/// ticket is completed.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) record: Record,
    pub(crate) ticket: SlotTicket,
    /// Cancelled when the partition of the record is revoked.
    pub(crate) revoked: Arc<CancellationToken>,
    pub(crate) received_at: Instant,
    pub(crate) permit: InFlightPermit,
}

impl Record {
    pub(crate) fn copy(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(BorrowedHeaders::detach),
        }
    }

    /// Returns the summed size of key and value. Headers are not counted.
    pub(crate) fn bytes(&self) -> u64 {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        (length(&self.key) + length(&self.payload)) as u64
    }
}

impl fmt::Debug for Record {
    /// Shows offset, partition and size, never the content.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Record({}@{}, {} B)", self.offset, self.partition, self.bytes())
    }
}
