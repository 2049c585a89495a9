//! Names of devices: `cpu`, `cuda:0`, `metal:0`.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

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

impl DeviceId {
    /// Returns the kind, which is part of a model's version: devices of one kind give equal
    /// results.
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
        let number = number.parse().map_err(|_| format!("`{text}` has no device number"))?;
        match kind {
            "cpu" if text == "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(number)),
            "metal" => Ok(Self::Metal(number)),
            _ => Err(format!("`{text}` is not a device; use `cpu`, `cuda:0` or `metal`")),
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
}
