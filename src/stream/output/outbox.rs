//! Answers that wait for their transaction.
//!
//! A task queues its answer and waits. The polling thread takes the contiguous prefix of each
//! partition, commits it together with the positions, and notifies the tasks. Answers behind a gap
//! wait until the gap is filled. No I/O happens here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::stream::offsets::tracker::{CommittableOffset, RecordSlot};
use crate::stream::output::output_record::{Outgoing, OutputRecord, PublishError};

/// The answers of one worker that are not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    partitions: Mutex<BTreeMap<i32, AssignmentQueue>>,
}

/// The answers of one assignment of a partition, by sequence number.
#[derive(Debug, Default)]
struct AssignmentQueue {
    epoch: u64,
    /// Sequence number of the next answer to take.
    next: u64,
    answers: BTreeMap<u64, PendingAnswer>,
}

/// An answer that is ready to be written, and the task that waits for it.
#[derive(Debug)]
pub(crate) struct PendingAnswer {
    pub(crate) slot: RecordSlot,
    /// Offset of the input record.
    pub(crate) offset: i64,
    /// `None` for a tombstone: its position is committed without an output record.
    pub(crate) record: Option<OutputRecord>,
    reply: Option<oneshot::Sender<Result<(), PublishError>>>,
}

impl PendingAnswer {
    /// Notifies the waiting task. It may have ended when its partition was revoked.
    pub(crate) fn notify(self, result: Result<(), PublishError>) {
        if let Some(reply) = self.reply {
            drop(reply.send(result));
        }
    }
}

impl Outbox {
    /// Queues an answer and waits until its transaction is committed.
    ///
    /// Cancel safe. A queued answer is still committed, with its position, if its task ended.
    ///
    /// # Errors
    /// [`PublishError::TooLarge`]: publish a smaller one. Any other error stops the worker.
    pub(crate) async fn publish(
        &self,
        slot: RecordSlot,
        offset: i64,
        outgoing: Outgoing<'_>,
    ) -> Result<(), PublishError> {
        let (reply, result) = oneshot::channel();
        let record = Some(outgoing.into_record());
        self.queue(PendingAnswer { slot, offset, record, reply: Some(reply) });
        match result.await {
            Ok(result) => result,
            // The partition was revoked: its new owner answers the record, and this task is about
            // to be cancelled.
            Err(_) => std::future::pending().await,
        }
    }

    /// Queues the position of a record that needs no answer.
    pub(crate) fn skip(&self, slot: RecordSlot, offset: i64) {
        self.queue(PendingAnswer { slot, offset, record: None, reply: None });
    }

    fn queue(&self, answer: PendingAnswer) {
        let mut partitions = self.lock();
        let queue = partitions.entry(answer.slot.partition).or_default();
        if answer.slot.epoch > queue.epoch {
            *queue = AssignmentQueue { epoch: answer.slot.epoch, ..AssignmentQueue::default() };
        }
        if answer.slot.epoch == queue.epoch {
            queue.answers.insert(answer.slot.sequence, answer);
        }
    }

    /// Returns the number of waiting answers, including those behind a gap.
    pub(crate) fn len(&self) -> usize {
        self.lock().values().map(|queue| queue.answers.len()).sum()
    }

    /// Removes and returns the contiguous prefix of every partition, at most `limit` answers.
    pub(crate) fn take_ready(&self, limit: usize) -> Vec<PendingAnswer> {
        let mut ready = Vec::new();
        for queue in self.lock().values_mut() {
            while ready.len() < limit
                && let Some(answer) = queue.answers.remove(&queue.next)
            {
                queue.next += 1;
                ready.push(answer);
            }
        }
        ready
    }

    /// Returns the positions after these answers, which are in order.
    pub(crate) fn positions(answers: &[PendingAnswer]) -> Vec<CommittableOffset> {
        let ends: BTreeMap<i32, i64> =
            answers.iter().map(|answer| (answer.slot.partition, answer.offset + 1)).collect();
        ends.into_iter()
            .map(|(partition, offset)| CommittableOffset { partition, offset })
            .collect()
    }

