//! Each kind of bad input between good references: the worker answers all of them and continues.

use std::net::TcpListener;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use crate::bucket::{self, PHOTOS, PRIVATE};
use crate::http;
use crate::images;
use crate::raw_produce::{self, RawRecord};
use crate::service_fixture::{PublishedRecord, ServiceFixture, headers_of_every_kind};
use crate::services::{Services, services};
use crate::topic_reader::Answer;

/// A reference that must become a dead letter, with the code of the error.
struct Bad {
    /// The record's key, which identifies its dead letter.
    name: &'static str,
    payload: Vec<u8>,
    code: &'static str,
}

const BAD_HEADER_NAME: &[u8] = b"x-\xFF\xFE";

#[test]
fn each_bad_reference_becomes_a_dead_letter_with_its_code_and_the_worker_continues() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "bad-input", 1);
    let outside = fixture.folder().join("outside.jpg");
    let root = fixture.folder().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(&outside, images::jpeg(&patch(), 90)).unwrap();
    put_objects(services);
    let stalling = StallingServer::start();

    let bad = bad_references(services, &stalling, &root);
    for (number, bad) in bad.iter().enumerate() {
        fixture.publish([bad_record(bad), good_record(services, number)].into_iter());
    }
    fixture.publish([tombstone()].into_iter());
    let poison = good_payload(services, "poison");
    let record = RawRecord { key: b"poison", value: &poison, header: (BAD_HEADER_NAME, b"noir") };
    raw_produce::produce(services.bootstrap_servers(), &fixture.input(), &record);
    let scored = unusual_but_valid_references(services);
    fixture.publish(scored.iter().map(|(id, uri)| reference_record(id, uri)));

    let worker = fixture.start_worker("the worker", &worker_settings(&stalling, &root));
    ServiceFixture::wait_until_ready(&worker);
    let mut reader = fixture.answer_reader();
    let (events, dead_letters) = (bad.len() + scored.len(), bad.len() + 1);
    reader.read_until(&[&worker], |reader| {
        reader.events.len() >= events && reader.dead_letters.len() >= dead_letters
    });

    let address = http::served_address(&worker);
    assert_eq!(http::get(&address, "/healthz").0, 200);
    assert_eq!(http::get(&address, "/readyz").0, 200);
    let (status, metrics) = http::get(&address, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("dogiqa_tombstones_skipped_total 1"), "{metrics}");
    let published = "dogiqa_dead_letters_published_total{code=\"fetch.not_found\"} 1";
    assert!(metrics.contains(published), "{metrics}");

    ServiceFixture::stop(worker);
    reader.read_to_end();
    assert_eq!((reader.event_count(), reader.dead_letters.len()), (events, dead_letters));
    for bad in &bad {
        let letter = dead_letter(&reader.dead_letters, bad.name);
        assert_eq!(letter.header("dogiqa.error.code"), Some(bad.code), "the code of {}", bad.name);
        assert_has_original_record(letter, &bad_record(bad));
        assert_has_origin_headers(letter, &fixture.input());
    }
    assert_poison_header_is_unchanged(
        &fixture,
        dead_letter(&reader.dead_letters, "poison"),
        &poison,
    );
    let event = |id: &str| reader.events[id][0].json();
    assert_scored_by_first_frame(&event("animated.gif"));
    assert_scored_as_a_whole(&event("one-pixel.png"));
    fixture.assert_everything_is_committed();
}

fn bad_references(services: &Services, stalling: &StallingServer, root: &Path) -> Vec<Bad> {
    let bad = |name, code, payload: Vec<u8>| Bad { name, payload, code };
    let at = |name, code, uri: &str| bad(name, code, json!({"uri": uri}).to_string().into_bytes());
    let object = |name, code| at(name, code, &bucket::uri(services, name));
    let private = format!("s3://{}/private.jpg", services.value(PRIVATE));
    let parent_folder = format!("file://{}/../outside.jpg", root.display());
    let swapped = json!({
        "uri": bucket::uri(services, "patch.jpg"),
        "sha256": images::sha256(b"another image"),
    });
    vec![
        bad("not JSON", "reference.invalid_json", b"{\"uri\": ".to_vec()),
        bad("no uri", "reference.missing_uri", b"{\"id\": \"a\"}".to_vec()),
        at("unknown scheme", "uri.unsupported_scheme", "ftp://example.com/a.jpg"),
        at("forbidden bucket", "uri.forbidden_bucket", "s3://another-bucket/a.jpg"),
        at("outside the roots", "uri.outside_roots", "file:///etc/hostname"),
        at("parent folder of a root", "uri.outside_roots", &parent_folder),
        object("absent.jpg", "fetch.not_found"),
        at("forbidden object", "fetch.forbidden", &private),
        at("stalling server", "fetch.timeout", &stalling.uri()),
        object("truncated.jpg", "decode.truncated"),
        object("empty.jpg", "decode.empty"),
        object("page.jpg", "decode.unsupported_format"),
        object("giant.png", "decode.too_large"),
        bad("another image", "fetch.sha256_mismatch", swapped.to_string().into_bytes()),
        at("key above its bucket", "fetch.unsupported_key", &bucket::uri(services, "../b.jpg")),
    ]
}

/// Uploads invalid images, and valid ones that are unusual.
fn put_objects(services: &Services) {
    let whole = images::jpeg(&patch(), 90);
    let one_pixel = RgbImage::from_pixel(1, 1, Rgb([90, 120, 30]));
    let objects = [
        ("patch.jpg", whole.clone()),
        ("truncated.jpg", whole[..whole.len() / 2].to_vec()),
        ("empty.jpg", Vec::new()),
        ("page.jpg", b"<!DOCTYPE html><html><body>Not found</body></html>".to_vec()),
        ("giant.png", images::giant_png()),
        ("animated.gif", images::animated_gif()),
        ("one-pixel.png", images::encode(&one_pixel, ImageFormat::Png)),
    ];
    bucket::put_all(services, PHOTOS, objects.iter().map(|(key, bytes)| (*key, bytes.as_slice())));
    bucket::put_all(services, PRIVATE, std::iter::once(("private.jpg", whole.as_slice())));
}

