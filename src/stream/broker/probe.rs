//! The first words with the brokers: are they there, do they let us in, do the topics exist.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use humantime::format_duration;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Statistics};
use tokio_util::sync::CancellationToken;

use crate::stream::broker::kafka_error::{
    configuration_error, is_forbidden, is_unknown_topic, log_client_error, without_secrets,
};
use crate::stream::broker::tls_diagnosis::explain_distrust;
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// One attempt of the probe; errors of the connection are looked at in between.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long a topic that was just created may take to show.
pub(crate) const CREATED_SHOWS: Duration = Duration::from_secs(10);
/// How long the connection's events are listened to between attempts. Not one by one: among the
/// lines of librdkafka's `debug` the one that matters comes late.
const LISTEN: Duration = Duration::from_millis(100);
/// Troubles that are kept.
const TROUBLES_MAX: usize = 64;
/// Wait between looks at it.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A topic as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicReport {
    /// The topic.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// Replicas of the partition that has the fewest.
    pub replicas: usize,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReport {
    /// Topics that exist, input first.
    pub topics: Vec<TopicReport>,
    /// Topics that do not.
    pub missing: Vec<String>,
}

/// Asks the brokers for the worker's topics. Blocks, at most for `probe_timeout` or until `stop`.
///
/// # Errors
/// When no broker answers, or they and we do not accept each other.
pub fn probe(settings: &Settings, stop: &CancellationToken) -> Result<ClusterReport, StreamError> {
    find(settings, &settings.topics(), stop)
}

/// Sees to it that the input topic is there for whoever writes references. Blocks, at most for
/// `probe_timeout`.
///
/// # Errors
/// As [`probe`], and when there is no such topic.
pub fn probe_input(settings: &Settings) -> Result<(), StreamError> {
    let topics = [settings.input_topic.clone()];
    let found = find(settings, &topics, &CancellationToken::new())?;
    if found.missing.is_empty() { Ok(()) } else { Err(missing(settings, &found.missing)) }
}

/// Asks the brokers for topics. Blocks, at most for `probe_timeout` or until `stop`.
///
/// # Errors
/// When no broker answers, or they and we do not accept each other.
pub(crate) fn find(
    settings: &Settings,
    topics: &[String],
    stop: &CancellationToken,
) -> Result<ClusterReport, StreamError> {
    let config = settings.admin_config()?;
    let client: BaseConsumer<Context> = config
        .create_with_context(Context::default())
        .map_err(|error| configuration_error(&error))?;
    let deadline = Instant::now() + settings.probe_timeout;
    let mut found = ClusterReport { topics: Vec::new(), missing: Vec::new() };
    for topic in topics {
        match describe(settings, &client, topic, deadline, stop)? {
            Some(report) => found.topics.push(report),
            None => found.missing.push(topic.clone()),
        }
    }
    Ok(found)
}

/// How many replicas of a topic must have a record before it is acknowledged; none where the
/// brokers do not say, for lack of the right to describe configurations, say.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub async fn in_sync_min(settings: &Settings, topic: &str) -> Result<Option<usize>, StreamError> {
    let config = settings.admin_config()?;
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| configuration_error(&error))?;
    let options = AdminOptions::new().request_timeout(Some(settings.probe_timeout));
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let resource = described.ok().and_then(|mut described| described.pop()?.ok());
    let value = resource.and_then(|resource| resource.get("min.insync.replicas")?.value.clone());
    Ok(value.and_then(|value| value.parse().ok()))
}

