//! A bounded queue in front of a stage's device threads, with batching and blame isolation.
//!
//! ```text
//!  submit(item).await ──► bounded channel ──► device thread: drain, take a batch, run, reply
//!        ▲                               └──► device thread, if the stage has another device
//!        └──────────────── oneshot ◄────────────────┘
//! ```
//! The batch forms while the device is busy with the one before: no timer. Several devices take from one
//! queue, so that none waits beside a full one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc as handshake};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::telemetry::metrics;

/// What the device thread does with a batch. Answers come in the order of the inputs.
///
/// Not `Send`: it is opened and run on the device thread, because a device's stream belongs to the
/// thread that made it.
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
    /// The device had its batch for too long; what becomes of it is not waited for.
    #[error("the device did not answer within {0:?}")]
    Overran(Duration),
    /// The device thread has ended.
    #[error("lane `{0}` is closed")]
    Closed(&'static str),
}

/// What a device thread opened.
pub struct Ready<I, O, M> {
    /// What batches are run by.
    pub run: Run<I, O>,
    /// What the lane's owner keeps of the model.
    pub model: M,
    /// What a batch may cost on this device.
    pub batch_cost: usize,
}

impl<I, O, M> fmt::Debug for Ready<I, O, M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ready")
            .field("batch_cost", &self.batch_cost)
            .finish_non_exhaustive()
    }
}

/// A device's name, and what opens the model on its thread.
pub type Opener<I, O, M, E> = (String, Box<dyn FnOnce() -> Result<Ready<I, O, M>, E> + Send>);

/// What a lane is called, how much it takes, and whom it tells that its device is gone.
#[derive(Debug)]
pub struct LaneSpec<I> {
    /// The threads' name, and the lane's in metrics.
    pub name: &'static str,
    /// Items that may wait before `submit` waits too: this bounds memory. At least 1.
    pub queue: usize,
    /// What one item takes of a batch's cost.
    pub cost: fn(&I) -> usize,
    /// Set to false once, when the device is lost; the lanes of one engine share it.
    pub health: watch::Sender<bool>,
}

/// A handle to the device threads; clones share it. They end when the last one is dropped.
pub struct Lane<I, O> {
    name: &'static str,
    jobs: mpsc::Sender<Job<I, O>>,
    /// Batches begun, by all devices.
    begun: Arc<AtomicU64>,
    /// Why it is closed, if a device was lost.
    lost: Arc<OnceLock<RunError>>,
}

impl<I, O> Clone for Lane<I, O> {
    fn clone(&self) -> Self {
        let (begun, lost) = (Arc::clone(&self.begun), Arc::clone(&self.lost));
        Self { name: self.name, jobs: self.jobs.clone(), begun, lost }
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
    /// Told when a device takes it.
    taken: oneshot::Sender<()>,
    reply: oneshot::Sender<Result<O, RunError>>,
}

/// Says when the item is on the device, and brings its answer.
type Ticket<O> = (oneshot::Receiver<()>, oneshot::Receiver<Result<O, RunError>>);

impl<I, O> Job<I, O> {
    /// False once the asker has dropped its future: the image was withdrawn or timed out.
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }
}

impl<I: Send + 'static, O: Send + 'static> Lane<I, O> {
    /// Starts a thread for each device and opens the model on it; returns when all are open, with what
    /// they gave, or why one is not. Blocks while the models open.
    ///
    /// # Errors
    /// What an opener says, or that the operating system refused a thread.
    ///
    /// # Panics
    /// When an opener does.
    pub fn spawn<M: Send + 'static, E: From<io::Error> + Send + 'static>(
        spec: LaneSpec<I>,
        openers: Vec<Opener<I, O, M, E>>,
    ) -> Result<(Self, Vec<M>), E> {
        let LaneSpec { name, queue, cost, health } = spec;
        let (jobs, inbox) = mpsc::channel(queue);
        let (inbox, lost) = (Arc::new(Mutex::new(inbox)), Arc::new(OnceLock::new()));
        let begun = Arc::new(AtomicU64::new(0));
        let start = |(device, open): Opener<I, O, M, E>| {
            let (opened, is_open) = handshake::sync_channel(1);
            let (inbox, health, lost) = (Arc::clone(&inbox), health.clone(), Arc::clone(&lost));
            let begun = Arc::clone(&begun);
            let thread = move || match open() {
                Ok(Ready { run, model, batch_cost }) => {
                    metrics::lane_opened(name, &device, batch_cost);
                    // The opener waits right below; were it gone, nobody would be owed an answer.
                    drop(opened.send(Ok(model)));
                    let waiting = Waiting::new(batch_cost, cost);
                    let names = (name, device);
                    Device { names, run, waiting, begun, health, lost }.serve(&inbox);
                }
                Err(error) => drop(opened.send(Err(error))),
            };
            thread::Builder::new().name(name.to_owned()).spawn(thread)?;
            Ok(is_open)
        };
        let started = openers.into_iter().map(start).collect::<Result<Vec<_>, E>>()?;
        let opened = started
            .into_iter()
            .map(|is_open| is_open.recv().expect("opening answers, or panics and is a bug"));
        let models = opened.collect::<Result<Vec<_>, E>>()?;
        Ok((Self { name, jobs, begun, lost }, models))
    }

