//! The traces of enlargement by interpolation.
//!
//! Interpolated pixels are weighted means of their neighbours, with weights that repeat with the
//! factor's period. The differences of neighbouring pixels therefore repeat, too, and the
//! spectrum of their mean has a peak (Gallagher, "Detection of linear and cubic interpolation in
//! JPEG compressed images", CRV 2005; Kirchner, "Fast and reliable resampling detection by
//! spectral analysis of fixed linear predictor residue", MM&Sec 2008). Even orders of difference
//! show every factor but two, whose phases mirror each other; odd orders show that one.
//! Differences are clipped, so that a few strong edges do not hide the rest. A peak must be in
//! rows and columns.
//!
//! JPEG's blocks have the period 8, so their multiples of 1/8 are compared with each other.

use std::f32::consts::{PI, TAU};

use image::RgbImage;

use crate::models::classic::features::{Plane, Tile, luma};

/// Maximum length of a profile in pixels.
const LENGTH_MAX: usize = 1024;
/// Minimum length of a profile in pixels: shorter ones resolve no period.
const LENGTH_MIN: usize = 64;
/// Maximum number of rows or columns in a profile.
const LINES_MAX: usize = 256;
/// Maximum difference in grey levels that counts.
const CLIP: f32 = 6.0;
/// Frequencies of the searched spectrum, in cycles per pixel. Content is strong below.
const SEARCHED: std::ops::Range<f32> = 0.22..0.488;
/// Number of frequencies in the searched range.
const STEPS: usize = 320;
/// Number of frequencies that are measured together.
const TOGETHER: usize = 8;
/// Distance of a factor of 2 or 4 in whole pixels from the exact one, in cycles per pixel.
const NEAR: f32 = 0.004;
/// Half the width of the gap around JPEG's frequencies.
const GAP: f32 = 0.012;
/// Ratio of a peak to the median that content does not reach: the highest of clean photos, outside
/// of those that a camera enlarged, is 20.
const PEAK: f32 = 25.0;
/// Ratio of the frequencies 1/4 and 1/2 to the other multiples of 1/8 that JPEG does not reach. The
/// highest of clean photos is 2.
const COMB: f32 = 6.0;

/// The lines along one axis, row by row: a profile runs along them.
struct Lines {
    length: usize,
    values: Vec<f32>,
}

/// Returns the ratio of the strongest trace of interpolation to the one that content may leave: 1
/// or more is interpolated. Returns 0 for pictures that are too small to tell.
pub(crate) fn interpolation(image: &RgbImage) -> f64 {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width.min(height) < LENGTH_MIN {
        return 0.0;
    }
    let lines = [rows(image), columns(image)];
    let profiles = |order: usize| lines.each_ref().map(|lines| profile(lines, order));
    let even = [2, 4].map(|order| {
        let profiles = profiles(order);
        let searched = (0..STEPS)
            .map(|step| {
                SEARCHED.start + (SEARCHED.end - SEARCHED.start) * step as f32 / STEPS as f32
            })
            .filter(|&frequency| (frequency - 0.25).abs() > GAP && (frequency - 0.375).abs() > GAP);
        let mut spectrum = powers(&profiles, &searched.collect::<Vec<_>>());
        let [eighth, three_eighths, exact_quarter] = at(&profiles, [0.125, 0.375, 0.25]);
        let quarter = highest(&powers(&profiles, &near(0.25)));
        let peak = highest(&spectrum);
        let at_edges = highest(&powers(&profiles, &gap_edges(0.375)));
        let middle = spectrum.len() / 2;
        let (_, median, _) = spectrum.select_nth_unstable_by(middle, f32::total_cmp);
        let median = median.max(f32::MIN_POSITIVE);
        // A block's border has two second differences, which weakens the higher multiples.
        let blocks = eighth.max(2.0 * three_eighths).max(median);
        // A factor of 2.7 is next to JPEG's third multiple.
        let comb = eighth.max(2.0 * exact_quarter).max(median);
        let at_edges = (at_edges / median / PEAK).min(at_edges / comb / COMB);
        (peak / median / PEAK).max(quarter / blocks / COMB).max(at_edges)
    });
    let odd = [1, 3].map(|order| {
        let profiles = profiles(order);
        let around: [f32; 16] =
            at(&profiles, std::array::from_fn(|step| 0.45 + 0.0025 * step as f32));
        let around = around.into_iter().sum::<f32>() / 16.0;
        let [eighth, three_eighths] = at(&profiles, [0.125, 0.375]);
        let blocks = eighth.max(three_eighths).max(around).max(f32::MIN_POSITIVE);
        highest(&powers(&profiles, &near(0.5))) / blocks / COMB
    });
    f64::from(even.into_iter().chain(odd).fold(0.0, f32::max))
}

