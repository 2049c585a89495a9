//! The matrix of a linear layer without bias, in whichever form is fastest or smallest.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{D, DType, Module, Result, Tensor};

use super::cpu::takes;
use super::matmul::matmul;
use super::packed::Packed;

/// `x · weightᵀ` for a weight `(out, in)`.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// In the dtype that the network runs in.
    Plain(Tensor),
    /// Packed once, for `f32` on the CPU.
    Packed(Packed),
    /// In quantised blocks; several lie below each other. Inputs are taken in `f32`.
    Quantised(Vec<QMatMul>),
}

impl Matrix {
    /// A weight `(out, in)` that is only multiplied with, and never looked up in.
    ///
    /// # Errors
    /// What candle says of its shape.
    pub fn new(weight: Tensor) -> Result<Self> {
        if takes(&weight) {
            Packed::new(&weight).map(Self::Packed)
        } else {
            Ok(Self::Plain(weight))
        }
    }

    /// Matrices of one width, below each other.
    ///
    /// # Errors
    /// What candle says of shapes and devices.
    pub fn of_quantised(parts: Vec<QTensor>) -> Result<Self> {
        let parts = parts.into_iter().map(|part| QMatMul::from_arc(Arc::new(part)));
        Ok(Self::Quantised(parts.collect::<Result<_>>()?))
    }

    /// The input's width.
    ///
    /// # Errors
    /// When the matrix is none.
    pub fn width(&self) -> Result<usize> {
        match self {
            Self::Plain(weight) => weight.dim(D::Minus1),
            Self::Packed(packed) => Ok(packed.width()),
            Self::Quantised(parts) => match &parts[0] {
                QMatMul::QTensor(part) => Ok(part.shape().dims2()?.1),
                QMatMul::Tensor(part) | QMatMul::TensorF16(part) => part.dim(D::Minus1),
            },
        }
    }

    /// Some rows, `(n)` u32, as a tensor `(n, in)`; of a quantised matrix in `f32`.
    ///
    /// # Errors
    /// A row that is not there, or a matrix that is not for looking up.
    pub fn rows(&self, indices: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => weight.index_select(indices, 0),
            Self::Quantised(parts) if parts.len() == 1 => parts[0].embedding(indices),
            Self::Packed(_) | Self::Quantised(_) => {
                candle_core::bail!("rows of a matrix that is only multiplied with")
            }
        }
    }

    /// `(…, in)` to `(…, out)`.
    ///
    /// # Errors
    /// What candle says of shapes, dtypes and devices.
    pub fn product(&self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => product(weight, xs),
            Self::Packed(packed) if takes(xs) => packed.product(xs),
            Self::Packed(packed) => packed.product(&xs.contiguous()?),
            Self::Quantised(parts) => {
                let wide = xs.to_dtype(DType::F32)?.contiguous()?;
                let parts = parts.iter().map(|part| part.forward(&wide));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                match &parts[..] {
                    [one] => one.to_dtype(xs.dtype()),
                    several => Tensor::cat(several, D::Minus1)?.to_dtype(xs.dtype()),
                }
            }
        }
    }
}

/// `(…, in)` to `(…, out)` for a weight `(out, in)`.
pub(super) fn product(weight: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let (out, width) = weight.dims2()?;
    let mut shape = xs.dims().to_vec();
    shape.pop();
    let rows = shape.iter().product::<usize>();
    shape.push(out);
    matmul(&xs.reshape((rows, width))?, &weight.t()?)?.reshape(shape)
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::GgmlDType;

    use super::*;
    use crate::models::layers::testing::{assert_close, random};

    #[test]
    fn quantised_parts_below_each_other_are_one_matrix() -> Result<()> {
        let weights = [random(0.0, 0.1, &[48, 64])?, random(0.0, 0.1, &[16, 64])?];
        let parts = weights.iter().map(|weight| QTensor::quantize(weight, GgmlDType::Q8_0));
        let matrix = Matrix::of_quantised(parts.collect::<Result<_>>()?)?;
        let xs = random(0.0, 1.0, &[2, 5, 64])?;
        let plain = Matrix::Plain(Tensor::cat(&weights, 0)?).product(&xs)?;
        assert_eq!(plain.dims(), [2, 5, 64]);
        assert_close(&matrix.product(&xs)?, &plain, 0.02)
    }
}
