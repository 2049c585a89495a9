//! A worker's memory is bounded by its configuration: it depends neither on the backlog nor on the
//! images, and stays below the bound that the worker logs.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use crate::bucket::{self, PHOTOS};
use crate::images;
use crate::process::Process;
use crate::run_size::RunSize;
use crate::service_fixture::{PublishedRecord, ServiceFixture, WAIT_MAX};
use crate::services::{Services, announce, services};

/// References that the worker answers before its memory is read.
const WORKED_THROUGH: usize = 1_000;
/// The prefetch is limited to 8 MiB and may exceed that by one fetch per partition. The rest is the
/// allocator's variation. A worker that prefetched the whole backlog would exceed the tolerance:
/// librdkafka needs half a kilobyte per record, 50 MB in total.
const TOLERANCE_KIB: u64 = 32 * 1024;

#[test]
fn memory_does_not_depend_on_the_length_of_the_backlog() {
    let Some(services) = services() else { return };
    let waiting = RunSize::from_environment().pick(100_000, 1_000_000);
    let short_kib = peak_kib(services, "short-backlog", 1_000);
    let long_kib = peak_kib(services, "long-backlog", waiting);
    let figures = format!(
        "memory: {} MiB with 1,000 references waiting, {} MiB with {waiting}",
        short_kib / 1024,
        long_kib / 1024
    );
    announce(&figures);
    assert!(long_kib < short_kib + TOLERANCE_KIB, "{figures}");
}

/// Size of the largest batch that is never refused, decompressed: a third of the limit.
const BATCH_BYTES: usize = 10 << 20;
/// Batches in the topic, 600 MB in all.
const BATCHES: usize = 60;

/// Pixels of the largest image, which is also the worker's limit here.
const PIXELS_MAX: u32 = 12_000_000;

#[test]
fn images_of_every_size_stay_below_the_memory_that_the_worker_logs() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "every-size", 3);
    let keys = put_images_of_every_size(services);
    let count = RunSize::from_environment().pick(60, 600);
    fixture.publish((0..count).map(|number| {
        let uri = bucket::uri(services, &keys[number % keys.len()]);
        let payload = json!({"id": number.to_string(), "uri": uri}).to_string().into_bytes();
        PublishedRecord { payload: Some(payload), ..PublishedRecord::default() }
    }));
    let settings = [
        "pipeline.bytes_budget=96MiB",
        "pipeline.pixels_budget=24_000_000",
        "imaging.pixels_max=12_000_000",
        "imaging.spare_bytes_max=32MiB",
        "kafka.in_flight_bytes_max=4MiB",
    ];
    let worker = fixture.start_worker("the worker", &settings.map(str::to_owned));
    let line = worker.wait_for_line("of memory", WAIT_MAX);
    let logged = serde_json::from_str::<Value>(&line).unwrap()["bytes"].as_u64().unwrap();
    let mut reader = fixture.answer_reader();
    reader.read_until_answered(count, &[&worker]);
    assert_eq!(reader.dead_letters.len(), 0, "dead letters: {:?}", reader.dead_letters.first());
    let (peak_mib, logged_mib) = (high_water_mark_kib(&worker) >> 10, logged >> 20);
    ServiceFixture::stop(worker);
    announce(&format!("memory: {peak_mib} MiB with images up to 12 MP, {logged_mib} MiB logged"));
    assert!(peak_mib < logged_mib, "{peak_mib} MiB, {logged_mib} MiB logged");
}

#[test]
fn batches_that_decompress_to_the_limit_stay_below_the_memory_that_the_worker_logs() {
    let Some(services) = services() else { return };
    let fixture = ServiceFixture::new(services, "decompressed", 3);
    let value = vec![b' '; BATCH_BYTES];
    for number in 0..BATCHES {
        // Each in a batch of its own, of about a kilobyte.
        fixture.publish_large(&number.to_string(), &value);
    }
    let settings = [
        "pipeline.bytes_budget=32MiB",
        "pipeline.pixels_budget=4_000_000",
        "imaging.pixels_max=4_000_000",
        "imaging.spare_bytes_max=1MiB",
        "storage.bytes_max=8MiB",
        "kafka.in_flight_bytes_max=16MiB",
    ];
    let worker = fixture.start_worker("the worker", &settings.map(str::to_owned));
    let line = worker.wait_for_line("of memory", WAIT_MAX);
    let logged = serde_json::from_str::<Value>(&line).unwrap()["bytes"].as_u64().unwrap();
    let mut reader = fixture.answer_reader();
    reader.read_until(&[&worker], |reader| reader.dead_letters.len() == BATCHES);
    let (peak_mib, logged_mib) = (high_water_mark_kib(&worker) >> 10, logged >> 20);
    ServiceFixture::stop(worker);
    announce(&format!("memory: {peak_mib} MiB with packed batches, {logged_mib} MiB logged"));
    assert!(peak_mib < logged_mib, "{peak_mib} MiB, {logged_mib} MiB logged");
}

/// Uploads images in each format, from one pixel to the limit. Noise over a gradient keeps them
/// from being compressed to almost nothing.
fn put_images_of_every_size(services: &Services) -> Vec<String> {
    let mut objects = Vec::new();
    for (width, height) in [(1, 1), (640, 480), (2_000, 1_500), (4_000, PIXELS_MAX / 4_000)] {
        let mut seed = fastrand::Rng::with_seed(u64::from(width));
        let picture = RgbImage::from_fn(width, height, |x, y| {
            Rgb([x, y, x ^ y].map(|base| (base >> 4).to_le_bytes()[0] ^ seed.u8(..16)))
        });
        let formats = [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Bmp];
        for format in formats {
            objects.push((format!("{width}.{format:?}"), images::encode(&picture, format)));
        }
        objects.push((format!("{width}.jpeg"), images::jpeg(&picture, 90)));
        let deep = DynamicImage::from(picture).into_rgba16();
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(deep).write_to(&mut bytes, ImageFormat::Png).unwrap();
        objects.push((format!("{width}-deep.png"), bytes.into_inner()));
    }
    let named = objects.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice()));
    bucket::put_all(services, PHOTOS, named);
    objects.into_iter().map(|(key, _)| key).collect()
}

/// Returns a worker's peak memory after it answered the first references of a backlog.
fn peak_kib(services: &'static Services, name: &'static str, waiting: usize) -> u64 {
    let fixture = ServiceFixture::new(services, name, 3);
    fixture.publish_references(waiting);
    let worker = fixture.start_worker("the worker", &[]);
    fixture.answer_reader().read_until_answered(WORKED_THROUGH, &[&worker]);
    let peak_kib = high_water_mark_kib(&worker);
    worker.kill();
    peak_kib
}

/// Returns `VmHWM`, the peak resident set size of the process.
fn high_water_mark_kib(worker: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
