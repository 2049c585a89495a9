//! Layers built from named tensors.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::models::layers::{LayerNorm, Linear};
use crate::models::ops::{Function, TensorOps, upload};

/// Loads a linear layer: `weight (out, in)` and `bias (out)`.
pub(crate) fn linear(width_in: usize, width_out: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    Ok(Linear::new(vb.get((width_out, width_in), "weight")?, vb.get(width_out, "bias")?))
}

/// Loads a convolution of 1 × 1 pixel as a linear layer: `weight (out, in, 1, 1)` and `bias (out)`.
pub(crate) fn pointwise(width_in: usize, width_out: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get((width_out, width_in, 1, 1), "weight")?;
    Ok(Linear::new(weight.reshaped((width_out, width_in))?, vb.get(width_out, "bias")?))
}

/// Loads a layer norm: `weight (channels)` and `bias (channels)`.
pub(crate) fn layer_norm(channels: usize, eps: f32, vb: &VarBuilder<'_>) -> Result<LayerNorm> {
    Ok(LayerNorm::new(vb.get(channels, "weight")?, vb.get(channels, "bias")?, eps))
}

/// Selects rows of the first dimension, in this order; a row may occur several times.
pub(crate) fn select_rows(tensor: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let indices: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    tensor.entries(&upload(indices, rows.len(), tensor.device())?, 0)
}

/// Returns the image of each prompt, `(images, …)` to `(prompts, …)`. Consecutive images are a
/// view, and so is one image for all prompts: a first dimension without stride, which products and
/// element-wise operations accept.
pub(crate) fn select_images(images: &Tensor, image_of: &[usize]) -> Result<Tensor> {
    let Some(&first) = image_of.first() else {
        return images.narrow(0, 0, 0);
    };
    let prompts = image_of.len();
    if image_of.iter().copied().eq(first..first + prompts) {
        return images.narrow(0, first, prompts);
    }
    if image_of.iter().all(|&image| image == first) {
        let mut shape = images.dims().to_vec();
        shape[0] = prompts;
        return images.narrow(0, first, 1)?.broadcast_as(shape);
    }
    select_rows(images, image_of)
}

/// A multi-layer perceptron with ReLU between its layers, in the dtype of its weights.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Loads `layers.0`, `layers.1`, … with these widths, from that of the input to that of the
    /// output.
    pub(crate) fn new(widths: &[usize], vb: &VarBuilder<'_>) -> Result<Self> {
        let vb_layers = vb.pp("layers");
        let layers = widths
            .windows(2)
            .enumerate()
            .map(|(index, pair)| linear(pair[0], pair[1], &vb_layers.pp(index)))
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// `(…, in)` of any dtype to `(…, out)` in that of the weights.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut hidden = xs.cast(self.layers[0].weight().dtype())?;
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                hidden = hidden.each(Function::Relu)?;
            }
            hidden = layer.forward(&hidden)?;
        }
        Ok(hidden)
    }
}
