//! The thread of one device: opens the model, then runs the batches of its lane.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::watch;

use crate::engine::lane::batch::{Batcher, RunBatch, run_and_reply, run_checked};
use crate::engine::lane::error::RunError;
use crate::engine::lane::inbox::Inbox;
use crate::telemetry::metrics;

/// A device of a lane: its name in metrics, and the function that opens a model on its thread.
pub(crate) struct LaneDevice<T, E> {
    name: String,
    open: OpenModel<T, E>,
}

/// Opens a model on the thread of its device.
type OpenModel<T, E> = Box<dyn FnOnce() -> Result<T, E> + Send>;

impl<T, E> LaneDevice<T, E> {
    pub(crate) fn new(
        name: impl Into<String>,
        open: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), open: Box::new(open) }
    }
}

impl<T: 'static, E: 'static> LaneDevice<T, E> {
    /// Opens the model by `around`, which receives the original opening, on the same thread.
    pub(crate) fn opened_by<U>(
        self,
        around: impl FnOnce(OpenModel<T, E>) -> Result<U, E> + Send + 'static,
    ) -> LaneDevice<U, E> {
        let Self { name, open } = self;
        LaneDevice::new(name, move || around(open))
    }
}

/// A model that is open on its device's thread.
pub(crate) struct OpenedModel<I, O, T> {
    pub(crate) run: RunBatch<I, O>,
    /// Maximum cost of one batch on this device.
    pub(crate) batch_cost: usize,
    /// Value for the caller of `Lane::spawn`, such as the model's description.
    pub(crate) returned: T,
}

/// State that a lane's handles and its device threads share.
#[derive(Debug)]
pub(crate) struct LaneState {
    pub(crate) name: &'static str,
    /// Batches started on any device.
    pub(crate) batches_started: AtomicU64,
    /// The first loss of a device, which closes the lane.
    pub(crate) loss: OnceLock<RunError>,
    /// Set to false once, when a device is lost.
    pub(crate) health: watch::Sender<bool>,
}

/// The queue's receiving end; one device waits for it at a time.
pub(crate) type SharedInbox<I, O> = Mutex<Inbox<I, O>>;

/// Starts the thread of a device. The receiver reports the result of opening the model.
///
/// # Errors
/// Fails if the operating system refuses the thread.
pub(crate) fn start<I, O, T, E>(
    device: LaneDevice<OpenedModel<I, O, T>, E>,
    cost: fn(&I) -> usize,
    state: Arc<LaneState>,
    inbox: Arc<SharedInbox<I, O>>,
) -> io::Result<Receiver<Result<T, E>>>
where
    I: Send + 'static,
    O: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let LaneDevice { name, open } = device;
    let (report, opened) = sync_channel(1);
    let lane = state.name;
    let thread = move || match open() {
        Ok(OpenedModel { run, batch_cost, returned }) => {
            metrics::lane_opened(lane, &name, batch_cost);
            // The receiver was dropped if another device failed to open; the queue is then closed.
            drop(report.send(Ok(returned)));
            let batcher = Batcher::new(batch_cost, cost);
            DeviceThread { name, run, batcher, state }.serve(&inbox);
        }
        Err(error) => drop(report.send(Err(error))),
    };
    thread::Builder::new().name(lane.to_owned()).spawn(thread)?;
    Ok(opened)
}

struct DeviceThread<I, O> {
    /// The device's name in metrics.
    name: String,
    run: RunBatch<I, O>,
    batcher: Batcher<I, O>,
    state: Arc<LaneState>,
}

impl<I, O> DeviceThread<I, O> {
    /// Runs batches until all handles of the lane are dropped or the device is lost.
    fn serve(mut self, inbox: &SharedInbox<I, O>) {
        while self.receive(inbox) {
            let batch = self.batcher.next_batch();
            self.state.batches_started.fetch_add(1, Ordering::Relaxed);
            // Counted before the replies, so that a caller with all answers finds all batches in
            // the metrics.
            let run = |inputs: &[I]| {
                let started = Instant::now();
                let outputs = run_checked(&mut self.run, inputs);
                let (lane, fill) = (self.state.name, self.batcher.fill(inputs));
                metrics::batch_run(lane, &self.name, inputs.len(), fill, started.elapsed());
                outputs
            };
            if let Err(loss) = run_and_reply(batch, run) {
                return self.shut_down(inbox, &loss);
            }
        }
    }

    /// Receives jobs. A device with jobs left over does not wait for the queue.
    fn receive(&mut self, inbox: &SharedInbox<I, O>) -> bool {
        let mut inbox = if self.batcher.has_jobs() {
            let Ok(inbox) = inbox.try_lock() else { return true };
            inbox
        } else {
            inbox.lock().unwrap_or_else(PoisonError::into_inner)
        };
        self.batcher.receive(&mut inbox)
    }

    /// Reports the loss of the device and closes the queue.
    fn shut_down(mut self, inbox: &SharedInbox<I, O>, loss: &RunError) {
        metrics::lane_lost(self.state.name, &self.name);
        // Only the first loss is reported.
        drop(self.state.loss.set(loss.clone()));
        self.state.health.send_replace(false);
        self.batcher.fail_all(loss);
        // If another device holds the lock and waits for jobs, the queue stays open for it.
        if let Ok(mut inbox) = inbox.try_lock() {
            inbox.close();
            while let Some(job) = inbox.blocking_recv() {
                job.fail(loss);
            }
        }
    }
}
