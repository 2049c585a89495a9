//! Copies from the host to a device. Copies back are [`crate::models::device::to_cpu`].

use candle_core::{Device, Result, Shape, Tensor, WithDType};

use crate::models::device::dry_run::{self, Kernel, Launch};
use crate::models::ops::launch::launch;

/// Creates a tensor on a device.
///
/// # Errors
/// Fails if the shape has another number of values, or on an error of the device.
pub(crate) fn upload<T: WithDType>(
    values: Vec<T>,
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    launch(Kernel::Upload, &[], (shape.clone(), T::DTYPE), || {
        Tensor::from_vec(values, shape, device)
    })
}

/// Copies a tensor from the CPU to a device.
///
/// # Errors
/// Fails on an error of the device.
pub(crate) fn to_device(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    if !dry_run::is_dry_run() {
        return tensor.to_device(device);
    }
    let Some(stored) = dry_run::stored(tensor) else {
        // A placeholder is on the device already.
        return Ok(tensor.clone());
    };
    // The library copies the whole storage, also that of a view.
    let bytes = (stored * tensor.dtype().size_in_bytes()) as u64;
    dry_run::record(Launch { kernel: Kernel::Upload, elements: stored as u64, bytes });
    dry_run::placeholder(tensor.shape(), tensor.dtype())
}
