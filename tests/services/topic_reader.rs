//! Reads the output topics with a consumer of its own, which shares nothing with the worker's.

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

/// For all that a test waits for; it takes a small part of it.
const LIMIT: Duration = Duration::from_mins(5);

/// A record of an output topic.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    /// In their order; a name that is not UTF-8 is `�`, and then the value is left out.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) payload: Vec<u8>,
}

impl Answer {
    /// The text of the first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The payload as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// What the worker has answered so far.
pub(crate) struct TopicReader {
    consumer: BaseConsumer,
    topics: [String; 2],
    partitions: i32,
    /// By the reference's id.
    pub(crate) events: BTreeMap<String, Vec<Answer>>,
    pub(crate) dead_letters: Vec<Answer>,
}

impl TopicReader {
    /// Reads both topics from their beginning: the events', the dead letters'.
    pub(crate) fn new(client: &ClientConfig, topics: [String; 2], partitions: i32) -> Self {
        let consumer: BaseConsumer = client
            .clone()
            .set("group.id", "an reader is in no group")
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

    /// Reads until the condition holds, which these workers bring about.
    pub(crate) fn read_until(&mut self, workers: &[&Process], condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !condition(self) {
            for worker in workers {
                worker.assert_running();
            }
            assert!(
                Instant::now() < deadline,
                "after {LIMIT:?}: {} references with events, {} dead letters",
                self.events.len(),
                self.dead_letters.len(),
            );
            self.read_one(Duration::from_millis(100));
        }
    }

    /// Reads until at least so many references have an event.
    pub(crate) fn read_until_answered(&mut self, references: usize, workers: &[&Process]) {
        self.read_until(workers, |reader| reader.events.len() >= references);
    }

    /// Reads everything that is committed in the topics now, from the beginning, a partition at a time to its
    /// end: behind the last record a transaction leaves a mark that no position reaches.
    pub(crate) fn read_to_end(&mut self) {
        (self.events, self.dead_letters) = (BTreeMap::new(), Vec::new());
        for topic in self.topics.clone() {
            for partition in 0..self.partitions {
                let mut assignment = TopicPartitionList::new();
                let begin = Offset::Beginning;
                assignment.add_partition_offset(&topic, partition, begin).unwrap();
                self.consumer.assign(&assignment).unwrap();
                let deadline = Instant::now() + LIMIT;
                while !self.read_one(WAIT_MAX) {
                    assert!(Instant::now() < deadline, "{topic} {partition} has no end");
                }
            }
        }
    }

    /// Takes in one record; true when there is none behind the last one of a partition.
    ///
    /// A client whose brokers are away says so and goes on looking for them.
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

    /// References with an answer, of whichever kind.
    pub(crate) fn answered(&self) -> usize {
        self.events.len() + self.dead_letters.len()
    }

    pub(crate) fn event_count(&self) -> usize {
        self.events.values().map(Vec::len).sum()
    }
}

/// The client library panics on a name that is not UTF-8.
fn readable_headers(headers: &impl Headers) -> Vec<(String, Option<Vec<u8>>)> {
    let read = |index| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.get(index)));
        header.map_or(("\u{FFFD}".to_owned(), None), |header| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        })
    };
    (0..headers.count()).map(read).collect()
}
