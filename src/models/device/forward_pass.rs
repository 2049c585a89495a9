//! The scope of a forward pass on a device.

use candle_core::Device;

#[cfg(feature = "cuda")]
use crate::models::device::cuda;

/// Runs a forward pass. On a GPU, the small tables of its operations (shapes, strides) are uploaded
/// only once; tensors that differ from image to image must be on the device before.
pub(crate) fn forward<T>(device: &Device, pass: impl FnOnce() -> T) -> T {
    #[cfg(feature = "cuda")]
    let _cache = cuda::cache_tables(device);
    #[cfg(not(feature = "cuda"))]
    let _ = device;
    pass()
}
