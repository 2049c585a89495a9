//! Watches the positions of partitions for what production does to them: offsets that the brokers
//! do not have any more, transactions that stay open, partitions that return nothing.
//!
//! Callers pass the time, so that tests need no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::telemetry::metrics;

/// Time after which an open transaction in the input is logged. A healthy producer ends its
/// transactions within the brokers' default of one minute.
const OPEN_TRANSACTION_MAX: Duration = Duration::from_mins(1);
/// Time within which all workers of a group have noticed that the topic was created again: some
/// intervals of metadata, of 20 s each.
const NOTICED_MAX: Duration = Duration::from_mins(2);
/// Minimum time between two log lines about one open transaction.
const REPEAT: Duration = Duration::from_mins(10);

/// The state of all assigned partitions.
#[derive(Debug, Default)]
pub(crate) struct PositionWatch {
    /// Offsets from which partitions could not be read, until their next record.
    missing: BTreeMap<i32, i64>,
    open: BTreeMap<i32, OpenTransaction>,
    /// Ids that the topic has had.
    topic_ids: BTreeSet<String>,
    /// The time at which the topic was last seen with a new id.
    recreated_at: Option<Instant>,
    /// Partitions that were fetched again because they returned nothing, until they return
    /// something.
    silent: BTreeSet<i32>,
    /// Assigned partitions whose committed position was not compared with the topic.
    unverified: BTreeSet<i32>,
    /// True if a request for all unverified partitions has failed since the latest assignment.
    verifies_alone: bool,
    /// Partitions whose committed position is one of another topic, until they return something.
    foreign: BTreeSet<i32>,
}

/// The meaning of a topic id that the brokers returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicSighting {
    /// The first id since the worker started.
    First,
    /// An id that the topic has or had.
    Known,
    /// The topic was deleted and created again.
    CreatedAgain,
}

/// Records behind the last stable offset.
#[derive(Debug)]
struct OpenTransaction {
    stable: i64,
    since: Instant,
    logged_at: Option<Instant>,
}

/// The end of a search for a missing offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// Records were deleted before they were read. Their number includes gaps in the offsets.
    Expired { from: i64, records: u64 },
    /// The partition ends before the position: it was truncated or created again.
    Rewound { from: i64 },
}

impl PositionWatch {
    /// Records that the brokers returned this id of the topic. For a short time, they may return
    /// the id of a deleted topic in turn with that of the new one.
    pub(crate) fn topic_seen(&mut self, id: String, now: Instant) -> TopicSighting {
        let is_first = self.topic_ids.is_empty();
        if !self.topic_ids.insert(id) {
            return TopicSighting::Known;
        }
        if is_first {
            return TopicSighting::First;
        }
        self.recreated_at = Some(now);
        TopicSighting::CreatedAgain
    }

    /// Records that the committed positions of these partitions must be compared with the topic.
    pub(crate) fn verify_later(&mut self, partitions: &[i32]) {
        self.unverified.extend(partitions);
        self.verifies_alone = false;
    }

    /// Records that the brokers did not return the positions of all unverified partitions.
    pub(crate) fn verify_alone(&mut self) {
        self.verifies_alone = true;
    }

    /// Returns the partitions whose committed positions are compared in one request, if this is one
    /// of them.
    pub(crate) fn unverified_with(&self, partition: i32) -> Vec<i32> {
        match self.unverified.contains(&partition) {
            false => Vec::new(),
            true if self.verifies_alone => vec![partition],
            true => self.unverified.iter().copied().collect(),
        }
    }

    /// Records that the committed positions of `partitions` were compared, and that those of
    /// `foreign` are of another topic.
    pub(crate) fn verified(&mut self, partitions: &[i32], foreign: &[i32]) {
        for partition in partitions {
            self.unverified.remove(partition);
        }
        self.foreign.extend(foreign);
    }

    /// Returns true, once, if the committed position of a partition is one of another topic.
    pub(crate) fn take_foreign(&mut self, partition: i32) -> bool {
        !self.foreign.is_empty() && self.foreign.remove(&partition)
    }

