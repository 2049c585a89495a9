//! The limits of the connections.

use std::time::Duration;

/// Size of a request's head that is always accepted, in bytes, with up to 100 headers. A connection
/// asks for more until its buffer has this size. A buffer grows in powers of two and may have twice
/// this size then, so a head above that is never accepted.
pub(crate) const HEAD_BYTES_MAX: usize = 32 << 10;

/// The limits of a server's connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Maximum number of open connections. Further ones wait to be accepted.
    pub(crate) connections_max: usize,
    /// Maximum time for the head of a request, also of the next one on a connection.
    pub(crate) head_timeout: Duration,
    /// Maximum time for writing the last responses.
    pub(crate) close_timeout: Duration,
}

impl ConnectionLimits {
    /// Returns the limits of a server with this number of connections.
    pub(crate) const fn of_connections(connections_max: usize) -> Self {
        Self {
            connections_max,
            head_timeout: Duration::from_mins(1),
            close_timeout: Duration::from_secs(3),
        }
    }
}
