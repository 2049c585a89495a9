//! GPUs of NVIDIA, opened for one thread each.

#![expect(unsafe_code, reason = "the driver's interface is C")]

use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::result::{self, DriverError};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;

use super::{DeviceError, Place};

/// Opens a GPU on the calling thread's own stream.
pub(super) fn open(number: usize) -> Result<Device, DeviceError> {
    let place = Place::Cuda(number);
    let driver = |message: String| DeviceError::Driver { place, message };
    let count = count().map_err(|error| driver(error.to_string()))?;
    if number >= count {
        return Err(DeviceError::Absent { place, count });
    }
    let device = Device::new_cuda(number).map_err(|error| driver(error.to_string()))?;
    let cuda = device.as_cuda_device().map_err(|error| driver(error.to_string()))?;
    // SAFETY: the thread that opens a device is the only one that computes with its tensors, on one stream, so
    // there is no other stream whose work an event would have to wait for. What another thread may do is drop
    // the last handle to weights, after that work is done.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(number).map_err(|error| driver(error.to_string()))?;
    Ok(device)
}

/// How many there are.
pub(super) fn count() -> Result<usize, DriverError> {
    result::init()?;
    Ok(usize::try_from(result::device::get_count()?).unwrap_or(0))
}

/// Bytes of a GPU's memory.
pub(super) fn memory(number: usize) -> Option<u64> {
    result::init().ok()?;
    let device = result::device::get(i32::try_from(number).ok()?).ok()?;
    // SAFETY: the device comes from `get`.
    unsafe { result::device::total_mem(device) }.ok().map(|bytes| bytes as u64)
}

/// While this lives, uploads of small tables are looked up first; what was once uploaded stays on the device.
pub(super) fn keep_tables(device: &Device) -> Option<impl Drop> {
    match device {
        Device::Cuda(cuda) => Some(cuda.enable_cuda_graph_htod_cache()),
        _ => None,
    }
}

/// Lets the pool keep what it once had, instead of giving it back to the system at each synchronisation.
fn keep_memory(number: usize) -> Result<(), DriverError> {
    let device = result::device::get(i32::try_from(number).unwrap_or(i32::MAX))?;
    let mut most = u64::MAX;
    // SAFETY: the device comes from `get`, its pool lives as long as the driver, and the attribute is a
    // 64-bit number, which is read before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        result::mem_pool::set_attribute(
            pool,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut most).cast(),
        )
    }
}
