//! Answers that wait for their transaction: what may go into one is the contiguous prefix of each partition.
//!
//! A task hands its answer in and waits; the polling thread takes what is next in line, writes it together with
//! the positions behind it, and tells the tasks. What is behind a gap waits for the gap.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::stream::offsets::tracker::{Position, RecordSlot};
use crate::stream::output::output_record::{Outgoing, OutputRecord, PublishError};

/// Answers of one worker on their way into transactions.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    partitions: Mutex<BTreeMap<i32, Pending>>,
}

/// Answers of one assignment.
#[derive(Debug, Default)]
struct Pending {
    epoch: u64,
    /// The place whose answer comes next.
    next: u64,
    outputs: BTreeMap<u64, Output>,
}

/// An answer, ready to be written, and who waits for it.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) slot: RecordSlot,
    /// Offset of the record that it answers.
    offset: i64,
    /// None for a record that asks for nothing, whose position moves all the same.
    pub(crate) written: Option<OutputRecord>,
    reply: Option<oneshot::Sender<Result<(), PublishError>>>,
}

impl Output {
    /// Offset of the record that it answers.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// Tells the waiting task; it may be gone with its partition.
    pub(crate) fn tell(self, result: Result<(), PublishError>) {
        if let Some(reply) = self.reply {
            drop(reply.send(result));
        }
    }
}

impl Outbox {
    /// Hands an answer in and waits until its transaction is committed.
    ///
    /// Cancel safe: an answer that nobody waits for is still written if its turn comes, with its position.
    ///
    /// # Errors
    /// [`PublishError::TooLarge`]: hand in a smaller one. Anything else ends the worker.
    pub(crate) async fn publish(
        &self,
        (slot, offset): (RecordSlot, i64),
        outgoing: Outgoing<'_>,
    ) -> Result<(), PublishError> {
        let (reply, told) = oneshot::channel();
        let record = Some(outgoing.into_record());
        self.offer(Output { slot, offset, written: record, reply: Some(reply) });
        match told.await {
            Ok(result) => result,
            // The partition was taken away: its new owner answers the record, and this task is ended.
            Err(_) => std::future::pending().await,
        }
    }

    /// The record of this place asks for nothing.
    pub(crate) fn skip(&self, slot: RecordSlot, offset: i64) {
        self.offer(Output { slot, offset, written: None, reply: None });
    }

    fn offer(&self, output: Output) {
        let mut partitions = self.lock();
        let pending = partitions.entry(output.slot.partition).or_default();
        if output.slot.epoch > pending.epoch {
            *pending = Pending { epoch: output.slot.epoch, ..Pending::default() };
        }
        if output.slot.epoch == pending.epoch {
            pending.outputs.insert(output.slot.sequence, output);
        }
    }

    /// Answers that wait, gaps or not.
    pub(crate) fn len(&self) -> usize {
        self.lock().values().map(|pending| pending.outputs.len()).sum()
    }

    /// Takes what is next in line in every partition, at most about `most` answers.
    pub(crate) fn take_ready(&self, most: usize) -> Vec<Output> {
        let mut taken = Vec::new();
        for pending in self.lock().values_mut() {
            while taken.len() < most
                && let Some(output) = pending.outputs.remove(&pending.next)
            {
                pending.next += 1;
                taken.push(output);
            }
        }
        taken
    }

    /// Where a reader of the group would go on behind these answers, which are in order.
    pub(crate) fn positions(outputs: &[Output]) -> Vec<Position> {
        let ends: BTreeMap<i32, i64> =
            outputs.iter().map(|output| (output.slot.partition, output.offset + 1)).collect();
        ends.into_iter().map(|(partition, offset)| Position { partition, offset }).collect()
    }

    /// Gives answers back that were taken and not committed; those of an assignment that is over are dropped.
    pub(crate) fn put_back(&self, outputs: Vec<Output>) {
        for output in outputs {
            self.rewind(output.slot);
            self.offer(output);
        }
    }

