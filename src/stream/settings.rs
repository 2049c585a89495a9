//! Settings of the Kafka side, and the librdkafka configurations made from them.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::Duration;

use bytesize::ByteSize;
use humantime::format_duration;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::telemetry::MemoryPart;

use super::error::StreamError;
use super::properties::{Properties, pass_through};

/// How the members of the group agree on who reads which partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// The members agree among themselves; every broker version.
    Classic,
    /// The broker decides (KIP-848); brokers of 4.0 and later.
    Consumer,
}

/// What a crash may do to answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryMode {
    /// Some are written twice, none is lost.
    #[default]
    AtLeastOnce,
    /// Readers of committed records see each once: answers and positions are one transaction.
    ExactlyOnce,
}

/// Settings of the stream worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Brokers to start from, `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Consumer group that the workers share; its committed offsets say what is answered.
    pub group_id: String,
    /// Topic of the image references.
    pub input_topic: String,
    /// Topic of the quality events.
    pub output_topic: String,
    /// Topic of the dead letters.
    pub dead_letter_topic: String,
    /// `at-least-once`: a crash may write an answer twice, under one `event_id`. `exactly-once`: answers and
    /// positions are one transaction, and readers with `isolation.level=read_committed` see each once. They see
    /// it up to `commit_interval` later, and in-flight references are held as long: raise `in_flight_max`.
    pub delivery: DeliveryMode,
    /// Name of this worker's transactions with `exactly-once`. Each worker needs its own, and the same again
    /// after a restart ends at once what the last run left open. Without it the name is made of the group and
    /// `group_instance_id`, or drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
    /// Whether missing topics are created at the start, with the brokers' default of partitions
    /// and replicas. Otherwise the worker refuses to start and says which topic is missing.
    pub create_topics: bool,
    /// `classic`, or `consumer` for brokers of 4.0 and later.
    pub group_protocol: GroupProtocol,
    /// Name of this member, if it shall keep its partitions over a short restart. Each worker needs
    /// its own. Raise `session_timeout` above the time a restart takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_instance_id: Option<String>,
    /// Name of this worker in the brokers' logs and quotas; `dogiqa-<host>` when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Rack or zone of this worker, to read from the nearest replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_rack: Option<String>,
    /// References taken in and not yet answered. More keep a fast engine busy over a slow store;
    /// fewer mean less repeated work after a crash.
    pub in_flight_max: NonZeroUsize,
    /// Summed size of the records in flight.
    pub in_flight_bytes_max: ByteSize,
    /// Places of a partition between its oldest unanswered reference and its newest answered one.
    /// Bounds what a single slow image lets run ahead.
    pub window_max: NonZeroUsize,
    /// Largest output record, uncompressed. The topics' `max.message.bytes` must allow it.
    pub message_bytes_max: ByteSize,
    /// Time between commits.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
    /// Answers after which a commit does not wait for its time.
    pub commit_completions: NonZeroUsize,
    /// Time without a heartbeat after which the brokers give this worker's partitions away
    /// (`classic` only; with `consumer` the brokers decide).
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// How long a rebalance waits for what is in flight on partitions that are taken away. Longer
    /// means less repeated work, and other members wait as long.
    #[serde(with = "humantime_serde")]
    pub revoke_timeout: Duration,
    /// How long a stop waits for what is in flight. Keep it below the time your platform gives
    /// (Kubernetes: 30 s).
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// How long the start waits for a first answer of the brokers.
    #[serde(with = "humantime_serde")]
    pub probe_timeout: Duration,
    /// Time without a broker, or without a successful commit, after which the worker is not ready.
    #[serde(with = "humantime_serde")]
    pub unready_after: Duration,
    /// Ends the worker after this time without a broker; without it the worker waits for ever.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub exit_after_broker_loss: Option<Duration>,
    /// Time over which nearly all fetches of a store must fail to count as its outage. From then
    /// on its references are kept and fetched again instead of becoming dead letters, and intake
    /// stops when all places are taken.
    #[serde(with = "humantime_serde")]
    pub outage_after: Duration,
    /// How long a reference is kept through an outage before it becomes a dead letter after all.
    #[serde(with = "humantime_serde")]
    pub outage_hold_max: Duration,
    /// Further librdkafka properties: TLS, SASL, tuning. A value may stand in a file
    /// (`"sasl.password_file" = "/run/secrets/kafka"`), and a name may be written with `_` for `.`.
    pub properties: Properties,
}

