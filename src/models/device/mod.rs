//! The devices that networks run on: the CPU or a GPU, opened on the thread that will use it.
//!
//! `dry_run` stands for a GPU that computes nothing. Imports no other module of this crate.

#[cfg(feature = "cuda")]
mod cuda;
mod device_id;
pub mod dry_run;
mod error;
mod forward_pass;
mod host_rows;
mod memory;
mod open;
mod to_cpu;

pub use device_id::{DeviceId, kind_of};
pub use error::DeviceError;
pub(crate) use forward_pass::forward;
pub(crate) use host_rows::HostRows;
pub(crate) use memory::hold;
pub use memory::peak_bytes;
pub(crate) use to_cpu::to_cpu;
