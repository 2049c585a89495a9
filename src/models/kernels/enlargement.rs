//! Measures masks at the size of the image without writing the enlarged logits. Computes pixel
//! counts at three thresholds, the bounding box and the runs cell by cell.
//!
//! A pixel between four neighbouring coarse logits is their weighted mean. If all four are on one
//! side of all thresholds, with a margin for rounding, so are all pixels of the cell. Only the
//! pixels of the other cells are computed, in torch's order of operations, so that the result is
//! exactly that of the enlarged map.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions and counts are within images of at most 2^30 pixels"
)]

use pulp::{Arch, Simd, WithSimd};

/// Upper bound of the rounding error of a weighted mean of four values, relative to the largest.
const ROUNDING: f32 = 1e-6;

/// A bilinear enlargement or reduction of maps from one size to another, without aligned corners
/// and without antialiasing (torch's `interpolate`).
#[derive(Debug, Clone)]
pub struct MaskEnlargement {
    across: Axis,
    down: Axis,
}

/// Measurements of a mask at full size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskMeasurements {
    /// Number of pixels above each of the three thresholds.
    pub counts: [u64; 3],
    /// `[left, top, right, bottom]` of the pixels above the middle threshold, inclusive; zeros if
    /// there are none.
    pub corners: [u32; 4],
}

/// The coarse positions that each full-size position of one axis is interpolated from.
#[derive(Debug, Clone)]
struct Axis {
    coarse: usize,
    /// For each full-size position, the coarse position before it and the weight of the one after.
    source: Vec<(usize, f32)>,
    /// For each coarse position, the first full-size position after it; the last entry is the end.
    starts: Vec<usize>,
}

impl Axis {
    fn new(coarse: usize, full: usize) -> Self {
        let scale = coarse as f32 / full as f32;
        let source = |index: usize| {
            let position = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
            let before = (position as usize).min(coarse - 1);
            (before, position - before as f32)
        };
        let source: Vec<_> = (0..full).map(source).collect();
        let start = |position| source.partition_point(|&(before, _)| before < position);
        Self { coarse, starts: (0..=coarse).map(start).collect(), source }
    }

    fn after(&self, before: usize) -> usize {
        (before + 1).min(self.coarse - 1)
    }
}

impl MaskEnlargement {
    /// Creates the enlargement from `coarse` to `full`, both (width, height) and at least 1.
    pub fn new(coarse: (usize, usize), full: (u32, u32)) -> Self {
        let axis = |coarse, full: u32| Axis::new(coarse, full as usize);
        Self { across: axis(coarse.0, full.0), down: axis(coarse.1, full.1) }
    }

    /// Returns the whole enlarged map, row by row.
    pub fn map(&self, logits: &[f32]) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.across.source.len() * self.down.source.len());
        for &(row, weight) in &self.down.source {
            let (above, below) = (self.row(logits, row), self.row(logits, self.down.after(row)));
            for &(column, along) in &self.across.source {
                let mean = |row: &[f32]| {
                    (1.0 - along) * row[column] + along * row[self.across.after(column)]
                };
                values.push((1.0 - weight) * mean(above) + weight * mean(below));
            }
        }
        values
    }

    fn row<'a>(&self, logits: &'a [f32], row: usize) -> &'a [f32] {
        &logits[row * self.across.coarse..][..self.across.coarse]
    }

    /// Measures a mask at three ascending thresholds.
    pub fn measure(&self, logits: &[f32], thresholds: [f32; 3]) -> MaskMeasurements {
        Arch::new().dispatch(Measure { enlargement: self, logits, thresholds })
    }

    /// Returns the runs of pixels above a threshold, `start..end` in column-major order of an image
    /// of `frame_height` rows. The map's origin is at `offset` (x, y) of that image.
    pub fn runs(
        &self,
        logits: &[f32],
        threshold: f32,
        offset: (u32, u32),
        frame_height: u32,
    ) -> Vec<(u32, u32)> {
        let mut runs = Vec::new();
        let mut column = vec![0.0; self.down.coarse];
        for (x, &(before, along)) in self.across.source.iter().enumerate() {
            let after = self.across.after(before);
            for (value, row) in column.iter_mut().zip(logits.chunks_exact(self.across.coarse)) {
                *value = (1.0 - along) * row[before] + along * row[after];
            }
            let first = (offset.0 + x as u32) * frame_height + offset.1;
            self.add_column(&column, threshold, first, &mut runs);
        }
        runs
    }

    fn add_column(&self, column: &[f32], threshold: f32, first: u32, runs: &mut Vec<(u32, u32)>) {
        let mut add = |start: usize, end: usize| {
            let (start, end) = (first + start as u32, first + end as u32);
            match runs.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => runs.push((start, end)),
            }
        };
        for (row, starts) in self.down.starts.windows(2).enumerate() {
            let (above, below) = (column[row], column[self.down.after(row)]);
            let margin = ROUNDING * above.abs().max(below.abs());
            if above.max(below) <= threshold - margin || starts[0] == starts[1] {
                continue;
            }
            if above.min(below) > threshold + margin {
                add(starts[0], starts[1]);
                continue;
            }
            for y in starts[0]..starts[1] {
                let weight = self.down.source[y].1;
                if (1.0 - weight) * above + weight * below > threshold {
                    add(y, y + 1);
                }
            }
        }
    }
}

