//! The life cycle of a worker: from the first response of a broker to the last commit.
//!
//! ```text
//!  probe ─► join ─► consume, answer, commit … ─► stop consuming ─► finish ─► commit ─► leave
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pipeline::Journey;
use crate::telemetry::{Health, metrics};

use crate::stream::broker::sasl_login::SaslLogin;
use crate::stream::broker::topics::ensure_topics;
use crate::stream::error::StreamError;
use crate::stream::intake::admission::{Intake, IntakeLimits};
use crate::stream::intake::client_login::ClientLogin;
use crate::stream::intake::commits::{Committer, OffsetCommitter};
use crate::stream::intake::consumer_errors::ConsumerErrors;
use crate::stream::intake::group_consumer::GroupConsumer;
use crate::stream::intake::polling::{Closed, Poller, Polling};
use crate::stream::intake::position_watch::PositionWatch;
use crate::stream::intake::rebalance::Rebalancer;
use crate::stream::offsets::partitions::Partitions;
use crate::stream::offsets::tracker::Completion;
use crate::stream::output::answer::Answers;
use crate::stream::output::answer_writer::{AdmittedRecord, AnswerOutput, AnswerWriter};
use crate::stream::output::outbox::Outbox;
use crate::stream::output::publisher::Publisher;
use crate::stream::output::shadow::{Shadow, ShadowTasks};
use crate::stream::output::transaction_committer::TransactionCommitter;
use crate::stream::record::delivery::Delivery;
use crate::stream::record::in_flight_budget::InFlightBudget;
use crate::stream::settings::{DeliveryMode, Settings};
use crate::stream::status::counts::Counts;
use crate::stream::status::fault::Fault;
use crate::stream::status::trouble::Trouble;
use crate::stream::status::vitals::Vitals;

/// Time limit for closing the consumer: leaving a group without its coordinator can hang.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which a stopping worker checks if every record is answered.
const FINISHED_CHECK: Duration = Duration::from_millis(10);
/// Interval at which a stopping worker logs the records that it waits for.
const PROGRESS_LOG: Duration = Duration::from_secs(3);

/// The work of one worker, at its graceful end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records received.
    pub received: u64,
    /// Records received without a value. They need no answer.
    pub tombstones: u64,
    /// Events of stores that need no answer.
    pub skipped: u64,
    /// Events acknowledged.
    pub events: u64,
    /// Dead letters acknowledged.
    pub dead_letters: u64,
    /// Records received and not answered before the deadline. Another worker answers them.
    pub unanswered: usize,
    /// True if all records before the oldest unanswered one are committed.
    pub is_committed: bool,
}

/// Runs a worker until `shutdown` is cancelled. Then finishes the records in flight within
/// `drain_timeout`, commits and leaves the group.
///
/// # Errors
/// Fails with the [`StreamError`] that keeps the worker from starting or continuing. Nothing is
/// committed after it, and another worker repeats the uncommitted records.
pub async fn run(
    settings: Settings,
    journey: Journey,
    health: Health,
    shutdown: CancellationToken,
) -> Result<Summary, StreamError> {
    run_with_shadow(settings, journey, None, health, shutdown).await
}

/// Runs a worker whose shadow scores a share of the answered images too. Images that the shadow has
/// not scored at the stop are left out.
///
/// # Errors
/// Fails like [`run`], and if there is a shadow and no topic for its events.
pub async fn run_with_shadow(
    settings: Settings,
    journey: Journey,
    shadow: Option<Shadow>,
    health: Health,
    shutdown: CancellationToken,
) -> Result<Summary, StreamError> {
    settings.validate()?;
    if !ensure_topics(&settings, &shutdown).await? {
        return Ok(Summary::default());
    }
    let state = WorkerState::new(settings);
    // If this future is dropped, its tasks end with it.
    let _end_of_tasks = state.tasks.clone().drop_guard();
    let worker = Worker::start(state, journey, shadow, health).await?;
    worker.live(&shutdown).await
}

