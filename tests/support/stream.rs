//! A worker on the embedded broker, with an in-memory store that tests can block.

use std::collections::HashSet;
use std::fmt;
use std::io::Cursor;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use dog_iqa::cache::AnswerCache;
use dog_iqa::checkpoints::metrics::LoadedParameters;
use dog_iqa::engine::Engine;
use dog_iqa::imaging;
use dog_iqa::method;
use dog_iqa::pipeline::{self, Journey, JourneyParts};
use dog_iqa::storage::{self, Scheme, Stores};
use dog_iqa::stream::{EmbeddedBroker, Settings, Shadow, StreamError, Summary, worker};
use dog_iqa::telemetry::Health;
use futures::stream::BoxStream;
use image::{ImageFormat, Rgb, RgbImage};
use metrics_exporter_prometheus::PrometheusHandle;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult,
};
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::noop;
use crate::wait;

/// Time limit for operations that normally take less than a second.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A broker, a store and the settings of one test's workers.
pub(crate) struct Scene {
    pub(crate) broker: EmbeddedBroker,
    pub(crate) settings: Settings,
    pub(crate) gates: Arc<Gates>,
    pub(crate) engine: Engine,
    /// Storage settings, for locations besides the bucket in memory.
    pub(crate) storage: storage::Settings,
    pub(crate) imaging: imaging::Settings,
    pub(crate) method: method::Settings,
    /// The metrics of the events, with their parameters.
    pub(crate) measures: Vec<Arc<LoadedParameters>>,
    /// Further objects of the bucket in memory: key and content.
    pub(crate) objects: Vec<(String, Vec<u8>)>,
    /// The cache of answers that the workers share.
    pub(crate) cache: Option<Arc<AnswerCache>>,
    /// The second engine of the workers.
    pub(crate) shadow: Option<Shadow>,
    masks_in_events: bool,
    partitions: i32,
}

/// A running worker.
pub(crate) struct Running {
    worker: JoinHandle<Result<Summary, StreamError>>,
    shutdown: CancellationToken,
    pub(crate) health: Health,
}

/// A record that a test writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'static str, Option<Vec<u8>>)>,
}

/// Controls the store: reads of `gated/…` wait until the gate opens, reads of `down/…` fail until
/// then, and reads of `panics/…` panic.
#[derive(Debug)]
pub(crate) struct Gates {
    open: watch::Sender<bool>,
    entered: AtomicUsize,
    inside: AtomicUsize,
    inside_max: AtomicUsize,
}

impl Scene {
    /// Starts a broker with the three topics and the no-op engine.
    pub(crate) async fn new(partitions: i32) -> Self {
        Self::with_engine(partitions, || noop::engine(&[])).await
    }

    pub(crate) async fn with_engine(
        partitions: i32,
        engine: impl FnOnce() -> Engine + Send + 'static,
    ) -> Self {
        let mut settings = Settings::default();
        let topics = settings.topics();
        let parts = tokio::task::spawn_blocking(move || {
            (EmbeddedBroker::start(&topics, partitions, None).unwrap(), engine())
        });
        let (broker, engine) = parts.await.unwrap();
        broker.configure(&mut settings);
        settings.drain_timeout = PATIENCE;
        let gates = Arc::new(Gates {
            open: watch::Sender::new(false),
            entered: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            inside_max: AtomicUsize::new(0),
        });
        // Each reference reserves memory for the largest image: a small limit lets many wait at the
        // gate.
        let storage = storage::Settings {
            bytes_max: ByteSize::kib(64),
            attempts_max: NonZeroU32::MIN,
            ..storage::Settings::default()
        };
        Self {
            broker,
            settings,
            gates,
            engine,
            storage,
            imaging: imaging::Settings::default(),
            method: method::Settings::default(),
            measures: Vec::new(),
            objects: Vec::new(),
            cache: None,
            shadow: None,
            masks_in_events: false,
            partitions,
        }
    }

    pub(crate) fn with_masks(mut self) -> Self {
        self.masks_in_events = true;
        self
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(self.settings.clone()).await
    }

    pub(crate) async fn start_with(&self, settings: Settings) -> Running {
        metrics();
        tracing_subscriber::fmt()
            .with_env_filter("debug,hyper=warn")
            .with_writer(std::io::stderr)
            .try_init()
            .ok();
        let (health, shutdown) = (Health::starting(), CancellationToken::new());
        let journey = self.journey().await;
        let shadow = self.shadow.clone();
        let worker =
            worker::run_with_shadow(settings, journey, shadow, health.clone(), shutdown.clone());
        Running { worker: tokio::spawn(worker), shutdown, health }
    }

    pub(crate) async fn journey(&self) -> Journey {
        let mut settings = pipeline::Settings::default();
        settings.fetch.images = NonZeroUsize::new(10_000).unwrap();
        self.journey_with(settings).await
    }

