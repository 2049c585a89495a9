//! What the parts of the network are loaded through: tensors by name, and matrices in whichever form
//! the file has them.

use candle_core::{Error, Result, Shape, Tensor};
use candle_nn::VarBuilder;

use crate::models::layers::{LayerNorm, Linear, Matrix, RmsNorm};
use crate::models::weights::Weights;

/// Tensors below a prefix.
#[derive(Clone)]
pub struct Tensors<'a> {
    vb: VarBuilder<'a>,
    /// Where quantised matrices are, if any.
    file: Option<&'a Weights>,
}

impl std::fmt::Debug for Tensors<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tensors").field("prefix", &self.vb.prefix()).finish_non_exhaustive()
    }
}

impl<'a> Tensors<'a> {
    /// Tensors of `vb`; matrices that `file` has quantised are taken from there.
    pub fn new(vb: VarBuilder<'a>, file: Option<&'a Weights>) -> Self {
        Self { vb, file }
    }

    pub(super) fn vb(&self) -> &VarBuilder<'a> {
        &self.vb
    }

    pub(super) fn pp(&self, part: impl ToString) -> Self {
        Self { vb: self.vb.pp(part), file: self.file }
    }

    pub(super) fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        self.vb.get(shape, name)
    }

    /// Weight and bias of a layer that is never quantised.
    pub(super) fn linear(&self, width_in: usize, width_out: usize) -> Result<Linear> {
        Ok(Linear::new(self.get((width_out, width_in), "weight")?, self.get(width_out, "bias")?))
    }

    pub(super) fn layer_norm(&self, width: usize, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm::new(self.get(width, "weight")?, self.get(width, "bias")?, single(eps)))
    }

    pub(super) fn rms_norm(&self, width: usize, eps: f64) -> Result<RmsNorm> {
        Ok(RmsNorm::new(self.get(width, "weight")?, single(eps)))
    }

    /// The weights of parts of one input, below each other; each by its name and its output's width.
    pub(super) fn weights(&self, width_in: usize, parts: &[(&str, usize)]) -> Result<Tensor> {
        let parts = parts.iter().map(|(name, out)| self.pp(name).get((*out, width_in), "weight"));
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
    }

    /// Their biases, one after the other.
    pub(super) fn biases(&self, parts: &[(&str, usize)]) -> Result<Tensor> {
        let parts = parts.iter().map(|(name, out)| self.pp(name).get(*out, "bias"));
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
    }

    /// A matrix whose rows are looked up: the embedding or the head.
    pub(super) fn table(&self, width_in: usize, name: &str, rows: usize) -> Result<Matrix> {
        match self.file.filter(|weights| self.is_quantised(weights, name)) {
            Some(_) => self.matrix(width_in, &[(name, rows)]),
            None => Ok(Matrix::Plain(self.pp(name).get((rows, width_in), "weight")?)),
        }
    }

    /// The same as a matrix that is only multiplied with, quantised where the file has it so.
    pub(super) fn matrix(&self, width_in: usize, parts: &[(&str, usize)]) -> Result<Matrix> {
        let Some(weights) = self.file.filter(|weights| self.is_quantised(weights, parts[0].0))
        else {
            return Matrix::new(self.weights(width_in, parts)?);
        };
        let parts = parts.iter().map(|(name, out)| {
            let name = self.full(name);
            // Typed errors cannot pass the tensor library's; their sentence can.
            let told = |error: crate::models::WeightsError| Error::Msg(error.to_string());
            weights.check(&name, &[*out, width_in]).map_err(told)?;
            let part = weights.quantised(&name, self.vb.device()).map_err(told)?;
            part.ok_or_else(|| Error::Msg(format!("`{name}` is not quantised, but its kin are")))
        });
        Matrix::of_quantised(parts.collect::<Result<_>>()?)
    }

    fn is_quantised(&self, weights: &Weights, name: &str) -> bool {
        weights.is_quantised(&self.full(name))
    }

    fn full(&self, name: &str) -> String {
        format!("{}.{name}.weight", self.vb.prefix())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "epsilons are far from the ends of f32")]
fn single(eps: f64) -> f32 {
    eps as f32
}
