//! Copies from a device to the CPU.

use candle_core::{Device, Result, Tensor};

use crate::models::device::dry_run::{self, Kernel, Launch};

/// Copies a tensor to the CPU, after the device has finished its work.
///
/// The tensor library starts an asynchronous copy into pageable memory and does not wait for it.
/// The driver's manual no longer promises that such a copy is complete when the call returns.
///
/// # Errors
/// Fails if the device fails, also in earlier work.
pub(crate) fn to_cpu(tensor: &Tensor) -> Result<Tensor> {
    if dry_run::is_dry_run() {
        let elements = tensor.elem_count() as u64;
        let bytes = elements * tensor.dtype().size_in_bytes() as u64;
        dry_run::record(Launch { kernel: Kernel::Download, elements, bytes });
        return dry_run::host_copy(tensor);
    }
    tensor.device().synchronize()?;
    let copy = tensor.to_device(&Device::Cpu)?;
    tensor.device().synchronize()?;
    Ok(copy)
}
