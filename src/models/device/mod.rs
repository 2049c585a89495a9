//! The devices that networks run on: the CPU or a GPU, opened on the thread that will use it.
//!
//! This folder imports nothing else of the crate.

#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use thiserror::Error;

/// The kind and number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceId {
    /// The CPU, with all its cores.
    Cpu,
    /// An NVIDIA GPU, by the driver's number.
    Cuda(usize),
    /// An Apple GPU, by the system's number.
    Metal(usize),
}

/// A device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// The program was built without support for it.
    #[error(
        "{device}: this dogiqa is built without {feature}; build it with `--features {feature}`, or \
         choose the device `cpu`"
    )]
    NotBuilt {
        /// The requested device.
        device: DeviceId,
        /// The cargo feature that supports it.
        feature: &'static str,
    },
    /// The driver does not answer.
    #[error(
        "{device}: the driver does not answer ({message}); see whether `nvidia-smi` lists the GPU, \
         whether this container was given it, and whether the driver is as new as the toolkit of the \
         build"
    )]
    Driver {
        /// The requested device.
        device: DeviceId,
        /// The error of the driver.
        message: String,
    },
    /// The machine has no device of this number.
    #[error("{device}: there are {count} such devices, counted from 0")]
    Absent {
        /// The requested device.
        device: DeviceId,
        /// Number of devices of this kind.
        count: usize,
    },
}

impl DeviceId {
    /// Returns the first GPU that can be used, or else the CPU.
    pub fn best() -> Self {
        let gpus = [Self::Cuda(0), Self::Metal(0)];
        gpus.into_iter().find(|gpu| gpu.is_available()).unwrap_or(Self::Cpu)
    }

    /// Returns the kind, which is part of a model's version: devices of one kind give equal results.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Metal(_) => "metal",
        }
    }

    /// Returns the dtype in which networks run fastest on it.
    pub fn dtype(self) -> DType {
        match self {
            Self::Cpu => DType::F32,
            Self::Cuda(_) | Self::Metal(_) => DType::BF16,
        }
    }

    /// Opens the device for the calling thread. Its tensors must be created and used on this thread.
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

impl fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) | Self::Metal(number) => {
                write!(formatter, "{}:{number}", self.kind())
            }
        }
    }
}

impl FromStr for DeviceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, number) = text.split_once(':').unwrap_or((text, "0"));
        let number = number.parse().map_err(|_| format!("`{text}` has no number of a device"))?;
        match kind {
            "cpu" if text == "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(number)),
            "metal" => Ok(Self::Metal(number)),
            _ => Err(format!("`{text}` is no device; there are `cpu`, `cuda:0` and `metal`")),
        }
    }
}

/// Returns the kind of an open device, as [`DeviceId::kind`] does.
pub fn kind_of(device: &Device) -> &'static str {
    match device {
        Device::Cpu => DeviceId::Cpu,
        Device::Cuda(_) => DeviceId::Cuda(0),
        Device::Metal(_) => DeviceId::Metal(0),
    }
    .kind()
}

/// Runs a forward pass. On a GPU, the small tables of its operations (shapes, strides) are cached on
/// the device by content; tensors that differ from image to image must be uploaded before.
pub(crate) fn forward<T>(device: &Device, pass: impl FnOnce() -> T) -> T {
    #[cfg(feature = "cuda")]
    let _cache = cuda::cache_tables(device);
    #[cfg(not(feature = "cuda"))]
    let _ = device;
    pass()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_parsed_from_its_own_text() {
        for device in [DeviceId::Cpu, DeviceId::Cuda(0), DeviceId::Cuda(7), DeviceId::Metal(1)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(DeviceId::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"] {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_this_build_lacks_names_the_cargo_feature() {
        let message = DeviceId::Cuda(0).open().unwrap_err().to_string();
        assert!(message.contains("--features cuda") && message.contains("`cpu`"), "{message}");
        assert_eq!(DeviceId::best(), DeviceId::Cpu);
    }
}
