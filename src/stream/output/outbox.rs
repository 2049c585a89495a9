//! Answers that wait for their transaction.
//!
//! A task queues its answer and waits. The polling thread takes the contiguous prefix of each
//! partition, commits it together with the positions, and notifies the tasks. Answers behind a gap
//! wait until the gap is filled. A record with several objects has a part for each; it is a gap
//! until it has all of them, so its answers are in one transaction. No I/O happens here.

use std::collections::BTreeMap;
use std::mem;
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

/// The position of an answer among those of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerPart {
    pub(crate) index: usize,
    /// Number of answers of the record.
    pub(crate) of: usize,
}

impl AnswerPart {
    /// The only answer of a record.
    pub(crate) const ONLY: Self = Self { index: 0, of: 1 };
}

/// The answers of one record.
#[derive(Debug)]
pub(crate) struct PendingAnswer {
    pub(crate) slot: RecordSlot,
    /// Offset of the input record.
    pub(crate) offset: i64,
    /// Number of parts that complete the answer.
    parts_needed: usize,
    parts: BTreeMap<usize, PendingPart>,
}

/// A part of an answer that is ready to be written, and the task that waits for it.
#[derive(Debug)]
struct PendingPart {
    /// `None` for a tombstone or an event that needs no answer: the position is committed without
    /// an output record.
    record: Option<OutputRecord>,
    reply: Option<oneshot::Sender<Result<(), PublishError>>>,
}

impl PendingAnswer {
    /// Returns the records to write, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &OutputRecord> + Clone {
        self.parts.values().filter_map(|part| part.record.as_ref())
    }

    /// Notifies the waiting tasks. They may have ended when their partition was revoked.
    pub(crate) fn notify(self) {
        self.parts.into_values().for_each(|part| part.notify(Ok(())));
    }

    /// Removes the parts whose records have these positions in [`Self::records`], and notifies
    /// their tasks that the records are too large. They queue smaller ones.
    pub(crate) fn reject_too_large(&mut self, positions: &[usize]) {
        let mut position = 0;
        for (index, part) in mem::take(&mut self.parts) {
            let Some(record) = &part.record else {
                self.parts.insert(index, part);
                continue;
            };
            if positions.contains(&position) {
                let topic = record.topic.clone();
                part.notify(Err(PublishError::TooLarge { topic }));
            } else {
                self.parts.insert(index, part);
            }
            position += 1;
        }
    }

    fn is_complete(&self) -> bool {
        self.parts.len() >= self.parts_needed
    }
}

impl PendingPart {
    fn notify(self, result: Result<(), PublishError>) {
        if let Some(reply) = self.reply {
            drop(reply.send(result));
        }
    }
}

impl Outbox {
    /// Queues a part of an answer and waits until its transaction is committed.
    ///
    /// Cancel safe. A queued answer is still committed, with its position, if its task ended.
    ///
    /// # Errors
    /// [`PublishError::TooLarge`]: publish a smaller one. Any other error stops the worker.
    pub(crate) async fn publish(
        &self,
        slot: RecordSlot,
        offset: i64,
        part: AnswerPart,
        outgoing: Outgoing<'_>,
    ) -> Result<(), PublishError> {
        let (reply, result) = oneshot::channel();
        let record = Some(outgoing.into_record());
        self.queue(slot, offset, part, PendingPart { record, reply: Some(reply) });
        match result.await {
            Ok(result) => result,
            // The partition was revoked: its new owner answers the record, and this task is about
            // to be cancelled.
            Err(_) => std::future::pending().await,
        }
    }

    /// Queues the position of a record that needs no answer.
    pub(crate) fn skip(&self, slot: RecordSlot, offset: i64) {
        self.skip_part(slot, offset, AnswerPart::ONLY);
    }

    /// Queues a part that needs no output record.
    pub(crate) fn skip_part(&self, slot: RecordSlot, offset: i64, part: AnswerPart) {
        self.queue(slot, offset, part, PendingPart { record: None, reply: None });
    }

    fn queue(&self, slot: RecordSlot, offset: i64, part: AnswerPart, pending: PendingPart) {
        let mut partitions = self.lock();
        let Some(queue) = queue_of(&mut partitions, slot) else { return };
        let answer = queue.answers.entry(slot.sequence).or_insert_with(|| PendingAnswer {
            slot,
            offset,
            parts_needed: part.of,
            parts: BTreeMap::new(),
        });
        answer.parts.insert(part.index, pending);
    }

    /// Returns the number of waiting parts, including those behind a gap.
    pub(crate) fn len(&self) -> usize {
        let partitions = self.lock();
        let answers = partitions.values().flat_map(|queue| queue.answers.values());
        answers.map(|answer| answer.parts.len()).sum()
    }