/// A large event without masks, and the values of its reference's metadata; dead letters count as records.
const ANSWER_BYTES: u64 = 128 << 10;
/// What the consumer fetches ahead, and one fetch more.
const FETCHED_BYTES: u64 = 16 << 20;
/// Librdkafka spends half a kilobyte beside each record, and a reference is a hundred bytes.
const FETCHED_SPREAD: u64 = 6;

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            group_id: "dogiqa".to_owned(),
            input_topic: "image-references".to_owned(),
            output_topic: "image-quality".to_owned(),
            dead_letter_topic: "image-quality-dead-letters".to_owned(),
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
    /// Checks what one setting alone cannot say.
    ///
    /// # Errors
    /// When a name is empty, topics coincide, or a limit or a property is impossible.
    pub fn validate(&self) -> Result<(), StreamError> {
        let fault = |text: String| Err(StreamError::Configuration(text));
        let names = [
            ("bootstrap_servers", &self.bootstrap_servers),
            ("group_id", &self.group_id),
            ("input_topic", &self.input_topic),
            ("output_topic", &self.output_topic),
            ("dead_letter_topic", &self.dead_letter_topic),
        ];
        if let Some((name, value)) = names.iter().find(|(_, value)| !is_usable(value)) {
            return fault(format!("kafka.{name} = {value:?} is not a name; set it"));
        }
        let [input, output, dead] =
            [&self.input_topic, &self.output_topic, &self.dead_letter_topic];
        if input == output || input == dead {
            return fault(format!(
                "kafka.input_topic {input} is also an output topic: the worker would read its own \
                 answers; give it a topic of its own"
            ));
        }
        if output == dead {
            return fault(format!(
                "kafka.output_topic and kafka.dead_letter_topic are both {output}; readers of \
                 events would meet dead letters, use two topics"
            ));
        }
        // librdkafka's bounds of message.max.bytes, less the room it wants for the batch's frame.
        let bytes = self.message_bytes_max.as_u64();
        if !(64 * 1024..=1_000_000_000).contains(&bytes) {
            return fault(format!(
                "kafka.message_bytes_max is {}, it must be from 64 KiB to 1 GB",
                self.message_bytes_max
            ));
        }
        if self.commit_interval.is_zero() || self.commit_interval > Duration::from_mins(1) {
            return fault(format!(
                "kafka.commit_interval is {}, it must be above zero and at most 1m",
                format_duration(self.commit_interval)
            ));
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&self.session_timeout) {
            return fault(format!(
                "kafka.session_timeout is {}, it must be from 1s to 1h",
                format_duration(self.session_timeout)
            ));
        }
        self.properties.resolve().map(|_| ())
    }

    /// The configuration of a client that only asks and creates.
    pub(super) fn admin_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        pass_through(&mut config, &self.properties.resolve()?);
        Ok(config)
    }

    /// What every client of this worker needs to reach the brokers.
    fn base_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", self.client_id.clone().unwrap_or_else(client_id))
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "10000");
        config
    }

    /// The consumer's configuration.
    pub(super) fn consumer_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        config
            .set("group.id", &self.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("max.poll.interval.ms", "300000")
            .set("queued.max.messages.kbytes", "8192")
            .set("queued.min.messages", "1000")
            // These count compressed bytes, and what is fetched waits unpacked: a MiB of small
            // references, packed well, is a hundred.
            .set("max.partition.fetch.bytes", "65536")
            .set("fetch.max.bytes", "8388608")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "100")
            .set("statistics.interval.ms", "5000");
        match self.group_protocol {
            GroupProtocol::Classic => {
                // Three heartbeats fit into a session, however short it is configured.
                let session_ms = self.session_timeout.as_millis();
                config
                    .set("group.protocol", "classic")
                    .set("partition.assignment.strategy", "cooperative-sticky")
                    .set("session.timeout.ms", session_ms.to_string())
                    .set("heartbeat.interval.ms", (session_ms / 3).min(3000).to_string());
            }
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        if let Some(id) = &self.group_instance_id {
            config.set("group.instance.id", id);
        }
        if let Some(rack) = &self.client_rack {
            config.set("client.rack", rack);
        }
        pass_through(&mut config, &self.properties.resolve()?);
        Ok(config)
    }

    /// The producer's configuration, for events and dead letters alike.
    pub(super) fn producer_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("compression.type", "zstd")
            .set("partitioner", "murmur2_random")
            .set("delivery.timeout.ms", "120000")
            .set("message.max.bytes", self.message_bytes_max.as_u64().to_string())
            .set("queue.buffering.max.messages", (2 * self.in_flight_max.get()).to_string())
            .set("queue.buffering.max.kbytes", self.producer_queue_kbytes().to_string());
        pass_through(&mut config, &self.properties.resolve()?);
        Ok(config)
    }

    /// The configuration of a producer whose records are committed together.
    pub(super) fn transactional_config(&self, id: &str) -> Result<ClientConfig, StreamError> {
        let mut config = self.producer_config()?;
        config
            .set("transactional.id", id)
            // None of these may outlast a transaction.
            .set("transaction.timeout.ms", "60000")
            .set("delivery.timeout.ms", "50000")
            .set("socket.timeout.ms", "50000");
        Ok(config)
    }

    /// The name of this worker's transactions; the same for one process.
    pub(super) fn transactional_id(&self) -> String {
        static DRAWN: OnceLock<u64> = OnceLock::new();
        let own = || {
            let drawn = || format!("{:016x}", DRAWN.get_or_init(|| fastrand::u64(..)));
            let instance = self.group_instance_id.clone().unwrap_or_else(drawn);
            format!("dogiqa-{}-{instance}", self.group_id)
        };
        self.transactional_id.clone().unwrap_or_else(own)
    }

    /// 64 MiB, or twice the largest record where that is more: one record must always fit.
    fn producer_queue_kbytes(&self) -> u64 {
        (2 * self.message_bytes_max.as_u64() / 1024).max(64 * 1024)
    }

    /// The configuration of a consumer that reads where it is told to and commits nothing.
    pub(super) fn reader_config(&self) -> Result<ClientConfig, StreamError> {
        let mut config = self.base_config();
        config
            // Librdkafka wants a name; the reader joins no group.
            .set("group.id", format!("{}-reader", self.group_id))
            .set("enable.auto.commit", "false")
            // What it was told to read may be gone by then.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "100");
        pass_through(&mut config, &self.properties.resolve()?);
        Ok(config)
    }

    /// What records, answers and librdkafka take of memory at the most.
    pub fn memory(&self) -> [MemoryPart; 3] {
        let part = |what, setting, bytes: u64| MemoryPart { what, setting, bytes };
        // The record, its texts in the reference, and a copy in its answer.
        let records = self.in_flight_bytes_max.as_u64().saturating_mul(3);
        let answers = (self.in_flight_max.get() as u64).saturating_mul(ANSWER_BYTES);
        let fetched = FETCHED_BYTES * FETCHED_SPREAD;
        let clients = fetched.saturating_add(self.producer_queue_kbytes().saturating_mul(1024));
        [
            part("records in flight", "kafka.in_flight_bytes_max", records),
            part("answers in flight", "kafka.in_flight_max", answers),
            part("Kafka clients", "kafka.message_bytes_max", clients),
        ]
    }

    /// The worker's topics: references, events, dead letters.
    pub fn topics(&self) -> [String; 3] {
        [&self.input_topic, &self.output_topic, &self.dead_letter_topic].map(Clone::clone)
    }
}

