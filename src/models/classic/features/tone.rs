//! Exposure and contrast: the picture's use of the range from black to white.
//!
//! Measured on a bounded number of small means, on which noise and fine texture have little effect.
//! Contrast is the range between percentiles (like Michelson's, but robust to single pixels).
//! Exposure is the position of the percentiles of luma between black and white, in log-odds, which
//! are unbounded on both sides. Clipping is the share of the picture in a flat top, relative to the
//! picture's range, so that a darkened copy has the same.

use image::RgbImage;

use crate::models::classic::features::plane::{luma, spread};

/// Maximum number of samples in each direction.
const SAMPLES_MAX: usize = 64;
/// Side of the square whose mean is one sample, in pixels.
const SAMPLE_PX: usize = 4;
/// Height of the flat top, as a share of the range between its lowest and highest value.
const TOP_SHARE: f32 = 0.03;
/// Keeps log-odds of black and white finite, in grey levels.
const MARGIN: f64 = 4.0;

/// The measures of exposure, contrast and clipping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tone {
    /// 5th, 25th, 50th, 75th and 95th percentile of luma, in log-odds between black and white.
    pub(crate) log_odds: [f64; 5],
    /// Difference of the 1st and the 99th percentile of luma, in grey levels.
    pub(crate) range: f64,
    /// Share of the picture whose brightest channel is at its top.
    pub(crate) clipped: f64,
}

/// Measures the tone of a picture.
pub(crate) fn tone(image: &RgbImage) -> Tone {
    let samples = samples(image);
    let mut lumas: Vec<f32> = samples.iter().copied().map(luma).collect();
    lumas.sort_unstable_by(f32::total_cmp);
    let range = f64::from(percentile(&lumas, 0.99) - percentile(&lumas, 0.01));
    let log_odds = log_odds(|share| percentile(&lumas, share));
    Tone { log_odds, range, clipped: clipped(&samples) }
}

/// Returns the 5th, 25th, 50th, 75th and 95th percentile of luma in log-odds between black and
/// white. `percentile` returns the luma that exceeds a share of all.
pub(crate) fn log_odds(mut percentile: impl FnMut(f64) -> f32) -> [f64; 5] {
    [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| {
        let value = f64::from(percentile(share));
        ((value + MARGIN) / (255.0 + MARGIN - value)).ln()
    })
}

/// Returns the share of the samples whose brightest channel is in the topmost part of the range.
fn clipped(samples: &[[f32; 3]]) -> f64 {
    let sorted = |pick: fn(f32, f32) -> f32| {
        let mut values: Vec<f32> =
            samples.iter().map(|[red, green, blue]| pick(pick(*red, *green), *blue)).collect();
        values.sort_unstable_by(f32::total_cmp);
        values
    };
    let (brightest, darkest) = (sorted(f32::max), sorted(f32::min));
    let (top, bottom) = (percentile(&brightest, 0.998), percentile(&darkest, 0.002));
    let edge = top - TOP_SHARE * (top - bottom) - 0.5;
    let below = brightest.partition_point(|&value| value < edge);
    (brightest.len() - below) as f64 / brightest.len() as f64
}

/// Returns the value that exceeds `share` of the sorted values.
fn percentile(sorted: &[f32], share: f64) -> f32 {
    sorted[(share * (sorted.len() - 1) as f64) as usize]
}

/// Returns the means of small squares on a grid from edge to edge.
fn samples(image: &RgbImage) -> Vec<[f32; 3]> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (sample_width, sample_height) = (width.min(SAMPLE_PX), height.min(SAMPLE_PX));
    let columns = (width / SAMPLE_PX).clamp(1, SAMPLES_MAX);
    let rows = (height / SAMPLE_PX).clamp(1, SAMPLES_MAX);
    let count = (sample_width * sample_height) as f32;
    let mut samples = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let top = spread(row, rows, height - sample_height);
        for column in 0..columns {
            let left = spread(column, columns, width - sample_width);
            let mut sums = [0_u32; 3];
            for y in top..top + sample_height {
                let start = 3 * (y * width + left);
                let (pixels, _) = image.as_raw()[start..][..3 * sample_width].as_chunks::<3>();
                for pixel in pixels {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += u32::from(value);
                    }
                }
            }
            samples.push(sums.map(|sum| sum as f32 / count));
        }
    }
    samples
}
