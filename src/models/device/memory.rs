//! Memory of a GPU that a run takes while it lasts.

use candle_core::{DType, Device, Result, Tensor};

/// Runs `work`. Returns its result, and the bytes that it took on a GPU at its peak, beyond those
/// in use before. On other devices the bytes are 0.
///
/// # Errors
/// Fails if the driver does not answer.
pub fn peak_bytes<T>(device: &Device, work: impl FnOnce() -> T) -> Result<(T, u64)> {
    #[cfg(feature = "cuda")]
    if let candle_core::DeviceLocation::Cuda { gpu_id } = device.location() {
        use crate::models::device::cuda;

        let failed = |error: String| candle_core::Error::Msg(error);
        device.synchronize()?;
        let before = cuda::start_peak(gpu_id).map_err(|error| failed(error.to_string()))?;
        let result = work();
        device.synchronize()?;
        let peak = cuda::peak(gpu_id).map_err(|error| failed(error.to_string()))?;
        return Ok((result, peak.saturating_sub(before)));
    }
    let _ = device;
    Ok((work(), 0))
}

/// Takes bytes of a GPU's memory until the result is dropped, as another run would. On the CPU
/// nothing is taken.
///
/// # Errors
/// Fails if the device has too little memory.
pub(crate) fn hold(device: &Device, bytes: u64) -> Result<Option<Tensor>> {
    if device.is_cpu() || bytes == 0 {
        return Ok(None);
    }
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    Tensor::zeros(bytes, DType::U8, device).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_reserves_nothing() {
        assert_eq!(peak_bytes(&Device::Cpu, || 7).unwrap(), (7, 0));
        assert!(hold(&Device::Cpu, u64::MAX).unwrap().is_none());
    }
}
