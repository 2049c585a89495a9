//! Copies from the host to a device. Copies back are [`crate::models::device::to_cpu`].

use candle_core::{Device, Result, Shape, Tensor, WithDType};

use crate::models::device::dry_run::Kernel;
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
    let result = (tensor.shape().clone(), tensor.dtype());
    launch(Kernel::Upload, &[], result, || tensor.to_device(device))
}
