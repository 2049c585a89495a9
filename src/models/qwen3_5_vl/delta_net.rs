//! The mixer of a linear layer: Gated DeltaNet.
//!
//! ```text
//!  rows ─ in_proj ─┬─ q, k, v ─ convolution, SiLU ─ q, k to length 1 ─┐
//!                  ├─ b, a ─ β, log decay ────────────────────────────┴► delta rule ─┐
//!                  └─ z ──────────────────────────────────────────────── gated norm ─┴► out_proj
//! ```

use candle_core::{DType, Device, Result, Tensor};

use crate::models::layers::{
    CausalConv, DeltaHeads, HeadNorm, Matrix, Sequences, delta_rule, gated_norm,
};
use crate::models::mplug_owl3::Tensors;
use crate::models::ops::{Function, TensorOps, cat, upload};
use crate::models::qwen3_5_vl::config::TextConfig;
use crate::models::qwen3_5_vl::state::{LayerState, State};

/// Added to the sum of squares of a query or key.
const LENGTH_EPS: f32 = 1e-6;

/// The mixer of one linear layer.
#[derive(Debug, Clone)]
pub struct DeltaNet {
    /// Rows of `[q | k | v | z | b | a]`.
    in_proj: Matrix,
    conv: CausalConv,
    /// Scales queries and keys to length 1, and queries by `key_dim^−½`.
    unit: HeadNorm,
    /// `(value_heads)` f32.
    dt_bias: Tensor,
    /// `−e^A_log`, `(value_heads)` f32.
    rate: Tensor,
    /// `(value_dim)` f32.
    norm: Tensor,
    out: Matrix,
    heads: DeltaHeads,
    eps: f32,
    /// Index of the layer, and of its part of a state.
    layer: usize,
}

impl DeltaNet {
    /// Builds the mixer of the layer with this index.
    ///
    /// # Errors
    /// Fails on a missing or misshapen tensor.
    pub fn new(config: &TextConfig, layer: usize, tensors: &Tensors<'_>) -> Result<Self> {
        let (heads, hidden) = (config.delta_heads(), config.hidden_size);
        let DeltaHeads { key_heads, value_heads, key_dim, value_dim } = heads;
        let parts = [
            ("in_proj_qkv", heads.columns()),
            ("in_proj_z", heads.value_width()),
            ("in_proj_b", value_heads),
            ("in_proj_a", value_heads),
        ];
        let wide = |name: &str| tensors.get(value_heads, name)?.cast(DType::F32);
        let device = tensors.vb().device();
        Ok(Self {
            in_proj: tensors.matrix(hidden, &parts)?,
            conv: CausalConv::new(&tensors.get((heads.columns(), 1, 4), "conv1d.weight")?)?,
            unit: unit_norm(key_heads, key_dim, device)?,
            dt_bias: wide("dt_bias")?,
            rate: wide("A_log")?.each(Function::Exp)?.affine_of(-1.0, 0.0)?,
            norm: tensors.get(value_dim, "norm.weight")?.cast(DType::F32)?,
            out: tensors.matrix(heads.value_width(), &[("out_proj", hidden)])?,
            heads,
            eps: config.norm_eps(),
            layer,
        })
    }

