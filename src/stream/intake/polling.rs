//! The thread that polls: it owns the consumer, and everything that may block on the brokers is its.
//!
//! A consumer has to be polled at all times, or the group gives its partitions away. So nothing
//! here waits for the tasks: records go out over a bounded channel, what finds no room is held
//! back, and commands come in over another channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::{mpsc, oneshot};

use crate::telemetry::{Health, metrics};

use crate::stream::broker::kafka_error::{
    code_of, configuration_error, is_duplicate_instance, is_forbidden, is_unknown_topic,
};
use crate::stream::error::StreamError;
use crate::stream::intake::backpressure::Intake;
use crate::stream::intake::rebalance::{RebalanceContext, pause, resume};
use crate::stream::output::transaction_committer::Transactions;
use crate::stream::record::delivery::{Delivery, Record};
use crate::stream::shared::Shared;

/// How long a poll waits for a record; also how soon commands and permits are seen.
const POLL: Duration = Duration::from_millis(50);
/// The same while something is held back.
const POLL_HOLDING: Duration = Duration::from_millis(10);
/// Records that are handed to the tasks at once.
const BATCH_MAX: usize = 256;
/// Batches that may wait for the tasks' dispatcher.
const BATCHES_MAX: usize = 64;
/// Commands are few: at most one of each kind.
const COMMANDS_MAX: usize = 4;
/// Time between looks at the worker's health.
const TICK: Duration = Duration::from_secs(1);

/// The handle to the polling thread.
pub(crate) struct Polling {
    commands: SyncSender<Command>,
    is_drained: Arc<AtomicBool>,
    closed: oneshot::Receiver<Closed>,
    /// What was taken in, in batches.
    pub(crate) deliveries: mpsc::Receiver<Vec<Delivery>>,
}

/// How the consumer ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    /// Whether everything that was answered is committed.
    pub(crate) is_committed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Command {
    Drain,
    /// Commits until the deadline, if there is one, then leaves the group.
    Close {
        commit_until: Option<Instant>,
    },
}

struct Poller {
    consumer: BaseConsumer<RebalanceContext>,
    shared: Arc<Shared>,
    health: Health,
    commands: Receiver<Command>,
    is_drained: Arc<AtomicBool>,
    commit_at: Instant,
    tick_at: Instant,
    trouble: Option<&'static str>,
}

impl Polling {
    /// Makes the consumer, joins the group and starts to poll.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        health: Health,
        transactions: Option<Transactions>,
    ) -> Result<Self, StreamError> {
        let (sender, deliveries) = mpsc::channel(BATCHES_MAX);
        let (commands, inbox) = sync_channel(COMMANDS_MAX);
        let (finish, closed) = oneshot::channel();
        let is_drained = Arc::new(AtomicBool::new(false));
        let context = RebalanceContext::new(Arc::clone(shared), Intake::new(sender), transactions);
        let config = shared.settings.consumer_config()?;
        let consumer: BaseConsumer<RebalanceContext> =
            config.create_with_context(context).map_err(|error| configuration_error(&error))?;
        let now = Instant::now();
        let poller = Poller {
            consumer,
            shared: Arc::clone(shared),
            health,
            commands: inbox,
            is_drained: Arc::clone(&is_drained),
            commit_at: now + shared.settings.commit_interval,
            tick_at: now,
            trouble: None,
        };
        thread::Builder::new()
            .name("dogiqa-consumer".to_owned())
            .spawn(move || {
                let closed = poller.run();
                if finish.send(closed).is_err() {
                    tracing::debug!("nobody waited for the polling thread to end");
                }
            })
            .map_err(|error| StreamError::Bug(format!("no thread to poll on: {error}")))?;
        Ok(Self { commands, is_drained, closed, deliveries })
    }

    /// Takes nothing in any more; goes on polling and committing.
    pub(crate) fn drain(&self) {
        self.send(Command::Drain);
    }

    /// Whether nothing can be taken in any more.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Acquire)
    }

    /// Commits what is answered, where a deadline for that is given, and leaves the group.
    pub(crate) fn close(&self, commit_until: Option<Instant>) {
        self.send(Command::Close { commit_until });
    }

    fn send(&self, command: Command) {
        // The channel holds one of each; a thread that has ended needs no command.
        if self.commands.try_send(command).is_err() {
            tracing::debug!(?command, "the polling thread has ended");
        }
    }

    /// Waits until the consumer is closed; none when the thread ended without closing it.
    ///
    /// Cancel safe.
    pub(crate) async fn closed(&mut self) -> Option<Closed> {
        (&mut self.closed).await.ok()
    }
}

