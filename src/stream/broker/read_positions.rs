//! The next record of each partition, so that another connection continues there.

use std::collections::BTreeMap;

/// The next record of each partition, by the index of its topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReadPositions(BTreeMap<(usize, i32), NextRecord>);

/// The next record of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextRecord {
    /// The record with this offset, or the first one after it.
    At(i64),
    /// The first record that is written from now on.
    New,
}

impl ReadPositions {
    pub(crate) fn set(&mut self, topic: usize, partition: i32, offset: i64) {
        self.0.insert((topic, partition), NextRecord::At(offset));
    }

    /// Returns the offset from which to read a partition that has the offsets from `begin` to
    /// before `end`. Without a position it is `begin`: the partition is new.
    pub(crate) fn offset(&self, topic: usize, partition: i32, (begin, end): (i64, i64)) -> i64 {
        match self.0.get(&(topic, partition)) {
            None => begin,
            Some(NextRecord::New) => end,
            // The topic was created again.
            Some(NextRecord::At(offset)) if *offset > end => begin,
            Some(NextRecord::At(offset)) => begin.max(*offset),
        }
    }

    /// Returns the topic, partition and next offset of each partition that has made no progress
    /// since `earlier`.
    pub(crate) fn stuck(&self, earlier: &Self) -> Vec<(usize, i32, i64)> {
        let is_stuck = |partition, next| earlier.0.get(partition) == Some(next);
        let stuck = self.0.iter().filter(|(partition, next)| is_stuck(*partition, *next));
        let offsets = stuck.filter_map(|(&(topic, partition), next)| match next {
            NextRecord::At(offset) => Some((topic, partition, *offset)),
            NextRecord::New => None,
        });
        offsets.collect()
    }

    /// Skips a partition to the records that are written from now on.
    pub(crate) fn skip(&mut self, topic: usize, partition: i32) {
        self.0.insert((topic, partition), NextRecord::New);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_moved_into_the_offsets_of_its_partition() {
        let mut positions = ReadPositions::default();
        positions.set(0, 1, 50);
        for (partition, limits, offset) in [
            (1, (0, 90), 50),
            (1, (0, 50), 50),
            // Older records were deleted.
            (1, (70, 90), 70),
            // The topic was created again.
            (1, (0, 20), 0),
            // The partition was added.
            (2, (3, 20), 3),
        ] {
            assert_eq!(positions.offset(0, partition, limits), offset, "{partition} {limits:?}");
        }
        assert_eq!(positions.offset(1, 1, (0, 90)), 0, "another topic");
    }

    #[test]
    fn a_partition_without_progress_is_stuck_until_it_is_skipped() {
        let mut earlier = ReadPositions::default();
        earlier.set(0, 0, 10);
        earlier.set(0, 1, 20);
        earlier.set(1, 0, 30);
        let mut positions = earlier.clone();
        positions.set(0, 1, 21);
        positions.set(0, 2, 5);
        assert_eq!(positions.stuck(&earlier), [(0, 0, 10), (1, 0, 30)]);
        positions.skip(0, 0);
        assert_eq!(positions.stuck(&earlier), [(1, 0, 30)]);
        let offsets = [0, 1, 2].map(|partition| positions.offset(0, partition, (0, 90)));
        assert_eq!(offsets, [90, 21, 5], "the others keep their positions");
        assert_eq!(positions.offset(1, 0, (0, 90)), 30, "another topic");
    }
}
