//! Cosine transforms (DCT-II) of overlapping blocks of 5×5 pixels, one for each tile of 3×3.

use std::f64::consts::PI;

use crate::metrics::lanes::{LANES, each, load, padded, store, vectorised};
use crate::metrics::plane::Plane;
use crate::metrics::row_window::RowWindow;

/// Side of a block in pixels.
pub(crate) const SIDE: usize = 5;
/// Side of a tile, the distance of neighbouring blocks.
const STEP: usize = 3;

/// Coefficients of a row of blocks, by their row and column. Each has one value for each block,
/// padded to whole lanes.
pub(crate) type Coefficients = [[Vec<f64>; SIDE]; SIDE];

/// Calls `visit` with the coefficients of each row of blocks and their number, from the top.
///
/// A block is centred on its tile. Outside the plane are zeros.
pub(crate) fn each_row_of_blocks<T: Copy + Into<f64>>(
    plane: &Plane<T>,
    mut visit: impl FnMut(&Coefficients, usize),
) {
    let basis = basis();
    let (width, height) = (plane.width(), plane.height());
    let blocks = width.div_ceil(STEP);
    let mut window = RowWindow::new(plane, SIDE);
    let mut columns = vec![0.0; padded(width)];
    // Two blocks use samples of the same tile.
    let mut phases = [(); STEP].map(|()| vec![0.0; padded(blocks) + LANES]);
    let mut coefficients: Coefficients =
        [(); SIDE].map(|()| [(); SIDE].map(|()| vec![0.0; padded(blocks)]));
    for tile in 0..height.div_ceil(STEP) {
        let rows = window.rows::<SIDE>(std::array::from_fn(|row| {
            (tile * STEP + row).checked_sub(1).filter(|&inside| inside < height)
        }));
        for (down, coefficients) in basis.iter().zip(&mut coefficients) {
            weigh_rows(down, rows, &mut columns);
            split(&columns[..width], &mut phases);
            weigh_columns(&basis, &phases, coefficients);
        }
        visit(&coefficients, blocks);
    }
}

/// Returns the orthonormal basis, by frequency and position.
fn basis() -> [[f64; SIDE]; SIDE] {
    let side = SIDE as f64;
    let value = |frequency: usize, position: usize| {
        let scale = if frequency == 0 { (1.0 / side).sqrt() } else { (2.0 / side).sqrt() };
        scale * (PI * (2 * position + 1) as f64 * frequency as f64 / (2.0 * side)).cos()
    };
    std::array::from_fn(|frequency| std::array::from_fn(|position| value(frequency, position)))
}

fn weigh_rows(weights: &[f64; SIDE], rows: [&[f64]; SIDE], result: &mut [f64]) {
    vectorised(|| {
        for at in (0..result.len()).step_by(LANES) {
            let mut sums = [0.0; LANES];
            for (weight, row) in weights.iter().zip(rows) {
                let values = load(row, at);
                sums = each(|lane| sums[lane] + weight * values[lane]);
            }
            store(result, at, sums);
        }
    });
}

/// Splits a row into every third sample: the one before each tile, and its first two.
fn split(row: &[f64], phases: &mut [Vec<f64>; STEP]) {
    let sample = |position: Option<usize>| position.and_then(|inside| row.get(inside)).copied();
    let tiles = row.len().div_ceil(STEP);
    for (phase, values) in phases.iter_mut().enumerate() {
        // One tile more, for the last two samples of the last block.
        for (tile, value) in values[..=tiles].iter_mut().enumerate() {
            *value = sample((tile * STEP + phase).checked_sub(1)).unwrap_or(0.0);
        }
    }
}

fn weigh_columns(
    basis: &[[f64; SIDE]; SIDE],
    phases: &[Vec<f64>; STEP],
    coefficients: &mut [Vec<f64>; SIDE],
) {
    vectorised(|| {
        for (across, result) in basis.iter().zip(coefficients) {
            for at in (0..result.len()).step_by(LANES) {
                let mut sums = [0.0; LANES];
                for (position, weight) in across.iter().enumerate() {
                    let values = load(&phases[position % STEP], at + position / STEP);
                    sums = each(|lane| sums[lane] + weight * values[lane]);
                }
                store(result, at, sums);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_transform_of_its_pixels() {
        let plane = Plane::new(7, (0..56_u8).map(|value| value.wrapping_mul(37) % 101).collect());
        let pixel = |x: isize, y: isize| {
            let inside = (0..7).contains(&x) && (0..8).contains(&y);
            if inside { f64::from(plane.row(y.unsigned_abs())[x.unsigned_abs()]) } else { 0.0 }
        };
        let basis = basis();
        let mut tile_row = 0;
        each_row_of_blocks(&plane, |coefficients, blocks| {
            assert_eq!(blocks, 3);
            for (a, b) in (0..25).map(|index| (index / 5, index % 5)) {
                for (block, found) in coefficients[a][b][..blocks].iter().enumerate() {
                    let mut expected = 0.0;
                    for (i, j) in (0..25).map(|index| (index / 5, index % 5)) {
                        let (x, y) = (3 * block + j, 3 * tile_row + i);
                        let value = pixel(x.cast_signed() - 1, y.cast_signed() - 1);
                        expected += basis[a][i] * basis[b][j] * value;
                    }
                    assert!((found - expected).abs() < 1e-10, "{found} is not {expected}");
                }
            }
            tile_row += 1;
        });
        assert_eq!(tile_row, 3);
    }
}
