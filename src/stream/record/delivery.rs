//! A record that was taken in, and the budget it holds until it is answered.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, OwnedHeaders};
use tokio_util::sync::CancellationToken;

use crate::stream::offsets::tracker::Ticket;

/// A record of the input topic, copied out of librdkafka: a borrowed one would pin the whole fetch
/// that it came with.
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    /// None is a tombstone.
    pub(crate) payload: Option<Vec<u8>>,
    /// A native copy: names that are not UTF-8 survive in it.
    pub(crate) headers: Option<OwnedHeaders>,
}

/// A record on its way to an answer. Dropping it gives the budget back; only the ticket's return to
/// the tracker counts as an answer.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) record: Record,
    pub(crate) ticket: Ticket,
    /// Cancelled when the record's partition is taken away.
    pub(crate) revoked: Arc<CancellationToken>,
    pub(crate) taken_in: Instant,
    pub(crate) permit: Permit,
}

/// How many records, and how many of their bytes, may be in flight.
#[derive(Debug)]
pub(crate) struct Budget {
    records_max: usize,
    bytes_max: u64,
    used: Mutex<Used>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Used {
    records: usize,
    bytes: u64,
    /// Threads inside [`Budget::wait`]: without one, giving back costs no system call.
    waiting: usize,
}

/// One record's part of the budget.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
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

    pub(crate) fn bytes(&self) -> u64 {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        (length(&self.key) + length(&self.payload)) as u64
    }
}

impl fmt::Debug for Record {
    /// Shows where the record lies and never what is in it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Record({}@{}, {} B)", self.offset, self.partition, self.bytes())
    }
}

impl Budget {
    pub(crate) fn new(records_max: usize, bytes_max: u64) -> Arc<Self> {
        let (used, given_back) = (Mutex::default(), Condvar::new());
        Arc::new(Self { records_max, bytes_max, used, given_back })
    }

    /// Takes a part, if there is one. A record larger than the whole budget gets it when it is
    /// alone.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = used.records < self.records_max
            && (used.records == 0 || used.bytes + bytes <= self.bytes_max);
        fits.then(|| {
            used.records += 1;
            used.bytes += bytes;
            Permit { budget: Arc::clone(self), bytes }
        })
    }

    /// Waits until an eighth of the records is given back, at most so long: who waits shall find
    /// work for more than one record.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.waiting += 1;
        let wait = self.given_back.wait_timeout(used, timeout);
        let (mut used, _) = wait.unwrap_or_else(PoisonError::into_inner);
        used.waiting -= 1;
    }

    /// Whether at least half of the budget is free.
    pub(crate) fn is_half_free(&self) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.records <= self.records_max / 2 && used.bytes <= self.bytes_max / 2
    }

    /// Records in flight.
    pub(crate) fn records(&self) -> usize {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).records
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.budget.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.records -= 1;
        used.bytes -= self.bytes;
        let records_max = self.budget.records_max;
        if used.waiting > 0 && used.records <= records_max - (records_max / 8).max(1) {
            self.budget.given_back.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_records_and_bytes() {
        let budget = Budget::new(2, 100);
        let first = budget.try_take(60).unwrap();
        assert!(budget.try_take(60).is_none(), "bytes are used up");
        let second = budget.try_take(40).unwrap();
        assert!(budget.try_take(0).is_none(), "records are used up");
        drop(first);
        assert!(budget.is_half_free());
        assert!(budget.try_take(60).is_some());
        drop(second);
        assert_eq!(budget.records(), 0);
    }

    #[test]
    fn a_record_larger_than_the_budget_passes_alone() {
        let budget = Budget::new(2, 100);
        let permit = budget.try_take(500).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(permit);
        assert!(budget.try_take(1).is_some());
    }
}
