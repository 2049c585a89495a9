//! Coarse logits at the size of the image, without ever writing them: what of a mask is wanted at full
//! size (pixel counts at three thresholds, the box, the runs) is found cell by cell.
//!
//! Between four neighbouring logits every pixel is their weighted mean. Where all four lie on one side
//! of all thresholds, with a margin for rounding, so do all pixels; only the others are computed, in
//! torch's order of operations, so that the result is that of the enlarged map.

use pulp::{Arch, Simd, WithSimd};

use crate::method::{MaskError, Rle};

/// Rounding of a weighted mean of four values, as a share of the largest, rounded up.
const MARGIN: f32 = 1e-6;

/// Bilinear enlargement (or reduction) of maps of one size to another, corners not aligned, without
/// antialiasing.
#[derive(Debug, Clone)]
pub struct Enlarge {
    across: Axis,
    down: Axis,
}

/// What full-size pixels say of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Pixels above each of the three thresholds.
    pub counts: [u64; 3],
    /// `[left, top, right, bottom]` of the pixels above the middle one, inclusive; zeros without any.
    pub corners: [u32; 4],
}

/// How the positions of one axis are made of coarse ones.
#[derive(Debug, Clone)]
struct Axis {
    coarse: usize,
    /// For each position the coarse one before it and the weight of the one after.
    source: Vec<(usize, f32)>,
    /// For each coarse position the first full one after it; one more at the end.
    starts: Vec<usize>,
}

impl Axis {
    fn new(coarse: usize, full: usize) -> Self {
        let scale = coarse as f32 / full as f32;
        let source = |index: usize| {
            let place = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
            let before = (place as usize).min(coarse - 1);
            (before, place - before as f32)
        };
        let source: Vec<_> = (0..full).map(source).collect();
        let start = |position| source.partition_point(|&(before, _)| before < position);
        Self { coarse, starts: (0..=coarse).map(start).collect(), source }
    }

    fn after(&self, before: usize) -> usize {
        (before + 1).min(self.coarse - 1)
    }
}

impl Enlarge {
    /// From maps of `coarse` (width, height) to `full` (width, height), all at least 1.
    pub fn new(coarse: (usize, usize), full: (u32, u32)) -> Self {
        let axis = |coarse, full: u32| Axis::new(coarse, full as usize);
        Self { across: axis(coarse.0, full.0), down: axis(coarse.1, full.1) }
    }

    /// The whole map, row by row: for what needs every value, and to test the rest.
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

    /// Counts the pixels above each threshold (ascending), and the box above the middle one.
    pub fn measure(&self, logits: &[f32], thresholds: [f32; 3]) -> Measured {
        Arch::new().dispatch(Measure { enlarge: self, logits, thresholds })
    }

    /// The pixels above a threshold as a mask of the whole image, in which this map is a part that
    /// begins at `offset` (x, y).
    ///
    /// # Errors
    /// A frame that no mask can have.
    pub fn encode(
        &self,
        logits: &[f32],
        threshold: f32,
        offset: (u32, u32),
        frame: (u32, u32),
    ) -> Result<Rle, MaskError> {
        let mut spans = Vec::new();
        let mut column = vec![0.0; self.down.coarse];
        for (x, &(before, along)) in self.across.source.iter().enumerate() {
            let after = self.across.after(before);
            for (value, row) in column.iter_mut().zip(logits.chunks_exact(self.across.coarse)) {
                *value = (1.0 - along) * row[before] + along * row[after];
            }
            let first = (offset.0 + x as u32) * frame.1 + offset.1;
            self.encode_column(&column, threshold, first, &mut spans);
        }
        Rle::from_spans(frame.0, frame.1, spans)
    }

    fn encode_column(
        &self,
        column: &[f32],
        threshold: f32,
        first: u32,
        spans: &mut Vec<(u32, u32)>,
    ) {
        let mut add = |start: usize, end: usize| {
            let (start, end) = (first + start as u32, first + end as u32);
            match spans.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => spans.push((start, end)),
            }
        };
        for (row, starts) in self.down.starts.windows(2).enumerate() {
            let (above, below) = (column[row], column[self.down.after(row)]);
            let margin = MARGIN * above.abs().max(below.abs());
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
    enlarge: &'a Enlarge,
    logits: &'a [f32],
    thresholds: [f32; 3],
}

/// What one row of cells makes of a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Outside,
    Inside,
    Mixed,
}

impl WithSimd for Measure<'_> {
    type Output = Measured;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Measured {
        let Self { enlarge: Enlarge { across, down }, logits, thresholds } = self;
        let mut found = Found::new(thresholds);
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
                let kind = found.kind(above, below, column, across);
                let first = column;
                while column < across.coarse && found.kind(above, below, column, across) == kind {
                    column += 1;
                }
                let columns = across.starts[first]..across.starts[column];
                if columns.is_empty() || kind == Cell::Outside {
                    continue;
                }
                if kind == Cell::Inside {
                    found.all(rows[0]..rows[1], &columns);
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
                    let means = (&above_means[columns.clone()], &below_means[columns.clone()]);
                    found.row(simd, (y, columns.start), means, down.source[y].1);
                }
            }
        }
        found.finish()
    }
}