    /// Returns a journey with these limits, over the store behind the gates.
    pub(crate) async fn journey_with(&self, mut settings: pipeline::Settings) -> Journey {
        let store = Held { memory: InMemory::new(), gates: Arc::clone(&self.gates) };
        for key in ["a.png", "gated/a.png", "down/a.png", "panics/a.png"] {
            store.memory.put(&Path::from(key), png(24, 16).into()).await.unwrap();
        }
        store.memory.put(&Path::from("large.png"), png(300, 300).into()).await.unwrap();
        for (key, content) in &self.objects {
            store.memory.put(&Path::from(key.as_str()), content.clone().into()).await.unwrap();
        }
        let html = Attributes::from_iter([(Attribute::ContentType, "text/html")]);
        store
            .memory
            .put_opts(&Path::from("html.png"), png(24, 16).into(), html.into())
            .await
            .unwrap();
        store
            .memory
            .put(&Path::from("broken.png"), b"not a picture".to_vec().into())
            .await
            .unwrap();
        let stores =
            Stores::new(&self.storage).unwrap().with_store(Scheme::S3, "photos", Arc::new(store));
        settings.masks_in_events = self.masks_in_events;
        settings.measures = self.measures.iter().map(|loaded| loaded.metric()).collect();
        let journey = Journey::new(JourneyParts {
            settings,
            imaging: self.imaging.clone(),
            method: self.method.clone(),
            stores,
            engine: self.engine.clone(),
            measures: self.measures.clone(),
        })
        .unwrap();
        match &self.cache {
            Some(cache) => journey.with_cache(Arc::clone(cache)),
            None => journey,
        }
    }

