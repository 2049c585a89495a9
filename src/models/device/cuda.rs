//! NVIDIA GPUs, each opened for one thread.

#![expect(unsafe_code, reason = "the driver's interface is C")]

use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::result::{self, DriverError};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;

use crate::models::device::device_id::DeviceId;
use crate::models::device::error::DeviceError;

/// Opens a GPU with a stream for the calling thread.
pub(crate) fn open(number: usize) -> Result<Device, DeviceError> {
    let id = DeviceId::Cuda(number);
    let driver = |message: String| DeviceError::Driver { device: id, message };
    let count = count().map_err(|error| driver(error.to_string()))?;
    if number >= count {
        return Err(DeviceError::Absent { device: id, count });
    }
    let device = Device::new_cuda(number).map_err(|error| driver(error.to_string()))?;
    let cuda = device.as_cuda_device().map_err(|error| driver(error.to_string()))?;
    // SAFETY: only the thread that opens a device computes with its tensors, on one stream, so
    // there is no other stream whose work an event would have to wait for. Another thread may only
    // drop the last handle to weights, after that work has finished.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(number).map_err(|error| driver(error.to_string()))?;
    Ok(device)
}

/// Returns the number of GPUs.
pub(crate) fn count() -> Result<usize, DriverError> {
    result::init()?;
    Ok(usize::try_from(result::device::get_count()?).unwrap_or(0))
}

/// Returns the bytes of a GPU's memory.
pub(crate) fn memory(number: usize) -> Option<u64> {
    result::init().ok()?;
    let device = result::device::get(i32::try_from(number).ok()?).ok()?;
    // SAFETY: the handle is from `get`.
    unsafe { result::device::total_mem(device) }.ok().map(|bytes| bytes as u64)
}

/// While the returned guard lives, small tables are uploaded once and then found in a cache on the
/// device.
pub(crate) fn cache_tables(device: &Device) -> Option<impl Drop> {
    match device {
        Device::Cuda(cuda) => Some(cuda.enable_cuda_graph_htod_cache()),
        _ => None,
    }
}

/// Makes the memory pool keep freed memory instead of returning it to the system at each
/// synchronisation.
fn keep_memory(number: usize) -> Result<(), DriverError> {
    let device = result::device::get(i32::try_from(number).unwrap_or(i32::MAX))?;
    let mut threshold_bytes = u64::MAX;
    // SAFETY: the handle is from `get`, its pool lives as long as the driver, and the attribute is
    // a 64-bit number that is read before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        result::mem_pool::set_attribute(
            pool,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold_bytes).cast(),
        )
    }
}