/// Returns frequencies next to one of 1/4 or 1/2: rounded to whole pixels, a factor of 2 or 4 is
/// not exact.
fn near(frequency: f32) -> [f32; 13] {
    std::array::from_fn(|step| frequency + NEAR * (step as f32 / 6.0 - 1.0))
}

/// Returns the frequencies in the gap around one of JPEG, but not those that its own peak reaches.
fn gap_edges(frequency: f32) -> [f32; 12] {
    std::array::from_fn(|step| {
        let distance = GAP - 0.0015 * (step / 2) as f32;
        if step % 2 == 0 { frequency + distance } else { frequency - distance }
    })
}

fn highest(powers: &[f32]) -> f32 {
    powers.iter().copied().fold(0.0, f32::max)
}

/// Returns the smaller power of both axes at each frequency.
fn at<const N: usize>(profiles: &[Vec<f32>; 2], frequencies: [f32; N]) -> [f32; N] {
    let powers = powers(profiles, &frequencies);
    std::array::from_fn(|index| powers[index])
}

fn powers(profiles: &[Vec<f32>; 2], frequencies: &[f32]) -> Vec<f32> {
    let mut powers = Vec::with_capacity(frequencies.len());
    for group in frequencies.chunks(TOGETHER) {
        let group: [f32; TOGETHER] = std::array::from_fn(|lane| group[lane.min(group.len() - 1)]);
        let [across, down] = profiles.each_ref().map(|profile| power(profile, group));
        powers.extend(across.into_iter().zip(down).map(|(across, down)| across.min(down)));
    }
    powers.truncate(frequencies.len());
    powers
}

/// Returns the power of a profile at frequencies in cycles per pixel (Goertzel's recurrence, each
/// step of which waits for the one before).
fn power(profile: &[f32], frequencies: [f32; TOGETHER]) -> [f32; TOGETHER] {
    let turns = frequencies.map(|frequency| f64::from(2.0 * (TAU * frequency).cos()));
    let (mut last, mut before) = ([0.0_f64; TOGETHER], [0.0_f64; TOGETHER]);
    for &value in profile {
        let value = f64::from(value);
        for lane in 0..TOGETHER {
            let next = value + turns[lane] * last[lane] - before[lane];
            before[lane] = last[lane];
            last[lane] = next;
        }
    }
    std::array::from_fn(|lane| {
        let (turn, last, before) = (turns[lane], last[lane], before[lane]);
        (last * last + before * before - turn * last * before).max(0.0) as f32
    })
}

/// Returns the mean clipped difference at each position, relative to its surroundings and windowed.
fn profile(lines: &Lines, order: usize) -> Vec<f32> {
    let length = lines.length - order;
    let mut sums = vec![0.0_f32; length];
    let mut differences = vec![0.0_f32; lines.length];
    for line in lines.values.chunks_exact(lines.length) {
        differences.copy_from_slice(line);
        for _ in 0..order {
            for x in 1..lines.length {
                differences[x - 1] = differences[x] - differences[x - 1];
            }
        }
        for (sum, difference) in sums.iter_mut().zip(&differences) {
            *sum += difference.abs().min(CLIP);
        }
    }
    let count = (lines.values.len() / lines.length) as f32;
    for sum in &mut sums {
        *sum /= count;
    }
    let at = |x: usize| {
        let (first, last) = (x.saturating_sub(4), (x + 5).min(length));
        let mean = sums[first..last].iter().sum::<f32>() / (last - first) as f32;
        let window = (PI * x as f32 / (length - 1) as f32).sin().powi(2);
        (sums[x] / (mean + 0.05) - 1.0) * window
    };
    (0..length).map(at).collect()
}

/// Returns the start and the length of the middle part of an axis.
fn middle(side: usize) -> (usize, usize) {
    let length = side.min(LENGTH_MAX);
    ((side - length) / 2, length)
}

fn rows(image: &RgbImage) -> Lines {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (x, length) = middle(width);
    let mut values = Vec::with_capacity(length * height.min(LINES_MAX));
    for y in (0..height).step_by(height.div_ceil(LINES_MAX)) {
        let tile = Tile { x, y, width: length, height: 1 };
        values.extend_from_slice(Plane::luma(image, &tile).row(0));
    }
    Lines { length, values }
}

fn columns(image: &RgbImage) -> Lines {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (top, length) = middle(height);
    let step = width.div_ceil(LINES_MAX);
    let mut values = vec![0.0; width.div_ceil(step) * length];
    for y in 0..length {
        let tile = Tile { x: 0, y: top + y, width, height: 1 };
        let row = tile.rows(image).next().unwrap_or_default();
        for (column, pixel) in row.as_chunks::<3>().0.iter().step_by(step).enumerate() {
            values[column * length + y] = luma(pixel.map(f32::from));
        }
    }
    Lines { length, values }
}
