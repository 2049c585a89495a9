//! The sending end of a lane: starts its device threads and submits inputs to them.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::engine::lane::device_thread::{LaneDevice, LaneState, OpenedModel, start};
use crate::engine::lane::error::{LaneError, RunError};
use crate::engine::lane::inbox::Inbox;
use crate::engine::lane::job::Job;
use crate::priority::{ByPriority, Priority, REQUESTS_IN_A_ROW_MAX};

/// Name, size and health channel of a lane.
#[derive(Debug)]
pub(crate) struct LaneSpec<I> {
    /// The name of the threads, and of the lane in metrics.
    pub(crate) name: &'static str,
    /// Inputs of each priority that may wait before `submit` waits too, which bounds memory. At
    /// least 1.
    pub(crate) queue: usize,
    /// Cost of an input, in the unit of `OpenedModel::batch_cost`.
    pub(crate) cost: fn(&I) -> usize,
    /// Set to false once, when a device is lost. The lanes of one engine share it.
    pub(crate) health: watch::Sender<bool>,
}

/// A handle to the device threads of one model. The threads end when its last clone is dropped.
pub(crate) struct Lane<I, O> {
    jobs: ByPriority<mpsc::Sender<Job<I, O>>>,
    priority: Priority,
    state: Arc<LaneState>,
}

impl<I, O> Clone for Lane<I, O> {
    fn clone(&self) -> Self {
        self.with_priority(self.priority)
    }
}

impl<I, O> Lane<I, O> {
    /// Returns another handle to the same lane, for inputs of this priority.
    pub(crate) fn with_priority(&self, priority: Priority) -> Self {
        let ByPriority { request, backlog } = &self.jobs;
        let jobs = ByPriority { request: request.clone(), backlog: backlog.clone() };
        Self { jobs, priority, state: Arc::clone(&self.state) }
    }
}

impl<I, O> fmt::Debug for Lane<I, O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lane").field("name", &self.state.name).finish_non_exhaustive()
    }
}

/// The channels of a queued input.
struct PendingAnswer<O> {
    started: oneshot::Receiver<()>,
    answer: oneshot::Receiver<Result<O, RunError>>,
}

impl<I: Send + 'static, O: Send + 'static> Lane<I, O> {
    /// Starts a thread for each device and opens the model on it. Blocks until all are open, and
    /// returns [`OpenedModel::returned`] of each.
    ///
    /// # Errors
    /// Fails if a model does not open or the operating system refuses a thread.
    ///
    /// # Panics
    /// Panics if opening a model does.
    pub(crate) fn spawn<T: Send + 'static, E: From<io::Error> + Send + 'static>(
        spec: LaneSpec<I>,
        devices: Vec<LaneDevice<OpenedModel<I, O, T>, E>>,
    ) -> Result<(Self, Vec<T>), E> {
        let LaneSpec { name, queue, cost, health } = spec;
        let (jobs, inbox) = Inbox::new(queue);
        let inbox = Arc::new(Mutex::new(inbox));
        let state = Arc::new(LaneState {
            name,
            batches_started: AtomicU64::new(0),
            loss: OnceLock::new(),
            health,
        });
        let start_one = |device| start(device, cost, Arc::clone(&state), Arc::clone(&inbox));
        let opening = devices.into_iter().map(start_one).collect::<Result<Vec<_>, _>>()?;
        let returned = opening
            .into_iter()
            .map(|opened| opened.recv().expect("a device thread reports, or panics, a bug"))
            .collect::<Result<Vec<_>, E>>()?;
        Ok((Self { jobs, priority: Priority::default(), state }, returned))
    }

    /// Waits for a slot in the queue and then for the answer, without a time limit.
    ///
    /// Cancel safe: dropping the future withdraws the input, unless its batch has started.
    ///
    /// # Errors
    /// [`LaneError::Run`] if the model fails on it or the device is lost, [`LaneError::Closed`] if
    /// all device threads have ended.
    pub(crate) async fn submit(&self, input: I) -> Result<O, LaneError> {
        let PendingAnswer { answer, .. } = self.enqueue(input).await?;
        self.read(answer.await)
    }

    /// Like [`submit`](Self::submit), with at most `limit` on the device. Time in the queue does
    /// not count, because an input must not fail for a slow one ahead of it. If no device starts a
    /// batch for 2 × `limit`, the lane is considered hung.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`LaneError::TimedOut`].
    pub(crate) async fn submit_within(&self, input: I, limit: Duration) -> Result<O, LaneError> {
        let until_started = async {
            let PendingAnswer { started, answer } = self.enqueue(input).await?;
            // The sender is dropped if the lane is lost before the input starts; `answer` then
            // holds the error.
            drop(started.await);
            Ok(answer)
        };
        let answer = self.while_devices_progress(until_started, limit.saturating_mul(2)).await?;
        let answered = timeout(limit, answer).await.map_err(|_| LaneError::TimedOut(limit))?;
        self.read(answered)
    }