impl Poller {
    fn run(mut self) -> Closed {
        if let Err(error) = self.consumer.subscribe(&[&self.shared.settings.input_topic]) {
            let reason = format!("the group cannot be joined: {error}");
            self.shared.fault.raise(StreamError::Fatal(reason));
        }
        let commit_until = loop {
            match self.commands.try_recv() {
                Ok(Command::Drain) => self.drain(),
                Ok(Command::Close { commit_until }) => break commit_until,
                Err(TryRecvError::Disconnected) => break None,
                Err(TryRecvError::Empty) => {}
            }
            self.commit_when_due();
            self.tick_when_due();
            if self.regulate() {
                self.shared.budget.wait(POLL_HOLDING);
            } else {
                self.gather();
            }
        };
        self.close(commit_until)
    }

    fn context(&self) -> &RebalanceContext {
        self.consumer.context()
    }

    fn drain(&mut self) {
        let running = self.context().intake().stop(&self.shared);
        self.is_drained.store(true, Ordering::Release);
        pause(&self.consumer, self.context().topic(), &running);
        self.check_health(Instant::now());
    }

    /// Takes in what is held back, then pauses or resumes; true when budget is to be waited for.
    fn regulate(&self) -> bool {
        let now = Instant::now();
        let (plan, topic) = {
            let mut intake = self.context().intake();
            intake.offer_held(&self.shared, now);
            (intake.plan(&self.shared, now), self.context().topic())
        };
        pause(&self.consumer, topic, &plan.pause);
        resume(&self.consumer, topic, &plan.resume);
        self.context().intake().flush();
        plan.wait
    }

    /// Polls until nothing is there, something runs short, or the batch is full.
    fn gather(&self) {
        let is_holding = self.context().intake().is_holding();
        let mut timeout = if is_holding { POLL_HOLDING } else { POLL };
        for _ in 0..BATCH_MAX {
            // After a callback poll gives nothing, so a record always belongs to the assignment
            // that its partition has when it is offered.
            match self.consumer.poll(timeout) {
                None => break,
                Some(Err(error)) => self.failed(&error),
                Some(Ok(message)) => {
                    let record = Record::copy(&message);
                    let mut intake = self.context().intake();
                    intake.offer(record, &self.shared, Instant::now());
                    if intake.is_short() {
                        break;
                    }
                }
            }
            timeout = Duration::ZERO;
        }
        self.context().intake().flush();
    }