    /// Appends records to the input topic. Returns when the broker has acknowledged all of them.
    pub(crate) async fn write(&self, records: Vec<Record>) {
        let (config, topic) = (self.client(), self.settings.input_topic.clone());
        let write = move || {
            let producer: BaseProducer =
                config.clone().set("partitioner", "murmur2_random").create().unwrap();
            for record in records {
                let headers =
                    record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                        headers.insert(Header { key, value: value.as_deref() })
                    });
                let mut outgoing = BaseRecord::<[u8], [u8]>::to(&topic).headers(headers);
                outgoing.partition = record.partition;
                outgoing.key = record.key.as_deref();
                outgoing.payload = record.payload.as_deref();
                producer.send(outgoing).map_err(|(error, _)| error).unwrap();
            }
            producer.flush(PATIENCE).unwrap();
        };
        tokio::task::spawn_blocking(write).await.unwrap();
    }

    /// Writes references with ids `<prefix>-0`, `<prefix>-1`, … to an object of the store.
    pub(crate) async fn refer(&self, prefix: &str, count: usize, object: &str) {
        let records = (0..count).map(|number| reference(&format!("{prefix}-{number}"), object));
        self.write(records.collect()).await;
    }

    /// Settings for another worker of the group. It writes its events to a separate topic, which
    /// shows which worker answered.
    pub(crate) fn with_own_output(&self, topic: &str) -> Settings {
        self.broker.cluster().create_topic(topic, self.partitions, 1).unwrap();
        Settings { output_topic: topic.to_owned(), ..self.settings.clone() }
    }

    /// Reads records of output topics from their beginning until there are `count`.
    pub(crate) async fn read(&self, topics: &[&str], count: usize) -> Vec<OwnedMessage> {
        let config = self.client();
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        let partitions = self.partitions;
        let read = move || {
            let consumer: BaseConsumer = config.clone().set("group.id", "reader").create().unwrap();
            let mut list = TopicPartitionList::new();
            for topic in &topics {
                for partition in 0..partitions {
                    list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
                }
            }
            consumer.assign(&list).unwrap();
            let mut records = Vec::new();
            let deadline = Instant::now() + PATIENCE;
            while records.len() < count {
                assert!(Instant::now() < deadline, "{} of {count} records", records.len());
                if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                    records.push(message.unwrap().detach());
                }
            }
            // Surplus records would arrive soon.
            while let Some(message) = consumer.poll(Duration::from_millis(300)) {
                records.push(message.unwrap().detach());
            }
            records
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// Reads the events as JSON. Their order is not fixed.
    pub(crate) async fn events(&self, count: usize) -> Vec<Value> {
        self.events_of(&[&self.settings.output_topic], count).await
    }

    /// The events of several topics, as JSON, in no order.
    pub(crate) async fn events_of(&self, topics: &[&str], count: usize) -> Vec<Value> {
        let records = self.read(topics, count).await;
        records.iter().map(|r| serde_json::from_slice(r.payload().unwrap()).unwrap()).collect()
    }

    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<OwnedMessage> {
        self.read(&[&self.settings.dead_letter_topic], count).await
    }

    /// The number of records in a topic.
    pub(crate) async fn written(&self, topic: &str) -> i64 {
        let (config, topic, partitions) = (self.client(), topic.to_owned(), self.partitions);
        let ask = move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let end = |number| consumer.fetch_watermarks(&topic, number, PATIENCE).unwrap().1;
            (0..partitions).map(end).sum()
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    /// Returns the committed offset and the end of each partition of the input topic.
    pub(crate) async fn offsets(&self) -> Vec<(i64, i64)> {
        let (config, settings) = (self.client(), self.settings.clone());
        let partitions = self.partitions;
        let read = move || {
            let consumer: BaseConsumer =
                config.clone().set("group.id", &settings.group_id).create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&settings.input_topic, 0, partitions - 1);
            let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
            let offset = |partition| {
                let (_, end) =
                    consumer.fetch_watermarks(&settings.input_topic, partition, PATIENCE).unwrap();
                let element = committed.find_partition(&settings.input_topic, partition).unwrap();
                (element.offset().to_raw().unwrap().max(0), end)
            };
            (0..partitions).map(offset).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// Waits until the committed offsets satisfy the condition.
    pub(crate) async fn until_offsets(&self, condition: impl Fn(&[(i64, i64)]) -> bool) {
        let mut offsets = Vec::new();
        let check = async || {
            offsets = self.offsets().await;
            condition(&offsets)
        };
        let is_met = wait::until_async(check, PATIENCE).await;
        assert!(is_met, "(committed, end) stays {offsets:?}");
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap_servers());
        config
    }
}

impl Running {
    /// Waits until the worker is ready.
    pub(crate) async fn until_ready(&self) {
        until("the worker is ready", || self.health.is_ready()).await;
    }

    /// Waits until the worker is not ready.
    pub(crate) async fn until_unready(&self) {
        until("the worker is not ready", || !self.health.is_ready()).await;
    }

    /// Asks the worker to stop, without waiting.
    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Stops the worker and waits for its end.
    pub(crate) async fn stop(self) -> Summary {
        self.shutdown.cancel();
        self.end().await.unwrap()
    }

    /// Waits for the worker's end.
    pub(crate) async fn end(self) -> Result<Summary, StreamError> {
        tokio::time::timeout(PATIENCE, self.worker).await.expect("the worker ends").unwrap()
    }
}

impl Gates {
    /// Opens the gate for all waiting and all later reads.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until `count` references wait at the gate.
    pub(crate) async fn until_inside(&self, count: usize) {
        let is_inside = || self.inside.load(Ordering::Acquire) >= count;
        until("references wait at the gate", is_inside).await;
    }

    /// Waits until references reached the gate `count` times.
    pub(crate) async fn until_entered(&self, count: usize) {
        until("references reach the gate", || self.entered() >= count).await;
    }

    /// The number of times that a reference reached the gate.
    pub(crate) fn entered(&self) -> usize {
        self.entered.load(Ordering::Acquire)
    }

    /// Returns the number of reads that wait at the gate.
    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::Acquire)
    }

    /// Returns the largest number of reads that waited at the gate at the same time.
    pub(crate) fn inside_max(&self) -> usize {
        self.inside_max.load(Ordering::Acquire)
    }

    async fn pass(&self) {
        self.entered.fetch_add(1, Ordering::AcqRel);
        let inside = self.inside.fetch_add(1, Ordering::AcqRel) + 1;
        self.inside_max.fetch_max(inside, Ordering::AcqRel);
        let _inside = Inside(self);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// Waits until the condition holds; panics if it does not within [`PATIENCE`].
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let mut checks = tokio::time::interval(Duration::from_millis(5));
    let wait = async {
        while !holds() {
            checks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The value of a counter of this process. Tests run side by side: it only proves that an event
/// happened in some of them.
pub(crate) fn counter(name: &str) -> u64 {
    let page = metrics().render();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// The recorder of this process.
pub(crate) fn metrics() -> &'static PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(|| dog_iqa::telemetry::metrics::install(None).unwrap())
}

struct Inside<'a>(&'a Gates);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns a reference to an object of the store.
pub(crate) fn reference(id: &str, object: &str) -> Record {
    let value = json!({"id": id, "uri": format!("s3://photos/{object}")});
    Record {
        key: Some(id.as_bytes().to_vec()),
        payload: Some(value.to_string().into_bytes()),
        ..Record::default()
    }
}

/// Returns the reference ids of events. Panics if two events answer the same reference.
pub(crate) fn ids(events: &[Value]) -> HashSet<String> {
    let ids: HashSet<String> =
        events.iter().map(|event| event["reference"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), events.len(), "no reference is answered twice");
    ids
}

/// Returns the text of a record's last header with this name.
pub(crate) fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let all: Vec<_> = record.headers()?.iter().filter(|header| header.key == name).collect();
    Some(String::from_utf8(all.last()?.value?.to_vec()).unwrap())
}

pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(width, height, Rgb([90, 120, 150]));
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A store in memory behind the gates.
#[derive(Debug)]
struct Held {
    memory: InMemory,
    gates: Arc<Gates>,
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("held")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Held {
    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        match location.parts().next().unwrap().as_ref() {
            "gated" => self.gates.pass().await,
            "panics" => panic!("asked to panic"),
            "down" if !*self.gates.open.borrow() => {
                let source = std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
                return Err(object_store::Error::Generic { store: "held", source });
            }
            _ => {}
        }
        self.memory.get_opts(location, options).await
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.memory.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.memory.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}
