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
mod answer;
mod bounds;
mod calibration;
mod cascade;
mod ensemble;
mod fingerprint;
mod formula;
mod levels;
mod mask_bonus;
mod masks;
mod policy;
mod preset;
mod reason;
mod reason_condition;
mod regions;
mod release_texts;
mod settings;
mod standard;
mod standard_form;
mod standard_table;

pub use aggregate::{
    AggregationError, AggregationSettings, Assessment, CombinedScore, ObjectAssessment,
    RegionValue, Weighting, assess, combine,
};
pub use answer::{AnswerKind, GeneratedAnswer};
pub use calibration::{CalibrationError, CalibrationSettings};
pub use cascade::{ObjectsError, ObjectsSettings, ObjectsWhen};
pub use ensemble::mean_rating;
pub(crate) use fingerprint::{fingerprint, short};
pub use formula::Formula;
pub use levels::{
    Attribute, FurtherRating, LEVELS_MAX, LevelDistribution, LevelsError, RawScore, Served,
    ServedBy,
};
pub use mask_bonus::MaskBonus;
pub use masks::{BoundingBox, Mask, MaskError, PIXELS_MAX, RUNS_MAX, Rle};
pub use policy::{
    Basis, FormulaMismatch, Policies, Policy, PolicyError, PolicyOutcome, PolicySettings,
    PolicyVerdict, ReasonsOff,
};
pub use preset::Preset;
pub use reason::{Reason, ReasonCode, Scope, WholeImage};
pub use reason_condition::{ConditionError, ReasonCondition};
pub(crate) use regions::keep_largest;
pub use regions::{
    RawMask, Region, RegionKind, RegionSettings, RemainderArea, Segmentation, WhenEmpty, enlarge,
    select_regions,
};
pub use settings::{Settings, SettingsError};
pub use standard::{CustomStandard, Standard, StandardError, StandardSettings, StandardWording};
pub use standard_form::StandardForm;
