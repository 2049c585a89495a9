//! The Kafka settings. Their doc comments are the users' manual and are repeated in
//! `deploy/config/dogiqa.toml`.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::Duration;

use bytesize::ByteSize;
use humantime::format_duration;
use serde::{Deserialize, Serialize};

use crate::event::notification::{InputFormat, OBJECTS_MAX};
use crate::stream::error::StreamError;
use crate::stream::properties::Properties;
use crate::telemetry::MemoryPart;

/// The protocol by which the members of the group share its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// The members assign the partitions. Works with every broker version.
    Classic,
    /// The group coordinator assigns the partitions (KIP-848). Needs brokers of 4.0 or later.
    Consumer,
}

/// The delivery guarantee of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryMode {
    /// No answer is lost; a crash may write some twice.
    #[default]
    AtLeastOnce,
    /// Answers and offsets are committed in one transaction, so `read_committed` readers see each
    /// answer once.
    ExactlyOnce,
}

/// Settings of the stream worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Bootstrap brokers: `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Consumer group that the workers share. Its committed offsets record which references are
    /// answered.
    pub group_id: String,
    /// Topic of the image references.
    pub input_topic: String,
    /// Shape of the records: `reference`, or the notifications of a store, alone and in lists: `s3`
    /// (`Records` of S3 and compatible stores, S3 events of Amazon's event bus, events of R2),
    /// `gcs`, `azure` (Event Grid), or `cloudevents` (any of them as a cloud event). `auto`
    /// recognises each by its content. A record of another shape becomes a dead letter.
    /// `storage.keys` selects the objects of notifications.
    pub input_format: InputFormat,
    /// Topic of the quality events.
    pub output_topic: String,
    /// Topic of the dead letters.
    pub dead_letter_topic: String,
    /// Topic of the events of `engine.shadow`, which needs it. `dogiqa watch --shadow` reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_topic: Option<String>,
    /// `at-least-once`: a crash may write an answer twice, with the same `event_id`.
    /// `exactly-once`: answers and offsets are committed in one transaction, and consumers with
    /// `isolation.level=read_committed` see each answer once, up to `commit_interval` later.
    /// References stay in flight until their transaction is committed: raise `in_flight_max`.
    pub delivery: DeliveryMode,
    /// Transactional id of this worker, used with `exactly-once`. Must be unique per worker. Keep
    /// it the same across restarts, so that a restarted worker aborts the open transaction of its
    /// predecessor immediately. By default, derived from `group_id` and `group_instance_id`, or
    /// from `group_id` and a random number if the latter is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
    /// Creates missing topics at start-up, with the brokers' default number of partitions and
    /// replicas. If false, the worker does not start and reports the missing topics.
    pub create_topics: bool,
    /// Protocol of the consumer group: `classic` works with every broker, `consumer` (KIP-848)
    /// needs brokers of 4.0 or later.
    pub group_protocol: GroupProtocol,
    /// Enables static membership under this name: the worker keeps its partitions across a restart
    /// that is shorter than `session_timeout`. Must be unique per worker. Raise `session_timeout`
    /// above the duration of a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_instance_id: Option<String>,
    /// Name of this worker in the brokers' logs and quotas. By default, `dogiqa-<host>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Rack or availability zone of this worker. Set it to fetch from the nearest replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_rack: Option<String>,
    /// Maximum number of references that are received and not yet answered. Each object of a
    /// notification counts; a record with more of them is answered alone. Raise it to keep a fast
    /// engine busy if the store is slow; lower it to repeat less work after a crash.
    pub in_flight_max: NonZeroUsize,
    /// Maximum summed size of the references in flight, keys and values as received.
    pub in_flight_bytes_max: ByteSize,
    /// Maximum number of records of one partition from its oldest unanswered reference to its
    /// newest received one. At this limit, the partition is paused. Raise it if slow images pause
    /// partitions too often; lower it to repeat less work after a crash.
    pub window_max: NonZeroUsize,
    /// Size of the largest output record, uncompressed; from 64 KiB to 1 GB. The output topics'
    /// `max.message.bytes` must be at least as large.
    pub message_bytes_max: ByteSize,
    /// Interval between commits; above zero and at most 1 minute. A shorter interval repeats less
    /// work after a crash, but puts more load on the brokers.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
    /// Commits early after this many answers, before `commit_interval` has passed.
    pub commit_completions: NonZeroUsize,
    /// Time without a heartbeat after which the brokers assign this worker's partitions to other
    /// workers; from 1 second to 1 hour. Only for `classic`; with `consumer` the brokers decide.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// Maximum time that a rebalance waits for references in flight on revoked partitions. A longer
    /// time repeats less work, but the other members of the group wait as long.
    #[serde(with = "humantime_serde")]
    pub revoke_timeout: Duration,
    /// Maximum time that a stopping worker waits for its references in flight. Keep it at least 5
    /// seconds below the grace period of your platform (Kubernetes: 30 seconds).
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Maximum time that a starting worker waits for the first response of the brokers.
    #[serde(with = "humantime_serde")]
    pub probe_timeout: Duration,
    /// Reports the worker as not ready if it has had no connection to a broker, or only failing
    /// commits, for this time.
    #[serde(with = "humantime_serde")]
    pub unready_after: Duration,
    /// Stops the worker after this time without a connection to a broker. By default, the worker
    /// waits indefinitely.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub exit_after_broker_loss: Option<Duration>,
    /// Treats a store as unavailable after nearly all fetches from it have failed for this time; at
    /// once if it refuses the worker's credentials, clock or region. Its references are then held
    /// and fetched again instead of becoming dead letters. Once `in_flight_max` references are
    /// held, the worker receives no more.
    #[serde(with = "humantime_serde")]
    pub outage_after: Duration,
    /// Maximum time that a reference is held during an outage before it becomes a dead letter.
    #[serde(with = "humantime_serde")]
    pub outage_hold_max: Duration,
    /// Additional librdkafka properties: TLS, SASL, tuning. Append `_file` to a name to read the
    /// value from a file (`"sasl.password_file" = "/run/secrets/kafka"`). Names may use `_` instead
    /// of `.`.
    pub properties: Properties,
}

