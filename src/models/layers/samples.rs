//! Functions of 8-bit samples.

use candle_core::{DType, Result, Tensor};

use crate::models::ops::{TensorOps, upload};

/// Applies a function to each u8 sample, exactly: its 256 values are computed on the host.
///
/// # Errors
/// Fails on an error of the device.
pub fn map_samples(samples: &Tensor, value: impl Fn(u8) -> f32) -> Result<Tensor> {
    debug_assert_eq!(samples.dtype(), DType::U8, "samples are bytes");
    let table: Vec<f32> = (0..=u8::MAX).map(value).collect();
    let table = upload(table, 256, samples.device())?;
    // In the tensor library, the largest value of an index type means "none".
    let indices = samples.flatten_all()?.cast(DType::U32)?;
    table.entries(&indices, 0)?.reshaped(samples.shape())
}
