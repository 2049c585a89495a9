//! Settings of the HTTP API.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::reference::PAYLOAD_BYTES_MAX;
use crate::http_server::HEAD_BYTES_MAX;
use crate::serve::api_keys::ApiKeys;
use crate::serve::error::ServeError;
use crate::serve::key_file;
use crate::telemetry::MemoryPart;

/// Buffers of a connection: that of the headers, which its request holds, and that of what follows.
const BUFFERS: usize = 2;
/// Size of an event in memory, until its client has read it.
const EVENT_BYTES: usize = 128 << 10;

/// Settings of the HTTP API of `dogiqa serve` and `dogiqa run --serve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of the API. By default only this machine can connect; `0.0.0.0:8080` allows others
    /// and needs `api_keys_file` or `allow_anonymous`. The API has no TLS: put an ingress in front.
    /// Port 0 selects a free port and logs it.
    pub listen: SocketAddr,
    /// File of the API keys: on each line the name of a client, a space and its key of at least 16
    /// characters. A client may have several keys, so that they can be rotated. The file is read
    /// again when it changes. Without it, requests need no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys_file: Option<PathBuf>,
    /// Allows other machines to connect without a key, and requests for any host name. Set it only
    /// if something in front checks the clients.
    pub allow_anonymous: bool,
    /// Maximum number of requests that are assessed at the same time. Raise it if the device is not
    /// busy.
    pub requests_max: NonZeroUsize,
    /// Maximum number of requests that wait for their turn. Further ones are answered with 429 and
    /// the seconds after which to try again. Lower it to refuse early instead of answering late.
    pub queue_max: usize,
    /// Maximum number of open connections. Further ones wait to be accepted.
    pub connections_max: NonZeroUsize,
    /// Time limit of a request that sets none, with its wait and the arrival of its body. After
    /// that it is answered with 504, and its work is dropped.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Longest time that a request may set with the header `dogiqa-deadline-ms`.
    #[serde(with = "humantime_serde")]
    pub deadline_max: Duration,
    /// Maximum time in which a body arrives, whatever the request's deadline. A body on its way
    /// holds a slot and memory. Raise it for large images from slow clients.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Maximum time that a stopping server works on the requests it has accepted. After that they
    /// are answered with 503. Keep it at least 10 seconds below the grace period of your platform:
    /// the last responses, traces and answers of the cache are written after it.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

/// The clients that may use the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Clients with a key.
    Keys,
    /// Every process of this machine, by a name of this machine.
    ThisMachine,
    /// Everyone that reaches the address, by `serve.allow_anonymous`.
    Everyone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            api_keys_file: None,
            allow_anonymous: false,
            requests_max: const { NonZeroUsize::new(16).unwrap() },
            queue_max: 64,
            connections_max: const { NonZeroUsize::new(512).unwrap() },
            deadline: Duration::from_mins(1),
            deadline_max: Duration::from_mins(15),
            body_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
        }
    }
}

impl Settings {
    /// Decides which clients may use the API.
    ///
    /// # Errors
    /// Fails if other machines could connect without a key and `allow_anonymous` is not set, or if
    /// `deadline` is zero or above `deadline_max`, or `body_timeout` is zero.
    pub fn access(&self) -> Result<Access, ServeError> {
        if self.deadline.is_zero() || self.deadline > self.deadline_max {
            return Err(ServeError::Deadline(self.deadline));
        }
        if self.body_timeout.is_zero() {
            return Err(ServeError::BodyTimeout);
        }
        match (&self.api_keys_file, self.listen.ip().is_loopback()) {
            (Some(_), _) => Ok(Access::Keys),
            (None, _) if self.allow_anonymous => Ok(Access::Everyone),
            (None, true) => Ok(Access::ThisMachine),
            (None, false) => Err(ServeError::Exposed(self.listen)),
        }
    }

    /// Reads the keys, if the API needs any. Blocks briefly.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is invalid.
    pub fn api_keys(&self) -> Result<Option<ApiKeys>, ServeError> {
        let read = |path: &PathBuf| {
            key_file::read(path).map_err(|fault| ServeError::Keys { path: path.clone(), fault })
        };
        self.api_keys_file.as_ref().map(read).transpose()
    }

    /// Returns the maximum memory of connections, their responses and references. The bytes of
    /// images are part of `pipeline.bytes_budget`. A response counts as a large event without
    /// masks.
    pub fn memory(&self) -> MemoryPart {
        let buffers = BUFFERS * 2 * HEAD_BYTES_MAX;
        let connections = self.connections_max.get().saturating_mul(buffers + EVENT_BYTES);
        let references = self.requests_max.get().saturating_mul(2 * PAYLOAD_BYTES_MAX);
        let bytes = connections.saturating_add(references) as u64;
        MemoryPart { what: "connections", setting: "serve.connections_max", bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_may_connect_only_with_a_key_or_if_it_is_allowed() {
        let plain = Settings::default();
        assert_eq!(plain.access().unwrap(), Access::ThisMachine);
        let behind = Settings { allow_anonymous: true, ..plain.clone() };
        assert_eq!(behind.access().unwrap(), Access::Everyone, "a proxy of this machine");
        let open = Settings { listen: "0.0.0.0:8080".parse().unwrap(), ..plain };
        let error = open.access().unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:8080") && error.contains("serve.api_keys_file"), "{error}");
        let allowed = Settings { allow_anonymous: true, ..open.clone() };
        assert_eq!(allowed.access().unwrap(), Access::Everyone);
        let keys = Settings { api_keys_file: Some("/keys".into()), ..open };
        assert_eq!(keys.access().unwrap(), Access::Keys);
    }

    #[test]
    fn time_limits_of_zero_and_a_deadline_above_its_maximum_are_refused() {
        for deadline in [Duration::ZERO, Duration::from_hours(1)] {
            let settings = Settings { deadline, ..Settings::default() };
            assert!(settings.access().unwrap_err().to_string().contains("serve.deadline"));
        }
        let settings = Settings { body_timeout: Duration::ZERO, ..Settings::default() };
        assert!(settings.access().unwrap_err().to_string().contains("serve.body_timeout"));
    }
}