/// Librdkafka takes names as C strings.
fn is_usable(name: &str) -> bool {
    !name.trim().is_empty() && !name.contains('\0')
}

fn client_id() -> String {
    // Where the kernel does not show its name, the fixed part has to do.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "dogiqa".to_owned(),
        host => format!("dogiqa-{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(config: &ClientConfig, name: &str) -> String {
        config.create_native_config().unwrap().get(name).unwrap()
    }

    #[test]
    fn librdkafka_accepts_the_defaults() {
        let settings = Settings::default();
        settings.validate().unwrap();
        let consumer = settings.consumer_config().unwrap();
        assert_eq!(native(&consumer, "enable.auto.commit"), "false");
        assert_eq!(native(&consumer, "auto.offset.reset"), "smallest");
        let producer = settings.producer_config().unwrap();
        assert_eq!(native(&producer, "compression.codec"), "zstd");
        assert_eq!(native(&producer, "enable.idempotence"), "true");
    }

    #[test]
    fn librdkafka_accepts_the_consumer_protocol() {
        let settings = Settings { group_protocol: GroupProtocol::Consumer, ..Settings::default() };
        let config = settings.consumer_config().unwrap();
        config.create::<rdkafka::consumer::BaseConsumer>().unwrap();
    }

    #[test]
    fn a_property_of_the_user_wins_over_tuning() {
        let properties =
            Properties::from_pairs([("linger_ms", "50"), ("compression.codec", "lz4")]);
        let settings = Settings { properties, ..Settings::default() };
        let producer = settings.producer_config().unwrap();
        assert_eq!(native(&producer, "queue.buffering.max.ms"), "50");
        assert_eq!(native(&producer, "compression.codec"), "lz4");
    }

    #[test]
    fn topics_that_coincide_are_refused() {
        let reads_itself =
            Settings { output_topic: "image-references".to_owned(), ..Settings::default() };
        assert!(reads_itself.validate().unwrap_err().to_string().contains("its own answers"));
        let mixes =
            Settings { dead_letter_topic: "image-quality".to_owned(), ..Settings::default() };
        assert!(mixes.validate().unwrap_err().to_string().contains("two topics"));
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
