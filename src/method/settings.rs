//! The `method` section of the configuration.

use serde::{Deserialize, Serialize};

use crate::method::aggregate::{AggregationError, AggregationSettings};
use crate::method::calibration::{CalibrationError, CalibrationSettings};
use crate::method::cascade::{ObjectsError, ObjectsSettings};
use crate::method::policy::{FormulaMismatch, Policies, PolicyError, ReasonsOff};
use crate::method::preset::Preset;
use crate::method::regions::RegionSettings;
use crate::method::standard::{Standard, StandardError, StandardSettings};

/// Settings of the method. The defaults are the paper's best row.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Starts from a row of the paper's Table 4: `paper` (the best row, like the defaults),
    /// `paper-boxes`, `paper-no-seg`, `paper-whole`, `paper-mask`, `paper-mean`, `paper-sentence`
    /// or `paper-number`; or from the authors' program: `release`, or `release-tables` for the
    /// script behind their tables. These two also name the models, and read images as stored.
    /// Settings in a file, the environment or a flag override those of the preset.
    pub preset: Option<Preset>,
    /// The quality levels and their words.
    pub standard: StandardSettings,
    /// The selection of masks to score.
    pub regions: RegionSettings,
    /// The condition on which an image is segmented. Segmenting and rating objects dominates the
    /// cost.
    pub objects: ObjectsSettings,
    /// The combination of ratings to one score.
    pub aggregation: AggregationSettings,
    /// Thresholds that turn scores into a verdict.
    pub policies: Policies,
    /// The curve that maps scores to people's scale. With it, events have `score_mos`. `dogiqa
    /// calibrate --map` fits and writes it.
    pub calibration: Option<CalibrationSettings>,
}

/// Contradictory or incomplete settings.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The standard is invalid.
    #[error("method.standard: {0}")]
    Standard(#[from] StandardError),
    /// The cascade is contradictory.
    #[error("method.objects: {0}")]
    Objects(#[from] ObjectsError),
    /// The default policy does not exist.
    #[error("method.policies: {0}")]
    Policy(#[from] PolicyError),
    /// A policy is meant for another formula.
    #[error("method.policies: {0}")]
    Formula(#[from] FormulaMismatch),
    /// A policy names reasons that are not measured.
    #[error("method.policies: {0}")]
    Reasons(#[from] ReasonsOff),
    /// The calibration is no curve, or is for another formula.
    #[error("method.calibration: {0}")]
    Calibration(#[from] CalibrationError),
    /// No rating counts.
    #[error("method.aggregation: {0}")]
    Aggregation(#[from] AggregationError),
}

impl Settings {
    /// Builds the standard and checks the other settings.
    ///
    /// # Errors
    /// Fails if the standard is invalid, the default policy does not exist, a policy is meant for
    /// another formula, no rating counts, the cascade is contradictory, or the calibration is no
    /// curve for the formula.
    pub fn check(&self) -> Result<Standard, SettingsError> {
        self.policies.check()?;
        self.aggregation.check()?;
        self.policies.check_formula(self.aggregation.formula())?;
        if let Some(calibration) = &self.calibration {
            calibration.check(self.aggregation.formula())?;
        }
        let standard = Standard::from_settings(&self.standard)?;
        self.objects.check(standard.k())?;
        Ok(standard)
    }
}