/// Sees to it that the topics exist; false when `stop` came first.
pub(crate) async fn ensure_topics(
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<bool, StreamError> {
    let found = probe_off_thread(settings, stop).await?;
    if stop.is_cancelled() || found.missing.is_empty() {
        return Ok(!stop.is_cancelled());
    }
    if !settings.create_topics {
        return Err(missing(settings, &found.missing));
    }
    // -1: the brokers' default, of partitions as of replicas.
    let wanted = |topic| NewTopic::new(topic, -1, TopicReplication::Fixed(-1));
    let wanted: Vec<NewTopic<'_>> = found.missing.iter().map(|topic| wanted(topic)).collect();
    create(settings, &wanted).await?;
    let deadline = Instant::now() + CREATED_SHOWS;
    loop {
        let found = probe_off_thread(settings, stop).await?;
        if stop.is_cancelled() || found.missing.is_empty() {
            return Ok(!stop.is_cancelled());
        }
        if Instant::now() >= deadline {
            return Err(missing(settings, &found.missing));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
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

fn missing(settings: &Settings, topics: &[String]) -> StreamError {
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

/// Creates topics; one that exists by now is fine.
pub(crate) async fn create(
    settings: &Settings,
    wanted: &[NewTopic<'_>],
) -> Result<(), StreamError> {
    let config = settings.admin_config()?;
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| configuration_error(&error))?;
    let options = AdminOptions::new().request_timeout(Some(settings.probe_timeout));
    let refused = |topic: &str, reason: String| {
        StreamError::MissingTopics(format!("topic {topic} cannot be created: {reason}"))
    };
    let results = admin.create_topics(wanted, &options).await;
    let names = || wanted.iter().map(|topic| topic.name).collect::<Vec<_>>().join(" and ");
    let results = results.map_err(|error| refused(&names(), error.to_string()))?;
    for result in results {
        match result {
            Ok(topic) => tracing::info!(topic, "created a topic"),
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => {
                tracing::info!(topic, "the topic exists by now");
            }
            Err((topic, code)) => return Err(refused(&topic, code.to_string())),
        }
    }
    Ok(())
}

/// One topic; none when it does not exist or `stop` was cancelled.
fn describe(
    settings: &Settings,
    client: &BaseConsumer<Context>,
    topic: &str,
    deadline: Instant,
    stop: &CancellationToken,
) -> Result<Option<TopicReport>, StreamError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match client.fetch_metadata(Some(topic), left.min(ATTEMPT)) {
            Ok(metadata) => {
                let described = metadata.topics().iter().find(|found| found.name() == topic);
                return described.map_or(Ok(None), |found| read(topic, found));
            }
            Err(error) => error,
        };
        // What the connection's trouble is comes as an event.
        let until = Instant::now() + LISTEN;
        while Instant::now() < until {
            drop(client.poll(until.saturating_duration_since(Instant::now())));
        }
        if let Some((code, reason)) = client.context().refusal() {
            return Err(refused(settings, code, &reason));
        }
        if stop.is_cancelled() {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Err(client.context().unreachable(settings, &error));
        }
    }
}

fn read(
    topic: &str,
    found: &rdkafka::metadata::MetadataTopic,
) -> Result<Option<TopicReport>, StreamError> {
    let Some(error) = found.error() else {
        let partitions = found.partitions();
        let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
        return Ok(Some(TopicReport {
            name: topic.to_owned(),
            partitions: partitions.len(),
            replicas: replicas.unwrap_or(0),
        }));
    };
    match RDKafkaErrorCode::from(error) {
        code if is_unknown_topic(code) => Ok(None),
        code if is_forbidden(code) => {
            Err(StreamError::Forbidden { action: format!("describe topic {topic}"), code })
        }
        code => Err(StreamError::MissingTopics(format!("topic {topic} cannot be used: {code}"))),
    }
}

/// Keeps the connection's last trouble.
#[derive(Debug, Default)]
struct Context {
    trouble: Mutex<Vec<(RDKafkaErrorCode, String)>>,
}

impl Context {
    /// Who refused whom, if somebody did.
    fn refusal(&self) -> Option<(RDKafkaErrorCode, String)> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_refusal = |(code, reason): &&(RDKafkaErrorCode, String)| match code {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => true,
            _ => is_alert(reason),
        };
        trouble.iter().find(is_refusal).cloned()
    }

    fn unreachable(&self, settings: &Settings, error: &KafkaError) -> StreamError {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // The last word before "all brokers are down" says more than that.
        let telling =
            trouble.iter().rev().find(|(code, _)| *code != RDKafkaErrorCode::AllBrokersDown);
        let reason = match telling {
            Some((_, reason)) if reason.contains("SSL_HANDSHAKE") => format!(
                "{reason}: they end the TLS handshake, as brokers do that speak without TLS: another \
                 security.protocol in kafka.properties"
            ),
            Some((_, reason)) => reason.clone(),
            None if trouble.is_empty() => error.to_string(),
            // Librdkafka says nothing of connections that end without a word.
            None => "they close every connection at once, as brokers do that expect TLS, SASL or \
                     neither: another security.protocol in kafka.properties"
                .to_owned(),
        };
        StreamError::Unreachable {
            brokers: settings.bootstrap_servers.clone(),
            waited: format_duration(settings.probe_timeout),
            reason,
        }
    }
}

/// Says who refused whom, and what to do. Blocks for a moment.
fn refused(settings: &Settings, code: RDKafkaErrorCode, reason: &str) -> StreamError {
    let brokers = &settings.bootstrap_servers;
    let text = match code {
        RDKafkaErrorCode::Authentication => format!(
            "the brokers at {brokers} refuse the credentials: {reason}; check sasl.mechanism, \
             sasl.username and sasl.password in kafka.properties"
        ),
        RDKafkaErrorCode::SSL => match distrusted(settings, reason) {
            Some((place, why)) => {
                format!("the certificate of the broker at {place} is not trusted: {why}")
            }
            None => format!(
                "no trusted TLS connection to the brokers at {brokers}: {reason}; check \
                 security.protocol, ssl.ca.location and the host name in kafka.bootstrap_servers"
            ),
        },
        _ => format!(
            "the brokers at {brokers} refuse this worker's certificate, or the lack of one: \
             {reason}; set ssl.certificate.location and ssl.key.location in kafka.properties to \
             one that they trust"
        ),
    };
    StreamError::Security(text)
}

/// The broker whose certificate is not trusted, and why, where that can be found out.
fn distrusted<'a>(settings: &Settings, reason: &'a str) -> Option<(&'a str, String)> {
    if !reason.contains("certificate verify failed") {
        return None;
    }
    // `ssl://host:port/bootstrap: SSL handshake failed …`
    let (place, _) = reason.split_once("://")?.1.split_once('/')?;
    let properties = settings.properties.resolve().ok()?;
    explain_distrust(place, &properties).map(|why| (place, why))
}

/// A broker's last word before it closes: OpenSSL writes the name of the alert.
fn is_alert(reason: &str) -> bool {
    reason.contains("alert") && (reason.contains("certificate") || reason.contains("unknown ca"))
}

impl ClientContext for Context {
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down is said a hundred times.
        let is_known = |(known, _): &(RDKafkaErrorCode, String)| *known == code;
        if code == RDKafkaErrorCode::AllBrokersDown && trouble.iter().any(is_known) {
            return;
        }
        log_client_error(&error, reason);
        // A probe is short, its reconnects are few.
        if trouble.len() < TROUBLES_MAX {
            trouble.push((code, without_secrets(reason).to_owned()));
        }
    }
}

impl ConsumerContext for Context {}
