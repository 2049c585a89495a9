//! PIQE: the share of visibly distorted blocks, weighted with their variance. MATLAB's reading;
//! it needs no parameters.

use crate::metrics::local_contrast::{Border, each_contrast_row};
use crate::metrics::plane::Plane;
use crate::metrics::row_window::mirrored;

/// Side of a block in pixels.
const BLOCK: usize = 16;
/// Least variance of an active block.
const ACTIVE_FROM: f64 = 0.1;
/// Pixels of a part of an edge.
const EDGE_PART: usize = 6;
/// Standard deviation below which a part of an edge is impaired.
const IMPAIRED_BELOW: f64 = 0.1;
/// Columns in the centre of a block, and those that are left out of its surround.
const CENTRE: [usize; 2] = [7, 8];
const NOT_SURROUND: [usize; 2] = [7, 9];

/// Score and block counts of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Piqe {
    pub(crate) score: f64,
    pub(crate) active: usize,
    /// Active blocks with an impaired edge.
    pub(crate) impaired: usize,
    /// Active blocks with noise.
    pub(crate) noisy: usize,
}

/// Measures a plane; a flat or black one has the worst score, 100.
pub(crate) fn piqe(grey: &Plane<u8>) -> Piqe {
    let plane = normalised(grey);
    let mut strip = Vec::with_capacity(plane.width() * BLOCK);
    let mut result = Piqe { score: 0.0, active: 0, impaired: 0, noisy: 0 };
    let mut distortion = 0.0;
    each_contrast_row(&plane, Border::Repeated, |row| {
        strip.extend_from_slice(row.contrast);
        if (row.index + 1).is_multiple_of(BLOCK) {
            for left in (0..plane.width()).step_by(BLOCK) {
                let rows = std::array::from_fn(|y| {
                    std::array::from_fn(|x| strip[y * plane.width() + left + x])
                });
                let block = Block { rows };
                let variance = block.variance();
                if variance <= ACTIVE_FROM {
                    continue;
                }
                result.active += 1;
                if block.is_impaired() {
                    result.impaired += 1;
                    distortion += 1.0 - variance;
                }
                if block.is_noisy(variance.sqrt()) {
                    result.noisy += 1;
                    distortion += variance;
                }
            }
            strip.clear();
        }
    });
    result.score = 100.0 * (distortion + 1.0) / (result.active as f64 + 1.0);
    result
}

/// Returns the plane stretched to 255, and mirrored at the right and bottom to whole blocks.
fn normalised(grey: &Plane<u8>) -> Plane<u8> {
    let (width, height) = (grey.width(), grey.height());
    let max = f64::from(grey.samples().iter().copied().max().unwrap_or_default().max(1));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is 0.5 to 255.5"
    )]
    let stretched: [u8; 256] =
        std::array::from_fn(|value| (255.0 * (value as f64 / max) + 0.5) as u8);
    let columns = width.next_multiple_of(BLOCK).cast_signed();
    let samples = (0..height.next_multiple_of(BLOCK).cast_signed()).flat_map(|y| {
        let row = grey.row(mirrored(y, height));
        (0..columns).map(move |x| row[mirrored(x, width)])
    });
    let samples = samples.map(|sample| stretched[usize::from(sample)]).collect();
    Plane::new(columns.cast_unsigned(), samples)
}

struct Block {
    rows: [[f64; BLOCK]; BLOCK],
}

impl Block {
    fn variance(&self) -> f64 {
        variance(self.rows.as_flattened().iter().copied())
    }

    fn is_impaired(&self) -> bool {
        let column = |x: usize| self.rows.map(|row| row[x]);
        let edges = [self.rows[0], self.rows[BLOCK - 1], column(0), column(BLOCK - 1)];
        edges.iter().any(|edge| {
            edge.windows(EDGE_PART)
                .any(|part| variance(part.iter().copied()).sqrt() < IMPAIRED_BELOW)
        })
    }

    /// Returns true if the block's centre does not stand out.
    fn is_noisy(&self, deviation: f64) -> bool {
        let columns = |is_chosen: fn(usize) -> bool| {
            let chosen = (0..BLOCK).filter(move |&x| is_chosen(x));
            variance(chosen.flat_map(|x| self.rows.iter().map(move |row| row[x]))).sqrt()
        };
        let centre = columns(|x| CENTRE.contains(&x));
        let ratio = centre / columns(|x| !NOT_SURROUND.contains(&x));
        let ratio = if ratio.is_nan() { 0.0 } else { ratio };
        deviation > 2.0 * ((deviation - ratio).abs() / deviation.max(ratio))
    }
}

/// Returns the variance, divided by the number of values minus one.
fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_and_black_planes_have_the_worst_score() {
        for value in [0, 1, 200, 255] {
            let found = piqe(&Plane::new(20, vec![value; 400]));
            assert_eq!(found, Piqe { score: 100.0, active: 0, impaired: 0, noisy: 0 });
        }
    }
}
