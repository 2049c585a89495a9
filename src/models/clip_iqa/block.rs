//! A transformer block of the text tower and of the ViT: attention, then an MLP, each on a
//! normalised copy of its input.

use candle_core::{Result, Tensor};

use crate::models::layers::{HeadLayout, LayerNorm, Linear, Visibility, grouped_attention};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{Function, TensorOps};

/// Added to variances.
pub(super) const EPS: f64 = 1e-5;

/// The widths of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockWidths {
    /// Values of a token.
    pub(super) width: usize,
    /// Values between the two layers of the MLP.
    pub(super) inner: usize,
    /// Heads.
    pub(super) heads: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    out_proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: HeadLayout,
}

impl Block {
    /// Builds a block from tensors with the names of OpenCLIP.
    pub(super) fn of_open_clip(widths: BlockWidths, tensors: &Tensors<'_>) -> Result<Self> {
        let BlockWidths { width, inner, .. } = widths;
        let (attention, mlp) = (tensors.pp("attn"), tensors.pp("mlp"));
        let weight = attention.get((3 * width, width), "in_proj_weight")?;
        Ok(Self {
            norm1: tensors.pp("ln_1").layer_norm(width, EPS)?,
            qkv: Linear::new(weight, attention.get(3 * width, "in_proj_bias")?),
            out_proj: attention.pp("out_proj").linear(width, width)?,
            norm2: tensors.pp("ln_2").layer_norm(width, EPS)?,
            fc1: mlp.pp("c_fc").linear(width, inner)?,
            fc2: mlp.pp("c_proj").linear(inner, width)?,
            heads: heads_of(widths),
        })
    }

    /// Builds a block from tensors with the Hub's names.
    pub(super) fn of_hub(widths: BlockWidths, tensors: &Tensors<'_>) -> Result<Self> {
        let BlockWidths { width, inner, .. } = widths;
        let (attention, mlp) = (tensors.pp("self_attn"), tensors.pp("mlp"));
        let parts = ["q_proj", "k_proj", "v_proj"].map(|name| (name, width));
        Ok(Self {
            norm1: tensors.pp("layer_norm1").layer_norm(width, EPS)?,
            qkv: Linear::new(attention.weights(width, &parts)?, attention.biases(&parts)?),
            out_proj: attention.pp("out_proj").linear(width, width)?,
            norm2: tensors.pp("layer_norm2").layer_norm(width, EPS)?,
            fc1: mlp.pp("fc1").linear(width, inner)?,
            fc2: mlp.pp("fc2").linear(inner, width)?,
            heads: heads_of(widths),
        })
    }

    /// `(sequences, tokens, width)` to `(sequences, tokens, width)`.
    pub(super) fn forward(&self, xs: &Tensor, visibility: &Visibility) -> Result<Tensor> {
        let width = xs.dim(2)?;
        let qkv = self.qkv.forward(&self.norm1.forward(xs)?)?;
        let kv = qkv.narrow(2, width, 2 * width)?.dense()?;
        let attended = grouped_attention(&qkv, &[&kv], visibility, self.heads)?;
        let xs = self.out_proj.forward_residual(&attended, xs)?;
        let inner = quick_gelu(&self.fc1.forward(&self.norm2.forward(&xs)?)?)?;
        self.fc2.forward_residual(&inner, &xs)
    }
}

fn heads_of(BlockWidths { width, heads, .. }: BlockWidths) -> HeadLayout {
    HeadLayout { query_heads: heads, kv_heads: heads, head_dim: width / heads }
}

/// `x · sigmoid(1.702 x)`.
fn quick_gelu(xs: &Tensor) -> Result<Tensor> {
    xs.affine_of(1.702, 0.0)?.each(Function::Sigmoid)?.times(xs)
}
