//! Small matrix products inside one task of a kernel: row-major left side, packed right side.
//!
//! The right side is split into panels two vectors wide, each stored row by row, so that the inner
//! loop reads it in order. A tile of the result stays in registers. Large products are left to
//! candle, whose routine packs both sides and uses all threads.

use pulp::{Arch, Simd, WithSimd};

/// Vectors in a row of a panel.
const PANEL_VECTORS: usize = 2;
/// Rows of the right side that are processed before the next ones. A panel's part of them fits into
/// the first-level cache.
const DEPTH_BLOCK: usize = 192;

/// Returns the number of values in a SIMD vector of this CPU.
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

/// Rounds `columns` up to whole vectors: the row length of every result.
pub(crate) fn padded(columns: usize) -> usize {
    columns.next_multiple_of(lanes())
}

/// Row-major values; `stride` is the distance between the starts of two rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowMajor<'a> {
    values: &'a [f32],
    stride: usize,
}

impl<'a> RowMajor<'a> {
    #[inline(always)]
    pub(crate) fn new(values: &'a [f32], stride: usize) -> Self {
        Self { values, stride }
    }

    /// Returns the first `length` values of a row.
    #[inline(always)]
    pub(crate) fn row(self, row: usize, length: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..length]
    }
}

/// The packed right side of a product, `(rows, columns)`. Columns are padded with zeros to whole
/// vectors.
#[derive(Debug, Clone)]
pub(crate) struct Panels {
    data: Vec<f32>,
    rows: usize,
    padded: usize,
    panel: usize,
}

impl Panels {
    /// Creates a matrix of zeros.
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

    /// Returns the columns, rounded up to whole vectors: the row length of a product.
    pub(crate) fn padded_columns(&self) -> usize {
        self.padded
    }

    /// Overwrites the start of one row.
    pub(crate) fn set_row(&mut self, row: usize, values: &[f32]) {
        for (panel, values) in values.chunks(self.panel).enumerate() {
            let start = self.position(row, panel * self.panel);
            self.data[start..start + values.len()].copy_from_slice(values);
        }
    }

    /// Overwrites the start of one column.
    pub(crate) fn set_column(&mut self, column: usize, values: &[f32]) {
        let width = self.width(column);
        let start = self.position(0, column);
        for (to, &value) in self.data[start..].iter_mut().step_by(width).zip(values) {
            *to = value;
        }
    }

    /// Returns the width of the panel that holds `column`; the last panel may be a single vector.
    fn width(&self, column: usize) -> usize {
        self.panel.min(self.padded - column / self.panel * self.panel)
    }

    fn position(&self, row: usize, column: usize) -> usize {
        let first = column / self.panel * self.panel;
        first * self.rows + row * self.width(column) + column - first
    }
}

/// The packed left side of a product: tiles of rows, each stored column by column. The inner loop
/// reads one address for all rows of a tile; an address for each would not fit into the registers.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// The tiles of the first [`DEPTH_BLOCK`] columns, then those of the next ones, …
    values: Vec<f32>,
    rows: usize,
    depth: usize,
}

impl Tiles {
    /// Packs the first `depth` values of the first `rows` rows.
    #[inline(always)]
    pub(crate) fn pack<S: Simd>(simd: S, left: RowMajor<'_>, rows: usize, depth: usize) -> Self {
        Self::pack_parts(simd, rows, (1, depth), |row, _| Some(left.row(row, depth)))
    }

    /// Packs rows that are each `parts` slices of `width` values, one after the other. `part(row,
    /// index)` returns a slice, or `None` for zeros.
    #[inline(always)]
    pub(crate) fn pack_parts<'a, S: Simd>(
        _: S,
        rows: usize,
        (parts, width): (usize, usize),
        part: impl Fn(usize, usize) -> Option<&'a [f32]>,
    ) -> Self {
        let depth = parts * width;
        let mut values = vec![0.0; rows * depth];
        let mut row = 0;
        while row < rows {
            let height = tile_height::<S>(rows - row);
            for index in 0..parts * height {
                let (index, within) = (index / height, index % height);
                let Some(mut source) = part(row + within, index) else { continue };
                let mut column = index * width;
                // A part may continue in the next block of columns.
                while !source.is_empty() {
                    let first = column / DEPTH_BLOCK * DEPTH_BLOCK;
                    let length = DEPTH_BLOCK.min(depth - first);
                    let (now, later) = source.split_at(source.len().min(first + length - column));
                    let start = rows * first + row * length + (column - first) * height;
                    let tile = &mut values[start..][..height * now.len()];
                    for (to, value) in tile.chunks_exact_mut(height).zip(now) {
                        to[within] = *value;
                    }
                    (column, source) = (column + now.len(), later);
                }
            }
            row += height;
        }
        Self { values, rows, depth }
    }
}

/// Returns the rows of the next tile: thirty-two registers hold tiles of eight rows, sixteen
/// registers of four.
#[inline(always)]
fn tile_height<S: Simd>(rows_left: usize) -> usize {
    match rows_left {
        8.. if S::REGISTER_COUNT >= 32 => 8,
        4.. => 4,
        _ => 1,
    }
}

/// result = left · right.
///
/// As many columns of `left` are read as `right` has rows. `result` has rows of
/// [`Panels::padded_columns`] values; its length sets the number of rows.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(simd: S, left: RowMajor<'_>, right: &Panels, result: &mut [f32]) {
    let rows = result.len().checked_div(right.padded).unwrap_or(0);
    multiply_tiles(simd, &Tiles::pack(simd, left, rows, right.rows), right, result);
}

