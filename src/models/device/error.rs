//! Errors of opening a device.

use thiserror::Error;

use crate::models::device::device_id::DeviceId;

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
        "{device}: the driver does not answer ({message}); check that `nvidia-smi` lists the GPU, \
         that this container has access to it, and that the driver is as new as the build's toolkit"
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
