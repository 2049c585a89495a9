//! The method's part of the configuration.

use serde::{Deserialize, Serialize};

use super::aggregate::AggregationSettings;
use super::objects::{ObjectsError, ObjectsSettings};
use super::policy::{Policies, PolicyError};
use super::preset::Preset;
use super::regions::RegionSettings;
use super::standard::{Standard, StandardError, StandardSettings};

/// Settings of the method; the defaults are the paper's best row.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A row of the paper's Table 4 to start from: `paper` (the best, and what the defaults are), `paper-boxes`,
    /// `paper-no-seg`, `paper-whole`, `paper-mask`, `paper-mean`, `paper-sentence`, `paper-number`. What is set
    /// beside it wins over it.
    pub preset: Option<Preset>,
    /// The levels and their words.
    pub standard: StandardSettings,
    /// Which masks become regions.
    pub regions: RegionSettings,
    /// When objects are looked for, beside the whole image.
    pub objects: ObjectsSettings,
    /// How ratings become one score.
    pub aggregation: AggregationSettings,
    /// Thresholds that turn scores into advice.
    pub policies: Policies,
}

/// Settings that contradict themselves.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The standard cannot be built.
    #[error("method.standard: {0}")]
    Standard(#[from] StandardError),
    /// The cascade contradicts itself.
    #[error("method.objects: {0}")]
    Objects(#[from] ObjectsError),
    /// The default policy does not exist.
    #[error("method.policies: {0}")]
    Policy(#[from] PolicyError),
}

impl Settings {
    /// Builds the standard and checks the rest.
    ///
    /// # Errors
    /// When the standard or the default policy does not exist, or the cascade contradicts itself.
    pub fn check(&self) -> Result<Standard, SettingsError> {
        self.policies.check()?;
        let standard = Standard::from_settings(&self.standard)?;
        self.objects.check(standard.k())?;
        Ok(standard)
    }
}
