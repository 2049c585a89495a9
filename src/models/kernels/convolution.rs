//! Convolutions of maps with their channels last, as products with a weight that is packed once.
//!
//! Each task gathers the patches of some pixels, multiplies them and finishes the result while it
//! is in the cache. So the patches of a whole map, nine times its size, are never in memory.

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::models::kernels::panels::{Panels, Tiles, multiply_tiles};
use crate::models::kernels::values::Values;

/// Values of the patches of one task, about the size of the second-level cache.
const TASK_VALUES: usize = 1 << 17;
/// Most pixels of one task.
const TASK_PIXELS: usize = 256;

/// The step of a convolution, and the zeros around its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stride {
    /// Pixels from one patch to the next, in both directions.
    pub step: usize,
    /// Rows and columns of zeros on each side.
    pub padding: usize,
}

impl Stride {
    /// Every pixel, without padding.
    pub const ONE: Self = Self { step: 1, padding: 0 };

    /// Returns the length of a side of the result, or `None` if the map is smaller than a patch.
    pub(crate) fn result_side(self, length: usize, patch: usize) -> Option<usize> {
        Some((length + 2 * self.padding).checked_sub(patch)? / self.step + 1)
    }
}

/// The operation after a convolution and its bias.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// None.
    Nothing,
    /// `max(x, 0)`.
    Relu,
    /// Adds a shortcut of the result's shape, then `max(x, 0)`.
    AddRelu(&'a Tensor),
}

/// A packed convolution for `f32` on the CPU. Clones share it.
#[derive(Clone)]
pub struct PackedConvolution {
    /// `(side · side · in, out)`.
    weight: Arc<Panels>,
    bias: Arc<[f32]>,
    channels: usize,
    side: usize,
    stride: Stride,
}

impl fmt::Debug for PackedConvolution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bias, channels, side, .. } = self;
        write!(formatter, "PackedConvolution({} × {side} × {side} × {channels})", bias.len())
    }
}

impl PackedConvolution {
    /// Packs `weight (out, side, side, in)` and `bias (out)`.
    pub(crate) fn new(weight: &Tensor, bias: &Tensor, stride: Stride) -> Result<Self> {
        let (_, side, _, channels) = weight.dims4()?;
        let values = Values::of(weight)?;
        Ok(Self {
            weight: Arc::new(Panels::pack_transposed(&values, side * side * channels)),
            bias: Values::of(bias)?.to_vec().into(),
            channels,
            side,
            stride,
        })
    }

    /// `(batch, height, width, in)` to `(batch, height', width', out)`.
    pub(crate) fn forward(&self, map: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let (batch, height, width, channels) = map.dims4()?;
        let sides = [height, width].map(|length| self.stride.result_side(length, self.side));
        let ([Some(rows), Some(columns)], true) = (sides, channels == self.channels) else {
            bail!("a convolution {self:?} of a map {:?}", map.dims());
        };
        let (source, out) = (Values::of(map)?, self.bias.len());
        let shortcut = match epilogue {
            Epilogue::AddRelu(shortcut) => Some(Values::of(shortcut)?),
            Epilogue::Nothing | Epilogue::Relu => None,
        };
        let depth = self.side * self.side * channels;
        // Whole tiles of eight rows.
        let pixels = (TASK_VALUES / depth.max(out)).clamp(8, TASK_PIXELS) / 8 * 8;
        let mut values = vec![0.0; batch * rows * columns * out];
        values.par_chunks_mut(pixels * out).enumerate().for_each(|(task, values)| {
            let first = task * pixels;
            Arch::new().dispatch(Task {
                convolution: self,
                source: &source,
                size: [height, width],
                result_size: [rows, columns],
                first,
                shortcut: shortcut.as_ref().map(|all| &all[first * out..][..values.len()]),
                is_rectified: !matches!(epilogue, Epilogue::Nothing),
                values,
            });
        });
        Tensor::from_vec(values, (batch, rows, columns, out), map.device())
    }
}

/// Some pixels of the result, from `first` on.
struct Task<'a> {
    convolution: &'a PackedConvolution,
    source: &'a [f32],
    size: [usize; 2],
    result_size: [usize; 2],
    first: usize,
    shortcut: Option<&'a [f32]>,
    is_rectified: bool,
    values: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { source, size: [height, width], result_size: [rows, columns], .. } = self;
        let PackedConvolution { weight, bias, channels, side, stride } = self.convolution;
        let (channels, side, out) = (*channels, *side, bias.len());
        let count = self.values.len() / out;
        let origins = (self.first..self.first + count).map(|pixel| {
            let (picture, row) = (pixel / (rows * columns), pixel / columns % rows);
            (picture, row * stride.step, pixel % columns * stride.step)
        });
        let origins: Vec<(usize, usize, usize)> = origins.collect();
        let tap = |pixel: usize, tap: usize| {
            let (picture, top, left) = origins[pixel];
            // `None` is a pixel of the padding.
            let y = (top + tap / side).checked_sub(stride.padding).filter(|y| *y < height)?;
            let x = (left + tap % side).checked_sub(stride.padding).filter(|x| *x < width)?;
            Some(&source[((picture * height + y) * width + x) * channels..][..channels])
        };
        let patches = Tiles::pack_parts(simd, count, (side * side, channels), tap);
        let padded = weight.padded_columns();
        let mut found = vec![0.0; count * padded];
        multiply_tiles(simd, &patches, weight, &mut found);
        for (pixel, values) in self.values.chunks_exact_mut(out).enumerate() {
            let found = &found[pixel * padded..][..out];
            for ((to, from), bias) in values.iter_mut().zip(found).zip(bias.iter()) {
                *to = from + bias;
            }
            if let Some(shortcut) = self.shortcut {
                for (to, from) in values.iter_mut().zip(&shortcut[pixel * out..][..out]) {
                    *to += from;
                }
            }
            if self.is_rectified {
                for to in values {
                    // Unlike `max`, keeps what is not a number.
                    *to = if *to < 0.0 { 0.0 } else { *to };
                }
            }
        }
    }
}