    async fn enqueue(&self, input: I) -> Result<PendingAnswer<O>, LaneError> {
        let (notify_started, started) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let job = Job { input, started: notify_started, reply };
        self.sender().send(job).await.map_err(|_| self.closed())?;
        Ok(PendingAnswer { started, answer })
    }

    /// Waits as long as some device starts a batch in every `period`. Gives up once more batches
    /// have started than inputs can be ahead of ours, because one of several devices may hang while
    /// it holds our input. Requests pass an input of the backlog.
    async fn while_devices_progress<T>(
        &self,
        wait: impl Future<Output = Result<T, LaneError>>,
        period: Duration,
    ) -> Result<T, LaneError> {
        let mut wait = std::pin::pin!(wait);
        let started = || self.state.batches_started.load(Ordering::Relaxed);
        let ahead = self.sender().max_capacity().saturating_mul(1 + REQUESTS_IN_A_ROW_MAX);
        for _ in 0..ahead.saturating_add(2) {
            let started_before = started();
            match timeout(period, &mut wait).await {
                Ok(done) => return done,
                Err(_) if started() == started_before => break,
                Err(_) => {}
            }
        }
        let hangs = format!("no device accepted the input for over {period:?}");
        Err(RunError::Device(hangs.into()).into())
    }

    fn sender(&self) -> &mpsc::Sender<Job<I, O>> {
        self.jobs.get(self.priority)
    }

    fn read(&self, answer: Result<Result<O, RunError>, RecvError>) -> Result<O, LaneError> {
        Ok(answer.map_err(|_| self.closed())??)
    }

    fn closed(&self) -> LaneError {
        let loss = self.state.loss.get().cloned();
        loss.map_or(LaneError::Closed(self.state.name), LaneError::Run)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Poll;
    use std::thread;

    use futures::future::join_all;
    use tokio::task::{JoinHandle, JoinSet, yield_now};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const UNLUCKY: usize = 13;
    const PANICS: usize = 66;
    const LOSES_DEVICE: usize = 99;

    type TestDevice = LaneDevice<OpenedModel<usize, usize, ()>, io::Error>;

    fn device(
        run: impl FnMut(&[usize]) -> Result<Vec<usize>, RunError> + Send + 'static,
        batch_cost: usize,
    ) -> TestDevice {
        LaneDevice::new("0", move || {
            Ok(OpenedModel { run: Box::new(run), batch_cost, returned: () })
        })
    }

    /// A lane that doubles its inputs. Each batch announces its inputs and then waits for `go`, so
    /// that the tests need neither sleep nor luck.
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
                wait.recv().expect("the test releases every batch");
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
            let (lane, _) = Lane::spawn(spec, vec![device(run, batch_cost)]).unwrap();
            Self { lane, healthy, started, go }
        }