/// As [`multiply`], for a left side that is packed already.
#[inline(always)]
pub(crate) fn multiply_tiles<S: Simd>(simd: S, left: &Tiles, right: &Panels, result: &mut [f32]) {
    let Panels { padded, .. } = *right;
    let Tiles { rows, depth, .. } = *left;
    debug_assert_eq!((depth, result.len()), (right.rows, rows * padded), "the sizes agree");
    result.fill(0.0);
    for from in (0..depth).step_by(DEPTH_BLOCK) {
        let length = DEPTH_BLOCK.min(depth - from);
        let block = &left.values[rows * from..][..rows * length];
        for column in (0..padded).step_by(right.panel) {
            let width = right.width(column);
            let values = &right.data[right.position(from, column)..][..length * width];
            let panel = Panel { values, column, width };
            let mut results = result.chunks_exact_mut(padded);
            let mut tiles = block;
            while results.len() > 0 {
                let height = tile_height::<S>(results.len());
                let (tile, rest) = tiles.split_at(height * length);
                match height {
                    8 => multiply_tile::<S, 8>(simd, tile, panel, &mut results),
                    4 => multiply_tile::<S, 4>(simd, tile, panel, &mut results),
                    _ => multiply_tile::<S, 1>(simd, tile, panel, &mut results),
                }
                tiles = rest;
            }
        }
    }
}

/// Some rows of one panel, and the columns of the result that they contribute to.
#[derive(Clone, Copy)]
struct Panel<'a> {
    values: &'a [f32],
    column: usize,
    width: usize,
}

/// Adds the product of a packed tile and a panel to the next `ROWS` rows of the result.
#[inline(always)]
fn multiply_tile<'a, S: Simd, const ROWS: usize>(
    simd: S,
    tile: &[f32],
    panel: Panel<'_>,
    rows: &mut impl Iterator<Item = &'a mut [f32]>,
) {
    let Panel { values, column, width } = panel;
    let result: [&mut [f32]; ROWS] = std::array::from_fn(|_| {
        let row = rows.next().expect("the caller has counted the rows");
        &mut row[column..column + width]
    });
    let (vectors, _) = S::as_simd_f32s(values);
    let (left, _) = tile.as_chunks::<ROWS>();
    if width == S::F32_LANES {
        add_product::<S, ROWS, 1>(simd, left, vectors, result);
    } else {
        add_product::<S, ROWS, PANEL_VECTORS>(simd, left, vectors, result);
    }
}

#[inline(always)]
fn add_product<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    left: &[[f32; ROWS]],
    panel: &[S::f32s],
    result: [&mut [f32]; ROWS],
) {
    let (panel, _) = panel.as_chunks::<VECTORS>();
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (left, right) in left.iter().zip(panel) {
        for row in 0..ROWS {
            let value = simd.splat_f32s(left[row]);
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

/// result += leftᵀ · right.
///
/// `right.stride` is a whole number of vectors, and all its columns are read. `result` has rows of
/// `right.stride` values.
#[inline(always)]
pub(crate) fn multiply_transposed<S: Simd>(
    simd: S,
    left: RowMajor<'_>,
    right: RowMajor<'_>,
    result: &mut [f32],
) {
    let columns = right.stride;
    let rows = result.len() / columns;
    let mut column = 0;
    while column < columns {
        let vectors = if column + 2 * S::F32_LANES <= columns { 2 } else { 1 };
        let mut row = 0;
        while row < rows {
            let tile = TileStart { row, column };
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

/// The first row and column of a tile of the result.
#[derive(Clone, Copy)]
struct TileStart {
    row: usize,
    column: usize,
}

/// Adds the product of one tile as a sum of outer products. Returns `ROWS`.
#[inline(always)]
fn outer<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    left: RowMajor<'_>,
    right: RowMajor<'_>,
    result: &mut [f32],
    TileStart { row, column }: TileStart,
) -> usize {
    let columns = right.stride;
    let width = VECTORS * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    let rows = left.values.chunks_exact(left.stride).zip(right.values.chunks_exact(columns));
    for (left, right) in rows {
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

    struct Multiply<'a>(RowMajor<'a>, &'a Panels, &'a mut [f32]);

    impl WithSimd for Multiply<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            multiply(simd, self.0, self.1, self.2);
        }
    }

    struct MultiplyTransposed<'a>(RowMajor<'a>, RowMajor<'a>, &'a mut [f32]);

    impl WithSimd for MultiplyTransposed<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            multiply_transposed(simd, self.0, self.1, self.2);
        }
    }

    /// Returns random whole numbers: their sums are exact in any order.
    fn integers(seed: u64, count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.i8(-8..=8).into()).collect()
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(
            rows in 1_usize..20, depth in 1_usize..300, columns in 1_usize..80, seed: u64,
        ) {
            let (left, right) = (integers(seed, rows * depth), integers(!seed, depth * columns));
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
                let left_rows = RowMajor::new(&left, depth);
                Arch::new().dispatch(Multiply(left_rows, &panels, &mut result));
                for row in 0..rows {
                    for column in 0..columns {
                        let exact: f32 = (0..depth)
                            .map(|at| left[row * depth + at] * right[at * columns + column])
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
            let (left, right) = (integers(seed, depth * rows), integers(!seed, depth * columns));
            let mut result = vec![1.0; rows * columns];
            let (left_rows, right_rows) =
                (RowMajor::new(&left, rows), RowMajor::new(&right, columns));
            Arch::new().dispatch(MultiplyTransposed(left_rows, right_rows, &mut result));
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
