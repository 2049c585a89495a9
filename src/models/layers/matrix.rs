//! The matrix of a linear layer without bias: plain, packed for speed, or quantised for size.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::{QMatMul, QStorage, QTensor};
use candle_core::{D, DType, Module, Result, Tensor};

use crate::models::kernels::{PackedWeight, accepts};
use crate::models::ops::{TensorOps, cat, matmul};

/// `x · weightᵀ` for a weight `(out, in)`.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// In the dtype that the network runs in.
    Plain(Tensor),
    /// Packed once, for `f32` on the CPU.
    Packed(PackedWeight),
    /// In quantised blocks; several are stacked by rows. Inputs are converted to `f32`.
    Quantised(Vec<QMatMul>),
}

impl Matrix {
    /// Creates a matrix for products from a weight `(out, in)`. It may be packed, and then has no
    /// rows to look up.
    ///
    /// # Errors
    /// Fails if `weight` is not a matrix.
    pub fn new(weight: Tensor) -> Result<Self> {
        if accepts(&weight) {
            PackedWeight::new(&weight).map(Self::Packed)
        } else {
            Ok(Self::Plain(weight))
        }
    }

    /// Stacks quantised matrices of one width by their rows.
    ///
    /// # Errors
    /// Fails on an error of the device.
    pub fn of_quantised(parts: Vec<QTensor>) -> Result<Self> {
        let parts = parts.into_iter().map(|part| QMatMul::from_arc(Arc::new(part)));
        Ok(Self::Quantised(parts.collect::<Result<_>>()?))
    }

    /// Returns the input's width.
    ///
    /// # Errors
    /// Fails if the tensor is not a matrix.
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

    /// Looks up rows by their `indices (n)` u32: a tensor `(n, in)`, in `f32` if quantised.
    ///
    /// # Errors
    /// Fails on an index without a row, and on a packed or stacked matrix.
    pub fn rows(&self, indices: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => weight.entries(indices, 0),
            Self::Quantised(parts) if parts.len() == 1 => parts[0].embedding(indices),
            Self::Packed(_) | Self::Quantised(_) => {
                candle_core::bail!("a packed or stacked matrix has no rows to look up")
            }
        }
    }

    /// `(…, in)` to `(…, out)`.
    ///
    /// # Errors
    /// Fails on mismatched shapes, dtypes or devices.
    pub fn product(&self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => product(weight, xs),
            Self::Packed(packed) if accepts(xs) => packed.product(xs),
            Self::Packed(packed) => packed.product(&xs.dense()?),
            Self::Quantised(parts) => {
                let wide = xs.cast(DType::F32)?.dense()?;
                let products = parts.iter().map(|part| part.forward(&wide));
                match &products.collect::<Result<Vec<_>>>()?[..] {
                    [one] => one.cast(xs.dtype()),
                    several => {
                        let parts: Vec<&Tensor> = several.iter().collect();
                        cat(&parts, xs.rank() - 1)?.cast(xs.dtype())
                    }
                }
            }
        }
    }
}

/// Copies ranges of rows of a quantised matrix, in this order. Exact: a block is a part of one row.
///
/// # Errors
/// Fails if `matrix` is not a matrix or has not that many rows, and on an error of the device.
pub(crate) fn quantised_rows(
    matrix: &QTensor,
    ranges: impl IntoIterator<Item = Range<usize>>,
) -> Result<QTensor> {
    let (rows, width) = matrix.shape().dims2()?;
    let dtype = matrix.dtype();
    let row_bytes = width / dtype.block_size() * dtype.type_size();
    let (all, mut copied, mut count) = (matrix.data()?, Vec::new(), 0);
    for Range { start, end } in ranges {
        let Some(part) = all.get(start * row_bytes..end * row_bytes) else {
            candle_core::bail!("there are {rows} rows, not {start}..{end}");
        };
        copied.extend_from_slice(part);
        count += end - start;
    }
    let storage = QStorage::from_data(Cow::Owned(copied), &matrix.device(), dtype)?;
    QTensor::new(storage, (count, width))
}

/// `(…, in)` to `(…, out)` for a weight `(out, in)`.
pub(crate) fn product(weight: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let (out, width) = weight.dims2()?;
    let mut shape = xs.dims().to_vec();
    shape.pop();
    let rows = shape.iter().product::<usize>();
    shape.push(out);
    matmul(&xs.reshaped((rows, width))?, &weight.t()?)?.reshaped(shape)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_core::quantized::GgmlDType;

    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn rows_of_a_quantised_matrix_keep_every_bit() -> Result<()> {
        let weight = random(0.0, 0.1, &[12, 512])?;
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K] {
            let matrix = QTensor::quantize(&weight, dtype)?;
            let some = quantised_rows(&matrix, [8..12, 0..2, 3..3, 5..6])?;
            let index = Tensor::new(&[8_u32, 9, 10, 11, 0, 1, 5], &Device::Cpu)?;
            let expected = matrix.dequantize(&Device::Cpu)?.index_select(&index, 0)?;
            let found = some.dequantize(&Device::Cpu)?;
            assert!(found.to_vec2::<f32>()? == expected.to_vec2::<f32>()?, "{dtype:?}");
            quantised_rows(&matrix, [0..1, 11..13]).unwrap_err();
        }
        Ok(())
    }

    #[test]
    fn stacked_quantised_matrices_multiply_as_one() -> Result<()> {
        let weights = [random(0.0, 0.1, &[48, 64])?, random(0.0, 0.1, &[16, 64])?];
        let parts = weights.iter().map(|weight| QTensor::quantize(weight, GgmlDType::Q8_0));
        let matrix = Matrix::of_quantised(parts.collect::<Result<_>>()?)?;
        let xs = random(0.0, 1.0, &[2, 5, 64])?;
        let plain = Matrix::Plain(Tensor::cat(&weights, 0)?).product(&xs)?;
        assert_eq!(plain.dims(), [2, 5, 64]);
        assert_close(&matrix.product(&xs)?, &plain, 0.02)
    }
}
