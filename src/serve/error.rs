//! The reasons why the HTTP API does not start or ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::serve::api_keys::ApiKeysFault;

/// The reason why the server does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Other machines could connect without a key.
    #[error(
        "serve.listen = {0} is open to other machines, and there are no API keys; set \
         serve.api_keys_file, or serve.allow_anonymous if something in front checks the clients"
    )]
    Exposed(SocketAddr),
    /// The default deadline is out of range.
    #[error(
        "serve.deadline = {} must be above zero and at most serve.deadline_max",
        humantime::format_duration(*.0)
    )]
    Deadline(Duration),
    /// No body could arrive.
    #[error("serve.body_timeout must be above zero")]
    BodyTimeout,
    /// The file of the keys cannot be used.
    #[error("serve.api_keys_file {}: {fault}", path.display())]
    Keys {
        /// The configured file.
        path: PathBuf,
        /// The fault, without any key.
        fault: ApiKeysFault,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; set serve.listen")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The engine is lost: no request can succeed in this process any more.
    #[error("the engine is lost; restart the process")]
    EngineLost,
}