    /// Returns true if other workers may still commit positions of a topic that was deleted and
    /// created again, because they have not noticed that.
    pub(crate) fn may_have_old_positions(&self, now: Instant) -> bool {
        self.recreated_at.is_some_and(|at| now.saturating_duration_since(at) < NOTICED_MAX)
    }

    /// Records that the brokers do not have `offset`.
    pub(crate) fn offset_missing(&mut self, partition: i32, offset: i64) {
        self.missing.insert(partition, offset);
    }

    /// Records that a partition continues at `offset`: with a record, or with its end. Returns the
    /// gap before it, if its earlier offset was missing.
    pub(crate) fn continued(&mut self, partition: i32, offset: i64) -> Option<Gap> {
        if self.missing.is_empty() {
            return None;
        }
        let from = self.missing.remove(&partition)?;
        Some(match u64::try_from(offset - from) {
            Ok(records) => Gap::Expired { from, records },
            Err(_) => Gap::Rewound { from },
        })
    }

    /// Compares the last stable offset of a partition with its end. Returns the time for which the
    /// same transaction has held back the records behind it; zero if there is none.
    pub(crate) fn transaction_age(
        &mut self,
        partition: i32,
        stable: i64,
        high: i64,
        now: Instant,
    ) -> Duration {
        if high <= stable {
            self.open.remove(&partition);
            return Duration::ZERO;
        }
        let fresh = OpenTransaction { stable, since: now, logged_at: None };
        let open = self.open.entry(partition).or_insert(fresh);
        if open.stable != stable {
            *open = OpenTransaction { stable, since: now, logged_at: None };
        }
        now.saturating_duration_since(open.since)
    }

    /// Returns true if the open transaction of a partition is to be logged now.
    pub(crate) fn should_log_transaction(&mut self, partition: i32, now: Instant) -> bool {
        let Some(open) = self.open.get_mut(&partition) else { return false };
        let is_old = now.saturating_duration_since(open.since) >= OPEN_TRANSACTION_MAX;
        let is_due =
            open.logged_at.is_none_or(|logged| now.saturating_duration_since(logged) >= REPEAT);
        if is_old && is_due {
            open.logged_at = Some(now);
        }
        is_old && is_due
    }

    /// Records that a partition was fetched again. Returns true if an earlier attempt returned
    /// nothing.
    pub(crate) fn fetched_again(&mut self, partition: i32) -> bool {
        !self.silent.insert(partition)
    }

    /// Records that a partition returned a record or its end. Returns true if it was silent and no
    /// other partition is.
    pub(crate) fn returned(&mut self, partition: i32) -> bool {
        !self.silent.is_empty() && self.silent.remove(&partition) && self.silent.is_empty()
    }

    /// Drops the state of partitions that are not assigned any more.
    pub(crate) fn forget(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.missing.remove(partition);
            self.open.remove(partition);
            self.silent.remove(partition);
            self.unverified.remove(partition);
            self.foreign.remove(partition);
        }
    }

    /// Returns true if a partition stays silent.
    pub(crate) fn is_any_silent(&self) -> bool {
        !self.silent.is_empty()
    }
}

