//! The response to each error of the consumer: wait, report that the worker is not ready, or stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use crate::telemetry::{LineLimit, metrics};

use crate::stream::broker::kafka_error::{ReadVerdict, is_duplicate_instance, read_verdict};
use crate::stream::broker::notices::offset_of_error;
use crate::stream::broker::unreadable::find_unreadable;
use crate::stream::error::StreamError;
use crate::stream::intake::group_consumer::GroupConsumer;
use crate::stream::settings::{GroupProtocol, Settings};
use crate::stream::status::fault::Fault;
use crate::stream::status::trouble::Trouble;
use crate::stream::status::vitals::Vitals;

/// Maximum time that a static member waits for the session of its predecessor. Longer than the
/// longest session that brokers allow by default with the protocol `consumer`, one minute.
const INSTANCE_WAIT_MAX: Duration = Duration::from_secs(75);
/// Wait before a static member joins again.
const REJOIN_INTERVAL: Duration = Duration::from_secs(2);
/// Time limit for reading the committed positions.
const POSITIONS_TIMEOUT: Duration = Duration::from_secs(5);

static WARNINGS: LineLimit = LineLimit::new(Duration::from_mins(1));

/// Handles the errors of one worker's consumer.
pub(crate) struct ConsumerErrors {
    settings: Arc<Settings>,
    fault: Arc<Fault>,
    vitals: Arc<Vitals>,
    /// Time of the last unexpected error.
    unexpected_at: Option<Instant>,
    /// End of the wait for the session of a predecessor with the same static name.
    instance_deadline: Option<Instant>,
    rejoin_at: Option<Instant>,
}

impl ConsumerErrors {
    pub(crate) fn new(settings: Arc<Settings>, fault: Arc<Fault>, vitals: Arc<Vitals>) -> Self {
        let (unexpected_at, instance_deadline, rejoin_at) = (None, None, None);
        Self { settings, fault, vitals, unexpected_at, instance_deadline, rejoin_at }
    }

    /// Handles an error. May block for a few seconds per partition before the worker stops.
    pub(crate) fn handle(
        &mut self,
        consumer: &GroupConsumer,
        code: RDKafkaErrorCode,
        reason: &str,
        now: Instant,
    ) {
        if self.rejoin_at.is_some() {
            // The consumer is about to be replaced.
            return;
        }
        if let Some((code, reason)) = consumer.fatal_error() {
            self.handle_fatal(code, reason, now);
            return;
        }
        // A response without an offset is not of a partition but of something else that answers at
        // the broker's address, such as a proxy. librdkafka connects again.
        let is_foreign = code == RDKafkaErrorCode::BadMessage && offset_of_error(reason).is_none();
        let verdict = if is_foreign { ReadVerdict::Transient } else { read_verdict(code) };
        if verdict != ReadVerdict::Transient {
            metrics::consumer_failed(&format!("{code:?}"));
        }
        let Settings { input_topic: topic, group_id: group, .. } = &*self.settings;
        match verdict {
            ReadVerdict::Transient => tracing::debug!(%code, reason, "the consumer waits"),
            ReadVerdict::InputMissing => {
                if WARNINGS.admit("input missing", now).is_some() {
                    tracing::warn!(topic, "the input topic no longer exists");
                }
                self.vitals.begin(Trouble::InputMissing, now);
            }
            ReadVerdict::Unexpected => {
                if let Some(repeated) = WARNINGS.admit(&format!("unexpected {code:?}"), now) {
                    tracing::warn!(
                        %code,
                        reason,
                        repeated,
                        "the consumer reports an unexpected error"
                    );
                }
                self.unexpected_at = Some(now);
                let text = format!("{} ({code}): {reason}", Trouble::ReadsFail.text());
                self.vitals.begin_with(Trouble::ReadsFail, text, now);
            }
            ReadVerdict::Inconsistent => self.handle_inconsistent_group(now),
            ReadVerdict::Unreadable => {
                let error = self.unreadable_records(consumer, reason);
                self.fault.raise(error);
            }
            ReadVerdict::Forbidden => {
                let action = format!("read topic {topic} as group {group}");
                self.fault.raise(StreamError::Forbidden { action, code });
            }
            ReadVerdict::Refused => {
                let (group, reason) = (group.clone(), reason.to_owned());
                self.fault.raise(StreamError::Refused { group, code, reason });
            }
        }
    }

