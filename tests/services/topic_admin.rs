//! Changes of topics from outside: deleted and created again, more partitions, other settings,
//! records deleted, records written in transactions.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::service_fixture::{PublishedRecord, WAIT_MAX};
use crate::wait;

/// An admin client, and a runtime for its futures.
pub(crate) struct TopicAdmin {
    client: ClientConfig,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl TopicAdmin {
    pub(crate) fn new(client: ClientConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { admin: client.create().unwrap(), client, runtime }
    }

    /// Deletes a topic and creates it again at once, as a script does that empties a topic.
    pub(crate) fn recreate(&self, topic: &str, partitions: i32, replicas: i32) {
        self.delete(topic);
        self.create(topic, partitions, replicas);
    }

    /// Creates a topic. Retries while the brokers still have a deleted one of this name.
    pub(crate) fn create(&self, topic: &str, partitions: i32, replicas: i32) {
        let options = AdminOptions::new().operation_timeout(Some(WAIT_MAX));
        let new_topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
        let is_created = wait::until(
            || {
                let created = self.admin.create_topics([&new_topic], &options);
                self.runtime.block_on(created).unwrap().remove(0).is_ok()
            },
            WAIT_MAX,
        );
        assert!(is_created, "topic {topic} is created");
    }

    pub(crate) fn delete(&self, topic: &str) {
        let options = AdminOptions::new().operation_timeout(Some(WAIT_MAX));
        let deleted = self.runtime.block_on(self.admin.delete_topics(&[topic], &options));
        deleted.unwrap().remove(0).unwrap();
    }

    /// Changes settings of a topic.
    pub(crate) fn configure(&self, topic: &str, settings: &[(&str, &str)]) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let config = settings.iter().fold(config, |config, (name, value)| config.set(name, value));
        let altered = self.admin.alter_configs([&config], &AdminOptions::new());
        self.runtime.block_on(altered).unwrap().remove(0).unwrap();
    }

    /// Raises the number of partitions of a topic.
    pub(crate) fn add_partitions(&self, topic: &str, partitions: usize) {
        let added = NewPartitions::new(topic, partitions);
        let added = self.admin.create_partitions([&added], &AdminOptions::new());
        self.runtime.block_on(added).unwrap().remove(0).unwrap();
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub(crate) fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        let deleted = self.admin.delete_records(&list, &AdminOptions::new());
        let deleted = self.runtime.block_on(deleted).unwrap();
        deleted.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Opens a producer whose transactions stay open until they are committed.
    pub(crate) fn transactions(&self, id: &str) -> Transactions {
        let producer: BaseProducer = self
            .client
            .clone()
            .set("transactional.id", id)
            .set("partitioner", "murmur2_random")
            .set("transaction.timeout.ms", "120000")
            .create()
            .unwrap();
        producer.init_transactions(WAIT_MAX).unwrap();
        Transactions { producer }
    }
}

/// A transactional producer.
pub(crate) struct Transactions {
    producer: BaseProducer,
}

impl Transactions {
    /// Writes records to a topic in an open transaction. Returns when the brokers have them.
    pub(crate) fn write(&self, topic: &str, records: impl Iterator<Item = PublishedRecord>) {
        self.producer.begin_transaction().unwrap();
        for record in records {
            let mut outgoing = BaseRecord::<[u8], [u8]>::to(topic);
            outgoing.key = record.key.as_deref();
            outgoing.payload = record.payload.as_deref();
            self.producer.send(outgoing).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(WAIT_MAX).unwrap();
    }

    pub(crate) fn commit(&self) {
        self.producer.commit_transaction(WAIT_MAX).unwrap();
    }

    pub(crate) fn abort(&self) {
        self.producer.abort_transaction(WAIT_MAX).unwrap();
    }
}

/// A member of a group with an eager assignment strategy, which does not work together with the
/// worker's.
pub(crate) struct EagerMember {
    consumer: BaseConsumer,
}

impl EagerMember {
    pub(crate) fn join(client: &ClientConfig, group: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = client
            .clone()
            .set("group.id", group)
            .set("session.timeout.ms", "6000")
            .set("enable.auto.commit", "false")
            .set("partition.assignment.strategy", "range")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        Self { consumer }
    }

    /// Polls for this long. Returns true if the group assigned a partition.
    pub(crate) fn poll_for(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            drop(self.consumer.poll(Duration::from_millis(100)));
            if self.consumer.assignment().unwrap().count() > 0 {
                return true;
            }
        }
        false
    }
}
