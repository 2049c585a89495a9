//! The errors of the monitor.

use std::net::SocketAddr;

/// An error before the page is served.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A setting is out of range.
    #[error("monitor.{setting} = {value} is not allowed; choose {allowed}")]
    Setting {
        /// Name of the setting in its section.
        setting: &'static str,
        /// The configured value.
        value: String,
        /// The values that are allowed.
        allowed: String,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; set monitor.listen")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
}