    /// The answer of this place will come once more, in another form.
    pub(crate) fn rewind(&self, slot: RecordSlot) {
        if let Some(pending) = self.lock().get_mut(&slot.partition)
            && pending.epoch == slot.epoch
        {
            pending.next = pending.next.min(slot.sequence);
        }
    }

    /// Drops what waits of a partition that was taken away.
    pub(crate) fn forget(&self, partition: i32) {
        self.lock().remove(&partition);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Pending>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = oneshot::Receiver<Result<(), PublishError>>;

    fn output(partition: i32, epoch: u64, sequence: u64) -> (Output, Told) {
        let (reply, told) = oneshot::channel();
        let output = Output {
            slot: RecordSlot { partition, epoch, sequence },
            // Offsets have gaps.
            offset: 10 + 3 * i64::try_from(sequence).unwrap(),
            written: None,
            reply: Some(reply),
        };
        (output, told)
    }

    fn offer(outbox: &Outbox, partition: i32, epoch: u64, sequence: u64) -> Told {
        let (output, told) = output(partition, epoch, sequence);
        outbox.offer(output);
        told
    }

    fn places(outputs: &[Output]) -> Vec<(i32, u64)> {
        outputs.iter().map(|output| (output.slot.partition, output.slot.sequence)).collect()
    }

    #[test]
    fn only_what_is_next_in_line_is_taken() {
        let outbox = Outbox::default();
        let _waiting = [(0, 2), (0, 0), (1, 1), (0, 1), (0, 4)]
            .map(|(partition, sequence)| offer(&outbox, partition, 7, sequence));
        let taken = outbox.take_ready(10);
        assert_eq!(places(&taken), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(Outbox::positions(&taken), [Position { partition: 0, offset: 17 }]);
        assert_eq!(outbox.len(), 2, "what is behind a gap waits");
        assert!(outbox.take_ready(10).is_empty());
        let _closing = [offer(&outbox, 0, 7, 3), offer(&outbox, 1, 7, 0)];
        assert_eq!(places(&outbox.take_ready(3)), [(0, 3), (0, 4), (1, 0)]);
        assert_eq!(places(&outbox.take_ready(3)), [(1, 1)]);
    }

    #[test]
    fn what_was_not_committed_comes_again_in_its_order() {
        let outbox = Outbox::default();
        let mut told: Vec<Told> = (0..4).map(|sequence| offer(&outbox, 0, 1, sequence)).collect();
        let mut taken = outbox.take_ready(3);
        // The second is too large: its task hands in a smaller one later.
        let large = taken.remove(1);
        let place = large.slot;
        outbox.rewind(place);
        large.tell(Err(PublishError::TooLarge { topic: "events".to_owned() }));
        outbox.put_back(taken);
        assert!(matches!(told[1].try_recv(), Ok(Err(PublishError::TooLarge { .. }))));
        assert_eq!(places(&outbox.take_ready(10)), [(0, 0)]);
        let _smaller = offer(&outbox, 0, 1, 1);
        assert_eq!(places(&outbox.take_ready(10)), [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn an_assignment_that_is_over_leaves_nothing_behind() {
        let outbox = Outbox::default();
        let _first = offer(&outbox, 0, 1, 0);
        let taken = outbox.take_ready(10);
        let mut late = offer(&outbox, 0, 1, 1);
        let _new = offer(&outbox, 0, 2, 0);
        outbox.put_back(taken);
        assert!(late.try_recv().is_err(), "its task is told nothing and is gone");
        let ready = outbox.take_ready(10);
        assert_eq!((ready.len(), ready[0].slot.epoch), (1, 2));
        let _older = offer(&outbox, 0, 1, 2);
        let _waits = offer(&outbox, 0, 2, 5);
        assert_eq!(outbox.len(), 1);
        outbox.forget(0);
        assert_eq!(outbox.len(), 0);
    }
}