/// Estimated size of a large answer: an event without masks, plus the metadata of its reference.
/// The record that a dead letter copies is counted with the records in flight.
const ANSWER_BYTES: u64 = 128 << 10;
/// Maximum size of the consumer's prefetch queue.
const PREFETCHED_BYTES: u64 = 8 << 20;
/// Memory per prefetched byte: librdkafka uses half a kilobyte of bookkeeping per record, and a
/// reference has about a hundred bytes.
const PREFETCHED_OVERHEAD: u64 = 6;
/// Maximum size of a batch, decompressed: the default of `receive.message.max.bytes`. librdkafka
/// triples its buffer until the batch fits or the limit is exceeded, so it may refuse a batch from
/// a third of the limit on.
pub(crate) const BATCH_BYTES_MAX: u64 = 32 << 20;
/// Maximum size of the other batches of a response, decompressed: a thousand bytes of zstd.
const SMALL_BATCHES_BYTES: u64 = 32 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            group_id: "dogiqa".to_owned(),
            input_topic: "image-references".to_owned(),
            input_format: InputFormat::default(),
            output_topic: "image-quality".to_owned(),
            dead_letter_topic: "image-quality-dead-letters".to_owned(),
            shadow_topic: None,
            delivery: DeliveryMode::default(),
            transactional_id: None,
            create_topics: false,
            group_protocol: GroupProtocol::Classic,
            group_instance_id: None,
            client_id: None,
            client_rack: None,
            in_flight_max: const { NonZeroUsize::new(512).unwrap() },
            in_flight_bytes_max: ByteSize::mib(64),
            window_max: const { NonZeroUsize::new(4096).unwrap() },
            message_bytes_max: ByteSize::mib(8),
            commit_interval: Duration::from_secs(1),
            commit_completions: const { NonZeroUsize::new(1000).unwrap() },
            session_timeout: Duration::from_secs(45),
            revoke_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(25),
            probe_timeout: Duration::from_secs(10),
            unready_after: Duration::from_secs(30),
            exit_after_broker_loss: None,
            outage_after: Duration::from_mins(1),
            outage_hold_max: Duration::from_hours(1),
            properties: Properties::default(),
        }
    }
}

