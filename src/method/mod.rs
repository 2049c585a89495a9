//! The Dog-IQA method as pure functions (arXiv 2410.02505): no I/O, no clock, no randomness.
//!
//! ```text
//!  standard ──► prompt ──► LevelDistribution per crop ──────┐
//!  raw masks ── regions (Algorithm 1) ──► Segmentation ─────┴► Assessment ─► PolicyVerdict
//! ```
//!
//! [`agreement`] is separate: it measures how well scores agree with human opinion.
//!
//! Imports no other module of this crate.

mod aggregate;
pub mod agreement;
mod bounds;
mod cascade;
mod fingerprint;
mod levels;
mod masks;
mod policy;
mod preset;
mod regions;
mod settings;
mod standard;
mod standard_table;

pub use aggregate::{AggregationSettings, Assessment, ObjectAssessment, Weighting, assess};
pub use cascade::{ObjectsError, ObjectsSettings, ObjectsWhen};
pub(crate) use fingerprint::{fingerprint, short};
pub use levels::{LEVELS_MAX, LevelDistribution, LevelsError};
pub use masks::{BoundingBox, Mask, MaskError, PIXELS_MAX, RUNS_MAX, Rle};
pub use policy::{
    Basis, Policies, Policy, PolicyError, PolicyOutcome, PolicySettings, PolicyVerdict,
};
pub use preset::Preset;
pub(crate) use regions::keep_largest;
pub use regions::{
    RawMask, Region, RegionKind, RegionSettings, Segmentation, enlarge, select_regions,
};
pub use settings::{Settings, SettingsError};
pub use standard::{CustomStandard, Standard, StandardError, StandardForm, StandardSettings};
