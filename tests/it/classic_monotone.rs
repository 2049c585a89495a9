//! The classic scorer over the sample photos: its score falls as a distortion grows, and a degraded
//! region loses more than its neighbour.

use std::fs;
use std::path::Path;

use dog_iqa::engine::{ClassicScorer, Scorer};
use dog_iqa::imaging::{Crop, CropSource, Filter, Picture, Settings, crop_whole, decode, resize};
use dog_iqa::method::LevelDistribution;
use image::{GenericImage, GenericImageView, RgbImage};
use rayon::prelude::*;

use crate::distort;

const PHOTOS: [&str; 7] =
    ["astronaut", "cameraman", "cat", "coffee", "hopper", "raccoon", "rocket"];
/// Longest side of the tested photos: small enough for a debug build.
const SIDE_PX: u32 = 400;
const STRENGTHS: usize = 5;
/// Upper limit of the mean Spearman correlation between strength and score.
const CORRELATION_MAX: f64 = -0.9;

fn photo(name: &str) -> RgbImage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/photos/{name}.jpg"));
    let picture = decode(&fs::read(path).unwrap(), &Settings::default()).unwrap();
    let (width, height) = (picture.width(), picture.height());
    let longest = width.max(height);
    let side = |length: u32| (length * SIDE_PX.min(longest)).div_ceil(longest);
    resize(picture.pixels(), side(width), side(height), Filter::Lanczos)
}

fn rate(image: &RgbImage) -> LevelDistribution {
    let scorer = ClassicScorer::new(7);
    let input = scorer.prepare(&crop_whole(&Picture::from_rgb(image.clone()))).unwrap();
    scorer.rate(&[input]).unwrap().remove(0)
}

/// Returns Spearman's correlation of `scores` with their position. Equal scores share their ranks.
fn spearman(scores: &[f64]) -> f64 {
    let positions: Vec<f64> = (0..scores.len()).map(|position| position as f64).collect();
    dog_iqa::method::agreement::srcc(scores, &positions).unwrap_or(0.0)
}

fn check(distortion: &str, degrade: impl Fn(&RgbImage, usize) -> RgbImage + Sync) {
    let correlations: Vec<(f64, Vec<f64>)> = PHOTOS
        .par_iter()
        .map(|name| {
            let image = photo(name);
            let expected = |strength| rate(&degrade(&image, strength)).expected();
            let scores: Vec<f64> = (0..STRENGTHS).map(expected).collect();
            (spearman(&scores), scores)
        })
        .collect();
    let mean = correlations.iter().map(|(correlation, _)| correlation).sum::<f64>() / 7.0;
    assert!(mean <= CORRELATION_MAX, "{distortion}: mean {mean:.2} of {correlations:.2?}");
}

#[test]
fn scores_fall_with_blur() {
    check("Gaussian blur", |image, strength| {
        distort::gaussian_blur(image, [0.7, 1.2, 2.0, 3.5, 6.0][strength])
    });
    check("motion blur", |image, strength| {
        distort::motion_blur(image, [3.0, 5.0, 9.0, 15.0, 25.0][strength], 0.6)
    });
}

#[test]
fn scores_fall_with_noise() {
    check("noise", |image, strength| distort::noise(image, [3.0, 7.0, 15.0, 30.0, 60.0][strength]));
}

#[test]
fn scores_fall_with_compression() {
    check("JPEG", |image, strength| distort::jpeg(image, [85, 55, 30, 15, 6][strength]));
}

#[test]
fn scores_fall_with_exposure_and_contrast() {
    check("under-exposure", |image, strength| {
        distort::exposed(image, [0.8, 0.6, 0.45, 0.3, 0.15][strength])
    });
    check("over-exposure", |image, strength| {
        distort::exposed(image, [1.2, 1.5, 1.9, 2.5, 3.5][strength])
    });
    check("low contrast", |image, strength| {
        distort::low_contrast(image, [0.8, 0.6, 0.42, 0.27, 0.13][strength])
    });
}

#[test]
fn scores_fall_with_rescaling() {
    const FACTORS: [f32; STRENGTHS] = [1.5, 2.0, 3.0, 4.5, 8.0];
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        check("rescaling", |image, strength| distort::rescaled(image, FACTORS[strength], filter));
    }
    check("repeated pixels", |image, strength| distort::repeated(image, FACTORS[strength]));
}

#[test]
fn pristine_photos_rate_high_and_ruined_ones_low() {
    for name in PHOTOS {
        let image = photo(name);
        let pristine = rate(&image).expected();
        // The photo of a rocket launch at night is dark; the others are good photos.
        assert!(pristine >= if name == "rocket" { 3.5 } else { 4.5 }, "{name}: {pristine}");
        let ruined = [
            distort::gaussian_blur(&image, 8.0),
            distort::noise(&image, 80.0),
            distort::jpeg(&image, 3),
            distort::exposed(&image, 0.1),
        ];
        for image in ruined {
            let ruined = rate(&image).expected();
            assert!(ruined <= 3.0, "{name}: {ruined}");
        }
    }
}

/// Only the left half is degraded. The halves are rated separately, as regions are.
#[test]
fn a_degraded_half_loses_more_than_the_other_half() {
    let half = |image: &RgbImage, index: u32| {
        let width = image.width() / 2;
        let pixels = image.view(index * width, 0, width, image.height()).to_image();
        let crop = Crop {
            source: CropSource::Region(index as usize),
            pixels: pixels.into(),
            picture: None,
        };
        let scorer = ClassicScorer::new(7);
        let input = scorer.prepare(&crop).unwrap();
        scorer.rate(&[input]).unwrap().remove(0).expected()
    };
    let distortions: [fn(&RgbImage) -> RgbImage; 4] = [
        |image| distort::gaussian_blur(image, 2.5),
        |image| distort::noise(image, 25.0),
        |image| distort::jpeg(image, 12),
        |image| distort::exposed(image, 0.4),
    ];
    for name in PHOTOS {
        let image = photo(name);
        for degrade in distortions {
            let left = image.view(0, 0, image.width() / 2, image.height()).to_image();
            let mut changed = image.clone();
            changed.copy_from(&degrade(&left), 0, 0).unwrap();
            let lost = [0, 1].map(|index| half(&image, index) - half(&changed, index));
            assert!(lost[0] > lost[1], "{name}: {lost:?}");
        }
    }
}

#[test]
fn degenerate_pictures_are_rated() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut images: Vec<RgbImage> = [(1, 1), (2, 3), (3, 1), (7, 7), (8, 15), (16, 16), (1, 500)]
        .map(|(width, height)| RgbImage::from_pixel(width, height, image::Rgb([90, 120, 30])))
        .into();
    images.push(RgbImage::new(300, 200));
    images.push(RgbImage::from_pixel(300, 200, image::Rgb([255; 3])));
    images.push(RgbImage::from_fn(300, 200, |_, _| {
        image::Rgb(std::array::from_fn(|_| random.u8(..)))
    }));
    for image in images {
        let (rating, again) = (rate(&image), rate(&image));
        assert_eq!(rating, again);
        assert!((1.0..=7.0).contains(&rating.expected()), "{:?}", image.dimensions());
    }
}
