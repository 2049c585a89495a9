//! The devices that networks run on: the CPU or a GPU, opened on the thread that will use it.
//!
//! Imports no other module of this crate.

#[cfg(feature = "cuda")]
mod cuda;
mod device_id;
mod error;
mod forward_pass;
mod open;
mod to_cpu;

pub use device_id::{DeviceId, kind_of};
pub use error::DeviceError;
pub(crate) use forward_pass::forward;
pub(crate) use to_cpu::to_cpu;
