//! The three topics, the consumer group and the workers of one test.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bucket;
use crate::cluster::Cluster;
use crate::process::Process;
use crate::services::Services;
use crate::topic_reader::TopicReader;
use crate::wait;

/// Time limit for operations that normally take less than a second.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);

/// A record that a test publishes.
#[derive(Debug, Clone, Default)]
pub(crate) struct PublishedRecord {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) payload: Option<Vec<u8>>,
}

/// Returns headers with text, with bytes, without a value, and two with the same name.
pub(crate) fn headers_of_every_kind() -> Vec<(String, Option<Vec<u8>>)> {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    vec![
        header("x-note", Some(b"first")),
        header("x-bytes", Some(&[0, 0xFF, 7])),
        header("x-none", None),
        header("x-note", Some(b"second")),
    ]
}

/// The topics and the group of one test.
pub(crate) struct ServiceFixture {
    pub(crate) services: &'static Services,
    bootstrap_servers: String,
    name: String,
    partitions: i32,
    folder: TempDir,
}

impl ServiceFixture {
    /// Creates the topics on the single broker. `name` is unique among the tests.
    pub(crate) fn new(services: &'static Services, name: &str, partitions: i32) -> Self {
        Self::on(services.bootstrap_servers(), 1, services, name, partitions)
    }

    /// Creates the topics on another single broker.
    pub(crate) fn on_broker(
        bootstrap_servers: &str,
        services: &'static Services,
        name: &str,
        partitions: i32,
    ) -> Self {
        Self::on(bootstrap_servers, 1, services, name, partitions)
    }

    /// Creates the topics on the cluster, with a replica on each broker.
    pub(crate) fn on_cluster(
        cluster: &Cluster,
        services: &'static Services,
        name: &str,
        partitions: i32,
    ) -> Self {
        Self::on(cluster.bootstrap_servers(), Cluster::NODES, services, name, partitions)
    }

    fn on(
        bootstrap_servers: &str,
        replicas: i32,
        services: &'static Services,
        name: &str,
        partitions: i32,
    ) -> Self {
        let fixture = Self {
            services,
            bootstrap_servers: bootstrap_servers.to_owned(),
            name: name.to_owned(),
            partitions,
            folder: TempDir::new().unwrap(),
        };
        std::fs::write(fixture.config_file(), fixture.worker_config()).unwrap();
        let admin: AdminClient<DefaultClientContext> = fixture.client().create().unwrap();
        let names = [fixture.input(), fixture.events(), fixture.dead_letters()];
        let topic = |name| NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let topics: Vec<_> = names.iter().map(|name| topic(name)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let created = runtime.block_on(admin.create_topics(&topics, &AdminOptions::new())).unwrap();
        for topic in created {
            topic.unwrap();
        }
        fixture.wait_for_topics(&names);
        fixture
    }

    /// Waits until the brokers know the topics: the controller creates them before that.
    fn wait_for_topics(&self, names: &[String]) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let is_known = |name: &String| {
            let metadata = consumer.fetch_metadata(Some(name), WAIT_MAX);
            metadata.is_ok_and(|it| it.topics().iter().all(|topic| topic.error().is_none()))
        };
        let are_known = wait::until(|| names.iter().all(is_known), WAIT_MAX);
        assert!(are_known, "the brokers do not know the topics {names:?}");
    }

    pub(crate) fn input(&self) -> String {
        format!("{}.references", self.name)
    }

    pub(crate) fn events(&self) -> String {
        format!("{}.events", self.name)
    }