/// The state that several parts of a worker share. Each part receives the handles that it needs.
struct WorkerState {
    settings: Arc<Settings>,
    partitions: Arc<Partitions>,
    budget: Arc<InFlightBudget>,
    outbox: Arc<Outbox>,
    fault: Arc<Fault>,
    counts: Arc<Counts>,
    vitals: Arc<Vitals>,
    login: Arc<SaslLogin>,
    /// Cancels every task.
    tasks: CancellationToken,
}

struct Worker {
    state: WorkerState,
    health: Health,
    polling: Polling,
    /// Batches of admitted records.
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    answering: Arc<Answering>,
    tasks: TaskTracker,
}

/// The handles of the tasks, one of which answers each record.
struct Answering {
    answers: Answers,
    partitions: Arc<Partitions>,
    fault: Arc<Fault>,
}

/// The reason why a worker stops serving.
enum End {
    Stop,
    Fault,
    PollingEnded,
}

impl WorkerState {
    fn new(settings: Settings) -> Self {
        let bytes_max = settings.in_flight_bytes_max.as_u64();
        Self {
            partitions: Arc::new(Partitions::new(settings.window_max.get())),
            budget: InFlightBudget::new(settings.in_flight_max.get(), bytes_max),
            outbox: Arc::default(),
            fault: Arc::default(),
            counts: Arc::default(),
            vitals: Arc::new(Vitals::new(Instant::now())),
            login: Arc::new(SaslLogin::new(settings.properties.clone())),
            tasks: CancellationToken::new(),
            settings: Arc::new(settings),
        }
    }

    fn intake(&self) -> (Intake, mpsc::Receiver<Vec<Delivery>>) {
        let is_exactly_once = self.settings.delivery == DeliveryMode::ExactlyOnce;
        Intake::new(IntakeLimits {
            budget: Arc::clone(&self.budget),
            partitions: Arc::clone(&self.partitions),
            window_max: self.settings.window_max.get(),
            counts: Arc::clone(&self.counts),
            input_format: self.settings.input_format,
            outbox: is_exactly_once.then(|| Arc::clone(&self.outbox)),
        })
    }

    fn rebalancer(&self) -> Rebalancer {
        Rebalancer {
            revoke_timeout: self.settings.revoke_timeout,
            partitions: Arc::clone(&self.partitions),
            outbox: Arc::clone(&self.outbox),
            fault: Arc::clone(&self.fault),
            vitals: Arc::clone(&self.vitals),
            tasks: self.tasks.clone(),
        }
    }

    /// Opens the output of the delivery mode.
    async fn output(&self) -> Result<(AnswerOutput, Committer), StreamError> {
        let (settings, outbox) = (Arc::clone(&self.settings), Arc::clone(&self.outbox));
        let (fault, vitals) = (Arc::clone(&self.fault), Arc::clone(&self.vitals));
        match settings.delivery {
            DeliveryMode::AtLeastOnce => {
                let (login, for_publisher) = (Arc::clone(&self.login), Arc::clone(&vitals));
                let publisher =
                    Publisher::open_in_worker(&settings, Arc::clone(&fault), for_publisher, login)?;
                let offsets = OffsetCommitter {
                    group: settings.group_id.clone(),
                    publisher: publisher.clone(),
                    partitions: Arc::clone(&self.partitions),
                    fault,
                    vitals,
                };
                Ok((AnswerOutput::Direct(publisher), Committer::Offsets(offsets)))
            }
            DeliveryMode::ExactlyOnce => {
                let output = AnswerOutput::Transactions(Arc::clone(&outbox));
                let login = Arc::clone(&self.login);
                let open =
                    move || TransactionCommitter::open(settings, outbox, fault, vitals, login);
                let opened = tokio::task::spawn_blocking(open).await;
                let transactions = opened.map_err(|error| {
                    StreamError::Bug(format!("opening the transactions ended early: {error}"))
                })??;
                Ok((output, Committer::Transactions(transactions)))
            }
        }
    }
}