    fn failed(&self, error: &KafkaError) {
        let settings = &self.shared.settings;
        let code = code_of(error);
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            self.shared.fault.raise(if is_duplicate_instance(code) {
                StreamError::DuplicateInstance { group: settings.group_id.clone() }
            } else {
                StreamError::Fatal(reason)
            });
        } else if is_forbidden(code) {
            let action =
                format!("read topic {} as group {}", settings.input_topic, settings.group_id);
            self.shared.fault.raise(StreamError::Forbidden { action, code });
        } else if is_unknown_topic(code) {
            tracing::warn!(topic = settings.input_topic, "the input topic does not exist any more");
            self.shared.vitals().input_missing(true);
        } else {
            tracing::debug!(%error, "polling reports");
        }
    }

    fn commit_when_due(&mut self) {
        let now = Instant::now();
        let settings = &self.shared.settings;
        if let Some(transactions) = &self.context().transactions {
            if now >= self.commit_at || self.is_worth_a_cut() {
                transactions.cut(&self.consumer);
                // From its end on: however long one takes, the worker also takes in.
                self.commit_at = Instant::now() + settings.commit_interval;
            }
            return;
        }
        let is_full = self.shared.partitions.completions() >= settings.commit_completions.get();
        if now < self.commit_at && !is_full {
            return;
        }
        self.commit_at = now + settings.commit_interval;
        // The brokers check the member, not what it owns: without an assignment nothing may be
        // committed, it could rewind the new owner.
        if !self.consumer.assignment_lost() {
            let positions = self.shared.partitions.take_changed(now);
            self.context().commit(&self.consumer, &positions);
        }
    }

    /// Whether answers that wait for their transaction hold up what comes after them.
    fn is_worth_a_cut(&self) -> bool {
        let settings = &self.shared.settings;
        let waiting = self.shared.outbox.len();
        // Half of the places: the other half goes on working meanwhile.
        let most = settings.commit_completions.get().min(settings.in_flight_max.get().div_ceil(2));
        let is_draining = self.is_drained.load(Ordering::Acquire);
        waiting >= most || (waiting > 0 && (is_draining || self.context().intake().is_short()))
    }

    fn tick_when_due(&mut self) {
        let now = Instant::now();
        if now < self.tick_at {
            return;
        }
        self.tick_at = now + TICK;
        let (in_flight, oldest) = self.shared.partitions.in_flight();
        let age = oldest.map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest));
        metrics::in_flight(in_flight, age);
        self.check_health(now);
        self.wake_silent(now);
    }

    fn check_health(&mut self, now: Instant) {
        let settings = &self.shared.settings;
        let vitals = self.shared.vitals().clone();
        let trouble = vitals.trouble(now, settings.unready_after);
        if trouble != self.trouble {
            if let Some(reason) = trouble {
                tracing::warn!(reason, "not ready");
            }
            self.trouble = trouble;
        }
        self.health.set_ready(trouble.is_none());
        let lost = vitals.without_broker(now);
        if settings.exit_after_broker_loss.is_some_and(|limit| lost >= limit) {
            let lost = Duration::from_secs(lost.as_secs());
            self.shared.fault.raise(StreamError::BrokersLost(humantime::format_duration(lost)));
        }
    }

    /// A lost wake-up inside librdkafka would leave a partition silent for ever.
    fn wake_silent(&self, now: Instant) {
        let silent = self.context().take_silent();
        if silent.is_empty() {
            return;
        }
        tracing::warn!(partitions = ?silent, "partitions bring no records, fetching them anew");
        let topic = self.context().topic();
        pause(&self.consumer, topic, &silent);
        resume(&self.consumer, topic, &silent);
        for number in silent {
            self.context().intake().woken(number, now);
        }
    }

    fn close(self, commit_until: Option<Instant>) -> Closed {
        let context = self.context();
        let is_committed = commit_until.is_some_and(|deadline| {
            if let Some(transactions) = &context.transactions {
                // Every answer was committed with its position, or not at all.
                return transactions.is_settled();
            }
            let partitions = &self.shared.partitions;
            let positions = || partitions.positions(&partitions.assigned());
            // Polling lets a rebalance go on that the commit waits for. What it brings is not
            // taken in any more.
            context.commit_now(&self.consumer, positions, deadline, || self.poll_once())
        });
        // Anything from here on would commit what nobody waited for.
        context.abandon();
        self.health.set_ready(false);
        // Leaves the group; the callbacks run once more, on this thread.
        drop(self.consumer);
        Closed { is_committed }
    }

    fn poll_once(&self) {
        if let Some(Err(error)) = self.consumer.poll(POLL) {
            self.failed(&error);
        }
    }
}
