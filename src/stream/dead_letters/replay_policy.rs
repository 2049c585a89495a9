//! Decides for each dead letter if it may be replayed, and to which topic and partition.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::stream::broker::probe::describe_topics;
use crate::stream::dead_letters::destination::Destination;
use crate::stream::dead_letters::ledger::{Ledger, ledger_topic};
use crate::stream::dead_letters::record::DeadLetter;
use crate::stream::dead_letters::request::ReplayRequest;
use crate::stream::error::StreamError;
use crate::stream::settings::Settings;

/// Maximum number of topics whose partitions are cached.
const CACHED_TOPICS_MAX: usize = 1000;
/// Maximum length of a topic name.
const TOPIC_CHARS_MAX: usize = 249;

/// The outcome of one dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// It is sent to this destination.
    Sent(Destination),
    /// It was sent by an earlier replay.
    AlreadySent,
    /// It cannot be sent.
    Refused(ReplayRefusal),
}

/// The reason why a dead letter cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayRefusal {
    /// The destination is a topic of answers, or an internal topic of Kafka.
    #[error("its topic takes answers or is internal to Kafka")]
    Protected,
    /// The destination does not exist, or this client may not describe it.
    #[error("its topic does not exist, or may not be described")]
    MissingTopic,
    /// A part of the record did not fit into the dead letter.
    #[error("a part of the record did not fit into the dead letter; send it again from its source")]
    Incomplete,
    /// The record is larger than the destination allows.
    #[error("it is larger than its topic allows")]
    TooLarge,
}

/// The rules of one replay.
pub(crate) struct ReplayPolicy<'a> {
    settings: &'a Settings,
    request: &'a ReplayRequest,
    /// Number of partitions by topic; `None` for a topic that does not exist.
    partitions: BTreeMap<String, Option<usize>>,
}

impl<'a> ReplayPolicy<'a> {
    /// Creates the rules of a request.
    ///
    /// # Errors
    /// Fails if the requested topic has an invalid name or is protected.
    pub(crate) fn new(
        settings: &'a Settings,
        request: &'a ReplayRequest,
    ) -> Result<Self, StreamError> {
        let policy = Self { settings, request, partitions: BTreeMap::new() };
        if let Some(topic) = &request.to_topic
            && (policy.is_protected(topic) || !is_topic_name(topic))
        {
            return Err(StreamError::Configuration(format!(
                "dead letters cannot be sent to {topic:?}: the name is invalid, or the topic is \
                 for answers; name the topic that workers read"
            )));
        }
        Ok(policy)
    }

    /// Decides the outcome of a dead letter. `ledger` holds those that were sent before.
    ///
    /// # Errors
    /// Fails if the brokers cannot be queried for the destination.
    pub(crate) fn decide(
        &mut self,
        dead_letter: &DeadLetter,
        ledger: &Ledger,
    ) -> Result<ReplayOutcome, StreamError> {
        if !self.request.include_replayed && ledger.contains(dead_letter) {
            return Ok(ReplayOutcome::AlreadySent);
        }
        if dead_letter.left_out.is_some() {
            return Ok(ReplayOutcome::Refused(ReplayRefusal::Incomplete));
        }
        let original = &dead_letter.reason.original;
        let topic = self.request.to_topic.as_ref().unwrap_or(&original.topic);
        // Anyone who may write to the dead-letter topic chooses this name.
        if self.is_protected(topic) {
            return Ok(ReplayOutcome::Refused(ReplayRefusal::Protected));
        }
        let Some(partitions) = self.partitions(topic)? else {
            return Ok(ReplayOutcome::Refused(ReplayRefusal::MissingTopic));
        };
        let exists = usize::try_from(original.partition).is_ok_and(|number| number < partitions);
        let keeps_partition = exists && self.request.to_topic.is_none();
        let partition = keeps_partition.then_some(original.partition);
        Ok(ReplayOutcome::Sent(Destination { topic: topic.clone(), partition }))
    }

    fn is_protected(&self, topic: &str) -> bool {
        let [_, events, dead_letters] = self.settings.topics();
        topic == events
            || topic == dead_letters
            || topic == ledger_topic(&dead_letters)
            || topic.starts_with("__")
    }

    fn partitions(&mut self, topic: &str) -> Result<Option<usize>, StreamError> {
        if !is_topic_name(topic) {
            return Ok(None);
        }
        if let Some(cached) = self.partitions.get(topic) {
            return Ok(*cached);
        }
        let topics = [topic.to_owned()];
        let partitions = match describe_topics(self.settings, &topics, &CancellationToken::new()) {
            Ok(report) => report.topics.first().map(|described| described.partitions),
            Err(StreamError::Forbidden { .. } | StreamError::MissingTopics(_)) => None,
            Err(error) => return Err(error),
        };
        // Limits the memory for invented names: anyone who may write to the topic can send them.
        if self.partitions.len() >= CACHED_TOPICS_MAX {
            self.partitions.clear();
        }
        self.partitions.insert(topic.to_owned(), partitions);
        Ok(partitions)
    }
}

/// Returns true if Kafka accepts `name` as the name of a topic.
fn is_topic_name(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= TOPIC_CHARS_MAX && name.chars().all(is_legal)
}

#[cfg(test)]
mod tests {
    use crate::stream::broker::topic_reader::Start;

    use super::*;

    fn request(to_topic: Option<&str>) -> ReplayRequest {
        ReplayRequest {
            start: Start::Beginning,
            matches: Box::new(|_| true),
            to_topic: to_topic.map(str::to_owned),
            include_replayed: false,
            dead_letters_max: u64::MAX,
            gap: None,
        }
    }

    #[test]
    fn a_request_to_send_to_an_answer_topic_or_an_invalid_one_is_refused() {
        let settings = Settings::default();
        for topic in [
            "image-quality",
            "image-quality-dead-letters",
            "image-quality-dead-letters.replayed",
            "__consumer_offsets",
            "no topic",
            "a\0b",
            "",
        ] {
            let request = request(Some(topic));
            let error = ReplayPolicy::new(&settings, &request).err().unwrap();
            assert!(error.to_string().contains("cannot be sent to"), "{topic}: {error}");
        }
        assert!(ReplayPolicy::new(&settings, &request(Some("image-references"))).is_ok());
    }
}