impl Worker {
    async fn start(
        state: WorkerState,
        journey: Journey,
        shadow: Option<Shadow>,
        health: Health,
    ) -> Result<Self, StreamError> {
        let tasks = TaskTracker::new();
        let shadow_publisher = match &shadow {
            Some(_) => Some(Publisher::open_for_shadow(&state.settings, Arc::clone(&state.login))?),
            None => None,
        };
        let shadow = shadow.zip(shadow_publisher.clone()).map(|(shadow, publisher)| {
            ShadowTasks::new(shadow, &state.settings, publisher, tasks.clone(), state.tasks.clone())
        });
        let shadow = shadow.transpose()?.map(Arc::new);
        let (output, committer) = state.output().await?;
        let (intake, deliveries) = state.intake();
        let polling = Polling::start(Poller {
            intake,
            consumer: GroupConsumer::create(&state.settings, Arc::clone(&state.login))?,
            committer,
            rebalancer: state.rebalancer(),
            errors: ConsumerErrors::new(
                Arc::clone(&state.settings),
                Arc::clone(&state.fault),
                Arc::clone(&state.vitals),
            ),
            watch: PositionWatch::default(),
            login: ClientLogin { login: Arc::clone(&state.login), shadow: shadow_publisher },
            settings: Arc::clone(&state.settings),
            partitions: Arc::clone(&state.partitions),
            budget: Arc::clone(&state.budget),
            fault: Arc::clone(&state.fault),
            counts: Arc::clone(&state.counts),
            vitals: Arc::clone(&state.vitals),
            health: health.clone(),
        })?;
        tracing::info!(
            group = state.settings.group_id,
            input = state.settings.input_topic,
            output = state.settings.output_topic,
            dead_letters = state.settings.dead_letter_topic,
            "the worker receives references"
        );
        let settings = Arc::clone(&state.settings);
        let writer = AnswerWriter { settings, output, counts: Arc::clone(&state.counts) };
        let answers = Answers::new(journey, shadow, writer, Arc::clone(&state.vitals));
        let partitions = Arc::clone(&state.partitions);
        let answering =
            Arc::new(Answering { answers, partitions, fault: Arc::clone(&state.fault) });
        Ok(Self { state, health, polling, deliveries, answering, tasks })
    }

    async fn live(mut self, shutdown: &CancellationToken) -> Result<Summary, StreamError> {
        match self.serve(shutdown).await {
            End::Stop => self.stop().await,
            End::Fault => self.fail().await,
            End::PollingEnded => {
                let error = StreamError::Bug("the polling thread ended by itself".to_owned());
                self.state.fault.raise(error);
                self.fail().await
            }
        }
    }

    /// Spawns a task for every record until the worker ends.
    async fn serve(&mut self, shutdown: &CancellationToken) -> End {
        loop {
            // An error or a stop takes precedence over more records.
            tokio::select! {
                biased;
                () = self.state.fault.raised() => return End::Fault,
                () = shutdown.cancelled() => return End::Stop,
                batch = self.deliveries.recv() => match batch {
                    Some(batch) => self.dispatch(batch),
                    None => return End::PollingEnded,
                },
            }
        }
    }

    fn dispatch(&self, batch: Vec<Delivery>) {
        for delivery in batch {
            self.tasks.spawn(Arc::clone(&self.answering).answer(delivery));
        }
    }

    /// Ends gracefully.
    async fn stop(mut self) -> Result<Summary, StreamError> {
        let deadline = Instant::now() + self.state.settings.drain_timeout;
        let in_flight = self.state.budget.references();
        tracing::info!(in_flight, "stopping; finishing references in flight");
        self.end_readiness();
        self.polling.drain();
        self.finish(deadline).await;
        if self.state.fault.is_raised() {
            return self.fail().await;
        }
        // A record that is unanswered now must not be answered after the last commit.
        self.end_tasks().await;
        let (unanswered, _) = self.state.partitions.in_flight();
        self.polling.close(Some(deadline));
        let left = deadline.saturating_duration_since(Instant::now());
        let closed = self.close(left + CLOSE_TIMEOUT).await;
        let is_committed = closed.is_some_and(|closed| closed.is_committed);
        let summary = Summary::of(&self.state.counts, unanswered, is_committed);
        if unanswered > 0 || !is_committed {
            tracing::warn!(
                unanswered,
                is_committed,
                "stopped with unfinished references; another worker repeats them"
            );
        }
        tracing::info!(?summary, "stopped");
        self.drop_clients().await;
        Ok(summary)
    }

