//! The variance of a picture's noise.
//!
//! The operator of Immerkær ("Fast noise variance estimation", CVIU 64(2), 1996), the difference of
//! two Laplacians, responds to noise and hardly to edges. It is applied to blocks at two scales.
//! White noise has the same variance at both, after the halving is undone. Texture has more at the
//! coarse scale, so the fine energy is reduced by the ratio of the two. The result is the median
//! over the quarter of the blocks with the least coarse activity, as in the block method that Olsen
//! (CVGIP 55(4), 1993) found best. Blocks that are black or blown out show no noise and are ignored
//! while there are others.

use crate::models::classic::features::plane::Plane;

/// Side of a block on the full plane, in pixels.
const BLOCK_PX: usize = 16;
/// Sum of the squares of the operator's weights.
const OPERATOR_ENERGY: f32 = 36.0;
/// Mean values of blocks that show their noise: darker and brighter ones are clipped.
const SHOWS_NOISE: std::ops::RangeInclusive<f32> = 4.0..=251.0;

#[derive(Debug, Clone, Copy)]
struct Block {
    variance: f32,
    activity: f32,
    mean: f32,
    /// Energies of the operator on the plane and on its half.
    energies: [f32; 2],
}

/// The measurements of the blocks of all tiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noise {
    blocks: Vec<Block>,
}

impl Noise {
    /// Adds a tile's plane with its half and its quarter.
    pub(crate) fn add(&mut self, plane: &Plane, half: &Plane, quarter: &Plane) {
        // Tiny pictures have no room for whole blocks, so theirs are smaller.
        let shorter = plane.width.min(plane.height);
        let block = if shorter >= 2 * BLOCK_PX { BLOCK_PX } else { BLOCK_PX / 2 };
        let grid = BlockGrid { columns: plane.width / block, rows: plane.height / block };
        if grid.columns == 0 || grid.rows == 0 {
            return;
        }
        let fine = operator_energy(plane, block, grid);
        let coarse = operator_energy(half, block / 2, grid);
        let moments = moments(quarter, block / 4, grid);
        for ((fine, coarse), (mean, activity)) in fine.into_iter().zip(coarse).zip(moments) {
            // Halving removes three quarters of the variance of white noise.
            let restored = 4.0 * coarse;
            let variance = if restored > fine { fine * fine / restored } else { fine };
            self.blocks.push(Block { variance, activity, mean, energies: [fine, coarse] });
        }
    }

    /// Adds the measurements of other tiles.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.blocks.extend_from_slice(&other.blocks);
    }

    /// Returns the operator's mean energy on the plane and on its half: that of the finest detail
    /// in both axes and of the next coarser one.
    pub(crate) fn energies(&self) -> [f32; 2] {
        let count = self.blocks.len().max(1) as f32;
        [0, 1]
            .map(|scale| self.blocks.iter().map(|block| block.energies[scale]).sum::<f32>() / count)
    }

    /// Returns the variance of the noise in squared grey levels; 0 if there is no block.
    pub(crate) fn variance(&self) -> f64 {
        let shows = |block: &&Block| SHOWS_NOISE.contains(&block.mean);
        let mut blocks: Vec<Block> = self.blocks.iter().filter(shows).copied().collect();
        if blocks.is_empty() {
            blocks.clone_from(&self.blocks);
        }
        if blocks.is_empty() {
            return 0.0;
        }
        let flat = blocks.len().div_ceil(4);
        blocks.select_nth_unstable_by(flat - 1, |a, b| a.activity.total_cmp(&b.activity));
        let mut variances: Vec<f32> = blocks[..flat].iter().map(|block| block.variance).collect();
        let middle = variances.len() / 2;
        let (_, median, _) = variances.select_nth_unstable_by(middle, f32::total_cmp);
        f64::from(*median)
    }
}

/// The blocks of a plane that are measured.
#[derive(Clone, Copy)]
struct BlockGrid {
    columns: usize,
    rows: usize,
}

/// Returns the mean squared response of the operator in each block, in units of a pixel's variance.
fn operator_energy(plane: &Plane, block: usize, grid: BlockGrid) -> Vec<f32> {
    let (width, height) = (plane.width, plane.height);
    let mut sums = vec![0.0; grid.columns * grid.rows];
    let mut counts = vec![0_u32; grid.columns * grid.rows];
    let mut vertical = vec![0.0; width];
    let mut squares = vec![0.0; width];
    for y in 1..height.saturating_sub(1).min(grid.rows * block) {
        let (above, here, below) = (plane.row(y - 1), plane.row(y), plane.row(y + 1));
        for x in 0..width {
            vertical[x] = above[x] - 2.0 * here[x] + below[x];
        }
        for x in 1..width - 1 {
            let response = vertical[x - 1] - 2.0 * vertical[x] + vertical[x + 1];
            squares[x] = response * response;
        }
        // The operator does not reach the border pixels.
        for column in 0..grid.columns {
            let span = (column * block).max(1)..((column + 1) * block).min(width - 1);
            let index = y / block * grid.columns + column;
            counts[index] += span.len() as u32;
            sums[index] += squares[span].iter().sum::<f32>();
        }
    }
    let mean = |(sum, count): (f32, u32)| sum / (count.max(1) as f32) / OPERATOR_ENERGY;
    sums.into_iter().zip(counts).map(mean).collect()
}

/// Returns mean and variance of each block.
fn moments(plane: &Plane, block: usize, grid: BlockGrid) -> Vec<(f32, f32)> {
    let mut sums = vec![[0.0_f32; 2]; grid.columns * grid.rows];
    for y in 0..grid.rows * block {
        for (column, values) in plane.row(y).chunks_exact(block).take(grid.columns).enumerate() {
            let sum = &mut sums[y / block * grid.columns + column];
            for value in values {
                sum[0] += value;
                sum[1] += value * value;
            }
        }
    }
    let count = (block * block) as f32;
    let moments = |[sum, squares]: [f32; 2]| {
        let mean = sum / count;
        (mean, (squares / count - mean * mean).max(0.0))
    };
    sums.into_iter().map(moments).collect()
}
