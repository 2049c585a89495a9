//! The repetition of pixels after scaling up without interpolation, in octaves.
//!
//! Repeated pixels make whole columns and rows of differences vanish. For each window of
//! differences, the participation ratio `(Σd)² / (n Σd²)` is the share of nonzero differences. It
//! is 1/s after scaling by any factor s, whole or not. (Gallagher, "Detection of linear and cubic
//! interpolation in JPEG compressed images", CRV 2005, reads the period of the same profile.)

use crate::models::classic::features::plane::{Plane, absolute_difference};

/// Differences in a window: few enough that its content is uniform.
const WINDOW: usize = 32;
/// Rows or columns that are summed to one profile.
const STRIP: usize = 128;
/// Minimum number of rows or columns of a profile.
const STRIP_MIN: usize = 8;
/// Keeps the ratio of a single-coloured picture defined, in grey levels.
const ROUNDING: f32 = 0.02;
/// Octaves that content without repetition reaches.
const CONTENT: f64 = 0.15;
/// Softness of the bend at [`CONTENT`].
const BEND: f64 = 0.1;

/// A mean of participation ratios, weighted with their differences.
#[derive(Debug, Clone, Copy, Default)]
struct Alive {
    weighted: f64,
    weight: f64,
}

impl Alive {
    fn add(&mut self, profile: &[f32]) {
        for window in profile.chunks(WINDOW).filter(|window| window.len() >= WINDOW / 2) {
            let count = window.len() as f32;
            let sum = window.iter().map(|value| value + ROUNDING).sum::<f32>();
            let squares = window.iter().map(|value| (value + ROUNDING).powi(2)).sum::<f32>();
            let weight = f64::from(window.iter().sum::<f32>() / count);
            self.weighted += weight * f64::from(sum * sum / (count * squares));
            self.weight += weight;
        }
    }

    fn lost_octaves(self) -> f64 {
        if self.weight > 0.0 { -(self.weighted / self.weight).log2() } else { 0.0 }
    }
}

/// Ratios of columns and rows, summed over tiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repetition {
    columns: Alive,
    rows: Alive,
}

impl Repetition {
    /// Adds a tile's plane.
    pub(crate) fn add(&mut self, plane: &Plane) {
        for top in (0..plane.height).step_by(STRIP) {
            let bottom = (top + STRIP).min(plane.height);
            if bottom - top >= STRIP_MIN {
                self.columns.add(&column_profile(plane, top..bottom));
            }
        }
        for left in (0..plane.width).step_by(STRIP) {
            let right = (left + STRIP).min(plane.width);
            if right - left >= STRIP_MIN {
                self.rows.add(&row_profile(plane, left..right));
            }
        }
    }

    /// Returns the octaves of resolution lost to repetition, in the direction that loses less.
    /// Content may repeat in one direction; a scaled picture repeats in both.
    pub(crate) fn octaves(&self) -> f64 {
        let lost = self.columns.lost_octaves().min(self.rows.lost_octaves());
        BEND * ((lost - CONTENT) / BEND).exp().ln_1p()
    }
}

fn column_profile(plane: &Plane, rows: std::ops::Range<usize>) -> Vec<f32> {
    let count = rows.len() as f32;
    let mut profile = vec![0.0; plane.width - 1];
    for y in rows {
        let row = plane.row(y);
        for (sum, (a, b)) in profile.iter_mut().zip(row.iter().zip(&row[1..])) {
            *sum += (b - a).abs();
        }
    }
    for sum in &mut profile {
        *sum /= count;
    }
    profile
}

fn row_profile(plane: &Plane, columns: std::ops::Range<usize>) -> Vec<f32> {
    let difference = |y: usize| {
        let (upper, lower) = (&plane.row(y)[columns.clone()], &plane.row(y + 1)[columns.clone()]);
        absolute_difference(upper, lower) as f32 / columns.len() as f32
    };
    (0..plane.height - 1).map(difference).collect()
}