fn patch() -> RgbImage {
    let shade = |x: u32, y: u32| u8::try_from((x * 5 + y * 3) % 256).unwrap();
    RgbImage::from_fn(64, 48, |x, y| Rgb([shade(x, y), shade(y, x), 128]))
}

fn unusual_but_valid_references(services: &Services) -> [(&'static str, String); 2] {
    ["animated.gif", "one-pixel.png"].map(|key| (key, bucket::uri(services, key)))
}

/// Returns settings with short timeouts, so that the stalling server does not delay the test, and
/// without compression, so that the test can find the bytes of a header in the broker's log.
fn worker_settings(stalling: &StallingServer, root: &Path) -> Vec<String> {
    vec![
        format!("storage.file_roots=[\"{}\"]", root.display()),
        format!("storage.allow_private_hosts=[\"{}\"]", stalling.address),
        // A bucket that denies every object holds its references.
        "kafka.outage_hold_max=1s".to_owned(),
        "storage.allow_http=true".to_owned(),
        "storage.read_timeout=1s".to_owned(),
        "storage.attempts_max=2".to_owned(),
        "kafka.properties.compression_type=none".to_owned(),
    ]
}

fn reference_record(id: &str, uri: &str) -> PublishedRecord {
    let payload = json!({"id": id, "uri": uri}).to_string().into_bytes();
    PublishedRecord { key: Some(id.into()), payload: Some(payload), ..PublishedRecord::default() }
}

fn good_record(services: &Services, number: usize) -> PublishedRecord {
    reference_record(&format!("good-{number}"), &bucket::uri(services, "patch.jpg"))
}

fn good_payload(services: &Services, id: &str) -> Vec<u8> {
    reference_record(id, &bucket::uri(services, "patch.jpg")).payload.unwrap_or_default()
}

fn bad_record(bad: &Bad) -> PublishedRecord {
    let headers = headers_of_every_kind();
    PublishedRecord { key: Some(bad.name.into()), headers, payload: Some(bad.payload.clone()) }
}

fn tombstone() -> PublishedRecord {
    PublishedRecord { key: Some(b"tombstone".to_vec()), ..PublishedRecord::default() }
}

fn dead_letter<'a>(letters: &'a [Answer], key: &str) -> &'a Answer {
    let letter = letters.iter().find(|letter| letter.key.as_deref() == Some(key.as_bytes()));
    letter.unwrap_or_else(|| panic!("no dead letter with the key {key}"))
}

fn assert_has_original_record(letter: &Answer, record: &PublishedRecord) {
    assert_eq!(letter.key, record.key);
    assert_eq!(Some(&letter.payload), record.payload.as_ref());
    assert_eq!(letter.headers[..record.headers.len()], record.headers, "the original headers");
    let mut added = letter.headers[record.headers.len()..].iter();
    assert!(added.all(|(name, _)| name.starts_with("dogiqa.error.")), "{:?}", letter.headers);
}

fn assert_has_origin_headers(letter: &Answer, topic: &str) {
    let number = |name: &str| letter.header(name).and_then(|text| text.parse::<i64>().ok());
    assert_eq!(letter.header("dogiqa.error.original.topic"), Some(topic));
    assert_eq!(number("dogiqa.error.original.partition"), Some(0));
    for name in ["original.offset", "original.timestamp", "attempts"] {
        assert!(number(&format!("dogiqa.error.{name}")).is_some(), "{name} of {letter:?}");
    }
    for name in ["message", "stage", "time", "group", "version"] {
        assert!(letter.header(&format!("dogiqa.error.{name}")).is_some(), "{name} of {letter:?}");
    }
}

/// Looks for the header in the broker's log, because the client library cannot read its name.
fn assert_poison_header_is_unchanged(fixture: &ServiceFixture, letter: &Answer, payload: &[u8]) {
    assert_eq!(letter.header("dogiqa.error.code"), Some("reference.invalid_header"));
    assert_eq!(letter.payload, payload);
    let folder = format!("node-1/data/{}-0", fixture.dead_letters());
    let folder = Path::new(fixture.services.value("KAFKA_DIR")).join(folder);
    let segment = std::fs::read(folder.join("00000000000000000000.log")).unwrap();
    let header = raw_produce::encoded_header(BAD_HEADER_NAME, b"noir");
    let is_unchanged = segment.windows(header.len()).any(|window| window == header);
    assert!(is_unchanged, "the dead letter's header is not the original one");
}

fn assert_scored_by_first_frame(event: &Value) {
    assert_eq!(event["image"]["format"], "gif");
    assert_eq!((&event["image"]["width"], &event["image"]["height"]), (&json!(32), &json!(24)));
    assert!(event["score"].is_number());
}

fn assert_scored_as_a_whole(event: &Value) {
    assert_eq!(event["objects"], json!([]));
    assert!(event["score"].is_number() && event["global"]["level"].is_number(), "{event}");
}

/// Accepts connections and never sends a byte.
struct StallingServer {
    address: String,
}

impl StallingServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let connections: Vec<_> = listener.incoming().take(1_000).collect();
            drop(connections);
        });
        Self { address }
    }

    fn uri(&self) -> String {
        format!("http://{}/a.jpg", self.address)
    }
}
