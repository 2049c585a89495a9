//! Position embeddings: the trunk's learned one, and the random Fourier features of prompts and
//! image.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};

use crate::models::device::to_cpu;
use crate::models::ops::{Function, TensorOps, cat, matmul, to_device, upload};

/// The constant of cubic convolution in torch's `interpolate`.
const CUBIC: f64 = -0.75;

/// Computes the trunk's position embedding for a map of `size` (height, width) in tokens.
///
/// `background (1, channels, h, w)` is resized, and `window (1, channels, s, s)` is tiled over it.
/// Returns `(1, height, width, channels)` in `f32` (Hiera's `_get_pos_embed`).
///
/// # Errors
/// Fails on mismatched shapes or dtypes.
pub fn trunk_position(
    background: &Tensor,
    window: &Tensor,
    size: (usize, usize),
) -> Result<Tensor> {
    let (height, width) = size;
    let (_, channels, side, _) = window.dims4()?;
    let tile = flat(window)?;
    let mut values = flat(&resize_cubic(background, size)?)?;
    for (index, value) in values.iter_mut().enumerate() {
        let (channel, y, x) = (index / (height * width), index / width % height, index % width);
        *value += tile[(channel * side + y % side) * side + x % side];
    }
    let sum = Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)?;
    to_device(&sum.permute((0, 2, 3, 1))?.contiguous()?, background.device())
}

/// Resizes `(1, channels, h, w)` to `size` (height, width) by cubic convolution, without
/// antialiasing and without aligned corners. Computes in `f32` on the CPU.
///
/// # Errors
/// Fails on mismatched shapes or dtypes.
pub fn resize_cubic(background: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (height, width) = size;
    let (_, channels, rows, columns) = background.dims4()?;
    let source = flat(background)?;
    let (down, across) = (cubic_weights(rows, height), cubic_weights(columns, width));
    let mut values = Vec::with_capacity(channels * height * width);
    for plane in source.chunks_exact(rows * columns) {
        for down in &down {
            for across in &across {
                let row = |&(y, weight): &(usize, f64)| {
                    let value =
                        |&(x, weight): &(usize, f64)| weight * f64::from(plane[y * columns + x]);
                    weight * across.iter().map(value).sum::<f64>()
                };
                values.push(down.iter().map(row).sum::<f64>() as f32);
            }
        }
    }
    Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)
}

/// Returns, for each of `to` positions, its four source positions and their weights.
fn cubic_weights(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    let near = |x: f64| ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC;
    let sources = |index: usize| {
        let source = (index as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = source.floor();
        let rest = source - first;
        let weights = [far(rest + 1.0), near(rest), near(1.0 - rest), far(2.0 - rest)];
        std::array::from_fn(|offset| {
            let position = (first + offset as f64 - 1.0).clamp(0.0, (from - 1) as f64);
            (position as usize, weights[offset])
        })
    };
    (0..to).map(sources).collect()
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    to_cpu(tensor)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Random Fourier features of positions, always in `f32` (`PositionEmbeddingRandom`).
#[derive(Debug, Clone)]
pub struct FourierPosition {
    /// `(2, channels / 2)`: a row for x and one for y.
    matrix: Tensor,
}

impl FourierPosition {
    /// Creates the features from the stored matrix `(2, channels / 2)` in `f32`.
    pub fn new(matrix: Tensor) -> Self {
        Self { matrix }
    }

    /// Maps x and y in 0..=1, `(…, 2)`, to sines followed by cosines, `(…, channels)` in `f32`.
    ///
    /// # Errors
    /// Fails on mismatched shapes or dtypes.
    pub fn forward(&self, positions: &Tensor) -> Result<Tensor> {
        let shape = positions.dims();
        let rows = shape[..shape.len() - 1].iter().product::<usize>();
        let centred = positions.reshaped((rows, 2))?.affine_of(2.0, -1.0)?;
        let angles = matmul(&centred, &self.matrix)?.affine_of(TAU, 0.0)?;
        let features = cat(&[&angles.each(Function::Sin)?, &angles.each(Function::Cos)?], 1)?;
        let channels = features.dim(1)?;
        let outer = shape[..shape.len() - 1].iter().copied();
        features.reshaped(outer.chain([channels]).collect::<Vec<_>>())
    }

    /// Returns the features of the cell centres of a square map, `(side², channels)` in `f32`, row
    /// by row.
    ///
    /// # Errors
    /// Fails if the device fails.
    pub fn of_map(&self, side: usize) -> Result<Tensor> {
        let centre = |index: usize| (index as f32 + 0.5) / side as f32;
        let cells = 0..side * side;
        let positions: Vec<f32> =
            cells.flat_map(|cell| [centre(cell % side), centre(cell / side)]).collect();
        self.forward(&upload(positions, (side * side, 2), self.matrix.device())?)
    }
}
