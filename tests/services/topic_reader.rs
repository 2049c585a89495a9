//! Reads the output topics with a separate consumer, which shares no code with the worker.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::process::Process;
use crate::service_fixture::WAIT_MAX;

/// Time limit for one wait. A healthy run needs a small part of it.
const READ_MAX: Duration = Duration::from_mins(5);

/// A record of an output topic.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    /// In their original order. A name that is not UTF-8 is `�` without a value.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) payload: Vec<u8>,
}

impl Answer {
    /// Returns the text of the first header with this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Parses the payload as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// A consumer of both output topics, with the answers that it has read.
pub(crate) struct TopicReader {
    consumer: BaseConsumer,
    topics: [String; 2],
    partitions: i32,
    /// Events by the id of their reference.
    pub(crate) events: BTreeMap<String, Vec<Answer>>,
    pub(crate) dead_letters: Vec<Answer>,
}

impl TopicReader {
    /// Starts at the beginning of both topics: that of the events, then that of the dead letters.
    pub(crate) fn new(client: &ClientConfig, topics: [String; 2], partitions: i32) -> Self {
        let consumer: BaseConsumer = client
            .clone()
            .set("group.id", "a test reader without a group")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "50")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        for topic in &topics {
            for partition in 0..partitions {
                assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            }
        }
        consumer.assign(&assignment).unwrap();
        Self { consumer, topics, partitions, events: BTreeMap::new(), dead_letters: Vec::new() }
    }

    /// Reads until the condition holds. Panics if a worker ends before.
    pub(crate) fn read_until(&mut self, workers: &[&Process], condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + READ_MAX;
        while !condition(self) {
            for worker in workers {
                worker.assert_running();
            }
            assert!(
                Instant::now() < deadline,
                "after {READ_MAX:?}: {} references with events, {} dead letters",
                self.events.len(),
                self.dead_letters.len(),
            );
            self.read_one(Duration::from_millis(100));
        }
    }

    /// Reads until at least this number of references has an event.
    pub(crate) fn read_until_answered(&mut self, references: usize, workers: &[&Process]) {
        self.read_until(workers, |reader| reader.events.len() >= references);
    }

    /// Reads all committed records again, one partition at a time up to its end-of-partition event.
    /// An end offset would not do: the marker of a transaction follows its last record, and the
    /// position of a consumer never passes it.
    pub(crate) fn read_to_end(&mut self) {
        (self.events, self.dead_letters) = (BTreeMap::new(), Vec::new());
        for topic in self.topics.clone() {
            for partition in 0..self.partitions {
                let mut assignment = TopicPartitionList::new();
                let begin = Offset::Beginning;
                assignment.add_partition_offset(&topic, partition, begin).unwrap();
                self.consumer.assign(&assignment).unwrap();
                let deadline = Instant::now() + READ_MAX;
                while !self.read_one(WAIT_MAX) {
                    assert!(Instant::now() < deadline, "{topic} {partition} has no end");
                }
            }
        }
    }

    /// Reads at most one record. Returns true at the end of a partition.
    ///
    /// Errors about unavailable brokers are ignored: the client reconnects.
    pub(crate) fn read_one(&mut self, wait: Duration) -> bool {
        let message = match self.consumer.poll(wait) {
            Some(Err(KafkaError::PartitionEOF(_))) => return true,
            None
            | Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure,
            ))) => return false,
            Some(message) => message.unwrap(),
        };
        let answer = Answer {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            headers: message.headers().map(readable_headers).unwrap_or_default(),
            payload: message.payload().unwrap_or_default().to_vec(),
        };
        if message.topic() == self.topics[1] {
            self.dead_letters.push(answer);
            return false;
        }
        let id = answer.json()["reference"]["id"].as_str().unwrap().to_owned();
        self.events.entry(id).or_default().push(answer);
        false
    }

    /// Returns the number of references with an event, plus the number of dead letters.
    pub(crate) fn answered(&self) -> usize {
        self.events.len() + self.dead_letters.len()
    }

    pub(crate) fn event_count(&self) -> usize {
        self.events.values().map(Vec::len).sum()
    }
}

/// Reads headers. The client library panics on a name that is not UTF-8.
fn readable_headers(headers: &impl Headers) -> Vec<(String, Option<Vec<u8>>)> {
    let read = |index| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.get(index)));
        header.map_or(("\u{FFFD}".to_owned(), None), |header| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        })
    };
    (0..headers.count()).map(read).collect()
}