    /// Returns the state before the first token.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub(crate) fn empty(&self) -> Result<LayerState> {
        let DeltaHeads { value_heads, key_dim, value_dim, .. } = self.heads;
        let zeros =
            |shape: &[usize]| crate::models::ops::zeros(shape, DType::F32, self.norm.device());
        Ok(LayerState::Linear {
            history: zeros(&[CausalConv::HISTORY, self.heads.columns()])?,
            memory: zeros(&[value_heads, key_dim, value_dim])?,
        })
    }

    /// Returns the numbers of heads, and their widths.
    pub fn heads(&self) -> DeltaHeads {
        self.heads
    }

    /// Mixes the packed rows of sequences, which continue from their states.
    ///
    /// # Shapes
    /// - `normed`: `(rows, hidden)`, normalised by the layer's input norm
    /// - result: `(rows, hidden)`
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn forward(
        &self,
        normed: &Tensor,
        sequences: &Sequences,
        states: &mut [State],
    ) -> Result<Tensor> {
        let (histories, memories) = self.read(states)?;
        let projected = self.project(normed)?;
        let gates = self.gates(&projected)?;
        let qkv = self.unit_heads(&self.convolve(&projected, sequences, &histories)?)?;
        let (scanned, memories) = delta_rule(&qkv, &gates, sequences, &memories, self.heads)?;
        drop(qkv);
        let histories = self.conv.histories_after(&projected, sequences, &histories)?;
        for ((state, history), memory) in states.iter_mut().zip(histories).zip(memories) {
            state.set_layer(self.layer, LayerState::Linear { history, memory });
        }
        self.out.product(&self.gated(&scanned, &projected)?)
    }

    /// Returns the histories and the memories of the states.
    fn read(&self, states: &[State]) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let parts = states.iter().map(|state| match state.layer(self.layer) {
            LayerState::Linear { history, memory } => Ok((history.clone(), memory.clone())),
            LayerState::Full(_) => candle_core::bail!("the state is that of another network"),
        });
        Ok(parts.collect::<Result<Vec<_>>>()?.into_iter().unzip())
    }

    /// Projects rows to `[q | k | v | z | b | a]`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn project(&self, normed: &Tensor) -> Result<Tensor> {
        self.in_proj.product(normed)
    }

    /// Convolves queries, keys and values along each sequence: `(rows, columns)` f32.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn convolve(
        &self,
        projected: &Tensor,
        sequences: &Sequences,
        histories: &[Tensor],
    ) -> Result<Tensor> {
        self.conv.forward(projected, sequences, histories)
    }

    /// Scales queries and keys to their lengths: `(rows, columns)` f32.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn unit_heads(&self, convolved: &Tensor) -> Result<Tensor> {
        self.unit.forward(convolved)
    }

    /// Computes `[β | g]`, `(rows, 2 · value_heads)` f32: `β = sigmoid(b)` and
    /// `g = −e^A_log · softplus(a + dt_bias)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn gates(&self, projected: &Tensor) -> Result<Tensor> {
        let first = self.heads.columns() + self.heads.value_width();
        let count = self.heads.value_heads;
        let part =
            |index: usize| projected.narrow(1, first + index * count, count)?.cast(DType::F32);
        let steps = softplus(&part(1)?.plus_repeated(&self.dt_bias)?)?;
        cat(&[&part(0)?.each(Function::Sigmoid)?, &steps.times_repeated(&self.rate)?], 1)
    }

    /// Normalises the delta rule's result, and gates it by `z`: `(rows, value_heads · value_dim)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn gated(&self, scanned: &Tensor, projected: &Tensor) -> Result<Tensor> {
        gated_norm(scanned, &self.norm, (projected, self.heads.columns()), self.eps)
    }
}

/// Returns the norm that scales queries and keys to length 1, and queries by `dim^−½`.
/// `x / √(Σx² + ε)` is `x / √(mean x² + ε/dim)` times `dim^−½`.
fn unit_norm(heads: usize, dim: usize, device: &Device) -> Result<HeadNorm> {
    let root = (dim as f32).sqrt();
    let weight = |index| if index < heads { 1.0 / dim as f32 } else { 1.0 / root };
    let weights = (0..2 * heads).flat_map(|head| std::iter::repeat_n(weight(head), dim));
    let weights = upload(weights.collect(), (2 * heads, dim), device)?;
    HeadNorm::new(weights, LENGTH_EPS / dim as f32)
}

/// `ln(1 + eˣ)`, as `max(x, 0) + ln(1 + e^−|x|)`, which does not overflow.
fn softplus(xs: &Tensor) -> Result<Tensor> {
    let decay = xs.each(Function::Abs)?.affine_of(-1.0, 0.0)?.each(Function::Exp)?;
    xs.each(Function::Relu)?.plus(&decay.affine_of(1.0, 1.0)?.each(Function::Log)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softplus_neither_overflows_nor_vanishes() {
        let xs = Tensor::new(&[-100_f32, -3.0, 0.0, 3.0, 100.0], &Device::Cpu).unwrap();
        let ours: Vec<f32> = softplus(&xs).unwrap().to_vec1().unwrap();
        let exact = [0.0, 0.048_587_35, std::f32::consts::LN_2, 3.048_587_3, 100.0];
        for (ours, exact) in ours.iter().zip(exact) {
            assert!((ours - exact).abs() < 2e-7 * exact.max(1.0), "{ours} is not {exact}");
        }
    }
}