impl Settings {
    /// Checks the names, topics, limits and properties.
    ///
    /// # Errors
    /// Fails if a name is empty, two topics are the same, a limit is out of range or a property is
    /// refused.
    pub fn validate(&self) -> Result<(), StreamError> {
        self.check_names()?;
        self.check_limits()?;
        self.properties.resolve().map(|_| ())
    }

    fn check_names(&self) -> Result<(), StreamError> {
        let names = [
            ("bootstrap_servers", &self.bootstrap_servers),
            ("group_id", &self.group_id),
            ("input_topic", &self.input_topic),
            ("output_topic", &self.output_topic),
            ("dead_letter_topic", &self.dead_letter_topic),
        ];
        let shadow = self.shadow_topic.iter().map(|topic| ("shadow_topic", topic));
        if let Some((name, value)) =
            names.into_iter().chain(shadow).find(|(_, value)| !is_usable(value))
        {
            return invalid(format!("kafka.{name} = {value:?} is not a valid name; set it"));
        }
        let [input, output, dead] =
            [&self.input_topic, &self.output_topic, &self.dead_letter_topic];
        if input == output || input == dead {
            return invalid(format!(
                "kafka.input_topic {input} is also an output topic, so the worker would read its \
                 own answers; use a separate input topic"
            ));
        }
        if output == dead {
            return invalid(format!(
                "kafka.output_topic and kafka.dead_letter_topic are both {output}, so readers of \
                 events would receive dead letters; use two topics"
            ));
        }
        if let Some(shadow) = self.shadow_topic.as_ref().filter(|it| self.topics().contains(it)) {
            return invalid(format!(
                "kafka.shadow_topic {shadow} is also another topic of the worker, so its readers \
                 would receive events of the shadow; use a separate topic"
            ));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), StreamError> {
        // The range of librdkafka's message.max.bytes, narrowed by the overhead of a record batch.
        let bytes = self.message_bytes_max.as_u64();
        if !(64 * 1024..=1_000_000_000).contains(&bytes) {
            return invalid(format!(
                "kafka.message_bytes_max is {}, it must be from 64 KiB to 1 GB",
                self.message_bytes_max
            ));
        }
        if self.commit_interval.is_zero() || self.commit_interval > Duration::from_mins(1) {
            return invalid(format!(
                "kafka.commit_interval is {}, it must be above zero and at most 1m",
                format_duration(self.commit_interval)
            ));
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&self.session_timeout) {
            return invalid(format!(
                "kafka.session_timeout is {}, it must be from 1s to 1h",
                format_duration(self.session_timeout)
            ));
        }
        Ok(())
    }

    /// Returns the transactional id of this worker: the configured one, or the default, which is
    /// constant while the process runs.
    pub(crate) fn transactional_id(&self) -> String {
        static RANDOM: OnceLock<u64> = OnceLock::new();
        let default = || {
            let random = || format!("{:016x}", RANDOM.get_or_init(|| fastrand::u64(..)));
            let instance = self.group_instance_id.clone().unwrap_or_else(random);
            format!("dogiqa-{}-{instance}", self.group_id)
        };
        self.transactional_id.clone().unwrap_or_else(default)
    }

    /// Returns the larger of 64 MiB and twice the largest record: one record must always fit.
    pub(crate) fn producer_queue_kbytes(&self) -> u64 {
        (2 * self.message_bytes_max.as_u64() / 1024).max(64 * 1024)
    }

    /// Returns the maximum memory of records, answers and Kafka clients.
    pub fn memory(&self) -> [MemoryPart; 3] {
        let part = |what, setting, bytes: u64| MemoryPart { what, setting, bytes };
        // The record, its values in the parsed reference, and a copy in the answer.
        let records = self.in_flight_bytes_max.as_u64().saturating_mul(3);
        // A record with more objects than `in_flight_max` is in flight alone.
        let of_one_record = match self.input_format {
            InputFormat::Reference => 1,
            _ => OBJECTS_MAX,
        };
        let answers_max = self.in_flight_max.get().max(of_one_record) as u64;
        let answers = answers_max.saturating_mul(ANSWER_BYTES);
        let prefetched = PREFETCHED_BYTES * PREFETCHED_OVERHEAD;
        let decompressed = self.batch_bytes_max().saturating_add(SMALL_BATCHES_BYTES);
        let sent = self.producer_queue_kbytes().saturating_mul(1024);
        let clients = prefetched.saturating_add(decompressed).saturating_add(sent);
        [
            part("records in flight", "kafka.in_flight_bytes_max", records),
            part("answers in flight", "kafka.in_flight_max", answers),
            part("Kafka clients", "kafka.message_bytes_max", clients),
        ]
    }

    /// Returns the maximum size of a batch, decompressed.
    fn batch_bytes_max(&self) -> u64 {
        let properties = self.properties.resolve().unwrap_or_default();
        let set = properties.get("receive.message.max.bytes");
        set.and_then(|bytes| bytes.parse().ok()).unwrap_or(BATCH_BYTES_MAX)
    }

    /// Returns the topics of the worker and that of its shadow.
    pub fn topics_with_shadow(&self) -> Vec<String> {
        self.topics().into_iter().chain(self.shadow_topic.clone()).collect()
    }

    /// Returns the topics of the worker: references, events, dead letters.
    pub fn topics(&self) -> [String; 3] {
        [&self.input_topic, &self.output_topic, &self.dead_letter_topic].map(Clone::clone)
    }
}

fn invalid(text: String) -> Result<(), StreamError> {
    Err(StreamError::Configuration(text))
}

/// Returns false for names that librdkafka cannot use: it passes them as C strings.
fn is_usable(name: &str) -> bool {
    !name.trim().is_empty() && !name.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_topics_with_one_name_are_refused() {
        let reads_own_answers =
            Settings { output_topic: "image-references".to_owned(), ..Settings::default() };
        assert!(reads_own_answers.validate().unwrap_err().to_string().contains("its own answers"));
        let mixes_answers =
            Settings { dead_letter_topic: "image-quality".to_owned(), ..Settings::default() };
        assert!(mixes_answers.validate().unwrap_err().to_string().contains("two topics"));
        let with_shadow =
            |topic: &str| Settings { shadow_topic: Some(topic.to_owned()), ..Settings::default() };
        let mixes_engines = with_shadow("image-quality").validate().unwrap_err().to_string();
        assert!(mixes_engines.contains("kafka.shadow_topic image-quality is also"));
        assert!(with_shadow("").validate().unwrap_err().to_string().contains("shadow_topic"));
        with_shadow("image-quality-shadow").validate().unwrap();
    }

    #[test]
    fn the_memory_of_the_clients_grows_with_the_largest_batch() {
        let clients = |settings: &Settings| settings.memory()[2].bytes;
        let default = Settings::default();
        assert_eq!(clients(&default), (48 + 32 + 32 + 64) << 20);
        let properties =
            Properties::from_pairs([("receive.message.max.bytes", (96 << 20).to_string())]);
        let larger = Settings { properties, ..Settings::default() };
        assert_eq!(clients(&larger), clients(&default) + (64 << 20));
    }

    #[test]
    fn settings_survive_a_round_trip() {
        let settings = Settings {
            exit_after_broker_loss: Some(Duration::from_mins(10)),
            group_instance_id: Some("worker-1".to_owned()),
            ..Settings::default()
        };
        for settings in [settings, Settings::default()] {
            let text = toml::to_string(&settings).unwrap();
            assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
        }
    }
}
