//! Opens devices.

use candle_core::Device;

#[cfg(feature = "cuda")]
use crate::models::device::cuda;
use crate::models::device::device_id::DeviceId;
use crate::models::device::error::DeviceError;

impl DeviceId {
    /// Returns the first GPU that can be used, or else the CPU.
    pub fn best() -> Self {
        let gpus = [Self::Cuda(0), Self::Metal(0)];
        gpus.into_iter().find(|gpu| gpu.is_available()).unwrap_or(Self::Cpu)
    }

    /// Opens the device for the calling thread. Its tensors must be created and used on this
    /// thread.
    ///
    /// # Errors
    /// Fails if the device is not supported by this build, does not exist, or its driver fails.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::open(number),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt { device: self, feature: "cuda" }),
            #[cfg(feature = "metal")]
            Self::Metal(number) => Device::new_metal(number)
                .map_err(|error| DeviceError::Driver { device: self, message: error.to_string() }),
            #[cfg(not(feature = "metal"))]
            Self::Metal(_) => Err(DeviceError::NotBuilt { device: self, feature: "metal" }),
        }
    }

    /// Returns the bytes of a GPU's memory. Returns `None` for the CPU, and if the driver does not
    /// report it.
    pub fn memory(self) -> Option<u64> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::memory(number),
            _ => None,
        }
    }

    fn is_available(self) -> bool {
        match self {
            Self::Cpu => true,
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::count().is_ok_and(|count| number < count),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => false,
            Self::Metal(_) => self.open().is_ok(),
        }
    }
}

#[cfg(all(test, not(any(feature = "cuda", feature = "metal"))))]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_this_build_lacks_names_the_cargo_feature() {
        let message = DeviceId::Cuda(0).open().unwrap_err().to_string();
        assert!(message.contains("--features cuda") && message.contains("`cpu`"), "{message}");
        assert_eq!(DeviceId::best(), DeviceId::Cpu);
    }
}
