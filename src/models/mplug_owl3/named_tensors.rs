//! The named tensors that the parts of the network are built from, plain or in quantised blocks.

use candle_core::quantized::QTensor;
use candle_core::{Error, Result, Shape, Tensor};
use candle_nn::VarBuilder;

use crate::models::layers::{LayerNorm, Linear, Matrix, RmsNorm};
use crate::models::ops::cat;

/// Loads a matrix from quantised blocks by its full name and its shape `[out, in]`. Returns `None`
/// if it is not stored in such blocks.
pub type QuantisedSource<'a> = dyn Fn(&str, [usize; 2]) -> Result<Option<QTensor>> + 'a;

/// The tensors below a prefix.
#[derive(Clone)]
pub struct Tensors<'a> {
    vb: VarBuilder<'a>,
    quantised: Option<&'a QuantisedSource<'a>>,
}

impl std::fmt::Debug for Tensors<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tensors").field("prefix", &self.vb.prefix()).finish_non_exhaustive()
    }
}

impl<'a> Tensors<'a> {
    /// Wraps the tensors of `vb`. Matrices that `quantised` returns are not read from `vb`.
    pub fn new(vb: VarBuilder<'a>, quantised: Option<&'a QuantisedSource<'a>>) -> Self {
        Self { vb, quantised }
    }

    pub(crate) fn vb(&self) -> &VarBuilder<'a> {
        &self.vb
    }

    pub(crate) fn pp(&self, part: impl ToString) -> Self {
        Self { vb: self.vb.pp(part), quantised: self.quantised }
    }

    pub(crate) fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        self.vb.get(shape, name)
    }

    /// Builds a layer that is never quantised: `weight (out, in)` and `bias (out)`.
    pub(crate) fn linear(&self, width_in: usize, width_out: usize) -> Result<Linear> {
        Ok(Linear::new(self.get((width_out, width_in), "weight")?, self.get(width_out, "bias")?))
    }

    /// Builds a layer as [`Self::linear`] does, whose weight may be in a half format.
    pub(crate) fn half_linear(&self, width_in: usize, width_out: usize) -> Result<Linear> {
        let weight = self.get((width_out, width_in), "weight")?;
        Ok(Linear::with_half_weight(weight, self.get(width_out, "bias")?))
    }

    pub(crate) fn layer_norm(&self, width: usize, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm::new(self.get(width, "weight")?, self.get(width, "bias")?, single(eps)))
    }

    pub(crate) fn rms_norm(&self, width: usize, eps: f64) -> Result<RmsNorm> {
        Ok(RmsNorm::new(self.get(width, "weight")?, single(eps)))
    }

    /// Concatenates the weights of projections of one input, `(sum of out, in)`. A part is a name
    /// and the width of its output.
    pub(crate) fn weights(&self, width_in: usize, parts: &[(&str, usize)]) -> Result<Tensor> {
        let weights = parts.iter().map(|(name, out)| self.pp(name).get((*out, width_in), "weight"));
        let weights = weights.collect::<Result<Vec<_>>>()?;
        cat(&weights.iter().collect::<Vec<_>>(), 0)
    }

    /// Concatenates the biases of projections of one input.
    pub(crate) fn biases(&self, parts: &[(&str, usize)]) -> Result<Tensor> {
        let biases = parts.iter().map(|(name, out)| self.pp(name).get(*out, "bias"));
        let biases = biases.collect::<Result<Vec<_>>>()?;
        cat(&biases.iter().collect::<Vec<_>>(), 0)
    }

    /// Builds the embedding or the head, a matrix whose rows are also looked up.
    pub(crate) fn table(&self, width_in: usize, name: &str, rows: usize) -> Result<Matrix> {
        match self.quantised(name, [rows, width_in])? {
            Some(table) => Matrix::of_quantised(vec![table]),
            None => Ok(Matrix::Plain(self.pp(name).get((rows, width_in), "weight")?)),
        }
    }

    /// Builds the concatenation of projections of one input as a matrix that is only multiplied
    /// with.
    pub(crate) fn matrix(&self, width_in: usize, parts: &[(&str, usize)]) -> Result<Matrix> {
        let (first, rows) = parts[0];
        let Some(first) = self.quantised(first, [rows, width_in])? else {
            return Matrix::new(self.weights(width_in, parts)?);
        };
        let mut quantised = vec![first];
        for &(name, rows) in &parts[1..] {
            quantised.push(self.joined_quantised(name, [rows, width_in])?);
        }
        Matrix::of_quantised(quantised)
    }

    /// Loads a matrix that is joined to quantised ones, and must be quantised as well.
    pub(crate) fn joined_quantised(&self, name: &str, shape: [usize; 2]) -> Result<QTensor> {
        self.quantised(name, shape)?.ok_or_else(|| {
            let name = self.full_name(name);
            Error::Msg(format!("`{name}` is not quantised, but the matrices joined to it are"))
        })
    }

    /// Loads a matrix, or `None` if it is not quantised.
    pub(crate) fn quantised(&self, name: &str, shape: [usize; 2]) -> Result<Option<QTensor>> {
        self.quantised.map_or(Ok(None), |load| load(&self.full_name(name), shape))
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}.{name}.weight", self.vb.prefix())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an epsilon is well within the range of f32")]
fn single(eps: f64) -> f32 {
    eps as f32
}
