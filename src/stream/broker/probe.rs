//! Checks that the topics exist, and explains why the brokers cannot be used.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use tokio_util::sync::CancellationToken;

use crate::stream::broker::connection_errors::ConnectionErrors;
use crate::stream::broker::kafka_error::{configuration_error, is_forbidden, is_unknown_topic};
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Time limit of one metadata request. Connection errors are checked between requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which events of the connection are collected between requests. One poll would not
/// suffice: with librdkafka's `debug` set, the decisive error follows many log lines.
const EVENTS_WAIT: Duration = Duration::from_millis(100);
/// Time after which a topic that the brokers do not know is missing. The controller creates a topic
/// before every broker knows it, so one that was created just now may be unknown for a moment.
const UNKNOWN_TOPIC_WAIT: Duration = Duration::from_secs(2);

/// A topic as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicReport {
    /// Name of the topic.
    pub name: String,
    /// Number of partitions.
    pub partitions: usize,
    /// Number of replicas of the partition that has the fewest.
    pub replicas: usize,
}

/// The topics that the brokers have, and those that they lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReport {
    /// Topics that exist, in the order of the request.
    pub topics: Vec<TopicReport>,
    /// Names of topics that do not exist.
    pub missing: Vec<String>,
}

/// Requests the worker's topics from the brokers. Blocks until they answer, at most for
/// `probe_timeout` or until `stop`.
///
/// # Errors
/// Fails if no broker answers, the credentials or certificates are refused, or a topic may not be
/// described.
pub fn probe(settings: &Settings, stop: &CancellationToken) -> Result<ClusterReport, StreamError> {
    describe_topics(settings, &settings.topics_with_shadow(), stop)
}

/// Checks that the input topic exists. Blocks, at most for `probe_timeout`.
///
/// # Errors
/// Fails like [`probe`], and if the topic does not exist.
pub fn probe_input(settings: &Settings) -> Result<(), StreamError> {
    let topics = [settings.input_topic.clone()];
    let report = describe_topics(settings, &topics, &CancellationToken::new())?;
    if report.missing.is_empty() {
        return Ok(());
    }
    Err(missing_topics(settings, &report.missing))
}

/// Requests `topics` from the brokers. Blocks until they answer, at most for `probe_timeout` or
/// until `stop`. After a stop, topics that are not yet described count as missing.
///
/// # Errors
/// Fails like [`probe`].
pub(crate) fn describe_topics(
    settings: &Settings,
    topics: &[String],
    stop: &CancellationToken,
) -> Result<ClusterReport, StreamError> {
    let client: BaseConsumer<ConnectionErrors> = settings
        .admin_config()?
        .create_with_context(ConnectionErrors::default())
        .map_err(|error| configuration_error(&error))?;
    let deadlines = Deadlines::from_now(settings);
    let mut report = ClusterReport { topics: Vec::new(), missing: Vec::new() };
    for topic in topics {
        match describe_topic(settings, &client, topic, deadlines, stop)? {
            Some(described) => report.topics.push(described),
            None => report.missing.push(topic.clone()),
        }
    }
    Ok(report)
}

/// The times at which a probe no longer waits.
#[derive(Clone, Copy)]
struct Deadlines {
    /// For an answer of the brokers.
    answer: Instant,
    /// For topics that the brokers do not know.
    unknown_topic: Instant,
}

impl Deadlines {
    fn from_now(settings: &Settings) -> Self {
        let now = Instant::now();
        Self { answer: now + settings.probe_timeout, unknown_topic: now + UNKNOWN_TOPIC_WAIT }
    }
}

/// Returns the error for missing topics, with the commands that create them.
pub(crate) fn missing_topics(settings: &Settings, topics: &[String]) -> StreamError {
    let commands: Vec<String> = topics
        .iter()
        .map(|topic| {
            format!(
                "kafka-topics.sh --bootstrap-server {} --create --topic {topic}",
                settings.bootstrap_servers
            )
        })
        .collect();
    StreamError::MissingTopics(format!(
        "topic {} does not exist; create it (`{}`) or set kafka.create_topics = true",
        topics.join(" and "),
        commands.join("; ")
    ))
}

/// Describes one topic. Returns `None` if it does not exist or `stop` was cancelled.
fn describe_topic(
    settings: &Settings,
    client: &BaseConsumer<ConnectionErrors>,
    topic: &str,
    deadlines: Deadlines,
    stop: &CancellationToken,
) -> Result<Option<TopicReport>, StreamError> {
    loop {
        let left = deadlines.answer.saturating_duration_since(Instant::now());
        let error = match client.fetch_metadata(Some(topic), left.min(REQUEST_TIMEOUT)) {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                let described = found.map_or(Ok(None), read_metadata)?;
                let waits = Instant::now() < deadlines.unknown_topic && !stop.is_cancelled();
                if described.is_some() || !waits {
                    return Ok(described);
                }
                drop(client.poll(EVENTS_WAIT));
                continue;
            }
            Err(error) => error,
        };
        // The metadata error says only that no broker answered. The cause arrives as an event.
        let until = Instant::now() + EVENTS_WAIT;
        while Instant::now() < until {
            drop(client.poll(until.saturating_duration_since(Instant::now())));
        }
        if let Some(refusal) = client.context().refusal() {
            return Err(refusal.into_security_error(settings));
        }
        if stop.is_cancelled() {
            return Ok(None);
        }
        if Instant::now() >= deadlines.answer {
            return Err(client.context().unreachable(settings, &error));
        }
    }
}

fn read_metadata(topic: &MetadataTopic) -> Result<Option<TopicReport>, StreamError> {
    let name = topic.name();
    let Some(error) = topic.error() else {
        let partitions = topic.partitions();
        let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
        return Ok(Some(TopicReport {
            name: name.to_owned(),
            partitions: partitions.len(),
            replicas: replicas.unwrap_or(0),
        }));
    };
    match RDKafkaErrorCode::from(error) {
        code if is_unknown_topic(code) => Ok(None),
        code if is_forbidden(code) => {
            Err(StreamError::Forbidden { action: format!("describe topic {name}"), code })
        }
        code => Err(StreamError::MissingTopics(format!("topic {name} cannot be used: {code}"))),
    }
}