    /// Ends after an error: nothing more is committed.
    async fn fail(mut self) -> Result<Summary, StreamError> {
        self.end_readiness();
        self.end_tasks().await;
        self.polling.close(None);
        self.close(CLOSE_TIMEOUT).await;
        let error = self.state.fault.take();
        self.drop_clients().await;
        Err(error
            .unwrap_or_else(|| StreamError::Bug("the worker failed without an error".to_owned())))
    }

    /// Makes the worker not ready, and keeps it so.
    fn end_readiness(&self) {
        self.state.vitals.begin(Trouble::Stopping, Instant::now());
        self.health.end();
    }

    /// Waits until every admitted record is answered, at most until the deadline.
    async fn finish(&mut self, deadline: Instant) {
        let end = tokio::time::sleep_until(deadline.into());
        tokio::pin!(end);
        let mut check = tokio::time::interval(FINISHED_CHECK);
        let first = tokio::time::Instant::now() + PROGRESS_LOG;
        let mut progress = tokio::time::interval_at(first, PROGRESS_LOG);
        loop {
            // An error ends the wait first, then the deadline. Records that were admitted before
            // the stop still get their task.
            tokio::select! {
                biased;
                () = self.state.fault.raised() => return,
                () = &mut end => return,
                Some(batch) = self.deliveries.recv() => self.dispatch(batch),
                _ = progress.tick() => self.log_progress(deadline),
                _ = check.tick() => {
                    if self.polling.is_draining() && self.state.partitions.in_flight().0 == 0 {
                        return;
                    }
                }
            }
        }
    }

    fn log_progress(&self, deadline: Instant) {
        let (in_flight, oldest) = self.state.partitions.in_flight();
        let left = deadline.saturating_duration_since(Instant::now());
        tracing::info!(
            in_flight,
            oldest_seconds = oldest.map(|admitted_at| admitted_at.elapsed().as_secs()),
            seconds_left = left.as_secs(),
            "still finishing references in flight"
        );
    }

    async fn end_tasks(&self) {
        self.state.tasks.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits for the polling thread. Leaving a group can hang inside librdkafka; the process then
    /// ends without it.
    async fn close(&mut self, wait: Duration) -> Option<Closed> {
        let closed = tokio::time::timeout(wait, self.polling.closed()).await;
        if closed.is_err() {
            tracing::warn!("the consumer does not close, the worker ends without it");
        }
        closed.ok().flatten()
    }

    /// Drops the producer on a blocking thread: the drop waits for librdkafka's thread.
    async fn drop_clients(self) {
        let Self { answering, .. } = self;
        let dropped = tokio::task::spawn_blocking(move || drop(answering));
        if let Err(error) = dropped.await {
            tracing::warn!(%error, "the producer did not close");
        }
    }
}

impl Summary {
    fn of(counts: &Counts, unanswered: usize, is_committed: bool) -> Self {
        Self {
            received: counts.received.get(),
            tombstones: counts.tombstones.get(),
            skipped: counts.skipped.get(),
            events: counts.events.get(),
            dead_letters: counts.dead_letters.get(),
            unanswered,
            is_committed,
        }
    }
}

impl Answering {
    /// Answers one record and completes its ticket. Any failure outside the pipeline stops the
    /// worker: a record without an answer would block its partition indefinitely.
    async fn answer(self: Arc<Self>, delivery: Delivery) {
        let Delivery { record, ticket, revoked, received_at, permit } = delivery;
        let admitted = AdmittedRecord { record: &record, slot: ticket.slot(), received_at };
        let answer = AssertUnwindSafe(self.answers.answer(admitted)).catch_unwind();
        // A revocation takes precedence: the new owner answers the record.
        let answered = tokio::select! {
            biased;
            () = revoked.cancelled() => return,
            answered = answer => answered,
        };
        match answered {
            Ok(Ok(())) => {
                if self.partitions.complete(ticket) == Completion::Late {
                    metrics::late_completion_dropped();
                }
            }
            Ok(Err(error)) => self.fault.raise(error),
            Err(_) => self.fault.raise(StreamError::Bug("answering a record panicked".to_owned())),
        }
        drop(permit);
    }
}