    /// Waits for a place in the queue, then for the answer, however long either takes.
    ///
    /// Cancel safe: dropping the future withdraws the item, which then is not run unless it is on
    /// the device already.
    ///
    /// # Errors
    /// [`LaneError::Run`] when the model failed on it or the device is lost, [`LaneError::Closed`] when
    /// no one is left to run it.
    pub async fn submit(&self, input: I) -> Result<O, LaneError> {
        let (_, answer) = self.enqueue(input).await?;
        self.read(answer.await)
    }

    /// The same, for at most `limit` on the device. Waiting for it does not count: who stands behind a stuck
    /// item is not at fault. But when no device takes anything for twice the limit, none will.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`LaneError::Overran`].
    pub async fn submit_within(&self, input: I, limit: Duration) -> Result<O, LaneError> {
        let enqueued = async {
            let (taken, answer) = self.enqueue(input).await?;
            // An item that is refused is answered without being taken.
            drop(taken.await);
            Ok(answer)
        };
        let answer = self.while_devices_move(enqueued, limit.saturating_mul(2)).await?;
        let answered = timeout(limit, answer).await.map_err(|_| LaneError::Overran(limit))?;
        self.read(answered)
    }

    async fn enqueue(&self, input: I) -> Result<Ticket<O>, LaneError> {
        let (taken, is_taken) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { input, taken, reply }).await.map_err(|_| self.closed())?;
        Ok((is_taken, answer))
    }

    /// Waits as long as a batch is begun in every `limit`, and no longer than the queue ahead explains: one device of
    /// several may hang with an item in its hand.
    async fn while_devices_move<T>(
        &self,
        wait: impl Future<Output = Result<T, LaneError>>,
        limit: Duration,
    ) -> Result<T, LaneError> {
        let mut wait = std::pin::pin!(wait);
        for _ in 0..self.jobs.max_capacity() + 2 {
            let begun = self.begun.load(Ordering::Relaxed);
            match timeout(limit, &mut wait).await {
                Ok(done) => return done,
                Err(_) if self.begun.load(Ordering::Relaxed) == begun => break,
                Err(_) => {}
            }
        }
        let hangs = format!("it hangs, and takes nothing for {limit:?} and more");
        Err(RunError::Device(hangs.into()).into())
    }

    fn read(&self, answer: Result<Result<O, RunError>, RecvError>) -> Result<O, LaneError> {
        Ok(answer.map_err(|_| self.closed())??)
    }

    fn closed(&self) -> LaneError {
        let lost = self.lost.get().cloned();
        lost.map_or(LaneError::Closed(self.name), LaneError::Run)
    }
}

/// What lives on a device thread.
struct Device<I, O> {
    /// Its lane, and its own name.
    names: (&'static str, String),
    run: Run<I, O>,
    waiting: Waiting<I, O>,
    begun: Arc<AtomicU64>,
    health: watch::Sender<bool>,
    lost: Arc<OnceLock<RunError>>,
}

type Inbox<I, O> = Mutex<mpsc::Receiver<Job<I, O>>>;

impl<I, O> Device<I, O> {
    fn serve(mut self, inbox: &Inbox<I, O>) {
        while self.fill(inbox) {
            let batch = self.waiting.take();
            self.begun.fetch_add(1, Ordering::Relaxed);
            let lane = (self.names.0, &*self.names.1);
            let Waiting { cost, batch_cost, .. } = self.waiting;
            // Counted before anyone is answered: who has all answers finds all work in the metrics.
            let run = |inputs: &[I]| {
                let started = Instant::now();
                let outputs = guarded(&mut self.run, inputs);
                let fill = inputs.iter().map(cost).sum::<usize>() as f64 / batch_cost as f64;
                metrics::batch_run(lane, (inputs.len(), fill), started.elapsed());
                outputs
            };
            if let Err(lost) = answer(batch, run) {
                metrics::lane_lost(lane);
                // Of several losses the first is told.
                drop(self.lost.set(lost.clone()));
                self.health.send_replace(false);
                self.waiting.refuse(&lost);
                // Another device that waits here with the queue in its hand goes on answering.
                if let Ok(mut inbox) = inbox.try_lock() {
                    inbox.close();
                    refuse(&mut inbox, &lost);
                }
                return;
            }
        }
    }