    /// Handles an error after which librdkafka's client cannot be used.
    fn handle_fatal(&mut self, code: RDKafkaErrorCode, reason: String, now: Instant) {
        let group = self.settings.group_id.clone();
        if code == RDKafkaErrorCode::UnreleasedInstanceId {
            let deadline = *self.instance_deadline.get_or_insert(now + INSTANCE_WAIT_MAX);
            if now < deadline {
                self.wait_for_instance(now);
                return;
            }
        }
        self.fault.raise(if is_duplicate_instance(code) {
            StreamError::DuplicateInstance { group }
        } else {
            StreamError::Fatal(reason)
        });
    }

    /// Waits for the session of the member that holds the static name. After a crash, that is this
    /// worker's predecessor, and its session ends soon.
    fn wait_for_instance(&mut self, now: Instant) {
        let instance = self.settings.group_instance_id.as_deref().unwrap_or_default();
        if self.vitals.since(Trouble::InstanceHeld).is_none() {
            tracing::info!(
                instance,
                limit = %humantime::format_duration(INSTANCE_WAIT_MAX),
                "another member with this group.instance.id has an active session; waiting for it \
                 to expire"
            );
        }
        let text = format!("{} {instance:?}; its session must end", Trouble::InstanceHeld.text());
        self.vitals.begin_with(Trouble::InstanceHeld, text, now);
        self.rejoin_at = Some(now + REJOIN_INTERVAL);
    }

    /// Members with another strategy usually leave soon. If not, an operator must choose.
    fn handle_inconsistent_group(&self, now: Instant) {
        self.vitals.begin(Trouble::GroupInconsistent, now);
        let since = self.vitals.since(Trouble::GroupInconsistent).unwrap_or(now);
        if now.saturating_duration_since(since) >= self.settings.unready_after {
            let strategy = match self.settings.group_protocol {
                GroupProtocol::Classic => "cooperative-sticky, kafka.group_protocol = classic",
                GroupProtocol::Consumer => "kafka.group_protocol = consumer",
            };
            let group = self.settings.group_id.clone();
            self.fault.raise(StreamError::InconsistentGroup { group, strategy });
        }
    }

    fn unreadable_records(&self, consumer: &GroupConsumer, reason: &str) -> StreamError {
        let positions = consumer.positions(POSITIONS_TIMEOUT).inspect_err(|error| {
            tracing::warn!(%error, "the position of the unreadable records is not known");
        });
        let found = positions.ok().and_then(|positions| {
            find_unreadable(&self.settings, &positions).unwrap_or_else(|error| {
                tracing::warn!(%error, "the unreadable partition cannot be found");
                None
            })
        });
        let show = |number: Option<i64>| number.map_or("unknown".to_owned(), |n| n.to_string());
        StreamError::UnreadableRecords {
            topic: self.settings.input_topic.clone(),
            partition: show(found.map(|(_, partition)| i64::from(partition))),
            offset: show(offset_of_error(reason)),
            group: self.settings.group_id.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Ends an unexpected error that did not repeat for `unready_after`. librdkafka repeats those
    /// that persist.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_over =
            |at: Instant| now.saturating_duration_since(at) >= self.settings.unready_after;
        if self.unexpected_at.is_some_and(is_over) {
            self.unexpected_at = None;
            self.vitals.end(Trouble::ReadsFail);
        }
    }

    /// Records that the group assigned partitions: this worker is a member.
    pub(crate) fn joined(&mut self) {
        self.instance_deadline = None;
        self.vitals.end(Trouble::GroupInconsistent);
        self.vitals.end(Trouble::InstanceHeld);
    }

    /// Returns true if the consumer must be replaced and join the group again, once.
    pub(crate) fn take_rejoin(&mut self, now: Instant) -> bool {
        self.rejoin_at.take_if(|at| now >= *at).is_some()
    }
}
