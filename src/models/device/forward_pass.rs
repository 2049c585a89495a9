//! The scope of a forward pass on a device.

use candle_core::Device;

#[cfg(feature = "cuda")]
use crate::models::device::cuda;

/// Runs a forward pass. On a GPU, the small tables of its operations (shapes, strides) are uploaded
/// only once. Tensors that differ from image to image must already be on the device.
pub(crate) fn forward<T>(device: &Device, pass: impl FnOnce() -> T) -> T {
    #[cfg(feature = "cuda")]
    let _cache = cuda::cache_tables(device);
    #[cfg(not(feature = "cuda"))]
    let _ = device;
    pass()
}
