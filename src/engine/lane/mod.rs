//! A bounded queue in front of the device threads of one model.
//!
//! ```text
//!  submit(input).await ──► bounded channel ──► device thread: receive, form a batch, run, reply
//!        ▲                               └──► device thread of another device, if there is one
//!        └──────────────── oneshot ◄────────────────┘
//! ```
//! The next batch forms while the device runs the current one, so no timer is needed. All devices
//! read from one queue, so that none idles while another has a backlog.
//!
//! Requests have a channel of their own in front of the same devices, see `priority`.
//!
//! May import `priority` and `telemetry` only, and no other file of `engine`.

mod batch;
mod device_thread;
mod error;
mod inbox;
mod job;
mod queue;

pub(crate) use batch::{RunBatch, run_checked};
pub(crate) use device_thread::{LaneDevice, OpenedModel};
pub(crate) use error::LaneError;
pub use error::RunError;
pub(crate) use queue::{Lane, LaneSpec};
