//! Masks on the host. From a GPU only the parts near the objects are copied: most of a mask is
//! background, and the copy takes longer than drawing it.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::models::device::{HostRows, to_cpu};
use crate::models::ops::{TensorOps, runs_on_gpu};
use crate::models::sam2::load::select_rows;

/// Values of a row of a mask that are copied together.
const BLOCK: usize = 16;
/// Stands for a block that was not copied.
const NOT_COPIED: u32 = u32::MAX;

/// The logits of some masks of one size.
#[derive(Debug)]
pub(super) struct HostMasks {
    rows: HostRows,
    side: usize,
    background: f32,
    /// For each block of each mask, its row, or [`NOT_COPIED`]. Empty if a row is a whole mask.
    row_of: Vec<u32>,
}

impl HostMasks {
    /// Creates an empty set.
    pub(super) fn new() -> Self {
        Self { rows: HostRows::new(), side: 0, background: 0.0, row_of: Vec::new() }
    }

    /// Replaces the masks by those of a tensor `(masks, side, side)`, f32 or f16.
    ///
    /// Logits of at most `background` may be replaced by `background`, where no neighbour is above
    /// it. A pixel that is interpolated from such logits is not above it either, except for
    /// rounding. No count at a threshold that is higher by more than that changes, and no box.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub(super) fn fill(&mut self, masks: &Tensor, background: f32) -> Result<()> {
        self.side = masks.dim(2)?;
        self.background = background;
        self.row_of.clear();
        if runs_on_gpu(masks.device()) && self.side.is_multiple_of(BLOCK) {
            self.fill_near_objects(masks)
        } else {
            self.rows.fill(masks)
        }
    }

    fn fill_near_objects(&mut self, masks: &Tensor) -> Result<()> {
        let count = masks.elem_count() / BLOCK;
        let blocks = masks.reshaped((count, BLOCK))?;
        // Halving is faster than a reduction, which starts a block of threads for each result.
        let mut largest = blocks.clone();
        let mut width = BLOCK;
        while width > 1 {
            width /= 2;
            largest = largest.narrow(1, 0, width)?.larger(&largest.narrow(1, width, width)?)?;
        }
        // A logit that is not a number is copied, and found there.
        let is_background: Vec<u8> =
            to_cpu(&largest.at_most(self.background)?)?.flatten_all()?.to_vec1()?;
        let across = self.side / BLOCK;
        self.row_of.resize(count, NOT_COPIED);
        let of_masks = self.row_of.par_chunks_exact_mut(across * self.side);
        of_masks.zip(is_background.par_chunks_exact(across * self.side)).for_each(
            |(row_of, is_background)| {
                for block in (0..row_of.len()).filter(|&block| is_background[block] == 0) {
                    for near in neighbours(block, across, self.side) {
                        row_of[near] = 0;
                    }
                }
            },
        );
        let mut copied = Vec::new();
        for (block, row_of) in self.row_of.iter_mut().enumerate() {
            if *row_of != NOT_COPIED {
                *row_of = u32::try_from(copied.len()).unwrap_or(NOT_COPIED);
                copied.push(block);
            }
        }
        if copied.is_empty() {
            return Ok(());
        }
        self.rows.fill(&select_rows(&blocks, &copied)?)
    }

    /// Returns the logits of one mask, row by row.
    ///
    /// # Errors
    /// Fails on a mask that does not exist.
    pub(super) fn logits(&self, mask: usize) -> Result<Vec<f32>> {
        if self.row_of.is_empty() {
            return self.rows.row(mask);
        }
        let mut logits = vec![self.background; self.side * self.side];
        let blocks = self.side * self.side / BLOCK;
        let of_mask = self.row_of[mask * blocks..].iter().zip(logits.chunks_exact_mut(BLOCK));
        for (&row, values) in of_mask.filter(|(row, _)| **row != NOT_COPIED) {
            self.rows.copy_row(row as usize, values)?;
        }
        Ok(logits)
    }
}

/// Returns a block and those that it touches, in a mask of `across` × `down` blocks.
fn neighbours(block: usize, across: usize, down: usize) -> impl Iterator<Item = usize> {
    let (y, x) = (block / across, block % across);
    let rows = y.saturating_sub(1)..(y + 2).min(down);
    rows.flat_map(move |y| (x.saturating_sub(1)..(x + 2).min(across)).map(move |x| y * across + x))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::models::kernels::MaskEnlargement;
    use crate::models::sam2::amg::small_regions::clean_logits;

    const SIDE: usize = 64;

    /// Some discs with holes, islands and soft edges.
    fn masks() -> Tensor {
        let mut random = fastrand::Rng::with_seed(5);
        let mut values = Vec::new();
        for mask in 0..6 {
            let radius = 2.0 + 4.0 * f64::from(mask);
            let (x0, y0) = (64.0 * random.f64(), 64.0 * random.f64());
            for index in 0..SIDE * SIDE {
                let (x, y) = ((index % SIDE) as f64, (index / SIDE) as f64);
                let distance = (x - x0).hypot(y - y0);
                // Holes inside, islands outside.
                let speck = if distance < 2.0 * radius && random.u8(..) < 9 { -1.0 } else { 1.0 };
                values.push((speck * (radius - distance) + random.f64()) as f32);
            }
        }
        Tensor::from_vec(values, (6, SIDE, SIDE), &Device::Cpu).unwrap()
    }

    #[test]
    fn counts_and_boxes_are_those_of_the_whole_masks() {
        let masks = masks();
        let background = -1.02;
        for dtype in [DType::F32, DType::F16] {
            let masks = masks.to_dtype(dtype).unwrap();
            let (mut whole, mut near) = (HostMasks::new(), HostMasks::new());
            whole.fill(&masks, background).unwrap();
            near.side = SIDE;
            near.background = background;
            near.fill_near_objects(&masks).unwrap();
            let copied = near.row_of.iter().filter(|row| **row != NOT_COPIED).count();
            assert!(copied < near.row_of.len() * 3 / 4, "{copied} of {}", near.row_of.len());
            let enlargement = MaskEnlargement::new((SIDE, SIDE), (171, 130));
            for (mask, area) in (0..6).flat_map(|mask| [0, 25, 1000].map(|area| (mask, area))) {
                let measured = [&whole, &near].map(|masks| {
                    let mut logits = masks.logits(mask).unwrap();
                    clean_logits(&mut logits, SIDE, 0.0, area, area);
                    enlargement.measure(&logits, [-1.0, 0.0, 1.0])
                });
                assert_eq!(measured[0], measured[1], "mask {mask}, area {area}");
            }
        }
    }
}
