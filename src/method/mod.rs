//! The Dog-IQA method as pure functions (arXiv 2410.02505): no I/O, no clock, no randomness.
//!
//! ```text
//!  standard ── what the scorer is asked ──────────────► LevelDistribution per crop ─┐
//!  raw masks ── regions (Algorithm 1) ──► Segmentation ─────────────────────────────┴► Assessment ─► Verdict
//! ```
//!
//! [`agreement`] stands beside that road: how well scores follow human opinion.

mod aggregate;
pub mod agreement;
mod bounds;
mod fingerprint;
mod levels;
mod logistic;
mod mask;
mod objects;
mod policy;
mod preset;
mod regions;
mod rle;
mod rle_text;
mod settings;
mod standard;
mod standard_table;

pub use aggregate::{AggregationSettings, Assessment, ObjectAssessment, Weighting, assess};
pub(crate) use fingerprint::{fingerprint, short};
pub use levels::{LEVELS_MAX, LevelDistribution, LevelsError};
pub use mask::{BoundingBox, Mask};
pub use objects::{ObjectsError, ObjectsSettings, ObjectsWhen};
pub use policy::{Basis, Outcome, Policies, Policy, PolicyError, PolicySettings, Verdict};
pub use preset::Preset;
pub(crate) use regions::keep_largest;
pub use regions::{
    RawMask, Region, RegionKind, RegionSettings, Segmentation, enlarge, select_regions,
};
pub use rle::{MaskError, PIXELS_MAX, RUNS_MAX, Rle};
pub use settings::{Settings, SettingsError};
pub use standard::{OwnStandard, Standard, StandardError, StandardForm, StandardSettings};
