//! Where networks compute: the processor, or a GPU, opened on the thread that will use it.

#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use thiserror::Error;

/// A device by its kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// All cores.
    Cpu,
    /// A GPU of NVIDIA, by the driver's number.
    Cuda(usize),
    /// A GPU of Apple, by the system's number.
    Metal(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// The program was built without it.
    #[error(
        "{place}: this dogiqa is built without {feature}; build it with `--features {feature}`, or choose \
         the device `cpu`"
    )]
    NotBuilt {
        /// What was asked for.
        place: Place,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// The driver does not answer.
    #[error(
        "{place}: the driver does not answer ({message}); see whether `nvidia-smi` lists the GPU, whether \
         this container was given it, and whether the driver is as new as the toolkit of the build"
    )]
    Driver {
        /// What was asked for.
        place: Place,
        /// What it says.
        message: String,
    },
    /// There are fewer.
    #[error("{place}: there are {count} such devices, counted from 0")]
    Absent {
        /// What was asked for.
        place: Place,
        /// How many there are.
        count: usize,
    },
}

impl Place {
    /// The first GPU that answers, else the processor.
    pub fn best() -> Self {
        let gpus = [Self::Cuda(0), Self::Metal(0)];
        gpus.into_iter().find(|place| place.is_there()).unwrap_or(Self::Cpu)
    }

    /// Its kind, as provenance names it: the same kind gives the same answers.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Metal(_) => "metal",
        }
    }

    /// The number format that networks run in fastest there.
    pub fn dtype(self) -> DType {
        match self {
            Self::Cpu => DType::F32,
            Self::Cuda(_) | Self::Metal(_) => DType::BF16,
        }
    }

    /// Opens it for the calling thread: what is computed there must be made and used on this thread.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::open(number),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt { place: self, feature: "cuda" }),
            #[cfg(feature = "metal")]
            Self::Metal(number) => Device::new_metal(number)
                .map_err(|error| DeviceError::Driver { place: self, message: error.to_string() }),
            #[cfg(not(feature = "metal"))]
            Self::Metal(_) => Err(DeviceError::NotBuilt { place: self, feature: "metal" }),
        }
    }

    /// Bytes of a GPU's memory, if its driver tells; the processor's is the machine's.
    pub fn memory(self) -> Option<u64> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::memory(number),
            _ => None,
        }
    }

    fn is_there(self) -> bool {
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

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) | Self::Metal(number) => {
                write!(formatter, "{}:{number}", self.kind())
            }
        }
    }
}

impl FromStr for Place {
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

/// The kind of an open device, as [`Place::kind`] calls it.
pub fn kind_of(device: &Device) -> &'static str {
    match device {
        Device::Cpu => Place::Cpu,
        Device::Cuda(_) => Place::Cuda(0),
        Device::Metal(_) => Place::Metal(0),
    }
    .kind()
}

/// Runs a forward pass. The small tables that its operations need on a GPU (shapes, strides) are uploaded the
/// first time only; what differs from image to image must be on the device before.
pub(super) fn forward<T>(device: &Device, pass: impl FnOnce() -> T) -> T {
    #[cfg(feature = "cuda")]
    let _kept = cuda::keep_tables(device);
    #[cfg(not(feature = "cuda"))]
    let _ = device;
    pass()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [Place::Cpu, Place::Cuda(0), Place::Cuda(7), Place::Metal(1)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!("cuda".parse(), Ok(Place::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_is_not_built_in_says_how_to_get_it() {
        let message = Place::Cuda(0).open().unwrap_err().to_string();
        assert!(message.contains("--features cuda") && message.contains("`cpu`"), "{message}");
        assert_eq!(Place::best(), Place::Cpu);
    }
}