struct Measure<'a> {
    enlargement: &'a MaskEnlargement,
    logits: &'a [f32],
    thresholds: [f32; 3],
}

/// The position of a cell's four logits relative to all thresholds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Outside,
    Inside,
    Mixed,
}

impl WithSimd for Measure<'_> {
    type Output = MaskMeasurements;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> MaskMeasurements {
        let Self { enlargement: MaskEnlargement { across, down }, logits, thresholds } = self;
        let mut state = RunningMeasurements::new(thresholds);
        let (mut above_means, mut below_means) =
            (vec![0.0; across.source.len()], vec![0.0; across.source.len()]);
        for (row, rows) in down.starts.windows(2).enumerate() {
            if rows[0] == rows[1] {
                continue;
            }
            let above = &logits[row * across.coarse..][..across.coarse];
            let below = &logits[down.after(row) * across.coarse..][..across.coarse];
            let mut column = 0;
            while column < across.coarse {
                let cell = state.classify(above, below, column, across);
                let first = column;
                while column < across.coarse && state.classify(above, below, column, across) == cell
                {
                    column += 1;
                }
                let columns = across.starts[first]..across.starts[column];
                if columns.is_empty() || cell == Cell::Outside {
                    continue;
                }
                if cell == Cell::Inside {
                    state.add_block(rows[0]..rows[1], &columns);
                    continue;
                }
                let means = above_means[columns.clone()].iter_mut();
                let means = means.zip(&mut below_means[columns.clone()]);
                for ((upper, lower), &(before, along)) in means.zip(&across.source[columns.clone()])
                {
                    let after = across.after(before);
                    *upper = (1.0 - along) * above[before] + along * above[after];
                    *lower = (1.0 - along) * below[before] + along * below[after];
                }
                for y in rows[0]..rows[1] {
                    let row = PixelRow {
                        y,
                        first_x: columns.start,
                        above: &above_means[columns.clone()],
                        below: &below_means[columns.clone()],
                        weight: down.source[y].1,
                    };
                    state.add_row(simd, &row);
                }
            }
        }
        state.finish()
    }
}

/// Some pixels of one row, each between a value above and one below.
struct PixelRow<'a> {
    y: usize,
    first_x: usize,
    above: &'a [f32],
    below: &'a [f32],
    /// Weight of the values below.
    weight: f32,
}

