//! Why an image has no event: what a dead letter, a log line and a metric say of it.

use crate::engine::EngineError;
use crate::imaging::DecodeError;
use crate::storage::FetchError;
use crate::telemetry::Stage;

/// The end of a journey that did not reach its event.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable name of the cause, `stage.what`.
    pub code: &'static str,
    /// Where it happened.
    pub stage: Stage,
    /// Whether the same image may pass later; the stage's own retries are spent by then.
    pub transient: bool,
    /// Whether the engine is gone: nothing can pass in this process any more.
    pub fatal: bool,
    /// How often the stage tried.
    pub attempts: u32,
    /// What, where, which value, what to do.
    pub message: String,
}

impl Failure {
    /// A failure that a repetition cannot mend.
    pub fn permanent(stage: Stage, code: &'static str, message: String) -> Self {
        Self { code, stage, transient: false, fatal: false, attempts: 1, message }
    }

    /// The message with its code, for a person at a terminal.
    pub fn with_code(&self) -> String {
        format!("{} [{}]", self.message, self.code)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self {
            code: error.code(),
            stage: Stage::Fetch,
            transient: error.is_transient(),
            fatal: false,
            attempts: error.attempts(),
            message: error.to_string(),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::permanent(Stage::Decode, error.code(), error.to_string())
    }
}

impl Failure {
    /// An engine's error in one of its two stages.
    pub(super) fn engine(stage: Stage, error: &EngineError) -> Self {
        let fatal = matches!(error, EngineError::Lost(_));
        let failure = Self::permanent(stage, error.code(), error.to_string());
        Self { transient: fatal, fatal, ..failure }
    }
}
