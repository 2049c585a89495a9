//! The error of an image without an event, as dead letters, logs and metrics report it.

use std::sync::Arc;

use crate::engine::{EngineError, OutageKind, ServerError, ServerOutage};
use crate::imaging::DecodeError;
use crate::storage::{FetchError, StoreFailure, StoreFault};
use crate::telemetry::Stage;

/// The reason why an image has no event.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct JourneyError {
    /// Stable name of the cause, `stage.what`.
    pub code: &'static str,
    /// Stage that failed.
    pub stage: Stage,
    /// True if the same image may succeed later. The stage has already used its own retries.
    pub transient: bool,
    /// True if the engine is lost: no image can succeed in this process any more.
    pub fatal: bool,
    /// The failure of the image's store or of the scoring server, or `None` if the fault is the
    /// image's or the reference's.
    pub store: Option<StoreFailure>,
    /// Address of the scoring server, without secrets, if `store` is its failure.
    pub server: Option<Arc<str>>,
    /// True if the store sent the object: its content was refused, or a later stage failed.
    pub object_sent: bool,
    /// Attempts of the stage; 0 if the image was refused without a request.
    pub attempts: u32,
    /// Subject, fact, value, and what to do.
    pub message: String,
}

impl JourneyError {
    /// Creates an error that a retry cannot fix.
    pub fn permanent(stage: Stage, code: &'static str, message: String) -> Self {
        Self {
            code,
            stage,
            transient: false,
            fatal: false,
            store: None,
            server: None,
            object_sent: !matches!(stage, Stage::Reference | Stage::Fetch),
            attempts: 1,
            message,
        }
    }

    /// Returns the message with its code, for a person at a terminal.
    pub fn with_code(&self) -> String {
        format!("{} [{}]", self.message, self.code)
    }

    /// Returns true if the error is an answer of the scoring server: it rates, but not this image.
    pub fn is_answer_of_server(&self) -> bool {
        matches!(self.code, "score.refused" | "score.no_level")
    }

    /// Converts an engine's error in the stage `segment` or `score`.
    pub(crate) fn engine(stage: Stage, error: &EngineError) -> Self {
        if let EngineError::Server(ServerError::Outage(outage)) = error {
            return Self::server_outage(outage);
        }
        let fatal = matches!(error, EngineError::Lost(_));
        let permanent = Self::permanent(stage, error.code(), error.to_string());
        Self { transient: fatal, fatal, ..permanent }
    }

    /// Converts the outage of the scoring server. Its references are held like those of a store.
    pub(crate) fn server_outage(outage: &Arc<ServerOutage>) -> Self {
        let fault = match outage.kind {
            OutageKind::Unavailable => StoreFault::Unavailable,
            OutageKind::Throttled => StoreFault::Throttled,
            OutageKind::Refused => StoreFault::Refused,
            OutageKind::OnThisCrop => StoreFault::Denied,
        };
        let ServerOutage { last_rated: last_read, retry_after, attempts, .. } = **outage;
        let message = ServerError::Outage(Arc::clone(outage)).to_string();
        Self {
            transient: true,
            store: Some(StoreFailure { fault, last_read, retry_after }),
            server: Some(Arc::clone(&outage.server)),
            attempts,
            ..Self::permanent(Stage::Score, outage.code, message)
        }
    }
}

impl From<FetchError> for JourneyError {
    fn from(error: FetchError) -> Self {
        Self {
            code: error.code(),
            stage: Stage::Fetch,
            transient: error.is_transient(),
            fatal: false,
            store: error.store_failure(),
            server: None,
            object_sent: error.is_of_sent_object(),
            attempts: error.attempts(),
            message: error.to_string(),
        }
    }
}

impl From<DecodeError> for JourneyError {
    fn from(error: DecodeError) -> Self {
        Self::permanent(Stage::Decode, error.code(), error.to_string())
    }
}