        /// Returns a bench whose device is busy with the input 0, and the task that checks its
        /// answer.
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
    async fn inputs_that_wait_while_the_device_is_busy_form_the_next_batch() {
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
    async fn a_lost_device_fails_all_waiting_inputs_and_closes_the_lane() {
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
    async fn a_full_queue_holds_the_senders_back() {
        let (bench, first) = Bench::busy(2, 1).await;
        let mut senders = JoinSet::new();
        for x in 101..=120 {
            let lane = bench.lane.clone();
            senders.spawn(async move { lane.submit(x).await.unwrap() });
        }
        for _ in 0..100 {
            yield_now().await;
        }
        // One is on the device and two are queued; the others wait for a slot.
        assert_eq!(bench.lane.sender().capacity(), 0);
        assert!(senders.try_join_next().is_none());
        bench.go(21);
        first.await.unwrap();
        assert_eq!(senders.join_all().await.len(), 20);
    }

    #[tokio::test]
    async fn requests_pass_the_backlog_in_the_queue_and_the_backlog_keeps_its_share() {
        let (bench, first) = Bench::busy(64, 1).await;
        let requests = bench.lane.with_priority(Priority::Request);
        let backlog = join_all([1, 2].map(|x| bench.lane.submit(x)));
        let requests = join_all([11, 12, 13, 14, 15, 16].map(|x| requests.submit(x)));
        tokio::join!(backlog, requests, async { bench.go(9) });
        first.await.unwrap();
        let order: Vec<_> = bench.started.try_iter().flatten().collect();
        assert_eq!(order, [11, 12, 13, 14, 1, 15, 16, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_input_that_exceeds_its_limit_on_the_device_times_out() {
        let bench = Bench::new(64, 1);
        let mut stuck = Box::pin(bench.lane.submit_within(1, LIMIT));
        assert!(futures::poll!(&mut stuck).is_pending());
        assert_eq!(bench.started.recv().unwrap(), [1]);
        assert_eq!(stuck.await, Err(LaneError::TimedOut(LIMIT)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_the_queue_behind_a_stuck_input_does_not_count() {
        let (bench, first) = Bench::busy(64, 1).await;
        let mut behind = Box::pin(bench.lane.submit_within(1, LIMIT));
        assert!(futures::poll!(&mut behind).is_pending());
        tokio::time::advance(LIMIT * 3 / 2).await;
        assert!(futures::poll!(&mut behind).is_pending());
        bench.go(2);
        // The paused clock does not advance while this loop polls instead of waiting.
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
    async fn a_device_that_starts_no_further_batch_is_lost() {
        let (bench, _first) = Bench::busy(1, 1).await;
        // One waits in the queue, the others for a slot in it.
        let waiting = (1..4).map(|input| bench.lane.submit_within(input, LIMIT));
        for answer in join_all(waiting).await {
            assert!(matches!(answer, Err(LaneError::Run(RunError::Device(_)))), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_withdrawn_input_is_never_run() {
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
        // Only the lane and its thread hold the sender, so the channel closes with the thread.
        assert!(healthy.changed().await.is_err());
        assert!(*healthy.borrow());
    }

    /// Receives the device and the inputs of each started batch.
    type StartedBatches = Receiver<(usize, Vec<usize>)>;

    /// Returns a lane of two devices, which announce each batch. A batch ends when its device's
    /// sender sends true; false loses the device.
    fn two_devices() -> (Lane<usize, usize>, StartedBatches, [Sender<bool>; 2]) {
        let (announce, started) = channel();
        let (health, _) = watch::channel(true);
        let devices = [0, 1].map(|number| {
            let announce = announce.clone();
            let (go, wait) = channel();
            let run = move |batch: &[usize]| {
                announce.send((number, batch.to_vec())).expect("the test outlives its lane");
                let survives: bool = wait.recv().expect("the test releases every batch");
                if !survives {
                    return Err(RunError::Device("gone".into()));
                }
                Ok(batch.iter().map(|x| x * 2).collect())
            };
            (device(run, 1), go)
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
        let submit = |x| submitted(&lane, x);
        let (one, two) = (submit(1), submit(2));
        yield_now().await;
        let mut busy = [started.recv().unwrap(), started.recv().unwrap()];
        busy.sort_by_key(|(_, batch)| batch.clone());
        let [(first, _), (second, _)] = busy;
        assert_ne!(first, second, "each has one of them");
        // The device of 2 finishes and receives the next input, while the other is still busy.
        let three = submit(3);
        yield_now().await;
        go[second].send(true).unwrap();
        assert_eq!(two.await.unwrap(), Ok(4));
        assert_eq!(started.recv().unwrap(), (second, vec![3]));
        go[second].send(true).unwrap();
        go[first].send(true).unwrap();
        assert_eq!((one.await.unwrap(), three.await.unwrap()), (Ok(2), Ok(6)));
    }

    #[tokio::test]
    async fn the_loss_of_one_of_two_devices_is_reported_and_leaves_no_input_waiting() {
        let (lane, started, go) = two_devices();
        let submit = |x| submitted(&lane, x);
        let first = submit(1);
        yield_now().await;
        let (device, _) = started.recv().unwrap();
        // Release the other device in advance, because it may end with the lane.
        go[1 - device].send(true).unwrap();
        go[device].send(false).unwrap();
        assert!(matches!(first.await.unwrap(), Err(LaneError::Run(RunError::Device(_)))));
        // The other device answers if it held the queue's lock; otherwise the lane is closed.
        let second = submit(2).await.unwrap();
        let gone = Err(LaneError::Run(RunError::Device("gone".into())));
        assert!([Ok(4), gone].contains(&second), "{second:?}");
    }

    #[test]
    fn the_error_of_a_model_that_does_not_open_is_returned() {
        let (health, _) = watch::channel(true);
        let spec = LaneSpec { name: "bench", queue: 1, cost: |_: &usize| 1, health };
        let fails: TestDevice = LaneDevice::new("1", || Err(io::Error::other("no weights")));
        let opens = device(|_| Ok(Vec::new()), 1);
        let refused = Lane::spawn(spec, vec![opens, fails]);
        assert_eq!(refused.unwrap_err().to_string(), "no weights");
    }
}
