//! All measures of one picture.

use image::RgbImage;

use super::blocking::Blocking;
use super::levels_used::LevelsUsed;
use super::noise::Noise;
use super::plane::{Plane, tiles};
use super::repetition::Repetition;
use super::sharpness::{LEVELS, Sharpness};
use super::tone::tone;

/// What is measured of a picture; 0 is the best of each unless it says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Octaves of fine detail that are missing, noise taken off: blur of every kind.
    pub blur_octaves: f64,
    /// Octaves of resolution that repeated pixels take: scaling up without interpolation.
    pub repetition_octaves: f64,
    /// Variance of the noise in squared grey levels.
    pub noise_variance: f64,
    /// Octaves by which an 8 × 8 grid stands out: JPEG's blocks.
    pub blocking_octaves: f64,
    /// Octaves of grey levels that are missing inside the range: banding.
    pub banding_octaves: f64,
    /// Between the 1st and the 99th percentile of luma, in grey levels: contrast. 255 is the best.
    pub range: f64,
    /// The 5th, 25th, 50th, 75th and 95th percentile of luma in log-odds between black and white:
    /// exposure. Near 0 is mid-grey.
    pub log_odds: [f64; 5],
    /// Share of the picture in the flat top of its range: blown highlights.
    pub clipped: f64,
}

/// Measures a picture. Time is bounded by [`PIXELS_MAX`](super::PIXELS_MAX), not by its size.
pub fn measure(image: &RgbImage) -> Features {
    let mut sharpness = Sharpness::default();
    let mut noise = Noise::default();
    let mut blocking = Blocking::default();
    let mut repetition = Repetition::default();
    let mut levels_used = LevelsUsed::default();
    for tile in tiles(image.width() as usize, image.height() as usize) {
        let plane = Plane::luma(image, &tile);
        let half = plane.halved();
        let quarter = half.halved();
        levels_used.add(image, &tile);
        blocking.add(&plane, &tile);
        repetition.add(&plane);
        noise.add(&plane, &half, &quarter);
        sharpness.add(0, &plane);
        sharpness.add(1, &half);
        let mut smaller = quarter;
        for level in 2..LEVELS {
            sharpness.add(level, &smaller);
            smaller = smaller.halved();
        }
    }
    let (noise_variance, tone) = (noise.variance(), tone(image));
    let longest_px = image.width().max(image.height()) as usize;
    Features {
        blur_octaves: sharpness.lost_octaves(noise_variance, longest_px),
        repetition_octaves: repetition.octaves(),
        noise_variance,
        blocking_octaves: blocking.octaves(),
        banding_octaves: levels_used.lost_octaves(),
        range: tone.range,
        log_odds: tone.log_odds,
        clipped: tone.clipped,
    }
}
