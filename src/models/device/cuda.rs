//! NVIDIA GPUs, each opened for one thread.

#![expect(unsafe_code, reason = "the driver's interface is C")]

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::cuda_backend::cudarc::driver::result::{self, DriverError};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use candle_core::{Device, Storage, Tensor};

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

/// Copies a contiguous tensor into `values`, whose memory is reused. Waits for the device before
/// and after, because the copy into pageable memory may be asynchronous.
pub(crate) fn copy_to_host<T: CudaDType + DeviceRepr + Default + Copy>(
    tensor: &Tensor,
    mut values: Vec<T>,
) -> Result<Vec<T>, candle_core::Error> {
    let device = tensor.device().as_cuda_device()?;
    device.synchronize()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        candle_core::bail!("a contiguous tensor on a GPU is needed, not {tensor:?}");
    };
    values.resize(end - start, T::default());
    let source = storage.as_cuda_slice::<T>()?.slice(start..end);
    device.memcpy_dtoh(&source, &mut values)?;
    device.synchronize()?;
    Ok(values)
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
/// synchronisation. Another process on the GPU then cannot use it.
fn keep_memory(number: usize) -> Result<(), DriverError> {
    set_pool(number, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)
}

/// Restarts the high mark of the pool's used memory. Returns the bytes in use.
pub(crate) fn start_peak(number: usize) -> Result<u64, DriverError> {
    set_pool(number, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
    pool(number, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
}

/// Returns the high mark of the pool's used memory in bytes.
pub(crate) fn peak(number: usize) -> Result<u64, DriverError> {
    pool(number, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
}

/// Sets a 64-bit attribute of a GPU's memory pool.
fn set_pool(
    number: usize,
    attribute: CUmemPool_attribute,
    mut value: u64,
) -> Result<(), DriverError> {
    let device = result::device::get(i32::try_from(number).unwrap_or(i32::MAX))?;
    // SAFETY: the handle is from `get`, its pool lives as long as the driver, and the attribute is
    // a 64-bit number that is read before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast())
    }
}

/// Returns a 64-bit attribute of a GPU's memory pool.
fn pool(number: usize, attribute: CUmemPool_attribute) -> Result<u64, DriverError> {
    let device = result::device::get(i32::try_from(number).unwrap_or(i32::MAX))?;
    let mut value = 0_u64;
    // SAFETY: as in `set_pool`; the number is written before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(device)?;
        result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast())?;
    }
    Ok(value)
}
