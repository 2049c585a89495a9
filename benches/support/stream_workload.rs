//! The workload of the stream benchmarks: Kafka clients, references, and a pipeline whose engine
//! does nothing.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use dog_iqa::imaging;
use dog_iqa::method;
use dog_iqa::pipeline::{self, Journey, JourneyParts};
use dog_iqa::storage::{self, Scheme, Stores};
use dog_iqa::stream::Settings;
use image::{ImageFormat, Rgb, RgbImage};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord};
use serde_json::json;

use crate::noop;

/// Number of different images.
pub(crate) const OBJECTS: usize = 50;

pub(crate) fn client(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.bootstrap_servers);
    config
}

pub(crate) fn producer(settings: &Settings) -> BaseProducer {
    let mut config = client(settings);
    config.set("enable.idempotence", "true").set("linger.ms", "5").set("compression.type", "zstd");
    config.create().expect("a producer")
}

pub(crate) fn send(producer: &BaseProducer, topic: &str, key: &[u8], payload: &[u8]) {
    let mut record = BaseRecord::to(topic).key(key).payload(payload);
    while let Err((error, back)) = producer.send(record) {
        assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
        producer.poll(Duration::from_millis(1));
        record = back;
    }
}

/// Returns the reference with this number. The journey may read only the bucket `photos`.
pub(crate) fn reference(number: usize, bucket: &str) -> String {
    let uri = format!("s3://{bucket}/{}.png", number % OBJECTS);
    json!({"id": number.to_string(), "uri": uri}).to_string()
}

/// Returns a small image of one colour.
pub(crate) fn png(shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(32, 32, Rgb([shade, 120, 150]));
    image.write_to(&mut bytes, ImageFormat::Png).expect("a picture");
    bytes.into_inner()
}

/// Returns a journey with a store in memory and an engine that does nothing.
pub(crate) async fn journey(has_reasons: bool) -> Journey {
    let store = Arc::new(InMemory::new());
    for number in 0..OBJECTS {
        let shade = u8::try_from(5 * number).expect("fifty shades");
        let path = Path::from(format!("{number}.png"));
        store.put(&path, png(shade).into()).await.expect("the store is in memory");
    }
    let limits = storage::Settings { bytes_max: ByteSize::mib(1), ..storage::Settings::default() };
    let store: Arc<dyn ObjectStore> = store;
    let stores = Stores::new(&limits).expect("limits").with_store(Scheme::S3, "photos", store);
    journey_with(stores, has_reasons).await
}

/// Returns a journey with these stores and an engine that does nothing.
pub(crate) async fn journey_with(stores: Stores, has_reasons: bool) -> Journey {
    let engine = tokio::task::spawn_blocking(|| noop::engine(&[])).await.expect("an engine");
    let parts = JourneyParts {
        settings: pipeline::Settings { reasons: has_reasons, ..pipeline::Settings::default() },
        imaging: imaging::Settings::default(),
        method: method::Settings::default(),
        stores,
        engine,
        measures: Vec::new(),
    };
    Journey::new(parts).expect("a journey")
}
