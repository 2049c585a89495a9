//! A weight that is packed once, for products with few rows.
//!
//! Such a product spends its time reading the weight. A general routine packs the weight again for
//! every product, which would double that time.

use std::fmt;
use std::sync::Arc;

use candle_core::{D, Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::models::kernels::panels::{Panels, RowMajor, Tiles, multiply_tiles};
use crate::models::kernels::values::Values;

/// Outputs that one task computes.
const OUTPUTS: usize = 128;
/// Rows that are multiplied with a part of the weight at a time; both stay in the second-level
/// cache.
const ROWS: usize = 128;

/// A packed weight `(out, in)` f32 on the CPU. Clones share it.
#[derive(Clone)]
pub struct PackedWeight {
    /// Parts of [`OUTPUTS`] outputs, each `(in, outputs)`.
    parts: Arc<[Panels]>,
    out: usize,
    width: usize,
}

impl fmt::Debug for PackedWeight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PackedWeight({} × {})", self.out, self.width)
    }
}

impl PackedWeight {
    /// Packs `weight (out, in)`.
    pub(crate) fn new(weight: &Tensor) -> Result<Self> {
        let (out, width) = weight.dims2()?;
        let values = Values::of(weight)?;
        let values = &*values;
        let parts = values.par_chunks(OUTPUTS * width);
        let parts: Vec<Panels> = parts.map(|rows| Panels::pack_transposed(rows, width)).collect();
        Ok(Self { parts: parts.into(), out, width })
    }

    /// Returns the input's width.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// `xs · weightᵀ`: `(…, in)` to `(…, out)`.
    pub(crate) fn product(&self, xs: &Tensor) -> Result<Tensor> {
        let source = Values::of(xs)?;
        let source = &*source;
        let count = source.len() / self.width;
        // Packed once for all parts of the weight.
        let blocks: Vec<Tiles> = source
            .par_chunks(ROWS * self.width)
            .map(|rows| Arch::new().dispatch(Pack { rows, width: self.width }))
            .collect();
        let found: Vec<Vec<f32>> = self
            .parts
            .par_iter()
            .map(|part| {
                let mut found = vec![0.0; count * part.padded_columns()];
                let found_of_blocks = found.chunks_mut(ROWS * part.padded_columns());
                for (left, found) in blocks.iter().zip(found_of_blocks) {
                    Arch::new().dispatch(Product { left, part, found });
                }
                found
            })
            .collect();
        let mut values = vec![0.0; count * self.out];
        values.par_chunks_mut(self.out.max(1)).enumerate().for_each(|(row, values)| {
            for (to, (part, from)) in values.chunks_mut(OUTPUTS).zip(self.parts.iter().zip(&found))
            {
                to.copy_from_slice(&from[row * part.padded_columns()..][..to.len()]);
            }
        });
        let mut shape = xs.dims().to_vec();
        *shape.last_mut().expect("rows have a length") = self.out;
        debug_assert_eq!(xs.dim(D::Minus1)?, self.width);
        Tensor::from_vec(values, shape, xs.device())
    }
}

/// Packs rows of a width.
struct Pack<'a> {
    rows: &'a [f32],
    width: usize,
}

impl WithSimd for Pack<'_> {
    type Output = Tiles;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Tiles {
        let rows = RowMajor::new(self.rows, self.width);
        Tiles::pack(simd, rows, self.rows.len() / self.width, self.width)
    }
}

struct Product<'a> {
    left: &'a Tiles,
    part: &'a Panels,
    found: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        multiply_tiles(simd, self.left, self.part, self.found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn a_packed_product_equals_the_plain_product() -> Result<()> {
        for (rows, width, out) in [(1, 5, 3), (9, 70, 300), (130, 33, 512)] {
            let weight = random(0.0, 0.1, &[out, width])?;
            let xs = random(0.0, 1.0, &[rows, width])?;
            let plain = xs.matmul(&weight.t()?)?;
            assert_close(&PackedWeight::new(&weight)?.product(&xs)?, &plain, 2e-5)?;
        }
        Ok(())
    }
}
