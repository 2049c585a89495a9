//! The image tower with a ResNet: a stem of three convolutions, bottlenecks that halve the map by
//! pooling, and an attention pool (`ModifiedResNet` of OpenCLIP).
//!
//! Maps have their channels last. The norms of batches are folded into the convolutions before
//! them.

use candle_core::{DType, Result, Tensor, bail};

use crate::models::clip_iqa::attention_pool::AttentionPool;
use crate::models::clip_iqa::block::EPS;
use crate::models::clip_iqa::config::ResNetConfig;
use crate::models::device::to_cpu;
use crate::models::layers::{Convolution, Epilogue, Stride, mean_pool_2x2};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{TensorOps, upload};

/// The smallest side of an image in pixels: the map is halved five times.
pub(super) const SIDE_MIN: u32 = 32;

/// The image tower with a ResNet.
#[derive(Debug, Clone)]
pub struct ModifiedResNet {
    stem: Vec<Convolution>,
    layers: Vec<Vec<Bottleneck>>,
    attnpool: AttentionPool,
    dtype: DType,
}

#[derive(Debug, Clone)]
struct Bottleneck {
    conv1: Convolution,
    conv2: Convolution,
    conv3: Convolution,
    /// Projects the shortcut to more channels.
    downsample: Option<Convolution>,
    halves: bool,
}

/// The shape of a convolution.
#[derive(Clone, Copy)]
struct ConvolutionShape {
    into: usize,
    out: usize,
    side: usize,
    stride: Stride,
}

/// Returns the shape of a convolution of 3 × 3 pixels.
fn three(into: usize, out: usize, step: usize) -> ConvolutionShape {
    ConvolutionShape { into, out, side: 3, stride: Stride { step, padding: 1 } }
}

/// Returns the shape of a convolution of single pixels.
fn pointwise(into: usize, out: usize) -> ConvolutionShape {
    ConvolutionShape { into, out, side: 1, stride: Stride::ONE }
}

impl ModifiedResNet {
    /// Builds the tower from tensors in `f32`; it runs in `dtype`.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub(super) fn new(
        config: &ResNetConfig,
        embed_dim: usize,
        dtype: DType,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let width = config.width;
        let stem = [
            ("1", three(3, width / 2, 2)),
            ("2", three(width / 2, width / 2, 1)),
            ("3", three(width / 2, width, 1)),
        ];
        let stem = stem.map(|(index, shape)| {
            let names = (format!("conv{index}"), format!("bn{index}"));
            convolution(tensors, (&names.0, &names.1), shape, dtype)
        });
        let mut layers = Vec::new();
        let mut into = width;
        for (index, &count) in config.layers.iter().enumerate() {
            let planes = width << index;
            let tensors = tensors.pp(format!("layer{}", index + 1));
            let mut blocks = Vec::new();
            for block in 0..count {
                let halves = index > 0 && block == 0;
                blocks.push(Bottleneck::new(into, planes, halves, dtype, &tensors.pp(block))?);
                into = 4 * planes;
            }
            layers.push(blocks);
        }
        Ok(Self {
            stem: stem.into_iter().collect::<Result<_>>()?,
            layers,
            attnpool: AttentionPool::new([into, embed_dim], config.heads, &tensors.pp("attnpool"))?,
            dtype,
        })
    }

    /// Returns the feature of an image, not normalised.
    ///
    /// # Shapes
    /// - `pixels`: `(1, height, width, 3)` f32, sides of at least 32
    /// - result: `(1, embed_dim)` f32
    ///
    /// # Errors
    /// Fails on a smaller image, and on mismatched shapes, dtypes or devices.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        self.run(pixels, |_, _| Ok(()))
    }

    /// Does the same, and calls `observe` with the map after the stem (0) and after each layer (1
    /// to 4), `(1, height, width, channels)`.
    ///
    /// # Errors
    /// Fails as [`forward`](Self::forward) does, and if `observe` fails.
    pub fn run(
        &self,
        pixels: &Tensor,
        mut observe: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let (_, height, width, _) = pixels.dims4()?;
        if height.min(width) < SIDE_MIN as usize {
            bail!("an image of {width}×{height} px; the network needs {SIDE_MIN} px at each side");
        }
        let mut xs = pixels.cast(self.dtype)?;
        for convolution in &self.stem {
            xs = convolution.forward(&xs, Epilogue::Relu)?;
        }
        xs = mean_pool_2x2(&xs)?;
        observe(0, &xs)?;
        for (layer, blocks) in (1..).zip(&self.layers) {
            for block in blocks {
                xs = block.forward(&xs)?;
            }
            observe(layer, &xs)?;
        }
        self.attnpool.forward(&xs)
    }
}

impl Bottleneck {
    fn new(
        into: usize,
        planes: usize,
        halves: bool,
        dtype: DType,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let build =
            |conv: &str, norm: &str, shape| convolution(tensors, (conv, norm), shape, dtype);
        let needs_projection = halves || into != 4 * planes;
        let projection = || build("downsample.0", "downsample.1", pointwise(into, 4 * planes));
        Ok(Self {
            conv1: build("conv1", "bn1", pointwise(into, planes))?,
            conv2: build("conv2", "bn2", three(planes, planes, 1))?,
            conv3: build("conv3", "bn3", pointwise(planes, 4 * planes))?,
            downsample: needs_projection.then(projection).transpose()?,
            halves,
        })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let halve = |xs: Tensor| if self.halves { mean_pool_2x2(&xs) } else { Ok(xs) };
        let inner = self.conv1.forward(xs, Epilogue::Relu)?;
        let inner = halve(self.conv2.forward(&inner, Epilogue::Relu)?)?;
        let shortcut = halve(xs.clone())?;
        let shortcut = match &self.downsample {
            Some(projection) => projection.forward(&shortcut, Epilogue::Nothing)?,
            None => shortcut,
        };
        self.conv3.forward(&inner, Epilogue::AddRelu(&shortcut))
    }
}

/// Builds a convolution with the norm of batches after it: the weight times `s = γ / √(σ² + ε)`,
/// and the bias `β − μ · s`.
fn convolution(
    tensors: &Tensors<'_>,
    (conv, norm): (&str, &str),
    shape: ConvolutionShape,
    dtype: DType,
) -> Result<Convolution> {
    let ConvolutionShape { into, out, side, stride } = shape;
    let norm = tensors.pp(norm);
    let values = |name: &str| -> Result<Vec<f64>> {
        to_cpu(&norm.get(out, name)?)?.to_dtype(DType::F64)?.to_vec1()
    };
    let (gamma, beta) = (values("weight")?, values("bias")?);
    let (mean, variance) = (values("running_mean")?, values("running_var")?);
    let scales =
        gamma.iter().zip(&variance).map(|(gamma, variance)| gamma / (variance + EPS).sqrt());
    let scales: Vec<f64> = scales.collect();
    let biases =
        beta.iter().zip(&mean).zip(&scales).map(|((beta, mean), scale)| beta - mean * scale);
    let weight = tensors.pp(conv).get((out, into, side, side), "weight")?;
    let uploaded = |values: Vec<f64>, shape: &[usize]| {
        upload(values.into_iter().map(single).collect(), shape, weight.device())
    };
    let bias = uploaded(biases.collect(), &[out])?;
    let folded = weight.times_repeated(&uploaded(scales, &[out, 1, 1, 1])?)?;
    Convolution::new(folded.cast(dtype)?, bias.cast(dtype)?, stride)
}

#[expect(clippy::cast_possible_truncation, reason = "f32 is the dtype of the weights")]
fn single(value: f64) -> f32 {
    value as f32
}
