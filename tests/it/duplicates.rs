//! Perceptual hashes of photos after common changes, and duplicates in events.

use dog_iqa::event::QualityEvent;
use dog_iqa::imaging::{PerceptualHash, Settings, decode};
use dog_iqa::pipeline::DuplicateSettings;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use tempfile::TempDir;

use crate::cli::{command, photo, text};

const PHOTOS: [&str; 7] = [
    "astronaut.jpg",
    "cameraman.jpg",
    "cat.jpg",
    "coffee.jpg",
    "hopper.jpg",
    "raccoon.jpg",
    "rocket.jpg",
];

fn pixels(name: &str) -> RgbImage {
    decoded(&std::fs::read(photo(name)).unwrap())
}

fn decoded(bytes: &[u8]) -> RgbImage {
    RgbImage::clone(decode(bytes, &Settings::default()).unwrap().pixels())
}

fn jpeg(rgb: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    rgb.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).unwrap();
    bytes
}

/// Scales a picture by `numerator / 4`.
fn scaled(rgb: &RgbImage, numerator: u32) -> RgbImage {
    let side = |length: u32| length * numerator / 4;
    imageops::resize(rgb, side(rgb.width()), side(rgb.height()), FilterType::Lanczos3)
}

/// Returns the largest distance of the photos to their changed copies.
fn farthest(change: impl Fn(&RgbImage) -> RgbImage) -> u32 {
    let distance = |name: &&str| {
        let rgb = pixels(name);
        PerceptualHash::of(&rgb).distance(PerceptualHash::of(&change(&rgb)))
    };
    PHOTOS.iter().map(distance).max().unwrap()
}

/// The documented distances. The default of `pipeline.duplicates.distance` is 3.
#[test]
fn copies_in_another_quality_or_size_are_near_and_other_photos_are_far() {
    let default = DuplicateSettings::default().distance;
    for quality in [90, 50, 20] {
        let distance = farthest(|rgb| decoded(&jpeg(rgb, quality)));
        println!("JPEG of quality {quality}: {distance}");
        assert!(distance <= default, "quality {quality}: {distance}");
    }
    for numerator in [8, 2, 1] {
        let distance = farthest(|rgb| scaled(rgb, numerator));
        println!("scaled by {numerator}/4: {distance}");
        assert!(distance <= default, "factor {numerator}/4: {distance}");
    }
    let brighter = farthest(|rgb| imageops::brighten(rgb, 20));
    let small = farthest(|rgb| decoded(&jpeg(&scaled(rgb, 1), 50)));
    let cropped = |rgb: &RgbImage| {
        let (width, height) = (rgb.width() * 9 / 10, rgb.height() * 9 / 10);
        imageops::crop_imm(rgb, rgb.width() / 20, rgb.height() / 20, width, height).to_image()
    };
    let cropped = farthest(cropped);
    println!("brighter by 20: {brighter}; quarter and quality 50: {small}; cropped: {cropped}");
    let hashes: Vec<_> = PHOTOS.iter().map(|name| PerceptualHash::of(&pixels(name))).collect();
    let pairs = hashes
        .iter()
        .enumerate()
        .flat_map(|(index, hash)| hashes[..index].iter().map(move |other| hash.distance(*other)));
    let nearest = pairs.min().unwrap();
    println!("different photos: at least {nearest}");
    assert!(nearest >= 15, "{nearest}");
}

#[test]
fn events_name_the_earlier_image_that_looks_the_same() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let cat = pixels("cat.jpg");
    let images = [
        write("1.jpg", jpeg(&cat, 90)),
        write("2.jpg", jpeg(&scaled(&cat, 2), 60)),
        write("3.jpg", jpeg(&pixels("coffee.jpg"), 90)),
        write("4.jpg", jpeg(&cat, 90)),
    ];
    let cache = folder.path().join("answers").display().to_string();
    // The second run is answered from the cache, and finds the same duplicates.
    for run in 0..2 {
        // One image at a time, in their order.
        let mut command = command(&["score", "--format", "jsonl"]);
        command.args(&images).args(["--set", "pipeline.fetch.images=1"]);
        command.args(["--set", "pipeline.decode.images=1", "--set", "pipeline.score.images=1"]);
        command.args(["--set", "pipeline.segment.images=1", "--set", "pipeline.duplicates.last=9"]);
        command.args(["--set", &format!("cache.path={cache}"), "--set", "pipeline.phash=true"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let events: Vec<QualityEvent> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<_> = events
            .iter()
            .map(|event| event.duplicate_of.as_ref().map(|of| (of.id.as_str(), of.distance <= 3)))
            .collect();
        println!("{run}: {found:?}");
        assert_eq!(
            events.iter().filter(|event| event.cached).count(),
            if run == 0 { 0 } else { 4 }
        );
        assert_eq!(found.iter().filter(|found| found.is_some()).count(), 2);
        assert!(found[2].is_none());
        for event in events {
            assert_eq!(event.image.phash.unwrap().len(), 16);
        }
    }
}
