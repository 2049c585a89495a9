//! The measurement of one picture by all features.

use image::RgbImage;

use crate::models::classic::features::blocking::Blocking;
use crate::models::classic::features::levels_used::LevelsUsed;
use crate::models::classic::features::noise::Noise;
use crate::models::classic::features::plane::{Plane, tiles};
use crate::models::classic::features::repetition::Repetition;
use crate::models::classic::features::sharpness::{LEVELS, Sharpness};
use crate::models::classic::features::tone::tone;

/// The measures of a picture. The best value is 0 unless the field says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Missing octaves of fine detail, without noise: blur of every kind.
    pub blur_octaves: f64,
    /// Octaves of resolution lost to repeated pixels: scaling up without interpolation.
    pub repetition_octaves: f64,
    /// Variance of the noise in squared grey levels.
    pub noise_variance: f64,
    /// Octaves by which an 8 × 8 grid stands out: JPEG's blocks.
    pub blocking_octaves: f64,
    /// Missing octaves of grey levels inside the range: banding.
    pub banding_octaves: f64,
    /// Difference of the 1st and the 99th percentile of luma, in grey levels: contrast. The best is
    /// 255.
    pub range: f64,
    /// The 5th, 25th, 50th, 75th and 95th percentile of luma in log-odds between black and white:
    /// exposure. Near 0 is mid-grey.
    pub log_odds: [f64; 5],
    /// Share of the picture at the top of its range: blown highlights.
    pub clipped: f64,
}

/// Measures a picture. The time is bounded by
/// [`PIXELS_MAX`](crate::models::classic::features::PIXELS_MAX), not by the picture's size.
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
