//! Forms batches from queued jobs and runs them: neither threads nor clocks.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::lane::error::RunError;
use crate::engine::lane::inbox::Inbox;
use crate::engine::lane::job::Job;

/// Runs the model on a batch; the outputs are in the order of the inputs.
///
/// Not `Send`: it is created and called on the device thread, because a device's stream belongs to
/// the thread that created it.
pub(crate) type RunBatch<I, O> = Box<dyn FnMut(&[I]) -> Result<Vec<O>, RunError>>;

/// Holds received jobs, oldest first, until they form a batch.
pub(crate) struct Batcher<I, O> {
    jobs: VecDeque<Job<I, O>>,
    batch_cost: usize,
    cost: fn(&I) -> usize,
}

impl<I, O> Batcher<I, O> {
    pub(crate) fn new(batch_cost: usize, cost: fn(&I) -> usize) -> Self {
        Self { jobs: VecDeque::new(), batch_cost, cost }
    }

    /// Returns true if a wanted job is waiting; drops withdrawn jobs.
    pub(crate) fn has_jobs(&mut self) -> bool {
        self.jobs.retain(Job::is_wanted);
        !self.jobs.is_empty()
    }

    /// Blocks until a job is waiting, then receives up to one batch more without blocking. The rest
    /// stays in the channel, where it holds the senders back. Returns false if all senders are
    /// dropped and no job is waiting.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox<I, O>) -> bool {
        while !self.has_jobs() {
            match inbox.blocking_recv() {
                Some(job) => self.jobs.push_back(job),
                None => return false,
            }
        }
        let mut total: usize = self.jobs.iter().map(|job| (self.cost)(&job.input)).sum();
        while total < self.batch_cost {
            let Some(job) = inbox.try_recv() else { break };
            if job.is_wanted() {
                total += (self.cost)(&job.input);
                self.jobs.push_back(job);
            }
        }
        true
    }

    /// Removes the longest run of oldest jobs whose total cost fits a batch, and at least one job.
    pub(crate) fn next_batch(&mut self) -> Vec<Job<I, O>> {
        let mut total = 0;
        let mut count = 0;
        for job in &self.jobs {
            total += (self.cost)(&job.input);
            if count > 0 && total > self.batch_cost {
                break;
            }
            count += 1;
        }
        self.jobs.drain(..count).collect()
    }

    /// Returns the cost of the inputs as a share of the maximum cost of a batch.
    pub(crate) fn fill(&self, inputs: &[I]) -> f64 {
        inputs.iter().map(self.cost).sum::<usize>() as f64 / self.batch_cost as f64
    }

    /// Replies to every waiting job with an error.
    pub(crate) fn fail_all(&mut self, error: &RunError) {
        self.jobs.drain(..).for_each(|job| job.fail(error));
    }
}

/// Runs a batch and replies to each caller. A failed batch is halved until the input at fault is
/// alone, so that it never fails its neighbours and an out-of-memory batch shrinks.
///
/// # Errors
/// Fails if the device is lost; every job of the batch then has its reply.
pub(crate) fn run_and_reply<I, O>(
    batch: Vec<Job<I, O>>,
    mut run: impl FnMut(&[I]) -> Result<Vec<O>, RunError>,
) -> Result<(), RunError> {
    let mut inputs = Vec::with_capacity(batch.len());
    let mut replies = Vec::with_capacity(batch.len());
    for Job { input, started, reply } in batch {
        // Not received if the caller sets no time limit or has dropped its future.
        started.send(()).ok();
        inputs.push(input);
        replies.push(Some(reply));
    }
    let mut send = |index: usize, answer: Result<O, RunError>| {
        if let Some(reply) = replies[index].take() {
            // The caller may have dropped its future.
            drop(reply.send(answer));
        }
    };
    let mut spans = Vec::new();
    spans.push(0..inputs.len());
    while let Some(span) = spans.pop() {
        match run(&inputs[span.clone()]) {
            Ok(outputs) => {
                for (index, output) in span.zip(outputs) {
                    send(index, Ok(output));
                }
            }
            Err(error @ (RunError::Batch(_) | RunError::NotNumbers(_))) if span.len() == 1 => {
                send(span.start, Err(error));
            }
            Err(RunError::Batch(_) | RunError::NotNumbers(_)) => {
                let middle = span.start + span.len() / 2;
                spans.push(middle..span.end);
                spans.push(span.start..middle);
            }
            Err(lost @ RunError::Device(_)) => {
                for index in 0..inputs.len() {
                    send(index, Err(lost.clone()));
                }
                return Err(lost);
            }
        }
    }
    Ok(())
}

/// Runs a batch. A panic of the model, or a wrong number of outputs, is an error of this batch and
/// does not end the thread.
pub(crate) fn run_checked<I, O>(
    run: impl FnOnce(&[I]) -> Result<Vec<O>, RunError>,
    inputs: &[I],
) -> Result<Vec<O>, RunError> {
    let outputs = catch_unwind(AssertUnwindSafe(|| run(inputs)))
        .unwrap_or_else(|_| Err(RunError::Batch("the model panicked".into())))?;
    if outputs.len() == inputs.len() {
        Ok(outputs)
    } else {
        let (outputs, inputs) = (outputs.len(), inputs.len());
        let message = format!("the model returned {outputs} outputs for {inputs} inputs");
        Err(RunError::Batch(message.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;

    proptest! {
        /// The batcher reads from a channel that is closed at the end, and is drained batch by
        /// batch, as on the device thread.
        #[test]
        fn batches_keep_order_and_budget(
            costs in prop::collection::vec(0_usize..20, 1..60),
            withdrawn in prop::collection::vec(any::<bool>(), 60),
            batch_cost in 1_usize..40,
        ) {
            let (jobs, mut inbox) = Inbox::new(costs.len());
            let mut answers = Vec::new();
            for (index, &cost) in costs.iter().enumerate() {
                let (reply, answer) = oneshot::channel::<Result<(), RunError>>();
                if !withdrawn[index] {
                    answers.push(answer);
                }
                let (started, _) = oneshot::channel();
                jobs.backlog.try_send(Job { input: (index, cost), started, reply }).unwrap();
            }
            drop(jobs);
            let mut batcher = Batcher::new(batch_cost, |&(_, cost): &(usize, usize)| cost);
            let mut ran = Vec::new();
            while batcher.receive(&mut inbox) {
                let held: usize = batcher.jobs.iter().map(|job| job.input.1).sum();
                let newest = batcher.jobs.back().map_or(0, |job| job.input.1);
                prop_assert!(held - newest < batch_cost, "the batcher hoards {held}");
                let batch: Vec<_> = batcher.next_batch().into_iter().map(|job| job.input).collect();
                let total: usize = batch.iter().map(|&(_, cost)| cost).sum();
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.len() == 1 || total <= batch_cost, "{total} > {batch_cost}");
                ran.extend(batch);
            }
            let wanted: Vec<_> = costs
                .iter()
                .copied()
                .enumerate()
                .filter(|&(index, _)| !withdrawn[index])
                .collect();
            prop_assert_eq!(ran, wanted);
        }
    }
}
