//! Small matrix products inside one task of a CPU op: row-major left, packed right.
//!
//! The right-hand matrix is cut into panels two vectors wide, each stored row by row, so that the
//! inner loop reads it in order; a tile of the result stays in registers. Large products are left to
//! candle, whose kernel packs both sides and spreads over threads.

use pulp::{Arch, Simd, WithSimd};

/// Vectors in a row of a panel.
const PANEL_VECTORS: usize = 2;
/// Rows of the right-hand matrix that are used up before the next ones: a panel's share fits into
/// the first-level cache.
const DEPTH_BLOCK: usize = 192;

/// Values in a vector of this processor.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

/// `columns` rounded up to whole vectors: the row length of every result.
pub(crate) fn padded(columns: usize) -> usize {
    columns.next_multiple_of(lanes())
}

/// A right-hand matrix of `rows` × `columns`, packed; columns are padded with zeros to whole vectors.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    data: Vec<f32>,
    rows: usize,
    padded: usize,
    panel: usize,
}

impl Panels {
    /// A matrix of zeros.
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        let padded = padded(columns);
        Self { data: vec![0.0; rows * padded], rows, padded, panel: PANEL_VECTORS * lanes() }
    }

    /// Packs `rows` × `columns` values in row-major order.
    pub(crate) fn pack(values: &[f32], columns: usize) -> Self {
        let mut panels = Self::zeros(values.len() / columns, columns);
        for (row, values) in values.chunks_exact(columns).enumerate() {
            panels.set_row(row, values);
        }
        panels
    }

    /// Packs the transpose of `columns` rows of `depth` values each.
    pub(crate) fn pack_transposed(values: &[f32], depth: usize) -> Self {
        let mut panels = Self::zeros(depth, values.len() / depth);
        for (column, values) in values.chunks_exact(depth).enumerate() {
            panels.set_column(column, values);
        }
        panels
    }

    /// Columns rounded up to whole vectors: the row length of a product.
    pub(crate) fn padded_columns(&self) -> usize {
        self.padded
    }

    /// Overwrites one row, from its first column on.
    pub(crate) fn set_row(&mut self, row: usize, values: &[f32]) {
        for (panel, values) in values.chunks(self.panel).enumerate() {
            let start = self.position(row, panel * self.panel);
            self.data[start..start + values.len()].copy_from_slice(values);
        }
    }

    /// Overwrites one column, from its first row on.
    pub(crate) fn set_column(&mut self, column: usize, values: &[f32]) {
        let width = self.width(column);
        let start = self.position(0, column);
        for (to, &value) in self.data[start..].iter_mut().step_by(width).zip(values) {
            *to = value;
        }
    }

    /// Width of the panel that a column is in; the last one may be a single vector.
    fn width(&self, column: usize) -> usize {
        self.panel.min(self.padded - column / self.panel * self.panel)
    }

    fn position(&self, row: usize, column: usize) -> usize {
        let first = column / self.panel * self.panel;
        first * self.rows + row * self.width(column) + column - first
    }
}

/// result = left · right.
///
/// `left` is row-major with `left_stride` values from row to row, of which `right.rows` are read;
/// `result` has rows of `right.padded` values and as many rows as are wanted.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    simd: S,
    (left, left_stride): (&[f32], usize),
    right: &Panels,
    result: &mut [f32],
) {
    let Panels { rows: depth, padded, .. } = *right;
    result.fill(0.0);
    for from in (0..depth).step_by(DEPTH_BLOCK) {
        let length = DEPTH_BLOCK.min(depth - from);
        for column in (0..padded).step_by(right.panel) {
            let width = right.width(column);
            let panel = &right.data[right.position(from, column)..][..length * width];
            let mut rows = result.chunks_exact_mut(padded);
            let mut row = 0;
            // Thirty-two registers hold tiles of eight rows, sixteen registers of four.
            while rows.len() > 0 {
                let left = &left[row * left_stride + from..];
                let block = if S::REGISTER_COUNT >= 32 && rows.len() >= 8 {
                    tile_of::<S, 8>(simd, (left, left_stride), panel, (column, width), &mut rows)
                } else if rows.len() >= 4 {
                    tile_of::<S, 4>(simd, (left, left_stride), panel, (column, width), &mut rows)
                } else {
                    tile_of::<S, 1>(simd, (left, left_stride), panel, (column, width), &mut rows)
                };
                row += block;
            }
        }
    }
}

/// Takes `ROWS` rows of the result and adds their tile; gives how many rows it was.
#[inline(always)]
fn tile_of<'a, S: Simd, const ROWS: usize>(
    simd: S,
    (left, left_stride): (&[f32], usize),
    panel: &[f32],
    (column, width): (usize, usize),
    rows: &mut impl Iterator<Item = &'a mut [f32]>,
) -> usize {
    let result: [&mut [f32]; ROWS] = std::array::from_fn(|_| {
        let row = rows.next().expect("the caller has counted the rows");
        &mut row[column..column + width]
    });
    let (vectors, _) = S::as_simd_f32s(panel);
    let depth = panel.len() / width;
    let left: [&[f32]; ROWS] = std::array::from_fn(|row| &left[row * left_stride..][..depth]);
    if width == S::F32_LANES {
        tile::<S, ROWS, 1>(simd, left, vectors, result);
    } else {
        tile::<S, ROWS, PANEL_VECTORS>(simd, left, vectors, result);
    }
    ROWS
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    left: [&[f32]; ROWS],
    panel: &[S::f32s],
    result: [&mut [f32]; ROWS],
) {
    let (panel, _) = panel.as_chunks::<VECTORS>();
    let left = left.map(|row| &row[..panel.len()]);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (index, right) in panel.iter().enumerate() {
        for row in 0..ROWS {
            let value = simd.splat_f32s(left[row][index]);
            for vector in 0..VECTORS {
                sums[row][vector] = simd.mul_add_e_f32s(value, right[vector], sums[row][vector]);
            }
        }
    }
    for (row, sums) in result.into_iter().zip(sums) {
        let (vectors, _) = S::as_mut_simd_f32s(row);
        for (to, sum) in vectors.iter_mut().zip(sums) {
            *to = simd.add_f32s(*to, sum);
        }
    }
}

