//! A convolution of maps with their channels last.

use candle_core::{DType, Result, Tensor};

use crate::models::kernels::{Epilogue, PackedConvolution, Stride, accepts};
use crate::models::layers::matrix::product;
use crate::models::ops::{Function, TensorOps, conv2d, runs_on_gpu};

/// A convolution with a bias, then an [`Epilogue`]. The norm of a batch that follows it in training
/// is part of its weight and bias.
#[derive(Debug, Clone)]
pub struct Convolution {
    weight: ConvolutionWeight,
    stride: Stride,
}

#[derive(Debug, Clone)]
enum ConvolutionWeight {
    /// Packed once, for `f32` on the CPU.
    Packed(PackedConvolution),
    /// `(out, in, side, side)` and `(out)`, in the dtype that the network runs in.
    Plain(Tensor, Tensor),
}

impl Convolution {
    /// Creates a layer with a weight `(out, in, side, side)` and a bias `(out)`.
    ///
    /// # Errors
    /// Fails if `weight` has not four dimensions.
    pub fn new(weight: Tensor, bias: Tensor, stride: Stride) -> Result<Self> {
        let weight = if accepts(&weight) {
            let rows = weight.permute((0, 2, 3, 1))?.dense()?;
            ConvolutionWeight::Packed(PackedConvolution::new(&rows, &bias, stride)?)
        } else {
            ConvolutionWeight::Plain(weight, bias)
        };
        Ok(Self { weight, stride })
    }

    /// `(batch, height, width, in)` to `(batch, height', width', out)`.
    ///
    /// # Errors
    /// Fails on a map smaller than a patch, and on mismatched shapes, dtypes or devices.
    pub fn forward(&self, map: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        match &self.weight {
            ConvolutionWeight::Packed(packed) => packed.forward(&map.dense()?, epilogue),
            ConvolutionWeight::Plain(weight, bias) => {
                plain(map, (weight, bias), self.stride, epilogue)
            }
        }
    }
}

fn plain(
    map: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    stride: Stride,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    let (out, channels, side, _) = weight.dims4()?;
    let found = if side == 1 && stride == Stride::ONE {
        product(&weight.reshaped((out, channels))?, map)?
    } else {
        // The tensor library convolves no half format on a CPU.
        let dtype = if runs_on_gpu(map.device()) { map.dtype() } else { DType::F32 };
        let planes = map.permute((0, 3, 1, 2))?.dense()?.cast(dtype)?;
        let found = conv2d(&planes, &weight.cast(dtype)?, stride.padding, stride.step)?;
        found.permute((0, 2, 3, 1))?.dense()?.cast(map.dtype())?
    };
    let sum = found.plus_repeated(bias)?;
    match epilogue {
        Epilogue::Nothing => Ok(sum),
        Epilogue::Relu => sum.each(Function::Relu),
        Epilogue::AddRelu(shortcut) => sum.plus(shortcut)?.each(Function::Relu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::kernels::testing::{assert_close, random};

    #[test]
    fn the_kernel_equals_the_plain_form() -> Result<()> {
        let stride = |step, padding| Stride { step, padding };
        // Map, channels in and out, side of a patch.
        for (map, channels, side, stride) in [
            ([1, 1, 1], (3, 5), 1, Stride::ONE),
            ([2, 7, 9], (16, 37), 1, Stride::ONE),
            ([1, 32, 33], (3, 32), 3, stride(2, 1)),
            ([2, 13, 6], (40, 20), 3, stride(1, 1)),
            ([1, 9, 40], (70, 64), 3, stride(1, 0)),
            ([1, 1, 1], (8, 8), 3, stride(1, 1)),
        ] {
            let ([batch, height, width], (into, out)) = (map, channels);
            let xs = random(0.0, 1.0, &[batch, height, width, into])?;
            let weight = random(0.0, 0.1, &[out, into, side, side])?;
            let bias = random(0.1, 0.5, &[out])?;
            let layer = Convolution::new(weight.clone(), bias.clone(), stride)?;
            assert!(matches!(layer.weight, ConvolutionWeight::Packed(_)));
            let ours = layer.forward(&xs, Epilogue::Nothing)?;
            let shortcut = random(0.0, 1.0, ours.dims())?;
            for epilogue in [Epilogue::Nothing, Epilogue::Relu, Epilogue::AddRelu(&shortcut)] {
                let ours = layer.forward(&xs, epilogue)?;
                assert_close(&ours, &plain(&xs, (&weight, &bias), stride, epilogue)?, 2e-5)?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_map_of_another_shape_is_an_error_and_no_number_stays_none() -> Result<()> {
        let weight = random(0.0, 0.1, &[4, 3, 3, 3])?;
        let layer = Convolution::new(weight, random(0.0, 0.1, &[4])?, Stride::ONE)?;
        layer.forward(&random(0.0, 1.0, &[1, 2, 8, 3])?, Epilogue::Relu).unwrap_err();
        layer.forward(&random(0.0, 1.0, &[1, 8, 8, 4])?, Epilogue::Relu).unwrap_err();
        let bias = Tensor::full(f32::NAN, 4, &candle_core::Device::Cpu)?;
        let layer = Convolution::new(random(0.0, 0.1, &[4, 3, 1, 1])?, bias, Stride::ONE)?;
        let found = layer.forward(&random(0.0, 1.0, &[1, 2, 2, 3])?, Epilogue::Relu)?;
        assert!(found.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_nan()));
        Ok(())
    }
}
