//! No-reference measures without learned parameters, one file each with its source.
//!
//! ```text
//!  picture ─┬─ tiles at its own resolution ── luma ── pyramid ─┬─ sharpness (octaves lost)
//!           │                                                  ├─ noise (variance)
//!           │                                                  ├─ blocking (octaves)
//!           │                                                  └─ repetition (octaves)
//!           ├─ the same tiles' histograms ─────────────────── levels used (octaves lost)
//!           └─ a grid of small means ──────────────────────── tone (exposure, contrast, clipping)
//! ```
//! Every measure keeps growing with its distortion: none has a flat part. Imports no other module
//! of this crate.

mod blocking;
mod levels_used;
mod measure;
mod noise;
mod plane;
mod repetition;
mod sharpness;
mod tone;

pub(crate) use blocking::Blocking;
pub use measure::{Features, measure};
pub(crate) use noise::Noise;
pub use plane::PIXELS_MAX;
pub(crate) use plane::{Plane, Tile, luma, spread, tiles};
pub(crate) use repetition::Repetition;
pub(crate) use tone::log_odds;
