//! The connections of every HTTP server of this program: their number, the size and time of request
//! headers, the time for reading a response, and a bounded shutdown.
//!
//! May import nothing.

mod client_stream;
mod connections;
mod limits;

pub(crate) use connections::Connections;
pub(crate) use limits::{ConnectionLimits, HEAD_BYTES_MAX};
