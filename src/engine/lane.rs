//! A bounded queue in front of one device thread, with batching and blame isolation.
//!
//! ```text
//!  submit(item).await ──► bounded channel ──► device thread: drain, take a batch, run, reply
//!        ▲                                          │
//!        └──────────────── oneshot ◄────────────────┘
//! ```
//! The batch forms while the device is busy with the one before: no timer, no second thread.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc as handshake};
use std::thread;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use crate::telemetry::metrics;

/// What the device thread does with a batch. Answers come in the order of the inputs.
///
/// Not `Send`: it is opened, run and dropped on the device thread, because a device's stream
/// belongs to the thread that made it.
pub type Run<I, O> = Box<dyn FnMut(&[I]) -> Result<Vec<O>, RunError>>;

/// Why a batch failed, told apart by what the lane can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// This input is at fault, or the batch was too large: smaller batches may pass.
    #[error("{0}")]
    Batch(Arc<str>),
    /// The device is gone (sticky CUDA error, lost context): nothing on this thread can pass.
    #[error("device lost: {0}")]
    Device(Arc<str>),
}

/// Why a submitted item has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The model failed on this item, or its device is gone.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The device thread has ended.
    #[error("lane `{0}` is closed")]
    Closed(&'static str),
}

/// Sizes of a lane, in the unit of its cost function (tokens, pixels, items).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Items that may wait before `submit` waits too: this bounds memory. At least 1.
    pub queue: usize,
    /// Summed cost of one batch. An item dearer than this runs alone.
    pub batch_cost: usize,
}

/// What a lane is called, how much it takes, and whom it tells that its device is gone.
#[derive(Debug)]
pub struct LaneSpec<I> {
    /// The thread's name, and the lane's in metrics.
    pub name: &'static str,
    /// Queue and batch sizes.
    pub limits: Limits,
    /// What one item takes of `limits.batch_cost`.
    pub cost: fn(&I) -> usize,
    /// Set to false once, when the device is lost; the lanes of one engine share it.
    pub health: watch::Sender<bool>,
}

/// A handle to the device thread; clones share it. The thread ends when the last one is dropped.
pub struct Lane<I, O> {
    name: &'static str,
    jobs: mpsc::Sender<Job<I, O>>,
}

impl<I, O> Clone for Lane<I, O> {
    fn clone(&self) -> Self {
        Self { name: self.name, jobs: self.jobs.clone() }
    }
}

impl<I, O> fmt::Debug for Lane<I, O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lane").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Job<I, O> {
    input: I,
    reply: oneshot::Sender<Result<O, RunError>>,
}

impl<I, O> Job<I, O> {
    /// False once the asker has dropped its future: the image was withdrawn or timed out.
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }
}