/// result += leftᵀ · right, both row-major: `left` has rows of `left_stride` values, `right` rows of
/// `columns` values, a whole number of panels or vectors; `result` has rows of `columns` values.
#[inline(always)]
pub(crate) fn multiply_transposed<S: Simd>(
    simd: S,
    (left, left_stride): (&[f32], usize),
    (right, columns): (&[f32], usize),
    result: &mut [f32],
) {
    let rows = result.len() / columns;
    let mut column = 0;
    while column < columns {
        let vectors = if column + 2 * S::F32_LANES <= columns { 2 } else { 1 };
        let mut row = 0;
        while row < rows {
            let tile = (row, column);
            let (left, right) = ((left, left_stride), (right, columns));
            row += match (vectors, rows - row) {
                (2, 8..) if S::REGISTER_COUNT >= 32 => {
                    outer::<S, 8, 2>(simd, left, right, result, tile)
                }
                (2, 4..) => outer::<S, 4, 2>(simd, left, right, result, tile),
                (2, _) => outer::<S, 1, 2>(simd, left, right, result, tile),
                (_, 8..) => outer::<S, 8, 1>(simd, left, right, result, tile),
                _ => outer::<S, 1, 1>(simd, left, right, result, tile),
            };
        }
        column += vectors * S::F32_LANES;
    }
}

#[inline(always)]
fn outer<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    (left, left_stride): (&[f32], usize),
    (right, columns): (&[f32], usize),
    result: &mut [f32],
    (row, column): (usize, usize),
) -> usize {
    let width = VECTORS * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (left, right) in left.chunks_exact(left_stride).zip(right.chunks_exact(columns)) {
        let (left, _) = left[row..].as_chunks::<ROWS>();
        let (right, _) = S::as_simd_f32s(&right[column..column + width]);
        let left = left[0];
        for row in 0..ROWS {
            let value = simd.splat_f32s(left[row]);
            for vector in 0..VECTORS {
                sums[row][vector] = simd.mul_add_e_f32s(value, right[vector], sums[row][vector]);
            }
        }
    }
    for (index, sums) in sums.into_iter().enumerate() {
        let start = (row + index) * columns + column;
        let (vectors, _) = S::as_mut_simd_f32s(&mut result[start..start + width]);
        for (to, sum) in vectors.iter_mut().zip(sums) {
            *to = simd.add_f32s(*to, sum);
        }
    }
    ROWS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Multiply<'a>(&'a [f32], usize, &'a Panels, &'a mut [f32]);

    impl WithSimd for Multiply<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            multiply(simd, (self.0, self.1), self.2, self.3);
        }
    }

    struct MultiplyTransposed<'a>(&'a [f32], usize, &'a [f32], usize, &'a mut [f32]);

    impl WithSimd for MultiplyTransposed<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            multiply_transposed(simd, (self.0, self.1), (self.2, self.3), self.4);
        }
    }

    /// Whole numbers, whose sums are exact whatever the order.
    fn whole(seed: u64, count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.i8(-8..=8).into()).collect()
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(
            rows in 1_usize..20, depth in 1_usize..300, columns in 1_usize..80, seed: u64,
        ) {
            let (left, right) = (whole(seed, rows * depth), whole(!seed, depth * columns));
            let mut transposed = vec![0.0; right.len()];
            for row in 0..depth {
                for column in 0..columns {
                    transposed[column * depth + row] = right[row * columns + column];
                }
            }
            let width = padded(columns);
            for panels in
                [Panels::pack(&right, columns), Panels::pack_transposed(&transposed, depth)]
            {
                let mut result = vec![7.0; rows * width];
                Arch::new().dispatch(Multiply(&left, depth, &panels, &mut result));
                for row in 0..rows {
                    for column in 0..columns {
                        let exact: f32 = (0..depth)
                            .map(|index| left[row * depth + index] * right[index * columns + column])
                            .sum();
                        let ours = result[row * width + column];
                        prop_assert!((ours - exact).abs() < 0.5, "{ours} is not {exact}");
                    }
                }
            }
        }

        #[test]
        fn products_with_the_transpose_are_those_of_the_definition(
            rows in 1_usize..20, depth in 1_usize..40, vectors in 1_usize..6, seed: u64,
        ) {
            let columns = vectors * lanes();
            let (left, right) = (whole(seed, depth * rows), whole(!seed, depth * columns));
            let mut result = vec![1.0; rows * columns];
            Arch::new().dispatch(MultiplyTransposed(&left, rows, &right, columns, &mut result));
            for row in 0..rows {
                for column in 0..columns {
                    let exact: f32 = (0..depth)
                        .map(|index| left[index * rows + row] * right[index * columns + column])
                        .sum();
                    let ours = result[row * columns + column];
                    prop_assert!((ours - 1.0 - exact).abs() < 0.5, "{ours} is not 1 + {exact}");
                }
            }
        }
    }
}
