//! A reason for an image's quality, as events have it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::method::{Reason, ReasonCode, Scope};

/// A distortion of the image or of one of its objects, with a sentence for the person who uploaded
/// it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventReason {
    /// The distortion.
    pub code: ReasonCode,
    /// Strength of the distortion, from 0 to 1; at 0.5 it is clearly visible.
    #[schemars(range(min = 0, max = 1))]
    pub strength: f64,
    /// `image` for the whole image, or the index of an object in `objects`.
    pub scope: Scope,
    /// The sentence of `pipeline.reason_texts` for this code.
    pub text: String,
}

impl EventReason {
    /// Adds the sentence to a reason.
    pub fn new(reason: Reason, text: &str) -> Self {
        let Reason { code, strength, scope } = reason;
        Self { code, strength, scope, text: text.to_owned() }
    }
}
