//! Images of odd sizes with flat, extreme and periodic pixels for each metric, and damaged
//! parameter files.
#![expect(clippy::cast_possible_truncation, reason = "values of pixels are below 256")]

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use dog_iqa::metrics::Metric;
use fastrand::Rng;
use image::{Rgb, RgbImage};

use super::campaign::{Bytes, Target, run};
use super::metric::{self, Measurement};
use super::mutate::mutate;

/// Sides around the limits of the metrics and of their blocks.
const SIDES: [u32; 16] = [1, 2, 3, 5, 15, 16, 17, 31, 33, 48, 95, 96, 97, 131, 192, 200];

impl Bytes for Measurement {
    fn bytes(&self) -> Cow<'_, [u8]> {
        let (width, height) = self.image.dimensions();
        let mut bytes = format!("{} {width}x{height}\n", self.metric).into_bytes();
        bytes.extend_from_slice(self.image.as_raw());
        bytes.extend(self.files.iter().flatten());
        Cow::Owned(bytes)
    }
}

#[test]
fn hostile_niqe() {
    measure_images(Metric::Niqe, "hostile_niqe");
}

#[test]
fn hostile_brisque() {
    measure_images(Metric::Brisque, "hostile_brisque");
}

#[test]
fn hostile_biqi() {
    measure_images(Metric::Biqi, "hostile_biqi");
}

#[test]
fn hostile_bliinds2() {
    measure_images(Metric::Bliinds2, "hostile_bliinds2");
}

#[test]
fn hostile_piqe() {
    measure_images(Metric::Piqe, "hostile_piqe");
}

/// Measures images with intact parameters.
fn measure_images(metric: Metric, name: &str) {
    let files = files(metric);
    run(&Target {
        name,
        cost: 100,
        generate: &|rng: &mut Rng| Measurement { metric, image: image(rng), files: files.clone() },
        check: &metric::check,
        memory_max: &metric::memory_max,
    });
}

#[test]
fn hostile_parameters() {
    let metrics = [Metric::Niqe, Metric::Brisque, Metric::Biqi, Metric::Bliinds2];
    let intact = metrics.map(|metric| (metric, files(metric)));
    let image = RgbImage::from_fn(97, 200, |x, y| {
        Rgb([(x * y % 251) as u8, (x * 7 % 256) as u8, (y * y % 256) as u8])
    });
    run(&Target {
        name: "hostile_parameters",
        cost: 50,
        generate: &|rng: &mut Rng| {
            let (metric, mut files) = intact[rng.usize(..intact.len())].clone();
            let damaged = rng.usize(..files.len());
            let donor = files[rng.usize(..files.len())].clone();
            mutate(rng, &mut files[damaged], &donor);
            Measurement { metric, image: image.clone(), files }
        },
        check: &metric::check,
        memory_max: &metric::memory_max,
    });
}

fn files(metric: Metric) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/metrics/parameters");
    let read = |name: &&str| fs::read(folder.join(metric.name()).join(name)).unwrap();
    metric.parameter_files().iter().map(read).collect()
}

fn image(rng: &mut Rng) -> RgbImage {
    let side = |rng: &mut Rng| {
        if rng.bool() { SIDES[rng.usize(..SIDES.len())] } else { rng.u32(1..210) }
    };
    let (width, height) = (side(rng), side(rng));
    let (first, second) = (rng.u8(..), if rng.bool() { 255 } else { rng.u8(..) });
    let period = rng.u32(1..20);
    let kind = rng.u8(..7);
    let special = (rng.u32(..width), rng.u32(..height));
    RgbImage::from_fn(width, height, |x, y| match kind {
        0 => Rgb([first; 3]),
        1 => Rgb([if (x, y) == special { second } else { first }; 3]),
        2 => Rgb([if rng.bool() { 0 } else { 255 }; 3]),
        3 => Rgb([rng.u8(..), rng.u8(..), rng.u8(..)]),
        4 => Rgb([if (x / period).is_multiple_of(2) { first } else { second }; 3]),
        5 => Rgb([if (x / period + y / period).is_multiple_of(2) { first } else { second }; 3]),
        _ => Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, first]),
    })
}