/// Counts and box so far.
struct Found {
    thresholds: [f32; 3],
    counts: [u64; 3],
    /// Left and top inclusive, right and bottom exclusive.
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Found {
    fn new(thresholds: [f32; 3]) -> Self {
        Self { thresholds, counts: [0; 3], left: usize::MAX, top: usize::MAX, right: 0, bottom: 0 }
    }

    #[inline(always)]
    fn kind(&self, above: &[f32], below: &[f32], column: usize, across: &Axis) -> Cell {
        let after = across.after(column);
        let (a, b, c, d) = (above[column], above[after], below[column], below[after]);
        let (least, most) = (a.min(b).min(c.min(d)), a.max(b).max(c.max(d)));
        let margin = MARGIN * most.abs().max(least.abs());
        if most <= self.thresholds[0] - margin {
            Cell::Outside
        } else if least > self.thresholds[2] + margin {
            Cell::Inside
        } else {
            Cell::Mixed
        }
    }

    fn all(&mut self, rows: std::ops::Range<usize>, columns: &std::ops::Range<usize>) {
        let pixels = (rows.len() * columns.len()) as u64;
        self.counts.iter_mut().for_each(|count| *count += pixels);
        self.span(rows.start, columns.start, columns.end);
        self.bottom = self.bottom.max(rows.end);
    }

    fn span(&mut self, y: usize, left: usize, right: usize) {
        self.left = self.left.min(left);
        self.right = self.right.max(right);
        self.top = self.top.min(y);
        self.bottom = self.bottom.max(y + 1);
    }

    /// Pixels of one row from `first` on, each between a value above and one below.
    #[inline(always)]
    fn row<S: Simd>(
        &mut self,
        simd: S,
        (y, first): (usize, usize),
        (above, below): (&[f32], &[f32]),
        weight: f32,
    ) {
        let value = |index: usize| (1.0 - weight) * above[index] + weight * below[index];
        let before = self.counts[1];
        let ((above_vectors, rest), (below_vectors, _)) =
            (S::as_simd_f32s(above), S::as_simd_f32s(below));
        let (upper, lower) = (simd.splat_f32s(1.0 - weight), simd.splat_f32s(weight));
        let limits = self.thresholds.map(|threshold| simd.splat_f32s(threshold));
        let (one, zero) = (simd.splat_f32s(1.0), simd.splat_f32s(0.0));
        let mut sums = [zero; 3];
        for (&above, &below) in above_vectors.iter().zip(below_vectors) {
            // Two products and a sum, each rounded, as everywhere in this file.
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
        // Only what widens the box is looked for.
        let is_inside = |index: &usize| value(*index) > self.thresholds[1];
        let left = (0..above.len()).find(is_inside).unwrap_or(0);
        let right = (0..above.len()).rev().find(is_inside).unwrap_or(left);
        self.span(y, first + left, first + right + 1);
    }

    fn finish(self) -> Measured {
        let corner = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        let corners = if self.counts[1] == 0 {
            [0; 4]
        } else {
            [self.left, self.top, self.right - 1, self.bottom - 1].map(corner)
        };
        Measured { counts: self.counts, corners }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::models::sam2::amg::small_regions::corners;

    proptest! {
        /// Smooth and noisy maps, enlarged and reduced, with the thresholds anywhere.
        #[test]
        fn what_is_measured_is_what_the_whole_map_says(
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
            let enlarge = Enlarge::new(coarse, full);
            let map = enlarge.map(&logits);
            let thresholds = [middle - offset, middle, middle + offset];
            let measured = enlarge.measure(&logits, thresholds);
            let count = |limit: f32| map.iter().filter(|&&value| value > limit).count() as u64;
            prop_assert_eq!(measured.counts, thresholds.map(count));

            let bits: Vec<bool> = map.iter().map(|&value| value > middle).collect();
            let exact = Rle::from_bitmap(full.0, full.1, &bits).unwrap();
            prop_assert_eq!(measured.corners, corners(&exact));
            prop_assert_eq!(&enlarge.encode(&logits, middle, (0, 0), full).unwrap(), &exact);

            let frame = (full.0 + 7, full.1 + 3);
            let pasted = enlarge.encode(&logits, middle, (5, 2), frame).unwrap();
            prop_assert_eq!(pasted.area(), exact.area());
            if exact.area() > 0 {
                let moved = corners(&exact);
                let moved = [moved[0] + 5, moved[1] + 2, moved[2] + 5, moved[3] + 2];
                prop_assert_eq!(corners(&pasted), moved);
            }
        }
    }
}
