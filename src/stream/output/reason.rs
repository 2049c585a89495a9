//! The reason why an entry of a record becomes a dead letter.

use crate::event::ReferenceError;
use crate::pipeline::JourneyError;
use crate::storage::UriFault;
use crate::telemetry::{Stage, metrics};

/// The reason for a dead letter.
pub(crate) struct Reason {
    pub(crate) code: &'static str,
    pub(crate) stage: Stage,
    pub(crate) attempts: u32,
    pub(crate) message: String,
}

impl Reason {
    pub(crate) fn of_reference(error: &ReferenceError) -> Self {
        Self::failed(Stage::Reference, error.code(), error.to_string())
    }

    pub(crate) fn of_uri(fault: &UriFault) -> Self {
        Self::failed(Stage::Fetch, fault.code(), fault.to_string())
    }

    pub(crate) fn panicked() -> Self {
        let message = "the pipeline panicked on this image; this is a bug, please report it with \
                       the image";
        Self::failed(Stage::Reference, "pipeline.panicked", message.to_owned())
    }

    /// Creates the reason of an event that no topic accepts.
    pub(crate) fn too_large(message: String) -> Self {
        Self::failed(Stage::Publish, "publish.too_large", message)
    }

    fn failed(stage: Stage, code: &'static str, message: String) -> Self {
        metrics::stage_failed(stage, code);
        Self { code, stage, attempts: 1, message }
    }

    /// Returns true if a later change of the object explains the failure.
    pub(crate) fn is_change_of_object(&self) -> bool {
        matches!(self.code, "fetch.not_found" | "fetch.etag_mismatch")
    }

    /// Returns true if the store's media type shows that the object is no image.
    pub(crate) fn is_other_content_type(&self) -> bool {
        self.code == "fetch.other_content_type"
    }
}

impl From<JourneyError> for Reason {
    fn from(failure: JourneyError) -> Self {
        let JourneyError { code, stage, attempts, message, .. } = failure;
        Self { code, stage, attempts, message }
    }
}
