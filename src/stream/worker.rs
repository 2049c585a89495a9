//! A worker's life: from the first answer of a broker to the last commit.
//!
//! ```text
//!  probe ─► join the group ─► take in, answer, commit … ─► stop taking in ─► finish ─► commit ─► leave
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pipeline::Journey;
use crate::telemetry::Health;

use crate::stream::broker::probe::ensure_topics;
use crate::stream::error::StreamError;
use crate::stream::intake::polling::{Closed, Polling};
use crate::stream::output::answer::{Answers, Asked, Road};
use crate::stream::output::publisher::Publisher;
use crate::stream::output::transaction_committer::Transactions;
use crate::stream::record::delivery::Delivery;
use crate::stream::settings::{DeliveryMode, Settings};
use crate::stream::shared::Shared;

/// How long closing the consumer may take; leaving a group without its coordinator can hang.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How often a stop looks whether everything is answered.
const LOOK: Duration = Duration::from_millis(10);
/// How often a stop says what it still waits for.
const PROGRESS: Duration = Duration::from_secs(3);

/// What a worker did, at its graceful end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records taken in.
    pub received: u64,
    /// Of these, records without a value, which ask for nothing.
    pub tombstones: u64,
    /// Events acknowledged.
    pub events: u64,
    /// Dead letters acknowledged.
    pub dead_letters: u64,
    /// Records taken in that were not answered before the deadline; another worker repeats them.
    pub unanswered: usize,
    /// Whether everything before the oldest unanswered record is committed.
    pub is_committed: bool,
}

/// Runs a worker until `shutdown` is cancelled, then finishes what is in flight within
/// `drain_timeout`, commits and leaves the group.
///
/// # Errors
/// A [`StreamError`] that says why the worker cannot start or go on. Nothing more is committed
/// then, and another worker repeats what was not.
pub async fn run(
    settings: Settings,
    journey: Journey,
    health: Health,
    shutdown: CancellationToken,
) -> Result<Summary, StreamError> {
    settings.validate()?;
    if !ensure_topics(&settings, &shutdown).await? {
        return Ok(Summary::default());
    }
    let shared = Arc::new(Shared::new(settings));
    let (road, transactions) = road(&shared).await?;
    let polling = Polling::start(&shared, health.clone(), transactions)?;
    // Where this future is dropped, its tasks end with it.
    let _end_of_tasks = shared.tasks.clone().drop_guard();
    tracing::info!(
        group = shared.settings.group_id,
        input = shared.settings.input_topic,
        output = shared.settings.output_topic,
        dead_letters = shared.settings.dead_letter_topic,
        "the worker takes in references"
    );
    let answers = Answers::new(Arc::clone(&shared), journey, road);
    let worker =
        Worker { shared, health, polling, answers: Arc::new(answers), tasks: TaskTracker::new() };
    worker.live(&shutdown).await
}

/// How answers leave, and what commits them where that is a transaction.
async fn road(shared: &Arc<Shared>) -> Result<(Road, Option<Transactions>), StreamError> {
    if shared.settings.delivery == DeliveryMode::AtLeastOnce {
        return Ok((Road::Direct(Publisher::of_worker(shared)?), None));
    }
    let shared = Arc::clone(shared);
    let opened = tokio::task::spawn_blocking(move || Transactions::open(&shared)).await;
    let bug = |error| StreamError::Bug(format!("opening the transactions ended early: {error}"));
    Ok((Road::Transactions, Some(opened.map_err(bug)??)))
}

struct Worker {
    shared: Arc<Shared>,
    health: Health,
    polling: Polling,
    answers: Arc<Answers>,
    tasks: TaskTracker,
}

enum End {
    Stop,
    Fault,
    PollingEnded,
}

impl Worker {
    async fn live(mut self, shutdown: &CancellationToken) -> Result<Summary, StreamError> {
        match self.serve(shutdown).await {
            End::Stop => self.stop().await,
            End::Fault => self.fail().await,
            End::PollingEnded => {
                let error = StreamError::Bug("the polling thread ended by itself".to_owned());
                self.shared.fault.raise(error);
                self.fail().await
            }
        }
    }

    /// Gives every record a task of its own until the worker ends.
    async fn serve(&mut self, shutdown: &CancellationToken) -> End {
        loop {
            // An error or a stop comes before any further record.
            tokio::select! {
                biased;
                () = self.shared.fault.raised() => return End::Fault,
                () = shutdown.cancelled() => return End::Stop,
                batch = self.polling.deliveries.recv() => match batch {
                    Some(batch) => self.dispatch(batch),
                    None => return End::PollingEnded,
                },
            }
        }
    }

    fn dispatch(&self, batch: Vec<Delivery>) {
        for delivery in batch {
            self.tasks.spawn(serve_one(Arc::clone(&self.answers), delivery));
        }
    }

