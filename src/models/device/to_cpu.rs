//! Copies from a device to the CPU.

use candle_core::{Device, Result, Tensor};

/// Copies a tensor to the CPU, after the device has finished its work.
///
/// The tensor library starts an asynchronous copy into pageable memory and does not wait for it.
/// The driver's manual no longer promises that such a copy is complete when the call returns.
///
/// # Errors
/// Fails if the device fails, also in earlier work.
pub(crate) fn to_cpu(tensor: &Tensor) -> Result<Tensor> {
    tensor.device().synchronize()?;
    let copy = tensor.to_device(&Device::Cpu)?;
    tensor.device().synchronize()?;
    Ok(copy)
}