    pub(crate) fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.name)
    }

    pub(crate) fn group(&self) -> &str {
        &self.name
    }

    pub(crate) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Counts with another number of input partitions, because a test added some.
    pub(crate) fn set_partitions(&mut self, partitions: i32) {
        self.partitions = partitions;
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config
    }

    /// Appends records to the input topic. Returns when the broker has acknowledged all of them.
    pub(crate) fn publish(&self, records: impl Iterator<Item = PublishedRecord>) {
        self.publish_to(&self.input(), records);
    }

    /// Appends records to a topic. Returns when the broker has acknowledged all of them.
    pub(crate) fn publish_to(&self, topic: &str, records: impl Iterator<Item = PublishedRecord>) {
        let before = self.end_offsets(topic).iter().sum::<i64>();
        let producer: BaseProducer = self
            .client()
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "20")
            .set("compression.type", "zstd")
            .create()
            .unwrap();
        let mut sent = 0;
        for record in records {
            let headers =
                record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: value.as_deref() })
                });
            let mut outgoing = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
            outgoing.key = record.key.as_deref();
            outgoing.payload = record.payload.as_deref();
            while let Err((error, back)) = producer.send(outgoing) {
                let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                assert_eq!(error, full, "a record cannot be sent");
                producer.poll(Duration::from_millis(20));
                outgoing = back;
            }
            sent += 1;
        }
        producer.flush(WAIT_MAX).unwrap();
        let now = self.end_offsets(topic).iter().sum::<i64>();
        assert_eq!(now - before, sent, "records in the topic");
    }

    /// Appends a record in a batch of its own. A value of equal bytes compresses to almost nothing.
    pub(crate) fn publish_large(&self, key: &str, value: &[u8]) {
        let producer: BaseProducer = self
            .client()
            .set("compression.type", "zstd")
            .set("message.max.bytes", (2 * value.len()).to_string())
            .create()
            .unwrap();
        let before = self.input_len();
        let topic = self.input();
        let record = BaseRecord::<[u8], [u8]>::to(&topic).key(key.as_bytes()).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(WAIT_MAX).unwrap();
        assert_eq!(self.input_len(), before + 1, "the brokers have the record");
    }

    /// Appends `count` references to the fifty images, in turn. The id of each is its number.
    pub(crate) fn publish_references(&self, count: usize) {
        self.publish(self.references(0..count));
    }

    /// Returns references to the fifty images, in turn. The id of each is its number.
    pub(crate) fn references(
        &self,
        numbers: Range<usize>,
    ) -> impl Iterator<Item = PublishedRecord> + use<> {
        let (services, samples) = (self.services, bucket::fifty_images(self.services));
        numbers.map(|number| {
            let uri = bucket::uri(services, &samples[number % samples.len()].key);
            let reference = json!({"id": number.to_string(), "uri": uri});
            PublishedRecord {
                key: Some(number.to_string().into_bytes()),
                payload: Some(reference.to_string().into_bytes()),
                ..PublishedRecord::default()
            }
        })
    }

    /// Starts the real binary on this fixture's topics. `settings` have the form
    /// `section.key=value`.
    pub(crate) fn start_worker(&self, name: &str, settings: &[String]) -> Process {
        let mut command = self.command(&["run"]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        Process::spawn(&format!("{} of {}", name, self.name), &mut command)
    }

    /// Returns the keys and values of the input topic, one partition after the other.
    pub(crate) fn input_records(&self) -> Vec<(Vec<u8>, Value)> {
        let ends = self.end_offsets(&self.input());
        let consumer: BaseConsumer =
            self.client().set("group.id", "a test reader without a group").create().unwrap();
        let mut records = Vec::new();
        for (partition, end) in (0..self.partitions).zip(ends) {
            let mut assignment = TopicPartitionList::new();
            let input = self.input();
            assignment.add_partition_offset(&input, partition, Offset::Beginning).unwrap();
            consumer.assign(&assignment).unwrap();
            for _ in 0..end {
                // A poll may return nothing, for example after an assignment.
                let deadline = Instant::now() + WAIT_MAX;
                let message = loop {
                    match consumer.poll(Duration::from_millis(100)) {
                        Some(message) => break message.unwrap(),
                        None => assert!(Instant::now() < deadline, "a record is missing"),
                    }
                };
                let value = serde_json::from_slice(message.payload().unwrap()).unwrap();
                records.push((message.key().unwrap_or_default().to_vec(), value));
            }
        }
        records
    }

    /// Returns the number of records in the input topic.
    pub(crate) fn input_len(&self) -> usize {
        usize::try_from(self.end_offsets(&self.input()).iter().sum::<i64>()).unwrap()
    }

    /// Returns a command for the real binary with these arguments and this fixture's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dogiqa"));
        command.args(arguments).arg("--config").arg(self.config_file());
        command
    }

    /// Returns the settings of `start_worker`, for a worker in this process.
    pub(crate) fn settings(&self, settings: &[String]) -> dog_iqa::config::Settings {
        dog_iqa::config::load(Some(&self.config_file()), settings).unwrap().settings
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("dogiqa.toml")
    }

    pub(crate) fn worker_config(&self) -> String {
        let services = self.services;
        format!(
            r#"
[kafka]
bootstrap_servers = "{bootstrap}"
group_id = "{name}"
input_topic = "{input}"
output_topic = "{events}"
dead_letter_topic = "{dead_letters}"
# A killed member keeps its partitions until its session times out.
session_timeout = "6s"

[storage]
allow_buckets = ["s3://{photos}", "s3://{private}"]

[storage.s3]
endpoint = "{endpoint}"
allow_http = true
region = "{region}"
access_key_id = "{key}"
secret_access_key = "{secret}"

[engine]
name = "classic"

[telemetry.log]
format = "json"

[telemetry.server]
address = "127.0.0.1:0"
"#,
            bootstrap = self.bootstrap_servers,
            name = self.name,
            input = self.input(),
            events = self.events(),
            dead_letters = self.dead_letters(),
            photos = services.value(bucket::PHOTOS),
            private = services.value(bucket::PRIVATE),
            endpoint = services.value("S3_ENDPOINT"),
            region = services.value("S3_REGION"),
            key = services.value("S3_WORKER_KEY"),
            secret = services.value("S3_WORKER_SECRET"),
        )
    }

    /// Returns a reader of the events and the dead letters.
    pub(crate) fn answer_reader(&self) -> TopicReader {
        TopicReader::new(&self.client(), [self.events(), self.dead_letters()], self.partitions)
    }

    /// Waits until a worker reports that it is ready.
    pub(crate) fn wait_until_ready(worker: &Process) {
        worker.wait_for_line("\"ready\":true", WAIT_MAX);
    }

    /// Returns a reader of the events and the input topic. Input records appear as its dead
    /// letters.
    pub(crate) fn input_reader(&self) -> TopicReader {
        TopicReader::new(&self.client(), [self.events(), self.input()], self.partitions)
    }

    /// Stops a worker gracefully. Panics if it fails.
    pub(crate) fn stop(worker: Process) {
        worker.terminate();
        worker.wait_for_success(WAIT_MAX);
    }

    /// Asserts that the group has committed the end of each partition.
    pub(crate) fn assert_everything_is_committed(&self) {
        let (committed, ends) = self.committed_and_ends();
        assert_eq!(committed, ends, "committed offsets and ends of {}", self.input());
    }

    /// Returns true if the group has committed the end of each partition.
    pub(crate) fn is_everything_committed(&self) -> bool {
        let (committed, ends) = self.committed_and_ends();
        committed == ends
    }

    fn committed_and_ends(&self) -> (Vec<Offset>, Vec<Offset>) {
        let ends = self.end_offsets(&self.input()).into_iter().map(Offset::Offset).collect();
        (self.group_view().committed(WAIT_MAX).unwrap(), ends)
    }

    /// Returns a client that reads the group's committed offsets without being a member.
    pub(crate) fn group_view(&self) -> GroupView {
        let consumer = self.client().set("group.id", &self.name).create().unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(&self.input(), 0, self.partitions - 1);
        GroupView { consumer, partitions }
    }

    /// Returns the broker that leads the first partition of the output topic.
    pub(crate) fn leader_of_events(&self) -> i32 {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&self.events()), WAIT_MAX).unwrap();
        metadata.topics()[0].partitions()[0].leader()
    }

    /// Returns the end offset of each partition of a topic.
    pub(crate) fn end_offsets(&self, topic: &str) -> Vec<i64> {
        let consumer: BaseConsumer = self.client().create().unwrap();
        (0..self.partitions).map(|partition| end_offset(&consumer, topic, partition)).collect()
    }
}