impl Gap {
    /// Logs and counts the gap before `offset`.
    pub(crate) fn report(self, topic: &str, partition: i32, offset: i64) {
        match self {
            Self::Expired { from, records } => {
                metrics::records_expired(records);
                tracing::warn!(
                    topic,
                    partition,
                    from,
                    offset,
                    records,
                    "records were deleted before they were read; raise the topic's retention, or \
                     add workers"
                );
            }
            Self::Rewound { from } => tracing::warn!(
                topic,
                partition,
                from,
                offset,
                "the position is past the end of the partition; resetting to the earliest offset"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_offset_is_a_loss_if_the_partition_continues_behind_it() {
        let mut watch = PositionWatch::default();
        assert_eq!(watch.continued(0, 60), None);
        for partition in [0, 1] {
            watch.offset_missing(partition, 40);
        }
        assert_eq!(watch.continued(2, 60), None);
        assert_eq!(watch.continued(0, 60), Some(Gap::Expired { from: 40, records: 20 }));
        assert_eq!(watch.continued(0, 61), None, "a gap is reported once");
        assert_eq!(watch.continued(1, 0), Some(Gap::Rewound { from: 40 }));
    }

    #[test]
    fn a_topic_is_new_once_even_if_brokers_return_its_old_id_again() {
        let mut watch = PositionWatch::default();
        let start = Instant::now();
        assert!(!watch.may_have_old_positions(start));
        for (id, expected) in [
            ("first", TopicSighting::First),
            ("first", TopicSighting::Known),
            ("second", TopicSighting::CreatedAgain),
            ("first", TopicSighting::Known),
            ("second", TopicSighting::Known),
            ("third", TopicSighting::CreatedAgain),
        ] {
            assert_eq!(watch.topic_seen(id.to_owned(), start), expected, "{id}");
        }
        assert!(watch.may_have_old_positions(start + Duration::from_secs(119)));
        assert!(!watch.may_have_old_positions(start + Duration::from_secs(121)));
    }

    #[test]
    fn a_transaction_is_logged_when_it_stays_open_and_not_while_others_end() {
        let (mut watch, start) = (PositionWatch::default(), Instant::now());
        let mut observe = |stable: i64, high: i64, second: u64| {
            let now = start + Duration::from_secs(second);
            let age = watch.transaction_age(0, stable, high, now).as_secs();
            (age, watch.should_log_transaction(0, now))
        };
        assert_eq!(observe(10, 10, 0), (0, false));
        for second in 0..300 {
            let stable = i64::try_from(second).unwrap();
            assert_eq!(observe(stable, stable + 5, second), (0, false));
        }
        assert_eq!(observe(299, 400, 358), (59, false));
        assert_eq!(observe(299, 400, 359), (60, true));
        assert_eq!(observe(299, 900, 400), (101, false), "not at once again");
        assert_eq!(observe(299, 900, 1000), (701, true));
        assert_eq!(observe(900, 900, 1001), (0, false), "it has ended");
    }

    #[test]
    fn a_partition_is_silent_if_fetching_it_again_was_in_vain() {
        let mut watch = PositionWatch::default();
        assert!(!watch.fetched_again(0));
        assert!(watch.fetched_again(0));
        assert!(!watch.fetched_again(1));
        assert!(!watch.returned(0), "another one is silent");
        assert!(watch.returned(1));
        assert!(!watch.returned(1));
        assert!(!watch.fetched_again(0));
        watch.forget(&[0]);
        assert!(!watch.is_any_silent());
    }

    #[test]
    fn the_position_of_a_partition_is_verified_once_for_each_assignment() {
        let mut watch = PositionWatch::default();
        watch.verify_later(&[0, 1, 2]);
        assert_eq!(watch.unverified_with(3), [0; 0]);
        assert_eq!(watch.unverified_with(1), [0, 1, 2], "one request for all");
        watch.verified(&[1], &[]);
        assert_eq!(watch.unverified_with(1), [0; 0]);
        assert_eq!(watch.unverified_with(0), [0, 2], "the others are compared later");
        watch.forget(&[2]);
        assert_eq!(watch.unverified_with(2), [0; 0], "it is not assigned any more");
        watch.verify_later(&[1]);
        assert_eq!(watch.unverified_with(1), [0, 1]);
    }

    #[test]
    fn a_partition_with_a_foreign_position_is_named_once_when_it_returns_something() {
        let mut watch = PositionWatch::default();
        watch.verify_later(&[0, 1, 2]);
        watch.verified(&[0, 1, 2], &[1, 2]);
        assert!(!watch.take_foreign(0));
        assert!(watch.take_foreign(1));
        assert!(!watch.take_foreign(1));
        watch.forget(&[2]);
        assert!(!watch.take_foreign(2), "it is not assigned any more");
    }
}