    /// The graceful end.
    async fn stop(mut self) -> Result<Summary, StreamError> {
        let deadline = Instant::now() + self.shared.settings.drain_timeout;
        let in_flight = self.shared.budget.records();
        tracing::info!(in_flight, "stopping, finishing what is in flight");
        self.shared.vitals().drain();
        self.health.set_ready(false);
        self.polling.drain();
        self.finish(deadline).await;
        if self.shared.fault.is_raised() {
            return self.fail().await;
        }
        // What is not answered by now must not be answered after the last commit.
        self.end_tasks().await;
        let (unanswered, _) = self.shared.partitions.in_flight();
        self.polling.close(Some(deadline));
        let left = deadline.saturating_duration_since(Instant::now());
        let closed = self.close(left + CLOSE_MAX).await;
        let is_committed = closed.is_some_and(|closed| closed.is_committed);
        let summary = Summary::of(&self.shared, unanswered, is_committed);
        if unanswered > 0 || !is_committed {
            tracing::warn!(
                unanswered,
                is_committed,
                "stopped with work left, it is repeated later"
            );
        }
        tracing::info!(?summary, "stopped");
        self.drop_clients().await;
        Ok(summary)
    }

    /// The end after an error: nothing more is committed.
    async fn fail(mut self) -> Result<Summary, StreamError> {
        self.health.set_ready(false);
        self.end_tasks().await;
        self.polling.close(None);
        self.close(CLOSE_MAX).await;
        let error = self.shared.fault.take();
        self.drop_clients().await;
        Err(error.unwrap_or_else(|| StreamError::Bug("the worker failed for no reason".to_owned())))
    }

    /// Waits until everything taken in is answered, at most until the deadline.
    async fn finish(&mut self, deadline: Instant) {
        let end = tokio::time::sleep_until(deadline.into());
        tokio::pin!(end);
        let mut look = tokio::time::interval(LOOK);
        let mut progress =
            tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS, PROGRESS);
        loop {
            // An error ends the wait first, then the deadline. What was taken in before the stop
            // still becomes a task.
            tokio::select! {
                biased;
                () = self.shared.fault.raised() => return,
                () = &mut end => return,
                Some(batch) = self.polling.deliveries.recv() => self.dispatch(batch),
                _ = progress.tick() => self.tell_progress(deadline),
                _ = look.tick() => {
                    if self.polling.is_drained() && self.shared.partitions.in_flight().0 == 0 {
                        return;
                    }
                }
            }
        }
    }

    /// For whoever watches a stop: what it waits for, and how long it will.
    fn tell_progress(&self, deadline: Instant) {
        let (in_flight, oldest) = self.shared.partitions.in_flight();
        let left = deadline.saturating_duration_since(Instant::now());
        tracing::info!(
            in_flight,
            oldest_seconds = oldest.map(|taken_in| taken_in.elapsed().as_secs()),
            seconds_left = left.as_secs(),
            "still finishing what is in flight"
        );
    }

    async fn end_tasks(&self) {
        self.shared.tasks.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits for the polling thread. Leaving a group can hang inside librdkafka: the process then
    /// ends without it.
    async fn close(&mut self, wait: Duration) -> Option<Closed> {
        let closed = tokio::time::timeout(wait, self.polling.closed()).await;
        if closed.is_err() {
            tracing::warn!("the consumer does not close, going on without it");
        }
        closed.ok().flatten()
    }

    /// The producer waits for its thread when it is dropped; a thread of the runtime must not.
    async fn drop_clients(self) {
        let Self { answers, .. } = self;
        let dropped = tokio::task::spawn_blocking(move || drop(answers));
        if let Err(error) = dropped.await {
            tracing::warn!(%error, "the producer did not close");
        }
    }
}

impl Summary {
    fn of(shared: &Shared, unanswered: usize, is_committed: bool) -> Self {
        let counts = &shared.counts;
        Self {
            received: counts.received.load(Ordering::Relaxed),
            tombstones: counts.tombstones.load(Ordering::Relaxed),
            events: counts.events.load(Ordering::Relaxed),
            dead_letters: counts.dead_letters.load(Ordering::Relaxed),
            unanswered,
            is_committed,
        }
    }
}

/// Answers one record and takes it out of its window. Whatever goes wrong outside the image's
/// journey ends the worker: a record without an answer would stop its partition for ever.
async fn serve_one(answers: Arc<Answers>, delivery: Delivery) {
    let Delivery { record, ticket, revoked, taken_in, permit } = delivery;
    let asked = Asked { record: &record, slot: ticket.slot(), taken_in };
    let answer = AssertUnwindSafe(answers.answer(asked)).catch_unwind();
    // A partition that was taken away comes first: its new owner answers the record.
    let answered = tokio::select! {
        biased;
        () = revoked.cancelled() => return,
        answered = answer => answered,
    };
    let shared = &answers.shared;
    match answered {
        Ok(Ok(())) => shared.partitions.complete(ticket),
        Ok(Err(error)) => shared.fault.raise(error),
        Err(_) => shared.fault.raise(StreamError::Bug("answering a record panicked".to_owned())),
    }
    drop(permit);
}
