//! Creates topics and reads their configuration.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use tokio_util::sync::CancellationToken;

use crate::stream::broker::kafka_error::configuration_error;
use crate::stream::broker::probe::{ClusterReport, missing_topics, probe};
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Maximum time until a created topic is visible in the metadata.
pub(crate) const VISIBLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait between two checks for a created topic.
pub(crate) const VISIBLE_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The settings of a topic by which it loses or refuses records. A value is `None` if the brokers
/// do not report it, for example because this client may not describe configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicSettings {
    /// `min.insync.replicas`.
    pub min_insync_replicas: Option<usize>,
    /// `max.message.bytes`: the largest batch, compressed.
    pub batch_bytes_max: Option<u64>,
    /// True if `cleanup.policy` includes `compact`.
    pub is_compacted: Option<bool>,
    /// `retention.ms`, unless it is unlimited.
    pub retention: Option<Duration>,
}

/// Reads the settings of a topic from the brokers.
///
/// # Errors
/// Fails if librdkafka refuses the configuration.
pub async fn topic_settings(
    settings: &Settings,
    topic: &str,
) -> Result<TopicSettings, StreamError> {
    let admin = admin_client(settings)?;
    let options = AdminOptions::new().request_timeout(Some(settings.probe_timeout));
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let Some(resource) = described.ok().and_then(|mut described| described.pop()?.ok()) else {
        return Ok(TopicSettings::default());
    };
    let text = |name| resource.get(name).and_then(|entry| entry.value.clone());
    Ok(TopicSettings {
        min_insync_replicas: text("min.insync.replicas").and_then(|value| value.parse().ok()),
        batch_bytes_max: text("max.message.bytes").and_then(|value| value.parse().ok()),
        is_compacted: text("cleanup.policy").map(|value| value.contains("compact")),
        // -1 is unlimited.
        retention: text("retention.ms")
            .and_then(|value| value.parse().ok().map(Duration::from_millis)),
    })
}

/// Checks that the topics of the worker exist, and creates them if `create_topics` is set. Returns
/// false if `stop` was cancelled first.
pub(crate) async fn ensure_topics(
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<bool, StreamError> {
    let report = probe_off_thread(settings, stop).await?;
    if stop.is_cancelled() || report.missing.is_empty() {
        return Ok(!stop.is_cancelled());
    }
    if !settings.create_topics {
        return Err(missing_topics(settings, &report.missing));
    }
    // -1 selects the brokers' default, for partitions and for replicas.
    let new_topic = |topic| NewTopic::new(topic, -1, TopicReplication::Fixed(-1));
    let new_topics: Vec<NewTopic<'_>> =
        report.missing.iter().map(|topic| new_topic(topic)).collect();
    create_topics(settings, &new_topics).await?;
    let deadline = Instant::now() + VISIBLE_TIMEOUT;
    loop {
        let report = probe_off_thread(settings, stop).await?;
        if stop.is_cancelled() || report.missing.is_empty() {
            return Ok(!stop.is_cancelled());
        }
        if Instant::now() >= deadline {
            return Err(missing_topics(settings, &report.missing));
        }
        tokio::time::sleep(VISIBLE_CHECK_INTERVAL).await;
    }
}

async fn probe_off_thread(
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<ClusterReport, StreamError> {
    let (settings, stop) = (settings.clone(), stop.clone());
    let probed = tokio::task::spawn_blocking(move || probe(&settings, &stop)).await;
    probed.unwrap_or_else(|error| Err(StreamError::Bug(format!("the probe ended early: {error}"))))
}

/// Creates topics. A topic that already exists is not an error.
pub(crate) async fn create_topics(
    settings: &Settings,
    topics: &[NewTopic<'_>],
) -> Result<(), StreamError> {
    let admin = admin_client(settings)?;
    let options = AdminOptions::new().request_timeout(Some(settings.probe_timeout));
    let refused = |topic: &str, reason: String| {
        StreamError::MissingTopics(format!("topic {topic} cannot be created: {reason}"))
    };
    let results = admin.create_topics(topics, &options).await.map_err(|error| {
        let names: Vec<_> = topics.iter().map(|topic| topic.name).collect();
        refused(&names.join(" and "), error.to_string())
    })?;
    for result in results {
        match result {
            Ok(topic) => tracing::info!(topic, "created a topic"),
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => {
                tracing::info!(topic, "the topic exists already");
            }
            Err((topic, code)) => return Err(refused(&topic, code.to_string())),
        }
    }
    Ok(())
}

fn admin_client(settings: &Settings) -> Result<AdminClient<DefaultClientContext>, StreamError> {
    settings.admin_config()?.create().map_err(|error| configuration_error(&error))
}
