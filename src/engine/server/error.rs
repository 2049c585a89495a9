//! The reasons why a server has not rated a crop, with their stable codes.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// The kind of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageKind {
    /// Nothing answers, or the server fails on every picture.
    Unavailable,
    /// The server rejects requests that come too fast.
    Throttled,
    /// The server does not accept the key, the model's name or the form of the request.
    Refused,
    /// The server fails on this crop, although it has just rated another picture.
    OnThisCrop,
}

/// A server that rates nothing now, or fails on one crop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server}: {message}")]
pub struct ServerOutage {
    /// The kind.
    pub kind: OutageKind,
    /// Stable code.
    pub code: &'static str,
    /// Address of the server, without secrets.
    pub server: Arc<str>,
    /// The fact, and what to do.
    pub message: String,
    /// Requests for this crop; 0 if the outage was known.
    pub attempts: u32,
    /// Start of the latest request that was rated, if there was one.
    pub last_rated: Option<Instant>,
    /// The time that the server demands before the next request.
    pub retry_after: Option<Duration>,
}

/// The reason why a server has not rated a crop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The server rates nothing now, or may rate this crop later.
    #[error("scoring failed: {0}")]
    Outage(Arc<ServerOutage>),
    /// The server does not accept this crop, which is no fault of its own.
    #[error("scoring failed: the server refuses the image: {0}")]
    Refused(String),
    /// The answer names no level.
    #[error("scoring failed: {0}")]
    NoLevel(String),
    /// The crop cannot be prepared.
    #[error("scoring failed: {0}")]
    Preparation(String),
}

impl ServerError {
    /// Returns the stable name in dead letters, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Outage(outage) => outage.code,
            Self::Refused(_) => "score.refused",
            Self::NoLevel(_) => "score.no_level",
            Self::Preparation(_) => "score.failed",
        }
    }
}

/// The fault of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RequestFault {
    /// Nothing answers at the address.
    Unreachable(String),
    /// The server failed, was too slow, or its answer makes no sense.
    Failed { code: &'static str, message: String },
    /// The server rejects requests that come too fast.
    Throttled { message: String, retry_after: Option<Duration> },
    /// The server does not accept the key or the model: every request fails alike.
    Refused { code: &'static str, message: String },
    /// The server does not accept the content of this request.
    Content(String),
    /// The answer names no level.
    NoLevel(String),
}

impl RequestFault {
    /// Returns true if another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Failed { .. } | Self::Throttled { .. })
    }

    /// Returns kind, code and message of the outage that the fault is, if the server fails on every
    /// picture by it.
    pub(crate) fn as_outage(&self) -> (OutageKind, &'static str, String) {
        match self {
            Self::Unreachable(message) => {
                (OutageKind::Unavailable, "score.unavailable", message.clone())
            }
            Self::Failed { code, message } => (OutageKind::Unavailable, code, message.clone()),
            Self::Throttled { message, .. } => {
                (OutageKind::Throttled, "score.throttled", message.clone())
            }
            Self::Refused { code, message } => (OutageKind::Refused, code, message.clone()),
            Self::Content(message) | Self::NoLevel(message) => {
                (OutageKind::Refused, "score.misconfigured", message.clone())
            }
        }
    }

    /// Returns the pause that the server demands.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