    /// Removes and returns the contiguous prefix of every partition. Stops at `limit` parts; the
    /// parts of a record stay together.
    pub(crate) fn take_ready(&self, limit: usize) -> Vec<PendingAnswer> {
        let (mut ready, mut parts) = (Vec::new(), 0);
        for queue in self.lock().values_mut() {
            while parts < limit
                && queue.answers.get(&queue.next).is_some_and(PendingAnswer::is_complete)
                && let Some(answer) = queue.answers.remove(&queue.next)
            {
                queue.next += 1;
                parts += answer.parts.len();
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

    /// Puts answers back that were taken and not committed, or whose parts were rejected. Drops
    /// those of a revoked assignment.
    pub(crate) fn put_back(&self, answers: Vec<PendingAnswer>) {
        let mut partitions = self.lock();
        for mut answer in answers {
            let Some(queue) = queue_of(&mut partitions, answer.slot) else { continue };
            queue.next = queue.next.min(answer.slot.sequence);
            // The task of a rejected part may have queued another one already.
            if let Some(newer) = queue.answers.remove(&answer.slot.sequence) {
                answer.parts.extend(newer.parts);
            }
            queue.answers.insert(answer.slot.sequence, answer);
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

/// Returns the queue of an assignment, or `None` if a later assignment replaced it.
fn queue_of(
    partitions: &mut BTreeMap<i32, AssignmentQueue>,
    slot: RecordSlot,
) -> Option<&mut AssignmentQueue> {
    let queue = partitions.entry(slot.partition).or_default();
    if slot.epoch > queue.epoch {
        *queue = AssignmentQueue { epoch: slot.epoch, ..AssignmentQueue::default() };
    }
    (slot.epoch == queue.epoch).then_some(queue)
}

#[cfg(test)]
mod tests {
    use rdkafka::message::OwnedHeaders;

    use super::*;

    type Reply = oneshot::Receiver<Result<(), PublishError>>;

    fn queue(outbox: &Outbox, partition: i32, epoch: u64, sequence: u64) -> Reply {
        queue_part(outbox, RecordSlot { partition, epoch, sequence }, AnswerPart::ONLY, "events")
    }

    fn queue_part(outbox: &Outbox, slot: RecordSlot, part: AnswerPart, topic: &str) -> Reply {
        let (reply, result) = oneshot::channel();
        let record = OutputRecord {
            topic: topic.to_owned(),
            partition: None,
            key: None,
            payload: None,
            headers: OwnedHeaders::new(),
        };
        // Offsets have gaps.
        let offset = 10 + 3 * i64::try_from(slot.sequence).unwrap();
        outbox.queue(slot, offset, part, PendingPart { record: Some(record), reply: Some(reply) });
        result
    }

    fn topics(answer: &PendingAnswer) -> Vec<&str> {
        answer.records().map(|record| record.topic.as_str()).collect()
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
        ready[1].reject_too_large(&[0]);
        outbox.put_back(ready);
        assert!(matches!(results[1].try_recv(), Ok(Err(PublishError::TooLarge { .. }))));
        assert_eq!(slots(&outbox.take_ready(10)), [(0, 0)]);
        let _smaller = queue(&outbox, 0, 1, 1);
        assert_eq!(slots(&outbox.take_ready(10)), [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn a_record_is_taken_with_all_its_parts() {
        let outbox = Outbox::default();
        let slot = |sequence| RecordSlot { partition: 0, epoch: 1, sequence };
        let part = |index| AnswerPart { index, of: 4 };
        let _last = queue_part(&outbox, slot(0), part(3), "d");
        let _behind = queue(&outbox, 0, 1, 1);
        let mut large = queue_part(&outbox, slot(0), part(1), "b");
        outbox.skip_part(slot(0), 10, part(2));
        assert!(outbox.take_ready(10).is_empty(), "a part is missing");
        assert_eq!(outbox.len(), 4);
        let mut first = queue_part(&outbox, slot(0), part(0), "a");

        let mut ready = outbox.take_ready(1);
        assert_eq!((slots(&ready), topics(&ready[0])), (vec![(0, 0)], vec!["a", "b", "d"]));
        assert_eq!(Outbox::positions(&ready), [CommittableOffset { partition: 0, offset: 11 }]);
        ready[0].reject_too_large(&[1]);
        assert!(matches!(large.try_recv(), Ok(Err(PublishError::TooLarge { .. }))));
        assert!(first.try_recv().is_err(), "the others wait");
        // The task may queue a smaller one before the others are put back.
        let _smaller = queue_part(&outbox, slot(0), part(1), "b2");
        outbox.put_back(ready);
        let ready = outbox.take_ready(10);
        assert_eq!(slots(&ready), [(0, 0), (0, 1)]);
        assert_eq!(topics(&ready[0]), ["a", "b2", "d"]);
        ready.into_iter().for_each(PendingAnswer::notify);
        assert!(matches!(first.try_recv(), Ok(Ok(()))));
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