    /// Waits for the queue and then for an item in it; one device does at a time. What is left of the last
    /// batch does not wait.
    fn fill(&mut self, inbox: &Inbox<I, O>) -> bool {
        let mut inbox = if self.waiting.has_any() {
            let Ok(inbox) = inbox.try_lock() else { return true };
            inbox
        } else {
            inbox.lock().unwrap_or_else(PoisonError::into_inner)
        };
        self.waiting.fill(&mut inbox)
    }
}

fn refuse<I, O>(inbox: &mut mpsc::Receiver<Job<I, O>>, error: &RunError) {
    while let Some(job) = inbox.blocking_recv() {
        drop(job.reply.send(Err(error.clone())));
    }
}

/// Runs a batch and replies. A batch that fails is halved until the input at fault stands alone,
/// so that one bad image never fails its neighbours and an out-of-memory batch shrinks by itself.
fn answer<I, O>(
    batch: Vec<Job<I, O>>,
    mut run: impl FnMut(&[I]) -> Result<Vec<O>, RunError>,
) -> Result<(), RunError> {
    let begin = |Job { input, taken, reply }| {
        // The asker may have left meanwhile, or not want to know.
        taken.send(()).ok();
        (input, Some(reply))
    };
    let (inputs, replies): (Vec<I>, Vec<_>) = batch.into_iter().map(begin).unzip();
    let mut replies: Vec<Option<oneshot::Sender<_>>> = replies;
    let mut spans = Vec::new();
    spans.push(0..inputs.len());
    while let Some(span) = spans.pop() {
        match run(&inputs[span.clone()]) {
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

    /// Whether an item is here that somebody still wants; the others are dropped.
    fn has_any(&mut self) -> bool {
        self.jobs.retain(Job::is_wanted);
        !self.jobs.is_empty()
    }

    /// Blocks until an item is there, then takes at most one batch's worth more and never waits for
    /// it. What does not fit stays in the channel, where it holds the senders back. False when all
    /// senders are gone and nothing waits.
    fn fill(&mut self, inbox: &mut mpsc::Receiver<Job<I, O>>) -> bool {
        while !self.has_any() {
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

    fn refuse(&mut self, error: &RunError) {
        for job in self.jobs.drain(..) {
            drop(job.reply.send(Err(error.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Poll;

    use futures::future::join_all;
    use proptest::prelude::*;
    use tokio::task::{JoinHandle, JoinSet, yield_now};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const UNLUCKY: usize = 13;
    const PANICS: usize = 66;
    const LOSES_DEVICE: usize = 99;

    type TestOpener = Opener<usize, usize, (), io::Error>;

    fn opener(
        run: impl FnMut(&[usize]) -> Result<Vec<usize>, RunError> + Send + 'static,
        batch_cost: usize,
    ) -> TestOpener {
        let open = move || Ok(Ready { run: Box::new(run), model: (), batch_cost });
        ("0".to_owned(), Box::new(open))
    }

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
            let spec = LaneSpec { name: "bench", queue, cost: |_| 1, health };
            let open = opener(run, batch_cost);
            let (lane, _) = Lane::spawn(spec, vec![open]).unwrap();
            Self { lane, healthy, started, go }
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
        let gone = LaneError::Run(RunError::Device("gone".into()));
        assert_eq!(bench.lane.submit(1).await, Err(gone));
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

    #[tokio::test(start_paused = true)]
    async fn an_item_has_its_time_on_the_device_and_no_longer() {
        let bench = Bench::new(64, 1);
        let mut stuck = Box::pin(bench.lane.submit_within(1, LIMIT));
        assert!(futures::poll!(&mut stuck).is_pending());
        assert_eq!(bench.started.recv().unwrap(), [1]);
        assert_eq!(stuck.await, Err(LaneError::Overran(LIMIT)));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_behind_a_stuck_item_does_not_count() {
        let (bench, first) = Bench::busy(64, 1).await;
        let mut behind = Box::pin(bench.lane.submit_within(1, LIMIT));
        assert!(futures::poll!(&mut behind).is_pending());
        tokio::time::advance(LIMIT * 3 / 2).await;
        assert!(futures::poll!(&mut behind).is_pending());
        bench.go(2);
        // The clock stands still as long as this does not wait for it.
        let answer = loop {
            match futures::poll!(&mut behind) {
                Poll::Ready(answer) => break answer,
                Poll::Pending => thread::yield_now(),
            }
        };
        assert_eq!(answer, Ok(2));
        first.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_takes_nothing_any_more_is_lost() {
        let (bench, _first) = Bench::busy(1, 1).await;
        // One waits in the queue, the others for a place in it.
        let waiting = (1..4).map(|item| bench.lane.submit_within(item, LIMIT));
        for answer in join_all(waiting).await {
            assert!(matches!(answer, Err(LaneError::Run(RunError::Device(_)))), "{answer:?}");
        }
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

    /// Which device began which batch.
    type Started = Receiver<(usize, Vec<usize>)>;

    /// A lane of two devices, which tell when they begin a batch and go on when they are told to.
    fn two_devices() -> (Lane<usize, usize>, Started, [Sender<bool>; 2]) {
        let (announce, started) = channel();
        let (health, _) = watch::channel(true);
        let devices = [0, 1].map(|device| {
            let announce = announce.clone();
            let (go, wait) = channel();
            let run = move |batch: &[usize]| {
                announce.send((device, batch.to_vec())).expect("the test outlives its lane");
                let survives: bool = wait.recv().expect("the test lets every batch go");
                if !survives {
                    return Err(RunError::Device("gone".into()));
                }
                Ok(batch.iter().map(|x| x * 2).collect())
            };
            (opener(run, 1), go)
        });
        let [(first, go_first), (second, go_second)] = devices;
        let spec = LaneSpec { name: "bench", queue: 8, cost: |_| 1, health };
        let (lane, _) = Lane::spawn(spec, vec![first, second]).unwrap();
        (lane, started, [go_first, go_second])
    }

    fn submitted(lane: &Lane<usize, usize>, x: usize) -> JoinHandle<Result<usize, LaneError>> {
        let lane = lane.clone();
        tokio::spawn(async move { lane.submit(x).await })
    }

    #[tokio::test]
    async fn two_devices_work_at_once_and_share_one_queue() {
        let (lane, started, go) = two_devices();
        let ask = |x| submitted(&lane, x);
        let (one, two) = (ask(1), ask(2));
        yield_now().await;
        let mut busy = [started.recv().unwrap(), started.recv().unwrap()];
        busy.sort_by_key(|(_, batch)| batch.clone());
        let [(first, _), (second, _)] = busy;
        assert_ne!(first, second, "each has one of them");
        // The device of 2 is done and takes what comes, while the other is still busy.
        let three = ask(3);
        yield_now().await;
        go[second].send(true).unwrap();
        assert_eq!(two.await.unwrap(), Ok(4));
        assert_eq!(started.recv().unwrap(), (second, vec![3]));
        go[second].send(true).unwrap();
        go[first].send(true).unwrap();
        assert_eq!((one.await.unwrap(), three.await.unwrap()), (Ok(2), Ok(6)));
    }

    #[tokio::test]
    async fn what_one_of_two_devices_loses_is_told_and_nobody_is_left_waiting() {
        let (lane, started, go) = two_devices();
        let ask = |x| submitted(&lane, x);
        let first = ask(1);
        yield_now().await;
        let (device, _) = started.recv().unwrap();
        // The other device may end with the lane: what it needs to go on has to be there before.
        go[1 - device].send(true).unwrap();
        go[device].send(false).unwrap();
        assert!(matches!(first.await.unwrap(), Err(LaneError::Run(RunError::Device(_)))));
        // It answers if it had the queue in its hand; else the lane is closed.
        let second = ask(2).await.unwrap();
        let gone = Err(LaneError::Run(RunError::Device("gone".into())));
        assert!([Ok(4), gone].contains(&second), "{second:?}");
    }

    #[test]
    fn a_model_that_does_not_open_says_why() {
        let (health, _) = watch::channel(true);
        let spec = LaneSpec { name: "bench", queue: 1, cost: |_: &usize| 1, health };
        let fails: TestOpener = ("1".to_owned(), Box::new(|| Err(io::Error::other("no weights"))));
        let opens = opener(|_| Ok(Vec::new()), 1);
        let refused = Lane::spawn(spec, vec![opens, fails]);
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
                let (taken, _) = oneshot::channel();
                jobs.try_send(Job { input: (index, cost), taken, reply }).unwrap();
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
