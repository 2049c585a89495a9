//! The shapes of input records that a worker accepts.

use serde::{Deserialize, Serialize};

/// The accepted shape of input records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputFormat {
    /// Any of the shapes below, recognised by content.
    #[default]
    Auto,
    /// Image references, bare or in a `CloudEvent`.
    Reference,
    /// `Records` of S3 and compatible stores, or S3 events of `EventBridge`.
    S3,
    /// Object notifications of Google Cloud Storage.
    Gcs,
    /// Blob events of Azure Event Grid.
    Azure,
    /// `CloudEvents` of any content above.
    CloudEvents,
}

impl InputFormat {
    /// Returns the name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Reference => "reference",
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::CloudEvents => "cloudevents",
        }
    }
}