    /// Puts answers back that were taken and not committed. Drops those of a revoked assignment.
    pub(crate) fn put_back(&self, answers: Vec<PendingAnswer>) {
        for answer in answers {
            self.rewind(answer.slot);
            self.queue(answer);
        }
    }

    /// Expects another answer for a slot that was taken.
    pub(crate) fn rewind(&self, slot: RecordSlot) {
        if let Some(queue) = self.lock().get_mut(&slot.partition)
            && queue.epoch == slot.epoch
        {
            queue.next = queue.next.min(slot.sequence);
        }
    }

    /// Drops the answers of a revoked partition.
    pub(crate) fn forget(&self, partition: i32) {
        self.lock().remove(&partition);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, AssignmentQueue>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Reply = oneshot::Receiver<Result<(), PublishError>>;

    fn answer(partition: i32, epoch: u64, sequence: u64) -> (PendingAnswer, Reply) {
        let (reply, result) = oneshot::channel();
        let answer = PendingAnswer {
            slot: RecordSlot { partition, epoch, sequence },
            // Offsets have gaps.
            offset: 10 + 3 * i64::try_from(sequence).unwrap(),
            record: None,
            reply: Some(reply),
        };
        (answer, result)
    }

    fn queue(outbox: &Outbox, partition: i32, epoch: u64, sequence: u64) -> Reply {
        let (answer, result) = answer(partition, epoch, sequence);
        outbox.queue(answer);
        result
    }

    fn slots(answers: &[PendingAnswer]) -> Vec<(i32, u64)> {
        answers.iter().map(|answer| (answer.slot.partition, answer.slot.sequence)).collect()
    }

    #[test]
    fn only_a_contiguous_prefix_is_taken() {
        let outbox = Outbox::default();
        let _waiting = [(0, 2), (0, 0), (1, 1), (0, 1), (0, 4)]
            .map(|(partition, sequence)| queue(&outbox, partition, 7, sequence));
        let ready = outbox.take_ready(10);
        assert_eq!(slots(&ready), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(Outbox::positions(&ready), [CommittableOffset { partition: 0, offset: 17 }]);
        assert_eq!(outbox.len(), 2, "answers behind a gap wait");
        assert!(outbox.take_ready(10).is_empty());
        let _closing = [queue(&outbox, 0, 7, 3), queue(&outbox, 1, 7, 0)];
        assert_eq!(slots(&outbox.take_ready(3)), [(0, 3), (0, 4), (1, 0)]);
        assert_eq!(slots(&outbox.take_ready(3)), [(1, 1)]);
    }

    #[test]
    fn uncommitted_answers_are_taken_again_in_order() {
        let outbox = Outbox::default();
        let mut results: Vec<Reply> =
            (0..4).map(|sequence| queue(&outbox, 0, 1, sequence)).collect();
        let mut ready = outbox.take_ready(3);
        // The second is too large: its task queues a smaller one later.
        let large = ready.remove(1);
        outbox.rewind(large.slot);
        large.notify(Err(PublishError::TooLarge { topic: "events".to_owned() }));
        outbox.put_back(ready);
        assert!(matches!(results[1].try_recv(), Ok(Err(PublishError::TooLarge { .. }))));
        assert_eq!(slots(&outbox.take_ready(10)), [(0, 0)]);
        let _smaller = queue(&outbox, 0, 1, 1);
        assert_eq!(slots(&outbox.take_ready(10)), [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn a_revoked_assignment_leaves_nothing_behind() {
        let outbox = Outbox::default();
        let _first = queue(&outbox, 0, 1, 0);
        let ready = outbox.take_ready(10);
        let mut late = queue(&outbox, 0, 1, 1);
        let _new = queue(&outbox, 0, 2, 0);
        outbox.put_back(ready);
        assert!(late.try_recv().is_err(), "its task is not notified");
        let ready = outbox.take_ready(10);
        assert_eq!((ready.len(), ready[0].slot.epoch), (1, 2));
        let _older = queue(&outbox, 0, 1, 2);
        let _waits = queue(&outbox, 0, 2, 5);
        assert_eq!(outbox.len(), 1);
        outbox.forget(0);
        assert_eq!(outbox.len(), 0);
    }
}
