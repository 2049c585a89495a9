//! Layers from named weights.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::layers::{LayerNorm, Linear};

/// `weight (out, in)` and `bias (out)`.
pub(super) fn linear(width_in: usize, width_out: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    Ok(Linear::new(vb.get((width_out, width_in), "weight")?, vb.get(width_out, "bias")?))
}

/// A convolution of 1 × 1 pixel, which on tokens is a linear layer: `weight (out, in, 1, 1)`.
pub(super) fn pointwise(width_in: usize, width_out: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get((width_out, width_in, 1, 1), "weight")?;
    Ok(Linear::new(weight.reshape((width_out, width_in))?, vb.get(width_out, "bias")?))
}

/// `weight (channels)` and `bias (channels)`.
pub(super) fn layer_norm(channels: usize, eps: f32, vb: &VarBuilder<'_>) -> Result<LayerNorm> {
    Ok(LayerNorm::new(vb.get(channels, "weight")?, vb.get(channels, "bias")?, eps))
}

/// Rows of the first dimension, in this order and as often as they are named.
pub(super) fn select_rows(tensor: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let indices: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    tensor.index_select(&Tensor::from_vec(indices, rows.len(), tensor.device())?, 0)
}

/// A multi-layer perceptron with ReLU between its layers.
#[derive(Debug, Clone)]
pub(super) struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Opens `layers.0`, `layers.1`, … with these widths, from the input's to the output's.
    pub(super) fn new(widths: &[usize], vb: &VarBuilder<'_>) -> Result<Self> {
        let vb = vb.pp("layers");
        let layers = widths
            .windows(2)
            .enumerate()
            .map(|(index, pair)| linear(pair[0], pair[1], &vb.pp(index)))
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// `(…, in)` to `(…, out)`.
    pub(super) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = xs.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                xs = xs.relu()?;
            }
            xs = layer.forward(&xs)?;
        }
        Ok(xs)
    }
}