/// The counts and the bounding box so far.
struct RunningMeasurements {
    thresholds: [f32; 3],
    counts: [u64; 3],
    /// Left and top inclusive, right and bottom exclusive.
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl RunningMeasurements {
    fn new(thresholds: [f32; 3]) -> Self {
        Self { thresholds, counts: [0; 3], left: usize::MAX, top: usize::MAX, right: 0, bottom: 0 }
    }

    #[inline(always)]
    fn classify(&self, above: &[f32], below: &[f32], column: usize, across: &Axis) -> Cell {
        let after = across.after(column);
        let (a, b, c, d) = (above[column], above[after], below[column], below[after]);
        let (smallest, largest) = (a.min(b).min(c.min(d)), a.max(b).max(c.max(d)));
        let margin = ROUNDING * largest.abs().max(smallest.abs());
        if largest <= self.thresholds[0] - margin {
            Cell::Outside
        } else if smallest > self.thresholds[2] + margin {
            Cell::Inside
        } else {
            Cell::Mixed
        }
    }

    /// Adds pixels that are above all thresholds.
    fn add_block(&mut self, rows: std::ops::Range<usize>, columns: &std::ops::Range<usize>) {
        let pixels = (rows.len() * columns.len()) as u64;
        self.counts.iter_mut().for_each(|count| *count += pixels);
        self.widen_box(rows.start, columns.start, columns.end);
        self.bottom = self.bottom.max(rows.end);
    }

    fn widen_box(&mut self, y: usize, left: usize, right: usize) {
        self.left = self.left.min(left);
        self.right = self.right.max(right);
        self.top = self.top.min(y);
        self.bottom = self.bottom.max(y + 1);
    }

    #[inline(always)]
    fn add_row<S: Simd>(&mut self, simd: S, row: &PixelRow<'_>) {
        let &PixelRow { y, first_x, above, below, weight } = row;
        let value = |index: usize| (1.0 - weight) * above[index] + weight * below[index];
        let before = self.counts[1];
        let ((above_vectors, rest), (below_vectors, _)) =
            (S::as_simd_f32s(above), S::as_simd_f32s(below));
        let (upper, lower) = (simd.splat_f32s(1.0 - weight), simd.splat_f32s(weight));
        let limits = self.thresholds.map(|threshold| simd.splat_f32s(threshold));
        let (one, zero) = (simd.splat_f32s(1.0), simd.splat_f32s(0.0));
        let mut sums = [zero; 3];
        for (&above, &below) in above_vectors.iter().zip(below_vectors) {
            // Two products and a sum, each rounded, as in every interpolation of this file.
            let value = simd.add_f32s(simd.mul_f32s(upper, above), simd.mul_f32s(lower, below));
            for (sum, &limit) in sums.iter_mut().zip(&limits) {
                let is_above = simd.greater_than_f32s(value, limit);
                *sum = simd.add_f32s(*sum, simd.select_f32s(is_above, one, zero));
            }
        }
        for (count, sum) in self.counts.iter_mut().zip(sums) {
            *count += simd.reduce_sum_f32s(sum) as u64;
        }
        for index in above.len() - rest.len()..above.len() {
            for (count, threshold) in self.counts.iter_mut().zip(self.thresholds) {
                *count += u64::from(value(index) > threshold);
            }
        }
        if self.counts[1] == before {
            return;
        }
        // The box needs only the first and the last pixel.
        let is_inside = |index: &usize| value(*index) > self.thresholds[1];
        let left = (0..above.len()).find(is_inside).unwrap_or(0);
        let right = (0..above.len()).rev().find(is_inside).unwrap_or(left);
        self.widen_box(y, first_x + left, first_x + right + 1);
    }

    fn finish(self) -> MaskMeasurements {
        let corner = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
        let corners = if self.counts[1] == 0 {
            [0; 4]
        } else {
            [self.left, self.top, self.right - 1, self.bottom - 1].map(corner)
        };
        MaskMeasurements { counts: self.counts, corners }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::method::Rle;
    use crate::models::sam2::amg::corners;

    proptest! {
        /// Smooth and noisy maps, enlarged and reduced, at arbitrary thresholds.
        #[test]
        fn measurements_equal_those_of_the_enlarged_map(
            coarse in (1_usize..12, 1_usize..12),
            full in (1_u32..60, 1_u32..60),
            (middle, offset, noise) in (-3.0_f32..3.0, 0.0_f32..2.0, 0.0_f32..8.0),
            seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let logit = |index: usize| {
                let (x, y) = ((index % coarse.0) as f32, (index / coarse.0) as f32);
                5.0 - (x - 4.0).abs() - (y - 3.0).abs() + noise * (random.f32() - 0.5)
            };
            let logits: Vec<f32> = (0..coarse.0 * coarse.1).map(logit).collect();
            let enlargement = MaskEnlargement::new(coarse, full);
            let map = enlargement.map(&logits);
            let thresholds = [middle - offset, middle, middle + offset];
            let measured = enlargement.measure(&logits, thresholds);
            let count = |limit: f32| map.iter().filter(|&&value| value > limit).count() as u64;
            prop_assert_eq!(measured.counts, thresholds.map(count));

            let bits: Vec<bool> = map.iter().map(|&value| value > middle).collect();
            let exact = Rle::from_bitmap(full.0, full.1, &bits).unwrap();
            prop_assert_eq!(measured.corners, corners(&exact));
            let encode = |offset, frame: (u32, u32)| {
                let runs = enlargement.runs(&logits, middle, offset, frame.1);
                Rle::from_spans(frame.0, frame.1, runs).unwrap()
            };
            prop_assert_eq!(&encode((0, 0), full), &exact);

            let frame = (full.0 + 7, full.1 + 3);
            let pasted = encode((5, 2), frame);
            prop_assert_eq!(pasted.area(), exact.area());
            if exact.area() > 0 {
                let [left, top, right, bottom] = corners(&exact);
                prop_assert_eq!(corners(&pasted), [left + 5, top + 2, right + 5, bottom + 2]);
            }
        }
    }
}