impl<I: Send + 'static, O: Send + 'static> Lane<I, O> {
    /// Starts the thread and opens the model on it; returns when it is open, or why it is not.
    /// Blocks while the model opens.
    ///
    /// # Errors
    /// What `open` says, or that the operating system refused a thread.
    ///
    /// # Panics
    /// When `open` does.
    pub fn spawn<E: From<io::Error> + Send + 'static>(
        spec: LaneSpec<I>,
        open: impl FnOnce() -> Result<Run<I, O>, E> + Send + 'static,
    ) -> Result<Self, E> {
        let name = spec.name;
        let (jobs, inbox) = mpsc::channel(spec.limits.queue);
        let (opened, is_open) = handshake::sync_channel(1);
        let device = move || {
            let answer = match open() {
                Ok(run) => (Ok(()), Some(run)),
                Err(error) => (Err(error), None),
            };
            // The opener waits right below; were it gone, nobody would be owed an answer.
            drop(opened.send(answer.0));
            if let Some(run) = answer.1 {
                Device { run, waiting: Waiting::new(spec.limits.batch_cost, spec.cost) }
                    .serve(inbox, &spec);
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(device)?;
        is_open.recv().expect("opening answers, or panics and is a bug")?;
        metrics::lane_health(name, true);
        Ok(Self { name, jobs })
    }

    /// Waits for a place in the queue, then for the answer.
    ///
    /// Cancel safe: dropping the future withdraws the item, which then is not run unless it is on
    /// the device already.
    ///
    /// # Errors
    /// [`LaneError::Run`] when the model failed on it, [`LaneError::Closed`] when no one is left to
    /// run it.
    pub async fn submit(&self, input: I) -> Result<O, LaneError> {
        let (reply, answer) = oneshot::channel();
        let closed = LaneError::Closed(self.name);
        self.jobs.send(Job { input, reply }).await.map_err(|_| closed.clone())?;
        Ok(answer.await.map_err(|_| closed)??)
    }
}

/// What lives on the device thread.
struct Device<I, O> {
    run: Run<I, O>,
    waiting: Waiting<I, O>,
}

impl<I, O> Device<I, O> {
    fn serve(mut self, mut inbox: mpsc::Receiver<Job<I, O>>, spec: &LaneSpec<I>) {
        while self.waiting.fill(&mut inbox) {
            let batch = self.waiting.take();
            let (items, started) = (batch.len(), Instant::now());
            let cost = batch.iter().map(|job| (spec.cost)(&job.input)).sum();
            let answered = answer(batch, &mut self.run);
            metrics::batch_run(spec.name, items, cost, started.elapsed());
            if let Err(lost) = answered {
                metrics::lane_health(spec.name, false);
                spec.health.send_replace(false);
                inbox.close();
                self.waiting.refuse(&mut inbox, &lost);
                return;
            }
        }
    }
}

/// Runs a batch and replies. A batch that fails is halved until the input at fault stands alone,
/// so that one bad image never fails its neighbours and an out-of-memory batch shrinks by itself.
fn answer<I, O>(batch: Vec<Job<I, O>>, run: &mut Run<I, O>) -> Result<(), RunError> {
    let (inputs, replies): (Vec<I>, Vec<_>) =
        batch.into_iter().map(|job| (job.input, Some(job.reply))).unzip();
    let mut replies: Vec<Option<oneshot::Sender<_>>> = replies;
    let mut spans = Vec::new();
    spans.push(0..inputs.len());
    while let Some(span) = spans.pop() {
        match guarded(run, &inputs[span.clone()]) {
            Ok(outputs) => {
                for (index, output) in span.zip(outputs) {
                    reply(&mut replies[index], Ok(output));
                }
            }
            Err(error @ RunError::Batch(_)) if span.len() == 1 => {
                reply(&mut replies[span.start], Err(error));
            }
            Err(RunError::Batch(_)) => {
                let middle = span.start + span.len() / 2;
                spans.push(middle..span.end);
                spans.push(span.start..middle);
            }
            Err(lost @ RunError::Device(_)) => {
                for slot in &mut replies {
                    reply(slot, Err(lost.clone()));
                }
                return Err(lost);
            }
        }
    }
    Ok(())
}

/// A panic inside a model is that batch's error, not the end of the thread.
fn guarded<I, O>(run: &mut Run<I, O>, inputs: &[I]) -> Result<Vec<O>, RunError> {
    let outputs = catch_unwind(AssertUnwindSafe(|| run(inputs)))
        .unwrap_or_else(|_| Err(RunError::Batch("the model panicked".into())))?;
    if outputs.len() == inputs.len() {
        Ok(outputs)
    } else {
        let (got, asked) = (outputs.len(), inputs.len());
        Err(RunError::Batch(format!("the model gave {got} answers to {asked} inputs").into()))
    }
}

fn reply<T>(slot: &mut Option<oneshot::Sender<T>>, answer: T) {
    if let Some(sender) = slot.take() {
        // The asker may have left: nobody is owed an answer then.
        drop(sender.send(answer));
    }
}

/// Items received but not yet run, oldest first. Plain data: tested without threads or clocks.
struct Waiting<I, O> {
    jobs: VecDeque<Job<I, O>>,
    batch_cost: usize,
    cost: fn(&I) -> usize,
}

impl<I, O> Waiting<I, O> {
    fn new(batch_cost: usize, cost: fn(&I) -> usize) -> Self {
        Self { jobs: VecDeque::new(), batch_cost, cost }
    }

    /// Blocks until an item is there, then takes at most one batch's worth more and never waits for
    /// it. What does not fit stays in the channel, where it holds the senders back. False when all
    /// senders are gone and nothing waits.
    fn fill(&mut self, inbox: &mut mpsc::Receiver<Job<I, O>>) -> bool {
        self.jobs.retain(Job::is_wanted);
        while self.jobs.is_empty() {
            match inbox.blocking_recv() {
                Some(job) => self.jobs.extend(Some(job).filter(Job::is_wanted)),
                None => return false,
            }
        }
        let mut total: usize = self.jobs.iter().map(|job| (self.cost)(&job.input)).sum();
        while total < self.batch_cost {
            let Ok(job) = inbox.try_recv() else { break };
            if job.is_wanted() {
                total += (self.cost)(&job.input);
                self.jobs.push_back(job);
            }
        }
        true
    }

    /// The longest run of oldest items within the budget, and at least one.
    fn take(&mut self) -> Vec<Job<I, O>> {
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

    fn refuse(&mut self, inbox: &mut mpsc::Receiver<Job<I, O>>, error: &RunError) {
        while let Some(job) = self.jobs.pop_front().or_else(|| inbox.blocking_recv()) {
            drop(job.reply.send(Err(error.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use futures::future::join_all;
    use proptest::prelude::*;
    use tokio::task::{JoinHandle, JoinSet, yield_now};

    use super::*;

    const UNLUCKY: usize = 13;
    const PANICS: usize = 66;
    const LOSES_DEVICE: usize = 99;

    /// A lane that doubles its inputs. Each batch says what it holds, then waits until told to go:
    /// the tests need no sleep and no luck.
    struct Bench {
        lane: Lane<usize, usize>,
        healthy: watch::Receiver<bool>,
        started: Receiver<Vec<usize>>,
        go: Sender<()>,
    }

    impl Bench {
        fn new(queue: usize, batch_cost: usize) -> Self {
            let (announce, started) = channel();
            let (go, wait) = channel();
            let (health, healthy) = watch::channel(true);
            let run = move |batch: &[usize]| {
                announce.send(batch.to_vec()).expect("the bench outlives its lane");
                wait.recv().expect("the test lets every batch go");
                assert!(!batch.contains(&PANICS), "asked to panic");
                if batch.contains(&LOSES_DEVICE) {
                    return Err(RunError::Device("gone".into()));
                }
                if batch.contains(&UNLUCKY) {
                    return Err(RunError::Batch("unlucky".into()));
                }
                Ok(batch.iter().map(|x| x * 2).collect())
            };
            let limits = Limits { queue, batch_cost };
            let spec = LaneSpec { name: "bench", limits, cost: |_| 1, health };
            let lane = Lane::spawn(spec, || Ok::<Run<usize, usize>, io::Error>(Box::new(run)));
            Self { lane: lane.unwrap(), healthy, started, go }
        }

        /// A bench whose device is busy with the item 0, and that item's answer.
        async fn busy(queue: usize, batch_cost: usize) -> (Self, JoinHandle<()>) {
            let bench = Self::new(queue, batch_cost);
            let lane = bench.lane.clone();
            let first = tokio::spawn(async move { assert_eq!(lane.submit(0).await.unwrap(), 0) });
            yield_now().await;
            assert_eq!(bench.started.recv().unwrap(), [0]);
            (bench, first)
        }

        fn go(&self, batches: usize) {
            (0..batches).for_each(|_| self.go.send(()).unwrap());
        }

        async fn submit_all(&self, inputs: &[usize]) -> Vec<Result<usize, LaneError>> {
            join_all(inputs.iter().map(|&x| self.lane.submit(x))).await
        }
    }

    #[tokio::test]
    async fn what_waits_while_the_device_is_busy_becomes_the_next_batch() {
        let (bench, first) = Bench::busy(64, 4).await;
        let (answers, ()) =
            tokio::join!(bench.submit_all(&[1, 2, 3, 4, 5, 6]), async { bench.go(3) });
        first.await.unwrap();
        assert_eq!(
            answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
            [2, 4, 6, 8, 10, 12]
        );
        assert_eq!(bench.started.try_iter().collect::<Vec<_>>(), [vec![1, 2, 3, 4], vec![5, 6]]);
    }

    #[tokio::test]
    async fn one_bad_input_never_fails_its_neighbours() {
        let bench = Bench::new(64, 16);
        bench.go(64);
        let inputs = [1, 2, UNLUCKY, 4, PANICS, 6, 7, 8];
        for (x, answer) in inputs.iter().zip(bench.submit_all(&inputs).await) {
            assert_eq!(answer.is_err(), [UNLUCKY, PANICS].contains(x), "input {x}");
        }
    }

    #[tokio::test]
    async fn a_lost_device_answers_everyone_and_closes_the_lane() {
        let bench = Bench::new(64, 1);
        bench.go(64);
        let answers = bench.submit_all(&[1, LOSES_DEVICE, 2, 3]).await;
        let answered = answers.iter().map(Result::is_ok).collect::<Vec<_>>();
        assert_eq!(answered, [true, false, false, false]);
        assert!(!*bench.healthy.borrow());
        assert_eq!(bench.lane.submit(1).await, Err(LaneError::Closed("bench")));
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_sender_back() {
        let (bench, first) = Bench::busy(2, 1).await;
        let mut senders = JoinSet::new();
        for x in 101..=120 {
            let lane = bench.lane.clone();
            senders.spawn(async move { lane.submit(x).await.unwrap() });
        }
        for _ in 0..100 {
            yield_now().await;
        }
        // One is on the device and two wait; the others stand before the door.
        assert_eq!(bench.lane.jobs.capacity(), 0);
        assert!(senders.try_join_next().is_none());
        bench.go(21);
        first.await.unwrap();
        assert_eq!(senders.join_all().await.len(), 20);
    }

    #[tokio::test]
    async fn a_withdrawn_item_is_never_run() {
        let (bench, first) = Bench::busy(64, 1).await;
        let mut withdrawn = Box::pin(bench.lane.submit(7));
        assert!(futures::poll!(&mut withdrawn).is_pending());
        drop(withdrawn);
        bench.go(2);
        first.await.unwrap();
        assert_eq!(bench.lane.submit(8).await.unwrap(), 16);
        assert_eq!(bench.started.try_iter().collect::<Vec<_>>(), [vec![8]]);
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_last_handle() {
        let bench = Bench::new(1, 1);
        let Bench { lane, mut healthy, .. } = bench;
        drop(lane);
        // The lane held the only sender, so the channel closes when the thread is gone.
        assert!(healthy.changed().await.is_err());
        assert!(*healthy.borrow());
    }

    #[test]
    fn a_model_that_does_not_open_says_why() {
        let (health, _) = watch::channel(true);
        let limits = Limits { queue: 1, batch_cost: 1 };
        let spec = LaneSpec { name: "bench", limits, cost: |_: &usize| 1, health };
        let refused = Lane::<usize, usize>::spawn(spec, || Err(io::Error::other("no weights")));
        assert_eq!(refused.unwrap_err().to_string(), "no weights");
    }

    proptest! {
        /// The former is fed through a channel that is closed at the end, and drained batch by
        /// batch, as the device thread does it.
        #[test]
        fn batches_keep_order_and_budget(
            costs in prop::collection::vec(0_usize..20, 1..60),
            withdrawn in prop::collection::vec(any::<bool>(), 60),
            batch_cost in 1_usize..40,
        ) {
            let (jobs, mut inbox) = mpsc::channel(costs.len());
            let mut answers = Vec::new();
            for (index, &cost) in costs.iter().enumerate() {
                let (reply, answer) = oneshot::channel::<Result<(), RunError>>();
                if !withdrawn[index] {
                    answers.push(answer);
                }
                jobs.try_send(Job { input: (index, cost), reply }).unwrap();
            }
            drop(jobs);
            let mut waiting = Waiting::new(batch_cost, |&(_, cost): &(usize, usize)| cost);
            let mut ran = Vec::new();
            while waiting.fill(&mut inbox) {
                let held: usize = waiting.jobs.iter().map(|job| job.input.1).sum();
                let newest = waiting.jobs.back().map_or(0, |job| job.input.1);
                prop_assert!(held - newest < batch_cost, "the former hoards {held}");
                let batch: Vec<_> = waiting.take().into_iter().map(|job| job.input).collect();
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
