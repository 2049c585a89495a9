//! The attention pool of a ResNet, without positions, so that it reads maps of any size.
//!
//! Its only query is the mean of the map. So the query is projected to the cells once, instead of
//! each cell to a key and a value: `q · (K x) = (Kᵀ q) · x`, and `Σ w (V x) = V Σ w x`. The bias of
//! the keys adds the same to every score, which a softmax ignores.

use candle_core::{DType, Result, Tensor};

use crate::models::layers::Linear;
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{Reduction, TensorOps, cat, matmul, softmax_last_dim};

/// An attention with one query, in `f32`.
#[derive(Debug, Clone)]
pub(super) struct AttentionPool {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    c_proj: Linear,
    heads: usize,
}

impl AttentionPool {
    /// Builds the pool for maps of `width` channels from tensors in `f32`.
    pub(super) fn new(
        [width, embed_dim]: [usize; 2],
        heads: usize,
        tensors: &Tensors<'_>,
    ) -> Result<Self> {
        let project = |name, out| tensors.pp(name).linear(width, out);
        Ok(Self {
            q_proj: project("q_proj", width)?,
            k_proj: project("k_proj", width)?,
            v_proj: project("v_proj", width)?,
            c_proj: project("c_proj", embed_dim)?,
            heads,
        })
    }

    /// `(1, height, width, channels)` to `(1, embed_dim)` f32.
    pub(super) fn forward(&self, map: &Tensor) -> Result<Tensor> {
        let (_, height, wide, channels) = map.dims4()?;
        let (heads, cells) = (self.heads, height * wide);
        let head_dim = channels / heads;
        let cells_rows = map.cast(DType::F32)?.reshaped((cells, channels))?;
        let mean = cells_rows.reduced(Reduction::Sum, 0)?.affine_of(1.0 / cells as f64, 0.0)?;
        let tokens = cat(&[&mean, &cells_rows], 0)?;
        // 1. The query of each head, as a row to multiply the tokens with: (heads, channels).
        let query = self.q_proj.forward(&mean)?.affine_of((head_dim as f64).powf(-0.5), 0.0)?;
        let by_head = |linear: &Linear| linear.weight().reshaped((heads, head_dim, channels));
        let query = query.reshaped((heads, 1, head_dim))?;
        let query = matmul(&query, &by_head(&self.k_proj)?)?.reshaped((heads, channels))?;
        // 2. The weighted mean of the tokens for each head.
        let weights = softmax_last_dim(&matmul(&query, &tokens.t()?)?)?;
        let pooled = matmul(&weights, &tokens)?.reshaped((heads, channels, 1))?;
        // 3. Its value. The weights sum to 1, so the bias counts once.
        let values = matmul(&by_head(&self.v_proj)?, &pooled)?.reshaped((1, channels))?;
        self.c_proj.forward(&values.plus_repeated(self.v_proj.bias())?)
    }
}