/// Returns the end offset of a partition. Retries while the partition has no known leader, as
/// directly after the topic's creation.
fn end_offset(consumer: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match consumer.fetch_watermarks(topic, partition, WAIT_MAX) {
            Ok((_, end)) => return end,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        consumer.fetch_metadata(Some(topic), WAIT_MAX).unwrap();
    }
}

/// Reads a group's committed offsets of the input topic, without being a member.
pub(crate) struct GroupView {
    consumer: BaseConsumer,
    partitions: TopicPartitionList,
}

impl GroupView {
    /// Returns the committed offset of each partition.
    ///
    /// # Errors
    /// Fails if no broker answers within `wait`.
    pub(crate) fn committed(&self, wait: Duration) -> Result<Vec<Offset>, KafkaError> {
        let committed = self.committed_with_metadata(wait)?;
        Ok(committed.elements().iter().map(TopicPartitionListElem::offset).collect())
    }

    /// Returns the committed offset of each partition with its metadata.
    ///
    /// # Errors
    /// Fails if no broker answers within `wait`.
    pub(crate) fn committed_with_metadata(
        &self,
        wait: Duration,
    ) -> Result<TopicPartitionList, KafkaError> {
        self.consumer.committed_offsets(self.partitions.clone(), wait)
    }

    /// Commits offsets while the group has no members.
    pub(crate) fn commit(&self, positions: &TopicPartitionList) {
        self.consumer.commit(positions, CommitMode::Sync).unwrap();
    }
}
