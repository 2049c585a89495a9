//! The limits of the connections.

use std::time::Duration;

/// Size of request line and headers that is always accepted, in bytes, with up to 100 headers. A
/// connection asks for more until its buffer has this size. A buffer grows in powers of two and may
/// have twice this size then, so more than that is never accepted.
pub(crate) const HEAD_BYTES_MAX: usize = 32 << 10;

/// The limits of a server's connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Maximum number of open connections.
    pub(crate) connections_max: usize,
    /// Closes the oldest connection for one above the maximum. If false, that one waits to be
    /// accepted. For servers whose requests are short.
    pub(crate) closes_oldest: bool,
    /// Maximum time for the headers of a request, also of the next one on a connection.
    pub(crate) head_timeout: Duration,
    /// Maximum time for writing the last responses.
    pub(crate) close_timeout: Duration,
}

impl ConnectionLimits {
    /// Returns the limits of a server with this number of connections.
    pub(crate) const fn of_connections(connections_max: usize) -> Self {
        Self {
            connections_max,
            closes_oldest: false,
            head_timeout: Duration::from_mins(1),
            close_timeout: Duration::from_secs(3),
        }
    }
}
